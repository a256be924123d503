"""How good a cheap model gets on the rows of each arm, with every source of chance. Knows no provider.

Two things are drawn at random: the rows that an arm happened to write, and the test records. Both are
resampled: `refits` trains again on rows drawn with replacement, and each model is scored on the same draws of
test records. The variances add as in a crossed design (Owen 2007, The pigeonhole bootstrap): what both
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
class Pupil:
    """The rows of one training set: `rows` [n] in the pool, and the call that each came from.

    Rows of one call are resampled together: they were written in one breath.
    """

    name: str
    rows: Indices
    calls: Indices


def score(
    sets: dict[str, tuple[Records, Sequence[str]]],
    test: Records,
    *,
    trainer: Any,
    refits: int,
    seed: int,
    executor: Any = None,
    progress: Any = None,
) -> dict[str, Draws]:
    """Train on each set (records, and the call of each record) and score on the test records: macro-F1."""
    pool = _pool([*(records for records, _ in sets.values()), test])
    classes = tuple(sorted({str(label) for label in pool.labels() or ()}))
    pupils, start = [], 0
    for name, (records, calls) in sets.items():
        _, numbers = np.unique(np.array(calls, dtype=object).astype(str), return_inverse=True)
        pupils.append(Pupil(name, np.arange(start, start + len(records)), numbers))
        start += len(records)
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
    count = int(pupil.calls.max()) + 1
    order = np.argsort(pupil.calls, kind="stable")
    bundles = np.split(pupil.rows[order], np.flatnonzero(np.diff(pupil.calls[order])) + 1)
    # By the name of the set: the rows of two sets are drawn independently of each other.
    rng = np.random.default_rng([seed, 0x9110, *pupil.name.encode("utf-8", "replace")])
    found = []
    for number in range(refits + 1):
        rows = pupil.rows
        if number:
            rows = np.sort(np.concatenate([bundles[i] for i in rng.integers(0, count, count)]))
        said = reader.fit_predict(rows, test, seed=seed + number)
        found.append(scoring.outcome(said, gold, classes))
    return found


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
