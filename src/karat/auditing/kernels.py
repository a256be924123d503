"""Kernels of all pairs of vectors, summed by replicate group: then any split of the groups is arithmetic.

Knows vectors and groups only: no text, no encoder, no metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Values

Floats = NDArray[np.float64]
Kernel = Callable[[Floats, Floats, Floats], Floats]
"""(inner products [b, n], squared lengths [b], squared lengths [n]) -> kernel values [b, n]."""

_BLOCK = 512
_MEDIAN_OF = 1_000


@dataclass(frozen=True)
class GroupSums:
    """The kernel of all pairs of n records, in G groups, summed over the second record of each pair.

    sums float64 [n, G]: record i with all records of group g, itself among them; own float64 [n]: each
    record with itself; groups int64 [n]; counts float64 [G].
    """

    sums: Floats
    own: Floats
    groups: NDArray[np.int64]
    counts: Floats

    def tables(self) -> tuple[Floats, Floats]:
        """All pairs summed by the groups of both [G, G], and the pairs of a record with itself [G]."""
        size = len(self.counts)
        table = np.zeros((size, size))
        np.add.at(table, self.groups, self.sums)
        own = np.bincount(self.groups, weights=self.own, minlength=size).astype(np.float64)
        return table, own


def group_sums(rows: NDArray[Any], groups: NDArray[np.int64], size: int, kernel: Kernel) -> GroupSums:
    """Visit all pairs of rows [n, d] once, block by block, O(n^2 d) time and O(n) memory."""
    order = np.argsort(groups, kind="stable")
    exact = np.asarray(rows, dtype=np.float64)[order]
    member = groups[order]
    squares = np.einsum("nd,nd->n", exact, exact)
    present, starts = np.unique(member, return_index=True)
    sums = np.zeros((len(exact), size))
    own = np.empty(len(exact))
    with _one_thread():
        for start in range(0, len(exact), _BLOCK):
            stop = min(start + _BLOCK, len(exact))
            values = kernel(exact[start:stop] @ exact.T, squares[start:stop], squares)
            own[start:stop] = values[np.arange(stop - start), np.arange(start, stop)]
            sums[start:stop, present] = np.add.reduceat(values, starts, axis=1)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    counts = np.bincount(groups, minlength=size).astype(np.float64)
    return GroupSums(sums[back], own[back], groups, counts)


def linear() -> Kernel:
    """The inner product: the mean discrepancy is the distance of the means."""
    return lambda inner, _, __: inner


def polynomial(dims: int) -> Kernel:
    """(x y / d + 1)^3, that of the kernel inception distance (Binkowski et al. 2018)."""
    return lambda inner, _, __: np.asarray((inner / max(dims, 1) + 1) ** 3)


def gaussian(bandwidth: float) -> Kernel:
    """exp(-|x - y|^2 / (2 bandwidth^2))."""

    def kernel(inner: Floats, one: Floats, other: Floats) -> Floats:
        distance = np.maximum(one[:, None] + other[None, :] - 2 * inner, 0.0)
        return np.asarray(np.exp(distance / (-2 * bandwidth**2)))

    return kernel


def median_distance(rows: NDArray[Any]) -> float:
    """The median distance of pairs of the first 1,000 rows: the bandwidth of Gretton et al. 2012.

    1 where more than half of the rows are copies of one.
    """
    few = np.asarray(rows[:_MEDIAN_OF], dtype=np.float64)
    if len(few) < 2:
        return 1.0
    squares = np.einsum("nd,nd->n", few, few)
    distance = squares[:, None] + squares[None, :] - 2 * few @ few.T
    found = float(np.median(distance[np.triu_indices(len(few), 1)]))
    return float(np.sqrt(found)) if found > 1e-12 else 1.0


def discrepancies(found: GroupSums, ours: Masks, theirs: Masks) -> Values:
    """float64 [K]: the unbiased squared maximum mean discrepancy of two sets of groups a row.

    Mean kernel of different records within each side, minus twice the mean across; it can fall below 0.
    Source: Gretton et al. 2012, A kernel two-sample test.
    """
    table, own = found.tables()
    one, other = ours.astype(np.float64), theirs.astype(np.float64)
    n, m = one @ found.counts, other @ found.counts

    def within(mask: Floats, size: Floats) -> Floats:
        pairs = np.einsum("kg,gh,kh->k", mask, table, mask, optimize=True) - mask @ own
        return np.asarray(pairs / np.where(size > 1, size * (size - 1), np.nan))

    across = np.einsum("kg,gh,kh->k", one, table, other, optimize=True) / np.where(n * m > 0, n * m, np.nan)
    return np.asarray(within(one, n) + within(other, m) - 2 * across, dtype=np.float64)


def own_shares(found: GroupSums, mask: NDArray[np.bool_]) -> Floats:
    """float64 [n]: each record's kernel with itself as a share of that with all records under a mask [G]."""
    total = found.sums @ mask.astype(np.float64)
    return np.divide(found.own, total, out=np.zeros_like(total), where=total > 0)


def _one_thread() -> Any:
    """One thread: the same digits everywhere, and no waiting for others on a busy machine."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return threadpool_limits(1)
