"""Whether a rater's choices among several responses make an order, or go round in circles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing.base import Comparison, Context, Metric, Need, Summary, Telling, View
from karat.auditing.preference_orders import circles, rankings
from karat.auditing.preference_statistics import Tally, comparison, nothing, share
from karat.auditing.preferences import CHOICES, Choices, read_both


@dataclass(frozen=True)
class OrderConsistency(Metric):
    """The share of triples of responses that a rater put in an order; the rest go round in a circle.

    A circle is a > b, b > c, c > a. Needs three or more responses to a prompt, judged in pairs without ties.
    A rater who draws lots puts 3 of 4 triples in an order.
    """

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "Pairs that were made of a ranking are in order by construction, and a rater who always prefers the "
        "longer response is too."
    )
    cost: ClassVar[str] = "O(k^3) a prompt with k responses"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Judge in both orders, ask several times and take the majority, or allow ties."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "choices contradict each other less"
    source: ClassVar[str] = "Kendall and Babington Smith 1940, On the method of paired comparisons"

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        tally, telling = _tally(mine)
        if len(tally) == 0:
            return nothing("no prompt with three responses that were judged pair by pair without ties")
        people = None if theirs is None else _tally(theirs)[0]
        found = share(tally, people, seed=context.seed)
        return comparison(
            found,
            chance=0.75,
            best=found.reference if found.reference is not None else 1.0,
            details={
                "triples": float(tally.weight.sum()),
                "circles": float((tally.weight - tally.hits).sum()),
            },
            telling=telling,
        )


def _tally(choices: Choices) -> tuple[Tally, tuple[Telling, ...]]:
    """Triples in order of all triples, by rater and prompt, and the prompts with most circles."""
    prompts, hits, weight, found = [], [], [], []
    for one in rankings(choices.decided):
        triples, round_ = circles(one.wins)
        if triples:
            prompts.append(one.prompt)
            hits.append(float(triples - round_))
            weight.append(float(triples))
            if round_:
                key = int(choices.columns.keys[one.row])
                found.append(
                    Telling(key, round_ / triples, f"{round_} of {triples} triples go round in a circle")
                )
    tally = Tally(np.array(prompts, dtype=np.uint64), np.array(hits), np.array(weight))
    return tally, tuple(sorted(found, key=lambda told: -told.score)[:8])
