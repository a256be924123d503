"""How much of the n-grams of one corpus stands in another, for any replicate group left out. Knows no metric.

Of an n-gram only two things matter: which groups of the reference hold it, and how often each group has it.
So a table by sets of reference groups answers everything, and few n-grams of a length worth looking for are
held by more than one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Need
from karat.auditing.grams import GROUP_BITS, GramKeys, Ranges
from karat.auditing.spectra import I64, U64, SpectrumKind, entries_of

_KEEP = 4_000_000  # shared n-grams that are remembered by their hash


@dataclass(frozen=True)
class Copies:
    """N-grams of a candidate (groups 0 .. G-1) and of its reference (groups G .. 2G-1).

    totals int64 [2G]: n-grams a group, repeats counted.
    holders uint64 [B], counts int64 [B, 2G]: of the n-grams that exactly the reference groups holders[b] have,
    how often each group has them. Left out are those that one reference group alone has.
    shared uint64 [S]: 58 bits of the hash of each n-gram of both corpora, sorted.
    """

    groups: int
    totals: I64
    holders: U64
    counts: I64
    shared: U64

    def window(self, start: int, stop: int) -> Copies:
        """The same: copies are of both corpora, whatever window is looked through."""
        return self

    @cached_property
    def mine(self) -> I64:
        """int64 [B, G]: the candidate's part of the counts."""
        return self.counts[:, : self.groups]

    @cached_property
    def theirs(self) -> I64:
        """int64 [B, G]: the reference's part of the counts."""
        return self.counts[:, self.groups :]

    def found(self, without: int = -1) -> NDArray[np.int64]:
        """int64 [G]: n-grams of each candidate group that stand in the reference, one of its groups left out."""
        return np.asarray(self.mine[self._held(without)].sum(axis=0))

    def found_elsewhere(self, counts: I64, without: int = -1) -> NDArray[np.int64]:
        """int64 [G]: of `counts` [B, G], those that stand in another reference group than that of the same number.

        Asked of the reference itself, and of the candidate, so that both are looked up in as much text.
        """
        own = np.uint64(1) << np.arange(self.groups, dtype=np.uint64)
        left = self.holders & ~self._bit(without)
        return np.asarray(np.where((left[:, None] & ~own) != 0, counts, 0).sum(axis=0))

    def _held(self, without: int) -> NDArray[np.bool_]:
        return (self.holders & ~self._bit(without)) != 0

    @staticmethod
    def _bit(group: int) -> np.uint64:
        return np.uint64(1 << group) if group >= 0 else np.uint64(0)

    def has(self, hashes: U64) -> NDArray[np.bool_]:
        """Which n-grams both corpora have, by their full hashes."""
        if len(self.shared) == 0:
            return np.zeros(len(hashes), np.bool_)
        wanted = hashes >> np.uint64(GROUP_BITS)
        place = np.minimum(np.searchsorted(self.shared, wanted), len(self.shared) - 1)
        return np.asarray(self.shared[place] == wanted)


class CopiesKind(SpectrumKind):
    """N-grams that the candidate shares with the reference (settings n, tokens)."""

    def stack(self, corpora: Sequence[GramKeys], offsets: Sequence[int], groups: int) -> Copies:  # type: ignore[override]
        ranges = Ranges(tuple(corpora), tuple(offsets))
        return joined([_range(ranges, number, groups // 3) for number in range(len(ranges))])


def joined(parts: Sequence[Copies]) -> Copies:
    """The tables of several ranges of hashes together: no n-gram is in two of them."""
    holders, where = np.unique(np.concatenate([one.holders for one in parts]), return_inverse=True)
    counts = np.zeros((len(holders), 2 * parts[0].groups), np.int64)
    np.add.at(counts, where, np.concatenate([one.counts for one in parts]))
    shared = np.concatenate([one.shared for one in parts])[:_KEEP]
    totals = np.sum([one.totals for one in parts], axis=0)
    return Copies(parts[0].groups, totals, holders, counts, shared)


def _range(ranges: Ranges, number: int, groups: int) -> Copies:
    hashes, group, count = entries_of(ranges, number)
    both = group < 2 * groups  # spare records take no part
    hashes, group, count = hashes[both], group[both], count[both]
    totals = np.bincount(group, weights=count, minlength=2 * groups).astype(np.int64)
    if len(hashes) == 0:
        return Copies(groups, totals, hashes, np.zeros((0, 2 * groups), np.int64), hashes)
    begins = np.flatnonzero(np.concatenate([np.ones(1, np.bool_), hashes[1:] != hashes[:-1]]))
    bits = np.bitwise_or.reduceat(np.uint64(1) << group.astype(np.uint64), begins)
    mine = bits & np.uint64((1 << groups) - 1)
    theirs = bits >> np.uint64(groups)
    several = (theirs & (theirs - np.uint64(theirs > 0))) != 0
    kept = (theirs != 0) & ((mine != 0) | several)
    entries = np.repeat(kept, np.diff(begins, append=len(hashes)))
    holders, where = np.unique(theirs[kept], return_inverse=True)
    owner = np.repeat(where, np.diff(begins, append=len(hashes))[kept])
    counts = np.zeros(len(holders) * 2 * groups, np.int64)
    cell = owner * 2 * groups + group[entries]
    counts += np.bincount(cell, weights=count[entries], minlength=len(counts)).astype(np.int64)
    shared = hashes[begins[(theirs != 0) & (mine != 0)]]
    return Copies(groups, totals, holders, counts.reshape(-1, 2 * groups), shared)
