"""The longest run of tokens that a record shares with a corpus, exact, without a suffix array. Knows no metric.

If a record shares a run of L tokens, it shares all shorter ones: so the longest is found by doubling L and then
halving the step. At each length only the places go on that matched at the one before, and these soon are few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing.sequences import CHUNK, Sequences
from karat.auditing.tokens import mix

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_STEP = np.uint64(0xD6E8FEB86659FD93)
_BLOOM = 26  # bits of a hash that a table of 64 MiB holds: it tells quickly what cannot match
_START = 4  # the length that is looked for first


_Found = tuple[I64, U64, I64]


@dataclass(frozen=True)
class Longest:
    """For each query the longest run it shares with the target, and what it is without one target group.

    length, second, only int64 [n]: `length` tokens stand in the target; where only one group of it has a run
    of that length, that is `only` (else -1), and `second` is the longest run that stands elsewhere too.
    place int64 [n]: the token of the query with which such a run begins.
    """

    length: I64
    second: I64
    only: I64
    place: I64

    def without(self, group: int) -> I64:
        """int64 [n]: the longest runs if this target group were not there."""
        return np.where(self.only == group, self.second, self.length)


def longest_runs(queries: Sequences, target: Sequences, *, own: I64) -> Longest:
    """The longest run of tokens of each query that stands in the target.

    own: int64 [n], the target group in which a query is not looked for; -1 for none
    """
    search = _Search(
        queries,
        target,
        np.where(own >= 0, np.uint64(1) << np.maximum(own, 0).astype(np.uint64), np.uint64(0)),
    )
    every = np.flatnonzero(queries.lengths > 0)
    length, holders, place = search.lengths(every, 1)
    alone = np.flatnonzero(np.bitwise_count(holders) == 1)
    second = length.copy()
    second[alone] = search.lengths(alone, 2)[0][alone]
    only = np.full(len(queries), -1, np.int64)
    only[alone] = np.bitwise_count(holders[alone] - np.uint64(1))  # the number of the one bit that is set
    return Longest(length, second, only, place - queries.offsets[:-1])


@dataclass(frozen=True)
class _Search:
    queries: Sequences
    target: Sequences
    own: U64

    def lengths(self, rows: I64, holders: int) -> _Found:
        """For each of these queries the longest run that at least `holders` groups have, and these groups."""
        size = len(self.queries)
        found = np.zeros(size, np.int64), np.zeros(size, np.uint64), self.queries.offsets[:-1].copy()
        places = _places(self.queries, rows)
        targets: I64 | None = None
        low, length = 0, _START
        while len(rows):
            hit, bits, next_places, next_targets = self._match(rows, places, targets, length, holders)
            self._halve(found, rows[~hit], places, targets, (low, length), holders)
            self._note(found, rows[hit], length, bits[hit], next_places)
            rows, places, targets = rows[hit], next_places, next_targets
            low, length = length, 2 * length
        return found

    def _halve(
        self,
        found: _Found,
        rows: I64,
        places: I64,
        targets: I64 | None,
        between: tuple[int, int],
        holders: int,
    ) -> None:
        """Runs of these queries match at the first length and do not at the second."""
        low, high = between
        if len(rows) == 0 or high - low < 2:
            return
        places = places[np.isin(_owners(self.queries, places), rows)]
        middle = (low + high) // 2
        hit, bits, next_places, next_targets = self._match(rows, places, targets, middle, holders)
        self._note(found, rows[hit], middle, bits[hit], next_places)
        self._halve(found, rows[hit], next_places, next_targets, (middle, high), holders)
        self._halve(found, rows[~hit], places, targets, (low, middle), holders)

    def _note(self, found: _Found, rows: I64, length: int, bits: U64, places: I64) -> None:
        found[0][rows], found[1][rows] = length, bits
        found[2][_owners(self.queries, places[::-1])] = places[::-1]  # the first place is written last

    def _match(
        self, rows: I64, places: I64, targets: I64 | None, length: int, holders: int
    ) -> tuple[NDArray[np.bool_], U64, I64, I64 | None]:
        """Which of the queries share a run of this length with enough groups, which groups these are, and the
        places on both sides at which such a run begins."""
        places = _long_enough(self.queries, places, length)
        hashes = _run_hashes(self.queries.hashes, places, length)
        known, number = np.unique(hashes, return_inverse=True)
        have = np.zeros(len(known), np.uint64)
        seen: list[tuple[I64, I64]] = []
        for part, which, group in self._standing(known, length, targets):
            np.bitwise_or.at(have, which, np.uint64(1) << group.astype(np.uint64))
            if length >= _START:  # shorter runs stand nearly everywhere: nothing is gained by noting where
                seen.append((part, which))
        owner = _owners(self.queries, places)
        bits = have[number] & ~self.own[owner]
        together = np.zeros(len(self.queries), np.uint64)
        np.bitwise_or.at(together, owner, bits)
        hit = np.bitwise_count(together[rows]) >= holders
        goes_on = np.isin(owner, rows[hit]) & (bits != 0)
        wanted = np.zeros(len(known), np.bool_)
        wanted[number[goes_on]] = True
        none = np.zeros(0, np.int64)
        narrowed = np.concatenate([none, *(part[wanted[which]] for part, which in seen)])
        return hit, together[rows], places[goes_on], narrowed if length >= _START else targets

    def _standing(self, known: U64, length: int, targets: I64 | None) -> Iterator[tuple[I64, I64, I64]]:
        """Places of the target at which a known run begins, its number, and the group; some at a time."""
        if len(known) == 0:
            return
        quick = np.zeros(1 << _BLOOM, np.bool_)
        quick[known >> np.uint64(64 - _BLOOM)] = True
        total = len(self.target.hashes) if targets is None else len(targets)
        for low in range(0, total, CHUNK):
            high = min(low + CHUNK, total)
            part = np.arange(low, high) if targets is None else targets[low:high]
            part = _long_enough(self.target, part, length)
            hashes = _run_hashes(self.target.hashes, part, length)
            maybe = quick[hashes >> np.uint64(64 - _BLOOM)]
            part, hashes = part[maybe], hashes[maybe]
            number = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            same = known[number] == hashes
            part = part[same]
            yield part, number[same], self.target.groups[_owners(self.target, part)]


def _places(some: Sequences, rows: I64) -> I64:
    """The places of all tokens of these records."""
    lengths = some.lengths[rows]
    begins = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(some.offsets[:-1][rows] - begins, lengths)


def _owners(some: Sequences, places: I64) -> I64:
    """The record of each place; places that ascend are found by counting, not by searching."""
    if len(places) > 1 and places[-1] - places[0] == len(places) - 1:
        first, last = np.searchsorted(some.offsets, [places[0], places[-1]], side="right") - 1
        edges = np.clip(some.offsets[first : last + 2], places[0], places[-1] + 1)
        return np.repeat(np.arange(first, last + 1), np.diff(edges))
    return np.searchsorted(some.offsets, places, side="right") - 1


def _long_enough(some: Sequences, places: I64, length: int) -> I64:
    """The places from which a record has `length` tokens left."""
    return places[places + length <= some.offsets[_owners(some, places) + 1]]


def _run_hashes(tokens: U64, places: I64, length: int) -> U64:
    """The hash of the run of `length` tokens at each place."""
    found = np.zeros(len(places), np.uint64)
    for step in range(length):
        found *= _STEP
        found += tokens[places + step]
    return mix(found)
