"""Preference records as pairs: prompt, two responses, and which was preferred. Knows no trainer and no score.

Records come in two forms. One with `response_a`, `response_b` and `choice` stays as it stands. One with
`chosen` and `rejected` has its answer in its order, so that each would be gold `a`: it is turned by a hash of
its id, half of them to each side, and the same record always the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from karat.curation.base import normalised
from karat.errors import InputError
from karat.records import Records

CHOICES = ("a", "b", "tie")
"""What a rater can say of a pair, in the order of all tables."""
INVALID = "invalid"
"""Stands for a choice where a rater gave none that can be read."""

_OTHER = {"a": "b", "b": "a"}


@dataclass(frozen=True, eq=False)
class Pairs:
    """One entry a record, in the order of the records; `choices` are a, b, tie or invalid."""

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]
    choices: tuple[str, ...]
    raters: tuple[str, ...]
    """who said it; empty where nobody is named, as with `chosen` and `rejected`"""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where the rater said a, b or tie: bool [n]."""
        return np.fromiter((choice in CHOICES for choice in self.choices), np.bool_, len(self))

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Pairs:
        """The pairs at these positions, in this order."""
        rows = np.asarray(positions, dtype=np.int64).tolist()
        return Pairs(*(tuple(column[i] for i in rows) for column in self._columns()))

    def swapped(self) -> Pairs:
        """The same pairs with their sides exchanged, and the choices with them."""
        turned = tuple(_OTHER.get(choice, choice) for choice in self.choices)
        return Pairs(self.ids, self.prompts, self.b, self.a, turned, self.raters)

    def _columns(self) -> tuple[tuple[str, ...], ...]:
        return self.ids, self.prompts, self.a, self.b, self.choices, self.raters

    # -------------------------------------------------------------------------- what belongs together

    @cached_property
    def pair(self) -> NDArray[np.int64]:
        """The number of each record's pair, by first occurrence [n]: a prompt and two texts in either order.

        Records of one number are what several raters, or one rater with the sides exchanged, said of a pair.
        """
        keys = [(prompt, *sorted((one, other))) for prompt, one, other in self._folded]
        return _numbered(keys)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """The number of each record's group, by first occurrence [n]: never split one over two sides.

        Pairs that share a text (prompt or response; case, spaces and stops aside) are connected, and a group
        is all that is connected over any number of steps. A text that stands in more than half of all pairs
        says what was asked and not of what (`Which is better?`, `Yes`), and connects nothing.
        """
        holders: dict[tuple[str, str], list[int]] = {}
        firsts: dict[int, int] = {}
        for row, pair in enumerate(self.pair.tolist()):
            if firsts.setdefault(pair, row) == row:
                prompt, one, other = self._folded[row]
                for held in {("prompt", prompt), ("response", one), ("response", other)}:
                    holders.setdefault(held, []).append(pair)
        parents = list(range(len(firsts)))
        for (_, text), pairs_with in holders.items():
            if text and 2 * len(pairs_with) <= max(len(firsts), 4):
                for pair in pairs_with[1:]:
                    parents[_root(parents, pair)] = _root(parents, pairs_with[0])
        return _numbered([_root(parents, pair) for pair in self.pair.tolist()])

    @cached_property
    def _folded(self) -> list[tuple[str, str, str]]:
        known: dict[str, str] = {}
        found = []
        for row in zip(self.prompts, self.a, self.b):
            for text in row:
                if text not in known:
                    known[text] = normalised(text)
            found.append((known[row[0]], known[row[1]], known[row[2]]))
        return found


def pairs(records: Records) -> Pairs:
    """Return preference records as pairs, one entry a record; invalid choices stay and say so.

    Raises InputError for other records.
    """
    if records.datatype != "preference":
        raise InputError(
            f"{records.path} holds {records.datatype} records, but pairs are needed; give prompt, chosen and "
            "rejected, or prompt, response_a, response_b and choice"
        )
    rows = len(records)
    names = ("prompt", "chosen", "rejected", "response_a", "response_b", "choice", "rater")
    column = {name: records.column(name) if records.has(name) else [None] * rows for name in names}
    a, b, choices = [], [], []
    for row, identity in enumerate(records.ids):
        if column["chosen"][row] is not None and column["rejected"][row] is not None:
            first, second, choice = str(column["chosen"][row]), str(column["rejected"][row]), "a"
            if turned(identity):
                first, second, choice = second, first, "b"
        else:
            first, second = str(column["response_a"][row]), str(column["response_b"][row])
            said = column["choice"][row]
            choice = said if said in CHOICES else INVALID
        a.append(first)
        b.append(second)
        choices.append(choice)
    prompts = tuple("" if prompt is None else str(prompt) for prompt in column["prompt"])
    raters = tuple("" if rater is None else str(rater) for rater in column["rater"])
    return Pairs(tuple(records.ids), prompts, tuple(a), tuple(b), tuple(choices), raters)


def turned(identity: str) -> bool:
    """Whether the chosen response of a record stands second: one bit of a hash of its id, the same always."""
    digest = hashlib.blake2b(
        identity.encode("utf-8", "replace"), digest_size=1, person=b"karat.pairs"
    ).digest()
    return bool(digest[0] & 1)


def _root(parents: list[int], at: int) -> int:
    """The name of the group that `at` is in; the way there is halved each time."""
    while parents[at] != at:
        parents[at] = parents[parents[at]]
        at = parents[at]
    return at


def _numbered(keys: Sequence[object]) -> NDArray[np.int64]:
    """The number of each key by first occurrence."""
    known: dict[object, int] = {}
    return np.fromiter((known.setdefault(key, len(known)) for key in keys), np.int64, len(keys))
