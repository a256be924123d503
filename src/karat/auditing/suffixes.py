"""The longest run of words that a record shares with a corpus, exactly. Knows words as numbers only.

Every run of 1, 2, 4, 8 ... words gets a number that is equal where the words are equal and in the order of
the words (Karp, Miller and Rosenberg 1972; Manber and Myers 1993). The last numbers sort all suffixes; the
longest run that a suffix shares with any suffix of the corpus, it shares with one of its two neighbours
there, and how long it is follows from the numbers of 2^k, 2^(k-1) ... words. O(words log(length)) numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from karat.auditing.folded import Words

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Longest:
    """For each record the longest run of words that it shares: length, first word, and in which record."""

    length: I64
    start: I64
    """The word of the record with which the run begins."""
    source: I64
    """The record of the corpus that holds it; -1 where nothing is shared."""


@dataclass(frozen=True)
class Suffixes:
    """All suffixes of the records of two corpora, sorted; the second one is where copies are looked for."""

    mine: Words
    theirs: Words

    @cached_property
    def _lengths(self) -> I64:
        return np.concatenate([self.mine.tokens.lengths, self.theirs.tokens.lengths])

    @cached_property
    def _owner(self) -> I64:
        """int64 [T]: the record of each word, records of both corpora numbered one after the other."""
        return np.repeat(np.arange(len(self._lengths)), self._lengths)

    @cached_property
    def _ends(self) -> I64:
        """int64 [T]: where the record of each word ends."""
        return np.repeat(np.cumsum(self._lengths), self._lengths)

    @cached_property
    def _group(self) -> I64:
        return np.concatenate([self.mine.groups, self.theirs.groups])[self._owner]

    @cached_property
    def _names(self) -> list[NDArray[np.int32]]:
        """For k = 0, 1 ...: int32 [T], the number of the 2^k words from each word on, cut at the end."""
        words = np.concatenate([self.mine.tokens.hashes, self.theirs.tokens.hashes])
        place = np.arange(len(words))
        names = [_numbered(words)]
        reach = 1
        while len(words) and names[-1].max() < len(words) and (place + reach < self._ends).any():
            after = np.zeros(len(words), np.uint64)
            inside = np.flatnonzero(place + reach < self._ends)
            after[inside] = names[-1][inside + reach]
            names.append(_numbered((names[-1].astype(np.uint64) << np.uint64(32)) | after))
            reach *= 2
        return names

    def shared(self, one: I64, other: I64) -> I64:
        """int64 [K]: how many words the suffixes at `one` and `other` have in common."""
        at, there = one.copy(), other.copy()
        ends, far = self._ends[one], self._ends[other]
        found = np.zeros(len(one), np.int64)
        for k in range(len(self._names) - 1, -1, -1):
            names = self._names[k]
            left = (at < ends) & (there < far)
            same = np.zeros(len(at), np.bool_)
            same[left] = names[at[left]] == names[there[left]]
            # equal numbers of cut runs mean that both suffixes end alike
            step = np.where(same, np.minimum(1 << k, np.minimum(ends - at, far - there)), 0)
            found += step
            at += step
            there += step
        return found

    @cached_property
    def _neighbours(self) -> tuple[I64, I64, I64, NDArray[np.bool_]]:
        """Suffixes in order [T], those of the corpus in order [R], how many of these come before each."""
        split = int(self.mine.tokens.offsets[-1])
        order = np.argsort(self._names[-1], kind="stable")
        theirs = order >= split
        before: I64 = np.cumsum(theirs) - theirs
        return order, order[theirs], before, theirs

    def longest(self, *, humans: bool, other_groups: bool) -> Longest:
        """The longest run of each record of the first corpus; of the second, if `humans`.

        other_groups: only records of another group count, as they must where a corpus is held against itself
        """
        order, corpus, before, theirs = self._neighbours
        asked = np.flatnonzero(theirs == humans)
        suffix = order[asked]
        below, above = before[asked] - 1, before[asked] + theirs[asked]
        if other_groups:
            below, above = self._past_own_group(suffix, below, above)
        length = np.zeros(len(suffix), np.int64)
        source = np.full(len(suffix), -1, np.int64)
        for neighbour in (below, above):
            known = np.flatnonzero((neighbour >= 0) & (neighbour < len(corpus)))
            place = corpus[neighbour[known]]
            common = self.shared(suffix[known], place)
            better = common > length[known]
            length[known[better]] = common[better]
            source[known[better]] = self._owner[place[better]]
        return self._of_records(suffix, length, source, humans)

    def _past_own_group(self, suffix: I64, below: I64, above: I64) -> tuple[I64, I64]:
        """The nearest suffixes of the corpus that are not of the group of each suffix."""
        corpus = self._neighbours[1]
        groups = self._group[corpus]
        if len(groups) == 0:
            return below, above
        new = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
        run = np.cumsum(np.r_[False, groups[1:] != groups[:-1]])
        first, past = new[run], np.r_[new[1:], len(groups)][run]
        own = self._group[suffix]
        low, high = np.clip(below, 0, None), np.minimum(above, len(groups) - 1)
        below = np.where((below >= 0) & (groups[low] == own), first[low] - 1, below)
        above = np.where((above < len(groups)) & (groups[high] == own), past[high], above)
        return below, above

    def _of_records(self, suffix: I64, length: I64, source: I64, humans: bool) -> Longest:
        """The longest run of each record; the first one in the record, where several are as long."""
        words, shift, skipped = self.mine, 0, 0
        if humans:
            words, shift, skipped = self.theirs, len(self.mine), int(self.mine.tokens.offsets[-1])
        record = self._owner[suffix] - shift
        best = np.lexsort((suffix, -length, record))
        if len(best):
            best = best[np.r_[True, record[best][1:] != record[best][:-1]]]
        rows = record[best]
        out = Longest(
            np.zeros(len(words), np.int64), np.zeros(len(words), np.int64), np.full(len(words), -1, np.int64)
        )
        out.length[rows] = length[best]
        out.start[rows] = np.where(length[best] > 0, suffix[best] - words.tokens.offsets[rows] - skipped, 0)
        out.source[rows] = np.where(source[best] >= 0, source[best] - len(self.mine), -1)
        return out


def _numbered(values: NDArray[np.uint64]) -> NDArray[np.int32]:
    """int32 [T]: the rank from 1 of each value among the different ones."""
    if len(values) == 0:
        return np.zeros(0, np.int32)
    order = np.argsort(values)
    ordered = values[order]
    out = np.empty(len(values), np.int32)
    out[order] = np.cumsum(np.r_[True, ordered[1:] != ordered[:-1]])
    return out
