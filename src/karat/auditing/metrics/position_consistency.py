"""Whether a verdict stays when both responses change places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, Telling, View
from karat.auditing.preference_orders import Swapped, swapped
from karat.auditing.preference_statistics import Tally, comparison, each, nothing, share
from karat.auditing.preferences import (
    CHOICES,
    FIRST,
    SECOND,
    TIE,
    Choices,
    Floats,
    Ints,
    lacks_choices,
    read_both,
)


@dataclass(frozen=True)
class PositionConsistency(Metric):
    """The share of pairs judged in both orders on which the same was said; a tie must be a tie in both.

    A row may also hold the outcome of both orders: `consistent`, or the choice "tie (inconsistent)"; other
    rows of such a rater count as consistent. Chance is a rater who looks at places only, with the same
    habits.
    """

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "A rater who calls everything a tie is perfectly consistent: read it beside tie_share. It "
        "needs pairs "
        "that one rater judged in both orders."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Judge each pair in both orders and count verdicts that contradict each other as ties."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "verdicts depend less on places"
    source: ClassVar[str] = "Zheng et al. 2023, Judging LLM-as-a-judge, section 3.3; Koo et al. 2023, CoBBLEr"

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        return lacks_choices(candidate)

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        both = swapped(mine.take(mine.valid))
        tally, rater, row, chance = _judged_twice(mine, both)
        if len(tally) == 0:
            return nothing("no rater judged a pair in both orders")
        people = None
        if theirs is not None:
            people = _judged_twice(theirs, swapped(theirs.take(theirs.valid)))[0]
        found = share(tally, people, seed=context.seed)
        parts = [(mine.raters[i], np.flatnonzero(rater == i)) for i in np.unique(rater)]
        unsure = np.flatnonzero(tally.hits < 0.5)[:50]
        keys = mine.columns.keys[row]
        return comparison(
            found,
            chance=chance,
            best=found.reference if found.reference is not None else 1.0,
            details=_details(both),
            by=each(tally, parts, seed=context.seed) if len(parts) > 1 else {},
            telling=[
                Telling(int(keys[i]), 1 - tally.hits[i], "said otherwise in the other order") for i in unsure
            ],
        )


def _judged_twice(choices: Choices, both: Swapped) -> tuple[Tally, Ints, Ints, float | None]:
    """Pairs judged in both orders, the rater and a record of each, and what places alone would give."""
    told = _told(choices)
    flagged = np.flatnonzero(np.isfinite(told) & choices.valid & (choices.pushed == 0))
    prompts = np.concatenate([both.prompt, choices.prompt[flagged]])
    hits = np.concatenate([both.consistent, told[flagged]])
    rater = np.concatenate([both.rater, choices.rater[flagged]])
    row = np.concatenate([both.row, choices.row[flagged]])
    chance = None
    if len(both):
        by_place = np.array([_chance(both.by_place(i)) for i in range(len(choices.raters))])
        chance = float(by_place[both.rater].mean())
    return Tally.of(prompts, hits), rater, row, chance


def _told(choices: Choices) -> Floats:
    """float64 [n]: 1 or 0 where a row says itself whether both orders agreed, else nan."""
    given = choices.field("consistent")
    said = np.array(
        [float("nan") if one is None else float(str(one).lower() in ("true", "1")) for one in given]
    )
    for rater in np.unique(choices.rater[said == 0]):
        own = choices.rater == rater
        said[own & np.isnan(said)] = 1.0
    return said


def _chance(shares: Floats) -> float:
    """How often two verdicts agree that look at places only: first then second, or a tie twice."""
    return float(2 * shares[FIRST] * shares[SECOND] + shares[TIE] ** 2)


def _details(both: Swapped) -> dict[str, float]:
    if len(both) == 0:
        return {}
    tied = both.straight[:, TIE] + both.turned[:, TIE] - 2 * both.straight[:, TIE] * both.turned[:, TIE]
    return {
        "swapped_pairs": float(len(both)),
        "order_first": float(both.first_twice.mean()),
        "order_last": float(both.last_twice.mean()),
        "tie_in_one_order": float(tied.mean()),
    }
