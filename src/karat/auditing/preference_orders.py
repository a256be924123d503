"""Orders: in which responses were shown, in which a list gave them, and in which choices put them. No metric.

A rater who is swayed by places shows it in three ways: one place wins more often than the other, the verdict
turns when the places are exchanged, or a ranking comes out in the order of the list that was to be ranked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.columns import Columns
from karat.auditing.preference_statistics import score_p
from karat.auditing.preferences import FIRST, SECOND, TIE, U64, Choices, Floats, Ints, grouped

ORDERS = 2000
"""Random orders that the order of a list is compared with."""
_MOST_MODELS = 300  # beyond it a name is no model


# ------------------------------------------------------------------------- pairs judged in both orders


@dataclass(frozen=True)
class Swapped:
    """Pairs that one rater judged in both orders: prompt, rater [m], shares float64 [m, 3] in either order.

    straight: what was said where the first of the pair was shown first, turned: where it was shown second;
    columns FIRST, SECOND, TIE. What was not valid is in no column.
    """

    prompt: U64
    rater: Ints
    straight: Floats
    turned: Floats
    row: Ints

    def __len__(self) -> int:
        return len(self.rater)

    @property
    def consistent(self) -> Floats:
        """float64 [m]: how often the same was said in both orders."""
        return np.asarray((self.straight * self.turned).sum(axis=1))

    @property
    def first_twice(self) -> Floats:
        """float64 [m]: how often what was shown first won in both orders (CoBBLEr's order-first)."""
        return self.straight[:, FIRST] * self.turned[:, SECOND]

    @property
    def last_twice(self) -> Floats:
        """float64 [m]: how often what was shown last won in both orders (CoBBLEr's order-last)."""
        return self.straight[:, SECOND] * self.turned[:, FIRST]

    def by_place(self, rater: int) -> Floats:
        """float64 [3]: shares of first shown, second shown and tie over both orders, of one rater."""
        own = self.rater == rater
        straight, turned = self.straight[own].sum(axis=0), self.turned[own].sum(axis=0)
        total = straight + turned[[SECOND, FIRST, TIE]]
        return np.asarray(total / max(float(total.sum()), 1e-300))


def swapped(choices: Choices) -> Swapped:
    """The pairs that a rater judged in both orders, without pushed choices and pairs of equal responses."""
    choices = choices.take((choices.pushed == 0) & (choices.first != 0) & (choices.one != choices.other))
    where, first = grouped(choices.rater.astype(np.uint64), choices.pair)
    straight = choices.first * choices.turn > 0
    column = np.where(choices.side > 0, FIRST, np.where(choices.side < 0, SECOND, TIE))
    shares = np.zeros((2, len(first), 3))
    shown = np.zeros((2, len(first)))
    for order, flags in enumerate((straight, ~straight)):
        np.add.at(shares[order], (where[flags & choices.valid], column[flags & choices.valid]), 1)
        shown[order] = np.bincount(where[flags], minlength=len(first))
    both = (shown > 0).all(axis=0)
    shares /= np.maximum(shown, 1)[:, :, None]
    return Swapped(
        choices.prompt[first][both],
        choices.rater[first][both],
        shares[0][both],
        shares[1][both],
        choices.row[first][both],
    )


def one_order_only(choices: Choices) -> bool:
    """Whether raters saw most models in one order only, so that places stand for models.

    Where both orders occur, the rarer one makes at least a tenth.
    """
    one, other, _ = _models(choices.columns)
    one, other = one[choices.row], other[choices.row]
    named = (one >= 0) & (other >= 0) & (one != other)
    if not len(named) or not named.all():
        return False
    ahead = (one < other) == (choices.first > 0)
    where, first = grouped(choices.rater, np.minimum(one, other), np.maximum(one, other))
    if len(first) == len(choices):  # each two models met once: their order can be as good as drawn
        return False
    straight = np.bincount(where, ahead) / np.bincount(where)
    both = np.minimum(straight, 1 - straight)[where] >= 0.1
    return bool(both.mean() < 0.5)


@dataclass(frozen=True)
class Twice:
    """The first record of each rater on each pair, and that rater's first record in the other order, if any.

    one int64 [m]; other int64 [m], -1 where the pair was judged in one order only: places in `choices`.
    """

    choices: Choices
    one: Ints
    other: Ints

    @property
    def same_place(self) -> Ints:
        """int64 [m]: +1 where what was shown first won in both orders, -1 what was shown last, else 0."""
        place = self.choices.by_place
        again = np.where(self.other >= 0, place[self.other], 0)
        return np.where(place[self.one] == again, again, 0).astype(np.int64)


def twice(choices: Choices) -> Twice:
    """Each pair as CoBBLEr judges it: once, and once more in the other order; not valid ones are kept."""
    choices = choices.take(choices.pushed == 0)
    where, first = grouped(choices.rater.astype(np.uint64), choices.pair)
    order = choices.first * choices.turn
    other = np.full(len(first), len(choices), np.int64)
    again = np.flatnonzero(order != order[first][where])
    np.minimum.at(other, where[again], again)
    return Twice(choices, first, np.where(other == len(choices), -1, other))


# ------------------------------------------------------------------------------------- order of a list


@dataclass(frozen=True)
class Places:
    """Where the responses of each record stood in the list that was rated: a, b float64 [n], nan if unknown.

    model_a, model_b are numbers int64 [n] of models in the order of the list, where that is the same for all
    prompts; `models` is how many there are, 0 where the order differs or nothing is called by name.
    """

    a: Floats
    b: Floats
    model_a: Ints
    model_b: Ints
    models: int

    def take(self, chosen: Any) -> Places:
        """The places of these records."""
        return Places(self.a[chosen], self.b[chosen], self.model_a[chosen], self.model_b[chosen], self.models)


def places(choices: Choices) -> Places | None:
    """The places of both responses: `place_a` and `place_b`, else `rank_order`, else as models first occur.

    None where there is none of these.
    """
    one, other, names = _models(choices.columns)
    one, other = one[choices.row], other[choices.row]
    named = (one >= 0) & (other >= 0)
    a, b = (_numbers(choices.field(f"place_{side}")) for side in "ab")
    if not np.isfinite(a + b).any():
        if not named.any():
            return None
        a, b = (np.where(named, side, np.nan).astype(np.float64) for side in (one, other))
        orders = choices.field("rank_order")
        if any(order is not None for order in orders):
            listed = [_opened(order) for order in orders]
            called = [[names[i] if i >= 0 else None for i in side] for side in (one, other)]
            a, b = (np.array([_place(*pair) for pair in zip(listed, side)]) for side in called)
    known = named & (a != b) & np.isfinite(a + b)
    rank = _one_order(one[known], other[known], a[known] < b[known], len(names))
    if rank is None or not known.any():
        return Places(a, b, np.full(len(a), -1), np.full(len(a), -1), 0)
    return Places(a, b, np.where(known, rank[one], -1), np.where(known, rank[other], -1), len(names))


@dataclass(frozen=True)
class DefaultOrder:
    """How far choices follow the order of the list: shares, what chance gives, and one-sided p.

    earlier: share of decided pairs in which the earlier response wins
    succession: share of neighbours in a ranking that are neighbours in the list, in its order
    fixed: whether the list was the same for all prompts, so that models, not places, were permuted
    """

    earlier: float
    chance: float
    p: float | None
    decided: int
    succession: float = float("nan")
    succession_chance: float = float("nan")
    succession_p: float | None = None
    neighbours: int = 0
    fixed: bool = False


def default_order(choices: Choices, where: Places, *, seed: int = 0, orders: int = ORDERS) -> DefaultOrder:
    """Compare choices with the order of the list that was rated, and with random orders.

    Where the list is the same for all prompts, models are put into random orders, because a good model that
    stands early wins everywhere; else each list could as well have been the other way round.
    """
    decided = (choices.said != 0) & np.isfinite(where.a + where.b) & (where.a != where.b)
    choices, where = choices.take(decided), where.take(decided)
    if len(choices) == 0:
        return DefaultOrder(float("nan"), 0.5, None, 0)
    ahead = (where.a < where.b) == (choices.said > 0)
    earlier, n = float(ahead.mean()), len(ahead)
    lists = list(rankings(choices, where))
    if where.models:
        drawn = np.argsort(np.random.default_rng(seed).random((orders, where.models)), axis=1)
        wins = np.zeros((where.models, where.models))
        won = np.where(choices.said > 0, where.model_a, where.model_b)
        lost = np.where(choices.said > 0, where.model_b, where.model_a)
        np.add.at(wins, (won, lost), 1)
        i, j = np.triu_indices(where.models, 1)
        null = np.array([wins[order[i], order[j]].sum() for order in drawn]) / n
        return DefaultOrder(
            earlier, float(null.mean()), _upper_p(earlier, null), n, *_runs(lists, drawn), True
        )
    p = score_p(_sums(np.where(ahead, 0.5, -0.5), choices.prompt), seed=seed)
    p = None if p is None else p / 2 if earlier > 0.5 else 1 - p / 2
    return DefaultOrder(earlier, 0.5, p, n, *_runs(lists, None))


def _runs(lists: list[Ranked], drawn: Ints | None) -> tuple[float, float, float | None, int]:
    """Successions in complete rankings: their share, chance and p, and how many neighbours there are.

    Of k responses in random order (k - 1) / k neighbours follow the list on average; the variance of their
    number is (k - 2) / k + m - m^2 with m = (k - 1) / k.
    """
    ranked = [(one, order) for one in lists if (order := one.order) is not None]
    if not ranked:
        return float("nan"), float("nan"), None, 0
    sizes = np.array([len(order) for _, order in ranked], dtype=np.float64)
    hits = np.array([(np.diff(order) == 1).sum() for _, order in ranked], dtype=np.float64)
    total = float((sizes - 1).sum())
    if drawn is not None:
        k = drawn.shape[1]
        follows = np.zeros((k, k))
        for one, order in ranked:
            np.add.at(follows, (one.models[order[:-1]], one.models[order[1:]]), 1)
        null = follows[drawn[:, :-1], drawn[:, 1:]].sum(axis=1) / total
        value = float(np.trace(follows, offset=1) / total)
        return value, float(null.mean()), _upper_p(value, null), int(total)
    mean = (sizes - 1) / sizes
    z = float((hits - mean).sum() / np.sqrt(((sizes - 2) / sizes + mean - mean**2).sum()))
    p = stats.normal_p(z) / 2 if z > 0 else 1 - stats.normal_p(z) / 2
    return float(hits.sum() / total), float(mean.sum() / total), p, int(total)


# --------------------------------------------------------------------------------- tables of one prompt


@dataclass(frozen=True)
class Ranked:
    """What one rater said of three or more responses to one prompt.

    wins float64 [k, k]: how often i beat j; the responses stand in the order of the list where that is known.
    models int64 [k]: their numbers, -1 where unknown; row: a record of the corpus.
    """

    prompt: int
    wins: Floats
    models: Ints
    row: int

    @property
    def order(self) -> Ints | None:
        """The places of the responses, best first, where the choices are one strict ranking of all."""
        scores = (self.wins > self.wins.T).sum(axis=1)
        return np.argsort(-scores) if len(np.unique(scores)) == len(scores) else None


def rankings(choices: Choices, where: Places | None = None) -> Iterator[Ranked]:
    """The choices of each rater on each prompt with three or more responses, as tables of wins."""
    group, first = grouped(choices.rater.astype(np.uint64), choices.prompt)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0]) if len(order) else np.zeros(0, np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    for start, size, lead in zip(starts, sizes, first):
        if size < 3:  # three responses make three pairs
            continue
        rows = order[start : start + size]
        both = np.concatenate([choices.one[rows], choices.other[rows]])
        items, seen, at = np.unique(both, return_index=True, return_inverse=True)
        k = len(items)
        if k < 3:
            continue
        models, rank = np.full(k, -1), np.arange(k)
        if where is not None:
            models = np.concatenate([where.model_a[rows], where.model_b[rows]])[seen]
            rank = np.argsort(np.argsort(np.concatenate([where.a[rows], where.b[rows]])[seen], kind="stable"))
        a, b, said = rank[at[:size]], rank[at[size:]], choices.said[rows]
        wins = np.zeros((k, k))
        np.add.at(wins, (a[said > 0], b[said > 0]), 1)
        np.add.at(wins, (b[said < 0], a[said < 0]), 1)
        yield Ranked(int(choices.prompt[lead]), wins, models[np.argsort(rank)], int(choices.row[lead]))


def circles(wins: Floats) -> tuple[int, int]:
    """Triples of responses that were decided pair by pair, and how many go round in a circle.

    A beats B, B beats C, C beats A: trace(W^3) / 3 of the 0/1 table of wins (Kendall and Babington Smith
    1940).
    """
    beats = (wins > wins.T).astype(np.float64)
    either = beats + beats.T
    return round(np.trace(either @ either @ either) / 6), round(np.trace(beats @ beats @ beats) / 3)


# ------------------------------------------------------------------------------------------------ parts


def _models(columns: Columns) -> tuple[Ints, Ints, tuple[str, ...]]:
    """The numbers of the models of a and b, -1 for none, and their names in the order of their occurrence."""
    if not (columns.has("model_a") and columns.has("model_b")):
        return np.full(len(columns), -1), np.full(len(columns), -1), ()
    both = np.stack([columns["model_a"], columns["model_b"]], axis=1).ravel()
    coded = pa.array([None if one is None else str(one) for one in both], pa.string()).dictionary_encode()
    numbers = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64).reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1], tuple(coded.dictionary.to_pylist())


