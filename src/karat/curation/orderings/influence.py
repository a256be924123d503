"""Orders labelled records by what they are worth to a model that is tried on human records. Knows no gold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from karat.curation import influence
from karat.curation.base import Ordered, few, need_reference
from karat.curation.embedding import embed
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records


@dataclass(frozen=True)
class Influence:
    """The most helpful first, by kNN-Shapley values or influence functions against human records.

    The human records are validation data here: keep test data away from them.
    method: shapley (exact, for k nearest neighbours; Jia et al. 2019), gradient (what the record brought
    about in the first `steps` of a logistic regression; Pruthi et al. 2020) or leave_one_out (how much the
    human log loss rises without it once all is learned; Koh and Liang 2017). The last two are less the mean
    of the record's label: which labels are too few is another question.
    None is best everywhere. With a fifth of the labels exchanged, P(a right label is valued above a wrong
    one) is .67, .69 and .57 (shapley, gradient, leave_one_out) on zero-shot reviews, .72, .74 and .59 on
    few-shot reviews, .55, .61 and .68 on ten social labels, .97, .96 and .98 on 77 intents. To find such
    labels `agreement:mode=cross` is better on all but the intents: .98, .89, .93 and .96. More than 20 steps
    tell less of wrong labels (studies/orderings.py).
    encoder: what makes features of texts: lsa, minilm, sentence-transformers:NAME. k: neighbours.
    penalty: of the logistic regression. validation: the most human records used, drawn by seed (0: all).
    """

    method: Literal["shapley", "gradient", "leave_one_out"] = "shapley"
    encoder: str = "lsa"
    k: int = 5
    penalty: float = 1e-3
    steps: int = 5
    validation: int = 2_000

    sees: ClassVar[tuple[str, ...]] = ("labels",)
    """the planted errors that it can notice"""

    def __post_init__(self) -> None:
        if self.k < 1 or not self.penalty > 0:
            raise ValueError(
                f"k is {self.k} and penalty {self.penalty}; give k of 1 or more, penalty above 0"
            )

    def order(
        self,
        records: Records,
        reference: Records | None = None,
        *,
        seed: int = 0,
        cache: Path | None = None,
    ) -> Ordered:
        """Score each record by its worth, in validation accuracy (shapley) or nats (gradient)."""
        human = need_reference(reference, "ordering 'influence'")
        human = human.take(few(len(human), self.validation, seed=seed))
        ours, theirs = _labels(records), _labels(human)
        classes = sorted({*ours, *theirs})
        if len(classes) < 2:
            raise NotEnoughData(
                f"{records.path}: all labels are {classes[0]!r}; nothing can be learned from them"
            )
        at = {name: i for i, name in enumerate(classes)}
        labels, truth = (np.array([at[one] for one in side], dtype=np.int64) for side in (ours, theirs))
        texts = [*records.texts(), *human.texts()]
        rows = embed(texts, self.encoder.replace(";", ","), cache=cache, seed=seed).astype(np.float64)
        features, beside = rows[: len(records)], rows[len(records) :]
        if self.method == "shapley":
            scores = influence.knn_shapley(features, labels, beside, truth, k=self.k)
            unit = f"of {scores.sum():.3f} accuracy by {self.k} neighbours"
        elif self.method == "gradient":
            scores = influence.descent_influence(
                features, labels, beside, truth, classes=len(classes), steps=self.steps
            )
            unit = f"of {scores.sum():.3f} nats that training gained"
        else:
            scores = influence.logistic_influence(
                features, labels, beside, truth, classes=len(classes), penalty=self.penalty
            )
            unit = "nats of human log loss to first order"
        if self.method != "shapley":
            for one in np.unique(labels):
                scores[labels == one] -= scores[labels == one].mean()
        what = "do harm" if self.method == "shapley" else "are below the mean of their label"
        harmful = int((scores < 0).sum())
        note = f"worth to {len(human):,} human records, {unit}; {harmful:,} of {len(records):,} {what}"
        return Ordered(scores, note, figures={"harmful": harmful / len(records)})


def _labels(records: Records) -> list[str]:
    labels = records.labels()
    if labels is None or None in labels:
        raise BadSetting(
            f"ordering 'influence' needs a label on each record, which {records.path} does not have; "
            "name its field with --label-field, or leave such records out"
        )
    return [str(label) for label in labels]
