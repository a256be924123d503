"""The hashed tokens of records in their order: all of them, or those of the first records by hash.

Knows no metric. What grows with the corpus can be filed, and is then read from a mapped file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing.base import Need
from karat.auditing.shards import Shard
from karat.auditing.tokens import Tokens, mix, ngrams, tokenise

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

CHUNK = 1 << 21
"""Tokens looked at together, at most, where a corpus is gone through record by record."""


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

    def take(self, rows: I64, shift: int = 0) -> Sequences:
        """These records, in this order, their groups moved down by `shift`."""
        some = Tokens(self.hashes, self.offsets).take(rows)
        return Sequences(some.hashes, some.offsets, self.keys[rows], self.groups[rows] - shift)

    def by_key(self) -> Sequences:
        """The same records in hash order."""
        return self.take(np.argsort(self.keys, kind="stable"))

    def window(self, start: int, stop: int) -> Sequences:
        """The records of a range of groups, renumbered."""
        inside = (self.groups >= start) & (self.groups < stop)
        if inside.all():
            return replace(self, groups=self.groups - start)
        return self.take(np.flatnonzero(inside), start)

    def chunks(self) -> Iterator[tuple[int, Tokens]]:
        """Consecutive records, a few million tokens at a time: the number of the first one, and their tokens."""
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.offsets, self.offsets[start] + CHUNK, side="right")) - 1
            stop = min(max(stop, start + 1), len(self))
            low, high = int(self.offsets[start]), int(self.offsets[stop])
            yield start, Tokens(np.asarray(self.hashes[low:high]), self.offsets[start : stop + 1] - low)
            start = stop

    def ngrams(self, n: int) -> Iterator[tuple[U64, I64]]:
        """All n-grams, chunk by chunk: their hashes, and the number of the record that each is in."""
        for start, tokens in self.chunks():
            hashes, owner = ngrams(tokens, n)
            yield hashes, owner + start

    def joined(self, other: Sequences) -> Sequences:
        """The records of both."""
        return Sequences(
            np.concatenate([self.hashes, other.hashes]),
            np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.groups, other.groups]),
        )


def whole_hashes(some: Sequences) -> U64:
    """uint64 [n]: the hash of all tokens of each record; records of the same tokens have the same."""
    found = []
    for _, tokens in some.chunks():
        place = np.arange(len(tokens.hashes)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
        scattered = mix(tokens.hashes ^ mix(place.astype(np.uint64)))
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(scattered)])  # modulo 2**64
        sums = running[tokens.offsets[1:]] - running[tokens.offsets[:-1]]
        found.append(mix(sums ^ tokens.lengths.astype(np.uint64)))
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


@dataclass(frozen=True)
class FiledTokens:
    """Hashed tokens in a file."""

    path: str
    size: int

    def read(self) -> U64:
        """The tokens, mapped: pages are read when they are looked at."""
        return (
            np.memmap(self.path, np.uint64, "r", shape=(self.size,)) if self.size else np.zeros(0, np.uint64)
        )


@dataclass(frozen=True)
class SequencesPart:
    """Sequences on their way: the tokens in pieces, one after the other, and their limits."""

    pieces: tuple[U64 | FiledTokens, ...]
    lengths: I64
    keys: U64
    groups: NDArray[np.uint8]
    limit: int
    most: int
    side: int

    def first(self) -> SequencesPart:
        """In hash order the first `limit` records of each side, until `most` tokens are there (0: all)."""
        if self.limit <= 0 and self.most <= 0:
            return self
        rows = first_records(
            self.keys, self.groups.astype(np.int64) // self.side, self.lengths, self.limit, self.most
        )
        hashes = np.concatenate([np.asarray(one) for one in self.pieces])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])
        kept = Tokens(hashes, offsets).take(rows)
        return replace(
            self,
            pieces=(kept.hashes,),
            lengths=kept.lengths,
            keys=self.keys[rows],
            groups=self.groups[rows],
        )


def first_records(keys: U64, side: I64, amounts: I64, limit: int, most: int) -> I64:
    """Positions, in hash order, of the first `limit` records of each side whose amounts reach `most`.

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


