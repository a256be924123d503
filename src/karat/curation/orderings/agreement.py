"""Orders labelled records by whether a model that did not see a label agrees with it. Knows no gold.

With a human reference the model is trained on that (a verifier); without one it is trained on the other
folds of the candidate itself, where it learns the candidate's systematic errors too, and sees only the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.auditing.detector import group_ids
from karat.curation.base import Ordered
from karat.curation.confident import doubts
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """The best believed labels first, by a model trained on human records or on the other folds.

    Confident learning (Northcutt et al. 2021). trainer: the model; settings are parted by semicolons.
    mode: verifier trains on the reference, cross on the other folds of the candidate, auto on the reference
    where there is one. score: margin (of the label over the best other one) or self_confidence (its
    probability). adjust: judge each class by how sure the model usually is of it. folds: of cross.
    """

    trainer: str = "linear"
    mode: Literal["auto", "verifier", "cross"] = "auto"
    score: Literal["margin", "self_confidence"] = "margin"
    adjust: bool = True
    folds: int = 5

    sees: ClassVar[tuple[str, ...]] = ("labels",)
    """the planted errors that it can notice"""

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds is {self.folds}, but a record must be left out: 2 at least, 5 is usual")

    def order(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Ordered:
        """Score each label from 0 (another one is much likelier) to 1."""
        labels = _labels(records)
        trainer = registry.make("trainers", self.trainer.replace(";", ","))
        if self.mode == "verifier" and reference is None:
            raise BadSetting(
                "ordering 'agreement': a verifier learns from human records; give --reference HUMAN"
            )
        if reference is not None and self.mode != "cross":
            how = "a verifier trained on human records"
            classes, chances = _verified(trainer, records, reference, seed)
        else:
            how = "a model trained on the other folds"
            classes, chances = _crossed(trainer, records, self.folds, seed)
        at = {name: i for i, name in enumerate(classes)}
        given = np.array([at.get(label, -1) for label in labels], dtype=np.int64)
        found = doubts(chances, given, score=self.score, adjust=self.adjust)
        agree = float((chances.argmax(axis=1) == given).mean())
        counts = np.bincount(given[given >= 0], minlength=len(classes)) / len(labels)
        chance = float((chances.mean(axis=0) * counts).sum())
        strange = int((given < 0).sum())
        note = (
            f"{how} gives the same label in {agree:.1%} (chance {chance:.1%}); wrong labels, estimated "
            f"{found.noise:.1%}, told apart {int(found.issues.sum()):,}"
        )
        if strange:
            note += f"; {strange:,} labels are unknown to it and come last"
        figures = {"agreement": agree, "chance": chance, "noise": found.noise, "unknown": float(strange)}
        return Ordered(found.scores, note, figures={**figures, "issues": float(found.issues.sum())})


def _labels(records: Records) -> list[str]:
    labels = records.labels()
    if labels is None:
        raise BadSetting(
            f"ordering 'agreement' needs labels, which {records.datatype} records lack; name their field"
        )
    missing = next((i for i, label in zip(records.ids, labels) if label is None), None)
    if missing is not None:
        raise InputError(
            f"{records.path}: record {missing!r} has no label; fill it in or leave the record out"
        )
    return [str(label) for label in labels]


def _verified(
    trainer: Any, records: Records, reference: Records, seed: int
) -> tuple[tuple[str, ...], Floats]:
    """The classes and P(class) of each record, by a model that saw no copy of any."""
    groups = group_ids([*reference.texts(), *records.texts()])
    fresh = ~np.isin(groups[: len(reference)], groups[len(reference) :])
    if reference.labels() is None or len(set(np.array(reference.labels(), object)[fresh].tolist())) < 2:
        raise NotEnoughData(
            f"{reference.path}: a verifier needs human records of two labels that do not copy candidates "
            f"({int(fresh.sum()):,} of {len(reference):,} are none); use agreement:mode=cross"
        )
    answers = trainer.fit(reference.where(fresh), seed=seed).predict(records)
    return _told(answers)


def _crossed(trainer: Any, records: Records, folds: int, seed: int) -> tuple[tuple[str, ...], Floats]:
    """The same by models that left out the record's fold; copies share a fold, labels are spread evenly."""
    labels = np.array(_labels(records), dtype=object)
    names = sorted(set(labels.tolist()))
    if len(names) < 2:
        raise NotEnoughData(
            f"{records.path}: all labels are {names[0]!r}, so that there is nothing to tell apart"
        )
    fold = _folds(group_ids(records.texts()), labels, folds, seed)
    chances = np.zeros((len(records), len(names)))
    for k in np.unique(fold):
        held = fold == k
        if held.all() or len(set(labels[~held].tolist())) < 2:
            raise NotEnoughData(
                f"{records.path}: too few different texts with two labels to leave a fold out"
            )
        classes, found = _told(trainer.fit(records.where(~held), seed=seed).predict(records.where(held)))
        for column, one in enumerate(classes):
            chances[held, names.index(one)] = found[:, column]
    return tuple(names), chances


def _folds(groups: NDArray[np.int64], labels: Any, folds: int, seed: int) -> NDArray[np.int64]:
    """A fold for each record: groups stay whole, the label of their first record is spread evenly."""
    first = np.unique(groups, return_index=True)[1]
    order = np.random.default_rng([seed, 0xA6]).permutation(len(first))
    ranked = order[np.argsort(labels[first[order]].astype(str), kind="stable")]
    place = np.empty(len(first), dtype=np.int64)
    place[ranked] = np.arange(len(first)) % folds
    return place[groups]


def _told(answers: Any) -> tuple[tuple[str, ...], Floats]:
    if not hasattr(answers, "probabilities"):
        raise BadSetting("ordering 'agreement' needs a trainer that predicts labels, for example linear")
    return tuple(answers.classes), np.asarray(answers.probabilities, dtype=np.float64)
