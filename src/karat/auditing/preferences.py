"""Choices between two responses as numbers, of one corpus or of two on the same pairs. Knows no metric.

Which response stands as `a` in a file says nothing about it. So each pair has an orientation of its own,
drawn from the seed and the texts: one response is its first, the other its second, whatever the file calls
them. What is computed from `side` cannot depend on how a file was written; `said` and `by_place` are for
what should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from karat.auditing.base import Facts, Need, need
from karat.auditing.columns import Columns
from karat.datatypes.preference import pairs_from_rankings as pairs_from_rankings
from karat.texts.tokens import count_tokens, hash_strings, mix

U64 = NDArray[np.uint64]
Ints = NDArray[np.int64]
Signs = NDArray[np.int8]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

CHOICES: Need = need(
    "columns",
    fields="prompt chosen rejected response_a response_b choice rater shown_first model_a model_b "
    "rater_model condition pushed consistent place_a place_b rank_order",
)
"""What the metrics of choices read: one need, so that it is collected once."""
FIRST, SECOND, TIE = 0, 1, 2
"""Columns of a table of opinions."""
LEAST = 20
"""Pairs that two corpora must share to be compared."""
RATERS = 30
"""The most raters that have figures of their own."""


@dataclass(frozen=True)
class Choices:
    """Choices of one corpus, one a record: arrays [n].

    prompt, pair: hashes, the same in both corpora; a pair is a prompt and two responses in either order
    one, other: hashes of response a and response b
    turn: +1 where response a is the first of its pair, -1 where it is the second
    said: +1 for a, -1 for b, 0 for a tie (and for what is not valid)
    valid: whether the rater said a, b or tie
    first: +1 where a was shown first, -1 where b was, 0 where nothing is known of places
    pushed: +1 where a was pushed (a bandwagon, a distraction), -1 where b was, 0 where nothing was
    rater: number of the rater in `raters`; row: the place in `columns`
    """

    prompt: U64
    pair: U64
    one: U64
    other: U64
    turn: Signs
    said: Signs
    valid: Flags
    first: Signs
    pushed: Signs
    rater: Ints
    row: Ints
    raters: tuple[str, ...]
    columns: Columns
    memo: dict[str, list[Ints]] = field(default_factory=dict, repr=False, compare=False)
    """Lengths of all responses of the corpus by unit, counted once."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: Flags | Ints) -> Choices:
        """The choices at these places."""
        names = ("prompt", "pair", "one", "other", "turn", "said", "valid", "first", "pushed", "rater", "row")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    @property
    def side(self) -> Signs:
        """int8 [n]: +1 for the first of the pair, -1 for the second, 0 for a tie."""
        return self.said * self.turn

    @property
    def by_place(self) -> Signs:
        """int8 [n]: +1 for what was shown first, -1 for what was shown second, 0 for a tie or unknown."""
        return self.said * self.first

    @property
    def keys(self) -> U64:
        """The keys of the records, by which evidence names them."""
        return self.columns.keys[self.row]

    def texts(self, side: str) -> pa.Array:
        """The responses a or b as Arrow strings."""
        return _responses(self.columns)[0 if side == "a" else 1].take(pa.array(self.row))

    def field(self, name: str) -> NDArray[Any]:
        """One field of the records, object [n]; None where a record has none."""
        if name not in self.columns.table.column_names:
            return np.full(len(self), None, dtype=object)
        return self.columns[name][self.row]

    @cached_property
    def plain(self) -> Choices:
        """Valid choices that nothing was done to sway."""
        return self.take(self.valid & (self.pushed == 0))

    @cached_property
    def decided(self) -> Choices:
        """Plain choices of one of the two responses."""
        return self.plain.take(self.plain.said != 0)

    def lengths(self, unit: str) -> tuple[Ints, Ints]:
        """int64 [n]: the lengths of response a and of response b, in words or characters."""
        if unit not in self.memo:
            whole = _responses(self.columns)
            if unit == "characters":
                counts = [pc.utf8_length(side).to_numpy(zero_copy_only=False) for side in whole]
            else:
                counts = [count_tokens(side, "word") for side in whole]
            self.memo[unit] = [one.astype(np.int64) for one in counts]
        a, b = self.memo[unit]
        return a[self.row], b[self.row]


