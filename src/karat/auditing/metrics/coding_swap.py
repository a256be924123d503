"""Whether a and b were exchanged when choices were written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Found, Metric, Need, Summary, Telling, View
from karat.auditing.preference_agreement import agreed, person_against_the_rest
from karat.auditing.preference_cues import Cue, by_length, by_lexicon
from karat.auditing.preference_statistics import Tally, comparison, each, lower_p, nothing, share
from karat.auditing.preferences import CHOICES, Choices, listed, read_both

_ALPHA = 0.05


@dataclass(frozen=True)
class CodingSwap(Metric):
    """Agreement with people where both decided, as coded and with a and b exchanged: one minus the other.

    Below 0.5 a rater says the opposite of people, which no rater does who reads: then a and b were exchanged
    on one side. p is one-sided, of "no lower than 0.5". Which side it was is told by trivial cues: the side
    that chooses the shorter response (or weaker words) is the one to look at. Single raters are looked at
    too.
    lexicon: files with the columns word and score, several joined by `+`, as a second cue
    """

    lexicon: str = ""

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "Raters with an opposite taste (or an opposite question, such as which is worse) look the same as an "
        "exchanged coding."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Compare how a and b are coded in both sources before anything else; exchange one if needed."
        )
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "the coding is the same on both sides"
    source: ClassVar[str] = "below-chance agreement as a sign of exchanged codes; cluster-robust sign test"

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        assert theirs is not None
        found = agreed(mine.decided, theirs.decided)
        tally = found.decided()
        if len(found) == 0 or len(tally) == 0:
            return nothing("no pair that both the candidate and people decided")
        coded = share(tally, null=0.5, seed=context.seed)
        p = lower_p(coded.value, 0.5, coded.p_null)
        cues = self._cues(mine.decided, theirs.decided, context.seed)
        out = found.left_out()
        parts = [(mine.raters[i], np.flatnonzero(found.ours.rater == i)) for i in np.unique(found.ours.rater)]
        details = {"as_coded": coded.value, "exchanged": 1 - coded.value, "pairs": float(tally.weight.sum())}
        details |= {name: value for name, (value, _) in cues.items()}
        inverted = p is not None and p < _ALPHA
        note = f"with a and b exchanged it would be {1 - coded.value:.3f}"
        if 0 < coded.value < 0.5 and not inverted:
            note += "; below one half, but chance explains it"
        warnings = list(_whole(coded.value, p, cues)) if inverted else []
        warnings += _single(parts, tally, theirs, context.seed, whole=inverted)
        return comparison(
            coded,
            null=0.5,
            best=out[1].value if out is not None else None,
            p=p,
            note=note,
            details=details,
            warnings=warnings,
            by=each(tally, parts, seed=context.seed) if len(parts) > 1 else {},
            telling=_telling(found.hits, mine.columns.keys[found.ours.row]) if inverted else (),
        )

    def _cues(self, mine: Choices, theirs: Choices, seed: int) -> dict[str, tuple[float, float | None]]:
        """By name: how often each side goes with a trivial cue on shared pairs, and p of one half."""
        pairs = np.intersect1d(mine.pair, theirs.pair)
        found = {}
        for side, choices in (("candidate", mine), ("reference", theirs)):
            shared = choices.take(np.isin(choices.pair, pairs))
            cues: dict[str, Cue] = {"longer": by_length(shared)}
            if self.lexicon:
                cues["lexicon"] = by_lexicon(shared, self.lexicon)
            for name, cue in cues.items():
                told = cue.winner != 0
                one = share(
                    Tally.of(shared.prompt[told], (cue.winner == shared.said)[told]), null=0.5, seed=seed
                )
                if one.n:
                    found[f"{side}_{name}"] = (one.value, one.p_null)
        return found


def _whole(value: float, p: float | None, cues: Mapping[str, tuple[float, float | None]]) -> list[Found]:
    """The warning that one side has a and b exchanged, and which side trivial cues point at."""
    against = [
        f"the {name.partition('_')[0]} goes with the {_called(name)} in {share_:.1%}"
        for name, (share_, cue_p) in cues.items()
        if share_ < 0.5 and cue_p is not None and cue_p < _ALPHA
    ]
    hint = f" ({'; '.join(against)}: look there first)" if against else ""
    message = (
        f"candidate and people agree on {value:.1%} of the pairs that both decided, and on {1 - value:.1%} "
        f"with a and b exchanged (p = {p:.1g}): one side has a and b the other way round{hint}"
    )
    return [Found("coding_inverted", message)]


def _called(name: str) -> str:
    return {"longer": "longer response", "lexicon": "stronger word"}[name.partition("_")[2]]


def _single(
    parts: list[tuple[str, Any]], tally: Tally, theirs: Choices, seed: int, *, whole: bool
) -> list[Found]:
    """Warnings of single raters who say the opposite of the rest, after Holm's correction over raters."""
    raters = (
        [("candidate", name, tally.take(rows)) for name, rows in parts]
        if len(parts) > 1 and not whole
        else []
    )
    raters += [("reference", name, one) for name, one, _ in person_against_the_rest(theirs)]
    scored = [(side, name, share(one, null=0.5, seed=seed)) for side, name, one in raters]
    p_values = stats.holm([lower_p(one.value, 0.5, one.p_null) for _, _, one in scored])
    found = []
    for side in ("candidate", "reference"):
        named = [
            f"{name} ({one.value:.1%} of {one.n:,}, {1 - one.value:.1%} exchanged, p = {p:.1g})"
            for (own, name, one), p in zip(scored, p_values)
            if own == side and p is not None and p < _ALPHA
        ]
        if named:
            message = (
                f"{side} raters who say the opposite of the others: {listed(named)}; check how their a and b "
                "are coded, or leave them out"
            )
            found.append(Found("coding_inverted", message))
    return found


def _telling(hits: Any, keys: Any) -> tuple[Telling, ...]:
    against = np.flatnonzero(hits == 0)[:8]
    return tuple(Telling(int(keys[i]), 1.0, "the opposite of what most people chose") for i in against)
