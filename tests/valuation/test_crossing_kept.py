"""What a second-order test keeps on disk, and what it holds in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from karat import records as karat_records
from karat.auditing import statistics as stats
from karat.records import Records
from karat.training import scores as scoring
from karat.training.base import Predictions
from karat.training.scores import Outcome
from karat.valuation import second_order
from karat.valuation.crossing import cross_train
from karat.valuation.second_order import Plan, Study
from karat.valuation.sides import make_sides


def _texts(n: int, seed: int) -> Records:
    rng = np.random.default_rng(seed)
    words = {"a": ["oak", "fern", "moss"], "b": ["tide", "gull", "salt"]}
    rows = []
    for i in range(n):
        label = "ab"[int(rng.integers(2))]
        said = [*rng.choice(words[label], 2), *(f"w{k}" for k in rng.integers(0, 60, 4))]
        rows.append({"id": f"{seed}-{i}", "text": " ".join(said), "label": label})
    return karat_records.from_rows(rows, datatype="classification")


def test_models_that_are_kept_belong_to_sides_and_groups_as_well_as_to_texts(tmp_path: Path) -> None:
    """The same texts on other sides, under other generators or parents are another study."""
    one, other = _texts(80, 1), _texts(80, 2)
    turned = other.with_lineage(source="synthetic", generator=["x", "y"] * 40)
    again = other.with_lineage(source="synthetic", generator=["y", "x"] * 40)
    given = {"size": 20, "seeds": 1, "budget": "small"}
    cross_train(one, turned, cache=tmp_path, **given)
    kept = cross_train(one, again, cache=tmp_path, **given).to_json()
    assert cross_train(one, again, **given).to_json() == kept

    children = other.with_lineage(source="synthetic", parents=[[name] for name in one.ids])
    plain = other.with_lineage(source="synthetic")
    cross_train(one, plain, cache=tmp_path, **given)
    kept = cross_train(one, children, cache=tmp_path, **given).to_json()
    assert cross_train(one, children, **given).to_json() == kept

    third = _texts(80, 3)
    cross_train(one, plain, third, cache=tmp_path, **given)
    kept = cross_train(one, plain, synthetic_test=third, cache=tmp_path, **given).to_json()
    assert cross_train(one, plain, synthetic_test=third, **given).to_json() == kept


def test_weights_in_parts_are_those_of_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few weights are held at once, draws and sums are those of all Poisson weights together."""
    plan = Plan(make_sides(_texts(60, 1), _texts(60, 2)), 20, 2, 0.3, 4)

    def answers(side: int, k: int) -> Predictions:
        rows = plan.test(side, k)
        chances = np.random.default_rng([side, k]).random((len(rows), 1))
        ids = tuple(plan.sides.pool.take(rows).ids)
        return Predictions(ids, ("a", "b"), np.hstack([chances, 1 - chances]))

    said = {cell: tuple(answers(side, cell.seed) for side in (0, 1)) for cell in plan.cells()}
    study = Study(plan, "labels", "accuracy", said, 50)
    groups = int(plan.sides.group.max()) + 1
    table = stats.poisson_weights(groups, trials=50, seed=4 + 0x2D)
    rows = plan.test(0, 1)
    numbers = np.random.default_rng(0).random((len(rows), 3))
    expected = table[:, plan.sides.group[rows]].astype(np.float64) @ numbers
    monkeypatch.setattr(second_order, "_BLOCK", 7 * len(rows))
    assert 8 == len(list(study.weights(rows)))
    assert study.sums(rows, numbers) == pytest.approx(expected)


def test_the_weight_of_each_class_is_that_of_a_product_with_one_hot_rows() -> None:
    """Also of classes that nobody has."""
    rng = np.random.default_rng(0)
    rows, places = rng.random((4, 30)).astype(np.float32), rng.integers(0, 5, 30)
    expected = rows @ np.eye(7)[places]
    assert scoring.class_sums(rows, places, 7) == pytest.approx(expected, rel=1e-5)


def test_f1_of_all_labels_at_once_is_that_of_each() -> None:
    """A figure with several values a draw keeps them last."""
    rng = np.random.default_rng(1)
    found = Outcome(("a", "b", "c"), rng.integers(0, 3, 40), rng.integers(0, 3, 40))
    weights = rng.poisson(1.0, (6, 40)).astype(np.float32)
    f1 = scoring.f1_by_label(found, weights)[0]
    assert (6, 3) == f1.shape
    for at in range(3):
        hits = weights @ ((found.gold == at) & (found.predicted == at))
        both = weights @ (found.gold == at) + weights @ (found.predicted == at)
        assert f1[:, at] == pytest.approx(2 * hits / both, rel=1e-5)


def test_the_interval_of_a_gap_is_that_of_the_difference() -> None:
    """Two models that say the same of each test record have no gap in any draw, though both scores vary."""
    plan = Plan(make_sides(_texts(60, 1), _texts(60, 2)), 20, 1, 0.3, 4)

    def answers(side: int) -> Predictions:
        rows = plan.test(side, 0)
        chances = np.random.default_rng(side).random((len(rows), 1))
        ids = tuple(plan.sides.pool.take(rows).ids)
        return Predictions(ids, ("a", "b"), np.hstack([chances, 1 - chances]))

    said = {cell: (answers(0), answers(1)) for cell in plan.cells()}
    study = Study(plan, "labels", "accuracy", said, 200)
    low, high = study.cell(0, 0).interval
    assert high - low > 0.1
    (gap,) = study.gaps()
    assert (0.0, (0.0, 0.0), 1.0) == (gap.value, gap.interval, gap.p)
