"""Answers as sums: what each test record adds to a score, and the score of a sum. Knows no resampling.

A corpus score such as BLEU or micro-F1 is a function of sums over records. With the statistics of each record
[n, k] kept, the score of any resample is a matrix product, and two models are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from karat.training.base import Floats, Tagged, Weighed, Written

LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
"""A probability of 0 for what then happens would cost infinitely much; scikit-learn clips here too."""


@dataclass(frozen=True, eq=False)
class Tally:
    """The statistics of each test record by score: name -> [n, k]."""

    statistics: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(next(iter(self.statistics.values())))


def tally(
    answers: Tagged | Written | Weighed,
    gold: Sequence[Sequence[str]] = (),
    classes: Sequence[str] = (),
    *,
    metrics: Sequence[str] = (),
) -> Tally:
    """Return the statistics of answers. `gold` and `classes` are for tags; `metrics` adds costly scores.

    embedding_cosine is computed where it is asked for: it runs a sentence encoder over all texts.
    """
    if isinstance(answers, Tagged):
        return Tally(_of_tags(answers, gold or answers.gold or (), classes))
    from karat.training import written

    found = dict(written.statistics(answers))
    if isinstance(answers, Written) and "embedding_cosine" in metrics:
        from karat.training import similarity

        assert answers.references is not None, "written texts are scored against references"
        cosine = similarity.cosines(answers.texts, answers.references)
        found["embedding_cosine"] = np.column_stack([cosine, np.ones(len(cosine))])
    return Tally(found)


def finish(name: str, totals: Floats) -> Floats:
    """Return the score [t] of sums of statistics [t, k]."""
    if name in ("micro_f1", "macro_f1"):
        right, said, true = np.split(totals, 3, axis=1)
        if name == "micro_f1":
            right, said, true = (part.sum(axis=1, keepdims=True) for part in (right, said, true))
        either = said + true
        f1 = np.where(either > 0, 2 * right / np.where(either > 0, either, 1), 0.0)
        return np.asarray(f1.sum(axis=1) / np.maximum((either > 0).sum(axis=1), 1))
    if name in ("embedding_cosine", "subset_accuracy", "log_loss"):
        return np.asarray(totals[:, 0] / totals[:, 1])
    from karat.training import written

    return np.asarray(written.finish(name, totals))


def _of_tags(answers: Tagged, gold: Sequence[Sequence[str]], classes: Sequence[str]) -> dict[str, Floats]:
    """F1 by hits, answers and gold a label [n, 3 classes]; log loss is summed over labels."""
    named = tuple(classes) or tuple(sorted({*answers.classes, *(name for row in gold for name in row)}))
    place = {name: i for i, name in enumerate(named)}
    chances = np.zeros((len(answers.ids), len(named)))
    chances[:, [place[name] for name in answers.classes]] = answers.probabilities
    true = np.zeros_like(chances)
    for row, names in zip(true, gold):
        row[[place[name] for name in names]] = 1.0
    said = (chances >= answers.threshold).astype(np.float64)
    hits = np.concatenate([said * true, said, true], axis=1)
    ones = np.ones(len(true))
    likely = np.clip(np.where(true > 0, chances, 1 - chances), LEAST_PROBABILITY, 1.0)
    return {
        "micro_f1": hits,
        "macro_f1": hits,
        "subset_accuracy": np.column_stack([(said == true).all(axis=1), ones]),
        "log_loss": np.column_stack([-np.log(likely).sum(axis=1), ones]),
    }
