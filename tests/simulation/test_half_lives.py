"""Half-lives over seeds: by hand, and how often their interval holds the median."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from karat.auditing.statistics import t_quantile
from karat.simulation.half_lives import Reached, crossing, half_life_words, over_seeds, reached


def decay(time: float, horizon: int, generator: np.random.Generator, noise: float = 0.004) -> Reached:
    """A seed whose diversity halves every `time` iterations, measured with noise."""
    curve = 0.56 * 2.0 ** (-np.arange(horizon + 1) / time) + generator.normal(0, noise, horizon + 1)
    return reached(list(curve), list(curve - 1.96 * noise), list(curve + 1.96 * noise))


def test_a_curve_is_read_where_it_crosses_half() -> None:
    """Straight lines between iterations; the error is that of the measure, on the time axis."""
    assert 1.5 == crossing([1.0, 0.75, 0.25], 0.5)
    assert 0.0 == crossing([0.4, 0.3], 0.5)
    assert crossing([1.0, 0.9], 0.5) is None
    found = reached([1.0, 0.6, 0.2], [0.9, 0.5, 0.1], [1.1, 0.7, 0.3])
    assert (1.25, 2) == (found.at, found.last)
    assert abs(math.log(1.0 / 1.25)) / 1.959964 == pytest.approx(found.error, rel=1e-5)
    assert reached([1.0, 0.9], [0.9, 0.8], [1.1, 1.0]) == Reached(None, 1, 0.0)


def test_seeds_that_all_halved_have_student_s_interval() -> None:
    """The median, and mean ± t s / sqrt(k) of log half-lives."""
    times = [8.0, 10.0, 13.0, 11.0]
    found = over_seeds([Reached(time, 40, 0.01) for time in times])
    logs = [math.log(time) for time in times]
    reach = t_quantile(0.975, 3) * statistics.stdev(logs) / 2
    assert 10.5 == found.value
    assert math.exp(statistics.fmean(logs) - reach) == pytest.approx(found.interval[0])
    assert math.exp(statistics.fmean(logs) + reach) == pytest.approx(found.interval[1])
    assert "95% t interval" in found.note


def test_seeds_that_agree_keep_the_error_of_the_measure() -> None:
    """Equal half-lives are no proof of an error of zero."""
    low, high = over_seeds([Reached(10.0, 40, 0.05)] * 3).interval
    assert math.exp(1.96 * math.hypot(0.05, 0.02) / math.sqrt(3)) == pytest.approx(high / 10, rel=1e-3)
    assert low < 10.0 < high


def test_one_seed_says_that_it_is_one() -> None:
    """Its interval holds the sampling error of the measure, and says what it does not hold."""
    found = over_seeds([Reached(10.0, 40, 0.05)])
    assert "not the spread between runs" in found.note
    assert math.exp(1.959964 * 0.05) == pytest.approx(found.interval[1] / 10.0)


def test_a_late_seed_counts_as_later_than_all_others() -> None:
    """Of three seeds one has not halved: the median is known, its end may be open, and it is said."""
    found = over_seeds([Reached(1.5, 2, 0.0), Reached(2.0, 2, 0.0), Reached(None, 2, 0.0)])
    assert 2.0 == found.value
    assert found.interval[0] < 1.5
    assert "1 did not halve within 2" in found.note
    assert over_seeds([Reached(1.5, 2, 0.0), Reached(None, 2, 0.0)]).value is None


def test_seeds_that_never_halved_give_a_bound() -> None:
    """One seed: its last iteration. Several: less where they are few, as each may be late."""
    assert (10.0, None) == over_seeds([Reached(None, 10, 0.0)]).interval
    two, five = (over_seeds([Reached(None, 10, 0.0)] * k).interval[0] for k in (2, 5))
    assert 6.0 < two < five <= 10.0
    assert half_life_words(over_seeds([Reached(None, 10, 0.0)])) == "not reached; more than 10.0 iterations"


@pytest.mark.parametrize(("seeds", "horizon"), [(3, 40), (10, 40), (3, 11), (5, 11), (10, 11)])
def test_the_interval_holds_the_median_of_all_seeds(seeds: int, horizon: int) -> None:
    """In at least 90 of 100 studies, with a spread of 15% between seeds, also where a third is censored."""
    generator, held, studies = np.random.default_rng([seeds, horizon]), 0, 120
    for _ in range(studies):
        times = 10.0 * np.exp(generator.normal(0, 0.15, seeds))
        low, high = over_seeds([decay(time, horizon, generator) for time in times]).interval
        held += (low or 0.0) <= 10.0 <= (high or math.inf)
    assert studies * 0.9 <= held


def test_a_loop_that_is_flat_from_the_start_has_no_half_life() -> None:
    """Diversity zero in the first iteration halves at once; it must not break the logarithm."""
    assert 0.5 == over_seeds([reached([0.0, 0.0], [0.0, 0.0], [0.0, 0.0])] * 2).value


def test_one_early_seed_of_many_does_not_push_the_bound_too_far() -> None:
    """Ten seeds that nearly agree, one of which has halved by the end: the bound stays below the median."""
    generator, above, studies = np.random.default_rng(3), 0, 100
    for _ in range(studies):
        times = 10.0 * np.exp(generator.normal(0, 0.05, 10))
        found = over_seeds([decay(time, 9, generator) for time in times])
        above += (found.interval[0] or 0.0) > 10.0
    assert above <= 5
