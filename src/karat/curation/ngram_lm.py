"""An n-gram language model with interpolated Kneser-Ney smoothing: seconds to fit. Knows token numbers only.

Kneser and Ney 1995 in the interpolated and modified form of Chen and Goodman 1998: three discounts a level,
and below the top level a token counts for the different tokens that it follows, not for how often it does.
All counts are sorted arrays of hashed n-grams (64 bits: two of 10^7 n-grams share a hash with probability
3e-6), so that fitting and scoring are a few sorts and searches instead of a loop over tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

START, END, UNKNOWN = 0, 1, 2
FIRST = 3
"""the number of the first token of a vocabulary"""


@dataclass(frozen=True, eq=False)
class Level:
    """The counts of one n-gram length: sorted hashes of grams and of their histories, and what they hold."""

    grams: Hashes
    counts: Floats
    """of each gram, less its discount"""
    histories: Hashes
    totals: Floats
    rest: Floats
    """the mass that each history leaves to shorter ones, not yet divided by its total"""


@dataclass(frozen=True, eq=False)
class NgramLm:
    """A fitted model over the tokens 1 to size - 1; START is never predicted."""

    levels: tuple[Level, ...]
    size: int

    def log_probabilities(self, rows: Sequence[Ints]) -> list[Floats]:
        """Return for each row ln P of each token and of the end, given those before."""
        n = len(self.levels)
        stream, keep = _stream(rows, n)
        logs = np.log(self._chances(stream))[keep]
        ends = np.cumsum([len(row) + 1 for row in rows])
        return np.split(logs, ends[:-1])

    def next(self, history: Sequence[int]) -> Floats:
        """Return P of every token [size] after a history; START has none."""
        n = len(self.levels)
        before = ([START] * n + list(history))[-(n - 1) :] if n > 1 else []
        tokens = np.arange(1, self.size)
        streams = np.concatenate([np.r_[np.array(before, np.int64), token] for token in tokens])
        chances = self._chances(streams)[n - 1 :: n]
        return np.asarray(np.r_[0.0, chances])

    def _chances(self, stream: Ints) -> Floats:
        """P of each token of a stream; only those with n - 1 tokens before them mean something."""
        chance = np.full(len(stream), 1.0 / (self.size - 1))
        for k, level in enumerate(self.levels, 1):
            grams, histories = _hashed(stream, k), _hashed(_moved(stream), k - 1)
            counted = _found(level.grams, level.counts, grams)
            total = _found(level.histories, level.totals, histories)
            rest = _found(level.histories, level.rest, histories)
            seen = total > 0
            safe = np.where(seen, total, 1.0)
            chance = np.where(seen, (counted + rest * chance) / safe, chance)
        return chance


def fit(rows: Sequence[Ints], size: int, order: int = 5) -> NgramLm:
    """Return the model of rows of token numbers (FIRST to size - 1); each row ends with END."""
    stream, keep = _stream(rows, order)
    places = np.flatnonzero(keep)
    levels: list[Level] = []
    for k in range(order, 0, -1):
        if k == order:
            kinds, first, counts = _counted(_hashed(stream, k)[places])
        else:  # how many different tokens stand before it
            longer = _hashed(stream, k + 1)[places]
            distinct = places[np.unique(longer, return_index=True)[1]]
            kinds, first, counts = _counted(_hashed(stream, k)[distinct])
            first = np.searchsorted(places, distinct[first])
        histories = _hashed(_moved(stream), k - 1)[places[first]]
        levels.append(_level(kinds, counts, histories))
    return NgramLm(tuple(reversed(levels)), size)


def _level(grams: Hashes, counts: Floats, histories: Hashes) -> Level:
    discounts = _discounts(counts)
    taken = discounts[np.minimum(counts, 3).astype(np.int64)]
    names, member = np.unique(histories, return_inverse=True)
    totals = np.bincount(member, weights=counts, minlength=len(names))
    rest = np.bincount(member, weights=taken, minlength=len(names))
    return Level(grams, counts - taken, names, totals.astype(np.float64), rest.astype(np.float64))


def _discounts(counts: Floats) -> Floats:
    """Return what is taken from counts of 0, 1, 2 and 3 or more (Chen and Goodman 1998, equation 26)."""
    ones, twos, threes, fours = (float((counts == c).sum()) for c in (1, 2, 3, 4))
    if not ones or not twos:
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = ones / (ones + 2 * twos)
    found = [
        1 - 2 * y * twos / ones,
        2 - 3 * y * threes / twos,
        3 - 4 * y * fours / threes if threes else 0.5,
    ]
    # Few data give discounts below 0 or beyond the count; a little is always left to the unseen.
    return np.array([0.0, *(min(max(d, 0.05), c - 0.05) for c, d in zip((1, 2, 3), found))])


def _stream(rows: Sequence[Ints], order: int) -> tuple[Ints, NDArray[np.bool_]]:
    """All rows one after the other, each behind `order` starts; and which places are predicted."""
    parts: list[Ints] = []
    for row in rows:
        parts += [np.full(order, START, np.int64), np.asarray(row, np.int64), np.array([END], np.int64)]
    stream = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return stream, stream != START


def _moved(stream: Ints) -> Ints:
    """The token before each place."""
    return np.r_[np.zeros(1, np.int64), stream[:-1]] if len(stream) else stream


def _hashed(stream: Ints, k: int) -> Hashes:
    """The hash of the k tokens that end at each place; what lies before the stream is START."""
    state = np.full(len(stream), 0x9E3779B97F4A7C15 + k, np.uint64)
    for back in range(k - 1, -1, -1):
        token = np.zeros(len(stream), np.uint64)
        token[back:] = stream[: len(stream) - back].astype(np.uint64) if back else stream.astype(np.uint64)
        state = _mixed(state ^ (token + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93))
    return state


def _mixed(x: Hashes) -> Hashes:
    """The finisher of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _counted(grams: Hashes) -> tuple[Hashes, Ints, Floats]:
    """The different grams, sorted, where each stands first, and how often."""
    kinds, first, counts = np.unique(grams, return_index=True, return_counts=True)
    return kinds, first, counts.astype(np.float64)


def _found(keys: Hashes, values: Floats, wanted: Hashes) -> Floats:
    if not len(keys):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0)
