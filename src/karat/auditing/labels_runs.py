"""Runs of one label in the order of the file: who gives one answer again and again. Knows labels only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.auditing.labels_sheet import Floats, Ints, Sheet

LEAST = 20
"""The fewest items of an annotator whose runs are looked at."""
_LEVEL = 0.01
_FACTOR = 2.0


@dataclass(frozen=True)
class Runs:
    """The longest run of one label of each annotator, beside what the items themselves make of it.

    longest int64 [A], expected and deviation float64 [A], items int64 [A]; p is that of the largest excess
    """

    names: tuple[str, ...]
    longest: Ints
    expected: Floats
    deviation: Floats
    items: Ints
    worst: Floats
    """float64 [trials]: the largest excess over all annotators, in standard deviations, under permutation."""

    @property
    def excess(self) -> Floats:
        """float64 [A]: how far each longest run is beyond the expected one, in standard deviations."""
        return (self.longest - self.expected) / np.maximum(self.deviation, 0.5)

    def suspects(self) -> list[int]:
        """Annotators with a run beyond 99% of the largest excesses, and twice as long as expected."""
        if len(self.worst) < LEAST:
            return []
        limit = max(float(np.quantile(self.worst, 1 - _LEVEL)), 3.0)
        long = (self.excess > limit) & (self.longest > _FACTOR * self.expected)
        return [int(i) for i in np.flatnonzero(long)]


def first_answers(sheet: Sheet) -> Sheet:
    """The first answer of each annotator to each item: draws of one prompt stand side by side in a file."""
    pair = sheet.item * max(len(sheet.annotators), 1) + sheet.annotator
    order = np.lexsort((sheet.row, sheet.slot, pair))
    first = np.r_[True, np.diff(pair[order]) != 0] if len(order) else np.zeros(0, np.bool_)
    return sheet.take(np.sort(order[first]))


def runs(sheet: Sheet, stratum: Ints, *, trials: int, seed: int) -> Runs | None:
    """Longest runs beside those of labels dealt anew within strata; None where no annotator has 20 items.

    stratum int64 [n]: labels are exchanged only within one. Strata of an annotator and of items that others
    judge alike keep the order in which items stand in the file and how often who says what, either of which
    can make long runs.
    """
    order = np.lexsort((sheet.row, sheet.annotator))
    annotator, label = sheet.annotator[order], sheet.label[order]
    counts = np.bincount(annotator, minlength=len(sheet.annotators))
    chosen = np.flatnonzero(counts >= LEAST)
    if not len(chosen):
        return None
    within = np.argsort(stratum, kind="stable")
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    rng = np.random.default_rng(seed)
    null = np.empty((trials, len(chosen)))
    for trial in range(trials):
        dealt = np.empty(len(order), np.int64)
        dealt[within] = sheet.label[np.argsort(stratum + rng.random(len(stratum)))]
        null[trial] = longest(annotator, dealt[order], len(counts))[chosen]
    own = longest(annotator, label, len(counts))[chosen]
    expected, deviation = null.mean(axis=0), null.std(axis=0, ddof=1)
    worst = ((null - expected) / np.maximum(deviation, 0.5)).max(axis=1)
    names = tuple(sheet.annotators[i] for i in chosen)
    return Runs(names, own, expected, deviation, counts[chosen], worst)


def longest(annotator: Ints, label: Ints, annotators: int) -> Ints:
    """int64 [A]: the longest run of one label of each annotator; records stand in order by annotator."""
    found = np.zeros(annotators, np.int64)
    if not len(label):
        return found
    change = np.flatnonzero((np.diff(label) != 0) | (np.diff(annotator) != 0)) + 1
    starts = np.r_[0, change]
    lengths = np.diff(np.r_[starts, len(label)])
    np.maximum.at(found, annotator[starts], lengths)
    return found
