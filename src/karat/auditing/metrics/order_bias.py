"""Whether what is shown first is chosen more often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, Telling, View
from karat.auditing.preference_orders import Swapped, one_order_only, swapped, twice
from karat.auditing.preference_statistics import Tally, comparison, each, nothing, share
from karat.auditing.preferences import CHOICES, Choices, by_rater, lacks_choices, matched, read_both


@dataclass(frozen=True)
class OrderBias(Metric):
    """The share of choices that fell on what was shown first, among choices without ties; 0.5 is no bias.

    What was shown first says `shown_first` (a or b), else response a. Where people judged the same pairs in
    known places, their share stands beside it; p is of the difference, else of 0.5. Details: how often the
    same place won in both orders (order_first, order_last), which is the value of the published definition.
    """

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "Where each pair was shown in one order only and better responses stand first more often, quality "
        "looks like bias: show both orders, or draw the order."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Judge each pair in both orders and keep verdicts that agree, or draw the order of each pair."
        ),
        "lower": (
            "Judge each pair in both orders and keep verdicts that agree, or draw the order of each pair."
        ),
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "what is shown first wins more often"
    source: ClassVar[str] = (
        "Koo et al. 2023, CoBBLEr (order bias); Wang et al. 2023; cluster bootstrap by prompt"
    )

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        return lacks_choices(candidate)

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        both = swapped(mine)
        if context.mode == "paper":
            return _published(mine, theirs, context)
        decided = _placed(mine)
        if len(decided) == 0:
            return nothing("no decided choice of two responses in known places")
        pairs = matched(decided, None if theirs is None else _placed(theirs))
        tally = _tally(pairs.mine)
        people = None if pairs.theirs is None else _tally(pairs.theirs, pairs.weight)
        found = share(tally, people, null=0.5, seed=context.seed)
        details = {"swapped_pairs": float(len(both))}
        if len(both):
            details |= {"order_first": both.first_twice.mean(), "order_last": both.last_twice.mean()}
        shown = "" if mine.columns.has("shown_first") else "response a counts as shown first"
        once = (
            ""
            if len(both)
            else "no pair was judged in both orders, so a better first response looks the same"
        )
        if one_order_only(pairs.mine):
            once = "raters saw most models in one order only: place and quality cannot be told apart"
            found = replace(found, p_null=None)
        return comparison(
            found,
            null=0.5,
            best=0.5,
            note="; ".join(filter(None, [pairs.note, shown, once])),
            details=details,
            by=each(tally, by_rater(pairs.mine), seed=context.seed),
            telling=_telling(mine, both),
        )


def _placed(choices: Choices) -> Choices:
    return choices.decided.take(choices.decided.first != 0)


def _tally(choices: Choices, weight: Any = 1.0) -> Tally:
    return Tally.of(choices.prompt, (choices.by_place > 0) * weight, weight)


def _published(mine: Choices, theirs: Choices | None, context: Context) -> Comparison:
    """CoBBLEr: pairs of which what is shown first wins in both orders, of all pairs, valid or not."""
    sides = [one for one in (mine, theirs) if one is not None]
    seen = [twice(one) for one in sides]
    firsts = [Tally.of(one.choices.prompt[one.one], one.same_place > 0) for one in seen]
    lasts = [Tally.of(one.choices.prompt[one.one], one.same_place < 0) for one in seen]
    if not (seen[0].other >= 0).any():
        return nothing("no pair was judged in both orders")
    other = firsts[1] if len(firsts) > 1 and (seen[1].other >= 0).any() else None
    found = share(firsts[0], other, seed=context.seed)
    details = {"order_first": firsts[0].value, "order_last": lasts[0].value}
    details["judged_twice"] = float((seen[0].other >= 0).mean())
    return comparison(found, details=details)


def _telling(mine: Choices, both: Swapped) -> tuple[Telling, ...]:
    same = both.first_twice + both.last_twice
    places = np.where(both.first_twice >= both.last_twice, "first", "last")
    found = np.flatnonzero(same >= 0.5)[:50]
    keys = mine.columns.keys[both.row]
    return tuple(
        Telling(int(keys[i]), float(same[i]), f"what was shown {places[i]} won in both orders") for i in found
    )
