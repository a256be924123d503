"""Self-consuming loops on Boolean expressions: which cycle loses what, and what stops it.

    python studies/loops.py [--parts order temperature verifier fresh] [--workers 2] [--json FILE]

Models of preset `mini` (0.1 M parameters) are trained from scratch in each iteration on expressions that are
True, and write the next ones (Briesch, Sobania and Rothlauf 2023; their study has one seed, one temperature
and no control). Parts:

- order: the paper's four cycles at temperature 0.8: how much diversity each keeps, half-lives, correctness;
- temperature: the full cycle at 0.8 and 1.0: which axis collapses;
- verifier: the full cycle at 1.0, with a verifier that is perfect and one that lets a tenth pass;
- fresh: the full cycle at 0.8 with 1 % and 25 % fresh data: does diversity level off?

Each part prints means over seeds with their range beside the control without a loop, and sets forecasts from
the first iterations beside what came. What is finished is kept in `--cache`; the same call again goes on from
there, also after a kill.

Found with three seeds (n 2,000, 16 iterations at 0.8, 12 at 1.0; means [range over seeds]; order took 24 min
58 s on two cores beside other work, fresh 8 and the rest 11 minutes more):

    temperature 0.8              diversity   half-life            correct      different correct   coverage
    no loop                      .552        -                    .925         665                 .71
    full                         .017        6.1 [3.9, 11.4]      .928 > .999  646 > 6             .70 > .00
    full, 1 % fresh              .283        more than 7.9        .928 > .896  646 > 14            .70 > .05
    incremental (half)           .187        13.5 [10.8, 17.1]    .928 > .973  646 > 108           .70 > .13
    full, 25 % fresh             .416        more than 13.6       .928 > .937  646 > 282           .70 > .57
    balanced                     .537        more than 13.6       .928 > .928  646 > 591           .70 > .64
    expanding (a tenth)          .537        more than 13.6       .928 > .883  646 > 698           .70 > .71
    temperature 1.0
    no loop                      .559        -                    .884         632                 .72
    full                         .565        more than 10.2       .888 > .585  618 > 354           .71 > .59
    verified                     .508        more than 10.2       .888 > .972  618 > 384           .71 > .55
    verified, 10 % of wrong pass .507        more than 10.2       .888 > .963  618 > 379           .71 > .53

- The paper's order of the cycles: full < incremental < full with 25 % fresh < balanced <= expanding. The last
  two are told apart by coverage and by different texts, not by edit distance.
- Temperature decides which axis goes: at 0.8 diversity, while correctness rises; at 1.0 correctness, while
  edit distance stays. A verifier protects correctness and not the different correct texts.
- 25 % fresh data level off where 1 % do not; with 17 points the comparison of curves calls both undecided.

Negative: correctness does not rise in every cycle (expanding falls: the steps are fixed, the data grow).
Texts grow from 11 to 29 tokens in the full cycle: its last texts are long and few. Forecasts from 3 to 7
iterations came too late for trained loops, which speed up (14 of 29 half-lives missed); what was known of
learners was mended by that, so that these loops no longer test it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import karat
from karat import registry
from karat.simulation.half_lives import half_life_words
from karat.simulation.result import Loop, Simulated, half_life

ORDER = ("full", "incremental", "balanced", "expanding")
PARTS: dict[str, tuple[tuple[float, tuple[str, ...]], ...]] = {
    "order": ((0.8, ORDER),),
    "temperature": ((0.8, ("full",)), (1.0, ("full",))),
    "verifier": ((1.0, ("full", "verified", "verified:false_positives=0.1")),),
    "fresh": ((0.8, ("full", "full:fresh_share=0.01", "full:fresh_share=0.25")),),
}
SHOWN = ("levenshtein", "correct", "valid", "distinct", "distinct_correct", "coverage", "mean_length")


def mean(loops: Sequence[Loop], name: str, at: int) -> tuple[float, float, float]:
    """Mean, lowest and highest value of a measure over the seeds, at an iteration or where a loop ended."""
    values = [loop.iterations[min(at, len(loop.iterations) - 1)].value(name) for loop in loops]
    known = [value for value in values if value is not None]
    return statistics.fmean(known), min(known), max(known)


def show(found: Simulated, iterations: int) -> None:
    """Print for each cycle first, middle and last values, and the control's band."""
    print(f"\ntemperature {found.temperature:g}, n {found.n:,}, {found.trainer}, task {found.task}")
    cycles = list(dict.fromkeys(loop.cycle for loop in found.runs))
    for name in SHOWN:
        band = found.bands.get(name)
        beside = (
            "" if band is None else f"   without a loop {band.mean:.3f} [{band.low:.3f}, {band.high:.3f}]"
        )
        print(f"  {name}{beside}")
        for cycle in cycles:
            loops = [loop for loop in found.runs if loop.cycle == cycle]
            cells = []
            for at in (0, iterations // 2, iterations):
                middle, low, high = mean(loops, name, at)
                cells.append(f"{at}: {middle:.3f} [{low:.3f}, {high:.3f}]")
            print(f"    {cycle:<30}" + "   ".join(cells))
    for cycle in cycles:
        loops = [loop for loop in found.runs if loop.cycle == cycle]
        said = karat.forecast(found, cycle=cycle)
        settles = "" if said.plateau is None else f"; settles at {said.plateau:.0%}"
        compared = "" if said.comparison is None else f"; {said.comparison.words}"
        print(f"  half-life of {cycle}: {half_life_words(found.half_life[cycle])}{settles}{compared}")


def foresee(found: Simulated, cycles: Sequence[str], seen: int) -> None:
    """Forecast from the first iterations, and set what came beside it."""
    print(f"  forecast from iterations 0 to {seen}, and what came")
    for cycle in cycles:
        loops = [loop for loop in found.runs if loop.cycle == cycle]
        for several in (loops, *([loop] for loop in loops)):
            short = [replace(loop, iterations=loop.iterations[: seen + 1], ended="") for loop in several]
            begun = replace(found, runs=tuple(short), half_life={cycle: half_life(short)})
            said = karat.forecast(begun, cycle=cycle)
            came = half_life(several)
            low, high = said.interval
            value = "none named" if said.half_life is None else f"{said.half_life:.1f}"
            ends = f"[{low or 0:.1f}, {'...' if high is None else f'{high:.1f}'}]"
            who = "all seeds" if len(several) > 1 or len(loops) == 1 else f"seed {several[0].seed}"
            print(f"    {cycle:<24} {who:<10} half-life {value} {ends}, came {half_life_words(came)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, print their tables, and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--task", default="logic")
    parser.add_argument("--trainer", default="gpt:preset=mini")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    cache = given.cache or Path(tempfile.gettempdir()) / "karat-loops"
    executor = registry.make("executors", f"local:workers={given.workers}") if given.workers > 1 else None
    wanted: dict[float, list[str]] = {}
    for part in given.parts:
        for temperature, several in PARTS[part]:
            known = wanted.setdefault(temperature, [])
            known += [cycle for cycle in several if cycle not in known]
    told: dict[str, Any] = {}
    for temperature, cycles in wanted.items():
        began = time.perf_counter()
        found = karat.simulate(
            task=given.task,
            cycles=tuple(cycles),
            iterations=given.iterations,
            seeds=tuple(range(given.seeds)),
            n=given.n,
            temperature=temperature,
            trainer=given.trainer,
            executor=executor,
            journal=cache,
        )
        show(found, given.iterations)
        if temperature < 1:
            foresee(found, [cycle for cycle in ("full", "incremental") if cycle in cycles], 4)
        print(f"  {time.perf_counter() - began:,.0f} s", flush=True)
        told[f"temperature={temperature:g}"] = found.to_json()
        if given.json is not None:
            given.json.write_text(json.dumps(told))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