def read(columns: Columns, *, seed: int = 0, named: bool = False) -> Choices:
    """The choices in the fields of CHOICES; `named` tells equal texts of different models apart."""
    table, n = columns.table, len(columns)
    one, other = (hash_strings(side) for side in _responses(columns))
    if named:
        one, other = (
            mix(own ^ mix(hash_strings(_strings(table, f"model_{side}"))))
            for own, side in ((one, "a"), (other, "b"))
        )
    prompt = hash_strings(_strings(table, "prompt"))
    pair = mix(mix(prompt) + mix(one) + mix(other))
    alone = _strings(table, "prompt").fill_null("").to_numpy(zero_copy_only=False) == ""
    prompt = np.where(alone, pair, prompt)  # pairs without a prompt have nothing in common
    salt = mix(np.array([seed & (1 << 63) - 1], np.uint64))
    turn = np.where(mix(one ^ salt) <= mix(other ^ salt), 1, -1).astype(np.int8)
    rated = _strings(table, "response_a").is_valid().to_numpy(zero_copy_only=False)
    choice = _strings(table, "choice").to_numpy(zero_copy_only=False)
    choice = np.where(rated, choice, "a")  # `chosen` stands for a
    raters, rater = _numbered(_strings(table, "rater"))
    known = rated | _strings(table, "shown_first").is_valid().to_numpy(zero_copy_only=False)
    first = np.where(_strings(table, "shown_first").to_numpy(zero_copy_only=False) == "b", -1, 1)
    return Choices(
        prompt=prompt,
        pair=pair,
        one=one,
        other=other,
        turn=turn,
        said=_signs(choice),
        valid=np.isin(choice.astype(str), ["a", "b", "tie"]),
        first=np.where(known, first, 0).astype(np.int8),
        pushed=_signs(_strings(table, "pushed").to_numpy(zero_copy_only=False)),
        rater=rater,
        row=np.arange(n),
        raters=raters,
        columns=columns,
    )


def read_both(candidate: Any, reference: Any, *, seed: int = 0) -> tuple[Choices, Choices | None]:
    """The choices of a candidate and a reference; names of models count where both corpora have them."""
    columns = [one[CHOICES] for one in (candidate, reference) if one is not None]
    named = all(one.has("model_a") and one.has("model_b") for one in columns)
    found = [read(one, seed=seed, named=named) for one in columns]
    return found[0], found[1] if len(found) > 1 else None


def lacks_choices(candidate: Facts) -> str:
    """Why places and ties cannot be known: rows of `chosen` and `rejected` have neither."""
    return (
        ""
        if "choice" in candidate.fields
        else "needs a field choice (a, b or tie) for response_a and response_b"
    )


def lacks_models(candidate: Facts) -> str:
    """Why whose responses they are cannot be known."""
    missing = sorted({"model_a", "model_b"} - candidate.fields)
    return f"needs the field {missing[0]}: whose response it is" if missing else ""


# ----------------------------------------------------------------------------------- opinions and votes


@dataclass(frozen=True)
class Opinions:
    """What each rater thinks of each pair: rater, prompt, pair [m], and shares float64 [m, 3].

    The columns are FIRST, SECOND and TIE. A rater who judged a pair several times has shares of each; what
    was not valid is in no column. row: the place of one of the records in the corpus.
    """

    rater: Ints
    prompt: U64
    pair: U64
    shares: Floats
    row: Ints

    def __len__(self) -> int:
        return len(self.pair)

    def take(self, chosen: Flags | Ints) -> Opinions:
        """The opinions at these places."""
        return Opinions(
            self.rater[chosen], self.prompt[chosen], self.pair[chosen], self.shares[chosen], self.row[chosen]
        )


def opinions(choices: Choices) -> Opinions:
    """One opinion for each rater and pair, without pushed choices and without pairs of equal responses."""
    choices = choices.take((choices.pushed == 0) & (choices.one != choices.other))
    where, first = grouped(choices.rater.astype(np.uint64), choices.pair)
    shares = np.zeros((len(first), 3))
    column = np.where(choices.side > 0, FIRST, np.where(choices.side < 0, SECOND, TIE))
    np.add.at(shares, (where[choices.valid], column[choices.valid]), 1)
    shares /= np.bincount(where, minlength=len(first))[:, None]
    return Opinions(
        choices.rater[first], choices.prompt[first], choices.pair[first], shares, choices.row[first]
    )


