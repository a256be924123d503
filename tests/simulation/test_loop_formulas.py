"""Formulas of drift, sharpening and weights: against simulated chance and published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from karat.errors import BadSetting
from karat.simulation.formulas import (
    drift_collapse,
    drift_fresh_share,
    drift_half_life,
    drift_plateau,
    optimal_weight,
    pairwise_diversity,
    sharpening_path,
    sharpening_time,
    weight_advice,
)


def resampled(n: int, kinds: int, steps: int, runs: int, fresh: float = 0.0) -> float:
    """Pairwise diversity that is left after steps of drawing n from n, as a share of the first."""
    chance, first = np.random.default_rng(0), np.full(kinds, 1 / kinds)
    kept = []
    for _ in range(runs):
        shares = first
        for _ in range(steps):
            shares = chance.multinomial(n, fresh * first + (1 - fresh) * shares) / n
        kept.append(pairwise_diversity(shares) / pairwise_diversity(first))
    return float(np.mean(kept))


def test_the_drift_formula_is_right_for_resampling() -> None:
    """Pairwise diversity of a multinomial that is resampled 30 times from itself, within 2%."""
    n, steps = 100, 30
    assert resampled(n, 20, steps, 3000) == pytest.approx(0.5 ** (steps / drift_half_life(n)), rel=0.02)


def test_the_drift_plateau_is_right_for_resampling_with_fresh_data() -> None:
    """With 10% fresh rows of 50, drawn at random, within 2% of the formula once it has settled."""
    assert resampled(50, 2000, 60, 60, fresh=0.1) == pytest.approx(drift_plateau(50, 0.1), rel=0.02)


def test_drift_plateaus_with_fresh_data_as_published() -> None:
    """0.1% fresh of 10,000, 1% of 1,000 and 10% of 100 keep about 95%."""
    for n, share in ((10_000, 0.001), (1000, 0.01), (100, 0.1)):
        assert 0.95 == pytest.approx(drift_plateau(n, share), abs=0.01)


def test_the_fresh_share_is_the_plateau_inverted() -> None:
    """Going there and back again; what all data fresh cannot keep needs all data fresh."""
    for kept in (0.1, 0.5, 0.95):
        assert kept == pytest.approx(drift_plateau(300, drift_fresh_share(300, kept)))
    assert 1.0 == drift_fresh_share(100, 0.999)


def test_total_collapse_by_drift_takes_about_two_n() -> None:
    """Mean over simulated populations of 30 rows and ten kinds, within a tenth of 1.7 to 2 n."""
    n, chance, times = 30, np.random.default_rng(3), []
    for _ in range(400):
        counts, t = chance.multinomial(n, np.full(10, 0.1)), 0
        while counts.max() < n:
            counts, t = chance.multinomial(n, counts / n), t + 1
        times.append(t)
    assert 0.77 * drift_collapse(n) < np.mean(times) < 1.1 * drift_collapse(n)


def test_sharpening_takes_as_long_as_published() -> None:
    """28 iterations for 10,000 texts at 0.8, 59 at 0.9; at 1 and above it never ends."""
    assert (28, 59) == (round(sharpening_time(10_000, 0.8)), round(sharpening_time(10_000, 0.9)))
    assert sharpening_time(10_000, 1.0) is None


def test_sharpening_without_fresh_data_is_a_power_of_the_start() -> None:
    """After t iterations the exponent is T^-t."""
    start, t = np.array([0.5, 0.3, 0.2]), 4
    expected = start ** (0.8**-t)
    assert (expected / expected.sum()).tolist() == pytest.approx(sharpening_path(start, 0.8)[t].tolist())


def test_sharpening_with_fresh_data_settles() -> None:
    """It ends at a fixed point of p = share p_0 + (1 - share) sharpened p, far from a single winner."""
    start = np.arange(1.0, 9.0)
    end = sharpening_path(start, 0.8, fresh_share=0.25, iterations=300)[-1]
    again = 0.25 * start / start.sum() + 0.75 * end**1.25 / (end**1.25).sum()
    assert end.tolist() == pytest.approx(again.tolist(), abs=1e-9)
    assert 0.2 < float(pairwise_diversity(end)) < float(pairwise_diversity(start / start.sum()))


def test_the_best_weight_is_the_golden_ratio_where_both_are_as_many() -> None:
    """0.6180 at k = 1; 0.27 at 0.1 and 0.39 at 0.25, as published; w = k (1 - w) / w, its equation."""
    assert (math.sqrt(5) - 1) / 2 == pytest.approx(optimal_weight(1.0), abs=1e-12)
    assert (0.27, 0.39) == (round(optimal_weight(0.1), 2), round(optimal_weight(0.25), 2))
    for k in (0.01, 0.5, 3.0):
        w = optimal_weight(k)
        assert w**2 == pytest.approx(k * (1 - w))
    assert 0.0 == optimal_weight(0.0)


def test_advice_gives_real_rows_their_weight() -> None:
    """1,000 real among 10,000 synthetic: 27% of the weight where pooling gives 9%."""
    advice = weight_advice(1000, 10_000)
    assert (0.27, 0.09) == (round(advice.weight, 2), round(advice.pooled, 2))
    share = 1000 * advice.row_weight / (1000 * advice.row_weight + 10_000)
    assert advice.weight == pytest.approx(share)
    assert "27%" in advice.words and "30%" in advice.words
    assert "30%" not in weight_advice(1000, 100).words


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: optimal_weight(-1.0), "-1"),
        (lambda: weight_advice(0, 5), "real=0"),
        (lambda: sharpening_path([0.0, 0.0], 0.8), "no distribution"),
        (lambda: sharpening_path([1.0, 2.0], 0.0), "temperature=0"),
        (lambda: sharpening_path([1.0, 2.0], 0.8, fresh_share=2.0), "fresh_share=2"),
        (lambda: drift_fresh_share(100, 1.5), "kept=1.5"),
    ],
)
def test_impossible_settings_are_named(call, named) -> None:
    """One line with the value."""
    with pytest.raises(BadSetting, match=named):
        call()
