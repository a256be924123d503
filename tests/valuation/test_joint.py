"""One law of human and synthetic records: known parameters are found again, or it says why not."""

from __future__ import annotations

import numpy as np
import pytest

from karat.valuation import joint
from karat.valuation.equivalence import reach, resample_seeds

HUMAN = (10, 30, 100, 300, 1000, 3000)
CELLS = np.array(
    [(h, 0) for h in HUMAN]
    + [(0, s) for s in (30, 100, 300, 1000, 3000)]
    + [(h, s) for h in HUMAN[1:] for s in (1000, 3000)]
).T


def measured(law: joint.Law, seed: int, noise: float = 0.01, trials: int = 50) -> joint.Joint:
    """Fit five noisy seeds of each run."""
    rng = np.random.default_rng(seed)
    r, s = CELLS
    scores = law.loss(r, s)[:, None] + rng.normal(0, noise, (len(r), 5))
    draws = resample_seeds(np.repeat(scores[None], trials, 0), rng=rng, wide=True)
    return joint.fit(r.tolist(), s.tolist(), scores.mean(axis=1), draws, at=[(30, 3000), (3000, 3000)])


def test_without_noise_the_parameters_are_found_again() -> None:
    """Within 2 % from exact losses: exchange rate, exponent, floors."""
    law = joint.Law(E=0.1, A=1.5, alpha=0.3, eta=0.4, B=0.2, gamma=1.5)
    r, s = CELLS
    found, _ = joint.solve(r, s, law.loss(r, s), np.full(len(r), 1e-4))
    for name in ("E", "A", "alpha", "eta", "B", "gamma"):
        assert getattr(law, name) == pytest.approx(getattr(found, name), rel=0.02), name


def test_the_slope_is_the_derivative() -> None:
    """dL/dS against a difference quotient."""
    law = joint.Law(E=0.1, A=1.5, alpha=0.3, eta=0.4, B=0.2, gamma=1.5)
    for r, s in ((10, 100), (300, 300), (3000, 50), (40, 9000)):
        expected = (law.loss(r, s + 1e-3) - law.loss(r, s - 1e-3)) / 2e-3
        assert float(expected) == pytest.approx(float(law.slope(r, s)), rel=1e-4)


def test_the_interval_of_the_exchange_rate_covers() -> None:
    """Twelve noisy studies with eta 0.4 and with 1 and no floor: 19 of 24 intervals at least, few refused.

    By a binomial of 24 and 0.95, fewer than 19 come up in 0.1 % of such tests.
    """
    hits = refused = 0
    for law in (joint.Law(0.1, 1.5, 0.3, 0.4, 0.05, 1.5), joint.Law(0.1, 1.5, 0.3, 1.0, 0.0, 1.0)):
        for seed in range(12):
            found = measured(law, seed)
            refused += found.eta is None
            hits += found.interval is not None and found.interval[0] <= law.eta <= found.interval[1]
    assert 19 <= hits
    assert refused <= 2


def test_a_floor_must_earn_its_place() -> None:
    """Without one it is left out in most noisy studies, where a free fit finds one; a real one stays."""
    r, s = CELLS
    left_out = found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.005, len(r))
        none = joint.Law(0.1, 1.5, 0.3, 0.5, 0.0, 1.0).loss(r, s) + noise
        chosen, free = joint.solve(r, s, none, np.full(len(r), 0.005))
        left_out += chosen.B == 0 and free.B > 0
        some = joint.Law(0.1, 1.5, 0.3, 0.5, 0.2, 1.0).loss(r, s) + noise
        found += joint.solve(r, s, some, np.full(len(r), 0.005))[0].B > 0.1
    assert left_out >= 7
    assert 10 == found


def test_the_interval_is_shifted_where_the_value_is_not_the_middle_of_its_draws() -> None:
    """Efron 1987: with 70 % of the draws below the value its ends lie at Phi(2 z(0.7) -+ 1.96)."""
    from scipy.stats import norm

    draws = np.random.default_rng(0).normal(size=200_000)
    value = float(np.quantile(draws, 0.7))
    low, high = joint._corrected(draws, value, 0.95)
    shift = 2 * norm.ppf(0.7)
    assert shift - 1.96 == pytest.approx(low, abs=0.02)
    assert shift + 1.96 == pytest.approx(high, abs=0.05)


