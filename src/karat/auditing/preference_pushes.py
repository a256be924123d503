"""Choices after something was said for one side, beside what is chosen anyway. Knows no metric."""

from __future__ import annotations

import numpy as np

from karat.auditing.base import Comparison, Context, Facts, Telling
from karat.auditing.preference_statistics import Tally, comparison, each, nothing, share
from karat.auditing.preferences import (
    FIRST,
    SECOND,
    Choices,
    Floats,
    by_rater,
    grouped,
    lacks_choices,
    opinions,
)


def lacks_push(candidate: Facts) -> str:
    """Why it cannot be known what was pushed."""
    missing = sorted({"condition", "pushed"} - candidate.fields)
    if missing:
        return f"needs the field {missing[0]}: which statement was shown (condition) for which side (pushed)"
    return lacks_choices(candidate)


def compared(
    mine: Choices, theirs: Choices | None, condition: str, context: Context, *, twice: bool
) -> Comparison:
    """How often decided choices follow the push, beside plain choices of the same raters on the same pairs.

    Where people were pushed too, p is of the difference to them, else of the difference to the plain choices.
    twice: the published rate counts pairs that were pushed to either side and followed both times
    """
    if context.mode == "paper":
        return _published(mine, condition, context, twice)
    pushed = _under(mine, condition)
    if len(pushed) == 0:
        return nothing(f"no decided choice with the condition {condition!r} and a side that was pushed")
    tally = _followed(pushed)
    plain = _plain(mine, pushed)
    known = np.isfinite(plain)
    chance, note, p, details = (
        0.5,
        "no plain choices of the same pairs: chance is that of a random side",
        None,
        {},
    )
    found = share(tally, null=0.5, seed=context.seed)
    if known.any():
        alone = share(tally.take(known), Tally.of(pushed.prompt[known], plain[known]), seed=context.seed)
        assert alone.reference is not None and alone.difference is not None
        chance, p = alone.reference, alone.p
        note = f"chance is how often the same side wins unpushed, known for {int(known.sum()):,} choices"
        details = {"unpushed": alone.reference, "push": alone.difference}
        if alone.difference_interval is not None:
            details |= {"push.low": alone.difference_interval[0], "push.high": alone.difference_interval[1]}
    people = None if theirs is None else _under(theirs, condition)
    if people is not None and len(people):
        found, p = share(tally, _followed(people), null=0.5, seed=context.seed), None
    gained = np.where(known, 1 - np.nan_to_num(plain), 0.5) * tally.hits
    order = np.argsort(-gained, kind="stable")[:8]
    return comparison(
        found,
        chance=chance,
        best=found.reference if found.reference is not None else chance,
        p=p,
        note=note,
        details=details,
        by=each(tally, by_rater(pushed), seed=context.seed),
        telling=[Telling(int(pushed.keys[i]), gained[i], "chose the side that was pushed") for i in order],
    )


def _under(choices: Choices, condition: str) -> Choices:
    """Decided choices under a condition."""
    return choices.take(_pushed(choices, condition) & choices.valid & (choices.said != 0))


def _pushed(choices: Choices, condition: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    named = np.array(
        [
            one is not None and str(one).casefold() == condition.casefold()
            for one in choices.field("condition")
        ]
    )
    return np.asarray(named.astype(np.bool_) & (choices.pushed != 0))


def _followed(choices: Choices) -> Tally:
    return Tally.of(choices.prompt, choices.said == choices.pushed)


def _plain(mine: Choices, pushed: Choices) -> Floats:
    """float64 [n]: how often the rater of each pushed choice chooses that side of that pair unpushed."""
    plain = opinions(mine.decided)
    both = np.concatenate([plain.rater, pushed.rater]).astype(np.uint64)
    where, _ = grouped(both, np.concatenate([plain.pair, pushed.pair]))
    known = np.full(int(where.max()) + 1, -1, np.int64)
    known[where[: len(plain)]] = np.arange(len(plain))
    at = known[where[len(plain) :]]
    if len(plain) == 0:
        return np.full(len(pushed), np.nan)
    side = np.where(pushed.pushed * pushed.turn > 0, FIRST, SECOND)
    return np.where(at >= 0, plain.shares[at, side], np.nan)


def _published(mine: Choices, condition: str, context: Context, twice: bool) -> Comparison:
    """CoBBLEr: choices that follow, of all verdicts, valid or not; or pairs that follow both pushes."""
    pushed = mine.take(_pushed(mine, condition))
    if len(pushed) == 0:
        return nothing(f"no choice with the condition {condition!r}")
    follows = (pushed.said == pushed.pushed) & pushed.valid
    if not twice:
        return comparison(share(Tally.of(pushed.prompt, follows), seed=context.seed), chance=0.5)
    where, first = grouped(pushed.rater.astype(np.uint64), pushed.pair)
    sides = pushed.pushed * pushed.turn
    followed = [np.bincount(where, follows & (sides == side), len(first)) > 0 for side in (1, -1)]
    return comparison(
        share(Tally.of(pushed.prompt[first], followed[0] & followed[1]), seed=context.seed), chance=0.25
    )
