"""What collapses where: diversity, correctness, both or neither, over the plane of self-consuming loops.

    python studies/phase_diagram.py [--parts emulator gpt compare] [--sizes 200 2000] [--cache FOLDER]

The task is `logic`: Boolean expressions that are True, so that right and wrong can be checked. Each cell is a
temperature, a share of fresh real data in each new batch, a number of texts an iteration and a cycle, with
several seeds, beside a control without a loop at the same temperature. Collapse is defined in
`karat.simulation.phases`: less than half of the control's diversity is left, or the correct share is more
than 0.1 below the control's; `?` marks cells whose seeds do not settle it.

Parts: `emulator` maps the whole plane (temperatures 0.7 to 1.2, fresh shares 0 to 0.5, n 200 and 2,000, four
cycles, 30 iterations) with counted rules that slip as often as the gpt's first model errs; `gpt` trains small
transformers from scratch in 3 x 3 cells; `compare` sets both side by side on those cells. Diagrams are
printed; with `--report FOLDER` they are drawn as well. What is finished is kept in `--cache`; the same call
again goes on from there, also after a kill.

    python studies/phase_diagram.py --parts emulator --cycles full --sizes 200 --report FOLDER
    python studies/phase_diagram.py --parts gpt compare --report FOLDER

Found by the emulator with slip 0.0014: with it 98.6 % of the first texts are valid at temperature 1, 99.5 %
at 0.9 and 99.8 % at 0.8 (gpt:preset=mini, two seeds of 2,000 texts: 98.6 %, 99.3 %, 99.7 %). Cycle full, n
200, 30 iterations, 3 seeds, 450 s on a busy machine; D diversity, C correctness, * different correct texts
collapsed unseen, ? not settled, and the share of diversity kept:

    fresh        0.7        0.8        0.9          1        1.1        1.2
    50 %    .?  0.68   .?  0.91   .?  0.98   .?  1.00   .?  1.02   C?  1.02
    25 %    D   0.30   .*? 0.59   .   0.92   .?  0.99   C   1.02   C   1.04
    10 %    D   0.06   D   0.15   .*? 0.55   .?  0.96   C   0.96   C   1.09
     5 %    D   0.01   D   0.07   D?  0.34   .?  0.87   C   0.94   C   1.25
     1 %    D   0.00   D   0.00   D   0.03   .*? 0.68   C?  1.06   C   1.11
     0 %    D   0.00   D   0.00   D?  0.00   .*? 0.59   C   1.14   C   0.97

- temperature decides which axis goes: below 1 diversity alone (12 of these 36 cells), above 1 correctness
  alone (11), both in none. The fresh share that keeps diversity lies between 25 and 50 % at 0.7, 10 and 25 %
  at 0.8, 5 and 10 % at 0.9, and is none at 1. Correctness needs none up to 1 (from 0.8 on the seeds do not
  settle it), 25 to 50 % at 1.1, more than 50 % at 1.2.
- different correct texts need more: 25 to 50 % at 0.7 and 0.8, 10 to 25 % at 0.9, 1 to 5 % at 1, 10 to 25 %
  at 1.1, 25 to 50 % at 1.2. Four cells keep both axes and still lose more than half of them. 16 cells stay
  uncertain; 0.1 % of 200 texts is no row, so it is left out.
- the other cycles (n 200, the whole plane 292 s on two cores; in all 168 cells diversity 36, correctness 50,
  both 0, neither 82; 68 not settled, 9 hidden):

    incremental          0.7        0.8        0.9          1        1.1        1.2
      50 %   .   0.81   .   0.96   .   0.97   .   0.97   .?  1.01   C   1.03
      25 %   D   0.32   .*? 0.67   .   0.94   .?  1.00   C?  1.02   C   1.05
      10 %   D   0.03   D   0.17   .?  0.83   .?  1.01   C   0.98   C   1.09
       5 %   D   0.02   D   0.05   D?  0.43   .?  0.93   C   1.01   C   1.15
       1 %   D   0.01   D   0.01   D?  0.39   C?  0.85   C   0.94   C   1.30
       0 %   D   0.00   D   0.01   D?  0.25   C?  0.92   C   0.96   C   1.27
    accumulate_subsample 0.7        0.8        0.9          1        1.1        1.2
      50 %   .   0.78   .   0.96   .   0.98   .?  1.00   .?  1.01   C?  1.02
      25 %   D?  0.44   .   0.88   .   0.98   .?  0.99   .?  0.99   C?  1.03
      10 %   D   0.28   .   0.73   .   0.89   .?  0.98   C?  1.02   C   1.02
       5 %   D?  0.28   .   0.75   .   0.93   .?  0.98   C   1.01   C   1.03
       1 %   D   0.18   .*  0.66   .   0.87   .   0.95   C?  1.01   C   1.04
       0 %   D   0.20   .*  0.63   .   0.89   .?  0.98   C   1.01   C   1.03
    expanding            0.7        0.8        0.9          1        1.1        1.2
      50 %   .   0.93   .   0.99   .   0.99   .   1.00   .?  1.00   C?  1.00
      25 %   .   0.83   .   0.96   .?  0.99   .?  0.99   .?  1.01   C?  1.00
      10 %   .   0.74   .   0.90   .   0.99   .?  0.99   C?  1.00   C?  1.01
       5 %   .   0.72   .   0.92   .?  0.97   .?  0.98   C?  1.00   C?  1.01
       1 %   .   0.67   .   0.89   .?  0.98   .   0.99   .?  0.99   C?  0.99
       0 %   .   0.67   .   0.89   .?  0.98   .   0.99   .?  0.99   C?  0.99

- what keeps old data protects diversity (expanding loses little of it anywhere, accumulate_subsample little
  above 0.8) and correctness less: above 1 it goes in every cycle (in expanding the seeds do not settle it).
- n 2,000, full, 30 iterations (375 s): the same regions, and only 5 of 42 cells are not settled:

    full                 0.7        0.8        0.9          1        1.1        1.2
      50 %   .*  0.71   .   0.92   .   0.99   .   1.00   .?  1.01   C   1.02
      25 %   D   0.24   .*? 0.52   .   0.90   .   1.00   C   1.02   C   1.05
      10 %   D   0.05   D   0.15   D?  0.44   .?  0.98   C   0.99   C   1.28
       5 %   D   0.02   D   0.04   D   0.18   .*  0.91   C   1.17   C   1.23
       1 %   D   0.00   D   0.01   D   0.03   .*  0.78   C   1.05   C   1.12
     0.1 %   D   0.00   D   0.00   D   0.01   .*? 0.70   C   0.98   C   1.09
       0 %   D   0.00   D   0.00   D   0.00   .*  0.68   C   0.98   C   1.06

The gpt (preset mini, n 2,000, two seeds, 10 iterations, 40 minutes on one core beside other work) and, right,
the emulator in the same cells: share of the control's diversity kept, and phase.

    fresh        0.8        0.9          1     emulator 0.8        0.9          1
    25 %    .?  0.82   .?  0.98   C?  1.00          .*  0.57   .   0.92   .   1.00
     5 %    D?  0.39   C?  0.87   C   1.00          D   0.06   .*  0.60   .   0.98
     0 %    D?  0.24   .?  0.82   C?  1.04          D   0.00   D?  0.41   .   0.96

- the gpt shows the same two regions: below 0.9 diversity goes, at 1 correctness (0.23 to 0.26 below the
  control's with 0 and 5 % fresh data, 0.12 with 25 %), and at 0.9 both wear a little.
- the emulator orders the cells as the gpt does (rank correlation of what is kept 0.93) and has the same phase
  in 4 of 9.

Negative: the emulator loses diversity two to three times too fast (half-life 4.0 against 7.3 at 0.8) and, by
slips alone, too little correctness at 1 (-0.06 against -0.23): a trained model errs in more ways than that.
A learner that learns imperfectly is slower: emulator:smoothing=0.05 has 5.1, 0.1 has 8.6, 0.2 none within 14
(two seeds), at the price of fewer correct texts at the start (86, 85 and 82 %). Two seeds settle one of the
nine cells of the gpt.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures as show

import karat
from karat import registry
from karat.blocks import Column, Section, Table
from karat.simulation.sweep import sweep
from karat.simulation.swept import Swept

PARTS = ("emulator", "gpt", "compare")
SLIP = 0.0014
"""per token; with it the emulator's first models write as many valid texts as those of gpt:preset=mini do"""
PLANE: dict[str, Any] = {
    "temperatures": (0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
    "fresh_shares": (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5),
    "cycles": ("full", "expanding", "incremental", "accumulate_subsample"),
    "iterations": 30,
}
TRAINED: dict[str, Any] = {
    "temperatures": (0.8, 0.9, 1.0),
    "fresh_shares": (0.0, 0.05, 0.25),
    "cycles": ("full",),
    "sizes": (2000,),
    "iterations": 10,
}


def main() -> int:
    """Run the parts and print their diagrams."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 2000], help="n of the emulator's plane")
    parser.add_argument("--cycles", nargs="+", default=list(PLANE["cycles"]), help="of the emulator's plane")
    parser.add_argument("--seeds", type=int, default=3, help="of each of the emulator's cells")
    parser.add_argument("--gpt-seeds", type=int, default=2)
    parser.add_argument("--gpt", default="gpt:preset=mini", help="the trainer of the part gpt")
    parser.add_argument("--slip", type=float, default=SLIP, help="chance that a token of the emulator errs")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "karat-phases")
    parser.add_argument("--report", type=Path, help="folder for the HTML reports")
    parser.add_argument("--json", type=Path, help="file for all that was found")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are small
    began = time.perf_counter()
    emulator = f"emulator:slip={options.slip:g}"
    found: dict[str, Any] = {}
    if "emulator" in options.parts:
        for n in options.sizes:
            plane = {**PLANE, "cycles": tuple(options.cycles), "sizes": (n,), "trainer": emulator}
            found[f"emulator_{n}"] = run(options, f"emulator_{n}", options.seeds, plane)
    trained: dict[str, Swept] = {}
    if {"gpt", "compare"} & set(options.parts):
        seeds = options.gpt_seeds
        trained["gpt"] = run(options, "gpt", seeds, {**TRAINED, "trainer": options.gpt})
        found["gpt"] = trained["gpt"]
    if "compare" in options.parts:
        trained["emulator"] = run(options, "emulator_as_gpt", options.seeds, {**TRAINED, "trainer": emulator})
        found["emulator_as_gpt"] = trained["emulator"]
        section = compared(trained["gpt"], trained["emulator"])
        if options.report is not None:
            karat.report(section, out=options.report / "phases_compared.html", title="emulator and gpt")
    if options.json is not None:
        told = {name: one.to_json() for name, one in found.items()}
        options.json.write_text(json.dumps(told, indent=1), "utf-8")
    show.finish(began)
    return 0


def run(options: argparse.Namespace, name: str, seeds: int, settings: dict[str, Any]) -> Swept:
    """Sweep one plane, or read what is done of it, and print its diagram."""
    began = time.perf_counter()
    executor = None
    if options.workers > 1:
        executor = registry.make("executors", f"local:workers={options.workers}")
    found = sweep(
        seeds=tuple(range(seeds)),
        executor=executor,
        journal=options.cache,
        progress=Told(name),
        **settings,
    )
    print(f"\n== {name}: {found.trainer}, {seeds} seeds, {found.iterations} iterations")
    print(found)
    for axis in ("diversity", "correctness", "distinct"):
        print(f"fresh share needed for {axis}:")
        for one in found.thresholds(axis):
            print(f"    {one.cycle:<22} n {one.n:<6,} temperature {one.temperature:<4g} {one}")
    counted = ", ".join(f"{phase} {cells}" for phase, cells in found.counted().items())
    print(f"cells: {counted}; {time.perf_counter() - began:,.0f} s", flush=True)
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)
        karat.report(found, out=options.report / f"phases_{name}.html", title=f"phase diagram, {name}")
    return found


class Told:
    """Says once a minute how many iterations are done."""

    def __init__(self, name: str) -> None:
        self.name, self.last = name, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say it, if a minute has passed."""
        if time.perf_counter() - self.last > 60:
            self.last = time.perf_counter()
            print(f"{self.name}: {done:,} of {total:,} iterations", file=sys.stderr, flush=True)


def compared(gpt: Swept, emulator: Swept) -> Section:
    """Print and return both trainers cell by cell; with few seeds most of the cells of one stay uncertain."""
    rows: list[dict[str, Any]] = []
    print("\nemulator beside gpt, cell by cell (kept: share of the control's diversity)")
    title = "".join(f"{name + ' kept':<21} correct  {'half':<6}{'phase':<15}" for name in ("gpt", "emulator"))
    print(f"    T    fresh  {title}")
    for one in gpt.cells:
        (other,) = emulator.at(
            cycle=one.cycle, temperature=one.temperature, fresh_share=one.fresh_share, n=one.n
        )
        row: dict[str, Any] = {"temperature": one.temperature, "fresh": one.fresh_share}
        for name, cell in (("gpt", one), ("emulator", other)):
            change = cell.correct_change.value if cell.correct_change else None
            row |= {
                f"{name}_kept": cell.kept.value,
                f"{name}_interval": None if cell.kept.interval is None else list(cell.kept.interval),
                f"{name}_change": change,
                f"{name}_last": cell.last.value,
                f"{name}_half": cell.half_life.value,
                f"{name}_phase": cell.phase + ("" if cell.certain else "?"),
            }
        row["agree"] = one.phase == other.phase
        rows.append(row)
        sides = "  ".join(
            f"{row[f'{name}_kept']:.2f} {show.pair(row[f'{name}_interval']):<16} "
            f"{row[f'{name}_change'] or 0.0:+.3f}   {half(row[f'{name}_half']):<6}{row[f'{name}_phase']:<13}"
            for name in ("gpt", "emulator")
        )
        print(f"    {one.temperature:<4g} {one.fresh_share:<6g} {sides}")
    same = sum(row["agree"] for row in rows)
    errors = [abs(row["gpt_kept"] - row["emulator_kept"]) for row in rows]
    falls = [abs((row["gpt_change"] or 0.0) - (row["emulator_change"] or 0.0)) for row in rows]
    print(
        f"    same phase in {same} of {len(rows)} cells; mean difference of the kept share "
        f"{sum(errors) / len(errors):.3f}, of the change of the correct share {sum(falls) / len(falls):.3f}; "
        f"{order(rows)}"
    )
    columns = [Column("temperature", "temperature", "number"), Column("fresh", "fresh", "percent")]
    for name in ("gpt", "emulator"):
        columns += [
            Column(f"{name}_kept", f"{name}: diversity kept", "percent"),
            Column(f"{name}_interval", "95%", "interval"),
            Column(f"{name}_change", "correct, against control", "number"),
            Column(f"{name}_last", "different correct texts kept", "percent"),
            Column(f"{name}_half", "half-life", "number"),
            Column(f"{name}_phase", "collapses"),
        ]
    columns.append(Column("agree", "same", "flag"))
    return Section("Emulator and gpt, cell by cell", (Table(tuple(columns), tuple(rows)),), id="compared")


def half(value: float | None) -> str:
    """Return a half-life in iterations; `-` where it was not reached."""
    return "-" if value is None else f"{value:.1f}"


def order(rows: Sequence[dict[str, Any]]) -> str:
    """Say how alike both order the cells by what they kept."""
    from scipy.stats import spearmanr

    found = spearmanr([row["gpt_kept"] for row in rows], [row["emulator_kept"] for row in rows])
    return f"rank correlation of the kept shares {float(found.statistic):.2f}"


if __name__ == "__main__":
    sys.exit(main())
