"""Trains the models of the arms and keeps what each says of the test records. Knows no arm by name.

A cell is one model or, where training goes on from step to step, all the models of one run. Its result does
not depend on where or when it is run: finished cells are kept, and cells that two arms share are run once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.records import Records
from karat.training import grid
from karat.training import scores as scoring
from karat.training.base import Indices, Predictions, Prepared, Progress, gold_labels, kind_of, prepared
from karat.training.scores import Outcome, Scored
from karat.training.tallies import Tally

_TOGETHER = ("bleu", "chrf")


@dataclass(frozen=True, eq=False)
class Cell:
    """Positions to train on in order, and after how many of them the model is tested."""

    rows: Indices
    cuts: tuple[int, ...]
    seed: int
    key: str


@dataclass(frozen=True, eq=False)
class Bench:
    """What all cells share: the trainer, the pool as it reads it, and the test records."""

    trainer: Any
    pool: Records
    test: Indices
    metric: str
    gold: tuple[str, ...]
    """of the test records; empty where records have no label"""
    classes: tuple[str, ...]
    continues: bool
    print: str
    """tells this bench from every other one"""
    reader: Prepared | None = None

    @property
    def once(self) -> bool:
        """Whether neither seed nor order of the records changes a model."""
        return bool(getattr(self.trainer, "deterministic", False)) and not self.continues

    @property
    def as_sets(self) -> bool:
        """Whether the order of the records changes a model by luck alone: the trainer shuffles them."""
        return self.once or (bool(getattr(self.trainer, "shuffles", False)) and not self.continues)

    def cell(self, rows: Indices, cuts: Sequence[int], seed: int) -> Cell:
        """Return the cell that trains on these positions."""
        kept = rows[: cuts[-1]]
        if self.as_sets:
            kept = np.sort(kept)
        if self.once:
            seed = 0
        digest = hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest()[:24]
        return Cell(kept, tuple(cuts), seed, f"{self.print}|{digest}|{','.join(map(str, cuts))}|{seed}")


def bench(
    trainer: Any, pool: Records, test: Indices, metric: str, *, continues: bool, cache: Path | None = None
) -> Bench:
    """Read the pool once for all cells. Raises InputError where a label is missing."""
    labelled = kind_of(pool) == "labels"
    gold = gold_labels(pool.take(test), "test") if labelled else []
    classes = sorted(set(gold_labels(pool))) if labelled else []
    plain = all(isinstance(name, str) for name in (*gold, *classes))
    scored = _kept(metric)
    # Which of the kept scores decides changes no cell, so a study by BLEU and one by chrF share theirs.
    name = registry.signature(
        trainer, pool=pool.fingerprint, test=len(test), metric="+".join(scored), go=continues
    )
    return Bench(
        trainer,
        pool,
        test,
        metric,
        tuple(gold) if plain else (),
        tuple(classes) if plain else (),
        continues,
        name,
        None if continues else prepared(trainer, pool, cache=cache),
    )


def train(
    cells: Sequence[Cell],
    at: Bench,
    *,
    executor: Any = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    name: str = "mitigate",
) -> dict[str, list[Scored]]:
    """Return what the models of each cell say of the test records, by its key; an error ends all."""
    said = _run(cells, at, lenient=False, name=name, executor=executor, cache=cache, progress=progress)
    return {key: one for key, one in said.items() if not isinstance(one, grid.Failed)}


def attempt(
    cells: Sequence[Cell],
    at: Bench,
    *,
    executor: Any = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, list[Scored] | grid.Failed]:
    """Return the same as `train`, and the reason for a cell that failed."""
    return _run(cells, at, lenient=True, executor=executor, cache=cache, progress=progress)


def _run(
    cells: Sequence[Cell], at: Bench, *, lenient: bool, name: str = "mitigate", **how: Any
) -> dict[str, list[Scored] | grid.Failed]:
    found = grid.run(
        partial(work, at),
        cells,
        key=lambda cell: cell.key,
        weigh=lambda cell: 200.0 + sum(cell.cuts),
        pack=pack,
        unpack=unpack,
        lenient=lenient,
        name=name,
        **how,
    )
    return {cell.key: result for cell, result in zip(cells, found)}


def _kept(metric: str) -> tuple[str, ...]:
    """Return the scores whose statistics are kept: those of written texts that cost nothing together."""
    return _TOGETHER if metric in _TOGETHER else (metric,)


def work(at: Bench, cell: Cell) -> list[Scored]:
    """Train the models of a cell; runs in a worker."""
    found = []
    model: Any = None
    begin = 0
    for cut in cell.cuts:
        if at.reader is not None:
            answers = at.reader.fit_predict(cell.rows[:cut], at.test, seed=cell.seed)
        else:
            more = {} if model is None else {"start": model}
            model = at.trainer.fit(at.pool.take(cell.rows[begin:cut]), seed=cell.seed, **more)
            answers, begin = model.predict(at.pool.take(at.test)), cut
        if isinstance(answers, Predictions):
            found.append(scoring.outcome(answers, at.gold, at.classes))
        else:
            said = scoring.outcome(answers, metrics=(at.metric,))
            assert isinstance(said, Tally)
            found.append(Tally({name: said.statistics[name] for name in _kept(at.metric)}))
    return found


def pack(found: Sequence[Scored]) -> dict[str, Any]:
    """Return outcomes as arrays and plain values."""
    packed: dict[str, Any] = {"count": len(found)}
    for k, one in enumerate(found):
        if isinstance(one, Tally):
            packed[f"names{k}"] = list(one.statistics)
            packed.update({f"tally{k}:{name}": values for name, values in one.statistics.items()})
            continue
        packed["classes"] = list(one.classes)
        packed["gold"] = one.gold
        packed[f"predicted{k}"] = one.predicted
        if one.surprise is not None:
            packed[f"surprise{k}"] = one.surprise
    return packed


def unpack(packed: dict[str, Any]) -> list[Scored]:
    """Return the outcomes that `pack` wrote. Raises KeyError for anything else."""
    found: list[Scored] = []
    for k in range(packed["count"]):
        if f"names{k}" in packed:
            found.append(Tally({name: packed[f"tally{k}:{name}"] for name in packed[f"names{k}"]}))
            continue
        surprise: NDArray[np.float64] | None = packed.get(f"surprise{k}")
        found.append(Outcome(tuple(packed["classes"]), packed["gold"], packed[f"predicted{k}"], surprise))
    return found
