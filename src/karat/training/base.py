"""What a trainer, a model and its predictions are. Knows no trainer, no score and no file.

A trainer part is a frozen dataclass whose fields are its settings. It needs `fit` alone. Two things
may be added: `deterministic = True` where seed and order of the records do not matter (then a study
fits a given set once), and `prepare`, by which many subsets of one pool share the work of reading it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from karat.errors import InputError, NotEnoughData
from karat.records import Records

Progress = Callable[[str, int, int], None]
Indices = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of records: `probabilities` is [n, len(classes)], each row sums to one."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Probabilities
    gold: tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The most probable class of each record; of two equal ones the first by name."""
        return tuple(self.classes[i] for i in self.probabilities.argmax(axis=1).tolist())


class Model(Protocol):
    """A trained model."""

    def predict(self, records: Records) -> Predictions:
        """Return a probability for each class and each record."""


class Trainer(Protocol):
    """Makes a model of records."""

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
    ) -> Model:
        """Train on labelled records."""


class Prepared(Protocol):
    """A pool of records that a trainer has read once. Must survive pickling."""

    def fit_predict(self, train: Indices, test: Indices, *, seed: int = 0) -> Predictions:
        """Train on the records of the pool at `train` and predict those at `test`."""


@runtime_checkable
class Preparing(Protocol):
    """A trainer that can read a pool once for many fits; the predictions are those of `fit`."""

    def prepare(self, pool: Records) -> Prepared:
        """Read a pool of records."""


@dataclass(frozen=True)
class _Plain:
    """What `prepared` gives for a trainer that has no `prepare`: each fit starts from the records."""

    trainer: Trainer
    pool: Records

    def fit_predict(self, train: Indices, test: Indices, *, seed: int = 0) -> Predictions:
        """Train on the records of the pool at `train` and predict those at `test`."""
        return self.trainer.fit(self.pool.take(train), seed=seed).predict(self.pool.take(test))


def prepared(trainer: Any, pool: Records) -> Prepared:
    """Return the pool as the trainer reads it, once for all fits where the trainer can."""
    if isinstance(trainer, Preparing):
        return trainer.prepare(pool)
    return _Plain(trainer, pool)


def gold_labels(records: Records, what: str = "training") -> list[str]:
    """Return the labels of records. Raises InputError where one is missing, NotEnoughData where all are."""
    if not len(records):
        raise NotEnoughData(f"{records.path}: no {what} records are left; give more, or drop fewer")
    labels = records.labels()
    if labels is None:
        raise InputError(
            f"{records.path}: {records.datatype} records have no label, which {what} needs; "
            "name its field with --label-field"
        )
    for identity, label in zip(records.ids, labels):
        if label is None:
            raise InputError(
                f"{records.path}: record {identity!r} has no label; fill it in or leave the record out"
            )
    return labels


def codes(labels: Sequence[str], classes: Sequence[str]) -> Indices:
    """Return the position of each label among `classes`."""
    at = {name: i for i, name in enumerate(classes)}
    return np.fromiter((at[label] for label in labels), np.int64, len(labels))
