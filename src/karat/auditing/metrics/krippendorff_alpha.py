"""How reliable the labels of several annotators are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import agreement, labels_paired, labels_sheet
from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.labels_sheet import SHEET, Book, Floats, Ints


@dataclass(frozen=True)
class KrippendorffAlpha(Metric):
    """Krippendorff's alpha: 1 is perfect agreement on every item, 0 what chance gives, below 0 worse.

    Any number of annotators, any of whom may be missing anywhere; answers outside the label space are left
    out. Coincidences add up over items, so that the cost is linear in labels.
    level: nominal, ordinal (ranks) or interval (numbers)
    unit: item (all labels of an item agree), annotator (repeated labels of one annotator on one item agree)
    labels: the label space in its order, as a+b+c; without it the labels that there are
    """

    level: str = "nominal"
    unit: str = "item"
    labels: tuple[str, ...] = ()

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "Draws of one model agree with each other, which is no reliability; and where one label is very "
        "common alpha is low although nearly all labels agree."
    )
    cost: ClassVar[str] = "O(labels * K), and K^2 for K labels"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "The candidate repeats itself where people differ: its agreement is no proof of quality.",
        "lower": "Labels are less reliable than people's: mend the guideline, or ask more annotators.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    higher: ClassVar[str] = "labels of an item agree more"
    source: ClassVar[str] = "Krippendorff 2011, Computing Krippendorff's alpha-reliability"

    def __post_init__(self) -> None:
        if self.level not in agreement.LEVELS:
            raise ValueError(f"level is {self.level!r}; choose one of: {', '.join(agreement.LEVELS)}")
        if self.unit not in ("item", "annotator"):
            raise ValueError(f"unit is {self.unit!r}; choose one of: item, annotator")

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        book = labels_sheet.read(summary[SHEET], labels=self.labels)
        if self._refused(book):
            return np.full(len(masks), np.nan)
        counts, group, _ = self._units(summary, book)
        parts = agreement.coincidences(counts, group, summary.groups)
        merged = (masks.astype(np.float64) @ parts.reshape(len(parts), -1)).reshape(-1, *parts.shape[1:])
        return agreement.alpha(merged, self.level, book.points)

    def chance(self, summary: Summary) -> float | None:
        return 0.0

    def note(self, summary: Summary) -> str:
        book = labels_sheet.read(summary[SHEET], labels=self.labels)
        if reason := self._refused(book):
            return reason
        counts, _, _ = self._units(summary, book)
        several = counts.sum(axis=1) > 1
        if not several.any():
            return "nothing has two labels"
        what = "items" if self.unit == "item" else "items of one annotator"
        return f"{int(several.sum()):,} {what} with two labels or more, {int(counts[several].sum()):,} labels"

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        book = labels_sheet.read(summary[SHEET], labels=self.labels)
        if self._refused(book):
            return ()
        counts, _, keys = self._units(summary, book)
        m = counts.sum(axis=1).astype(np.float64)
        agree = (counts * (counts - 1)).sum(axis=1) / np.maximum(m * (m - 1), 1)
        # many labels that disagree tell more than two that do
        split: Floats = np.where(m > 1, (1 - agree) * (1 - 1 / np.maximum(m, 1)), 0.0)
        order = np.argsort(-split, kind="stable")[:limit]
        return tuple(
            Telling(int(keys[i]), float(split[i]), labels_paired.said(counts[i], book.space))
            for i in order
            if split[i] > 0
        )

    def used(self, summary: Summary) -> int:
        book = labels_sheet.read(summary[SHEET], labels=self.labels)
        return int((book.mine.label >= 0).sum())

    def _refused(self, book: Book) -> str:
        """Why alpha cannot be computed; empty where it can."""
        if book.lacks:
            return book.lacks
        if self.level != "nominal" and book.points is None:
            return "labels have no order; give it with labels=low+middle+high, or use level=nominal"
        return ""

    def _units(self, summary: Summary, book: Book) -> tuple[Ints, Ints, NDArray[np.uint64]]:
        """Counts [U, K] of units, their replicate group, and the key of a record of each."""
        sheet = book.mine
        group = summary[SHEET].groups[sheet.row]
        # an item of both sides of a pool is two units, since the sides are different groups
        unit = sheet.item * summary.groups + group
        if self.unit == "annotator":
            unit = unit * max(len(sheet.annotators), 1) + sheet.annotator
        _, first, member = np.unique(unit, return_index=True, return_inverse=True)
        counts = labels_sheet.tally(member, sheet.label, len(first), len(book.space))
        return counts, group[first], sheet.keys[first]
