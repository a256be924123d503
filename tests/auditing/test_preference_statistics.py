"""Shares of choices: their intervals and p-values against brute force, exact tests and a peer."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from karat.auditing import preference_statistics
from karat.auditing.preference_statistics import (
    Tally,
    lower_p,
    odds_ratio,
    paired_logit,
    percentiles,
    score_p,
    share,
)


def tally(prompts: list[int], hits: list[float], weight: list[float] | float = 1.0) -> Tally:
    return Tally.of(np.array(prompts, dtype=np.uint64), hits, weight)


def test_value_and_weights() -> None:
    """A share is hits by weight, and records of no weight do not count."""
    found = share(tally([0, 1, 2], [1, 0, 0.5], [1, 1, 2]))
    assert 1.5 / 4 == found.value
    assert 2 == share(tally([0, 1, 2], [1, 0, 0], [1, 1, 0])).n


def test_interval_is_that_of_whole_prompts() -> None:
    """Ten records a prompt that all agree are worth one: the error is that of prompts, not of records."""
    rng = np.random.default_rng(0)
    flags = rng.random(100) < 0.6
    one = share(tally(list(range(100)), list(flags.astype(float))))
    ten = share(tally(list(np.repeat(range(100), 10)), list(np.repeat(flags.astype(float), 10))))
    assert one.error == pytest.approx(ten.error)
    assert one.interval == pytest.approx(ten.interval)
    binomial = np.sqrt(one.value * (1 - one.value) / 99)
    assert binomial == pytest.approx(one.error)


def test_interval_covers() -> None:
    """In 200 worlds of 30 prompts with 1 to 6 dependent records the interval covers about 95 in 100."""
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        lean = rng.beta(3, 2, 30)  # a share of 0.6 that differs by prompt
        sizes = rng.integers(1, 7, 30)
        prompts = np.repeat(np.arange(30), sizes)
        hits = rng.random(len(prompts)) < lean[prompts]
        low, high = share(tally(list(prompts), list(hits.astype(float))), seed=trial, draws=400).interval or (
            1,
            0,
        )
        covered += low <= 0.6 <= high
    assert 181 <= covered


def test_many_prompts_give_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 4,000 prompts sums are drawn as normal numbers: the intervals are those of drawn prompts."""
    rng = np.random.default_rng(11)
    lean = rng.beta(2, 2, 1500)
    prompts = np.repeat(np.arange(1500), 2)
    mine, theirs = (tally(list(prompts), list((rng.random(3000) < lean[prompts]) * 1.0)) for _ in range(2))
    drawn = share(mine, theirs, draws=4000)
    monkeypatch.setattr(preference_statistics, "_MANY", 100)
    normal = share(mine, theirs, draws=4000)
    assert drawn.interval == pytest.approx(normal.interval, abs=2e-3)
    assert drawn.difference_interval == pytest.approx(normal.difference_interval, abs=2e-3)


def test_all_alike() -> None:
    """Where all of 30 prompts agree the interval is Wilson's, and 0.5 is impossible."""
    found = share(tally(list(range(30)), [1.0] * 30), null=0.5)
    assert (0.8865, 1.0) == pytest.approx(found.interval, abs=1e-4)
    assert found.p_null is not None
    assert found.p_null < 1e-4


def test_p_is_the_exact_sign_test_for_few() -> None:
    """For single votes the p of 0.5 is near the exact binomial one, 3 to 39 votes."""
    for n, hits in ((8, 8), (12, 9), (20, 15), (30, 18), (39, 30)):
        tail = sum(comb(n, k) for k in range(hits, n + 1)) / 2**n
        found = score_p(np.array([0.5] * hits + [-0.5] * (n - hits)))
        assert min(1.0, 2 * tail) == pytest.approx(found, abs=0.02)


def test_no_parts_no_p() -> None:
    """Nothing to test gives no p; parts that are all 0 give 1."""
    assert score_p(np.zeros(0)) is None
    assert 1.0 == score_p(np.zeros(4))


