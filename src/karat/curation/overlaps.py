"""How alike two texts are by their character n-grams: chrF, the figures of sacreBLEU. Knows no record.

Many pairs are compared at once: the n-grams of each text are counted once, and what two texts share is a
product of sparse rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ORDER = 6
"""the longest n-grams"""
BETA = 2
"""how many times recall weighs as much as precision"""
_BLOCK = 4_000_000  # n-grams of pairs held at once


def chrf(text: str, reference: str) -> float:
    """Sentence chrF2 from 0 to 100 (Popovic 2015, 6-grams of characters, beta 2), as sacreBLEU gives it."""
    return float(chrfs([text], [reference])[0])


def chrfs(texts: Sequence[str], references: Sequence[str]) -> Floats:
    """The chrF of each text [n] with the reference at its place."""
    n = len(texts)
    return chrf_pairs([*texts, *references], np.arange(n), np.arange(n, 2 * n))


def chrf_pairs(texts: Sequence[str], one: Ints, other: Ints) -> Floats:
    """The chrF of the texts at `one` [n], each with the text at `other` [n] as its reference."""
    numbers: dict[str, int] = {}
    place = np.array([numbers.setdefault("".join(text.split()), len(numbers)) for text in texts], np.int64)
    lengths = np.array([len(text) for text in numbers], np.int64)
    if not len(one):
        return np.empty(0)
    # chrF needs matches only, which are the same both ways: each pair of different texts is counted once.
    size = max(1, len(numbers))
    low, high = np.minimum(place[one], place[other]), np.maximum(place[one], place[other])
    pairs, back = np.unique(low * size + high, return_inverse=True)
    first, second = pairs // size, pairs % size
    tables = _tables(list(numbers))
    matches = np.empty((len(pairs), ORDER))
    longest = np.cumsum(np.maximum(lengths[first], 1))
    for rows in np.split(np.arange(len(pairs)), np.flatnonzero(np.diff(longest // _BLOCK)) + 1):
        for n, table in enumerate(tables):
            both = table[first[rows]].multiply(table[second[rows]])
            matches[rows, n] = np.asarray(both.sum(axis=1)).ravel()
    counts = np.maximum(lengths[:, None] - np.arange(ORDER), 0).astype(np.float64)  # n-grams of each text
    return _f_scores(counts[place[one]], counts[place[other]], matches[back.ravel()])


def _f_scores(said: Floats, wanted: Floats, matches: Floats) -> Floats:
    """chrF of counts [n, orders]; orders that either side lacks are left out of the means."""
    both = (said > 0) & (wanted > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = np.where(both, matches / np.maximum(said, 1), 0).sum(axis=1) / orders
    recall = np.where(both, matches / np.maximum(wanted, 1), 0).sum(axis=1) / orders
    below = BETA**2 * precision + recall
    return np.asarray(100 * (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1))


def _tables(texts: Sequence[str]) -> list[Any]:
    """For each n a sparse table [texts, features] of ones, one for the k-th occurrence of an n-gram.

    So the product of two rows is the sum over n-grams of the smaller of both counts.
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    total = int(lengths.sum())
    letters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    letters = np.unique(letters, return_inverse=True)[1].ravel()
    owner = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(total)  # characters from here to the end
    base = int(letters.max()) + 1 if total else 1
    starts, grams, found = np.arange(total), letters, []
    for n in range(1, ORDER + 1):
        if n > 1:
            inside = left[starts] >= n
            starts = starts[inside]
            grams = np.unique(grams[inside] * base + letters[starts + n - 1], return_inverse=True)[1].ravel()
        found.append(_table(owner[starts], grams, len(texts)))
    return found


def _table(rows: Ints, grams: Ints, n: int) -> Any:
    """The sparse table [n, features] of n-grams that occur in texts `rows`, which ascend."""
    import scipy.sparse

    kinds = int(grams.max()) + 1 if len(grams) else 1
    keys = np.sort(rows * kinds + grams)
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[1:] != keys[:-1]
    places = np.arange(len(keys))
    occurrence = places - np.maximum.accumulate(np.where(new, places, 0))
    width = int(occurrence.max()) + 1 if len(keys) else 1
    ends = np.r_[0, np.cumsum(np.bincount(rows, minlength=n))]
    columns = keys % kinds * width + occurrence  # ascending in each row
    return scipy.sparse.csr_matrix((np.ones(len(keys)), columns, ends), shape=(n, kinds * width))
