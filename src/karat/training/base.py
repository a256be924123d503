"""What a trainer, a model and its answers are. Knows no trainer, no score and no file.

A trainer part is a frozen dataclass whose fields are its settings. It needs `fit` alone. These may be added:

- `types`: the data types of records that it is trained on, where these are not labelled texts;
- `deterministic = True` where seed and order of the records do not matter (then a study fits a set once);
- `shuffles = True` where `fit` puts the records in an order of its own, so that theirs matters by luck alone;
- `prepare`, by which many subsets of one pool share the work of reading it;
- `continues = True` where `fit(..., start=model)` goes on from a model instead of from nothing;
- `tags`, a setting that names the field of several labels a record; answers are then `Tagged`;
- `load(folder)`, a static method that gives back a model whose `save(folder)` wrote it.

A model needs `predict`. One that writes also has `complete`, as a provider has, and `model`, its name.
What `predict` gives depends on the data type of the records: labels with their probabilities
(`Predictions`; `Tagged` where a record may have several), written texts (`Written`), or how likely the
records themselves are (`Weighed`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from karat.curation.base import offered
from karat.errors import InputError, NotEnoughData
from karat.records import Records
from karat.training.pairs import pairs

Progress = Callable[[str, int, int], None]
Indices = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Floats = NDArray[np.float64]
Kind = Literal["labels", "tags", "texts", "likelihoods"]


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


@dataclass(frozen=True, eq=False)
class Tagged:
    """What a model says of records that may have several labels: `probabilities` [n, classes], each alone."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Probabilities
    gold: tuple[tuple[str, ...], ...] | None = None
    threshold: float = 0.5

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The labels of each record whose probability reaches the threshold."""
        return tuple(
            tuple(self.classes[i] for i in np.flatnonzero(row >= self.threshold).tolist())
            for row in self.probabilities
        )


@dataclass(frozen=True, eq=False)
class Written:
    """What a model wrote for each record, beside the text that stands there (its reference)."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    references: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    """what the model was given: the sentence to translate, the prompt"""
    surprise: Floats | None = None
    """-ln P(reference | source) in nats [n], the end included; None where the model cannot tell"""
    tokens: Indices | None = None
    """the number of tokens of each reference as the model counts them, the end included"""


@dataclass(frozen=True, eq=False)
class Weighed:
    """How likely a model finds records: `surprise` is -ln P(record) in nats [n], the end included."""

    ids: tuple[str, ...]
    surprise: Floats
    tokens: Indices
    """tokens of each record as the model counts them, the end included"""
    bytes: Indices
    """UTF-8 bytes of each record, the same for every model"""


Answers = Predictions | Tagged | Written | Weighed


class Model(Protocol):
    """A trained model."""

    def predict(self, records: Records) -> Any:
        """Return `Answers` for the records: of which kind, their data type says (`kind_of`)."""


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

    def fit_predict(self, train: Indices, test: Indices, *, seed: int = 0) -> Any:
        """Train on the records of the pool at `train` and give the `Answers` for those at `test`."""


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

    def fit_predict(self, train: Indices, test: Indices, *, seed: int = 0) -> Any:
        """Train on the records of the pool at `train` and give the `Answers` for those at `test`."""
        return self.trainer.fit(self.pool.take(train), seed=seed).predict(self.pool.take(test))


def prepared(trainer: Any, pool: Records, *, cache: Path | None = None) -> Prepared:
    """Return the pool as the trainer reads it, once for all fits where the trainer can.

    cache: a folder for vectors, for trainers whose `prepare` names it.
    """
    if not isinstance(trainer, Preparing):
        return _Plain(trainer, pool)
    return trainer.prepare(pool, **offered(trainer.prepare, cache=cache))


def kind_of(records: Records) -> Kind:
    """Return what a model is asked about such records: labels, texts to write, or how likely they are."""
    if records.datatype in ("translation", "instruction"):
        return "texts"
    if records.datatype == "preference":
        return "labels"
    return "labels" if records.labels() is not None else "likelihoods"


def inputs(records: Records) -> list[str]:
    """Return what a model is given of each record: the source, the prompt, both responses, or the text.

    Records with equal inputs must not be split between training and test.
    """
    if records.datatype == "translation":
        return [str(text) for text in records.column("source")]
    if records.datatype == "instruction":
        return [str(text) for text in records.column("prompt")]
    return records.texts()


def gold_labels(records: Records, what: str = "training") -> list[str]:
    """Return the labels of records, of preference records their choices (a, b or tie).

    Raises InputError where one is missing or invalid, NotEnoughData where there are no records.
    """
    if not len(records):
        raise NotEnoughData(f"{records.path}: no {what} records are left; give more, or drop fewer")
    if records.datatype == "preference":
        return _choices(records)
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


def _choices(records: Records) -> list[str]:
    found = pairs(records)
    wrong = np.flatnonzero(~found.valid)
    if len(wrong):
        raise InputError(
            f"{records.path}: the choice of record {found.ids[int(wrong[0])]!r} is invalid "
            f"({len(wrong):,} of {len(found):,} are); leave these out, for example with "
            "--where 'choice!=invalid'"
        )
    return list(found.choices)


def codes(labels: Sequence[str], classes: Sequence[str]) -> Indices:
    """Return the position of each label among `classes`."""
    at = {name: i for i, name in enumerate(classes)}
    return np.fromiter((at[label] for label in labels), np.int64, len(labels))
