"""Text vectors as sums, as second moments and as a sample: what embedding metrics ask for. Knows no metric.

embeddings   sums by group and label: every mean of pairwise cosines
moments      sums and Gram matrices by group: means, covariances, eigenvalues
vectors      the vectors of the first records by hash: what needs pairs of records
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Need
from karat.auditing.shards import OUT, UNLABELLED, Shard


@dataclass(frozen=True)
class Embeddings:
    """Sums of unit vectors a group and label: what every mean of pairwise cosines is made of.

    labels [L] ("" holds records without a label), counts int64 [G, L], sums float64 [G, L, d] of the
    vectors, squares float64 [G, L] of their squared lengths (the pairs of a record with itself).
    """

    encoder: str
    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    def window(self, start: int, stop: int) -> Embeddings:
        """The same for a range of groups."""
        rows = slice(start, stop)
        return Embeddings(self.encoder, self.labels, self.counts[rows], self.sums[rows], self.squares[rows])


class EmbeddingsKind:
    """Sums of the vectors of an encoder (setting encoder), which was fitted before the pass began."""

    def collect(self, shard: Shard, need: Need) -> Embeddings:
        encoder = shard.encoders[str(need.get("encoder", ""))]
        group = shard.groups(need)
        chosen = np.flatnonzero(group != OUT)
        labels = shard.label_array()[chosen]
        labels[labels == UNLABELLED] = ""
        names, column = np.unique(labels.astype(str), return_inverse=True)
        side = int(group[chosen].max()) + 1 if len(chosen) else 1
        rows = shard.vectors(str(need.get("encoder", "")))[chosen].astype(np.float64)
        place = group[chosen].astype(np.int64)
        return _embedding_sums(encoder.id, tuple(map(str, names)), rows, place, column, side)

    def merge(self, one: Embeddings, other: Embeddings) -> Embeddings:
        return _stack_embeddings([one, other], [0, 0], max(len(one.counts), len(other.counts)))

    def stack(self, corpora: Sequence[Embeddings], offsets: Sequence[int], groups: int) -> Embeddings:
        return _stack_embeddings(corpora, offsets, groups)


@dataclass(frozen=True)
class Moments:
    """First and second moments a group: counts int64 [G], sums float64 [G, d], grams float64 [G, d, d]."""

    encoder: str
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    grams: NDArray[np.float64]

    def window(self, start: int, stop: int) -> Moments:
        """The same for a range of groups."""
        return Moments(self.encoder, self.counts[start:stop], self.sums[start:stop], self.grams[start:stop])


class MomentsKind:
    """Sums of vectors and of their outer products (setting encoder), one a group."""

    def collect(self, shard: Shard, need: Need) -> Moments:
        name = str(need.get("encoder", ""))
        group = shard.groups(need)
        chosen = group != OUT
        rows = shard.vectors(name)[chosen].astype(np.float64)
        member = group[chosen].astype(np.int64)
        side = int(member.max()) + 1 if len(member) else 1
        width = rows.shape[1] if rows.ndim == 2 else 0
        sums, grams = np.zeros((side, width)), np.zeros((side, width, width))
        for one in np.unique(member):
            mine = rows[member == one]
            sums[one] = mine.sum(axis=0)
            grams[one] = mine.T @ mine
        counts = np.bincount(member, minlength=side)
        return Moments(shard.encoders[name].id, counts, sums, grams)

    def merge(self, one: Moments, other: Moments) -> Moments:
        return _stack_moments([one, other], [0, 0], max(len(one.counts), len(other.counts)))

    def stack(self, corpora: Sequence[Moments], offsets: Sequence[int], groups: int) -> Moments:
        return _stack_moments(corpora, offsets, groups)


def _stack_moments(corpora: Sequence[Moments], offsets: Sequence[int], groups: int) -> Moments:
    width = max(part.sums.shape[1] for part in corpora)
    counts = np.zeros(groups, np.int64)
    sums, grams = np.zeros((groups, width)), np.zeros((groups, width, width))
    for part, shift in zip(corpora, offsets, strict=True):
        if part.sums.shape[1]:
            rows = slice(shift, shift + len(part.counts))
            counts[rows] += part.counts
            sums[rows] += part.sums
            grams[rows] += part.grams
    return Moments(corpora[0].encoder, counts, sums, grams)


@dataclass(frozen=True)
class Vectors:
    """The vectors of the first `limit` records by hash: rows float32 [n, d], groups, keys and labels [n]."""

    encoder: str
    rows: NDArray[np.float32]
    groups: NDArray[np.int64]
    keys: NDArray[np.uint64]
    labels: tuple[str | None, ...]
    limit: int
    side: int

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def worked_out(self) -> dict[Any, Any]:
        """What a metric has worked out of these vectors and asks for again: distances, clusters."""
        return {}

    def window(self, start: int, stop: int) -> Vectors:
        """The records of a range of groups, in the order of their hashes."""
        chosen = np.flatnonzero((self.groups >= start) & (self.groups < stop))
        return self.take(chosen[np.argsort(self.keys[chosen], kind="stable")], start)

    def take(self, chosen: NDArray[np.int64], shift: int = 0) -> Vectors:
        """The records at these positions."""
        return replace(
            self,
            rows=self.rows[chosen],
            groups=self.groups[chosen] - shift,
            keys=self.keys[chosen],
            labels=tuple(self.labels[i] for i in chosen),
        )

    def first(self) -> Vectors:
        """At most `limit` records of each side (0: all)."""
        if self.limit <= 0 or len(self) <= self.limit:
            return self
        order = np.argsort(self.keys, kind="stable")
        segment = self.groups[order] // self.side
        return self.take(np.concatenate([order[segment == s][: self.limit] for s in np.unique(segment)]))

    def joined(self, other: Vectors) -> Vectors:
        """The records of both."""
        wide = [one.rows for one in (self, other) if len(one)] or [self.rows]
        return replace(
            self,
            rows=np.concatenate(wide),
            groups=np.concatenate([self.groups, other.groups]),
            keys=np.concatenate([self.keys, other.keys]),
            labels=self.labels + other.labels,
        )


class VectorsKind:
    """The vectors (setting encoder) of the first `limit` records by hash (0: all of them)."""

    def collect(self, shard: Shard, need: Need) -> Vectors:
        name = str(need.get("encoder", ""))
        group = shard.groups(need)
        chosen = np.flatnonzero(group != OUT)
        labels = shard.labels
        whole = Vectors(
            shard.encoders[name].id,
            shard.vectors(name)[chosen],
            group[chosen].astype(np.int64),
            shard.keys[chosen],
            (None,) * len(chosen) if labels is None else tuple(labels[i] for i in chosen),
            int(need.get("limit", 0)),
            shard.side(need),
        )
        return whole.first()

    def merge(self, one: Vectors, other: Vectors) -> Vectors:
        return one.joined(other).first()

    def stack(self, corpora: Sequence[Vectors], offsets: Sequence[int], groups: int) -> Vectors:
        total: Vectors | None = None
        for part, shift in zip(corpora, offsets, strict=True):
            moved = replace(part, groups=part.groups + shift)
            total = moved if total is None else total.joined(moved)
        assert total is not None
        return total


def _embedding_sums(
    encoder: str,
    names: tuple[str, ...],
    rows: NDArray[np.float64],
    group: NDArray[np.int64],
    column: NDArray[np.int64],
    side: int,
) -> Embeddings:
    cell = group * max(len(names), 1) + column
    shape = (side, len(names))
    size = side * len(names)
    order = np.argsort(cell, kind="stable")
    sums = np.zeros((size, rows.shape[1] if rows.ndim == 2 else 0))
    if len(order):
        starts = np.flatnonzero(np.r_[True, np.diff(cell[order]) > 0])
        sums[cell[order][starts]] = np.add.reduceat(rows[order], starts, axis=0)
    norms = np.einsum("nd,nd->n", rows, rows)
    squares = np.bincount(cell, weights=norms, minlength=size).astype(np.float64)
    counts = np.bincount(cell, minlength=size)
    return Embeddings(encoder, names, counts.reshape(shape), sums.reshape(*shape, -1), squares.reshape(shape))


def _stack_embeddings(corpora: Sequence[Embeddings], offsets: Sequence[int], groups: int) -> Embeddings:
    names = sorted({name for part in corpora for name in part.labels})
    width = max(part.sums.shape[2] for part in corpora)
    counts = np.zeros((groups, len(names)), np.int64)
    sums = np.zeros((groups, len(names), width))
    squares = np.zeros((groups, len(names)))
    for part, shift in zip(corpora, offsets, strict=True):
        if part.counts.size == 0:
            continue
        rows = np.arange(len(part.counts)) + shift
        columns = np.array([names.index(name) for name in part.labels])
        cells = np.ix_(rows, columns)
        counts[cells] += part.counts
        sums[cells] += part.sums
        squares[cells] += part.squares
    return Embeddings(corpora[0].encoder, tuple(names), counts, sums, squares)
