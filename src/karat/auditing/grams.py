"""Counts of hashed n-grams by replicate group, and what follows for any union of groups. Knows no text.

Numbers of types and sums of squares do not add up over groups, but two small tables answer for every
union of groups at once: how many n-grams occur in exactly which set of groups (a histogram over bit
masks), and the inner products of the groups' count vectors (a Gram matrix).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Values

GROUP_BITS = 6  # the low bits of a key hold the group: up to 64 groups, 58 bits of hash
_LOW = np.uint64((1 << GROUP_BITS) - 1)
_ROWS = 1 << 16  # n-grams multiplied at a time


@dataclass(frozen=True)
class GramKeys:
    """Every n-gram of a part of a corpus: sorted keys uint64 [M], hash and group in one number."""

    keys: NDArray[np.uint64]

    @staticmethod
    def of(hashes: NDArray[np.uint64], groups: NDArray[np.uint8]) -> GramKeys:
        """Pack and sort hashes [M] and the group of each [M]."""
        return GramKeys(np.sort((hashes & ~_LOW) | groups.astype(np.uint64)))

    def merged(self, other: GramKeys) -> GramKeys:
        """Both parts together; a stable sort of two sorted runs is a merge."""
        return GramKeys(np.sort(np.concatenate([self.keys, other.keys]), kind="stable"))


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


def stack_grams(corpora: Sequence[GramKeys], offsets: Sequence[int], groups: int) -> StackedGrams:
    """Put corpora side by side: the groups of corpus i begin at offsets[i]; `groups` in all, at most 64."""
    assert groups <= 1 << GROUP_BITS
    moved = [part.keys + np.uint64(shift) for part, shift in zip(corpora, offsets, strict=True)]
    keys = np.concatenate(moved)
    del moved
    if len(corpora) > 1:
        keys.sort(kind="stable")
    totals = np.bincount((keys & _LOW).astype(np.int64), minlength=groups)
    if len(keys) == 0:
        none = np.zeros(0, np.uint64)
        return StackedGrams(Grams(totals, none, none.astype(np.int64), np.zeros((groups, groups))))
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    counts = np.diff(np.r_[starts, len(keys)])
    entries = keys[starts]  # one entry a type and group
    del keys, starts
    group = (entries & _LOW).astype(np.int64)
    hashes = entries >> np.uint64(GROUP_BITS)
    first = np.r_[True, hashes[1:] != hashes[:-1]]
    begins = np.flatnonzero(first)
    del hashes, entries
    bits = np.bitwise_or.reduceat(np.uint64(1) << group.astype(np.uint64), begins)
    sets, sizes = _histogram(bits, np.ones(len(bits), np.int64))
    return StackedGrams(Grams(totals, sets, sizes, _gram(group, counts, begins, groups)))


def _gram(
    group: NDArray[np.int64], counts: NDArray[np.int64], begins: NDArray[np.int64], groups: int
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
