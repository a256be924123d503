"""Which k vectors stand best for all of them: facility location, k-center, and how far they reach.

Knows unit rows only: no text, no encoder. Rows of zeros stand for nothing and are covered by nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

DENSE = 6_000
"""Rows up to which all similarities are held (144 MB); beyond, those of the nearest ones."""
NEAREST = 128
"""Similarities that are held of each row beyond that."""
_HELD = 16_000_000
"""Numbers of a block that are held at once: 64 MB in float32, 128 MB in float64."""


class Similarities(Protocol):
    """Similarities of all rows to one, at least 0."""

    @property
    def n(self) -> int:
        """The number of rows."""

    def gain(self, one: int, covered: Floats) -> float:
        """How much the sum of each row's best similarity grows when `one` is chosen."""

    def cover(self, one: int, covered: Floats) -> None:
        """Raise each row's best similarity to that to `one`."""

    def gains(self) -> Floats:
        """The gain of each row when nothing is chosen yet, float64 [n]."""


@dataclass(frozen=True, eq=False)
class Dense:
    """All similarities, float32 [n, n], column i those to row i."""

    table: Rows

    @property
    def n(self) -> int:
        return len(self.table)

    def gain(self, one: int, covered: Floats) -> float:
        return float(np.maximum(self.table[one] - covered, 0.0).sum())

    def cover(self, one: int, covered: Floats) -> None:
        np.maximum(covered, self.table[one], out=covered)

    def gains(self) -> Floats:
        zeros = np.zeros(self.n)
        return np.array([self.gain(one, zeros) for one in range(self.n)])


@dataclass(frozen=True, eq=False)
class Sparse:
    """Similarities of each row to its nearest ones: for each row which rows count it, and how similar.

    offsets int64 [n + 1]; rows int64 [E], similarity float64 [E].
    """

    offsets: I64
    rows: I64
    similarity: Floats

    @property
    def n(self) -> int:
        return len(self.offsets) - 1

    def gain(self, one: int, covered: Floats) -> float:
        part = slice(self.offsets[one], self.offsets[one + 1])
        return float(np.maximum(self.similarity[part] - covered[self.rows[part]], 0.0).sum())

    def cover(self, one: int, covered: Floats) -> None:
        part = slice(self.offsets[one], self.offsets[one + 1])
        covered[self.rows[part]] = np.maximum(covered[self.rows[part]], self.similarity[part])

    def gains(self) -> Floats:
        zeros = np.zeros(self.n)
        return np.array([self.gain(one, zeros) for one in range(self.n)])


def similarities(rows: Rows, *, dense: int = DENSE, nearest: int = NEAREST) -> Similarities:
    """Cosines of unit rows [n, d], negative ones as 0: all of them, or for many rows the nearest of each."""
    if len(rows) <= dense:
        return Dense(np.maximum(rows @ rows.T, 0.0))
    held = min(nearest, len(rows))
    near, cosine = [], []
    # Four: a similarity, its negative, and its place of twice their size.
    for part in _blocks(len(rows), 4 * len(rows)):
        block = rows[part] @ rows.T
        best = np.argpartition(-block, held - 1, axis=1)[:, :held]
        near.append(best)
        cosine.append(np.take_along_axis(block, best, axis=1))
    column = np.concatenate(near).ravel()
    owner = np.repeat(np.arange(len(rows)), held)
    values = np.maximum(np.concatenate(cosine).ravel().astype(np.float64), 0.0)
    order = np.lexsort((owner, column))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(column, minlength=len(rows)))])
    return Sparse(offsets, owner[order], values[order])


def facility_location(table: Similarities, k: int) -> I64:
    """The k rows of a greedy choice that covers all rows most: sum over rows of the best similarity.

    The value is at least 1 - 1/e of the best choice's (Nemhauser, Wolsey and Fisher 1978).
    Lazy (Minoux 1978): a gain can only shrink, so a row is looked at again only when its old gain is the
    largest; the choice is that of the plain greedy algorithm, ties to the first row.
    """
    covered = np.zeros(table.n)
    heap = [(-gain, row, 0) for row, gain in enumerate(table.gains().tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < k:
        _, row, seen = heapq.heappop(heap)
        if seen == len(chosen):
            chosen.append(row)
            table.cover(row, covered)
        else:
            heapq.heappush(heap, (-table.gain(row, covered), row, len(chosen)))
    return np.array(chosen, np.int64)


def k_center(rows: Rows, k: int) -> I64:
    """The k rows of a farthest-first walk from the row nearest the mean: their largest distance is small.

    The covering radius is at most twice the best one (Gonzalez 1985), and the packing radius is large.
    """
    n = len(rows)
    if n == 0 or k < 1:
        return np.zeros(0, np.int64)
    chosen = [int(np.argmax(rows @ rows.mean(axis=0)))]
    distance = to_row(rows, chosen[0])
    free = np.ones(n, np.bool_)
    free[chosen[0]] = False
    while len(chosen) < min(k, n):
        chosen.append(int(np.argmax(np.where(free, distance, -1.0))))
        free[chosen[-1]] = False
        np.minimum(distance, to_row(rows, chosen[-1]), out=distance)
    return np.array(chosen, np.int64)


def to_row(rows: Rows, one: int) -> Floats:
    """float64 [n]: the Euclidean distance of each row to one of them."""
    found = np.empty(len(rows))
    own = rows[one].astype(np.float64)
    for block in _blocks(*rows.shape):
        gaps = rows[block] - own
        found[block] = np.sqrt(np.einsum("nd,nd->n", gaps, gaps))
    return found


def _blocks(n: int, width: int) -> Iterator[slice]:
    """The rows that are looked at together, where each has `width` numbers."""
    step = max(1, _HELD // max(1, width))
    return (slice(start, start + step) for start in range(0, n, step))


@dataclass(frozen=True)
class Reach:
    """How well some rows stand for all of them.

    covering: the largest distance of any row to the nearest chosen one. packing: the smallest distance of two
    chosen rows. coverage: the mean cosine of a row to the nearest chosen one, negative ones as 0.
    """

    covering: float
    packing: float
    coverage: float


def reach(rows: Rows, chosen: I64) -> Reach:
    """Measure a choice, O(n k d) time."""
    some = rows[chosen].astype(np.float64)
    squares = np.einsum("nd,nd->n", some, some)
    covering, total, packing = 0.0, 0.0, np.inf
    place = np.full(len(rows), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    for part in _blocks(len(rows), 3 * len(chosen) + rows.shape[1]):
        block = rows[part].astype(np.float64)
        cosines = block @ some.T
        distance = np.einsum("nd,nd->n", block, block)[:, None] + squares - 2 * cosines
        total += float(np.maximum(cosines, 0.0).max(axis=1).sum())
        covering = max(covering, float(distance.min(axis=1).max()))
        own = np.flatnonzero(place[part] >= 0)
        distance[own, place[part][own]] = np.inf
        if len(own):
            packing = min(packing, float(distance[own].min()))
    return Reach(
        float(np.sqrt(max(covering, 0.0))), float(np.sqrt(max(packing, 0.0))), total / max(1, len(rows))
    )


def at_random(rows: Rows, k: int, *, draws: int = 5, seed: int = 0) -> tuple[Reach, ...]:
    """The reach of k rows drawn at random, `draws` times."""
    rng: Any = np.random.default_rng([seed, 0xD1E])
    return tuple(reach(rows, rng.choice(len(rows), k, replace=False)) for _ in range(draws))
