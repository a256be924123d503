"""Which record holds which n-gram how often, for a sample of records. Knows no BLEU and no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.texts.tokens import Tokens, ngrams

Order = tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]
"""(hash, record, count), one entry for each n-gram of one order and each record that holds it."""

_RECORD_BITS = 16


@dataclass(frozen=True)
class PostingsPart:
    """The postings of some records of one corpus, on their way to be merged."""

    keys: NDArray[np.uint64]  # [D] the hash that orders the records
    groups: NDArray[np.int64]  # [D]
    lengths: NDArray[np.int64]  # [D] in tokens
    orders: tuple[Order, ...]  # for 1 .. n
    limit: int
    side: int

    def merged(self, other: PostingsPart) -> PostingsPart:
        """Both parts together, cut to the first `limit` records of each side."""
        shift = np.int32(len(self.keys))
        orders = tuple(
            (
                np.concatenate([a[0], b[0]]),
                np.concatenate([a[1], b[1] + shift]),
                np.concatenate([a[2], b[2]]),
            )
            for a, b in zip(self.orders, other.orders, strict=True)
        )
        keys = np.concatenate([self.keys, other.keys])
        groups = np.concatenate([self.groups, other.groups])
        lengths = np.concatenate([self.lengths, other.lengths])
        return PostingsPart(keys, groups, lengths, orders, self.limit, self.side).first()

    def first(self) -> PostingsPart:
        """Only the first `limit` records of each side of `side` groups, by hash."""
        kept = first_of_each_side(self.keys, self.groups // self.side, self.limit)
        if len(kept) == len(self.keys):
            return self
        place = np.full(len(self.keys), -1, np.int32)
        place[kept] = np.arange(len(kept), dtype=np.int32)
        orders = []
        for hashes, record, count in self.orders:
            stays = place[record] >= 0
            orders.append((hashes[stays], place[record[stays]], count[stays]))
        return PostingsPart(
            self.keys[kept], self.groups[kept], self.lengths[kept], tuple(orders), self.limit, self.side
        )


@dataclass(frozen=True)
class Postings:
    """Postings of the records of a window of groups, sorted by n-gram; n-grams of one record are left out.

    keys uint64 [D], groups int64 [D], lengths int64 [D] in tokens; for each order (gram, record, count),
    each int32 [M], where gram numbers the n-grams in sorted order.
    """

    keys: NDArray[np.uint64]
    groups: NDArray[np.int64]
    lengths: NDArray[np.int64]
    orders: tuple[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]], ...]


@dataclass(frozen=True)
class StackedPostings:
    """The postings of all corpora of an audit."""

    whole: Postings

    def window(self, start: int, stop: int) -> Postings:
        """The records of a range of groups, renumbered."""
        whole = self.whole
        inside = (whole.groups >= start) & (whole.groups < stop)
        if inside.all():
            return Postings(whole.keys, whole.groups - start, whole.lengths, whole.orders)
        place = np.cumsum(inside, dtype=np.int32) - np.int32(1)
        orders = []
        for gram, record, count in whole.orders:
            stays = inside[record]
            orders.append(_shared(gram[stays], place[record[stays]], count[stays]))
        return Postings(
            whole.keys[inside], whole.groups[inside] - start, whole.lengths[inside], tuple(orders)
        )


def first_of_each_side(keys: NDArray[np.uint64], side: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Positions, ascending, of the `limit` smallest keys of each side; all of them if limit is 0."""
    if limit <= 0:
        return np.arange(len(keys))
    kept = []
    for one in np.unique(side):
        where = np.flatnonzero(side == one)
        kept.append(where[np.argsort(keys[where], kind="stable")[:limit]])
    return np.sort(np.concatenate(kept)) if kept else np.arange(0)


def collect_postings(
    tokens: Tokens,
    chosen: NDArray[np.int64],
    keys: NDArray[np.uint64],
    groups: NDArray[np.uint8],
    *,
    n: int,
    limit: int,
    side: int,
) -> PostingsPart:
    """Postings of the chosen texts of a shard, for orders 1 .. n."""
    local = first_of_each_side(keys[chosen], groups[chosen].astype(np.int64) // side, limit)
    chosen = chosen[local]
    tokens = tokens.take(chosen)
    orders = []
    for order in range(1, n + 1):
        hashes, owner = ngrams(tokens, order)
        orders.append(_counted(hashes, owner.astype(np.int32)))
    return PostingsPart(
        keys[chosen], groups[chosen].astype(np.int64), tokens.lengths, tuple(orders), limit, side
    )


def stack_postings(corpora: Sequence[PostingsPart], offsets: Sequence[int], groups: int) -> StackedPostings:
    """All corpora side by side; n-grams that only one record holds can never match and are dropped."""
    shifts = np.cumsum([0, *(len(part.keys) for part in corpora)])
    orders = []
    for order in range(len(corpora[0].orders)):
        hashes = np.concatenate([part.orders[order][0] for part in corpora])
        record = np.concatenate(
            [part.orders[order][1] + np.int32(shift) for part, shift in zip(corpora, shifts, strict=False)]
        )
        count = np.concatenate([part.orders[order][2] for part in corpora])
        by_hash = np.argsort(hashes, kind="stable")
        hashes, record, count = hashes[by_hash], record[by_hash], count[by_hash]
        gram = np.cumsum(np.r_[False, hashes[1:] != hashes[:-1]], dtype=np.int32)
        orders.append(_shared(gram[: len(hashes)], record, count))
    whole = Postings(
        np.concatenate([part.keys for part in corpora]),
        np.concatenate([part.groups + shift for part, shift in zip(corpora, offsets, strict=True)]),
        np.concatenate([part.lengths for part in corpora]),
        tuple(orders),
    )
    return StackedPostings(whole)


def _counted(hashes: NDArray[np.uint64], record: NDArray[np.int32]) -> Order:
    """One entry a record and n-gram. Records come in order, so a sort within each is enough."""
    if len(hashes) == 0:
        return hashes, record, np.zeros(0, np.int32)
    # Record in the high bits, the hash in the low ones: one fast sort of plain numbers. 48 bits of hash
    # stay; among ten million different n-grams that is less than one colliding pair.
    assert int(record[-1]) < 1 << _RECORD_BITS, "a shard holds at most 65,536 records"
    packed = (record.astype(np.uint64) << np.uint64(64 - _RECORD_BITS)) | (hashes >> np.uint64(_RECORD_BITS))
    packed.sort()
    starts = np.flatnonzero(np.r_[True, packed[1:] != packed[:-1]])
    count = np.diff(np.r_[starts, len(packed)]).astype(np.int32)
    kept = packed[starts]
    return kept << np.uint64(_RECORD_BITS), (kept >> np.uint64(64 - _RECORD_BITS)).astype(np.int32), count


def _shared(
    gram: NDArray[np.int32], record: NDArray[np.int32], count: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The entries of n-grams that at least two records hold, n-grams renumbered."""
    if len(gram) == 0:
        return gram, record, count
    new = np.r_[True, gram[1:] != gram[:-1]]
    starts = np.flatnonzero(new)
    holders = np.diff(np.r_[starts, len(gram)])
    stays = np.repeat(holders > 1, holders)
    number = np.repeat(np.cumsum(holders > 1) - 1, holders).astype(np.int32)
    return number[stays], record[stays], count[stays]
