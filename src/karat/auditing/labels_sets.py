"""Majority and minority labels of a list, and how two sides' sets meet. Knows counts only.

Source: Das et al. 2024 (arXiv 2401.14698), sections 5.1 and 5.2, and the code released with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from karat.auditing.labels_paired import Scored
from karat.auditing.labels_sheet import Floats, Ints

Sets = NDArray[np.bool_]
"""bool [n, K]: which labels are in the set of each list; an empty row stands for None."""


def majority(counts: Ints, *, single: bool = True) -> Sets:
    """All labels with the largest count; None where every label of the list is another one.

    single: whether a list of one label has it as its majority; the published definition says None
    """
    most = counts.max(axis=1, keepdims=True, initial=0)
    known = most > 1
    if single:
        known |= counts.sum(axis=1, keepdims=True) == 1
    return np.asarray((counts == most) & known, dtype=np.bool_)


def minority(counts: Ints) -> Sets:
    """All labels with the smallest count; None where all labels of the list are equally frequent."""
    given = counts > 0
    least = np.where(given, counts, np.iinfo(np.int64).max).min(axis=1, keepdims=True)
    most = counts.max(axis=1, keepdims=True, initial=0)
    return np.asarray(given & (counts == least) & (least != most), dtype=np.bool_)


def modes(counts: Ints) -> Sets:
    """All labels with the largest count, also where each was given once; empty where there is none."""
    most = counts.max(axis=1, keepdims=True, initial=0)
    return np.asarray((counts == most) & (most > 0), dtype=np.bool_)


def even(sets: Sets) -> Floats:
    """float64 [n, K]: each label of a set with an equal share; zeros for an empty set."""
    size = sets.sum(axis=1, keepdims=True)
    return np.asarray(sets / np.maximum(size, 1), dtype=np.float64)


def meeting(mine: Sets, theirs: Sets, *, published: bool) -> Scored:
    """1 where the sets of both sides have a label in common.

    published: over all lists, None on either side counting 0; else over lists where both have a set
    """
    met = _some(mine & theirs).astype(np.float64)
    both = _some(mine) & _some(theirs)
    return Scored(met, np.ones(len(met)) if published else both.astype(np.float64))


def differing(mine: Sets, theirs: Sets, *, published: bool) -> Scored:
    """1 where the sets of both sides are not the same.

    published: over all lists, None on both sides counting as different (as in the released count of 8,032);
    else over lists where at least one side has a set
    """
    equal = ~_some(mine != theirs)
    some = _some(mine) | _some(theirs)
    if published:
        return Scored((~(equal & some)).astype(np.float64), np.ones(len(equal)))
    return Scored((~equal).astype(np.float64), some.astype(np.float64))


def _some(sets: Sets) -> NDArray[np.bool_]:
    """bool [n]: whether a set holds any label."""
    return np.asarray(sets.any(axis=1), dtype=np.bool_)


def leave_one_out(counts: Ints) -> tuple[float, int]:
    """How often a person's label is among the most frequent ones of the other people, and of how many.

    Ties all count: the figure of Das et al.'s data is .841, .652, .510 and .915 under this rule.
    """
    hits = total = 0
    several = counts[counts.sum(axis=1) > 1]
    for k in range(counts.shape[1]):
        mine = several[:, k]
        given = mine > 0
        others = several[given].copy()
        others[:, k] -= 1
        hits += int((modes(others)[:, k] * mine[given]).sum())
        total += int(mine[given].sum())
    return (hits / total if total else float("nan")), total
