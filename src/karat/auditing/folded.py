"""Words of folded texts as hashes, and which n-grams of one corpus stand in another. Knows no metric.

Texts are folded first (case, sentence marks, Unicode form, runs of spaces), so that a copy that differs in
these alone is still a copy. A corpus is held as the hashes of its words, 8 bytes each, for the first records
by hash up to a limit; everything else is worked out of that, and does not depend on the order of a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.base import Need, need
from karat.auditing.shards import Shard
from karat.texts.tokens import Tokens, fold, hash_strings, ngrams, tokenise

LIMIT = 500_000
"""Records of each side that are looked at; more are a hash sample."""
BYTES = 96 << 20
"""Bytes of their texts, likewise: about 16 million words."""
_BLOCK = 1 << 21  # words whose n-grams are made at a time
_GROUP = np.uint64(63)
_QUOTED = 10  # words

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Words:
    """The folded words of n records: tokens, and for each record its group, key and the hash of its text."""

    tokens: Tokens
    groups: I64
    keys: U64
    content: U64  # of the folded text
    names: pa.Array  # the ids

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def filled(self) -> Flags:
        """bool [n]: whether a record has any word."""
        return self.tokens.lengths > 0

    def take(self, rows: I64) -> Words:
        """These records, in this order."""
        return Words(
            self.tokens.take(rows),
            self.groups[rows],
            self.keys[rows],
            self.content[rows],
            self.names.take(pa.array(rows)),
        )

    def first(self, most: int, words: int = 0) -> Words:
        """The first `most` records by key, and no more than hold `words` words (0: any); at least one."""
        order = np.argsort(self.keys, kind="stable")[:most]
        if words and len(order):
            running = np.cumsum(self.tokens.lengths[order])
            order = order[: max(1, int(np.searchsorted(running, words, side="right")))]
        return self if len(order) == len(self) else self.take(np.sort(order))

    def moved(self, shift: int) -> Words:
        """The same with other numbers of groups."""
        if shift == 0:
            return self
        return Words(self.tokens, self.groups + shift, self.keys, self.content, self.names)

    def turned(self, groups: int) -> Words:
        """The same with each record in the next one of `groups` groups, the last ones in the first."""
        return Words(self.tokens, (self.groups + 1) % groups, self.keys, self.content, self.names)

    def joined(self, other: Words) -> Words:
        """The records of both."""
        ends = other.tokens.offsets[1:] + self.tokens.offsets[-1]
        return Words(
            Tokens(
                np.concatenate([self.tokens.hashes, other.tokens.hashes]),
                np.concatenate([self.tokens.offsets, ends]),
            ),
            np.concatenate([self.groups, other.groups]),
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.content, other.content]),
            pa.concat_arrays([self.names, other.names]),
        )


@dataclass(frozen=True)
class StackedWords:
    """The words of all corpora of an audit, `side` groups each and as many for spare records.

    `memo` keeps what was worked out of all of them together.
    """

    parts: tuple[Words, ...]
    side: int

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What was worked out, by name."""
        return {}

    def window(self, start: int, stop: int) -> Seen:
        """A range of groups."""
        return Seen(self, start, stop)


@dataclass(frozen=True)
class Seen:
    """A range of groups of the words of all corpora."""

    home: StackedWords
    start: int
    stop: int

    @cached_property
    def words(self) -> Words:
        """The records of these groups, groups numbered from 0."""
        found = []
        for part in self.home.parts:
            inside = (part.groups >= self.start) & (part.groups < self.stop)
            if inside.any():
                kept = part if inside.all() else part.take(np.flatnonzero(inside))
                found.append(kept.moved(-self.start))
        if not found:
            return self.home.parts[0].take(np.zeros(0, np.int64))
        first, *others = found
        for other in others:
            first = first.joined(other)
        return first


class WordsKind:
    """Words of folded texts (settings tokens, limit, bytes): the first records by hash, up to both limits."""

    def collect(self, shard: Shard, need: Need) -> Words:
        chosen = shard.chosen(need)
        rows = pa.array(chosen)
        folded = fold(shard.texts.take(rows).fill_null(""))
        return Words(
            tokenise(folded, str(need.get("tokens", "word"))),
            shard.groups(need)[chosen].astype(np.int64),
            shard.keys[chosen],
            hash_strings(folded),
            shard.names.take(rows).cast(pa.large_string()),
        )

    def merge(self, one: Words, other: Words) -> Words:
        return one.joined(other)

    def stack(self, corpora: Sequence[Words], offsets: Sequence[int], groups: int) -> StackedWords:
        moved = tuple(part.moved(shift) for part, shift in zip(corpora, offsets, strict=True))
        return StackedWords(moved, groups // 3)


def words_need(tokens: str = "word", limit: int = LIMIT) -> Need:
    """What every metric of copies asks for, so that it is collected once; limit 0 takes all records."""
    return need("words", tokens=tokens, limit=limit, bytes=BYTES if limit else 0)


def grams(words: Words, n: int) -> tuple[U64, I64]:
    """All n-grams: hashes uint64 [M] and the record that each is in [M], which ascends."""
    blocks = list(_blocks(words, n))
    if not blocks:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return np.concatenate([one for one, _ in blocks]), np.concatenate([owner for _, owner in blocks])


def _blocks(words: Words, n: int) -> Iterator[tuple[U64, I64]]:
    """The same, of some records at a time: the n-grams of a large corpus are never all in memory."""
    offsets = words.tokens.offsets
    first = 0
    while first < len(words):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _BLOCK, side="right")) - 1)
        some = words.tokens.hashes[offsets[first] : offsets[last]]
        hashes, owner = ngrams(Tokens(some, offsets[first : last + 1] - offsets[first]), n)
        yield hashes, owner + first
        first = last