def _one_order(one: Ints, other: Ints, ahead: NDArray[np.bool_], models: int) -> Ints | None:
    """The rank of each model where the lists of all prompts agree on their order, else None."""
    if not 2 <= models <= _MOST_MODELS:
        return None
    before = np.zeros((models, models), np.bool_)
    before[np.where(ahead, one, other), np.where(ahead, other, one)] = True
    if (before & before.T).any():
        return None
    rank: Ints = np.argsort(np.argsort(before.sum(axis=0), kind="stable"), kind="stable")
    i, j = np.nonzero(before)
    return rank if (rank[i] < rank[j]).all() else None


def _sums(parts: Floats, prompt: U64) -> Floats:
    _, where = np.unique(prompt, return_inverse=True)
    return np.asarray(np.bincount(where, parts), dtype=np.float64)


def _upper_p(observed: float, null: Floats) -> float:
    """The share of random orders that reach as far (Phipson and Smyth 2010)."""
    return stats.permutation_p(observed, null, two_sided=False)


def _numbers(values: NDArray[Any]) -> Floats:
    def one(value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError):
            return float("nan")

    return np.array([one(value) for value in values], dtype=np.float64)


def _opened(value: Any) -> list[Any]:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return []
    return list(value) if isinstance(value, list) else []


def _place(order: list[Any], name: Any) -> float:
    return float(order.index(name)) if name in order else float("nan")
