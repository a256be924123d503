"""Runs of one label in the order of the file: who gives one answer again and again. Knows labels only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.labels_sheet import Floats, Ints, Sheet

LEAST = 20
"""The fewest items of an annotator whose runs are looked at."""
_LEVEL = 0.01
_FACTOR = 2.0
_LOWER = 2.6


@dataclass(frozen=True)
class Runs:
    """The longest run of one label of each annotator, beside what the items themselves make of it.

    longest int64 [A], expected and deviation float64 [A], items int64 [A]
    inside, outside float64 [A]: how often others agree within the longest run and elsewhere; nan if unknown
    lower float64 [A]: by how many standard errors the first is below the second
    """

    names: tuple[str, ...]
    longest: Ints
    expected: Floats
    deviation: Floats
    items: Ints
    inside: Floats
    outside: Floats
    lower: Floats
    worst: Floats
    """float64 [trials]: the largest excess over all annotators, in standard deviations, under permutation."""

    @property
    def excess(self) -> Floats:
        """float64 [A]: how far each longest run is beyond the expected one, in standard deviations."""
        return (self.longest - self.expected) / np.maximum(self.deviation, 0.5)

    @property
    def p(self) -> float:
        """Of the largest excess of an annotator with whom others agree less in the run; 1 where none is such.

        Valid, since the largest excesses under permutation are taken over all annotators.
        """
        named = self.excess[self.lower > _LOWER]
        if not len(named):
            return 1.0
        return stats.permutation_p(float(named.max()), self.worst, two_sided=False)

    def suspects(self) -> list[int]:
        """Annotators whose longest run nobody's is by chance, and within which the others agree less.

        The run is beyond 99% of the largest excesses of anybody and twice as long as expected. That others
        agree less with it than with the rest of the labels tells it from a careful annotator's run on items
        that are alike.
        """
        if len(self.worst) < LEAST:
            return []
        limit = max(float(np.quantile(self.worst, 1 - _LEVEL)), 3.0)
        long = (self.excess > limit) & (self.longest > _FACTOR * self.expected)
        return [int(i) for i in np.flatnonzero(long & (self.lower > _LOWER))]


def first_answers(sheet: Sheet) -> Sheet:
    """The first answer of each annotator to each item: draws of one prompt stand side by side in a file."""
    pair = sheet.item * max(len(sheet.annotators), 1) + sheet.annotator
    order = np.lexsort((sheet.row, sheet.slot, pair))
    first = np.r_[True, np.diff(pair[order]) != 0] if len(order) else np.zeros(0, np.bool_)
    return sheet.take(np.sort(order[first]))


def runs(sheet: Sheet, said: Ints, *, kinds: int, trials: int, seed: int) -> Runs | None:
    """Longest runs beside those of labels dealt anew; None where no annotator has 20 items.

    said int64 [n]: what others say of the item of each record; `kinds` where they are undecided. Labels of an
    annotator are dealt among items of which the others say the same: that keeps the order in which items
    stand in the file, and how often who says what, either of which can make long runs.
    """
    order = np.lexsort((sheet.row, sheet.annotator))
    annotator, label, other = sheet.annotator[order], sheet.label[order], said[order]
    counts = np.bincount(annotator, minlength=len(sheet.annotators))
    chosen = np.flatnonzero(counts >= LEAST)
    if not len(chosen):
        return None
    stratum = annotator * (kinds + 1) + other
    within = np.argsort(stratum, kind="stable")
    rng = np.random.default_rng(seed)
    null = np.empty((trials, len(chosen)))
    for trial in range(trials):
        dealt = np.empty(len(order), np.int64)
        dealt[within] = label[np.argsort(stratum + rng.random(len(stratum)))]
        null[trial] = longest(annotator, dealt, len(counts))[0][chosen]
    own, start = longest(annotator, label, len(counts))
    expected, deviation = null.mean(axis=0), null.std(axis=0, ddof=1)
    worst = ((null - expected) / np.maximum(deviation, 0.5)).max(axis=1)
    agreed = np.array([_agreement(annotator == i, label, other, start[i], own[i], kinds) for i in chosen])
    names = tuple(sheet.annotators[i] for i in chosen)
    inside, outside, lower = agreed.T
    return Runs(names, own[chosen], expected, deviation, counts[chosen], inside, outside, lower, worst)


def longest(annotator: Ints, label: Ints, annotators: int) -> tuple[Ints, Ints]:
    """int64 [A] each: the longest run of one label of each annotator, and where it starts.

    Records stand in order by annotator.
    """
    found, place = np.zeros(annotators, np.int64), np.zeros(annotators, np.int64)
    if not len(label):
        return found, place
    change = np.flatnonzero((np.diff(label) != 0) | (np.diff(annotator) != 0)) + 1
    starts = np.r_[0, change]
    lengths = np.diff(np.r_[starts, len(label)])
    order = np.lexsort((-starts, lengths))  # the last written is the longest, of equal ones the first
    found[annotator[starts[order]]] = lengths[order]
    place[annotator[starts[order]]] = starts[order]
    return found, place


def _agreement(
    own: NDArray[np.bool_], label: Ints, other: Ints, start: int, length: int, kinds: int
) -> tuple[float, float, float]:
    """How often others agree inside a run and outside, and by how many standard errors less inside."""
    known = own & (other < kinds)
    run = np.zeros(len(label), np.bool_)
    run[start : start + length] = True
    hits, n, m = label == other, int((known & run).sum()), int((known & ~run).sum())
    if n < 2 or m < 2:
        return float("nan"), float("nan"), 0.0
    inside, outside = float(hits[known & run].mean()), float(hits[known & ~run].mean())
    pooled = float(hits[known].mean())
    error = np.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / n + 1 / m))
    return inside, outside, float((outside - inside) / error)
