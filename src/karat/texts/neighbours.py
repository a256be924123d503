"""Pairs of sets of shingles that are nearly the same: an exact join, and MinHash where that is too dear.

Knows hashes only. The exact join rests on prefix filtering (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma
and Srikant 2007): two sets with a Jaccard coefficient of t share at least ceil(t |x|) shingles, so each pair
meets in the |x| - ceil(t |x|) + 1 rarest shingles of either. In human text most of these occur nowhere else,
and then a record is out without having met anyone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.texts.tokens import Tokens, mix, ngrams

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Floats = NDArray[np.float64]

_BLOCK = 1 << 21  # pairs looked at together
_MOST = 2_000  # candidates that one shingle of one record gives at most
_DEAR = 300_000_000  # candidates, repeats counted, from which MinHash takes over
_HASHES = 128
_TEXTS = 1 << 16  # texts whose shingles are sorted together
_EPS = 1e-9
_STEP = np.uint64(0xD6E8FEB86659FD93)
_TABLE = 1 << 25  # bytes
_FEW = 64


@dataclass(frozen=True)
class Sets:
    """Sets of shingles: hashes uint64 [S], sorted and distinct within each set; offsets int64 [n + 1]."""

    hashes: U64
    offsets: I64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> I64:
        """int64 [n]: the number of shingles of each set."""
        return np.diff(self.offsets)

    def take(self, rows: I64) -> Sets:
        """These sets, in this order."""
        lengths = self.sizes[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        moved = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Sets(self.hashes[moved], offsets)

    def joined(self, other: Sets) -> Sets:
        """These sets, then the others."""
        offsets = np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return Sets(np.concatenate([self.hashes, other.hashes]), offsets)


@dataclass(frozen=True)
class Pairs:
    """Pairs of sets that are alike: one, other int64 [P] with one < other, jaccard float64 [P], and how."""

    one: I64
    other: I64
    jaccard: Floats
    recall: float = 1.0
    """The chance that a pair at exactly the threshold is found; 1 for the exact join."""
    cut: bool = False
    """Whether some record had more candidates than are looked at, so that pairs may be missing."""


def shingles(tokens: Tokens, n: int) -> tuple[U64, I64]:
    """The n-grams of each text and the text that each is in; a shorter text is one shingle as a whole."""
    hashes, owner = ngrams(tokens, n)
    lengths = tokens.lengths
    short, texts = [hashes], [owner]
    for length in range(n):
        rows = np.flatnonzero(lengths == length)
        whole = np.full(len(rows), length, np.uint64)
        for step in range(length):
            whole = whole * _STEP + tokens.hashes[tokens.offsets[:-1][rows] + step]
        short.append(mix(mix(whole)))
        texts.append(rows)
    hashes, owner = np.concatenate(short), np.concatenate(texts)
    order = np.argsort(owner, kind="stable")
    return hashes[order], owner[order]


def sets_of(hashes: U64, owner: I64, texts: int) -> Sets:
    """The distinct shingles of each of `texts` texts, from all shingles and the text of each, ascending.

    Text and hash are sorted as one number, which leaves 48 bits of the hash: among ten million different
    shingles less than one pair collides.
    """
    kept, lengths = [], []
    for low in range(0, texts, _TEXTS):
        high = min(low + _TEXTS, texts)
        first, last = np.searchsorted(owner, [low, high])
        packed = ((owner[first:last] - low).astype(np.uint64) << np.uint64(48)) | (
            hashes[first:last] >> np.uint64(16)
        )
        packed.sort()
        packed = packed[np.concatenate([np.ones(min(1, len(packed)), np.bool_), packed[1:] != packed[:-1]])]
        kept.append(packed << np.uint64(16))
        lengths.append(np.bincount((packed >> np.uint64(48)).astype(np.int64), minlength=high - low))
    if not kept:
        return Sets(hashes[:0], np.zeros(1, np.int64))
    return Sets(
        np.concatenate(kept), np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])
    )


def classes(sets: Sets) -> tuple[I64, I64]:
    """The number of the class of equal sets that each set is in, and one set of each class."""
    sizes = sets.sizes
    scattered = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mix(sets.hashes))])  # modulo 2**64
    sums = scattered[sets.offsets[1:]] - scattered[sets.offsets[:-1]]
    signature = mix(sums ^ mix(sizes.astype(np.uint64)))
    _, first, number = np.unique(signature, return_index=True, return_inverse=True)
    return number.astype(np.int64), first.astype(np.int64)


def similar_pairs(sets: Sets, threshold: float, *, method: str = "auto") -> Pairs:
    """All pairs of sets whose Jaccard coefficient is at least `threshold`; equal sets should be one.

    method: exact, minhash, or auto, which is exact unless there are too many candidates
    """
    index = _Index.of(sets, threshold)
    if method == "minhash" or (method == "auto" and index.expected > _DEAR):
        return _minhash(sets, threshold)
    return index.pairs()


# ---------------------------------------------------------------------------------- the exact join


@dataclass(frozen=True)
class _Index:
    """Sets that can have a partner, their shingles numbered from the rarest on.

    rows int64 [n]: the number of each set among all; sizes: its shingles, those that no other set has too.
    shingles int64 [E], offsets [n + 1]: the numbers of those that others have, ascending within a set.
    prefix int64 [n]: how many of these are in the prefix.
    """

    rows: I64
    sizes: I64
    shingles: I64
    offsets: I64
    prefix: I64
    threshold: float
    expected: int = 0

    @staticmethod
    def of(sets: Sets, threshold: float) -> _Index:
        sizes = sets.sizes
        need = np.ceil(threshold * sizes - _EPS).astype(np.int64)
        rows = np.flatnonzero(sizes > 0)
        alive = sets.take(rows) if len(rows) < len(sets) else sets
        while True:
            number, held = _numbered(alive.hashes)
            owner = np.repeat(np.arange(len(alive)), alive.sizes)
            shared = np.bincount(owner, weights=held > 1, minlength=len(alive)).astype(np.int64)
            stays = shared >= np.maximum(need[rows], 1)
            # dropping records makes shingles rarer, which drops more records; a few per cent are not worth it
            if stays.sum() >= 0.9 * len(rows):
                break
            rows = rows[stays]
            alive = alive.take(np.flatnonzero(stays))
        kept = held > 1
        rank = _by_rarity(number[kept], held[kept])
        order = np.argsort((owner[kept].astype(np.uint64) << np.uint64(32)) | rank.astype(np.uint64))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(shared)])
        alone = alive.sizes - shared
        prefix = np.clip(alive.sizes - need[rows] + 1 - alone, 0, shared)
        index = _Index(
            rows,
            alive.sizes,
            rank[order],
            offsets,
            prefix,
            threshold,
        )
        return index._counted()

    def _counted(self) -> _Index:
        *_, low, high = self._postings
        object.__setattr__(self, "expected", int((high - low).sum()))
        return self

    @property
    def _postings(self) -> tuple[I64, I64, I64, I64, I64]:
        """Postings by shingle and size: (record of each, then for each entry of a prefix, by record: record,
        its place among the postings, where its candidates begin and end)."""
        place = np.arange(len(self.shingles)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        owner = np.repeat(np.arange(len(self.rows)), np.diff(self.offsets))
        chosen = place < self.prefix[owner]
        owner, shingle = owner[chosen], self.shingles[chosen]
        order = np.lexsort((owner, self.sizes[owner], shingle))
        record = owner[order]
        packed = (shingle[order].astype(np.uint64) << np.uint64(32)) | self.sizes[record].astype(np.uint64)
        least = np.ceil(self.threshold * self.sizes[record] - _EPS).astype(np.uint64)
        high = np.arange(len(record))
        low = np.searchsorted(packed, (packed >> np.uint64(32) << np.uint64(32)) | least)
        by_record = np.argsort(record, kind="stable")
        return record, record[by_record], by_record, np.minimum(low, high)[by_record], high[by_record]

    def pairs(self) -> Pairs:
        """The join: candidates that share a shingle of both prefixes, then the true overlap of each."""
        record, probe, _, low, high = self._postings
        cut = bool((high - low > _MOST).any())
        low = np.maximum(low, high - _MOST)
        found: list[tuple[I64, I64, Floats]] = []
        running = np.concatenate([np.zeros(1, np.int64), np.cumsum(high - low)])
        ends = np.searchsorted(probe, np.arange(len(self.rows)), side="right")  # entries up to each record
        packed = (
            np.repeat(np.arange(len(self.rows)), np.diff(self.offsets)).astype(np.uint64) << np.uint64(32)
        ) | self.shingles.astype(np.uint64)
        start = 0
        while start < len(probe):
            stop = int(np.searchsorted(running, running[start] + _BLOCK, side="right")) - 1
            stop = int(ends[probe[min(max(stop, start + 1), len(probe)) - 1]])  # whole records
            counts = high[start:stop] - low[start:stop]
            first = np.repeat(probe[start:stop], counts)
            within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
            second = record[np.repeat(low[start:stop], counts) + within]
            found.append(self._verified(first, second, packed))
            start = stop
        one, other, jaccard = (np.concatenate(part) for part in zip(*found)) if found else _none()
        one, other = self.rows[one], self.rows[other]
        return Pairs(np.minimum(one, other), np.maximum(one, other), jaccard, cut=cut)

    def _verified(self, first: I64, second: I64, packed: U64) -> tuple[I64, I64, Floats]:
        shared = np.diff(self.offsets)
        most = np.minimum(shared[first], shared[second])
        hope = most * (1 + self.threshold) >= self.threshold * (self.sizes[first] + self.sizes[second]) - _EPS
        both = np.unique((first[hope].astype(np.uint64) << np.uint64(32)) | second[hope].astype(np.uint64))
        first, second = (both >> np.uint64(32)).astype(np.int64), (both & _LOW32).astype(np.int64)
        overlap = _overlaps(first, second, self.shingles, self.offsets, packed)
        jaccard = overlap / (self.sizes[first] + self.sizes[second] - overlap)
        alike = jaccard >= self.threshold - _EPS
        return first[alike], second[alike], jaccard[alike]


_LOW32 = np.uint64((1 << 32) - 1)


def _none() -> tuple[I64, I64, Floats]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)


def _numbered(hashes: U64) -> tuple[I64, I64]:
    """A number for each hash, equal ones alike, and how often each occurs.

    One sort of plain numbers: the low bits of a hash make room for its place. Among ten million shingles
    40 bits are left, which is less than a hundred colliding pairs.
    """
    bits = np.uint64(max(1, len(hashes).bit_length()))
    packed = np.sort(((hashes >> bits) << bits) | np.arange(len(hashes), dtype=np.uint64))
    place = (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    packed >>= bits
    new = np.concatenate([np.zeros(min(1, len(packed)), np.bool_), packed[1:] != packed[:-1]])
    ordered = np.cumsum(new)
    number = np.empty(len(hashes), np.int64)
    number[place] = ordered
    return number, np.bincount(ordered)[number] if len(hashes) else number


def _by_rarity(number: I64, held: I64) -> I64:
    """The shingles numbered anew, dense, from the rarest to the most frequent."""
    if len(number) == 0:
        return number
    names, first, inverse = np.unique(number, return_index=True, return_inverse=True)
    order = np.argsort(held[first], kind="stable")
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[inverse]


def _overlaps(first: I64, second: I64, shingles: I64, offsets: I64, packed: U64) -> I64:
    """int64 [P]: how many shingles the sets of each pair share; pairs are sorted by `first`."""
    found = np.zeros(len(first), np.int64)
    lengths = np.diff(offsets)[second]
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    kinds = int(shingles.max(initial=-1)) + 1
    rows = _TABLE // max(kinds, 1)  # sets that a table of who has what can hold: the quickest way
    start = 0
    while start < len(first):
        stop = max(start + 1, int(np.searchsorted(running, running[start] + _BLOCK, side="right")) - 1)
        if rows >= _FEW:
            names = np.unique(first[start:stop])[:rows]
            stop = int(np.searchsorted(first[:stop], names[-1], side="right"))
        some, part = first[start:stop], lengths[start:stop]
        pair = np.repeat(np.arange(len(some)), part)
        asked = shingles[_entries(offsets[:-1][second[start:stop]], part)]
        if rows >= _FEW:
            held = offsets[names + 1] - offsets[names]
            table = np.zeros((len(names), kinds), np.bool_)
            table[np.repeat(np.arange(len(names)), held), shingles[_entries(offsets[names], held)]] = True
            same = table[np.searchsorted(names, some)[pair], asked]
        else:
            wanted = (some[pair].astype(np.uint64) << np.uint64(32)) | asked.astype(np.uint64)
            same = packed[np.minimum(np.searchsorted(packed, wanted), len(packed) - 1)] == wanted
        found[start:stop] = np.bincount(pair[same], minlength=len(some))
        start = stop
    return found


def _entries(begins: I64, lengths: I64) -> I64:
    """The places begins[i] .. begins[i] + lengths[i] - 1, one run after the other."""
    return np.repeat(begins - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))


# ----------------------------------------------------------------------------------------- MinHash


def minhash_bands(threshold: float) -> tuple[int, int, float]:
    """Rows a band, bands, and the chance to find a pair at the threshold: 1 - (1 - t^rows)^bands.

    The longest bands (fewest false candidates) that still find 99 of 100 pairs at the threshold with 128
    hashes. Source: Leskovec, Rajaraman and Ullman 2014, section 3.4.2.
    """
    best = (1, _HASHES, 1 - (1 - threshold) ** _HASHES)
    for rows in range(2, 17):
        bands = _HASHES // rows
        recall = 1 - (1 - threshold**rows) ** bands
        if recall >= 0.99:
            best = (rows, bands, recall)
    return best


def _minhash(sets: Sets, threshold: float) -> Pairs:
    """Candidates by MinHash (Broder 1997) and banding, each with its true overlap."""
    rows, bands, recall = minhash_bands(threshold)
    full = np.flatnonzero(sets.sizes > 0)
    some = sets.take(full) if len(full) < len(sets) else sets
    if len(some) == 0:
        return Pairs(*_none(), recall)
    first: list[I64] = []
    second: list[I64] = []
    cut = False
    for band in range(bands):
        signature = np.zeros(len(some), np.uint64)
        for row in range(rows):
            salt = mix(np.array([band * rows + row + 1], np.uint64))
            smallest = np.minimum.reduceat(mix(some.hashes ^ salt), some.offsets[:-1])
            signature = mix(signature * np.uint64(31) + smallest)
        one, other, more = _buckets(signature)
        first.append(one)
        second.append(other)
        cut |= more
    both = np.unique(
        (np.concatenate(first).astype(np.uint64) << np.uint64(32)) | np.concatenate(second).astype(np.uint64)
    )
    one, other = (both >> np.uint64(32)).astype(np.int64), (both & _LOW32).astype(np.int64)
    number, _ = _numbered(some.hashes)
    owner = np.repeat(np.arange(len(some)), some.sizes)
    packed = np.sort((owner.astype(np.uint64) << np.uint64(32)) | number.astype(np.uint64))
    shared = _overlaps(one, other, (packed & _LOW32).astype(np.int64), some.offsets, packed)
    jaccard = shared / np.maximum(some.sizes[one] + some.sizes[other] - shared, 1)
    alike = jaccard >= threshold - _EPS
    return Pairs(full[one[alike]], full[other[alike]], jaccard[alike], recall, cut)


def _buckets(signature: U64) -> tuple[I64, I64, bool]:
    """Pairs of sets with equal signatures, each with at most the 64 before it; whether there were more."""
    order = np.argsort(signature, kind="stable")
    ordered = signature[order]
    begins = np.flatnonzero(np.concatenate([np.ones(1, np.bool_), ordered[1:] != ordered[:-1]]))
    before = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    counts = np.minimum(before, 64)
    other = np.repeat(np.arange(len(order)), counts)
    within = np.arange(len(other)) - np.repeat(np.cumsum(counts) - counts, counts)
    one = other - 1 - within
    pair = order[one], order[other]
    return np.minimum(*pair), np.maximum(*pair), bool((before > 64).any())