def test_equal_sources_are_not_told_apart() -> None:
    """Two raters of one source on the same prompts, 400 times: p < 0.05 in about 5 of 100."""
    rng = np.random.default_rng(2)
    for prompts in (12, 80):
        false = 0
        for trial in range(400):
            lean = rng.beta(2, 2, prompts)
            of = np.repeat(np.arange(prompts), 3)
            mine, theirs = (rng.random((2, len(of))) < lean[of]).astype(float)
            found = share(tally(list(of), list(mine)), tally(list(of), list(theirs)), seed=trial, draws=100)
            assert found.p is not None
            false += found.p < 0.05
        assert false <= 32  # 20 expected, sd 4.4


def test_difference_of_shares_on_the_same_prompts() -> None:
    """A difference of 0.2 is found and covered, and its interval is narrower than for other prompts."""
    rng = np.random.default_rng(3)
    lean = rng.beta(1, 1, 300)
    mine = (rng.random(300) < np.clip(lean + 0.2, 0, 1)).astype(float)
    theirs = (rng.random(300) < lean).astype(float)
    truth = float(np.clip(lean + 0.2, 0, 1).mean() - lean.mean())
    same = share(tally(list(range(300)), list(mine)), tally(list(range(300)), list(theirs)))
    others = share(tally(list(range(300)), list(mine)), tally(list(range(300, 600)), list(theirs)))
    assert same.difference_interval is not None and others.difference_interval is not None
    assert same.difference_interval[0] <= truth <= same.difference_interval[1]
    assert same.p is not None and same.p < 1e-4
    widths = [high - low for low, high in (same.difference_interval, others.difference_interval)]
    assert widths[0] < widths[1]


def test_few_prompts_have_wider_intervals() -> None:
    """Percentiles are drawn out as Student's t is wider than the normal; one prompt has no interval."""
    draws = np.random.default_rng(4).normal(size=20_000)
    narrow, wide = percentiles(draws, 10_000), percentiles(draws, 5)
    assert narrow is not None and wide is not None
    assert 1.96 == pytest.approx(narrow[1], abs=0.06)
    assert 2.776 * np.sqrt(5 / 4) == pytest.approx(wide[1], abs=0.25)
    assert percentiles(draws, 1) is None


def test_one_sided() -> None:
    """Half of the two-sided p below, the rest above."""
    assert 0.02 == lower_p(0.4, 0.5, 0.04)
    assert 0.98 == lower_p(0.6, 0.5, 0.04)
    assert lower_p(0.4, 0.5, None) is None


def test_odds_ratio() -> None:
    """0.8 to 0.5 is four times the odds; there is none at the ends."""
    assert 4.0 == pytest.approx(odds_ratio(0.8, 0.5))
    assert odds_ratio(1.0, 0.5) is None
    assert odds_ratio(0.5, None) is None


def test_logit_is_that_of_a_peer() -> None:
    """Coefficients are those of scikit-learn without penalty, errors the sandwich written out by prompt."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(5)
    features = rng.normal(size=(300, 2))
    chosen = (rng.random(300) < 1 / (1 + np.exp(-features @ [0.8, -0.3]))).astype(float)
    prompt = rng.integers(0, 60, 300).astype(np.uint64)
    found = paired_logit(chosen, features, prompt)
    assert found is not None
    peer = linear_model.LogisticRegression(C=1e12, fit_intercept=False, tol=1e-10, max_iter=1000)
    assert peer.fit(features, chosen).coef_[0] == pytest.approx(found.coefficients, abs=1e-5)
    p = 1 / (1 + np.exp(-features @ found.coefficients))
    bread = np.linalg.inv(sum(w * np.outer(x, x) for w, x in zip(p * (1 - p), features)))
    meat = np.zeros((2, 2))
    for one in np.unique(prompt):
        score = sum((y - q) * x for y, q, x, g in zip(chosen, p, features, prompt) if g == one)
        meat += np.outer(score, score)
    groups = len(np.unique(prompt))
    expected = np.sqrt(np.diag(bread @ meat @ bread) * groups / (groups - 1))
    assert expected == pytest.approx(found.errors)


def test_logit_gives_up_where_data_separate() -> None:
    """Perfect separation, too few records and a feature that is constant 0 give None."""
    prompt = np.arange(10, dtype=np.uint64)
    x = np.arange(-5.0, 5.0)[:, None] + 0.5
    assert paired_logit((x[:, 0] > 0).astype(float), x, prompt) is None
    assert paired_logit(np.ones(1), np.ones((1, 1)), prompt[:1]) is None
    assert paired_logit(np.ones(10), np.zeros((10, 1)), prompt) is None