def holders(asked: U64, corpus: Words, n: int) -> U64:
    """uint64 [M]: for each n-gram the groups of a corpus that hold it, as bits; n = 0 asks for whole texts.

    58 bits of each hash are kept; a corpus has at most 64 groups.
    """
    known, where = np.unique(asked & ~_GROUP, return_inverse=True)
    sets = np.zeros(len(known), np.uint64)
    blocks: Iterable[tuple[U64, I64]] = _blocks(corpus, n) if n else [_whole_texts(corpus)]
    for hashes, owner in blocks if len(known) else ():
        packed = (hashes & ~_GROUP) | corpus.groups[owner].astype(np.uint64)
        packed.sort()  # a sorted block walks through the n-grams asked for once
        at = np.minimum(np.searchsorted(known, packed & ~_GROUP), len(known) - 1)
        found = known[at] == packed & ~_GROUP
        np.bitwise_or.at(sets, at[found], np.uint64(1) << (packed[found] & _GROUP))
    return sets[where]


def _whole_texts(words: Words) -> tuple[U64, I64]:
    rows = np.flatnonzero(words.filled)
    return words.content[rows], rows


def elsewhere(sets: U64, groups: I64) -> Flags:
    """bool [M]: whether each set holds any group but the one given."""
    own: Flags = (sets & ~(np.uint64(1) << groups.astype(np.uint64))) != 0
    return own


def longest_run(flags: Flags) -> tuple[int, int]:
    """Where the longest run of True begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    if len(edges) == 0:
        return 0, 0
    begins, lengths = edges[::2], edges[1::2] - edges[::2]
    best = int(np.argmax(lengths))
    return int(begins[best]), int(lengths[best])


def quote(text: str, tokens: str, start: int, length: int) -> str:
    """The first words of a run of folded words of a text, as they stand in a reason."""
    # the standard library knows no classes of scripts; a quotation needs none
    pattern = r"\S+" if tokens == "whitespace" else r"\w+|[^\w\s]"
    words = re.findall(pattern, fold(pa.array([text]))[0].as_py())
    shown = " ".join(words[start : start + min(length, _QUOTED)])
    return f"'{shown}{' ...' if length > _QUOTED else ''}'"


@dataclass(frozen=True)
class Beside:
    """A mean (or ratio of sums) of the candidate beside that of human records, by replicate group."""

    value: stats.Estimate
    human: stats.Estimate
    gap: stats.Difference
    p: float | None


def beside_humans(
    whole: tuple[NDArray[Any], NDArray[Any]],
    mine: tuple[NDArray[Any], NDArray[Any]],
    theirs: tuple[NDArray[Any], NDArray[Any]],
) -> Beside:
    """Compare how much the candidate takes from the reference with how much the reference takes from itself.

    Each argument is (sums, counts), [G] each. `whole` is the candidate against all reference records. In
    `theirs` records of group g are held against the reference without its group g, in `mine` against the
    reference without one group of another number (where both sides are about the same items, equal numbers
    belong together); so under one source both are the same random variable. What two human records share
    counts for both of them, so the variance of `theirs` is taken twice, its upper bound (a U-statistic of
    pairs: Hoeffding 1948). p is one-sided: the candidate takes more.
    """
    value, ours, human = (_ratio(*one) for one in (whole, mine, theirs))
    wider = stats.Estimate(human.value, human.error * float(np.sqrt(2)), human.df)
    gap = stats.difference(ours, wider)
    p = gap.p
    if p is not None and p < 1:
        p = p / 2 if gap.value > 0 else 1 - p / 2
    return Beside(value, human, gap, p)


def _ratio(sums: NDArray[Any], counts: NDArray[Any]) -> stats.Estimate:
    total = counts.sum()
    value = float(sums.sum() / total) if total else float("nan")
    left = total - counts
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = np.where(left > 0, (sums.sum() - sums) / left, np.nan)
    return stats.jackknife(value, left_out)
