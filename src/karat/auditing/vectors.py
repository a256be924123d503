"""Sums of text vectors by group and label: enough for every mean of pairwise cosines. Knows no metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
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
        texts = [text or "" for text in shard.texts.take(pa.array(chosen)).to_pylist()]
        labels = shard.label_array()[chosen]
        labels[labels == UNLABELLED] = ""
        names, column = np.unique(labels.astype(str), return_inverse=True)
        side = int(group[chosen].max()) + 1 if len(chosen) else 1
        rows = encoder.encode(texts).astype(np.float64)
        place = group[chosen].astype(np.int64)
        return _embedding_sums(encoder.id, tuple(map(str, names)), rows, place, column, side)

    def merge(self, one: Embeddings, other: Embeddings) -> Embeddings:
        return _stack_embeddings([one, other], [0, 0], max(len(one.counts), len(other.counts)))

    def stack(self, corpora: Sequence[Embeddings], offsets: Sequence[int], groups: int) -> Embeddings:
        return _stack_embeddings(corpora, offsets, groups)


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
