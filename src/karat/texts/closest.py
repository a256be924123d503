"""For each record the closest record of a corpus, by the rare words they share. Knows words as hashes only.

Likeness is the weighted Jaccard coefficient of the sets of words: what two records share over what they hold
together, each word weighing log(N / records that hold it), so that names and numbers count and "the" does not
(Sparck Jones 1972 for the weights; Ioffe 2010 for the coefficient). Every pair is looked at: no hashing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.texts.tokens import Tokens

I64 = NDArray[np.int64]
Floats = NDArray[np.float64]
_CELLS = 1 << 23  # pairs looked at together


@dataclass(frozen=True)
class Weights:
    """The weight of each word: vocabulary uint64 [V], sorted; weights float64 [V] in nats."""

    vocabulary: NDArray[np.uint64]
    weights: Floats

    @staticmethod
    def of(*corpora: Tokens) -> Weights:
        """From the records of all corpora together."""
        held = np.concatenate([_sets(one)[0] for one in corpora])
        vocabulary, count = np.unique(held, return_counts=True)
        total = sum(len(one.lengths) for one in corpora)
        return Weights(vocabulary, np.log(total / count))

    def matrix(self, words: Tokens) -> Any:
        """Sparse bool-like [n, V]: which record holds which word; words that no corpus knew are left out."""
        from scipy.sparse import csr_matrix

        hashes, owner = _sets(words)
        at = np.minimum(np.searchsorted(self.vocabulary, hashes), max(0, len(self.vocabulary) - 1))
        known = self.vocabulary[at] == hashes if len(self.vocabulary) else np.zeros(0, np.bool_)
        cells = (owner[known], at[known])
        return csr_matrix(
            (np.ones(int(known.sum())), cells), shape=(len(words.lengths), len(self.vocabulary))
        )


@dataclass(frozen=True)
class Closest:
    """For each record the closest one of the corpus: its likeness, and which it is (-1 where none is)."""

    likeness: Floats
    record: I64


def closest(
    words: Tokens, corpus: Tokens, weights: Weights, *, apart: tuple[I64, I64] | None = None
) -> Closest:
    """The closest record of the corpus, for each record.

    apart: the groups of the records [n] and of the corpus [m]; then the closest one of another group.
    """
    n, m = len(words.lengths), len(corpus.lengths)
    likeness = np.zeros(n)
    record = np.full(n, -1, np.int64)
    if n == 0 or m == 0:
        return Closest(likeness, record)
    ours, theirs = weights.matrix(words), weights.matrix(corpus)
    own, total = ours @ weights.weights, theirs @ weights.weights
    weighted, turned = ours.multiply(weights.weights).tocsr(), theirs.T.tocsr()
    step = max(1, _CELLS // m)
    for low in range(0, n, step):
        shared = (weighted[low : low + step] @ turned).tocsr()
        rows = np.repeat(np.arange(low, low + shared.shape[0]), np.diff(shared.indptr))
        union = own[rows] + total[shared.indices] - shared.data
        alike = shared.data / np.maximum(union, 1e-12)
        if apart is not None:
            alike[apart[0][rows] == apart[1][shared.indices]] = 0.0
        filled = np.flatnonzero(np.diff(shared.indptr))
        best = np.maximum.reduceat(alike, shared.indptr[filled]) if len(filled) else np.zeros(0)
        likeness[low + filled] = best
        first = np.flatnonzero((alike == likeness[rows]) & (alike > 0))[::-1]
        record[rows[first]] = shared.indices[first]  # the last one written is the first of the corpus
    return Closest(likeness, record)


def _sets(words: Tokens) -> tuple[NDArray[np.uint64], I64]:
    """The different words of each record, and the record that each is of."""
    owner = np.repeat(np.arange(len(words.lengths)), words.lengths)
    order = np.lexsort((words.hashes, owner))
    hashes, owner = words.hashes[order], owner[order]
    if len(hashes) == 0:
        return hashes, owner
    new = np.r_[True, (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])]
    return hashes[new], owner[new]
