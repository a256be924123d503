"""Sums of cosines over pairs of records, from sums of vectors. Knows no encoder and no metric.

For vectors v of a set, the ordered pairs i != j have sum_{i != j} v_i . v_j = |sum v|^2 - sum |v|^2.
The last term is the pairs of a record with itself: n for unit vectors, less where some are zero
(an empty text has no direction; its cosine with anything counts as 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.auditing.base import Masks, Values
from karat.auditing.summaries import Embeddings


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of different records under each mask: their number and the sum of their cosines [K]."""

    count: Values
    total: Values

    def mean(self) -> Values:
        """float64 [K]: the mean cosine, nan where there is no pair."""
        return np.where(self.count > 0, self.total / np.maximum(self.count, 1), np.nan)

    def minus(self, other: Pairs) -> Pairs:
        """The pairs that are not among `other`."""
        return Pairs(self.count - other.count, self.total - other.total)


def all_pairs(vectors: Embeddings, masks: Masks, *, labelled: bool = False) -> Pairs:
    """All pairs of records, or of those that have a label."""
    columns = _labelled(vectors) if labelled else np.arange(len(vectors.labels))
    chosen = masks.astype(np.float64)
    n = chosen @ vectors.counts[:, columns].sum(axis=1)
    sums = chosen @ vectors.sums[:, columns].sum(axis=1)
    squares = chosen @ vectors.squares[:, columns].sum(axis=1)
    return Pairs(n * (n - 1), np.einsum("kd,kd->k", sums, sums) - squares)


def same_label(vectors: Embeddings, masks: Masks) -> Pairs:
    """The pairs of records that share a label; records without one are in no pair."""
    chosen = masks.astype(np.float64)
    count, total = np.zeros(len(masks)), np.zeros(len(masks))
    for column in _labelled(vectors):  # one label at a time: all labels at once would be K x L x d numbers
        n = chosen @ vectors.counts[:, column]
        sums = chosen @ vectors.sums[:, column]
        count += n * (n - 1)
        total += np.einsum("kd,kd->k", sums, sums) - chosen @ vectors.squares[:, column]
    return Pairs(count, total)


def _labelled(vectors: Embeddings) -> list[int]:
    return [column for column, name in enumerate(vectors.labels) if name != ""]
