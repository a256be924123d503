"""How often each n-gram occurs in each group, packed so that any union of groups can be asked.

Knows no metric. The counts of ten million different n-grams in sixty groups do not fit into memory one by
one, but nearly all of them are alike: an n-gram that one group alone holds is told by its count, and one that
several groups hold once each by the set of these groups. Only the others are kept one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Need
from karat.auditing.grams import GROUP_BITS, GramKeys, Ranges
from karat.auditing.shards import OUT, Shard

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Frequencies = tuple[I64, I64]
"""Counts that occur, ascending, and how many n-grams have each: the frequency spectrum."""

_LOW = np.uint64((1 << GROUP_BITS) - 1)
_ROWS = 1 << 14  # n-grams laid out at a time: 16,384 by 60 groups are 8 MiB
_FEW = 1 << 10  # counts below are tallied in a table, larger ones one by one


@dataclass(frozen=True)
class Spectrum:
    """The counts of all n-grams of G groups.

    lone int64 [3, L]: lone[2] n-grams occur lone[1] times in group lone[0] and nowhere else.
    sets uint64 [B], sizes int64 [B]: sizes[b] n-grams occur once in each group that is a bit of sets[b].
    starts int64 [R + 1], group uint8 [E], count uint32 [E]: the other n-grams, one by one.
    """

    groups: int
    lone: I64
    sets: U64
    sizes: I64
    starts: I64
    group: NDArray[np.uint8]
    count: NDArray[np.uint32]

    def window(self, first: int, stop: int) -> Spectrum:
        """The same for a range of groups, renumbered; n-grams that occur elsewhere only are gone."""
        groups = stop - first
        inside = (self.lone[0] >= first) & (self.lone[0] < stop)
        lone = self.lone[:, inside] - np.array([[first], [0], [0]])
        low = np.uint64((1 << groups) - 1) if groups < 64 else ~np.uint64(0)
        sets, sizes = _tallied((self.sets >> np.uint64(first)) & low, self.sizes)
        sets, sizes = sets[sets != 0], sizes[sets != 0]
        kept = (self.group >= first) & (self.group < stop)
        running = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        lengths = np.diff(running[self.starts])
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[lengths > 0])])
        group = self.group[kept] - np.uint8(first)
        return Spectrum(groups, lone, sets, sizes, starts, group, self.count[kept])

    def tables(self) -> Iterator[tuple[NDArray[np.float64], I64]]:
        """Blocks of (counts [rows, G], n-grams that have these counts [rows])."""
        groups = self.groups
        for low in range(0, self.lone.shape[1], _ROWS):
            group, count, types = self.lone[:, low : low + _ROWS]
            dense = np.zeros((len(types), groups))
            dense[np.arange(len(types)), group] = count
            yield dense, types
        bits = np.uint64(1) << np.arange(groups, dtype=np.uint64)
        for low in range(0, len(self.sets), _ROWS):
            part = self.sets[low : low + _ROWS]
            yield ((part[:, None] & bits) != 0).astype(np.float64), self.sizes[low : low + _ROWS]
        for low in range(0, len(self.starts) - 1, _ROWS):
            edges = self.starts[low : low + _ROWS + 1]
            rows = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
            dense = np.zeros((len(edges) - 1, groups))
            dense[rows, self.group[edges[0] : edges[-1]]] = self.count[edges[0] : edges[-1]]
            yield dense, np.ones(len(edges) - 1, np.int64)

    def totals(self, masks: Masks) -> I64:
        """int64 [K]: n-grams under each mask, repeats counted."""
        return np.asarray(masks @ self.sums)

    @cached_property
    def sums(self) -> I64:
        """int64 [G]: n-grams of each group, repeats counted."""
        found = np.zeros(self.groups)
        for dense, types in self.tables():
            found += types @ dense
        return found.astype(np.int64)

    @cached_property
    def _asked(self) -> dict[bytes, tuple[Frequencies, ...]]:
        return {}

    def frequencies(self, masks: Masks) -> tuple[Frequencies, ...]:
        """The frequency spectrum under each mask; kept, since several metrics ask for the same masks."""
        key = masks.shape[1].to_bytes(2, "little") + np.packbits(masks).tobytes()
        if key not in self._asked:
            if len(self._asked) >= 4:
                self._asked.pop(next(iter(self._asked)))
            self._asked[key] = self._frequencies(masks)
        return self._asked[key]

    def _frequencies(self, masks: Masks) -> tuple[Frequencies, ...]:
        few = np.zeros((len(masks), _FEW), np.int64)
        many: list[list[Frequencies]] = [[] for _ in masks]
        weights = masks.T.astype(np.float64)
        for dense, types in self.tables():
            for k, column in enumerate((dense @ weights).astype(np.int64).T):
                small = column < _FEW
                few[k] += np.bincount(column[small], weights=types[small], minlength=_FEW).astype(np.int64)
                if not small.all():
                    many[k].append((column[~small], types[~small]))
        return tuple(_spectrum(row, parts) for row, parts in zip(few, many))


def _spectrum(few: I64, many: Sequence[Frequencies]) -> Frequencies:
    low = np.flatnonzero(few[1:]) + 1
    counts = np.concatenate([low, *(one for one, _ in many)])
    types = np.concatenate([few[low], *(one for _, one in many)])
    return _tallied(counts, types)


class SpectrumKind:
    """Counts of the n-grams of tokens by group (settings n, tokens), exact up to hash collisions."""

    def collect(self, shard: Shard, need: Need) -> GramKeys:
        hashes, owner = shard.ngrams(need, int(need.get("n", 1)))
        group = shard.groups(need)[owner]
        chosen = group != OUT
        return GramKeys.of(hashes[chosen], group[chosen])

    def merge(self, one: GramKeys, other: GramKeys) -> GramKeys:
        return one.merged(other)

    def pack(self, part: GramKeys, folder: str | None) -> GramKeys:
        return part.packed(folder)

    def stack(self, corpora: Sequence[GramKeys], offsets: Sequence[int], groups: int) -> Spectrum:
        return stack_spectrum(corpora, offsets, groups)


def stack_spectrum(corpora: Sequence[GramKeys], offsets: Sequence[int], groups: int) -> Spectrum:
    """Put corpora side by side: the groups of corpus i begin at offsets[i]; `groups` in all, at most 64."""
    assert groups <= 1 << GROUP_BITS
    ranges = Ranges(tuple(corpora), tuple(offsets))
    return joined([_range(ranges, number, groups) for number in range(len(ranges))])


def joined(parts: Sequence[Spectrum]) -> Spectrum:
    """The tables of several ranges of hashes together: no n-gram is in two of them."""
    packed, types = _tallied(
        np.concatenate([(one.lone[1] << GROUP_BITS) | one.lone[0] for one in parts]),
        np.concatenate([one.lone[2] for one in parts]),
    )
    sets, sizes = _tallied(
        np.concatenate([one.sets for one in parts]), np.concatenate([one.sizes for one in parts])
    )
    lengths = np.concatenate([np.diff(one.starts) for one in parts])
    return Spectrum(
        parts[0].groups,
        np.stack([packed & int(_LOW), packed >> GROUP_BITS, types]),
        sets,
        sizes,
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        np.concatenate([one.group for one in parts]),
        np.concatenate([one.count for one in parts]),
    )


def entries_of(ranges: Ranges, number: int) -> tuple[U64, NDArray[np.uint8], NDArray[np.uint32]]:
    """One entry an n-gram and group of one range of hashes, sorted: hashes of 58 bits, groups, counts."""
    keys, given = ranges.entries(number)
    if len(keys) == 0:
        return keys, np.zeros(0, np.uint8), np.zeros(0, np.uint32)
    first = np.flatnonzero(np.concatenate([np.ones(1, np.bool_), keys[1:] != keys[:-1]]))
    counts = np.diff(first, append=len(keys)) if given is None else np.add.reduceat(given, first)
    kept = keys[first]
    return kept >> np.uint64(GROUP_BITS), (kept & _LOW).astype(np.uint8), counts.astype(np.uint32)


def _range(ranges: Ranges, number: int, groups: int) -> Spectrum:
    hashes, group, count = entries_of(ranges, number)
    none = np.zeros(0, np.int64)
    if len(hashes) == 0:
        empty = none.astype(np.uint64)
        return Spectrum(groups, np.zeros((3, 0), np.int64), empty, none, np.zeros(1, np.int64), group, count)
    begins = np.flatnonzero(np.concatenate([np.ones(1, np.bool_), hashes[1:] != hashes[:-1]]))
    del hashes
    held = np.diff(begins, append=len(group))  # groups that hold each n-gram
    most = np.maximum.reduceat(count, begins)
    alone = begins[held == 1]
    packed, types = _tallied(
        (count[alone].astype(np.int64) << GROUP_BITS) | group[alone], np.ones(len(alone), np.int64)
    )
    once = (held > 1) & (most == 1)
    bits = np.bitwise_or.reduceat(np.uint64(1) << group.astype(np.uint64), begins)[once]
    sets, sizes = _tallied(bits, np.ones(len(bits), np.int64))
    other = (held > 1) & (most > 1)
    entries = np.repeat(other, held)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(held[other])])
    lone = np.stack([packed & int(_LOW), packed >> GROUP_BITS, types])
    return Spectrum(groups, lone, sets, sizes, starts, group[entries], count[entries])


def _tallied(values: NDArray[Any], weights: I64) -> tuple[NDArray[Any], I64]:
    """Distinct values, sorted, and the sum of the weights of each."""
    if len(values) == 0:
        return values, weights
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.flatnonzero(np.concatenate([np.ones(1, np.bool_), ordered[1:] != ordered[:-1]]))
    return ordered[first], np.add.reduceat(weights[order], first)
