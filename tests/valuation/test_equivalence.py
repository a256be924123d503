"""The arithmetic of a worth, on curves whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from karat.valuation import equivalence as eq

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def power(n: np.ndarray | float) -> np.ndarray:
    """A learning curve: score = 0.9 - n^-0.3."""
    return np.asarray(0.9 - np.asarray(n, dtype=float) ** -0.3)


def test_monotone_is_isotonic_regression() -> None:
    """Equal to scikit-learn's IsotonicRegression on random curves, to 1e-12."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.normal(size=9) + np.linspace(0, 2, 9)
        expected = IsotonicRegression().fit_transform(np.arange(9), values)
        np.testing.assert_allclose(expected, eq.monotone(values)[0], atol=1e-12)


def test_a_score_on_the_curve_gives_its_size_back() -> None:
    """At a size of the grid exactly; between two sizes within the error of a straight line on log n."""
    curve = power(np.array(SIZES))
    for n in SIZES:
        assert n == pytest.approx(eq.reach(SIZES, curve[None], power(n)[None])[0])
    for n in (14, 70, 320, 1400, 3300):
        assert n == pytest.approx(eq.reach(SIZES, curve[None], power(n)[None])[0], rel=0.08)


def test_the_smallest_size_that_is_good_enough_counts() -> None:
    """On a plateau the worth is where the plateau begins."""
    curve = np.array([[0.1, 0.5, 0.5, 0.5, 0.9]])
    assert 20 == pytest.approx(eq.reach((10, 20, 30, 40, 50), curve, np.array([0.5]))[0])


def test_outside_the_curve_nothing_is_made_up() -> None:
    """Better than the largest set and worse than the smallest are answers of their own."""
    curve = power(np.array(SIZES))[None]
    assert eq.ABOVE == eq.reach(SIZES, curve, np.array([0.89]))[0]
    assert eq.BELOW == eq.reach(SIZES, curve, np.array([0.1]))[0]


def made(target: float, spread: float = 0.01, records: int = 1000) -> eq.Equivalence:
    rng = np.random.default_rng(1)
    curve = power(np.array(SIZES))
    draws = curve + rng.normal(0, spread, (2000, 1))
    return eq.equivalence(SIZES, curve, draws, records, target, target + rng.normal(0, spread, 2000))


def test_where_the_curve_is_flat_the_interval_spans_the_flat_part() -> None:
    """A perfect score of both sides tells nothing above the first size that has it; below, all is told."""
    sizes, curve = (10, 30, 100, 300), np.array([0.6, 0.8, 1.0, 1.0])
    scores = np.repeat(np.tile(curve, (200, 1))[:, :, None], 5, axis=2)
    draws = eq.resample_seeds(scores, rng=np.random.default_rng(0))
    perfect = eq.equivalence(sizes, curve, draws, 300, 1.0, np.ones(200))
    assert (100, None) == (perfect.worth_human_records, perfect.interval[1])
    assert 100 == pytest.approx(perfect.interval[0])
    flat = np.array([0.6, 0.8, 0.8, 1.0])
    found = eq.equivalence(sizes, flat, np.tile(flat, (200, 1)), 300, 0.8, np.full(200, 0.8))
    assert (30, pytest.approx((30, 100))) == (found.worth_human_records, found.interval)
    other = eq.equivalence(sizes, curve, draws, 300, 0.8, np.full(200, 0.8))
    assert (30, pytest.approx((30, 30))) == (other.worth_human_records, other.interval)


def test_an_uncensored_worth_has_number_interval_and_rate() -> None:
    """300 human records' score is worth about 300; the rate is the share of the records."""
    found = made(float(power(300)))
    assert found.worth_human_records == pytest.approx(300, rel=0.05)
    assert found.rate == pytest.approx(0.3, rel=0.05)
    low, high = found.interval
    assert low is not None and high is not None and low < 300 < high
    assert "" == found.censored and found.bound is None


