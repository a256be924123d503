"""Scores of answers, and the same scores on resampled test records. Knows no trainer and no file.

All scores are computed under weights of the test records, one row of weights a resample, so that a
thousand resamples cost a few matrix products and two models are compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics
from karat.curation.base import normalised
from karat.errors import BadSetting, did_you_mean
from karat.training.base import Answers, Indices, Kind, Predictions, codes
from karat.training.tallies import LEAST_PROBABILITY, Tally, finish, tally

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]

METRICS: dict[str, bool] = {
    "accuracy": True,
    "macro_f1": True,
    "micro_f1": True,
    "subset_accuracy": True,
    "log_loss": False,
    "bleu": True,
    "chrf": True,
    "rouge_l": True,
    "embedding_cosine": True,
    "exact_match": True,
    "bits_per_byte": False,
    "perplexity": False,
}
"""name -> whether more is better"""
OF_KIND: dict[Kind, tuple[str, ...]] = {
    "labels": ("accuracy", "macro_f1", "log_loss"),
    "tags": ("micro_f1", "macro_f1", "subset_accuracy", "log_loss"),
    "texts": ("bleu", "chrf", "rouge_l", "embedding_cosine", "exact_match", "perplexity"),
    "likelihoods": ("bits_per_byte", "perplexity"),
}
"""the scores of each kind of answers, in the order in which they are shown"""
_DECIDING: dict[Kind, str] = {
    "labels": "macro_f1",
    "tags": "micro_f1",
    "texts": "bleu",
    "likelihoods": "bits_per_byte",
}
_BLOCK = 8_000_000  # weights held at once: 32 MB


@dataclass(frozen=True)
class Score:
    """One score beside what guessing, a look-up table and a perfect model would get."""

    name: str
    settings: dict[str, str | int | float | bool]
    signature: str
    value: float
    interval: tuple[float, float]
    chance: float | None
    lookup: float | None
    best: float | None
    n: int
    by: dict[str, str]
    note: str = ""

    def __str__(self) -> str:
        chance = "" if self.chance is None else f" chance {self.chance:.3f}"
        best = "" if self.best is None else f" best {self.best:.3f}"
        low, high = self.interval
        return f"{self.signature} = {self.value:.3f} [{low:.3f}, {high:.3f}]{chance}{best}"

    def to_json(self) -> dict[str, Any]:
        """Return the score as `karat train --json` prints it."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "signature": self.signature,
            "value": self.value,
            "interval": list(self.interval),
            "chance": self.chance,
            "lookup": self.lookup,
            "best": self.best,
            "n": self.n,
            "by": dict(self.by),
            "note": self.note,
        }


@dataclass(frozen=True, eq=False)
class Outcome:
    """Predictions as numbers: gold and predicted [n] are places in `classes`; surprise [n] is -ln P(gold)."""

    classes: tuple[str, ...]
    gold: Indices
    predicted: Indices
    surprise: Floats | None = None


Scored = Outcome | Tally


def outcome(
    answers: Answers, gold: Sequence[Any] = (), classes: Sequence[str] = (), *, metrics: Sequence[str] = ()
) -> Scored:
    """Return answers as numbers. `classes` fixes the codes of labels, so that outcomes compare.

    gold: the right label of each record, or the right labels where there may be several; texts and
    likelihoods need none. metrics: costly scores to prepare, such as embedding_cosine.
    """
    if isinstance(answers, Predictions):
        return labelled(answers, gold or answers.gold or (), classes)
    return tally(answers, gold, classes, metrics=metrics)


def labelled(predictions: Predictions, gold: Sequence[str], classes: Sequence[str] = ()) -> Outcome:
    """Return predicted labels beside the gold ones; `classes` fixes the codes, so that outcomes compare."""
    named = tuple(classes) or tuple(sorted({*gold, *predictions.classes}))
    truth = codes(gold, named)
    place = {name: i for i, name in enumerate(predictions.classes)}
    known = np.fromiter((place.get(label, -1) for label in gold), np.int64, len(gold))
    given = np.where(known >= 0, predictions.probabilities[np.arange(len(gold)), np.maximum(known, 0)], 0.0)
    surprise = -np.log(np.clip(given, LEAST_PROBABILITY, 1.0))
    return Outcome(named, truth, codes(predictions.labels, named), surprise)


def default_metric(kind: Kind, datatype: str) -> str:
    """Return the score that decides where none is named: BLEU of translations, ROUGE-L of other texts."""
    if kind == "texts" and datatype != "translation":
        return "rouge_l"
    return _DECIDING[kind]


def check_metric(metric: str, kind: Kind) -> None:
    """Raise BadSetting for a score that answers of this kind do not have."""
    if metric not in OF_KIND[kind]:
        known = OF_KIND[kind]
        raise BadSetting(
            f"no score named {metric!r} for {kind}{did_you_mean(metric, known)} "
            f"(there are: {', '.join(known)})"
        )


