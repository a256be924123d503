"""The scores of a model's answers beside chance, a look-up table and what could be had. Knows no trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.curation.base import normalised
from karat.errors import InputError, MissingExtra, NotEnoughData
from karat.records import Records
from karat.training import scores as scoring
from karat.training import similarity, written
from karat.training.base import (
    Answers,
    Kind,
    Predictions,
    Tagged,
    Weighed,
    Written,
    codes,
    gold_labels,
    inputs,
)
from karat.training.scores import Outcome, Score
from karat.training.tallies import LEAST_PROBABILITY, Tally

_MOST_SETS = 200
"""sets of commonest labels that chance tries"""


def rate(
    answers: Answers,
    train: Records,
    test: Records,
    *,
    maker: str,
    trials: int,
    seed: int,
    tags: str = "",
) -> tuple[Score, ...]:
    """Return the scores of answers to the test records, the deciding one first.

    maker: the signature of the trainer; trials: how often the test records are resampled;
    tags: the field of the training records that holds several labels, for the look-up table.
    """
    if isinstance(answers, Predictions):
        return _labels(answers, train, test, maker=maker, trials=trials, seed=seed)
    costly: tuple[str, ...] = ("embedding_cosine",) if test.datatype == "instruction" else ()
    try:
        found = _tally(answers, costly)
    except MissingExtra:
        if not costly:
            raise
        costly = ()  # the other scores stand without it
        found = _tally(answers)
    chance, others = baselines(answers, train, test, costly, tags)
    return _summed(
        found,
        others,
        chance,
        inputs(test),
        _order(answers, test),
        references=(answers.references or ()) if isinstance(answers, Written) else (),
        maker=maker,
        trials=trials,
        seed=seed,
    )


def kind_of_answers(answers: Answers) -> Kind:
    """Return of which kind answers are."""
    if isinstance(answers, Predictions):
        return "labels"
    if isinstance(answers, Tagged):
        return "tags"
    return "texts" if isinstance(answers, Written) else "likelihoods"


def baselines(
    answers: Tagged | Written | Weighed,
    train: Records,
    test: Records,
    costly: Sequence[str] = (),
    tags: str = "",
) -> tuple[str, dict[str, Tally]]:
    """Return what chance is here, and the statistics of chance and of a look-up table."""
    if isinstance(answers, Tagged):
        others = {"chance": _constant_tags(answers)}
        if tags:
            others["lookup"] = _known_tags(answers, train, test, tags)
        return "constant", others
    if isinstance(answers, Written):
        # neither can weigh a reference, so there is no perplexity to set beside
        plain = replace(answers, surprise=None, tokens=None)
        copied = replace(plain, texts=answers.sources or ("",) * len(answers.ids))
        known = _known_targets(plain, train)
        return "copy of the source", {"chance": _tally(copied, costly), "lookup": _tally(known, costly)}
    return "byte frequencies", {"chance": _tally(_byte_model(answers, train, test))}


def _tally(answers: Tagged | Written | Weighed, costly: Sequence[str] = ()) -> Tally:
    if isinstance(answers, Tagged) and answers.gold is None:
        raise InputError("some test records have no field of right labels; fill it in, or leave them out")
    found = scoring.outcome(answers, metrics=costly)
    assert isinstance(found, Tally)
    return found


def _order(answers: Answers, test: Records) -> tuple[str, ...]:
    """The scores in the order of their importance for such records."""
    kind = kind_of_answers(answers)
    first = scoring.default_metric(kind, test.datatype)
    return (first, *(name for name in scoring.OF_KIND[kind] if name != first))


def _summed(
    found: Tally,
    others: Mapping[str, Tally],
    chance: str,
    texts: Sequence[str],
    order: Sequence[str],
    *,
    references: Sequence[str],
    maker: str,
    trials: int,
    seed: int,
) -> tuple[Score, ...]:
    """Return the scores that are functions of sums, with intervals from common resamples."""
    points = {name: float(scoring.measure(name, found)[0]) for name in order if name in found.statistics}
    # A mean over nothing, such as the bits a byte of empty texts, is no score.
    names = [name for name, value in points.items() if np.isfinite(value)]
    if not names:
        raise NotEnoughData("the test records are empty, so that nothing can be scored; give others")
    draws = scoring.resampled(
        lambda weights: np.column_stack([scoring.measure(name, found, weights) for name in names]),
        texts,
        trials,
        seed=seed,
    )
    result = []
    for column, name in enumerate(names):
        value, drawn = points[name], draws[:, column]
        low, high = scoring.interval(drawn[np.isfinite(drawn)])
        levels = {
            kind: float(scoring.measure(name, other)[0])
            for kind, other in others.items()
            if name in other.statistics
        }
        floor = levels.get("chance")
        signature = "|".join((name, *_made(name, references)))
        result.append(
            Score(
                name=name,
                settings={"chance": chance, "trials": trials},
                signature=f"{signature}|chance:{chance}|trials:{trials}|trainer:{maker}",
                value=value,
                interval=(low, high),
                chance=floor,
                lookup=levels.get("lookup"),
                best=None,
                n=len(found),
                by={},
                note="" if floor is None else _against_chance(value, low, high, floor, scoring.METRICS[name]),
            )
        )
    return tuple(result)


def _made(name: str, references: Sequence[str]) -> tuple[str, ...]:
    """How a score of texts is made, for its signature."""
    if name == "embedding_cosine":
        return (f"encoder:{similarity.ENCODER}",)
    if name not in written.MORE_IS_BETTER:
        return ()
    return (written.signature(name, references).removeprefix(f"{name}|"),)


def _constant_tags(answers: Tagged) -> Tally:
    """Return the most that can be had, by each score, from one answer to all: without reading a record.

    Micro-F1 by the commonest labels, as many as serve it best; macro-F1 by saying each label always;
    subset accuracy by the commonest set of labels; log loss by the share of each label.
    """
    gold = answers.gold or ()
    counts = Counter(name for row in gold for name in set(row))
    names = tuple(sorted({*answers.classes, *counts}))
    ranked = sorted(counts, key=lambda name: (-counts[name], name))

    def said(labels: Sequence[str]) -> Tally:
        row = np.array([float(name in labels) for name in names])
        return _tally(
            replace(answers, classes=names, probabilities=np.tile(row, (len(gold), 1)), threshold=0.5)
        )

    best = max(
        (said(ranked[: i + 1]) for i in range(min(len(ranked), _MOST_SETS))),
        key=lambda tally: float(scoring.measure("micro_f1", tally)[0]),
        default=said(()),
    )
    common = Counter(tuple(sorted(set(row))) for row in gold)
    most = min(common, key=lambda row: (-common[row], row))
    shares = np.array([counts[name] / len(gold) for name in names])
    prior = replace(answers, classes=names, probabilities=np.tile(shares, (len(gold), 1)))
    return Tally(
        {
            "micro_f1": best.statistics["micro_f1"],
            "macro_f1": said(names).statistics["macro_f1"],
            "subset_accuracy": said(most).statistics["subset_accuracy"],
            "log_loss": _tally(prior).statistics["log_loss"],
        }
    )


def _known_tags(answers: Tagged, train: Records, test: Records, field: str) -> Tally:
    """Answer with the labels of the same text in training, else with none."""
    given = ({str(name) for name in row} for row in train.column(field))
    table = dict(zip(map(normalised, inputs(train)), given))
    said = [table.get(normalised(text), set()) for text in inputs(test)]
    names = tuple(sorted({*answers.classes, *(name for row in said for name in row)}))
    hits = np.array([[float(name in row) for name in names] for row in said]).reshape(len(said), len(names))
    found = _tally(replace(answers, classes=names, probabilities=hits, threshold=0.5))
    # a table knows no probabilities, so there is no log loss to set beside
    return Tally({name: rows for name, rows in found.statistics.items() if name != "log_loss"})


def _known_targets(answers: Written, train: Records) -> Written:
    """Answer with the target of the same source in training, else with nothing."""
    table = dict(zip((normalised(text) for text in inputs(train)), _targets(train)))
    said = tuple(table.get(normalised(text), "") for text in answers.sources or ())
    return replace(answers, texts=said or ("",) * len(answers.ids))


def _targets(records: Records) -> list[str]:
    name = "target" if records.datatype == "translation" else "completion"
    return [str(text) for text in records.column(name)]


def _byte_model(answers: Weighed, train: Records, test: Records) -> Weighed:
    """Weigh each record by how frequent its bytes and ends are in training, add-one."""
    end = 256
    counts = np.ones(end + 1)
    counts[end] += len(train)
    for text in train.texts():
        counts[:end] += np.bincount(_bytes(text), minlength=end)
    cost = -np.log(counts / counts.sum())
    surprise = np.array([cost[_bytes(text)].sum() + cost[end] for text in test.texts()])
    return replace(answers, surprise=surprise)


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)


def lookup_table(train: Records, test: Records) -> tuple[str, ...]:
    """Return what a table of the training texts answers: the label of the same text, else the commonest."""
    labels = gold_labels(train)
    common = most_common(labels)
    tables: list[dict[str, Counter[str]]] = [{}, {}]
    for text, label in zip(inputs(train), labels):
        for table, key in zip(tables, (text, normalised(text))):
            table.setdefault(key, Counter())[label] += 1
    answers = []
    for text in inputs(test):
        hit = tables[0].get(text) or tables[1].get(normalised(text))
        answers.append(most_common(hit.elements()) if hit else common)
    return tuple(answers)


def most_common(labels: Any) -> str:
    """Return the most common label; of equally common ones the first by name."""
    counts = Counter(labels)
    return str(min(counts, key=lambda name: (-counts[name], name)))


def _labels(
    predictions: Predictions, train: Records, test: Records, *, maker: str, trials: int, seed: int
) -> tuple[Score, ...]:
    """Return macro-F1, accuracy, log loss and the F1 of each label."""
    labels, gold = gold_labels(train), gold_labels(test, "test")
    classes = tuple(sorted({*gold, *labels, *predictions.classes}))
    found = scoring.labelled(predictions, gold, classes)
    names = scoring.OF_KIND["labels"]

    def both(weights: scoring.Weights) -> scoring.Floats:
        main = [scoring.measure(name, found, weights) for name in names]
        return np.column_stack([*main, scoring.f1_by_label(found, weights)[0]])

    draws = scoring.resampled(both, inputs(test), trials, seed=seed)
    shares = {name: count / len(labels) for name, count in Counter(labels).items()}
    common = scoring.constant(gold, most_common(labels), classes)
    table = Outcome(classes, found.gold, codes(lookup_table(train, test), classes))
    guesses = scoring.random_f1(gold, shares, classes)
    present = scoring.f1_by_label(found)[1][0]
    highest = scoring.ceiling(inputs(test), gold)
    constant_f1, random_f1 = float(scoring.measure("macro_f1", common)[0]), float(guesses[present].mean())
    chance = {
        "accuracy": (float(scoring.measure("accuracy", common)[0]), "constant"),
        "macro_f1": max((constant_f1, "constant"), (random_f1, "random")),
        "log_loss": (_prior_loss(gold, shares), "label shares"),
    }
    result = []
    for column, name in enumerate(names):
        value = float(scoring.measure(name, found)[0])
        low, high = scoring.interval(draws[:, column])
        floor, kind = chance[name]
        result.append(
            Score(
                name=name,
                settings={"chance": kind, "trials": trials},
                signature=f"{name}|chance:{kind}|trials:{trials}|trainer:{maker}",
                value=value,
                interval=(low, high),
                chance=floor,
                lookup=None if name == "log_loss" else float(scoring.measure(name, table)[0]),
                best=highest if name == "accuracy" else None,
                n=len(gold),
                by={},
                note=_against_chance(value, low, high, floor, scoring.METRICS[name]),
            )
        )
    point = scoring.f1_by_label(found)[0][0]
    beside = scoring.f1_by_label(table)[0][0]
    for i, name in enumerate(classes):
        if not present[i]:
            continue
        low, high = scoring.interval(draws[:, len(names) + i])
        support = int((found.gold == i).sum())
        result.append(
            Score(
                name="f1",
                settings={"chance": "random", "trials": trials},
                signature=f"f1|label:{name}|chance:random|trials:{trials}|trainer:{maker}",
                value=float(point[i]),
                interval=(low, high),
                chance=float(guesses[i]),
                lookup=float(beside[i]),
                best=None,
                n=support,
                by={"label": name},
                note=_label_note(name, shares, float(point[i])),
            )
        )
    return tuple(result)


def _label_note(name: str, shares: dict[str, float], value: float) -> str:
    if name not in shares:
        return "no training record has this label"
    return "no hit, so that resampling cannot widen the interval" if value == 0 else ""


def _prior_loss(gold: Sequence[str], shares: dict[str, float]) -> float:
    """Return the log loss of giving each record the label shares of the training data."""
    given = np.array([shares.get(label, 0.0) for label in gold])
    return float(-np.log(np.clip(given, LEAST_PROBABILITY, 1.0)).mean())


def _against_chance(value: float, low: float, high: float, chance: float, more_is_better: bool) -> str:
    if low <= chance <= high:
        return "not told apart from chance"
    return "" if (value > chance) is more_is_better else "worse than chance"