def test_a_set_better_than_all_human_data_is_worth_more_than_that() -> None:
    """No number, a lower bound that is at most the largest set, and no upper end."""
    found = made(0.86)
    assert (None, None, "above", 5000) == (found.worth_human_records, found.rate, found.censored, found.bound)
    assert found.interval[1] is None
    assert found.interval[0] is not None and 1000 < found.interval[0] <= 5000
    clear = made(0.99)
    assert (5000.0, None) == clear.interval


def test_a_set_worse_than_the_smallest_human_set_is_worth_less_than_that() -> None:
    """No number, 0 as the lower end, and an upper end."""
    found = made(0.2)
    assert (None, "below", 10) == (found.worth_human_records, found.censored, found.bound)
    assert (0.0, 10.0) == found.interval


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Noisy seeds and noisy sets: 95 % intervals hold the true worth in at least 88 of 100 experiments.

    The human pool and the synthetic set both come from the same source, of 400 records; five seeds draw
    nested sets. A score is the curve's plus the mean error of the records drawn: a linear learner.
    """
    rng = np.random.default_rng(5)
    sizes, total, worth, hits = (25, 50, 100, 200, 400, 800, 1600), 1600, 400, 0
    for _ in range(100):
        pool, own = rng.normal(0, 0.5, total), rng.normal(0, 0.5, worth)
        human = np.array([[_mean(pool, n, rng) for _ in range(5)] for n in sizes])
        human = human + power(np.array(sizes))[:, None]
        halves = np.array([_mean(own, worth // 2, rng) for _ in range(5)])
        target = float(power(worth)) + own.mean()
        trials = 400
        curve = eq.resample_seeds(np.repeat(human[None], trials, axis=0), rng=rng)
        half = human[sizes.index(800)] - power(800)
        curve += eq.draw_noise(half, 1.0, trials, rng=rng)[:, None]
        targets = target + eq.draw_noise(halves, 1.0, trials, rng=rng)
        found = eq.equivalence(sizes, human.mean(axis=1), curve, worth, target, targets)
        low, high = found.interval
        hits += (low or 0) <= worth <= (np.inf if high is None else high)
    assert 88 <= hits


def _mean(values: np.ndarray, n: int, rng: np.random.Generator) -> float:
    return float(rng.permutation(values)[:n].mean())


def test_random_halves_vary_as_whole_sets_do() -> None:
    """What the noise of drawing rests on: halves without replacement against fresh whole sets."""
    rng = np.random.default_rng(6)
    whole = np.array([rng.normal(size=200).mean() for _ in range(3000)]).std()
    sets = rng.normal(size=(60, 200))
    halves = np.mean([np.std([_mean(v, 100, rng) for _ in range(40)], ddof=1) for v in sets])
    assert 1.0 == pytest.approx(halves / whole, rel=0.06)


def test_seeds_spread_as_wide_as_they_should() -> None:
    """The resampled mean of s seeds has the variance of a mean of s, not (s - 1) / s of it."""
    rng = np.random.default_rng(7)
    scores = rng.normal(size=5)
    means = eq.resample_seeds(np.tile(scores, (20_000, 1, 1)), rng=rng)[:, 0]
    assert scores.std(ddof=1) / np.sqrt(5) == pytest.approx(means.std(), rel=0.03)


def gain(human: int, difference: float, width: float = 0.01) -> eq.Marginal:
    draws = difference + np.linspace(-width, width, 101)
    return eq.marginal(human, 0.5, 0.5 + difference, difference, draws)


def test_a_gain_helps_or_hurts_only_where_its_interval_says_so() -> None:
    """An interval that holds zero is unclear."""
    assert ["helps", "unclear", "hurts"] == [gain(1, d).verdict for d in (0.05, 0.002, -0.05)]


def test_the_turning_point_lies_between_the_last_gain_and_the_first_loss() -> None:
    """Halfway on log(1 + n) of equal gain and loss; none while the gain lasts; a dip does not count."""
    turn = eq.turning_point([gain(0, 0.2), gain(99, 0.1), gain(9999, -0.1)])
    assert 999 == pytest.approx(turn, rel=1e-9)
    assert eq.turning_point([gain(0, 0.2), gain(100, -0.01), gain(1000, 0.1)]) is None
    assert 0.0 == eq.turning_point([gain(0, -0.1), gain(100, -0.2)])
