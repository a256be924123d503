"""Whether a model that judges prefers its own responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, Telling, View
from karat.auditing.preference_orders import twice
from karat.auditing.preference_statistics import Tally, comparison, each, nothing, share
from karat.auditing.preferences import (
    CHOICES,
    FIRST,
    SECOND,
    Choices,
    Floats,
    Signs,
    lacks_choices,
    lacks_models,
    opinions,
    read_both,
    votes,
)


@dataclass(frozen=True)
class SelfPreference(Metric):
    """How often a judge chooses its own response, beside how often others choose it on the same pairs.

    A model's own responses may be better ones, so its share alone says little. The others are the people of
    the reference, else judges of other models in the candidate. Needs whose responses they are (`model_a`,
    `model_b`) and which model the rater is (`rater_model`).
    """

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "Without others on the same pairs it is the quality of the model as much as its vanity; "
        "people may like "
        "a response less for reasons that a judge is not asked about."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Let no model judge its own responses; take a judge of another family, or several.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "judges choose their own responses more often"
    source: ClassVar[str] = "Koo et al. 2023, CoBBLEr (egocentric bias); Panickssery et al. 2024"

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if "rater_model" not in candidate.fields:
            return "needs the field rater_model: which model the rater is"
        return lacks_choices(candidate) or lacks_models(candidate)

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        if context.mode == "paper":
            return _published(mine, context)
        own = _own(mine.decided)
        judged = mine.decided.take(own != 0)
        own = own[own != 0]
        if len(judged) == 0:
            return nothing("no decided choice of a judge between its own response and another's")
        wanted = own * judged.turn  # +1 where its own is the first of the pair
        expected, who = _others(mine, judged, wanted, None if theirs is None else theirs.decided)
        known = np.isfinite(expected)
        note = (
            f"others are {who}" if known.any() else "nobody else judged these pairs: quality looks the same"
        )
        if known.any() and not known.all():
            note += f", on {int(known.sum()):,} of {len(known):,} choices"
        whole = float((judged.said == own).mean())
        if known.any():
            judged, own, expected = judged.take(known), own[known], expected[known]
        tally = Tally.of(judged.prompt, judged.said == own)
        people = Tally.of(judged.prompt, expected) if known.any() else None
        found = share(tally, people, seed=context.seed)
        models = judged.field("rater_model").astype(str)
        parts = [(str(name), np.flatnonzero(models == name)) for name in np.unique(models)]
        alone = np.flatnonzero((judged.said == own) & (expected < 0.5)) if known.any() else np.zeros(0, int)
        return comparison(
            found,
            chance=0.5,
            note=note,
            details={"all_pairs": whole},
            by=each(tally, parts, seed=context.seed) if len(parts) > 1 else {},
            telling=[
                Telling(
                    int(judged.keys[i]), 1 - expected[i], f"chose its own, others did so {expected[i]:.0%}"
                )
                for i in alone[np.argsort(expected[alone], kind="stable")][:8]
            ],
        )


def _own(choices: Choices) -> Signs:
    """int8 [n]: +1 where response a is the rater's own, -1 where b is, 0 where neither is (or both are)."""
    model = choices.field("rater_model")
    a, b = (np.asarray(choices.field(f"model_{side}") == model, dtype=np.bool_) for side in "ab")
    known = np.array([one is not None for one in model], dtype=np.bool_)
    return ((a & known).astype(np.int8) - (b & known).astype(np.int8)).astype(np.int8)


def _others(mine: Choices, judged: Choices, wanted: Signs, people: Choices | None) -> tuple[Floats, str]:
    """float64 [n]: the share of others who choose the judge's own response of a pair, and who they are."""
    found, who = np.full(len(judged), np.nan), "people"
    if people is not None:
        found = _share_for(judged, wanted, people)
    if not np.isfinite(found).any():
        who = "judges of other models"
        found = _share_for(judged, wanted, mine.decided.take(_own(mine.decided) == 0))
    return found, who


def _share_for(judged: Choices, wanted: Signs, others: Choices) -> Floats:
    counted = votes(opinions(others))
    at = counted.of(judged.pair)
    if len(counted.pair) == 0:
        return np.full(len(judged), np.nan)
    counts = counted.counts[at]
    decided = counts[:, FIRST] + counts[:, SECOND]
    chosen = np.where(wanted > 0, counts[:, FIRST], counts[:, SECOND])
    return np.where((at >= 0) & (decided > 0), chosen / np.maximum(decided, 1e-300), np.nan)


def _published(mine: Choices, context: Context) -> Comparison:
    """CoBBLEr: its own response wins the first verdict and not only by its place, of all own pairs."""
    seen = twice(mine)
    first = seen.choices.take(seen.one)
    own = _own(first)
    won = (first.said == own) & (own != 0) & (seen.same_place == 0)
    if not (own != 0).any():
        return nothing("no judge saw its own response")
    tally = Tally.of(first.prompt, won, own != 0)
    return comparison(share(tally, seed=context.seed), chance=0.25)
