"""The student: its errors are those of other rows and other test records, copies and bundles counted once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from karat import registry
from karat.piloting import student

sys.path.insert(0, str(Path(__file__).parent))
import pilot_worlds as worlds

LINEAR = registry.make("trainers", "linear:characters=0")


@pytest.fixture(scope="module")
def pilots() -> list[dict[str, student.Draws]]:
    """40 pilots of two arms from one source, each with rows and test records of its own."""
    found = []
    for seed in range(40):
        test = worlds.corpus(120, 1000 + seed, tag="t")
        sets = {name: worlds.corpus(45, 2 * seed + i, tag=name) for i, name in enumerate("ab")}
        drawn = {name: student.TrainingSet(rows, rows.ids) for name, rows in sets.items()}
        found.append(student.score(drawn, test, trainer=LINEAR, refits=25, seed=seed))
    return found


def test_errors_are_those_of_another_pilot(pilots: list[dict[str, student.Draws]]) -> None:
    """The estimated error of a score and of a difference is its true spread over pilots, within a third."""
    scores = np.array([one["a"].value for one in pilots])
    errors = np.array([one["a"].estimate.error for one in pilots])
    assert scores.std(ddof=1) == pytest.approx(np.sqrt((errors**2).mean()), rel=0.33)
    gaps = [one["a"].minus(one["b"]).estimate for one in pilots]
    true = np.array([gap.value for gap in gaps]).std(ddof=1)
    assert true == pytest.approx(np.sqrt(np.mean([gap.error**2 for gap in gaps])), rel=0.33)


def test_intervals_cover(pilots: list[dict[str, student.Draws]]) -> None:
    """95 % intervals of differences between equal arms hold 0, those of scores the mean, in 90 % or more."""
    gaps = [one["a"].minus(one["b"]).estimate.interval() for one in pilots]
    assert sum(low <= 0 <= high for low, high in filter(None, gaps)) >= 36
    mean = np.mean([one[name].value for one in pilots for name in "ab"])
    ends = [one[name].estimate.interval() for one in pilots for name in "ab"]
    assert sum(low <= mean <= high for low, high in filter(None, ends)) >= 72


def test_the_score_is_that_of_the_trainer_on_the_rows() -> None:
    """The value is the macro-F1 of scikit-learn on the predictions of a model of the same rows, in points."""
    from sklearn.metrics import f1_score

    rows, test = worlds.corpus(60, 1, tag="a"), worlds.corpus(90, 2, tag="t")
    found = student.score(
        {"a": student.TrainingSet(rows, rows.ids)}, test, trainer=LINEAR, refits=10, seed=0
    )["a"]
    said = LINEAR.fit(rows).predict(test).labels
    assert found.value == pytest.approx(100 * f1_score(test.labels(), said, average="macro"))


def test_rows_of_one_call_are_drawn_together() -> None:
    """Five copies of each row in one bundle tell no more than one: the error of the rows does not shrink."""
    rows, test = worlds.corpus(30, 3, tag="a"), worlds.corpus(300, 4, tag="t")
    five = rows.take(np.repeat(np.arange(30), 5))
    bundled = [identity for identity in rows.ids for _ in range(5)]
    loose = [str(i) for i in range(150)]
    sets = {"bundled": student.TrainingSet(five, bundled), "loose": student.TrainingSet(five, loose)}
    found = student.score(sets, test, trainer=LINEAR, refits=60, seed=0)
    assert found["bundled"].value == found["loose"].value
    assert found["bundled"].parts[0] > 2 * found["loose"].parts[0]


def test_workers_give_the_same() -> None:
    """Two processes give the numbers of one, to the last digit."""
    sets = {name: worlds.corpus(30, i, tag=name) for i, name in enumerate("ab")}
    drawn = {name: student.TrainingSet(rows, rows.ids) for name, rows in sets.items()}
    test = worlds.corpus(60, 9, tag="t")
    here = student.score(drawn, test, trainer=LINEAR, refits=10, seed=1)
    workers = registry.make("executors", "local:workers=2")
    there = student.score(drawn, test, trainer=LINEAR, refits=10, seed=1, executor=workers)
    for name in drawn:
        assert np.array_equal(here[name].grid, there[name].grid)