def test_it_says_where_to_stop() -> None:
    """A floor of 0.2: beside 3,000 human records 3,000 synthetic ones are too many, and fewer are better."""
    law = joint.Law(E=0.1, A=1.5, alpha=0.3, eta=0.1, B=0.2, gamma=1.0)
    found = measured(law, 3, noise=0.003)
    few, many = found.stop
    assert (30, 3000) == (few.human, many.human)
    assert "stop adding here" == many.verdict and many.slope < 0
    assert many.best is not None and many.best < 1000
    assert float(-100 * law.slope(3000, 3000)) == pytest.approx(many.slope, rel=0.3)
    assert found.explained is not None and found.explained > 0.99


def test_the_smallest_sets_may_follow_another_law() -> None:
    """Below 200 records nothing is learnt yet: those runs are left out, and the exchange rate is found."""
    law = joint.Law(0.1, 1.5, 0.3, 0.4, 0.0, 1.0)
    rng = np.random.default_rng(1)
    sizes = (10, 30, 100, 300, 600, 1000, 2000, 3000)
    pairs = [(h, 0) for h in sizes] + [(0, s) for s in sizes]
    r, s = np.array(pairs + [(h, 3000) for h in (100, 300, 1000, 3000)]).T
    losses = np.where(r + s < 200, 0.75, law.loss(r, s)) + rng.normal(0, 0.002, len(r))
    found = joint.fit(r.tolist(), s.tolist(), losses, losses + rng.normal(0, 0.003, (30, len(r))))
    assert 300 == found.least
    assert found.eta == pytest.approx(0.4, rel=0.15)
    assert found.interval is not None and found.interval[0] <= 0.4 <= found.interval[1]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [("few", "are too few for six parameters"), ("flat", "no more than chance"), ("odd", "does not fit")],
)
def test_runs_that_cannot_tell_are_refused(spoil: str, words: str) -> None:
    """Fewer than twelve runs, a curve that does not rise, losses that follow no such law."""
    law = joint.Law(0.1, 1.5, 0.3, 0.4, 0.05, 1.5)
    rng = np.random.default_rng(0)
    r, s = CELLS
    losses = law.loss(r, s)
    if spoil == "few":
        r, s, losses = r[:11], s[:11], losses[:11]
    elif spoil == "flat":
        losses = 0.5 + rng.normal(0, 0.002, len(r))
    else:
        losses = losses + 0.2 * np.where(r > 250, 1.0, -1.0) * (s > 500)
    found = joint.fit(r.tolist(), s.tolist(), losses, losses + rng.normal(0, 0.005, (30, len(r))))
    assert found.eta is None and found.law is None
    assert words in found.refused
    assert found.refused == found.to_json()["refused"]


def test_published_runs_of_a_distilled_set() -> None:
    """Kazdan et al. 2024, HelpSteer2, read off the figure: 1,024 + 1,024 records are about 2,290 human ones.

    The law, fitted to these eight runs, has the sign of what was seen: the synthetic records help beside
    1,024 human ones and do harm beside 4,096. Its exchange rate runs to the bound: eight are too few.
    """
    sizes, losses = (256, 1024, 4096, 12_000), np.array([1.395, 1.31, 1.10, 1.068])
    worth = reach(sizes, -losses[None], np.array([-1.187]))[0]
    assert 2290 == pytest.approx(worth, rel=0.02)
    assert 1.2 == pytest.approx((worth - 1024) / 1024, abs=0.06)
    r = np.array([256, 1024, 4096, 12_000, 256, 512, 1024, 4096])
    s = np.array([0, 0, 0, 0, 1024, 1024, 1024, 36_864])
    y = np.array([*losses, 1.262, 1.237, 1.187, 1.18])
    _, law = joint.solve(r, s, y, np.full(8, 0.01))
    assert law.loss(1024, 1024) < law.loss(1024, 0) - 0.04
    assert law.loss(4096, 36_864) > law.loss(4096, 0) + 0.03
    assert law.slope(256, 16) < 0 < law.slope(12_000, 12_000)
    assert law.eta > 0.9 * joint.ETA[1]
    refused = joint.fit(r.tolist(), s.tolist(), y, y + np.zeros((20, 8)))
    assert "too few" in refused.refused
