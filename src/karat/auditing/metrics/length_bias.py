"""Whether the longer response is chosen, beside how often people choose it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Metric, Need, Setting, Summary, Telling, View
from karat.auditing.preference_cues import by_length
from karat.auditing.preference_orders import twice
from karat.auditing.preference_statistics import Tally, comparison, each, nothing, paired_logit, share
from karat.auditing.preferences import (
    CHOICES,
    FIRST,
    SECOND,
    Choices,
    Floats,
    by_rater,
    matched,
    opinions,
    read_both,
    votes,
)


@dataclass(frozen=True)
class LengthBias(Metric):
    """The share of choices that fell on the longer response, among choices without ties (salience).

    Beside it stands how often people choose the longer one of the same pairs: longer answers are often
    better, and only what goes beyond people's share is a bias. Details: by how much the odds of a response
    rise when it is twice as long (odds_ratio_doubling), also at equal preference of people
    (odds_ratio_given_people).
    unit: words or characters
    """

    unit: str = "words"

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "Without people's choices on the same pairs a share above 0.5 may be quality: longer answers "
        "are often "
        "better ones."
    )
    cost: ClassVar[str] = "O(tokens) to count words"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Correct for length (a logistic model with the length as a term), or compare at equal lengths."
        ),
        "lower": "Ask the judge not to punish length, or compare responses of equal lengths.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    paper: ClassVar[Mapping[str, Setting]] = {"unit": "characters"}
    higher: ClassVar[str] = "the longer response wins more often"
    source: ClassVar[str] = (
        "Koo et al. 2023, CoBBLEr (salience); Dubois et al. 2024, Length-controlled AlpacaEval; "
        "cluster bootstrap by prompt"
    )

    def __post_init__(self) -> None:
        if self.unit not in ("words", "characters"):
            raise ValueError(f"unit is {self.unit!r}; choose one of: words, characters")

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        if context.mode == "paper":
            return _published(mine, theirs, self.unit, context)
        whole = _unequal(mine.decided, self.unit)
        if len(whole) == 0:
            return nothing("no decided choice between responses of different lengths")
        pairs = matched(whole, None if theirs is None else _unequal(theirs.decided, self.unit))
        tally = _tally(pairs.mine, self.unit)
        people = None if pairs.theirs is None else _tally(pairs.theirs, self.unit, pairs.weight)
        found = share(tally, people, null=0.5, seed=context.seed)
        details = _effects(pairs.mine, pairs.theirs, self.unit)
        details["all_pairs"] = _tally(whole, self.unit).value
        alone = "" if people is not None else "without people's choices this may be quality as well as bias"
        return comparison(
            found,
            null=0.5,
            note="; ".join(filter(None, [pairs.note, alone])),
            details=details,
            by=each(tally, by_rater(pairs.mine), seed=context.seed),
            telling=_telling(pairs.mine, pairs.theirs, self.unit),
        )


def _unequal(choices: Choices, unit: str) -> Choices:
    return choices.take(by_length(choices, unit).winner != 0)


def _tally(choices: Choices, unit: str, weight: Any = 1.0) -> Tally:
    longer = by_length(choices, unit).winner
    return Tally.of(choices.prompt, (choices.said == longer) * weight, weight)


def _published(mine: Choices, theirs: Choices | None, unit: str, context: Context) -> Comparison:
    """CoBBLEr: the first verdict on each pair, without pairs on which the same place won in both orders.

    Of equally long responses the second counts as the longer one.
    """
    tallies = []
    for choices in (mine, theirs):
        if choices is None:
            continue
        seen = twice(choices)
        kept = seen.choices.take(seen.one[seen.same_place == 0])
        kept = kept.take(kept.valid & (kept.said != 0))
        longer = np.where(by_length(kept, unit).winner > 0, 1, -1)
        tallies.append(Tally.of(kept.prompt, kept.said == longer))
    if len(tallies[0]) == 0:
        return nothing("no verdict that is not one of places")
    other = tallies[1] if len(tallies) > 1 else None
    return comparison(share(tallies[0], other, null=0.5, seed=context.seed), null=0.5)


def _effects(mine: Choices, theirs: Choices | None, unit: str) -> dict[str, float]:
    """Odds of a response that is twice as long, alone and at equal preference of people; Hedges' g."""
    a, b = (np.log2(1.0 + length) for length in mine.lengths(unit))
    ratio = (a - b) * mine.turn  # of the first of the pair to the second, in doublings
    chosen = (mine.side > 0).astype(np.float64)
    won = mine.said > 0
    found = {"hedges_g": stats.standardised(np.where(won, a, b), np.where(won, b, a))}
    found |= _odds("odds_ratio_doubling", chosen, ratio[:, None], mine)
    if theirs is not None:
        people = votes(opinions(theirs))
        counts = people.counts[people.of(mine.pair)]
        lean = (counts[:, FIRST] - counts[:, SECOND]) / counts.sum(axis=1)
        found |= _odds("odds_ratio_given_people", chosen, np.stack([ratio, lean], axis=1), mine)
    return found


def _odds(name: str, chosen: Floats, features: Floats, mine: Choices) -> dict[str, float]:
    fitted = paired_logit(chosen, features, mine.prompt)
    if fitted is None:
        return {}
    slope, error = float(fitted.coefficients[0]), float(fitted.errors[0])
    reach = stats.normal_quantile(0.975) * error
    ends = {name: slope, f"{name}.low": slope - reach, f"{name}.high": slope + reach}
    return {key: float(np.exp(np.clip(value, -700, 700))) for key, value in ends.items()}


def _telling(mine: Choices, theirs: Choices | None, unit: str) -> tuple[Telling, ...]:
    """Choices of a much longer response; where people are known, against most of them."""
    a, b = (1.0 + length for length in mine.lengths(unit))
    ratio = np.where(mine.said > 0, a / b, b / a)
    against = np.ones(len(mine), np.bool_)
    if theirs is not None:
        people = votes(opinions(theirs))
        counts = people.counts[people.of(mine.pair)]
        against = np.where(
            mine.side > 0, counts[:, SECOND] > counts[:, FIRST], counts[:, FIRST] > counts[:, SECOND]
        )
    order = np.argsort(-np.where(against, ratio, 0), kind="stable")[:8]
    more = " though most people chose the other" if theirs is not None else ""
    return tuple(
        Telling(
            int(mine.keys[i]),
            float(ratio[i]),
            f"chose the response with {ratio[i]:.1f} times the length{more}",
        )
        for i in order
        if against[i] and ratio[i] > 1
    )
