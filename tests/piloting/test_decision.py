"""The decision: nothing dearer on noise, a shown difference is followed, and how sure that is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from karat.piloting.decision import Contrast, Gap, Standing, decide, judge


def gaps_of(scores: dict[str, float], error: float, margin: float = 1.0, df: float = 1e6) -> tuple[Gap, ...]:
    """All pairs of independent scores with one error each."""
    contrasts = [
        Contrast(one, other, scores[one] - scores[other], error * 2**0.5, df)
        for one, other in combinations(scores, 2)
    ]
    return judge(contrasts, margin=margin)


def arms(scores: dict[str, float], usd: dict[str, float | None]) -> list[Standing]:
    return [Standing(name, scores[name], usd[name], 100.0) for name in scores]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_on_noise_a_dearer_arm_is_recommended_in_no_more_than_five_percent(count: int) -> None:
    """4,000 pilots of arms without any difference: false differences and dearer advice stay under 5 %."""
    rng = np.random.default_rng(count)
    names = [f"arm {i}" for i in range(count)]
    usd: dict[str, float | None] = {name: 1.0 + i for i, name in enumerate(names)}
    differs = dearer = 0
    for _ in range(4000):
        scores = dict(zip(names, rng.normal(70, 2, count).tolist()))
        told = decide(arms(scores, usd), gaps_of(scores, 2.0))
        differs += told.outcome != "no difference found"
        dearer += told.outcome == "better"
    # 0.05 and three standard errors of 4,000 trials
    assert differs / 4000 <= 0.0604
    assert dearer / 4000 <= 0.04


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    """Arms that are as far apart as `detectable` says are told apart in 80 % of pilots, after Holm."""
    rng = np.random.default_rng(1)
    # three arms, the cheapest worse than both others: its gaps are tested at a third and at a half of 5 %
    seen = gaps_of({"a": 0.0, "b": 0.0, "c": 0.0}, 2.0)[0].detectable
    hits = 0
    for _ in range(4000):
        scores = {"a": rng.normal(60, 2), "b": rng.normal(60 + seen, 2), "c": rng.normal(60, 2)}
        gap = gaps_of(scores, 2.0)[0]
        hits += gap.verdict == "differs" and gap.value < 0
    assert hits / 4000 == pytest.approx(0.80, abs=0.03)


def test_growth_is_what_the_margin_takes() -> None:
    """With `growth` times as many rows and test records the detectable difference is the margin."""
    scores, usd = {"a": 60.0, "b": 61.0}, {"a": 1.0, "b": 2.0}
    told = decide(arms(scores, dict(usd)), gaps_of(scores, 2.0), margin=1.0)
    assert told.growth is not None and told.detectable is not None
    grown = gaps_of(scores, 2.0 / told.growth**0.5)[0]
    assert grown.detectable == pytest.approx(1.0)


def test_the_cheapest_of_the_winners_that_are_not_told_apart() -> None:
    """b and c both beat a; c is higher than b, which was not shown, and dearer: b is taken."""
    scores, usd = {"a": 60.0, "b": 75.0, "c": 76.0}, {"a": 1.0, "b": 2.0, "c": 9.0}
    told = decide(arms(scores, dict(usd)), gaps_of(scores, 1.0))
    assert ("better", "b", "c", ("b", "c")) == (told.outcome, told.recommended, told.best, told.equals)
    assert "15.0 points better than the cheapest arm, a" in told.reason
    assert "at 2 times the cost" in told.reason and "c scores 1.0 higher" in told.reason
    far = decide(arms({**scores, "c": 90.0}, dict(usd)), gaps_of({**scores, "c": 90.0}, 1.0))
    assert ("better", "c") == (far.outcome, far.recommended)


def test_the_cheapest_is_kept_where_others_differ_from_each_other_only() -> None:
    """c is shown to be worse than b, neither differs from the cheapest: the cheapest, with that reason."""
    scores, usd = {"a": 70.0, "b": 74.0, "c": 66.0}, {"a": 1.0, "b": 2.0, "c": 3.0}
    told = decide(arms(scores, dict(usd)), gaps_of(scores, 1.6))
    assert ("cheapest", "a") == (told.outcome, told.recommended)
    assert "no arm was shown to be better" in told.reason
    assert "b scores 4.0 points higher, which may be chance" in told.reason


def test_no_difference_tells_the_same_from_unknown() -> None:
    """Small errors show that arms are the same within the margin; large ones leave it open."""
    scores, usd = {"a": 70.0, "b": 70.1}, {"a": 1.0, "b": 2.0}
    same = decide(arms(scores, dict(usd)), gaps_of(scores, 0.2))
    unknown = decide(arms(scores, dict(usd)), gaps_of(scores, 2.0))
    assert ("no difference found", "a", True) == (same.outcome, same.recommended, same.shown_same)
    assert "no two arms are further apart than 1 in points" in same.reason
    assert ("no difference found", "a", False) == (unknown.outcome, unknown.recommended, unknown.shown_same)
    assert "b scores 0.1 points higher, which may be chance" in unknown.reason


def test_diversity_decides_between_equals_of_one_price_only() -> None:
    """More varied and no dearer is taken; more varied at twice the price is not."""
    scores = {"a": 70.0, "b": 70.5, "c": 70.2}
    varied = judge(
        [
            Contrast("a", "b", -0.2, 0.02, 100),
            Contrast("a", "c", -0.3, 0.02, 100),
            Contrast("b", "c", -0.1, 0.02, 100),
        ],
        margin=0.01,
    )
    field = [
        Standing("a", 70.0, 1.0, diversity=0.5),
        Standing("b", 70.5, 1.05, diversity=0.7),
        Standing("c", 70.2, 2.0, diversity=0.8),
    ]
    told = decide(field, gaps_of(scores, 2.0), diverse=varied)
    assert ("no difference found", "b", True) == (told.outcome, told.recommended, told.by_diversity)
    assert "more varied" in told.reason


def test_prices_that_are_unknown_leave_tokens() -> None:
    """One arm without a price: all are compared by tokens, and so are arms that cost nothing."""
    field = [Standing("a", 70.0, None, 900.0), Standing("b", 70.0, 5.0, 100.0)]
    assert "b" == decide(field, gaps_of({"a": 70.0, "b": 70.0}, 2.0)).recommended
    free = [Standing("a", 70.0, 0.0, 900.0), Standing("b", 70.0, 0.0, 100.0)]
    assert "b" == decide(free, gaps_of({"a": 70.0, "b": 70.0}, 2.0)).recommended


def test_one_arm_and_arms_without_a_score() -> None:
    """Nothing to compare is said; an arm without a score is never taken over one that has one."""
    assert "one arm" == decide([Standing("a", 70.0, 1.0)]).outcome
    told = decide([Standing("a", None, 0.1), Standing("b", 70.0, 1.0)])
    assert ("one arm", "b") == (told.outcome, told.recommended)
    bare = decide([Standing("a", None, 2.0), Standing("b", None, 1.0)])
    assert ("not scored", "b") == (bare.outcome, bare.recommended)


def test_scores_without_any_spread_are_no_difference() -> None:
    """Two arms that score the same in every resample have an error of 0: nothing is divided by it."""
    (gap,) = judge([Contrast("a", "b", 0.0, 0.0, 10.0)], margin=1.0)
    assert ("same", 1.0, 0.0) == (gap.verdict, gap.p_holm, gap.p_same)
