"""The neighbourhoods of vectors: whose nearest neighbours enclose whom, for any split into two sides.

Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020). Distances of the
pool are had once; each split then only picks among them. Knows vectors and groups only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Values

Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]

_NEAR = 128


@dataclass(frozen=True)
class Near:
    """All squared distances of m records [m, m], float32, and for each the nearest 128 in order [m, 128].

    The nearest of a record is the record itself, or a copy.
    """

    squares: Floats
    order: NDArray[np.int32]
    groups: NDArray[np.int64]

    def radii(self, members: Flags, k: int) -> Floats:
        """float32 [m]: the squared distance from each member to its k-th nearest other member; nan elsewhere.

        Infinite where there are not so many.
        """
        found = np.full(len(members), np.nan, np.float32)
        rows = np.flatnonzero(members)
        # among the nearest 128 of the pool the k-th other member is usually found without a look at the rest
        rank = np.cumsum(members[self.order[rows]], axis=1, dtype=np.int32)
        place = (rank > k).argmax(axis=1)
        sure = rank[np.arange(len(rows)), place] > k
        near = rows[sure]
        found[near] = self.squares[near, self.order[near, place[sure]]]
        for row in rows[~sure]:
            others = self.squares[row, rows]
            found[row] = np.partition(others, k)[k] if len(others) > k else np.inf
        return found

    def enclosed(self, members: Flags, others: Flags, k: int) -> Flags:
        """bool [members, others]: whether the ball of each member around its k nearest holds each other."""
        rows = np.flatnonzero(members)
        radius = self.radii(members, k)[rows]
        held: Flags = self.squares[np.ix_(rows, np.flatnonzero(others))] <= radius[:, None]
        return held


def near(rows: NDArray[Any], groups: NDArray[np.int64]) -> Near:
    """All distances of rows [m, d]: O(m^2 d) time and 4 m^2 bytes."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    exact = np.asarray(rows, dtype=np.float64)
    with threadpool_limits(1):
        squares = exact @ exact.T
    lengths = np.einsum("nd,nd->n", exact, exact)
    squares *= -2
    squares += lengths[:, None]
    squares += lengths[None, :]
    squares[squares < 1e-12] = 0  # copies are at distance 0, whatever rounding says
    small = squares.astype(np.float32)
    few = min(_NEAR, len(exact))
    first = np.argpartition(small, few - 1, axis=1)[:, :few] if len(exact) else np.zeros((0, 0), np.int64)
    sorting = np.take_along_axis(small, first, axis=1).argsort(axis=1, kind="stable")
    return Near(small, np.take_along_axis(first, sorting, axis=1).astype(np.int32), groups)


def precisions(found: Near, ours: Masks, theirs: Masks, k: int) -> Values:
    """float64 [K]: the share of our records inside a ball of one of theirs (Kynkäänniemi et al.).

    Recall is the same with the sides changed.
    """
    return _each(found, ours, theirs, lambda one, other: found.enclosed(other, one, k).any(axis=0).mean())


def densities(found: Near, ours: Masks, theirs: Masks, k: int) -> Values:
    """float64 [K]: how many balls of theirs hold one of ours, divided by k (Naeem et al.)."""
    return _each(found, ours, theirs, lambda one, other: found.enclosed(other, one, k).sum(axis=0).mean() / k)


def coverages(found: Near, ours: Masks, theirs: Masks, k: int) -> Values:
    """float64 [K]: the share of their balls that hold one of our records (Naeem et al.)."""
    return _each(found, ours, theirs, lambda one, other: found.enclosed(other, one, k).any(axis=1).mean())


def _each(found: Near, ours: Masks, theirs: Masks, share: Any) -> Values:
    values = np.full(len(ours), np.nan)
    for row, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        mine, their = one[found.groups], other[found.groups]
        if mine.any() and their.any():
            values[row] = share(mine, their)
    return values
