"""Diversity and distance from moments: equal to the definitions over all pairs, silent where they must be."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from audit_corpora import corpus, write
from embedding_corpora import GROUPS, alone, distance, p_value, side_by_side, topics
from numpy.typing import NDArray

import karat
from karat import registry
from karat.auditing import spectrum
from karat.auditing.base import point

ORDERS = (0.5, 1.0, 2.0, 5.0, float("inf"))


def by_all_pairs(rows: NDArray[np.float64], order: float) -> float:
    """The Vendi Score from the eigenvalues of the n x n matrix of cosines."""
    held = np.linalg.eigvalsh(rows @ rows.T / len(rows))
    held = held[held > 1e-14]
    if order == 1:
        return float(np.exp(-(held * np.log(held)).sum()))
    return float(1 / held.max() if np.isinf(order) else (held**order).sum() ** (1 / (1 - order)))


class TestVendi:
    @pytest.mark.parametrize("order", ORDERS)
    def test_equals_all_pairs(self, order: float) -> None:
        """The d x d spectrum gives what the n x n one gives, to 1e-9, also with more dimensions than rows."""
        for n, dims in ((60, 8), (20, 40)):
            rows = topics(np.random.default_rng(1), n, dims=dims)
            metric = registry.make("metrics", f"vendi:order={order}")
            assert by_all_pairs(rows, order) == pytest.approx(point(metric, alone(rows)), rel=1e-9)

    @pytest.mark.skipif(
        importlib.util.find_spec("vendi_score") is None, reason="vendi-score is not installed"
    )
    def test_equals_the_reference_program(self) -> None:
        """vendi-score on the n x n matrix of cosines in float64, orders 1, 2 and 5, to 1e-9."""
        from vendi_score import vendi

        rows = topics(np.random.default_rng(2), 80)
        for order in (1, 2, 5):
            expected = vendi.score_K(rows @ rows.T, q=order, normalize=False)
            metric = registry.make("metrics", f"vendi:order={order}")
            assert expected == pytest.approx(point(metric, alone(rows)), rel=1e-9)

    def test_known_values(self) -> None:
        """Five directions in equal numbers are five records, copies of one are one, zero rows are none."""
        rows = np.repeat(np.eye(5), 4, axis=0)
        for order in ORDERS:
            metric = registry.make("metrics", f"vendi:order={order}")
            assert 5.0 == pytest.approx(point(metric, alone(rows)))
            assert 1.0 == pytest.approx(point(metric, alone(np.repeat(rows[:1], 20, axis=0))))
            assert 5.0 == pytest.approx(point(metric, alone(np.concatenate([rows, np.zeros((20, 5))]))))
        assert np.isnan(point(registry.make("metrics", "vendi"), alone(np.zeros((20, 5)))))

    def test_masks_are_corpora(self) -> None:
        """A mask gives what the corpus of its groups alone gives."""
        rows = topics(np.random.default_rng(3), 100)
        mask = np.arange(GROUPS) % 3 > 0
        member = np.arange(100) % GROUPS
        metric = registry.make("metrics", "vendi")
        found = metric.values(alone(rows), mask[None])[0]
        assert by_all_pairs(rows[mask[member]], 1) == pytest.approx(found, rel=1e-9)

    def test_finds_copies_and_no_difference_where_there_is_none(self) -> None:
        """A corpus that one topic takes over is less varied; of 100 pairs of one source at most 10 differ."""
        metric = registry.make("metrics", "vendi")
        rng = np.random.default_rng(0)
        assert p_value(metric, topics(rng, 300, skew=3), topics(rng, 300), seed=0) < 1e-4
        pairs = [np.random.default_rng(seed) for seed in range(100)]
        assert 10 >= sum(p_value(metric, topics(r, 100), topics(r, 100), seed=0) < 0.05 for r in pairs)

    def test_refuses_orders_without_meaning(self) -> None:
        """An order of 0 or below is refused in one line."""
        with pytest.raises(karat.errors.BadSetting, match=r"order is 0\.0, but must be above 0"):
            registry.make("metrics", "vendi:order=0")


class TestDcscore:
    def test_equals_all_pairs(self) -> None:
        """The sum of the diagonal of the row-wise softmax of cosines, at two temperatures."""
        rows = topics(np.random.default_rng(1), 60)
        for temperature in (1.0, 0.05):
            raised = np.exp(rows @ rows.T / temperature)
            expected = (np.diag(raised) / raised.sum(axis=1)).sum()
            metric = registry.make("metrics", f"dcscore:temperature={temperature}")
            assert expected == pytest.approx(point(metric, alone(rows)), rel=1e-9)

    def test_ends(self) -> None:
        """Copies of one record amount to one; far apart at a low temperature, each counts."""
        metric = registry.make("metrics", "dcscore:temperature=0.01")
        assert 1.0 == pytest.approx(point(metric, alone(np.ones((20, 1)))))
        assert 20.0 == pytest.approx(point(metric, alone(np.eye(20))))

    def test_false_alarms(self) -> None:
        """Of 100 pairs of one source at most 10 differ; one topic that takes over is found."""
        metric = registry.make("metrics", "dcscore")
        rng = np.random.default_rng(0)
        assert p_value(metric, topics(rng, 300, skew=3), topics(rng, 300), seed=0) < 1e-4
        pairs = [np.random.default_rng(seed) for seed in range(100)]
        assert 10 >= sum(p_value(metric, topics(r, 100), topics(r, 100), seed=0) < 0.05 for r in pairs)

    def test_names_crowded_records(self) -> None:
        """The records that others are like come first."""
        rows = np.concatenate([np.eye(30)[:20], np.repeat(np.eye(30)[25:26], 5, axis=0)])
        found = registry.make("metrics", "dcscore").telling(alone(rows), 5)
        assert {20, 21, 22, 23, 24} == {one.key for one in found}


class TestFrechet:
    def test_equals_the_definition(self) -> None:
        """|m - m'|^2 + Tr(S + S' - 2 (S S')^(1/2)) with scipy's matrix root, also where S is singular."""
        from scipy.linalg import sqrtm

        rng = np.random.default_rng(1)
        for n, dims in ((200, 6), (30, 5)):
            ours, theirs = (
                rng.normal(size=(n, dims)) @ rng.normal(size=(dims, dims)) + 0.3,
                rng.normal(size=(n, dims)),
            )
            means, spreads = [x.mean(axis=0) for x in (ours, theirs)], [np.cov(x.T) for x in (ours, theirs)]
            root = np.real(sqrtm(spreads[0] @ spreads[1]))
            gap = means[0] - means[1]
            expected = gap @ gap + np.trace(spreads[0] + spreads[1] - 2 * root)
            found = distance(registry.make("metrics", "frechet"), ours, theirs)
            assert expected == pytest.approx(found, rel=1e-8)

    def test_known_gaussians(self) -> None:
        """Spherical Gaussians with SD 1 and 2, means 3 apart, in four dimensions: 9 + 4."""
        one, other = (np.zeros(4), np.eye(4)), (np.array([3.0, 0, 0, 0]), 4 * np.eye(4))
        assert 13.0 == pytest.approx(spectrum.frechet(one, other))
        flat = (np.zeros(4), np.diag([1.0, 1, 0, 0]))  # no Cholesky factor
        assert 0.0 == pytest.approx(spectrum.frechet(flat, flat), abs=1e-12)

    def test_extrapolation_takes_the_bias_off(self) -> None:
        """Two samples of one source: the plain distance is far above 0 on average, the other is not."""
        plain, straight = (registry.make("metrics", f"frechet:extrapolate={e}") for e in ("false", "true"))
        pairs = [np.random.default_rng(seed) for seed in range(40)]
        rows = [(topics(r, 100), topics(r, 100)) for r in pairs]
        biased = np.mean([distance(plain, *pair) for pair in rows])
        assert biased > 0.02
        assert 0.0 == pytest.approx(np.mean([distance(straight, *pair) for pair in rows]), abs=0.15 * biased)

    @pytest.mark.parametrize("extrapolate", ["false", "true"])
    def test_false_alarms(self, extrapolate: str) -> None:
        """Of 100 pairs of one source at most 10 differ; another mix of topics is found."""
        metric = registry.make("metrics", f"frechet:extrapolate={extrapolate}")
        rng = np.random.default_rng(0)
        assert p_value(metric, topics(rng, 300, skew=2), topics(rng, 300), seed=0) < 0.01
        pairs = [np.random.default_rng(seed) for seed in range(100)]
        assert 10 >= sum(
            p_value(metric, topics(r, 60), topics(r, 60), seed=i) < 0.05 for i, r in enumerate(pairs)
        )

    def test_too_few_records(self) -> None:
        """A side of one record has no covariance, and so no distance."""
        pool = side_by_side(np.eye(3)[:1], np.eye(3), groups=3)
        first = np.arange(6)[None] < 3
        assert np.isnan(registry.make("metrics", "frechet").between(pool, first, ~first)[0])


def test_an_audit_prints_them_all() -> None:
    """Every embedding metric has value, interval, chance, best and the encoder in its signature."""
    found = karat.audit(
        corpus(write(300, seed=1)), corpus(write(700, seed=2)), metrics="embedding", budget="small"
    )
    names = {score.name for score in found.scores}
    assert {
        "vendi",
        "dcscore",
        "frechet",
        "mmd",
        "mauve",
        "precision",
        "recall",
        "density",
        "coverage",
    } <= names
    for score in found.scores:
        assert None not in (score.value, score.interval, score.chance, score.best), score.name
        assert "encoder:lsa-" in score.signature
        assert not score.flagged, score.name
