"""How good a cheap model gets on the rows of each arm, with every source of chance. Knows no provider.

Two things are drawn at random: the rows that an arm happened to write, and the test records. Both are
resampled: `refits` trains again on rows drawn with replacement, and each model is scored on the same draws of
test records. A plan gives each label its quota, so rows are drawn within labels: another plan would not have
other label shares. The variances add as in a crossed design (Owen 2007, The pigeonhole bootstrap): what both
share stands in each of them and is taken off once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.statistics import Estimate
from karat.records import Records, from_table
from karat.training import scores as scoring
from karat.training.base import Indices, Prepared, gold_labels, prepared
from karat.training.scores import Outcome

Floats = NDArray[np.float64]
TESTS = 200
"""draws of the test records"""
POINTS = 100.0
"""a score of 1 in points"""


@dataclass(frozen=True, eq=False)
class Draws:
    """Scores of one training set in points: `value` as it is, refits [B] on all test records, tests [T].

    tests: of the model as it is, on each draw of test records. grid [B, T]: of each refit on each draw.
    """

    value: float
    refits: Floats
    tests: Floats
    grid: Floats

    def minus(self, other: Draws) -> Draws:
        """The difference of two sets on the same test records; their rows are drawn independently."""
        return Draws(
            self.value - other.value,
            self.refits - other.refits,
            self.tests - other.tests,
            self.grid - other.grid,
        )

    @property
    def parts(self) -> tuple[float, float, float]:
        """Variances: of another draw of rows, of another test sample, and what stands in both."""
        rows, test = float(self.refits.var(ddof=1)), float(self.tests.var(ddof=1))
        grid = self.grid
        left = grid - grid.mean(axis=0) - grid.mean(axis=1, keepdims=True) + grid.mean()
        both = float((left**2).sum() / ((grid.shape[0] - 1) * (grid.shape[1] - 1)))
        return rows, test, min(both, rows, test)

    @property
    def estimate(self) -> Estimate:
        """The value with its error for as many other rows and as many other test records.

        Degrees of freedom by Satterthwaite, of the variance that comes from B refits.
        """
        rows, test, both = self.parts
        total = rows + test - both
        df = (len(self.refits) - 1) * (total / rows) ** 2 if rows > 0 else 1e6
        return Estimate(self.value, float(np.sqrt(total)), min(df, 1e6))


@dataclass(frozen=True)
class TrainingSet:
    """Records to train on, and the call that each came from; by_label: their label shares were planned."""

    records: Records
    calls: Sequence[str]
    by_label: bool = True


@dataclass(frozen=True)
class Pupil:
    """The rows of one training set: `rows` [n] in the pool, and the call that each came from.

    Rows of one call are resampled together: they were written in one breath. strata [n]: calls are drawn
    within each of them.
    """

    name: str
    rows: Indices
    calls: Indices
    strata: Indices

    def draw(self, rng: np.random.Generator) -> Indices:
        """As many calls as there are, drawn with replacement within each stratum: their rows."""
        order = np.argsort(self.calls, kind="stable")
        cuts = np.flatnonzero(np.diff(self.calls[order])) + 1
        bundles, of = np.split(self.rows[order], cuts), self.strata[order][np.r_[0, cuts]]
        chosen = [rng.choice(np.flatnonzero(of == one), int((of == one).sum())) for one in np.unique(of)]
        return np.sort(np.concatenate([bundles[i] for i in np.concatenate(chosen)]))


def score(
    sets: dict[str, TrainingSet],
    test: Records,
    *,
    trainer: Any,
    refits: int,
    seed: int,
    executor: Any = None,
    progress: Any = None,
) -> dict[str, Draws]:
    """Train on each set and score on the test records: macro-F1 in points."""
    pool = _pool([*(one.records for one in sets.values()), test])
    classes = tuple(sorted({str(label) for label in pool.labels() or ()}))
    pupils, start = [], 0
    for name, one in sets.items():
        rows = np.arange(start, start + len(one.records))
        labels = gold_labels(one.records) if one.by_label else [""] * len(rows)
        pupils.append(Pupil(name, rows, _numbers(one.calls), _numbers(labels)))
        start += len(rows)
    work = partial(
        _learn,
        prepared(trainer, pool),
        np.arange(start, len(pool)),
        tuple(gold_labels(test, "test")),
        classes,
        refits,
        seed,
    )
    texts = test.texts()
    found: dict[str, Draws] = {}
    results = executor.map(work, pupils) if executor is not None else map(work, pupils)
    for pupil, outcomes in zip(pupils, results):
        found[pupil.name] = _draws(outcomes, texts, seed)
        if progress:
            progress("students", len(found), len(pupils))
    return found


def _learn(
    reader: Prepared,
    test: Indices,
    gold: tuple[str, ...],
    classes: tuple[str, ...],
    refits: int,
    seed: int,
    pupil: Pupil,
) -> list[Outcome]:
    """What models say that are trained on the rows as they are, and on each resample; runs in a worker."""
    # By the name of the set: the rows of two sets are drawn independently of each other.
    rng = np.random.default_rng([seed, 0x9110, *pupil.name.encode("utf-8", "replace")])
    found = []
    for number in range(refits + 1):
        rows = pupil.draw(rng) if number else pupil.rows
        said = reader.fit_predict(rows, test, seed=seed + number)
        found.append(scoring.labelled(said, gold, classes))
    return found


def _numbers(names: Sequence[str]) -> Indices:
    return np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)


def _draws(outcomes: Sequence[Outcome], texts: Sequence[str], seed: int) -> Draws:
    def measure(weights: scoring.Weights) -> Floats:
        return np.stack([scoring.measure("macro_f1", one, weights) for one in outcomes], axis=1)

    whole = POINTS * np.array([scoring.measure("macro_f1", one)[0] for one in outcomes])
    drawn = POINTS * scoring.resampled(measure, texts, TESTS, seed=seed)
    return Draws(float(whole[0]), whole[1:], drawn[:, 0], drawn[:, 1:].T)


def _pool(sides: Sequence[Records]) -> Records:
    """All records as one, without columns that trainers do not read and that may not fit together."""
    parts = []
    for side in sides:
        names = dict.fromkeys(["id", "text", side.kind.label or ""])
        kept = [name for name in names if name and side.has(name)]
        table = side.table.select([*kept, "lineage"])
        parts.append(from_table(table, "classification", side.path))
    return parts[0].concat(*parts[1:])
