"""How often choices agree with those of people on the same pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing.base import Comparison, Context, Found, Metric, Need, Summary, Telling, View
from karat.auditing.preference_agreement import Agreed, agreed, cohen
from karat.auditing.preference_statistics import Tally, comparison, each, nothing, score_p, share
from karat.auditing.preferences import CHOICES, FIRST, LEAST, SECOND, TIE, Choices, read_both


@dataclass(frozen=True)
class PairAgreement(Metric):
    """How often a rater says of a pair what most people said: a, b or tie; what is not valid is no agreement.

    Pairs are linked by prompt and responses, in either order. Where pairs have several people, each is left
    out in turn: the value is the agreement with the majority of the others, the human value what the person
    left out gets (the ceiling), p is of their difference. Paper mode and the detail `majority` take the
    majority of all. Chance is a rater with the same share of ties who does not look at the pair.
    """

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "People disagree too: read it beside the human value, not beside 1. A rater who prefers one model "
        "whatever it says can agree well where that model is mostly better."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "A judge that agrees better than people do may have seen the choices, or people were careless."
        ),
        "lower": (
            "Read the pairs on which all people disagree with the judge; mend its prompt or take another."
        ),
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "agrees more with people"
    source: ClassVar[str] = (
        "Zheng et al. 2023, Judging LLM-as-a-judge (agreement); Cohen 1960; people left out in turn as in "
        "Calderon et al. 2025, The alternative annotator test"
    )

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        assert theirs is not None
        found = agreed(mine, theirs)
        if len(found) == 0:
            return nothing("no pair of the candidate is in the reference: prompts and responses must match")
        everyone = found.majority()
        expected = float(found.expected().mean())
        details = _details(found, mine, everyone.value, expected)
        chance_p = score_p(_by_prompt(everyone.prompt, everyone.hits - found.expected()), seed=context.seed)
        if chance_p is not None:
            details["p_chance"] = chance_p
        out = found.left_out()
        enough = out is not None and len(out[0]) >= max(LEAST, len(found) / 2) and context.mode == "proper"
        if enough:
            assert out is not None
            scored, note = share(out[0], out[1], seed=context.seed), ""
            tally = out[0]
        else:
            scored, tally = share(everyone, seed=context.seed), everyone
            note = "" if out is not None else "one person a pair: no ceiling is known"
        best = scored.reference if enough or out is None else out[1].value
        return comparison(
            scored,
            chance=expected,
            best=best,
            note=note,
            details=details,
            by=_by_rater(found, tally, mine, context.seed)
            if tally is everyone
            else _by_left_out(found, mine, context),
            warnings=_blind(everyone, expected, chance_p),
            telling=_telling(found, mine),
        )


def _details(found: Agreed, mine: Choices, value: float, expected: float) -> dict[str, float]:
    decided = found.decided()
    valid = found.said.sum(axis=1)
    details = {
        "majority": value,
        "non_tie": decided.value,
        "non_tie_pairs": float(decided.weight.sum()),
        "valid": float(found.hits.sum() / valid.sum()) if valid.sum() else float("nan"),
        "kappa": (value - expected) / (1 - expected) if expected < 1 else float("nan"),
        "people_a_pair": float(found.people.mean()),
    }
    # the published kappa: a and b as the file names them, rows where one thing was said and one is in front
    turn = mine.turn[found.ours.row]
    clear = (found.said.max(axis=1) == 1) & (found.most.max(axis=1) == 1)
    columns = np.where(turn[:, None] > 0, [[FIRST, SECOND, TIE]], [[SECOND, FIRST, TIE]])
    said, most = (
        np.take_along_axis(one, columns, axis=1).argmax(axis=1)[clear] for one in (found.said, found.most)
    )
    if clear.any():
        details["kappa_as_coded"] = cohen(said, most)
    return details


def _by_rater(
    found: Agreed, tally: Tally, mine: Choices, seed: int
) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    raters = np.unique(found.ours.rater)
    parts = [(mine.raters[i], np.flatnonzero(found.ours.rater == i)) for i in raters]
    return each(tally, parts, seed=seed) if len(parts) > 1 else {}


def _by_left_out(
    found: Agreed, mine: Choices, context: Context
) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    """The value of each rater of the candidate, against the same majorities."""
    raters = np.unique(found.ours.rater)
    if len(raters) < 2:
        return {}
    by = {}
    for rater in raters:
        own = found.ours.rater == rater
        part = Agreed(found.ours.take(own), found.theirs, found.votes, found.most[own], found.people[own])
        out = part.left_out()
        if out is not None and len(out[0]):
            one = share(out[0], seed=context.seed)
            by[mine.raters[rater]] = (one.value, one.interval, one.n)
    return by


def _blind(everyone: Tally, expected: float, p: float | None) -> tuple[Found, ...]:
    """A warning where choices say nothing about the pair, and there is enough data to have seen it."""
    if p is None or p < 0.05 or len(np.unique(everyone.prompt)) < 100:
        return ()
    message = (
        f"the candidate agrees with people on {everyone.value:.1%} of pairs, and a rater who does not look "
        f"on {expected:.1%} (p = {p:.2g}): its choices say nothing about the responses"
    )
    return (Found("degenerate_source", message),)


def _telling(found: Agreed, mine: Choices) -> tuple[Telling, ...]:
    """Choices against all people: the most people first."""
    front = found.votes.counts[found.votes.of(found.ours.pair)].max(axis=1)
    against = (found.hits == 0) & (front == found.people) & (found.said.sum(axis=1) > 0)
    order = np.argsort(-np.where(against, found.people, 0), kind="stable")[:50]
    keys = mine.columns.keys
    return tuple(
        Telling(
            int(keys[found.ours.row[i]]),
            float(found.people[i]),
            f"all {found.people[i]} people said otherwise",
        )
        for i in order
        if against[i]
    )


def _by_prompt(prompt: Any, parts: Any) -> Any:
    _, where = np.unique(prompt, return_inverse=True)
    return np.bincount(where, parts)
