"""Exact tests of tables, strata and rare rates: equal to scipy, to enumeration and to published figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from karat.auditing import judged_tables as tables
from karat.auditing import statistics as stats


def test_fisher_is_that_of_scipy() -> None:
    """Two-sided p-values of random tables agree with scipy's to twelve digits."""
    rng = np.random.default_rng(0)
    for n, m in rng.integers(1, 40, (50, 2)):
        hits, others = int(rng.integers(0, n + 1)), int(rng.integers(0, m + 1))
        expected = scipy_stats.fisher_exact([[hits, n - hits], [others, m - others]]).pvalue
        assert expected == pytest.approx(tables.fisher_p((hits, int(n), others, int(m))), rel=1e-9)


def test_published_digression_table() -> None:
    """35 of 66 against 97 of 134 has p = .011, 14 of 26 against 27 of 40 p = .31."""
    assert round(tables.fisher_p((35, 66, 97, 134)), 3) == 0.011
    assert round(tables.fisher_p((14, 26, 27, 40)), 2) == 0.31
    assert round(tables.fisher_p((14, 26, 38, 56)), 2) == 0.23


def test_strata_by_enumeration() -> None:
    """The stratified p is the sum over all sets of tables with these margins and at most this likelihood."""
    given = [(3, 5, 1, 6), (2, 4, 2, 9), (0, 3, 1, 2)]
    masses: dict[int, float] = {}
    choices = []
    for hits, n, others, m in given:
        total = hits + others
        low, high = max(0, total - m), min(total, n)
        choices.append([(k, scipy_stats.hypergeom.pmf(k, n + m, total, n)) for k in range(low, high + 1)])
    for cells in itertools.product(*choices):
        hits = sum(k for k, _ in cells)
        masses[hits] = masses.get(hits, 0.0) + float(np.prod([mass for _, mass in cells]))
    observed = masses[sum(hits for hits, *_ in given)]
    expected = sum(mass for mass in masses.values() if mass <= observed * (1 + 1e-9))
    assert expected == pytest.approx(tables.stratified_p(given))


def test_strata_without_news() -> None:
    """Empty groups and certain outcomes say nothing."""
    assert 1.0 == tables.stratified_p([])
    assert 1.0 == tables.stratified_p([(0, 5, 0, 6), (3, 3, 0, 0), (4, 4, 2, 2)])


def test_strata_remove_what_differs_between_them() -> None:
    """Simpson's paradox: no effect in either stratum, a strong one in the sum."""
    given = [(45, 50, 9, 10), (1, 10, 5, 50)]
    summed = tuple(int(total) for total in np.array(given).sum(axis=0))
    assert tables.fisher_p(summed) < 1e-6  # type: ignore[arg-type]
    assert tables.stratified_p(given) > 0.5
    assert tables.common_odds_ratio(given).value == pytest.approx(1.0)


def test_odds_ratios() -> None:
    """One stratum's common odds ratio is its own; empty cells give infinite ends and no error."""
    odds = tables.odds_ratio((35, 66, 97, 134))
    assert 35 * 37 / (31 * 97) == pytest.approx(odds.value)
    assert tables.common_odds_ratio([(35, 66, 97, 134)]).value == pytest.approx(odds.value)
    assert odds.interval is not None
    assert odds.interval[0] < odds.value < odds.interval[1] < 1
    assert np.inf == tables.odds_ratio((5, 5, 0, 5)).value
    assert np.isnan(tables.odds_ratio((0, 0, 3, 5)).value)
    assert tables.common_odds_ratio([(0, 4, 0, 4)]).interval is None


def test_newcombe_published() -> None:
    """Newcombe 1998, Table II, method 10: 56/70 - 48/80 is 0.0524 to 0.3339."""
    found = tables.share_difference((56, 70, 48, 80))
    assert found is not None
    assert (0.0524, 0.3339) == tuple(round(end, 4) for end in found)


def test_difference_p_is_the_level_at_the_edge() -> None:
    """At level 1 - p the interval of the difference just holds 0."""

    def share(hits: int, n: int) -> tables.Estimate:
        return lambda level: (hits / n, stats.wilson(hits, n, level=level))

    one, other = share(30, 100), share(18, 100)
    p = tables.difference_p(one, other)
    assert p is not None
    ends = tables.difference_interval(one, other, level=1 - p)
    assert ends is not None
    assert 0 == pytest.approx(ends[0], abs=1e-6)
    assert 1.0 == tables.difference_p(one, one)
    assert p == pytest.approx(tables.difference_p(other, one), rel=1e-6)


def test_rare_rates() -> None:
    """Equal weights give Garwood's exact interval; unequal weights cover at least 95 of 100 times."""
    for events in (0, 3, 40):
        low, high = tables.weighted_rate_interval(np.array([events]), np.array([1 / 200]))
        expected = scipy_stats.chi2.ppf([0.025, 0.975], [2 * events, 2 * events + 2]) / 2 / 200
        assert np.nan_to_num(expected).tolist() == pytest.approx([low, high])
    rng = np.random.default_rng(1)
    size, hazard = np.array([500, 300, 100, 20]), np.array([0.002, 0.01, 0.02, 0.05])
    share = np.array([0.2, 0.3, 0.3, 0.2])
    covered = 0
    for _ in range(400):
        low, high = tables.weighted_rate_interval(rng.binomial(size, hazard), share / size)
        covered += low <= (share * hazard).sum() <= high
    assert covered >= 375  # 95% of 400, less two standard errors
