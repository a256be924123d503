"""Which sets are trained on, in what sizes, and how they score: human, synthetic, both. Knows no worth.

For each seed the records of a side are shuffled once, and a smaller set is the beginning of a larger one.
The shuffle is plain, not stratified by label: a small human set may lack a rare label, as in real life.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from karat.records import Records
from karat.training import scores as scoring
from karat.training.base import Indices, Predictions, Prepared, Progress, prepared
from karat.training.scores import Outcome

Floats = NDArray[np.float64]
Arm = Literal["human", "synthetic", "mixed"]

_STEPS = {"small": (1, 3), "medium": (1, 2, 3, 5), "large": (1, 1.5, 2, 3, 5, 7)}
SMALLEST = 10
ADDED_TO = {
    "small": (0, 100, 1000),
    "medium": (0, 100, 300, 1000, 3000, 10_000, 30_000),
    "large": (0, 30, 100, 300, 1000, 2000, 3000, 5000, 10_000, 30_000, 100_000),
}
"""numbers of human records that all synthetic ones are added to, by budget; the whole human set always too"""


@dataclass(frozen=True)
class Fit:
    """One model to train: `human` and `synthetic` records, drawn by one seed."""

    arm: Arm
    human: int
    synthetic: int
    seed: int


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What every model said of the test records."""

    classes: tuple[str, ...]
    gold: Indices
    seeds: int
    said: dict[Fit, Outcome] = field(repr=False)

    def of(self, arm: Arm, human: int, synthetic: int) -> list[Outcome]:
        """Return the outcomes of one size, a seed each."""
        return [self.said[Fit(arm, human, synthetic, seed)] for seed in range(self.seeds)]


def grid(total: int, budget: str, *, steps: str = "") -> tuple[int, ...]:
    """Return the sizes of a learning curve up to `total`: 10, 20, 30, 50, 100 ..., its half and itself."""
    found = {total, max(1, total // 2)}
    scale = SMALLEST
    while scale < total:
        found.update(int(step * scale) for step in _STEPS[steps or budget] if step * scale <= 0.85 * total)
        scale *= 10
    return tuple(sorted(found))


def plan(
    human: int,
    synthetic: int,
    *,
    seeds: int,
    sizes: Sequence[int],
    parts: Sequence[int],
    added_to: Sequence[int],
) -> tuple[Fit, ...]:
    """Return all models to train: `sizes` of human, `parts` of synthetic, all synthetic `added_to` human."""
    found: dict[Fit, None] = {}
    for seed in range(seeds):
        for size in sorted({*sizes, *(n for n in added_to if n)}):
            found[Fit("human", size, 0, seed)] = None
        for part in parts:
            found[Fit("synthetic", 0, part, seed)] = None
        for size in added_to:
            if size:
                found[Fit("mixed", size, synthetic, seed)] = None
    assert all(fit.human <= human and fit.synthetic <= synthetic for fit in found)
    return tuple(found)


def run(
    fits: Sequence[Fit],
    human: Records,
    synthetic: Records,
    test: Records,
    *,
    trainer: Any,
    seeds: int,
    seed: int,
    executor: Any = None,
    progress: Progress | None = None,
) -> Outcomes:
    """Train every model and return what it says of the test records."""
    pool = _pool(human, synthetic, test)
    gold = [str(label) for label in test.labels() or ()]
    classes = tuple(sorted({str(label) for label in pool.labels() or ()}))
    test_rows = np.arange(len(human) + len(synthetic), len(pool))
    reader = prepared(trainer, pool)
    once = bool(getattr(trainer, "deterministic", False))
    # Where seed and order do not matter, the whole of a side is one set, whatever the seed.
    twins = {fit: _first_twin(fit, len(human), len(synthetic)) if once else fit for fit in fits}
    todo = sorted(set(twins.values()), key=lambda fit: -(fit.human + fit.synthetic))
    shuffles = Shuffles(len(human), len(synthetic), seeds, seed)
    work = partial(_train_some, reader, test_rows, shuffles, tuple(gold), classes)
    chunks = _chunks(todo, getattr(executor, "workers", 1) if executor else 1)
    results = executor.map(work, chunks) if executor else map(work, chunks)
    said: dict[Fit, Outcome] = {}
    for chunk, outcomes in zip(chunks, results):
        said.update(zip(chunk, outcomes))
        if progress:
            progress("value", len(said), len(todo))
    truth = next(iter(said.values())).gold
    return Outcomes(classes, truth, seeds, {fit: said[twin] for fit, twin in twins.items()})


@dataclass(frozen=True)
class Shuffles:
    """The order of both sides for each seed."""

    human: int
    synthetic: int
    seeds: int
    seed: int

    def rows(self, fit: Fit) -> Indices:
        """Return the positions in the pool on which a model is trained, the human ones first."""
        parts = []
        for side, (taken, total, start) in enumerate(
            ((fit.human, self.human, 0), (fit.synthetic, self.synthetic, self.human))
        ):
            if taken == total:
                parts.append(np.arange(total) + start)
            elif taken:
                order = np.random.default_rng([self.seed, fit.seed, side]).permutation(total)
                parts.append(np.sort(order[:taken]) + start)
        return np.concatenate(parts).astype(np.int64)


def _pool(human: Records, synthetic: Records, test: Records) -> Records:
    """Return the three as one, without columns that trainers do not read and that may not fit together."""
    from karat.records import from_table

    sides = []
    for side in (human, synthetic, test):
        names = [name for name in ("id", "text", side.kind.label) if name and side.has(name)]
        fields = {field for form in side.kind.forms for field in form}
        names += [name for name in side.table.column_names if name in fields and name not in names]
        sides.append(from_table(side.table.select([*names, "lineage"]), side.datatype, side.path))
    return sides[0].concat(*sides[1:])


def _first_twin(fit: Fit, human: int, synthetic: int) -> Fit:
    whole = fit.human in (0, human) and fit.synthetic in (0, synthetic)
    return Fit(fit.arm, fit.human, fit.synthetic, 0) if whole else fit


def _chunks(todo: Sequence[Fit], workers: int) -> list[list[Fit]]:
    """Return the models in chunks of about equal work; one each where all run in this process."""
    if workers == 1:
        return [[fit] for fit in todo]
    import os

    count = min(len(todo), 4 * (workers or os.cpu_count() or 1))
    chunks: list[list[Fit]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for fit in todo:  # the largest come first
        at = loads.index(min(loads))
        chunks[at].append(fit)
        loads[at] += 200 + fit.human + fit.synthetic
    return chunks


def _train_some(
    reader: Prepared,
    test_rows: Indices,
    shuffles: Shuffles,
    gold: tuple[str, ...],
    classes: tuple[str, ...],
    fits: list[Fit],
) -> list[Outcome]:
    """Train some models; runs in a worker."""
    found = []
    for fit in fits:
        said: Predictions = reader.fit_predict(shuffles.rows(fit), test_rows, seed=shuffles.seed + fit.seed)
        found.append(scoring.outcome(said, gold, classes))
    return found


def scored(metric: str, found: Sequence[Outcome], weights: scoring.Weights | None = None) -> Floats:
    """Return scores [trials, models] so that more is better (log loss with its sign turned)."""
    sign = 1.0 if scoring.METRICS[metric] else -1.0
    return np.stack([sign * scoring.measure(metric, each, weights) for each in found], axis=1)
