"""The space of combinations: what is permitted, and what has not come yet. Knows numbers only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.errors import BadSetting

Array = NDArray[Any]
Clause = Mapping[int, Collection[int]]
"""Attribute number -> value numbers: a row that has one of these values in each of them is forbidden."""

# A space up to the first size is listed from the start, one up to the second when guesses fail.
_LISTED, _LISTABLE = 1 << 20, 1 << 26
_CHUNK = 1 << 16


class Space:
    """All rows of value numbers of attributes of some sizes, but for those that a clause forbids.

    allowed: for each attribute, which of its values may come at all (default: all).
    """

    def __init__(
        self, sizes: Sequence[int], clauses: Iterable[Clause] = (), allowed: Sequence[Array] | None = None
    ) -> None:
        self.sizes = tuple(map(int, sizes))
        self.total = prod(self.sizes)
        self.barred = {j: a for j, a in enumerate(allowed or ()) if not a.all()}
        self.clauses = [
            {j: np.isin(np.arange(self.sizes[j]), list(values)) for j, values in clause.items()}
            for clause in clauses
        ]
        # rows are numbered as in np.ravel_multi_index; beyond 63 bits by Python's own integers
        strides = [prod(self.sizes[j + 1 :]) for j in range(len(self.sizes))]
        self.strides = np.array(strides, dtype=np.int64 if self.total < 1 << 62 else object)

    @property
    def whole(self) -> bool:
        """True when everything is permitted."""
        return not self.clauses and not self.barred

    def permitted(self, rows: Array) -> Array:
        """Which of the rows [k, attributes] are permitted [k]."""
        fine = np.ones(len(rows), dtype=bool)
        for j, allowed in self.barred.items():
            fine &= allowed[rows[:, j]]
        for clause in self.clauses:
            held = np.ones(len(rows), dtype=bool)
            for j, inside in clause.items():
                held &= inside[rows[:, j]]
            fine &= ~held
        return fine

    def bar(self, gain: Array, rows: Array, j: int, known: Sequence[int]) -> None:
        """Set gain [k, values of j] to -inf where a clause forbids it, given the known attributes of rows."""
        for clause in self.clauses:
            if j in clause and all(other == j or other in known for other in clause):
                held = np.ones(len(rows), dtype=bool)
                for other, inside in clause.items():
                    if other != j:
                        held &= inside[rows[:, other]]
                gain[np.ix_(held, clause[j])] = -np.inf

    def numbers(self, rows: Array) -> list[int]:
        """The number of each row."""
        exact = rows if self.strides.dtype != object else rows.astype(object)
        return list((exact * self.strides).sum(axis=1).tolist())

    def rows(self, codes: Array) -> Array:
        """The rows [k, attributes] of their numbers."""
        return np.stack(np.unravel_index(codes, self.sizes), axis=1)

    def codes(self, limit: int = _LISTABLE) -> Array | None:
        """The numbers of all permitted rows in order; None where there are too many rows to look at each."""
        if self.total > limit:
            return self._grown()
        if self.whole:
            return np.arange(self.total, dtype=np.int64)
        parts = []
        for start in range(0, self.total, _CHUNK):
            codes = np.arange(start, min(start + _CHUNK, self.total), dtype=np.int64)
            parts.append(codes[self.permitted(self.rows(codes))])
        return np.concatenate(parts)

    def _grown(self, limit: int = _LISTED) -> Array | None:
        """As `codes`, attribute by attribute; for a huge space of which little is permitted."""
        if self.total >= 1 << 62:
            return None
        bound = sorted(range(len(self.sizes)), key=lambda j: -sum(j in clause for clause in self.clauses))
        rows = np.zeros((1, len(self.sizes)), dtype=np.int64)
        for step, j in enumerate(bound):
            values = np.flatnonzero(self.barred[j]) if j in self.barred else np.arange(self.sizes[j])
            if len(rows) * len(values) > 4 * limit:
                return None
            rows = np.repeat(rows, len(values), axis=0)
            rows[:, j] = np.tile(values, len(rows) // len(values))
            gain = np.zeros((len(rows), self.sizes[j]))
            self.bar(gain, rows, j, bound[:step])
            rows = rows[gain[np.arange(len(rows)), rows[:, j]] == 0]
            if len(rows) > limit:
                return None
        return np.sort(np.array(self.numbers(rows), dtype=np.int64))

    def empty(self) -> bool:
        """True when nothing is permitted; found by trying values in turn, those under most clauses first."""
        if self.whole:
            return False
        bound = sorted({j for clause in self.clauses for j in clause})
        if any(not allowed.any() for allowed in self.barred.values()):
            return True
        return next(self._found(bound, {}), None) is None

    def _found(self, bound: Sequence[int], row: dict[int, int]) -> Iterator[bool]:
        if len(row) == len(bound):
            yield True
            return
        j = bound[len(row)]
        options = np.array(self.barred.get(j, np.ones(self.sizes[j], dtype=bool)))
        for clause in self.clauses:
            others = [other for other in clause if other != j]
            if j in clause and all(other in row and clause[other][row[other]] for other in others):
                options &= ~clause[j]
        for value in np.flatnonzero(options).tolist():
            yield from self._found(bound, {**row, j: value})


class Unused:
    """The rows of a space that have not come yet in this round; when all have, a new round begins."""

    def __init__(self, space: Space, generator: np.random.Generator) -> None:
        self.space, self.generator = space, generator
        self.used: set[int] = set()
        self.codes: Array | None = None
        if space.total <= _LISTED:
            self._list()

    def _list(self) -> None:
        codes = self.space.codes()
        if codes is None:
            raise BadSetting(
                f"hardly any of {self.space.total} combinations of attribute values is permitted; loosen the "
                "constraints"
            )
        self.codes = codes
        # A shuffled list without order: what is used changes places with the last one that is not.
        self.left = np.arange(len(codes), dtype=np.int32)
        self.place = np.arange(len(codes), dtype=np.int32)
        self.count = len(codes)
        for number in self.used:
            self._remove(int(np.searchsorted(codes, number)))
        self.used.clear()
        if not self.count:
            self.count = len(codes)

    def _remove(self, index: int) -> None:
        place, last = int(self.place[index]), int(self.left[self.count - 1])
        if place >= self.count:
            return
        self.left[place], self.left[self.count - 1] = last, index
        self.place[last], self.place[index] = place, self.count - 1
        self.count -= 1

    def few(self, most: int) -> bool:
        """True when so few are left that all of them may be looked at."""
        return self.codes is not None and self.count <= most

    def fresh(self, rows: Array) -> Array:
        """Which of the permitted rows [k, attributes] have not come yet [k]."""
        numbers = self.space.numbers(rows)
        if self.codes is None:
            return np.array([number not in self.used for number in numbers], dtype=bool)
        at = np.array(numbers, dtype=np.int64)
        return self.place[at if self.space.whole else np.searchsorted(self.codes, at)] < self.count

    def some(self, most: int) -> Array:
        """Up to `most` rows [k, attributes] that have not come yet: all, or some at random."""
        if self.codes is None:
            for _ in range(4):
                drawn = [self.generator.integers(0, size, 4 * most) for size in self.space.sizes]
                rows = np.stack(drawn, axis=1)
                rows = rows[self.space.permitted(rows)]
                rows = rows[self.fresh(rows)][:most]
                if len(rows):
                    return rows
            self._list()
        assert self.codes is not None
        few = self.count <= most
        places = np.arange(self.count) if few else self.generator.integers(0, self.count, most)
        return self.space.rows(self.codes[self.left[places]])

    def use(self, row: Sequence[int]) -> bool:
        """Take a row out; after the last, all are there again. True when a round has ended so."""
        number = self._number(row)
        if self.codes is None:
            self.used.add(number)
            return False
        self._remove(self._index(number))
        if self.count:
            return False
        self.count = len(self.codes)
        return True

    def restore(self, row: Sequence[int]) -> None:
        """Put a row back that was taken out in this round."""
        number = self._number(row)
        if self.codes is None:
            self.used.discard(number)
            return
        index = self._index(number)
        place = int(self.place[index])
        if place < self.count:
            return
        first = int(self.left[self.count])
        self.left[place], self.left[self.count] = first, index
        self.place[first], self.place[index] = place, self.count
        self.count += 1

    def _number(self, row: Sequence[int]) -> int:
        return self.space.numbers(np.array([row], dtype=np.int64))[0]

    def _index(self, number: int) -> int:
        assert self.codes is not None
        return number if self.space.whole else int(np.searchsorted(self.codes, number))
