"""MAUVE: its area is the integral, its ends are right, its clusters k-means; silent on one source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embedding_corpora import distance, p_value, side_by_side, topics

import karat
from karat import records, registry
from karat.auditing import quantised
from karat.errors import BadSetting

QUICK = "mauve:seeds=2,clusters=12"


def by_integration(p: np.ndarray, q: np.ndarray, c: float) -> float:
    """The area under the divergence curve, by adaptive quadrature of y dx over the weight of the mixture."""
    from scipy.integrate import quad

    def kl(a: np.ndarray, r: np.ndarray) -> float:
        return float((a[a > 0] * np.log(a[a > 0] / r[a > 0])).sum())

    def y_dx(w: float) -> float:
        r = w * p + (1 - w) * q
        inside = q > 0
        slope = float((q[inside] * (p - q)[inside] / r[inside]).sum())  # -d KL(q|r) / dw
        return float(np.exp(-c * kl(p, r)) * np.exp(-c * kl(q, r)) * c * slope)

    return -quad(y_dx, 0, 1, limit=500)[0]


class TestFrontier:
    @pytest.mark.parametrize("c", [1.0, 5.0])
    def test_equals_the_integral(self, c: float) -> None:
        """The trapezoids agree with quadrature of the curve to 1e-3, also for partly disjoint histograms."""
        rng = np.random.default_rng(1)
        for sparse in (False, True):
            p, q = rng.dirichlet(np.ones(20)), rng.dirichlet(np.ones(20))
            if sparse:
                p[:5] = q[-5:] = 0
                p, q = p / p.sum(), q / q.sum()
            # what the curve leaves beside its ends: a step from (0, .) at w = 1 and to (., 0) at w = 0
            found = quantised.frontier_areas(p[None], q[None], scaling=c)[0]
            ends = float(np.exp(-c * (q[q > 0] * np.log(q[q > 0] / np.maximum(p[q > 0], 1e-300))).sum()))
            assert by_integration(p, q, c) + ends == pytest.approx(found, abs=1e-3)

    def test_ends(self) -> None:
        """Equal histograms have area 1; disjoint ones c B(c, c + 1), which is 1/252 for c = 5."""
        p, q = np.array([[0.5, 0.5, 0, 0]]), np.array([[0, 0, 0.3, 0.7]])
        assert 1.0 == pytest.approx(quantised.frontier_areas(p, p)[0])
        assert 1 / 252 == pytest.approx(quantised.frontier_areas(p, q)[0], abs=2e-5)

    def test_sides_may_change(self) -> None:
        """The curve is mirrored where the sides change, its area is the same; counts need not be shares."""
        rng = np.random.default_rng(2)
        p, q = rng.integers(0, 9, (2, 1, 30)).astype(float)
        there = quantised.frontier_areas(p, q)[0]
        assert there == pytest.approx(quantised.frontier_areas(q, 3 * p)[0])

    def test_nothing_has_no_area(self) -> None:
        """A side without records gives nan and no error."""
        assert np.isnan(quantised.frontier_areas(np.zeros((1, 3)), np.ones((1, 3)))[0])


class TestClusters:
    def test_finds_what_is_there(self) -> None:
        """Four clouds far apart are four clusters, from any seed."""
        truth = np.repeat(np.arange(4), 25)
        points = (10 * np.eye(4)[truth] + np.random.default_rng(1).normal(0, 0.1, (100, 4))).astype(
            np.float32
        )
        for seed in range(5):
            code = quantised.clusters(points, 4, seed)
            assert 4 == len({(a, b) for a, b in zip(truth.tolist(), code.tolist(), strict=True)})

    def test_no_worse_than_the_library(self) -> None:
        """The mean squared distance to the centres is within 3% of scikit-learn's k-means."""
        from sklearn.cluster import KMeans

        points = topics(np.random.default_rng(3), 400).astype(np.float32)
        known = KMeans(20, n_init=3, random_state=0).fit(points).inertia_
        code = quantised.clusters(points, 20, 0)
        mine = sum(((points[code == c] - points[code == c].mean(axis=0)) ** 2).sum() for c in np.unique(code))
        assert mine < 1.03 * known

    def test_few_different_points(self) -> None:
        """More clusters than different points: as many as there are points, no endless loop."""
        points = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
        assert 3 == len(np.unique(quantised.clusters(points, 8, 0)))
        assert [0] * 4 == quantised.clusters(np.zeros((4, 2), np.float32), 3, 0).tolist()
        assert 0 == len(quantised.clusters(np.zeros((0, 2), np.float32), 3, 0))

    def test_principal_axes_hold_the_share(self) -> None:
        """Three strong directions of ten hold nine tenths of the variance: three coordinates are kept."""
        rows = np.random.default_rng(4).normal(size=(500, 10)) * np.r_[[5.0] * 3, [0.5] * 7]
        kept = quantised.principal(rows)
        assert 3 == kept.shape[1]
        assert kept.var(axis=0).sum() >= 0.9 * rows.var(axis=0).sum()


class TestMetric:
    def test_ends(self) -> None:
        """A corpus and its copy have 1; corpora on disjoint axes the least there is."""
        rows = topics(np.random.default_rng(1), 200)
        metric = registry.make("metrics", QUICK)
        assert 1.0 == pytest.approx(distance(metric, rows, rows))
        apart = distance(metric, np.pad(rows, ((0, 0), (0, 8))), np.pad(rows, ((0, 0), (8, 0))))
        assert 1 / 252 == pytest.approx(apart, abs=1e-3)

    def test_says_how_it_was_made(self) -> None:
        """k, seeds and their spread stand beside the value; k is a tenth of a side, at most 500."""
        metric = registry.make("metrics", "mauve:seeds=3")
        rng = np.random.default_rng(2)
        pool = side_by_side(topics(rng, 100), topics(rng, 100))
        assert metric.details(pool)["seed_sd"] >= 0
        assert metric.note(pool).startswith("mean of 3 clusterings, whose SD is 0.")
        assert {20} == {metric.extra(pool)["k"]}
        assert (2, 10, 500) == (metric._k(5), metric._k(100), metric._k(90_000))

    def test_false_alarms(self) -> None:
        """Of 100 pairs of one source at most 10 differ; another mix of topics is found."""
        metric = registry.make("metrics", QUICK)
        rng = np.random.default_rng(0)
        assert p_value(metric, topics(rng, 300, skew=2), topics(rng, 300), seed=0) < 0.01
        pairs = [np.random.default_rng(seed) for seed in range(100)]
        alarms = sum(
            p_value(metric, topics(r, 60), topics(r, 60), seed=i) < 0.05 for i, r in enumerate(pairs)
        )
        assert alarms <= 10

    def test_settings_are_checked(self) -> None:
        """Impossible settings are refused by name."""
        for spec in ("mauve:seeds=0", "mauve:limit=1", "mauve:scaling=0", "mauve:clusters=-1"):
            with pytest.raises(BadSetting, match=r"but must be"):
                registry.make("metrics", spec)


def test_llm_sentences_are_further_than_human_ones(data_dir: Path) -> None:
    """GPT-4's sentences of wvg_tendim are far below what two human samples get."""
    file = data_dir / "wvg_tendim" / "wvg_tendim.jsonl.gz"
    human = records.read(file, where=["origin=human"]).take(range(0, 6000, 4))
    model = records.read(file, where=["generator=gpt-4"]).take(range(500))
    found = karat.audit(model, human, metrics="mauve", budget="small").scores[0]
    assert found.value is not None and found.chance is not None
    assert found.value < found.chance - 0.1
    assert found.flagged
