"""Drops records of classes that are over-full. Knows labels only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from karat.curation.base import Verdicts
from karat.curation.clusters import numbers
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records


@dataclass(frozen=True)
class ClassBalance:
    """Brings the shares of the classes to a target by dropping records of over-full classes.

    target: uniform, reference (the shares of the human reference) or given (classes and shares, each joined
    by +). slack: how many times its share a class may hold, measured at the class that is scarcest: 1 gives
    the target exactly, 2 drops less. by: a numeric field; the highest of a class stay; without it, records
    are drawn at random. A class that the target has and the records lack cannot be made up; the note says so.
    A record without a label is dropped.
    """

    target: Literal["uniform", "reference", "given"] = "uniform"
    slack: float = 1.0
    by: str = ""
    classes: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.slack >= 1:
            raise ValueError(f"slack is {self.slack}, but must be 1 (exactly balanced) or more")
        if len(self.classes) != len(self.shares):
            raise ValueError(
                f"classes names {len(self.classes)} and shares {len(self.shares)}; give one each"
            )
        if (self.target == "given") != bool(self.classes):
            raise ValueError("classes and shares belong to target=given: classes=a+b,shares=0.3+0.7")
        if self.shares and (not all(share >= 0 for share in self.shares) or sum(self.shares) <= 0):
            raise ValueError(f"shares are {self.shares}, but must not be negative nor all 0")

    def judge(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Verdicts:
        """Judge each record; the reason names its class, how many it has and how many fit."""
        labels: list[Any] | None = records.labels()
        if labels is None or all(label is None for label in labels):
            raise BadSetting(
                f"filter 'class_balance' needs labels, but {records.path} has none; name the field with "
                "--label-field"
            )
        names = [None if label is None else str(label) for label in labels]
        counts = Counter(name for name in names if name is not None)
        wanted = self._shares(counts, reference)
        present = {name: share for name, share in wanted.items() if share > 0 and counts[name]}
        if not present:
            raise NotEnoughData("filter 'class_balance': the records hold no class that the target has")
        total = min(counts[name] / share for name, share in present.items())
        room = {name: min(counts[name], round(self.slack * share * total)) for name, share in present.items()}
        order = self._order(records, seed)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        rows: dict[str, list[int]] = {}
        reasons = {}
        for row, label in enumerate(names):
            if label is None:
                reasons[row] = "no label, so that it belongs to no class"
            else:
                rows.setdefault(label, []).append(row)
        for name, members in rows.items():
            fits = max(room[name], 1) if name in room else 0
            how = f"the {fits:,} highest by {self.by} stay" if self.by else f"{fits:,} drawn at random stay"
            why = f"class {name!r} has {len(members):,} records: {how}" if fits else ""
            for row in sorted(members, key=lambda one: int(rank[one]))[fits:]:
                reasons[row] = why or f"class {name!r} has no share in the target"
        kept = np.ones(len(records), np.bool_)
        kept[list(reasons)] = False
        return Verdicts(kept, reasons, _note(counts, wanted, counts.total(), total))

    def _shares(self, counts: Counter[str], reference: Records | None) -> dict[str, float]:
        """The share of each class in the target, summing to 1."""
        if self.target == "uniform":
            return dict.fromkeys(counts, 1 / max(1, len(counts)))
        if self.target == "given":
            total = sum(self.shares)
            return {name: share / total for name, share in zip(self.classes, self.shares)}
        found = None if reference is None else reference.labels()
        if not found or all(label is None for label in found):
            raise BadSetting(
                "filter 'class_balance': target=reference takes its shares; give --reference HUMAN"
            )
        human = Counter(str(label) for label in found if label is not None)
        return {name: count / human.total() for name, count in human.items()}

    def _order(self, records: Records, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if not self.by:
            return np.random.default_rng([seed, 0xC1A]).permutation(len(records)).astype(np.int64)
        values = numbers(records, self.by, "filter 'class_balance'")
        return np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable").astype(np.int64)


def _note(counts: Counter[str], wanted: dict[str, float], n: int, total: float) -> str:
    """Which classes lack records: those that hold the fewest for their share, and what each lacks of n."""
    lacking = sorted(
        ((counts[name] / (share * n), name) for name, share in wanted.items() if share > 0),
    )
    short = [
        f"{name} {round(wanted[name] * n) - counts[name]:,}"
        for ratio, name in lacking
        if ratio < 1 and round(wanted[name] * n) > counts[name]
    ]
    missing = sum(1 for name, share in wanted.items() if share > 0 and not counts[name])
    note = f"{len(wanted):,} classes; the scarcest allows {round(total):,} balanced records"
    if short:
        more = f" and {len(short) - 5:,} more classes" if len(short) > 5 else ""
        note += f"; for {n:,} in the target's shares lack: {', '.join(short[:5])}{more}"
    if missing:
        note += f"; {missing:,} classes of the target have no record at all"
    return note
