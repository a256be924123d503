"""The scores of a model's answers beside chance, a look-up table and what could be had. Knows no trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from karat.curation.base import normalised
from karat.records import Records
from karat.training import scores as scoring
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


def rate(
    answers: Answers, train: Records, test: Records, *, maker: str, trials: int, seed: int
) -> tuple[Score, ...]:
    """Return the scores of answers to the test records, the deciding one first.

    maker: the signature of the trainer; trials: how often the test records are resampled.
    """
    if isinstance(answers, Predictions):
        return _labels(answers, train, test, maker=maker, trials=trials, seed=seed)
    gold, chance, beside = baselines(answers, train, test)
    costly = ("embedding_cosine",) if test.datatype == "instruction" else ()
    found = _tally(answers, gold, costly)
    others = {name: _tally(said, gold, costly) for name, said in beside.items()}
    return _summed(
        found,
        others,
        chance,
        inputs(test),
        _order(answers, test),
        maker=maker,
        trials=trials,
        seed=seed,
    )


def baselines(
    answers: Tagged | Written | Weighed, train: Records, test: Records
) -> tuple[Sequence[Any], str, dict[str, Answers]]:
    """Return the gold of answers, what chance is here, and the answers of chance and of a look-up table."""
    if isinstance(answers, Tagged):
        return answers.gold or (), "constant", {"chance": _common_tags(answers)}
    if isinstance(answers, Written):
        # neither can weigh a reference, so there is no perplexity to set beside
        plain = replace(answers, surprise=None, tokens=None)
        copied = replace(plain, texts=answers.sources or ("",) * len(answers.ids))
        return (), "copy of the source", {"chance": copied, "lookup": _known_targets(plain, train)}
    return (), "byte frequencies", {"chance": _byte_model(answers, train, test)}


def _tally(answers: Answers, gold: Sequence[Any], costly: Sequence[str]) -> Tally:
    found = scoring.outcome(answers, gold, metrics=costly)
    assert isinstance(found, Tally)
    return found


def _order(answers: Answers, test: Records) -> tuple[str, ...]:
    """The scores in the order of their importance for such records."""
    kind: Kind = (
        "tags" if isinstance(answers, Tagged) else "texts" if isinstance(answers, Written) else "likelihoods"
    )
    first = scoring.default_metric(kind, test.datatype)
    return (first, *(name for name in scoring.OF_KIND[kind] if name != first))


def _summed(
    found: Tally,
    others: Mapping[str, Tally],
    chance: str,
    texts: Sequence[str],
    order: Sequence[str],
    *,
    maker: str,
    trials: int,
    seed: int,
) -> tuple[Score, ...]:
    """Return the scores that are functions of sums, with intervals from common resamples."""
    names = [name for name in order if name in found.statistics]
    draws = scoring.resampled(
        lambda weights: np.column_stack([scoring.measure(name, found, weights) for name in names]),
        texts,
        trials,
        seed=seed,
    )
    from karat.training import written

    result = []
    for column, name in enumerate(names):
        value = float(scoring.measure(name, found)[0])
        low, high = scoring.interval(draws[:, column])
        levels = {
            kind: float(scoring.measure(name, other)[0])
            for kind, other in others.items()
            if name in other.statistics
        }
        floor = levels.get("chance")
        made = written.signature(name)
        signature = f"{name}|{made}|" if made else f"{name}|"
        result.append(
            Score(
                name=name,
                settings={"chance": chance, "trials": trials},
                signature=f"{signature}chance:{chance}|trials:{trials}|trainer:{maker}",
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


def _common_tags(answers: Tagged) -> Tagged:
    """Give each record how often each label is right: the most that can be said without reading."""
    gold = answers.gold or ()
    shares = np.array([np.mean([name in row for row in gold]) for name in answers.classes])
    return replace(answers, probabilities=np.tile(shares, (len(answers.ids), 1)))


def _known_targets(answers: Written, train: Records) -> Written:
    """Answer with the target of the same source in training, else with nothing."""
    table = dict(zip((normalised(text) for text in inputs(train)), _targets(train)))
    said = tuple(table.get(normalised(text), "") for text in answers.sources or ())
    return replace(answers, texts=said or ("",) * len(answers.ids))


def _targets(records: Records) -> list[str]:
    name = "target" if records.datatype == "translation" else "completion"
    return [str(text) for text in records.column(name)]


def _byte_model(answers: Weighed, train: Records, test: Records) -> Weighed:
    """Weigh each record by how frequent its bytes are in training, add-one; tokens are bytes."""
    counts = np.ones(256)
    for text in train.texts():
        counts += np.bincount(np.frombuffer(text.encode("utf-8", "replace"), np.uint8), minlength=256)
    cost = -np.log(counts / counts.sum())
    raw = [np.frombuffer(text.encode("utf-8", "replace"), np.uint8) for text in test.texts()]
    surprise = np.array([cost[one].sum() for one in raw])
    return replace(answers, surprise=surprise)


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
