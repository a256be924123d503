"""Which arm to recommend, and when not to choose by score. Knows numbers only: no text, no model, no call.

A difference counts when Holm's test over all pairs of arms finds it. An arm that costs more is recommended
only when it was shown to be better than the cheapest one; a higher score alone is no reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from karat.auditing import statistics
from karat.auditing.statistics import Estimate

ALPHA = 0.05
"""the chance of even one false difference among all pairs of a pilot without any (after Holm)"""
ALIKE = 1.1
"""arms whose records cost no more than so many times the cheapest are equally cheap"""

Verdict = Literal["differs", "same", "open"]
Outcome = Literal["better", "cheapest", "no difference found", "one arm", "not scored"]


@dataclass(frozen=True)
class Contrast:
    """One arm minus another, as it was measured: in points, more is better; `rows` and `test` are variances.

    rows: what another draw of as many rows changes. test: what another sample of test records changes.
    """

    one: str
    other: str
    value: float
    error: float
    df: float
    rows: float = 0.0
    test: float = 0.0


@dataclass(frozen=True)
class Gap:
    """A contrast with its interval and what may be said of it.

    p_holm: of "no difference", over all pairs. p_same: of "further apart than the margin" (TOST).
    detectable: the true difference that is found four times in five, at the level that all pairs leave.
    """

    one: str
    other: str
    value: float
    error: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    p_same: float
    detectable: float
    verdict: Verdict
    rows: float = 0.0
    test: float = 0.0


@dataclass(frozen=True)
class Standing:
    """What the decision knows of an arm.

    score: points, more is better; None where none could be had. usd and tokens: of a kept, distinct record;
    usd None where no price is known. diversity: more is more varied.
    """

    name: str
    score: float | None = None
    usd: float | None = None
    tokens: float = 0.0
    diversity: float | None = None


@dataclass(frozen=True)
class Decision:
    """The arm to take, why, and how much this pilot could have seen.

    equals: arms that were not shown to be worse than the best of those in question. shown_same: all pairs
    lie within the margin (TOST). detectable: the difference between any two arms that would have been found
    four times in five; None with fewer than two scored arms. growth: how many times as many rows and test
    records it takes to find a difference of `margin` as surely.
    """

    outcome: Outcome
    recommended: str
    reason: str
    cheapest: str
    best: str = ""
    equals: tuple[str, ...] = ()
    shown_same: bool = False
    detectable: float | None = None
    growth: float | None = None
    margin: float = 1.0
    by_diversity: bool = False


def judge(contrasts: Sequence[Contrast], *, margin: float, alpha: float = ALPHA) -> tuple[Gap, ...]:
    """Test all contrasts at once: Holm for differences, two one-sided tests for "within the margin"."""
    tested = [
        statistics.against_zero(Estimate(one.value, one.error, one.df)) if one.error > 0 else None
        for one in contrasts
    ]
    # Without any spread there is nothing to test: two arms of the same score in every resample.
    p_values = [1.0 if found is None or found.p is None else found.p for found in tested]
    adjusted = statistics.holm(p_values)
    gaps = []
    for one, found, p, p_holm in zip(contrasts, tested, p_values, adjusted):
        assert p_holm is not None
        same = statistics.equivalence_p(Estimate(one.value, one.error, one.df), margin)
        interval = found.interval if found is not None and found.interval else None
        verdict: Verdict = "differs" if p_holm < alpha else "same" if same < alpha else "open"
        gaps.append(
            Gap(
                one.one,
                one.other,
                one.value,
                one.error,
                interval or (one.value, one.value),
                p,
                p_holm,
                same,
                statistics.detectable(one.error, one.df, alpha=alpha / len(contrasts)),
                verdict,
                one.rows,
                one.test,
            )
        )
    return tuple(gaps)


def decide(
    standings: Sequence[Standing],
    gaps: Sequence[Gap] = (),
    *,
    margin: float = 1.0,
    diverse: Sequence[Gap] = (),
    unit: str = "points",
) -> Decision:
    """Choose an arm.

    gaps: judged differences of scores, each pair of scored arms once. diverse: the same of diversity, which
    decides only between arms that are equal in score and in price.
    """
    scored = [one for one in standings if one.score is not None]
    field = scored or list(standings)
    by_usd = all(one.usd is not None for one in field) and any(one.usd for one in field)
    cheapest = min(field, key=lambda one: (_cost(one, by_usd), -(one.score or 0.0)))
    if len(field) == 1:
        what = "the only arm" if len(standings) == 1 else "the only arm with a score"
        return Decision("one arm", cheapest.name, f"{what}: nothing to compare", cheapest.name, margin=margin)
    if not scored:
        why = "no arm has a score, so the cheapest is taken"
        plain = Decision("not scored", cheapest.name, why, cheapest.name, margin=margin)
        return _diverse(plain, field, diverse, by_usd)
    best = max(scored, key=lambda one: one.score or 0.0)
    table = _Table(gaps)
    winners = [one for one in scored if table.better(one.name, cheapest.name)]
    told = _power(gaps, margin)
    told = replace(told, cheapest=cheapest.name, best=best.name)
    if winners:
        return _better(told, winners, table, cheapest, by_usd, diverse, unit)
    equals = tuple(one.name for one in scored if not table.better(cheapest.name, one.name))
    chance = "" if told.shown_same else _highest(best, cheapest, table, unit)
    if any(gap.verdict == "differs" for gap in gaps):
        worse = [one.name for one in scored if table.better(cheapest.name, one.name)]
        why = "it is the cheapest, and no arm was shown to be better"
        why += f"; {_listed(worse)} {'was' if len(worse) == 1 else 'were'} shown to be worse" if worse else ""
        found = replace(
            told, outcome="cheapest", recommended=cheapest.name, reason=why + chance, equals=equals
        )
    else:
        why = (
            f"no two arms are further apart than {margin:g} in {unit}, so the cheapest is taken"
            if told.shown_same
            else "no difference in score was found, so the cheapest is taken"
        )
        found = replace(
            told,
            outcome="no difference found",
            recommended=cheapest.name,
            reason=why + chance,
            equals=equals,
        )
    return _diverse(found, [one for one in scored if one.name in equals], diverse, by_usd)


def _highest(best: Standing, cheapest: Standing, table: _Table, unit: str) -> str:
    """What is to be said of the arm of the highest score where it was not shown to be better."""
    if best is cheapest:
        return ""
    gap = table.of(best.name, cheapest.name)
    return (
        f"; {best.name} scores {gap.value:.1f} {unit} higher, which may be chance (p = {gap.p_holm:.2g} "
        "after Holm)"
    )


def _better(
    told: Decision,
    winners: Sequence[Standing],
    table: _Table,
    cheapest: Standing,
    by_usd: bool,
    diverse: Sequence[Gap],
    unit: str,
) -> Decision:
    """The cheapest of those arms that beat the cheapest arm and are not shown worse than the best of them."""
    top = max(winners, key=lambda one: one.score or 0.0)
    equals = [one for one in winners if not table.better(top.name, one.name)]
    chosen = min(equals, key=lambda one: (_cost(one, by_usd), -(one.score or 0.0)))
    gap = table.of(chosen.name, cheapest.name)
    low, high = gap.interval
    ratio = _cost(chosen, by_usd) / max(_cost(cheapest, by_usd), 1e-300)
    price = f" at {ratio:.3g} times the cost of a record" if math.isfinite(ratio) and ratio < 1e6 else ""
    why = (
        f"it is {gap.value:.1f} {unit} better than the cheapest arm, {cheapest.name} "
        f"(95 % interval {low:.1f} to {high:.1f}, p = {gap.p_holm:.2g} after Holm){price}"
    )
    if chosen is not top:
        more = table.of(top.name, chosen.name).value
        why += (
            f"; {top.name} scores {more:.1f} higher, which was not shown to be a difference, and costs more"
        )
    found = replace(
        told,
        outcome="better",
        recommended=chosen.name,
        reason=why,
        equals=tuple(one.name for one in equals),
    )
    return _diverse(found, equals, diverse, by_usd)


def _diverse(found: Decision, equals: Sequence[Standing], gaps: Sequence[Gap], by_usd: bool) -> Decision:
    """Between arms of equal score and equal price the one that was shown to be more varied."""
    table, now = _Table(gaps), next(one for one in equals if one.name == found.recommended)
    near = [
        one
        for one in equals
        if table.better(one.name, now.name) and _cost(one, by_usd) <= ALIKE * _cost(now, by_usd)
    ]
    if not near:
        return found
    most = max(near, key=lambda one: one.diversity or 0.0)
    why = (
        f"{found.reason}; of the arms that cost about the same, {most.name} is shown to be the more varied, "
        "which decides"
    )
    return replace(found, recommended=most.name, reason=why, by_diversity=True)


def _power(gaps: Sequence[Gap], margin: float) -> Decision:
    """What could have been found, and what it takes to find a difference of the margin."""
    if not gaps:
        return Decision("not scored", "", "", "", margin=margin)
    seen = max(gap.detectable for gap in gaps)
    same = all(gap.p_same < ALPHA for gap in gaps)  # an intersection of nulls needs no correction
    return Decision(
        "no difference found",
        "",
        "",
        "",
        shown_same=same,
        detectable=seen,
        growth=(seen / margin) ** 2,
        margin=margin,
    )


def _cost(one: Standing, by_usd: bool) -> float:
    return (one.usd or 0.0) if by_usd else one.tokens


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


class _Table:
    """Gaps by the names of both arms, in either order."""

    def __init__(self, gaps: Sequence[Gap]) -> None:
        self.gaps = {(gap.one, gap.other): gap for gap in gaps}

    def of(self, one: str, other: str) -> Gap:
        found = self.gaps.get((one, other))
        if found is not None:
            return found
        turned = self.gaps[other, one]
        low, high = turned.interval
        return replace(turned, one=one, other=other, value=-turned.value, interval=(-high, -low))

    def better(self, one: str, other: str) -> bool:
        """Whether the first was shown to be better than the second."""
        if one == other or not ((one, other) in self.gaps or (other, one) in self.gaps):
            return False
        gap = self.of(one, other)
        return gap.verdict == "differs" and gap.value > 0
