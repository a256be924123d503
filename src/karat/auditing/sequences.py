"""The hashed tokens of the first records by hash, in their order. Knows no metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Need
from karat.auditing.shards import Shard
from karat.texts.tokens import Tokens, mix

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_STEP = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Records as runs of hashed tokens: hashes uint64 [T], offsets int64 [n + 1], keys [n], groups [n]."""

    hashes: U64
    offsets: I64
    keys: U64
    groups: I64

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def lengths(self) -> I64:
        """int64 [n]: the number of tokens of each record."""
        return np.diff(self.offsets)

    def take(self, rows: I64) -> Sequences:
        """These records, in this order."""
        some = Tokens(self.hashes, self.offsets).take(rows)
        return Sequences(some.hashes, some.offsets, self.keys[rows], self.groups[rows])

    def by_key(self) -> Sequences:
        """The same records in hash order; of equal keys that of the earlier group first."""
        return self.take(np.lexsort((self.groups, self.keys)))

    def joined(self, other: Sequences) -> Sequences:
        """The records of both."""
        return Sequences(
            np.concatenate([self.hashes, other.hashes]),
            np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.groups, other.groups]),
        )

    def window(self, start: int, stop: int) -> Sequences:
        """The records of a range of groups, renumbered."""
        some = self.take(np.flatnonzero((self.groups >= start) & (self.groups < stop)))
        return replace(some, groups=some.groups - start)


def whole_hashes(some: Sequences) -> U64:
    """uint64 [n]: the hash of all tokens of each record; records of the same tokens have the same."""
    place = np.arange(len(some.hashes)) - np.repeat(some.offsets[:-1], some.lengths)
    scattered = mix(some.hashes + place.astype(np.uint64) * _STEP)
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(scattered)])  # modulo 2**64
    sums = running[some.offsets[1:]] - running[some.offsets[:-1]]
    return mix(sums ^ some.lengths.astype(np.uint64))


def first_records(keys: U64, side: I64, amounts: I64, limit: int, most: int) -> I64:
    """Positions, in hash order, of the first `limit` records of each side, until their amounts reach `most`.

    The record that brings the sum to `most` is kept; 0 stands for no limit. What is kept of a union is what
    is kept of the union of what is kept of its parts.
    """
    order = np.argsort(keys, kind="stable")
    kept = []
    for one in np.unique(side):
        rows = order[side[order] == one]
        rows = rows[:limit] if limit > 0 else rows
        if most > 0:
            rows = rows[: int(np.searchsorted(np.cumsum(amounts[rows]), most, side="left")) + 1]
        kept.append(rows)
    return np.concatenate(kept) if kept else order


@dataclass(frozen=True)
class SequencesPart:
    """Sequences of one corpus on their way, with their limits and the number of groups of one side."""

    some: Sequences
    limit: int
    most: int
    side: int

    def first(self) -> SequencesPart:
        """In hash order the first `limit` records of each side, until `most` tokens are there (0: all)."""
        side = self.some.groups // self.side
        rows = first_records(self.some.keys, side, self.some.lengths, self.limit, self.most)
        return replace(self, some=self.some.take(rows))


class SequencesKind:
    """Tokens of records in their order (settings tokens; limit records and most tokens by hash, 0: all)."""

    def collect(self, shard: Shard, need: Need) -> SequencesPart:
        rows = shard.chosen(need)
        tokens = shard.tokens(need).take(rows)
        groups = shard.groups(need)[rows].astype(np.int64)
        some = Sequences(tokens.hashes, tokens.offsets, shard.keys[rows], groups)
        limit, most = int(need.get("limit", 0)), int(need.get("most", 0))
        return SequencesPart(some, limit, most, shard.side(need)).first()

    def merge(self, one: SequencesPart, other: SequencesPart) -> SequencesPart:
        return replace(one, some=one.some.joined(other.some)).first()

    def stack(self, corpora: Sequence[SequencesPart], offsets: Sequence[int], groups: int) -> Sequences:
        moved = [
            replace(part.some, groups=part.some.groups + shift)
            for part, shift in zip(corpora, offsets, strict=True)
        ]
        total = moved[0]
        for other in moved[1:]:
            total = total.joined(other)
        return total
