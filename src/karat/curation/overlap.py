"""How much of a test item each record holds: in n-grams, in rare words, in meaning. Knows no filter.

Near and semantic likeness have no natural bound. It is taken from the test set itself: its items are
different items of one domain, so the likeness of each to its nearest other item is what is found without any
leak. The bound is what a share `rate` of these exceed: the false alarms to expect in records of that domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.texts.closest import Weights, closest
from karat.texts.tokens import Tokens, fold, ngrams, tokenise

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Overlap:
    """For each record the share or likeness [n] of the test item [n] that it is closest to; -1 for none."""

    value: Floats
    item: I64


def words_of(texts: Sequence[str]) -> Tokens:
    """The words of texts without case, sentence marks and spaces."""
    return tokenise(fold(pa.array(list(texts), pa.large_string())))


def ngram_overlap(records: Tokens, items: Tokens, n: int, least: int) -> Overlap:
    """The largest share of an item's different n-grams that a record holds.

    An item of fewer than n words, but at least `least`, is sought as one n-gram of its own length, so that
    short items do not escape; shorter ones are left to the comparison of whole texts.
    """
    count = len(records.lengths)
    value, item = np.zeros(count), np.full(count, -1, np.int64)
    lengths = items.lengths
    for size in sorted({min(int(length), n) for length in lengths if length >= min(least, n)}):
        chosen = np.flatnonzero(lengths >= n if size == n else lengths == size)
        grams, owner = _distinct(*ngrams(items.take(chosen), size))
        if not len(grams):
            continue
        total = np.bincount(owner, minlength=len(chosen))
        by_gram = np.argsort(grams, kind="stable")
        grams, owner = grams[by_gram], owner[by_gram]
        found, where = _distinct(*ngrams(records, size))
        low, high = np.searchsorted(grams, found, side="left"), np.searchsorted(grams, found, side="right")
        hit = np.flatnonzero(high > low)
        repeats = (high - low)[hit]
        row = np.repeat(where[hit], repeats)
        place = np.repeat(low[hit] - (np.cumsum(repeats) - repeats), repeats) + np.arange(int(repeats.sum()))
        pair, shared = np.unique(row * len(chosen) + owner[place], return_counts=True)
        row, one = pair // len(chosen), pair % len(chosen)
        share = shared / total[one]
        order = np.lexsort((-one, share))  # the last one written has the largest share, then comes first
        better = order[share[order] > value[row[order]]]
        value[row[better]], item[row[better]] = share[better], chosen[one[better]]
    return Overlap(value, item)


def near_overlap(records: Tokens, items: Tokens, rate: float) -> tuple[Overlap, float]:
    """The likeness of the closest item by rare words (weighted Jaccard), and the bound of that rate."""
    # Words that no item has count for nothing: what a record holds beside an item does not hide it.
    weights = Weights.of(items)
    numbers = np.arange(len(items.lengths))
    own = closest(_heldout(items), items, weights, apart=(numbers, numbers))
    found = closest(records, items, weights)
    return Overlap(found.likeness, found.record), bound(own.likeness, rate)


def _heldout(items: Tokens) -> Tokens:
    """Each item as a record of the same domain is seen: without the words that no other item has."""
    owner = np.repeat(np.arange(len(items.lengths)), items.lengths)
    held, _ = _distinct(items.hashes, owner)
    names, count = np.unique(held, return_counts=True)
    stays = count[np.searchsorted(names, items.hashes)] > 1
    lengths = np.bincount(owner[stays], minlength=len(items.lengths))
    return Tokens(items.hashes[stays], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))


def semantic_overlap(
    records: NDArray[np.float32], items: NDArray[np.float32], rate: float, *, block: int = 1024
) -> tuple[Overlap, float]:
    """The cosine of the closest item, and the bound of that rate; unit rows [n, d] and [m, d]."""
    own = np.empty(len(items))
    for start in range(0, len(items), block):
        cosines = items[start : start + block] @ items.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1
        own[start : start + block] = cosines.max(axis=1)
    value, item = np.zeros(len(records)), np.full(len(records), -1, np.int64)
    for start in range(0, len(records), block):
        cosines = records[start : start + block] @ items.T
        item[start : start + block] = cosines.argmax(axis=1)
        value[start : start + block] = cosines.max(axis=1)
    return Overlap(value, item), bound(own, rate)


def bound(own: Floats, rate: float) -> float:
    """The likeness that a share `rate` of different items exceeds; a tie passes.

    own float64 [m]: the likeness of each item to its nearest other one. Among m + 1 alike,
    a new item exceeds the k-th with chance k / (m + 1), so k = floor(rate (m + 1)); 1 where that is 0.
    """
    place = int(np.floor(rate * (len(own) + 1)))
    if place < 1:
        return 1.0
    return float(np.nextafter(np.sort(own)[-place], 2.0))


def _distinct(hashes: U64, owner: I64) -> tuple[U64, I64]:
    """Each hash once for each owner."""
    if not len(hashes):
        return hashes, owner
    order = np.lexsort((hashes, owner))
    hashes, owner = hashes[order], owner[order]
    new = np.r_[True, (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])]
    return hashes[new], owner[new]