def folded(texts: Any) -> pa.Array:
    """Texts as their words alone: case, punctuation and Unicode form do not make another text."""
    series = pl.Series("text", texts).cast(pl.String).str.normalize("NFKC").str.to_lowercase()
    words = series.str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    return words.to_arrow().cast(pa.large_string())


class SequencesKind:
    """Tokens of records in their order.

    Settings tokens; fold, which leaves words alone; limit records and most tokens by hash (0: all).
    """

    def collect(self, shard: Shard, need: Need) -> SequencesPart:
        rows = shard.chosen(need)
        if need.get("fold", False):
            tokens = tokenise(folded(shard.texts.take(pa.array(rows))), str(need.get("tokens", "word")))
        else:
            tokens = shard.tokens(need).take(rows)
        return SequencesPart(
            (tokens.hashes,),
            tokens.lengths,
            shard.keys[rows],
            shard.groups(need)[rows],
            int(need.get("limit", 0)),
            int(need.get("most", 0)),
            shard.side(need),
        ).first()

    def merge(self, one: SequencesPart, other: SequencesPart) -> SequencesPart:
        return replace(
            one,
            pieces=one.pieces + other.pieces,
            lengths=np.concatenate([one.lengths, other.lengths]),
            keys=np.concatenate([one.keys, other.keys]),
            groups=np.concatenate([one.groups, other.groups]),
        ).first()

    def pack(self, part: SequencesPart, folder: str | None) -> SequencesPart:
        held = [piece for piece in part.pieces if not isinstance(piece, FiledTokens)]
        if part.limit > 0 or part.most > 0 or folder is None or not held:
            return part
        if len(held) < len(part.pieces):  # never both in practice; the order of records must stay
            return replace(part, pieces=tuple(_filed((_read(one),), folder) for one in part.pieces))
        return replace(part, pieces=(_filed(held, folder),))

    def stack(
        self, corpora: Sequence[SequencesPart], offsets: Sequence[int], groups: int
    ) -> StackedSequences:
        return StackedSequences(
            tuple(
                Sequences(
                    _whole(part.pieces),
                    np.concatenate([np.zeros(1, np.int64), np.cumsum(part.lengths)]),
                    part.keys,
                    part.groups.astype(np.int64) + shift,
                )
                for part, shift in zip(corpora, offsets, strict=True)
            )
        )


def _read(piece: U64 | FiledTokens) -> U64:
    return piece.read() if isinstance(piece, FiledTokens) else piece


def _whole(pieces: Sequence[U64 | FiledTokens]) -> U64:
    """All pieces in one array; where they are filed, in one mapped file."""
    if len(pieces) == 1:
        return _read(pieces[0])
    filed = [piece for piece in pieces if isinstance(piece, FiledTokens)]
    if not filed:
        return np.concatenate([_read(one) for one in pieces])
    whole = _filed([_read(one) for one in pieces], os.path.dirname(filed[0].path))
    for piece in filed:
        os.unlink(piece.path)
    return whole.read()


def _filed(pieces: Sequence[Any], folder: str) -> FiledTokens:
    handle, path = tempfile.mkstemp(dir=folder, suffix=".tokens")
    with os.fdopen(handle, "wb") as file:
        for piece in pieces:
            np.asarray(piece).tofile(file)
    return FiledTokens(path, sum(map(len, pieces)))


@dataclass(frozen=True)
class StackedSequences:
    """The sequences of all corpora; they are put together only for a window that spans several."""

    parts: tuple[Sequences, ...]

    def window(self, start: int, stop: int) -> Sequences:
        """The records of a range of groups."""
        found = [part.window(start, stop) for part in self.parts]
        held = [part for part in found if len(part)] or found[:1]
        total = held[0]
        for part in held[1:]:
            total = total.joined(part)
        return total
