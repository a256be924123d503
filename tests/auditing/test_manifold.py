"""MMD, precision, recall, density, coverage: equal to loops over all pairs, and silent on one source."""

from __future__ import annotations

import numpy as np
import pytest
from embedding_corpora import GROUPS, distance, p_value, side_by_side, topics
from numpy.typing import NDArray

from karat import registry
from karat.auditing import kernels, neighbourhoods
from karat.errors import BadSetting

NEAR = ("precision", "recall", "density", "coverage")


def discrepancy(ours: NDArray[np.float64], theirs: NDArray[np.float64], kernel: str) -> float:
    """The unbiased squared discrepancy by the definition, all pairs one after the other."""
    pool = np.concatenate([ours, theirs])
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(pool) for b in pool[:i]]

    def value(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        if kernel == "linear":
            return float(a @ b)
        if kernel == "polynomial":
            return float((a @ b / len(a) + 1) ** 3)
        return float(np.exp(-((a - b) ** 2).sum() / (2 * np.median(gaps) ** 2)))

    def within(rows: NDArray[np.float64]) -> float:
        return float(np.mean([value(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]))

    return within(ours) + within(theirs) - 2 * float(np.mean([value(a, b) for a in ours for b in theirs]))


def neighbourly(ours: NDArray[np.float64], theirs: NDArray[np.float64], name: str, k: int) -> float:
    """Precision, recall, density or coverage by the definition, one ball after the other."""
    if name == "recall":
        return neighbourly(theirs, ours, "precision", k)
    radius = [sorted(np.linalg.norm(theirs - a, axis=1))[k] for a in theirs]
    held = [[np.linalg.norm(a - b) <= r for b in ours] for a, r in zip(theirs, radius, strict=True)]
    table = np.array(held)  # [theirs, ours]
    if name == "density":
        return float(table.sum() / (k * len(ours)))
    return float(table.any(axis=0 if name == "precision" else 1).mean())


class TestMmd:
    @pytest.mark.parametrize("kernel", ["rbf", "linear", "polynomial"])
    def test_equals_all_pairs(self, kernel: str) -> None:
        """Block sums by group give the definition, to 1e-9, for sides of different size."""
        rng = np.random.default_rng(1)
        ours, theirs = topics(rng, 40, skew=1), topics(rng, 30)
        found = distance(registry.make("metrics", f"mmd:kernel={kernel}"), ours, theirs)
        assert discrepancy(ours, theirs, kernel) == pytest.approx(found, abs=1e-9)

    def test_masks_are_corpora(self) -> None:
        """A split of the groups gives what the corpora of these groups give (one bandwidth for all)."""
        rng = np.random.default_rng(2)
        pool = side_by_side(topics(rng, 60), topics(rng, 60))
        ours = rng.random(2 * GROUPS) < 0.5
        found = registry.make("metrics", "mmd:kernel=linear").between(pool, ours[None], ~ours[None])[0]
        inside = ours[pool.vectors.groups]
        rows = pool.vectors.rows
        assert discrepancy(rows[inside], rows[~inside], "linear") == pytest.approx(found, abs=1e-9)

    def test_copies_do_not_break_the_bandwidth(self) -> None:
        """Where most rows are copies the median distance is 0, and 1 stands in for it."""
        assert 1.0 == kernels.median_distance(np.ones((10, 3)))
        assert 1.0 == kernels.median_distance(np.ones((1, 3)))

    @pytest.mark.parametrize("kernel", ["rbf", "linear", "polynomial"])
    def test_false_alarms(self, kernel: str) -> None:
        """Of 100 pairs of one source at most 10 differ, and their mean is 0; another mix is found."""
        metric = registry.make("metrics", f"mmd:kernel={kernel}")
        rng = np.random.default_rng(0)
        assert p_value(metric, topics(rng, 300, skew=2), topics(rng, 300), seed=0) < 0.01
        pairs = [np.random.default_rng(seed) for seed in range(100)]
        rows = [(topics(r, 60), topics(r, 60)) for r in pairs]
        assert sum(p_value(metric, *pair, seed=i) < 0.05 for i, pair in enumerate(rows)) <= 10
        values = [distance(metric, *pair) for pair in rows]
        assert abs(np.mean(values)) < 3 * np.std(values) / 10

    def test_names_the_records_that_stand_alone(self) -> None:
        """Candidate records of a topic that the reference lacks come first."""
        rng = np.random.default_rng(3)
        far = np.tile(np.eye(8)[7] * -1.0, (10, 1))
        ours = np.concatenate([topics(rng, 50), far])
        metric = registry.make("metrics", "mmd")
        told = metric.telling(side_by_side(ours, topics(rng, 60)), 10)
        assert set(range(50, 60)) == {one.key for one in told}


class TestNeighbourhoods:
    @pytest.mark.parametrize("name", NEAR)
    @pytest.mark.parametrize("k", [1, 3, 5])
    def test_equals_all_pairs(self, name: str, k: int) -> None:
        """One ball after the other gives the same, exactly."""
        rng = np.random.default_rng(1)
        ours, theirs = topics(rng, 60, skew=2), topics(rng, 50)
        found = distance(registry.make("metrics", f"{name}:k={k}"), ours, theirs)
        assert neighbourly(ours, theirs, name, k) == pytest.approx(found, abs=1e-12)

    def test_masks_are_corpora(self) -> None:
        """A split of the groups gives what the corpora of these groups give, beyond the nearest 128 too."""
        rng = np.random.default_rng(2)
        # one side is so far from the other that all its nearest 128 are its own
        pool = side_by_side(topics(rng, 200), topics(rng, 200) + 100)
        member, rows = pool.vectors.groups, pool.vectors.rows
        masks = np.zeros((2, 2 * GROUPS), np.bool_)
        masks[0, [0, 1, 12]] = masks[1, [3, 13, 14]] = True
        found = neighbourhoods.precisions(neighbourhoods.near(rows, member), masks[:1], masks[1:], 3)[0]
        inside = [np.isin(member, np.flatnonzero(mask)) for mask in masks]
        assert neighbourly(rows[inside[0]], rows[inside[1]], "precision", 3) == pytest.approx(found)

    def test_ends(self) -> None:
        """A corpus and its copy have precision, recall and coverage 1; corpora far apart have 0 of each."""
        rows = topics(np.random.default_rng(3), 100)
        for name in NEAR:
            metric = registry.make("metrics", name)
            assert 0.0 == distance(metric, rows, rows + 50)
            same = distance(metric, rows, rows.copy())
            assert 1.0 == same or (name == "density" and same > 1)

    def test_coverage_of_one_source(self) -> None:
        """Sides of n records cover 1 - prod (n - i) / (2n - i), i = 1..k, on average (Naeem et al. 2020)."""
        n, k = 60, 3
        expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
        metric = registry.make("metrics", f"coverage:k={k}")
        pairs = [np.random.default_rng(seed) for seed in range(60)]
        found = np.mean([distance(metric, topics(r, n), topics(r, n)) for r in pairs])
        assert expected == pytest.approx(found, abs=0.015)

    def test_what_is_lost_tells_which_is_low(self) -> None:
        """One topic only: precise, but little recall and coverage; noise: the reverse."""
        rng = np.random.default_rng(4)
        human = topics(rng, 300)
        narrow, noise = topics(rng, 300, skew=30.0), rng.normal(size=(300, 8))
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        value = {name: registry.make("metrics", name) for name in NEAR}
        assert distance(value["precision"], narrow, human) > 0.8
        assert distance(value["coverage"], narrow, human) < 0.75
        assert distance(value["recall"], narrow, human) < distance(value["recall"], noise, human)
        assert distance(value["density"], noise, human) < 0.6

    @pytest.mark.parametrize("name", NEAR)
    def test_false_alarms(self, name: str) -> None:
        """Of 100 pairs of one source at most 10 differ."""
        metric = registry.make("metrics", name)
        pairs = [np.random.default_rng(seed) for seed in range(100)]
        alarms = sum(
            p_value(metric, topics(r, 60), topics(r, 60), seed=i) < 0.05 for i, r in enumerate(pairs)
        )
        assert alarms <= 10

    def test_names_the_records_that_stand_alone(self) -> None:
        """Candidate records in no human ball come first, the furthest ones before others."""
        rng = np.random.default_rng(5)
        ours = np.concatenate([topics(rng, 50), [[9.0] * 8, [30.0] * 8]])
        told = registry.make("metrics", "precision").telling(side_by_side(ours, topics(rng, 60)), 2)
        assert [51, 50] == [one.key for one in told]

    def test_settings_are_checked(self) -> None:
        """A k or limit below 1 is refused by name."""
        for name in NEAR:
            with pytest.raises(BadSetting, match=r"k is 0, but must be 1 or more"):
                registry.make("metrics", f"{name}:k=0")
