"""Whether choices follow the order of the list that was to be judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Found, Metric, Need, Summary, View
from karat.auditing.preference_orders import DefaultOrder as Followed
from karat.auditing.preference_orders import default_order, places
from karat.auditing.preference_statistics import Interval, Tally, comparison, nothing, share
from karat.auditing.preferences import CHOICES, Choices, by_rater, listed, read_both

_ALPHA = 0.05
Slice = tuple[float, Interval | None, int]


@dataclass(frozen=True)
class DefaultOrder(Metric):
    """The share of decided pairs won by the response that stands earlier in the list that raters were given.

    Places are `place_a` and `place_b` (kept when rankings are read), else the list `rank_order` of models,
    else the order in which models first occur in the file. Where the list is the same for all prompts,
    chance is models put into random orders; details give how many neighbours in a ranking are neighbours in
    the list (succession), which people who leave a list as it is cannot hide. p is one-sided, of the
    candidate.
    """

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "A list that was sorted by quality looks like raters who follow it. With two or three models nothing "
        "can be told, because few orders are possible."
    )
    cost: ClassVar[str] = "O(records) and 2,000 random orders of the models a rater"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Shuffle the list for each rater and prompt, and leave out raters who keep it as it is."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "choices follow the order of the list"
    source: ClassVar[str] = "Krosnick 1991, satisficing in surveys (order effects); permutation of the order"

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        placed = {"place_a", "place_b"} <= candidate.fields
        named = {"model_a", "model_b"} <= candidate.fields
        missing = "needs fields that tell the list: place_a and place_b, or model_a and model_b"
        return "" if placed or named else missing

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        found, tally = _of(mine.plain, context.seed)
        if len(tally) == 0:
            return nothing("no decided choice between responses whose places are known")
        details, people = _details(found), None
        by, warnings = _sides("candidate", mine.plain, context.seed)
        if theirs is not None:
            followed, people = _of(theirs.plain, context.seed)
            details |= {f"reference.{name}": value for name, value in _details(followed).items()}
            more, found_there = _sides("reference", theirs.plain, context.seed)
            by, warnings = {**by, **more}, warnings + found_there
        return comparison(
            share(tally, people if people is not None and len(people) else None, seed=context.seed),
            chance=found.chance,
            best=found.chance,
            p=found.p,
            note="chance: models in random orders"
            if found.fixed
            else "the order of the list differs by prompt",
            details=details,
            warnings=warnings,
            by=by,
        )


def _sides(side: str, choices: Choices, seed: int) -> tuple[dict[str, Slice], list[Found]]:
    """Each rater's share by name, and the raters who follow the list."""
    each = [(name, *_of(choices.take(rows), seed)) for name, rows in by_rater(choices)]
    by = {}
    for name, _, tally in each:
        one = share(tally, seed=seed)
        if one.n:
            by[name if side == "candidate" else f"{side} {name}"] = (one.value, one.interval, one.n)
    each = each or [("all raters", *_of(choices, seed))]
    return by, _warned(side, [(name, one) for name, one, _ in each])


def _of(choices: Choices, seed: int) -> tuple[Followed, Tally]:
    """How far choices follow the list, and the same as a tally of decided pairs."""
    where = places(choices)
    if where is None:
        return Followed(float("nan"), 0.5, None, 0), Tally.of(choices.prompt[:0], np.zeros(0))
    decided = (choices.said != 0) & np.isfinite(where.a + where.b) & (where.a != where.b)
    ahead = (where.a < where.b) == (choices.said > 0)
    tally = Tally.of(choices.prompt[decided], ahead[decided])
    return default_order(choices, where, seed=seed), tally


def _details(found: Followed) -> dict[str, float]:
    figures = {
        "succession": found.succession,
        "succession_chance": found.succession_chance,
        "succession_p": found.succession_p,
        "neighbours": float(found.neighbours),
    }
    if not found.neighbours:
        return {}
    return {name: float(value) for name, value in figures.items() if value is not None}


def _warned(side: str, raters: list[tuple[str, Followed]]) -> list[Found]:
    """Raters whose choices follow the list, by either figure; corrected over both and all raters (Holm)."""
    p_values = stats.holm([p for _, one in raters for p in (one.p, one.succession_p)])
    named = []
    for i, (name, one) in enumerate(raters):
        pair, run = p_values[2 * i : 2 * i + 2]
        if run is not None and run < _ALPHA:
            share_, chance = one.succession, one.succession_chance
            named.append(f"{name} ({share_:.1%} of neighbours kept, chance {chance:.1%}, p = {run:.2g})")
        elif pair is not None and pair < _ALPHA:
            named.append(f"{name} (earlier wins {one.earlier:.1%}, chance {one.chance:.1%}, p = {pair:.2g})")
    if not named:
        return []
    message = (
        f"{side} choices follow the order of the list: {listed(named)}; the list was sorted by quality, or "
        "these raters left it as it was: shuffle it and ask again, or leave them out"
    )
    return [Found("default_order", message)]