@dataclass(frozen=True)
class Votes:
    """All opinions on each pair, summed: pair uint64 [P] sorted, counts float64 [P, 3], people int64 [P]."""

    pair: U64
    counts: Floats
    people: Ints

    def of(self, pairs: U64) -> Ints:
        """int64 [m]: the place of each pair, -1 for those nobody voted on."""
        if len(self.pair) == 0:
            return np.full(len(pairs), -1, np.int64)
        at = np.minimum(np.searchsorted(self.pair, pairs), len(self.pair) - 1)
        return np.where(self.pair[at] == pairs, at, -1)


def votes(found: Opinions) -> Votes:
    """The opinions of all raters on each pair; an opinion that is not valid is no vote."""
    found = found.take(found.shares.sum(axis=1) > 0)
    pairs, where = np.unique(found.pair, return_inverse=True)
    counts = np.zeros((len(pairs), 3))
    np.add.at(counts, where, found.shares / found.shares.sum(axis=1, keepdims=True))
    return Votes(pairs, counts, np.bincount(where, minlength=len(pairs)))


def modal(counts: Floats) -> Floats:
    """float64 [m, 3]: 1 for what most said, shared where several were said equally often."""
    most = np.abs(counts - counts.max(axis=1, keepdims=True)) < 1e-9
    most &= counts.sum(axis=1, keepdims=True) > 1e-9
    return np.asarray(most / np.maximum(most.sum(axis=1, keepdims=True), 1))


@dataclass(frozen=True)
class Matched:
    """Choices of a candidate and of a reference on the same pairs, weighted to have as much of each pair.

    weight float64: 1 of each record of `mine`; those of `theirs` sum to as many on each pair as mine has.
    theirs is None where there are too few shared pairs; note says so.
    """

    mine: Choices
    theirs: Choices | None
    weight: Floats
    note: str = ""


def matched(mine: Choices, theirs: Choices | None) -> Matched:
    """Decided choices on the pairs that both sides decided; all of mine where fewer than 20 are shared."""
    nothing = np.zeros(0)
    if theirs is None or len(mine) == 0:
        return Matched(mine, None, nothing)
    both = np.intersect1d(mine.pair, theirs.pair)
    if len(both) < LEAST:
        few = f"{len(both)} pairs of the candidate are in the reference: too few to compare with people"
        return Matched(mine, None, nothing, few)
    pairs = len(np.unique(mine.pair))
    mine, theirs = mine.take(np.isin(mine.pair, both)), theirs.take(np.isin(theirs.pair, both))
    wanted = np.bincount(np.searchsorted(both, mine.pair), minlength=len(both))
    at = np.searchsorted(both, theirs.pair)
    given = np.bincount(at, minlength=len(both))
    note = "" if len(both) == pairs else f"on the {len(both):,} of {pairs:,} pairs that people decided too"
    return Matched(mine, theirs, (wanted / given)[at], note)


# ------------------------------------------------------------------------------------------------ parts


def grouped(*keys: NDArray[Any]) -> tuple[Ints, Ints]:
    """The group of each record (those with equal keys) int64 [n], and the first record of each group."""
    if len(keys[0]) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), np.bool_)
    new[0] = True
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    where = np.empty(len(order), np.int64)
    where[order] = np.cumsum(new) - 1
    first = np.full(int(new.sum()), len(order), np.int64)
    np.minimum.at(first, where, np.arange(len(order)))
    return where, first


def by_rater(choices: Choices) -> list[tuple[str, Ints]]:
    """Each rater's name and records, most records first; none where there is a single one."""
    if len(np.unique(choices.rater)) < 2:
        return []
    numbers, counts = np.unique(choices.rater, return_counts=True)
    most = numbers[np.argsort(-counts, kind="stable")][:RATERS]
    return [(choices.raters[i], np.flatnonzero(choices.rater == i)) for i in most]


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence: the first few, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _responses(columns: Columns) -> tuple[pa.Array, pa.Array]:
    pairs = (("response_a", "chosen"), ("response_b", "rejected"))
    return tuple(
        pc.coalesce(_strings(columns.table, rated), _strings(columns.table, chosen)).fill_null("")
        for rated, chosen in pairs
    )


def _strings(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.large_string())
    column = table.column(name).cast(pa.large_string()).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], pa.large_string())
    return column


def _signs(values: NDArray[Any]) -> Signs:
    return np.where(values == "a", 1, np.where(values == "b", -1, 0)).astype(np.int8)


def _numbered(names: pa.Array) -> tuple[tuple[str, ...], Ints]:
    coded = names.fill_null("all raters").dictionary_encode()
    return tuple(coded.dictionary.to_pylist()), np.asarray(coded.indices).astype(np.int64)
