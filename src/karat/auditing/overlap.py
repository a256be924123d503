"""Which records of a test set stand in a training set: whole, in long n-grams, or nearly. Knows no metric.

Every record is looked up twice: in the training set, and among the other records of its own set. What is found
there too is what people say anyway, and shows how many finds are to be expected without any leak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from karat.auditing import statistics as stats
from karat.auditing.near_duplicates import shingles
from karat.auditing.neighbours import Sets, classes, sets_of, similar_pairs
from karat.auditing.sequences import I64, U64, Sequences, whole_hashes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Overlap:
    """For each test record how much of it stands in the training set, and in the other test records.

    shares, elsewhere float64 [n]: of its n-grams; or the Jaccard coefficient of the nearest record, 0 below
    the threshold; or 1 for a whole text, else 0.
    """

    shares: Floats
    elsewhere: Floats


def whole_overlap(test: Sequences, train: Sequences, others: Sequences) -> Overlap:
    """Records whose words stand in the same order in a training record that has no others."""
    own = whole_hashes(test)
    said = test.lengths > 0  # nothing is no copy of nothing
    names, counts = np.unique(whole_hashes(others), return_counts=True)
    place = np.minimum(np.searchsorted(names, own), len(names) - 1)
    twice = (names[place] == own) & (counts[place] > 1)
    return Overlap(
        (np.isin(own, whole_hashes(train)) & said).astype(np.float64), (twice & said).astype(np.float64)
    )


def ngram_overlap(test: Sequences, train: Sequences, others: Sequences, n: int) -> Overlap:
    """The share of the different n-grams of each record that the training set has; a short record counts whole.

    others: all records of the test set, among them those of `test`
    """
    sets = _sets(test, n)
    known, number = np.unique(sets.hashes, return_inverse=True)
    owner = np.repeat(np.arange(len(sets)), sets.sizes)
    have = np.zeros(len(known), np.bool_)
    for which, _ in _met(known, train, n):
        have[which] = True
    holders = np.zeros(len(known), np.int64)
    for which, records in _met(known, others, n):
        once = np.unique((which.astype(np.uint64) << np.uint64(32)) | records.astype(np.uint64))
        holders += np.bincount((once >> np.uint64(32)).astype(np.int64), minlength=len(known))
    many = np.maximum(sets.sizes, 1)
    found, again = (
        np.bincount(owner, weights=one[number], minlength=len(sets)) for one in (have, holders > 1)
    )
    said = test.lengths > 0
    return Overlap(np.where(said, found / many, 0.0), np.where(said, again / many, 0.0))


def near_overlap(test: Sequences, train: Sequences, n: int, threshold: float) -> Overlap:
    """The largest Jaccard coefficient of the n-grams of each record with those of a training record.

    Among the other test records only those of `test` are looked through.
    """
    mine = _sets(test, n)
    theirs = _candidates(np.unique(mine.hashes), train, n, threshold)
    whole = Sets(
        np.concatenate([mine.hashes, theirs.hashes]),
        np.concatenate([mine.offsets, theirs.offsets[1:] + mine.offsets[-1]]),
    )
    number, first = classes(whole)
    pairs = similar_pairs(whole.take(first), threshold)
    counts = [np.bincount(part, minlength=len(first)) for part in (number[: len(mine)], number[len(mine) :])]
    said = test.lengths > 0
    found = []
    for held, own in ((counts[1], 0), (counts[0], 1)):
        near = (held > own).astype(np.float64)  # an equal one: of the test set, one besides itself
        np.maximum.at(near, pairs.one, np.where(held[pairs.other] > 0, pairs.jaccard, 0.0))
        np.maximum.at(near, pairs.other, np.where(held[pairs.one] > 0, pairs.jaccard, 0.0))
        found.append(np.where(said, near[number[: len(mine)]], 0.0))
    return Overlap(found[0], found[1])


def partners(test: Sequences, train: Sequences, n: int) -> I64:
    """int64 [n]: for each test record the training record that has most of its n-grams; -1 for none."""
    sets = _sets(test, n)
    known, number = np.unique(sets.hashes, return_inverse=True)
    order = np.argsort(number, kind="stable")
    owner = np.repeat(np.arange(len(sets)), sets.sizes)[order]
    begins = np.searchsorted(number[order], np.arange(len(known) + 1))
    best, most = np.full(len(sets), -1, np.int64), np.zeros(len(sets), np.int64)
    for which, records in _met(known, train, n):
        many = np.diff(begins)[which]
        at = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
        asked = owner[np.repeat(begins[which], many) + at].astype(np.uint64)
        pairs, counts = np.unique(
            (asked << np.uint64(32)) | np.repeat(records, many).astype(np.uint64), return_counts=True
        )
        record, partner = (pairs >> np.uint64(32)).astype(np.int64), pairs & np.uint64((1 << 32) - 1)
        for i in np.lexsort((partner, counts)):  # the last one written has the most
            if counts[i] >= most[record[i]]:
                best[record[i]], most[record[i]] = int(partner[i]), counts[i]
    return best


def _sets(some: Sequences, n: int) -> Sets:
    parts = []
    for _, tokens in some.chunks():
        hashes, owner = shingles(tokens, n)
        parts.append(sets_of(hashes, owner, len(tokens.offsets) - 1))
    if not parts:
        return Sets(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    sizes = np.concatenate([part.sizes for part in parts])
    hashes = np.concatenate([part.hashes for part in parts])
    return Sets(hashes, np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]))


def _met(known: U64, some: Sequences, n: int) -> Iterator[tuple[I64, I64]]:
    """The numbers of the known n-grams that occur, and in which records; distinct in each, some at a time."""
    for start, tokens in some.chunks():
        hashes, owner = shingles(tokens, n)
        sets = sets_of(hashes, owner, len(tokens.offsets) - 1)
        owner = np.repeat(np.arange(len(sets)), sets.sizes)
        order = np.argsort(sets.hashes)  # looked up in order, which a cache likes
        hashes, owner = sets.hashes[order], owner[order]
        which = np.minimum(np.searchsorted(known, hashes), max(len(known) - 1, 0))
        same = known[which] == hashes if len(known) else np.zeros(len(hashes), np.bool_)
        yield which[same], owner[same] + start


def _candidates(known: U64, some: Sequences, n: int, threshold: float) -> Sets:
    """The sets of the records that share enough known n-grams to be near any record."""
    kept: list[Sets] = []
    for _, tokens in some.chunks():
        hashes, owner = shingles(tokens, n)
        sets = sets_of(hashes, owner, len(tokens.offsets) - 1)
        owner = np.repeat(np.arange(len(sets)), sets.sizes)
        order = np.argsort(sets.hashes)
        which = np.minimum(np.searchsorted(known, sets.hashes[order]), max(len(known) - 1, 0))
        same = known[which] == sets.hashes[order] if len(known) else np.zeros(len(order), np.bool_)
        shared = np.bincount(owner[order][same], minlength=len(sets))
        kept.append(sets.take(np.flatnonzero((shared > 0) & (shared >= threshold * sets.sizes - 1e-9))))
    sizes = np.concatenate([np.zeros(1, np.int64), *(part.sizes for part in kept)])
    return Sets(np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in kept)]), np.cumsum(sizes))


@dataclass(frozen=True)
class Detection:
    """How well records were found whose truth is known, with Wilson's intervals."""

    precision: float
    recall: float
    precision_interval: tuple[float, float] | None
    recall_interval: tuple[float, float] | None


def detection(found: ArrayLike, truth: ArrayLike) -> Detection:
    """Precision and recall of records that were found [n] against those that are truly overlapped [n]."""
    said, true = np.asarray(found, np.bool_), np.asarray(truth, np.bool_)
    hits, named, there = int((said & true).sum()), int(said.sum()), int(true.sum())
    return Detection(
        hits / named if named else float("nan"),
        hits / there if there else float("nan"),
        stats.wilson(hits, named),
        stats.wilson(hits, there),
    )
