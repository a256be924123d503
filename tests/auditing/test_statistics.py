"""Intervals, tests and corrections against textbook values, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from karat.auditing import statistics as stats


def test_quantiles_agree_with_scipy() -> None:
    """t and normal quantiles and tails are those of scipy.stats."""
    assert scipy.stats.t.ppf(0.975, 19) == pytest.approx(stats.t_quantile(0.975, 19))
    assert scipy.stats.norm.ppf(0.9) == pytest.approx(stats.normal_quantile(0.9))
    assert 2 * scipy.stats.t.sf(2.1, 7.5) == pytest.approx(stats.t_p(-2.1, 7.5))
    assert 2 * scipy.stats.norm.sf(1.96) == pytest.approx(stats.normal_p(1.96))


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    """For the mean of G group means the jackknife gives exactly the textbook standard error."""
    means = np.random.default_rng(0).normal(size=20)
    left_out = [(means.sum() - m) / 19 for m in means]
    estimate = stats.jackknife(means.mean(), left_out)
    assert means.std(ddof=1) / np.sqrt(20) == pytest.approx(estimate.error)
    low, high = estimate.interval() or (0, 0)
    expected = scipy.stats.t.interval(0.95, 19, means.mean(), scipy.stats.sem(means))
    assert expected == pytest.approx((low, high))


def test_interval_stays_in_range_and_needs_two_groups() -> None:
    """Intervals are cut to the range of the value, and one group gives none."""
    assert (0.0, 0.5) == pytest.approx(
        stats.Estimate(0.1, 0.2, 19).interval(bounds=(0.0, 0.5)) or (), abs=1e-12
    )
    assert stats.jackknife(1.0, []).interval() is None


def test_difference_is_welch() -> None:
    """The difference of two means has the p-value of Welch's t-test."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 20), rng.normal(0.4, 2, 15)
    one = stats.Estimate(a.mean(), scipy.stats.sem(a), 19)
    other = stats.Estimate(b.mean(), scipy.stats.sem(b), 14)
    expected = scipy.stats.ttest_ind(a, b, equal_var=False)
    found = stats.difference(one, other)
    assert expected.pvalue == pytest.approx(found.p)
    assert expected.df == pytest.approx(found.df)


def test_equal_values_differ_by_nothing() -> None:
    """Two equal values have p = 1 also where neither has an error; unequal ones without error have no p."""
    exact = stats.Estimate(2.0, 0.0, 19)
    assert 1.0 == stats.difference(exact, exact).p
    assert stats.difference(exact, stats.Estimate(3.0, 0.0, 19)).p is None


def test_paired_difference_is_the_paired_t_test() -> None:
    """p and interval are those of scipy's paired t-test."""
    rng = np.random.default_rng(2)
    a = rng.normal(size=12)
    b = a + rng.normal(0.3, 0.5, 12)
    expected = scipy.stats.ttest_rel(a, b)
    found = stats.paired_difference(a, b)
    assert expected.pvalue == pytest.approx(found.p)
    assert tuple(expected.confidence_interval()) == pytest.approx(found.interval)


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    """Adjusted p-values as worked out by hand; None is no test."""
    p = [0.01, None, 0.04, 0.03, 0.005]
    assert [0.03, None, 0.06, 0.06, 0.02] == pytest.approx(list(stats.holm(p)))
    assert [0.02, None, 0.04, 0.04, 0.02] == pytest.approx(list(stats.benjamini_hochberg(p)))
    full = [0.01, 0.04, 0.03, 0.005]
    expected = scipy.stats.false_discovery_control(full)
    assert list(expected) == pytest.approx(list(stats.benjamini_hochberg(full)))


def test_permutation_p_counts_the_observed_value() -> None:
    """The p-value is never 0, and symmetric in two-sided tests."""
    null = np.arange(99.0)
    assert 1 / 100 == stats.permutation_p(1000.0, null)
    assert stats.permutation_p(98.0, null) == stats.permutation_p(0.0, null)
    assert 2 / 100 == stats.permutation_p(98.0, null, two_sided=False)


def test_random_halves_swap_within_pairs() -> None:
    """Each mask takes G of 2G groups, one of each pair."""
    masks = stats.random_halves(7, trials=50, seed=0)
    assert (masks[:, :7] ^ masks[:, 7:]).all()
    assert len(np.unique(masks, axis=0)) > 30


def test_bootstraps_agree_with_theory() -> None:
    """The spread of bootstrap means is the standard error, and clusters widen it."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=400)
    error = values.std() / 20
    plain = stats.bootstrap(400, lambda rows: values[rows].mean(), trials=600)
    assert error == pytest.approx(plain.std(), rel=0.15)
    assert error == pytest.approx(stats.poisson_bootstrap(values, trials=600).std(), rel=0.15)
    low, high = stats.percentile_interval(plain) or (0, 0)
    assert values.mean() - 1.96 * error == pytest.approx(low, abs=0.02)
    assert values.mean() + 1.96 * error == pytest.approx(high, abs=0.02)
    copied = np.repeat(values[:100], 4)  # four copies of each value are one value
    clusters = np.repeat(np.arange(100), 4)
    wide = stats.cluster_bootstrap(clusters, lambda rows: copied[rows].mean(), trials=600)
    assert values[:100].std() / 10 == pytest.approx(wide.std(), rel=0.15)


def test_wilson_and_equivalence() -> None:
    """Wilson's interval for 0 of 10 and 8 of 10 as published; equivalence needs a small error."""
    assert (0.0, 0.2775) == pytest.approx(stats.wilson(0, 10) or (), abs=1e-4)
    assert (0.4902, 0.9433) == pytest.approx(stats.wilson(8, 10) or (), abs=1e-4)
    assert stats.wilson(0, 0) is None
    assert stats.equivalence_p(stats.Estimate(0.0, 0.01, 30), 0.05) < 0.001
    assert stats.equivalence_p(stats.Estimate(0.04, 0.01, 30), 0.05) > 0.1


def test_auc_is_the_share_of_ordered_pairs() -> None:
    """AUC equals the count over all pairs, with ties counted half; DeLong's error covers the truth."""
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 9, 60), rng.integers(0, 8, 50)
    pairs = (a[:, None] > b).mean() + (a[:, None] == b).mean() / 2
    assert pairs == pytest.approx(stats.auc(a, b).auc)
    covered = 0
    for trial in range(200):
        draw = np.random.default_rng(trial)
        found = stats.auc(draw.normal(1, 1, 60), draw.normal(0, 1, 60))
        low, high = found.interval or (0, 0)
        covered += low <= scipy.stats.norm.cdf(1 / np.sqrt(2)) <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_auc_of_perfect_separation() -> None:
    """All pairs ordered: the area is 1 and its interval has no width."""
    found = stats.auc([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    assert (1.0, (1.0, 1.0), 0.0) == (found.auc, found.interval, found.p)


def test_effect_size_of_equal_means() -> None:
    """Hedges' g is 0 for equal samples and about the true shift for large ones."""
    rng = np.random.default_rng(5)
    a = rng.normal(size=4000)
    assert 0.0 == stats.standardised(a, a)
    assert 0.5 == pytest.approx(stats.standardised(a + 0.5, rng.normal(size=4000)), abs=0.06)
