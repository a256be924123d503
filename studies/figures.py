"""Runs one stage on one set and prints its figures as plain rows. Knows no data set.

The studies share this, so that a worth or a closure is printed alike everywhere. What is printed is also kept
for `--json`. Finished trainings are kept in the folder `--cache`: a study that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import karat
from karat import registry
from karat.errors import KaratError
from karat.records import Records

CHEAP = (
    "agreement",
    "quality_estimation",
    "influence",
    "influence:method=gradient",
    "fluency",
    "human_likeness",
    "random",
)
"""orderings that need neither a language model nor gold"""


@dataclass
class Figures:
    """How the stages of a study are run, and what they found."""

    budget: str
    seeds: int
    workers: int
    cache: Path | None
    file: Path | None = None
    """where all that was found is written, after each stage"""
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.how: dict[str, Any] = {"cache": self.cache}
        if self.workers > 1:
            self.how["executor"] = registry.make("executors", f"local:workers={self.workers}")

    def keep(self, kind: str, name: str, value: Any, began: float) -> None:
        """Keep what a stage found, with its seconds; what was found before a kill stays on disk."""
        seconds = round(time.perf_counter() - began, 1)
        self.found[f"{kind}/{name}"] = {"seconds": seconds, **value}
        print(f"    {seconds:,.0f} s", flush=True)
        if self.file is not None:
            self.file.write_text(json.dumps(self.found, indent=1, default=str), "utf-8")

    def worth(
        self, name: str, synthetic: Records, human: Records, test: Records, trainer: str, **more: Any
    ) -> None:
        """Print what a set is worth: curves, human records, and the gain beside human ones."""
        began = time.perf_counter()
        found = karat.value(
            synthetic,
            human,
            test,
            trainer=trainer,
            budget=self.budget,
            seeds=self.seeds,
            **self.how,
            **more,
        )
        print(f"\nworth of {name} by {trainer}, {found.metric}, chance {found.chance:.3f}")
        for side in ("human", "synthetic"):
            points = getattr(found.curves, side)
            print(f"    {side:<10}" + "  ".join(f"{n:,}: {score:.3f}" for n, score, _, _ in points))
        last = found.curves.synthetic[-1]
        worth = found.equivalence
        low, high = worth.interval
        told = worth.worth_human_records
        said = f"{told:,}" if told is not None else f"{worth.censored} {worth.bound:,}"
        ends = f"[{number(low)}, {number(high)}]"
        rates = "" if worth.rate is None else f", rate {worth.rate:.2f} {pair(worth.rate_interval)}"
        print(
            f"    all {last[0]:,}: {last[1]:.3f} {pair(last[2:])}, worth {said} human records {ends}{rates}"
        )
        gains = "; ".join(f"{g.human:,}: {g.difference:+.3f} {pair(g.interval)}" for g in found.marginal)
        print(f"    gain beside human records: {gains}")
        print(f"    {found.advice}")
        self.keep("value", f"{name}/{trainer}", found.to_json(), began)

    def closed(
        self,
        name: str,
        synthetic: Records,
        human: Records,
        test: Records,
        trainer: str,
        arms: Sequence[str],
        **more: Any,
    ) -> None:
        """Print how much of the gap to human records each mitigation closes."""
        began = time.perf_counter()
        found = karat.mitigate(
            synthetic,
            human,
            test,
            trainer=trainer,
            arms=arms,
            budget=self.budget,
            seeds=self.seeds,
            **self.how,
            **more,
        )
        print(f"\ngap closure on {name} by {trainer}, {found.metric}; {found.human_records:,} human records")
        columns = f"{'area against plain':<26}{'gap closed (area)':<22}{'gap closed (all records)':<26}"
        print(f"    {'arm':<26}{'records':>8}{'score':>7}  {columns}verdict")
        for arm in found.arms:
            area = "" if arm.area is None else f"{arm.area.difference:+.3f} {pair(arm.area.interval)}"
            told = "" if arm.area is None else arm.area.verdict
            if arm.informative is False:
                told += ", order carries no information"
            ends = f"{area:<26}{gap_closed(arm.closure):<22}{gap_closed(arm.closure_all):<26}"
            print(f"    {arm.name:<26}{arm.records:>8,}{arm.score:>7.3f}  {ends}{told}")
        real = found.arm("real").area
        if real is not None:
            gap = f"{real.difference:+.3f} {pair(real.interval)}"
            every = found.arm("generated").versus_real
            last = "" if every is None else f"; with all records {-every.difference:+.3f}"
            print(f"    gap: real minus generated, area {gap}{last}")
        print(f"    {found.advice}")
        self.keep("mitigate", f"{name}/{trainer}", found.to_json(), began)

    def chosen(
        self, name: str, synthetic: Records, human: Records, test: Records, trainer: str, **more: Any
    ) -> None:
        """Print the curation that validation chooses, and the proof of it on the test."""
        began = time.perf_counter()
        found = karat.auto_curate(
            synthetic,
            human,
            test,
            trainer=trainer,
            budget=self.budget,
            seeds=self.seeds,
            **self.how,
            **more,
        )
        print(f"\nchosen for {name} by {trainer}, {found.metric}: {found.chosen.name} ({found.fits} models)")
        for row in found.proofs:
            gain = "" if row.gain is None else f"choice gains {row.gain:+.3f} {pair(row.gain_interval)}"
            print(f"    {row.name:<18}{row.value:.3f} {pair(row.interval)}  {gain}")
        best = ", ".join(f"{one.policy.name} {one.mean:.3f}" for one in found.tried[:4])
        print(f"    best in validation: {best}")
        self.keep("auto", f"{name}/{trainer}", found.to_json(), began)

    def crossed(
        self, name: str, synthetic: Records, human: Records, test: Records | None, trainer: str, **more: Any
    ) -> None:
        """Print each model on each test, what labels lose, and the amplification beyond human data."""
        began = time.perf_counter()
        found = karat.cross_train(
            human,
            synthetic,
            test,
            trainer=trainer,
            budget=self.budget,
            seeds=self.seeds,
            **self.how,
            **more,
        )
        sides = ("human", *found.kinds)
        print(f"\ncross-training of {name} by {trainer}, {found.metric}, {found.size:,} records each")
        print(f"    {'trained on / tested on':<24}" + "".join(f"{side:>26}" for side in sides))
        for one in sides:
            cells = [found.at(one, other) for other in sides]
            print(f"    {one:<24}" + "".join(f"{f'{c.value:.3f} {pair(c.interval)}':>26}" for c in cells))
        for gap in found.gaps:
            print(
                f"    gap of {gap.kind} {gap.value:+.3f} {pair(gap.interval)}, "
                f"optimism on its own test {gap.optimism:+.3f} {pair(gap.optimism_interval)}"
            )
        if found.labels is not None:
            lost = [row for row in found.worst(4) if row.p_holm is not None and row.p_holm < 0.05]
            print(
                "    labels that lose: "
                + ("; ".join(f"{r.kind} {r.label} {r.value:+.3f}" for r in lost) or "none")
            )
            for row in found.labels.calibration:
                if row.tested_on == "human":
                    error = f"{row.error:.3f} {pair(row.interval)} (chance {row.chance:.3f})"
                    print(f"    calibration error after {row.trained_on}: {error}")
        for one in found.amplified:
            if one.excess is not None and one.excess_interval is not None:
                told = f"{one.excess:+.3f} {pair(one.excess_interval)}"
                print(f"    amplification of {one.artifact} ({one.answers}), {one.side} beyond human: {told}")
        self.keep("cross", f"{name}/{trainer}", found.to_json(), began)

    def informed(
        self, name: str, synthetic: Records, human: Records, orders: Sequence[str] = CHEAP, **more: Any
    ) -> None:
        """Print the rank correlation of each ordering with errors planted in human records."""
        began = time.perf_counter()
        rows: dict[str, Any] = {}
        print(f"\norderings on {name}: rank correlation with planted errors")
        for order in orders:
            start = time.perf_counter()
            try:
                made = karat.curate(
                    synthetic, human, order=order, calibrate="planted", cache=self.cache, **more
                )
            except KaratError as error:
                print(f"    {order:<28}not possible: {error}")
                continue
            assert made.order is not None
            told = made.order.figures
            areas = ", ".join(
                f"{key[8:-4]} {value:.3f}" for key, value in told.items() if key.startswith("planted_")
            )
            ends = (told.get("oracle_low"), told.get("oracle_high"))
            best = told.get("oracle_best", float("nan"))
            more_told = f", detector AUC {told['auc']:.3f}" if "auc" in told else ""
            print(
                f"    {order:<28}{told.get('oracle_rho', float('nan')):+.3f} {pair(ends)} best {best:.3f}; "
                f"AUC {areas}{more_told}; {'informative' if made.order.informative else 'no information'}; "
                f"{time.perf_counter() - start:.1f} s"
            )
            rows[order] = {"informative": made.order.informative, "note": made.order.note, **dict(told)}
        self.keep("orderings", name, {"orderings": rows}, began)


def number(value: float | None) -> str:
    """Return a count with its thousands parted; `-` where it is not known."""
    return "-" if value is None else f"{value:,.0f}"


def gap_closed(found: Any) -> str:
    """Return a share of a gap with its interval; `-` where there is no gap to close."""
    return "-" if found.value is None else f"{found.value:+.2f} {pair(found.interval)}"


def pair(ends: Sequence[float | None] | None) -> str:
    """Return an interval; `-` at an end that cannot be told."""
    if ends is None:
        return "[-]"
    return "[" + ", ".join("-" if end is None else f"{end:.3f}" for end in ends) + "]"


def asked(
    text: str, parts: Sequence[str], trainers: Sequence[str], *, sets: Sequence[str] = ()
) -> argparse.Namespace:
    """Return the options that all studies have."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="small", choices=("small", "medium", "large"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--records", type=int, default=0, help="the most records of each set; 0 takes all")
    parser.add_argument("--trainers", nargs="+", default=list(trainers))
    parser.add_argument("--parts", nargs="+", default=list(parts), choices=list(parts))
    if sets:
        parser.add_argument("--sets", nargs="+", default=list(sets), choices=list(sets))
    parser.add_argument("--cache", type=Path, help="folder of finished trainings, to go on from")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def data() -> Path:
    """Return the folder of the data sets."""
    return Path(os.environ.get("KARAT_DATA", "../shared/data"))


def few(records: Records, most: int) -> Records:
    """Return at most so many records, drawn by a fixed seed; all for 0."""
    return records if not most or len(records) <= most else records.sample(most)


def finish(began: float) -> None:
    """Say how long all took, and on what machine."""
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"\nall: {time.perf_counter() - began:,.0f} s on {where}")
