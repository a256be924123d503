"""Mean edit distances of all pairs of records, by their different texts. Knows no metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Values
from karat.auditing.sequences import Sequences, whole_hashes

_SURROGATES = 0xD800, 0x800  # code points that are no characters: where they begin, and how many


@dataclass(frozen=True)
class Texts:
    """Different texts as strings, one character a token, and for each record its text and group."""

    strings: tuple[str, ...]
    number: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def distinct(self) -> int:
        """How many different texts there are."""
        return len(self.strings)


def texts(some: Sequences, distinct: int) -> Texts:
    """The first records by hash, until they hold more than `distinct` different texts."""
    some = some.by_key()
    hashes = whole_hashes(some)
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    new = np.zeros(len(hashes), np.int64)
    new[first] = 1
    kept = int(np.searchsorted(np.cumsum(new), distinct, side="right"))  # the first record beyond the limit
    shown = np.sort(first[first < kept])
    place = np.full(len(first), -1, np.int64)
    place[number[shown]] = np.arange(len(shown))
    _, codes = np.unique(some.hashes, return_inverse=True)
    points = codes + 1
    points = np.where(points >= _SURROGATES[0], points + _SURROGATES[1], points)
    strings = tuple("".join(map(chr, points[some.offsets[i] : some.offsets[i + 1]])) for i in shown)
    return Texts(strings, place[number[:kept]], some.groups[:kept])


def mean_distance(held: Texts, masks: Masks) -> Values:
    """float64 [K]: the mean normalised distance over all pairs of records under each mask; nan for one."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    distances = cdist(held.strings, held.strings, scorer=Levenshtein.normalized_distance, dtype=np.float64)
    counts = np.zeros((masks.shape[1], held.distinct))
    np.add.at(counts, (held.groups, held.number), 1)
    weights = masks @ counts
    total = weights.sum(axis=1)
    apart = ((weights @ distances) * weights).sum(axis=1)
    return np.where(total > 1, apart / np.maximum(total * (total - 1), 1), np.nan)
