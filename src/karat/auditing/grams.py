"""Counts of hashed n-grams by replicate group, and what follows for any union of groups. Knows no text.

Numbers of types and sums of squares do not add up over groups, but two small tables answer for every
union of groups at once: how many n-grams occur in exactly which set of groups (a histogram over bit
masks), and the inner products of the groups' count vectors (a Gram matrix).

Both tables, and the totals, add up over any partition of the n-grams. So n-grams are kept as sorted runs,
in memory or in files, and counted range by range of their hashes: memory is bounded by one range, and
the result is the same to the last digit, because everything that is added is a whole number.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Values
from karat.executors.base import Executor, tree_reduce

GROUP_BITS = 6  # the low bits of a key hold the group: up to 64 groups, 58 bits of hash
RANGE = 1 << 21  # keys counted at a time: 16 MiB of them, and a few times as much to count them
_LOW = np.uint64((1 << GROUP_BITS) - 1)
_ROWS = 1 << 16  # n-grams multiplied at a time

Counts = NDArray[np.uint32] | None
"""How often each key of a run occurs; None where each entry is one occurrence and keys may repeat."""


@dataclass(frozen=True)
class Run:
    """Sorted keys uint64 [M], hash and group in one number, and their counts."""

    keys: NDArray[np.uint64]
    counts: Counts = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """The memory that the run takes."""
        return int(self.keys.nbytes + (0 if self.counts is None else self.counts.nbytes))

    def bounds(self, edges: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Where keys of each edge and more begin."""
        return np.searchsorted(self.keys, edges)

    def between(self, low: int, high: int) -> Run:
        """The entries low .. high-1."""
        return Run(self.keys[low:high], None if self.counts is None else self.counts[low:high])


