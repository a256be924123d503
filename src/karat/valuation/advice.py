"""Puts a worth into words. Knows no records."""

from __future__ import annotations

from collections.abc import Sequence

from karat.valuation.equivalence import Equivalence, Marginal
from karat.valuation.joint import Joint


def firmness(found: Equivalence) -> str:
    """Return firm, fair or rough, by how many times the upper end of the interval is the lower one."""
    low, high = found.interval
    if low is None or high is None or low <= 0:
        return "rough"
    return "firm" if high <= 2 * low else "fair" if high <= 5 * low else "rough"


def worth_sentence(found: Equivalence) -> str:
    """Say what the set is worth, with its interval."""
    low, high = found.interval
    records = f"{found.records:,} synthetic records"
    if found.censored == "above":
        least = f"at least {low:,.0f}, 95 % sure" if low else "how many more, more human records would tell"
        return (
            f"The {records} are worth more than {found.bound:,} human records, the most there are ({least})."
        )
    if found.censored == "below":
        most = f" (at most {high:,.0f}, 95 % sure)" if high is not None else ""
        return f"The {records} are worth fewer than {found.bound:,} human records, the fewest tried{most}."
    low_text = "fewer than the fewest tried" if not low else f"{low:,.0f}"
    high_text = "more than all there are" if high is None else f"{high:,.0f}"
    assert found.rate is not None
    return (
        f"The {records} are worth about {found.worth_human_records:,} human records "
        f"(95 %: {low_text} to {high_text}), {_rate(found.rate)} human record for each."
    )


def gain_sentence(gains: Sequence[Marginal], turn: float | None) -> str:
    """Say to how many human records the synthetic ones should be added."""
    helps = [row.human for row in gains if row.verdict == "helps" and row.human]
    hurts = [row.human for row in gains if row.verdict == "hurts"]
    if hurts and helps and min(hurts) > max(helps):
        return f"Add them to up to {max(helps):,} human records; with {min(hurts):,} or more leave them out."
    if hurts and not helps:
        return f"Do not add them to {min(hurts):,} or more human records: they make the model worse."
    if helps and helps[-1] == gains[-1].human:
        return f"Adding them helps even with all {gains[-1].human:,} human records."
    if helps:
        after = (
            f"; the gain is used up at about {turn:,.0f}" if turn else "; beyond that no gain can be shown"
        )
        return f"Add them to up to {max(helps):,} human records{after}."
    return "No gain from adding them to human records can be shown."


def advise(
    found: Equivalence, gains: Sequence[Marginal], turn: float | None, saw: str, *, learned: bool = True
) -> str:
    """Return the advice in one sentence: what the set is worth, when to use it, and how sure that is.

    learned: whether any set of records gave a better model than none does.
    """
    if not learned:
        return (
            "No set of records, human or synthetic, gave a model that is better than chance, so that nothing "
            "can be said of their worth; give more records, or a trainer that learns more from them."
        )
    parts = [worth_sentence(found), _lower(gain_sentence(gains, turn))]
    if saw == "yes":
        parts.append(
            "but the generator has seen this human data, so this is no exchange rate: part of the worth is "
            "human data passed on"
        )
    elif saw == "part":
        parts.append("but the generator has seen some of this human data, so the true rate is lower")
    sure = {
        "firm": "firm: the interval of the worth spans less than a factor of 2",
        "fair": "fair: the interval of the worth spans less than a factor of 5",
        "rough": "rough: more test records, seeds or human records would narrow the worth",
    }
    return "; ".join(part.rstrip(".") for part in parts) + f" (confidence {sure[firmness(found)]})."


def law_sentence(found: Joint) -> str:
    """Say what the joint law tells of the exchange rate and of adding more."""
    if found.eta is None or found.interval is None:
        return f"No joint law of human and synthetic records: {found.refused}."
    low, high = found.interval
    text = (
        f"By one law of all {found.runs} sets a synthetic record replaces {_rate(found.eta)} human ones "
        f"(95 %: {_rate(low)} to {_rate(high)}; it explains {found.explained or 0:.1%} of the scores)"
    )
    stop = [row.human for row in found.stop if row.verdict == "stop adding here"]
    if stop:
        text += f"; with {min(stop):,} or more human records stop adding them"
    return text + "."


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _rate(rate: float) -> str:
    return f"{rate:.2f}" if rate >= 0.1 else f"{rate:.2g}"