def measure(metric: str, found: Scored, weights: Weights | None = None) -> Floats:
    """Return the score under each row of weights [resamples, n]; one row of ones when None.

    macro_f1 is the plain mean over the labels that occur in gold or prediction, as in scikit-learn.
    """
    known = found.statistics if isinstance(found, Tally) else OF_KIND["labels"]
    if metric not in known:
        raise BadSetting(
            f"no score named {metric!r}{did_you_mean(metric, known)} (there are: {', '.join(known)})"
        )
    if isinstance(found, Tally):
        numbers = found.statistics[metric]
        totals = numbers.sum(axis=0)[None, :] if weights is None else weights.astype(np.float64) @ numbers
        return finish(metric, totals)
    rows = np.ones((1, len(found.gold)), np.float32) if weights is None else weights
    if metric == "macro_f1":
        f1, present = _f1(found, rows)
        return np.asarray((f1 * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1))
    if metric == "accuracy":
        each = (found.gold == found.predicted).astype(np.float64)
    else:
        assert found.surprise is not None, "log loss needs probabilities"
        each = found.surprise
    return np.asarray((rows @ each) / rows.sum(axis=1))


def f1_by_label(found: Outcome, weights: Weights | None = None) -> tuple[Floats, NDArray[np.bool_]]:
    """Return F1 [resamples, classes] and where the label occurs in gold or prediction."""
    return _f1(found, np.ones((1, len(found.gold)), np.float32) if weights is None else weights)


def _f1(found: Outcome, rows: Weights) -> tuple[Floats, NDArray[np.bool_]]:
    width = len(found.classes)
    hit = found.gold == found.predicted
    right = class_sums(rows[:, hit], found.gold[hit], width)
    either = class_sums(rows, found.gold, width) + class_sums(rows, found.predicted, width)
    present = either > 0
    return np.where(present, 2 * right / np.where(present, either, 1), 0.0), present


def class_sums(rows: Weights, classes: Indices, width: int) -> Floats:
    """Return the weight [resamples, width] of the records of each class, however many there are."""
    found = np.zeros((len(rows), width))
    if len(classes):
        order = np.argsort(classes, kind="stable")
        names, starts = np.unique(classes[order], return_index=True)
        found[:, names] = np.add.reduceat(rows[:, order], starts, axis=1)
    return found


def resampled(
    statistic: Callable[[Weights], Floats], texts: Sequence[str], trials: int, *, seed: int = 0
) -> Floats:
    """Return `statistic` on resampled test records: given weights [some trials, n], it gives a row for each.

    A weight says how often a record is drawn, with replacement. Copies of one text are drawn together
    (a cluster bootstrap), since the second copy tells nothing new.
    """
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(normalised(text), len(numbers)) for text in texts], dtype=np.int64)
    count = len(numbers)
    rng = np.random.default_rng([seed, 0x7E57])
    step = max(1, _BLOCK // len(texts))
    found = []
    for start in range(0, trials, step):
        drawn = np.empty((min(step, trials - start), count), np.float32)
        for row in drawn:
            row[:] = np.bincount(rng.integers(0, count, count), minlength=count)
        found.append(statistic(drawn[:, group]))
    return np.concatenate(found)


def interval(draws: Floats, level: float = 0.95) -> tuple[float, float]:
    """Return the middle `level` of resampled values; they must be finite."""
    found = statistics.percentile_interval(draws, level=level)
    assert found is not None, "at least two finite draws"
    return found


def constant(gold: Sequence[str], label: str, classes: Sequence[str]) -> Outcome:
    """Return the outcome of saying one label of every record."""
    return Outcome(tuple(classes), codes(gold, classes), np.full(len(gold), list(classes).index(label)))


def random_f1(gold: Sequence[str], shares: dict[str, float], classes: Sequence[str]) -> Floats:
    """Return the expected F1 of each label when labels are drawn at random by `shares`: 2pq / (p + q).

    p is the share of the label among gold, q among the draws: expected hits over expected count, as n grows.
    """
    p = np.bincount(codes(gold, classes), minlength=len(classes)) / len(gold)
    q = np.array([shares.get(name, 0.0) for name in classes])
    return np.asarray(np.where(p + q > 0, 2 * p * q / np.where(p + q > 0, p + q, 1), 0.0))


def ceiling(texts: Sequence[str], gold: Sequence[str]) -> float | None:
    """Return the best accuracy of any model of the text; below 1 where equal texts have two labels.

    None where no text occurs twice with different labels: then nothing is known of the ceiling.
    """
    counts: dict[str, dict[str, int]] = {}
    for text, label in zip(texts, gold):
        entry = counts.setdefault(text, {})
        entry[label] = entry.get(label, 0) + 1
    best = sum(max(entry.values()) for entry in counts.values())
    return best / len(gold) if best < len(gold) else None