@dataclass(frozen=True)
class FiledRun:
    """A run in a file: the keys, then the counts, if it has any."""

    path: str
    size: int
    counted: bool

    nbytes = 0

    def __len__(self) -> int:
        return self.size

    def bounds(self, edges: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Where keys of each edge and more begin; reads a few pages of the file."""
        if self.size == 0:
            return np.zeros(len(edges), np.int64)
        return np.searchsorted(np.memmap(self.path, np.uint64, "r", shape=(self.size,)), edges)

    def between(self, low: int, high: int) -> Run:
        """The entries low .. high-1, read from the file."""
        keys = np.fromfile(self.path, np.uint64, high - low, offset=8 * low)
        if not self.counted:
            return Run(keys)
        return Run(keys, np.fromfile(self.path, np.uint32, high - low, offset=8 * self.size + 4 * low))


@dataclass(frozen=True)
class GramKeys:
    """Every n-gram of a part of a corpus, as sorted runs."""

    runs: tuple[Run | FiledRun, ...]

    @staticmethod
    def of(hashes: NDArray[np.uint64], groups: NDArray[np.uint8]) -> GramKeys:
        """Pack and sort hashes [M] and the group of each [M]."""
        return GramKeys((_shortened(np.sort((hashes & ~_LOW) | groups.astype(np.uint64))),))

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    @property
    def nbytes(self) -> int:
        """The memory that the runs take."""
        return sum(run.nbytes for run in self.runs)

    def merged(self, other: GramKeys) -> GramKeys:
        """Both parts together."""
        return GramKeys(self.runs + other.runs)

    def packed(self, folder: str | None = None) -> GramKeys:
        """The same in as few runs as possible; in a file of `folder`, if one is given."""
        held = [run for run in self.runs if isinstance(run, Run)]
        filed = tuple(run for run in self.runs if isinstance(run, FiledRun))
        if not held or (len(held) == 1 and folder is None):
            return self
        one = held[0]
        if len(held) > 1:
            keys, counts = _together(held)
            one = _shortened(keys) if counts is None else Run(*_counted(keys, counts))
        return GramKeys((*filed, one if folder is None else _filed(one, folder)))


def _shortened(keys: NDArray[np.uint64]) -> Run:
    """Sorted keys as a run: each key once with its count, where that is shorter than repeating it."""
    if len(keys) == 0:
        return Run(keys)
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    if 3 * len(starts) > 2 * len(keys):  # 12 bytes a key and count against 8 bytes an occurrence
        return Run(keys)
    return Run(keys[starts], np.diff(np.r_[starts, len(keys)]).astype(np.uint32))


def _together(runs: Sequence[Run]) -> tuple[NDArray[np.uint64], NDArray[np.int64] | None]:
    """The sorted keys of several runs, and the count of each entry where any run has counts."""
    keys = np.concatenate([run.keys for run in runs])
    if all(run.counts is None for run in runs):
        keys.sort()
        return keys, None
    ones = [np.ones(len(run), np.uint32) if run.counts is None else run.counts for run in runs]
    order = np.argsort(keys)
    return keys[order], np.concatenate(ones)[order].astype(np.int64)


def _counted(
    keys: NDArray[np.uint64], counts: NDArray[np.int64] | None
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Sorted keys, each once, and how often each occurs."""
    if len(keys) == 0:
        return keys, np.zeros(0, np.uint32)
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    if counts is None:
        return keys[starts], np.diff(np.r_[starts, len(keys)]).astype(np.uint32)
    found = np.add.reduceat(counts, starts)
    assert int(found.max()) < 1 << 32
    return keys[starts], found.astype(np.uint32)


def _filed(run: Run, folder: str) -> FiledRun:
    handle, path = tempfile.mkstemp(dir=folder, suffix=".run")
    with os.fdopen(handle, "wb") as file:
        run.keys.tofile(file)
        if run.counts is not None:
            run.counts.tofile(file)
    return FiledRun(path, len(run), run.counts is not None)


@dataclass(frozen=True)
class Grams:
    """What is left of the n-grams of G groups.

    totals int64 [G]: n-grams a group. sets uint64 [B] and sizes int64 [B]: sizes[b] types occur in exactly
    the groups that are bits of sets[b]. gram float64 [G, G]: inner products of the groups' counts.
    """

    totals: NDArray[np.int64]
    sets: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    gram: NDArray[np.float64]

    def count(self, masks: Masks) -> Values:
        """float64 [K]: n-grams under each mask, repeats counted."""
        return np.asarray(masks @ self.totals, dtype=np.float64)

    def types(self, masks: Masks) -> Values:
        """float64 [K]: different n-grams under each mask."""
        alone, sets, sizes = self._split
        found = (masks @ alone).astype(np.float64)
        bits = np.uint64(1) << np.arange(len(self.totals), dtype=np.uint64)
        for row, mask in enumerate(masks):
            wanted = np.bitwise_or.reduce(bits[mask]) if mask.any() else np.uint64(0)
            found[row] += sizes[(sets & wanted) != 0].sum()
        return found

    def squares(self, masks: Masks) -> Values:
        """float64 [K]: the sum over types of the squared count under each mask."""
        weights = masks.astype(np.float64)
        return np.asarray(np.einsum("kg,gh,kh->k", weights, self.gram, weights, optimize=True))

    @cached_property
    def _split(self) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
        # Most types live in one group; those need no pass over masks.
        bits = np.uint64(1) << np.arange(len(self.totals), dtype=np.uint64)
        lonely = (self.sets & (self.sets - np.uint64(1))) == 0
        alone = np.zeros(len(self.totals), np.int64)
        where = np.searchsorted(bits, self.sets[lonely])
        np.add.at(alone, where, self.sizes[lonely])
        return alone, self.sets[~lonely], self.sizes[~lonely]


@dataclass(frozen=True)
class StackedGrams:
    """The n-grams of all corpora of an audit, over at most 64 groups."""

    whole: Grams

    def window(self, start: int, stop: int) -> Grams:
        """The n-grams of a range of groups; types that occur elsewhere only are gone."""
        low = np.uint64((1 << (stop - start)) - 1) if stop - start < 64 else ~np.uint64(0)
        inside = (self.whole.sets >> np.uint64(start)) & low
        present = inside != 0
        sets, sizes = _histogram(inside[present], self.whole.sizes[present])
        rows = slice(start, stop)
        return Grams(self.whole.totals[rows], sets, sizes, self.whole.gram[rows, rows])


@dataclass(frozen=True)
class Ranges:
    """Runs of several corpora, cut into ranges of hashes that can be counted one by one."""

    corpora: tuple[GramKeys, ...]
    offsets: tuple[int, ...]
    size: int = RANGE

    @cached_property
    def _bounds(self) -> list[list[NDArray[np.int64]]]:
        pieces = len(self)
        step = (1 << 64) // pieces
        edges = np.array([i * step for i in range(1, pieces)], np.uint64)
        return [[np.r_[0, run.bounds(edges), len(run)] for run in corpus.runs] for corpus in self.corpora]

    def __len__(self) -> int:
        total = sum(map(len, self.corpora))
        return 1 << max(0, int(np.ceil(np.log2(max(1, total) / self.size))))

    def entries(self, number: int) -> tuple[NDArray[np.uint64], NDArray[np.int64] | None]:
        """The sorted keys of one range, groups moved to their places, and the count of each entry."""
        found = []
        for corpus, shift, bounds in zip(self.corpora, self.offsets, self._bounds, strict=True):
            for run, cuts in zip(corpus.runs, bounds, strict=True):
                low, high = int(cuts[number]), int(cuts[number + 1])
                if high > low:
                    part = run.between(low, high)
                    found.append(Run(part.keys + np.uint64(shift), part.counts))
        return _together(found) if found else (np.zeros(0, np.uint64), None)


def stack_grams(
    corpora: Sequence[GramKeys],
    offsets: Sequence[int],
    groups: int,
    *,
    executor: Executor | None = None,
) -> StackedGrams:
    """Put corpora side by side: the groups of corpus i begin at offsets[i]; `groups` in all, at most 64."""
    assert groups <= 1 << GROUP_BITS
    ranges = Ranges(tuple(corpora), tuple(offsets))
    function = partial(count_range, ranges, groups=groups)
    numbers = range(len(ranges))
    counted = map(function, numbers) if executor is None else executor.map(function, numbers)
    return StackedGrams(tree_reduce(counted, added))


def count_range(ranges: Ranges, number: int, *, groups: int) -> Grams:
    """The tables of the n-grams of one range of hashes."""
    keys, given = ranges.entries(number)
    entries, counts = _counted(keys, given)  # one entry a type and group
    del keys, given
    if len(entries) == 0:
        none = np.zeros(0, np.uint64)
        return Grams(np.zeros(groups, np.int64), none, none.astype(np.int64), np.zeros((groups, groups)))
    group = (entries & _LOW).astype(np.int64)
    hashes = entries >> np.uint64(GROUP_BITS)
    begins = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
    del hashes, entries
    totals = np.bincount(group, weights=counts, minlength=groups).astype(np.int64)
    bits = np.bitwise_or.reduceat(np.uint64(1) << group.astype(np.uint64), begins)
    sets, sizes = _histogram(bits, np.ones(len(bits), np.int64))
    return Grams(totals, sets, sizes, _gram(group, counts, begins, groups))


def added(one: Grams, other: Grams) -> Grams:
    """The tables of two ranges of hashes together: no n-gram is in both."""
    sets, sizes = _histogram(np.concatenate([one.sets, other.sets]), np.concatenate([one.sizes, other.sizes]))
    return Grams(one.totals + other.totals, sets, sizes, one.gram + other.gram)


def _gram(
    group: NDArray[np.int64], counts: NDArray[np.uint32], begins: NDArray[np.int64], groups: int
) -> NDArray[np.float64]:
    """float64 [G, G] of inner products, exact as long as sums stay below 2**53."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    spread = np.diff(np.r_[begins, len(group)])  # in how many groups each type occurs
    lonely = begins[spread == 1]
    out = np.zeros((groups, groups))
    squares = counts[lonely].astype(np.float64) ** 2
    out[np.diag_indices(groups)] = np.bincount(group[lonely], weights=squares, minlength=groups)
    shared = np.flatnonzero(spread > 1)
    # Narrow products gain nothing from threads, and lose seconds to them on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        for low in range(0, len(shared), _ROWS):
            types = shared[low : low + _ROWS]
            length = spread[types]
            rows = np.repeat(np.arange(len(types)), length)
            ends = np.cumsum(length)
            entries = (
                np.repeat(begins[types], length) + np.arange(ends[-1]) - np.repeat(ends - length, length)
            )
            dense = np.zeros((len(types), groups))
            dense[rows, group[entries]] = counts[entries]
            out += dense.T @ dense
    return out


def _histogram(
    values: NDArray[np.uint64], weights: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Distinct values, sorted, and the sum of the weights of each."""
    if len(values) == 0:
        return values, weights
    if (weights == 1).all():
        ordered = np.sort(values)
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        return ordered[starts], np.diff(np.r_[starts, len(ordered)])
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return ordered[starts], np.add.reduceat(weights[order], starts)
