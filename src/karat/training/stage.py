"""Trains one model, scores it on test records and guards against leaks. Knows no trainer by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from karat import registry
from karat.blocks import Block, Chart, Column, Example, Examples, Headline, Line, Note, Section, Table
from karat.curation.base import normalised
from karat.errors import BadSetting, InputError, did_you_mean
from karat.records import Records
from karat.training import scores as scoring
from karat.training.base import Predictions, Progress, codes, gold_labels
from karat.training.leakage import Leakage, guard
from karat.training.scores import Outcome, Score


@dataclass(frozen=True)
class Warned:
    """A warning with a stable code and the records it is about."""

    code: str
    message: str
    records: tuple[str, ...] = ()


@dataclass(frozen=True)
class Predicted:
    """What the model said of one test record."""

    id: str
    text: str
    gold: str
    predicted: str
    probability: float
    gold_probability: float
    telling: tuple[tuple[str, float], ...] = ()
    """for the worst mistakes, if the model can tell: the n-grams that spoke most for the answer"""


@dataclass(frozen=True)
class Trained:
    """The scores and predictions of one model."""

    trainer: str
    signature: str
    trained_on: int
    tested_on: int
    seed: int
    scores: tuple[Score, ...]
    leakage: Leakage
    predictions: tuple[Predicted, ...]
    warnings: tuple[Warned, ...] = ()

    def score(self, name: str, **by: str) -> Score:
        """Return one score by name: `score("macro_f1")`, `score("f1", label="spam")`."""
        for found in self.scores:
            if found.name == name and found.by == by:
                return found
        known = {found.name for found in self.scores}
        raise BadSetting(
            f"no score {name!r} {by or ''}{did_you_mean(name, known)} (there are: {', '.join(sorted(known))})"
        )

    def worst(self, n: int = 5) -> tuple[Predicted, ...]:
        """Return the n records whose gold label got the least probability."""
        return tuple(sorted(self.predictions, key=lambda p: (p.gold_probability, p.id))[:n])

    def why(self, id: str) -> str:
        """Say in one sentence what the model made of one test record."""
        for p in self.predictions:
            if p.id == id:
                break
        else:
            ids = [p.id for p in self.predictions]
            raise InputError(f"no test record {id!r}{did_you_mean(id, ids)}")
        if p.gold == p.predicted:
            return f"{id}: the model says {p.predicted!r} with {p.probability:.2f}, which is right"
        spoke = ", ".join(repr(name) for name, _ in p.telling)
        because = f"; what spoke most for it: {spoke}" if spoke else ""
        return (
            f"{id}: the model says {p.predicted!r} with {p.probability:.2f} "
            f"and gives {p.gold_probability:.2f} to {p.gold!r}, which is right{because}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `karat train --json` prints."""
        return {
            "trainer": self.trainer,
            "signature": self.signature,
            "scores": [found.to_json() for found in self.scores],
            "trained_on": self.trained_on,
            "tested_on": self.tested_on,
            "leakage": self.leakage.to_json(),
            "warnings": [
                {"code": w.code, "message": w.message, "records": list(w.records[:20])} for w in self.warnings
            ],
        }

    def __str__(self) -> str:
        lines = [f"{self.trainer} trained on {self.trained_on:,} records, tested on {self.tested_on:,}"]
        for s in self.scores:
            name = s.name if not s.by else f"  f1 {s.by['label']}"
            chance = "" if s.chance is None else f"  chance {s.chance:.3f}"
            lines.append(f"{name:<24} {s.value:.3f} [{s.interval[0]:.3f}, {s.interval[1]:.3f}]{chance}")
        return "\n".join([*lines, *(f"warning {w.code}: {w.message}" for w in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the scores, the labels and the worst mistakes as blocks."""
        main, labels = [s for s in self.scores if not s.by], [s for s in self.scores if s.by]
        top = self.score("macro_f1")
        blocks: list[Block] = [
            Headline(
                f"{top.value:.3f}",
                "macro-F1 on the test records",
                f"{top.interval[0]:.3f} to {top.interval[1]:.3f}; by chance {_figure(top.chance)}; "
                f"trained on {self.trained_on:,} records",
            ),
            _score_table(main, "Scores", "name"),
        ]
        if labels:
            blocks.append(_score_table(labels, "F1 of each label", "label"))
            blocks.append(_label_chart(labels, top))
        blocks += [Note(w.message, "warning") for w in self.warnings]
        mistakes = [p for p in self.worst(20) if p.gold != p.predicted]
        if mistakes:
            rows = tuple(
                Example(
                    "mistakes",
                    p.text,
                    label=p.gold,
                    id=p.id,
                    reason=f"taken for {p.predicted}, {p.probability:.2f}",
                )
                for p in mistakes
            )
            blocks.append(Examples(rows, "What the model gets most wrong", "Often these are wrong labels."))
        return (Section(f"A model trained on {self.trained_on:,} records", tuple(blocks), id="train"),)


def train(
    train: Records,
    test: Records,
    *,
    trainer: Any = "linear",
    seed: int = 0,
    allow_leakage: bool = False,
    drop_leaks: bool = False,
    trials: int = 1000,
    progress: Progress | None = None,
) -> Trained:
    """Train one model and score it beside chance and a look-up table.

    trainer: the trainer by name and settings, for example linear:C=1.
    seed: for trainers that draw at random, and for resampling.
    allow_leakage: train although training records stand in the test data, and say so.
    drop_leaks: leave training records out that stand in the test data.
    trials: how often the test records are resampled for the 95 % intervals.
    Raises LeakageError when records stand in both and neither was chosen.
    """
    maker = registry.make("trainers", trainer)
    if trials < 10:
        raise BadSetting(f"trials is {trials}, but an interval needs at least 10; 1000 is the default")
    gold_labels(train), gold_labels(test, "test")
    train, leakage = guard(train, test, allow_leakage=allow_leakage, drop_leaks=drop_leaks)
    labels, gold = gold_labels(train), gold_labels(test, "test")
    if progress:
        progress("train", 0, 2)
    model = maker.fit(train, seed=seed, progress=progress)
    if progress:
        progress("train", 1, 2)
    predictions = model.predict(test)
    made = registry.signature(maker, seed=seed, train=train.fingerprint[:8], test=test.fingerprint[:8])
    found = _scores(predictions, gold, labels, train, test, maker=made, trials=trials, seed=seed)
    if progress:
        progress("train", 2, 2)
    return Trained(
        trainer=registry.spec_of(maker),
        signature=made,
        trained_on=len(train),
        tested_on=len(test),
        seed=seed,
        scores=found,
        leakage=leakage,
        predictions=_rows(predictions, gold, test, model),
        warnings=tuple(_warnings(leakage, labels, gold, test, found)),
    )


def lookup_table(train: Records, test: Records) -> tuple[str, ...]:
    """Return what a table of the training texts answers: the label of the same text, else the commonest."""
    labels = gold_labels(train)
    common = most_common(labels)
    tables: list[dict[str, Counter[str]]] = [{}, {}]
    for text, label in zip(train.texts(), labels):
        for table, key in zip(tables, (text, normalised(text))):
            table.setdefault(key, Counter())[label] += 1
    answers = []
    for text in test.texts():
        hit = tables[0].get(text) or tables[1].get(normalised(text))
        answers.append(most_common(hit.elements()) if hit else common)
    return tuple(answers)


def most_common(labels: Any) -> str:
    """Return the most common label; of equally common ones the first by name."""
    counts = Counter(labels)
    return str(min(counts, key=lambda name: (-counts[name], name)))


def _scores(
    predictions: Predictions,
    gold: Sequence[str],
    labels: Sequence[str],
    train: Records,
    test: Records,
    *,
    maker: str,
    trials: int,
    seed: int,
) -> tuple[Score, ...]:
    """Return accuracy, macro-F1, log loss and the F1 of each label."""
    classes = tuple(sorted({*gold, *labels, *predictions.classes}))
    found = scoring.outcome(predictions, gold, classes)

    def both(weights: scoring.Weights) -> scoring.Floats:
        main = [scoring.measure(name, found, weights) for name in scoring.METRICS]
        return np.column_stack([*main, scoring.f1_by_label(found, weights)[0]])

    draws = scoring.resampled(both, test.texts(), trials, seed=seed)
    shares = {name: count / len(labels) for name, count in Counter(labels).items()}
    common = scoring.constant(gold, most_common(labels), classes)
    table = Outcome(classes, found.gold, codes(lookup_table(train, test), classes))
    guesses = scoring.random_f1(gold, shares, classes)
    present = scoring.f1_by_label(found)[1][0]
    highest = scoring.ceiling(test.texts(), gold)
    constant_f1, random_f1 = float(scoring.measure("macro_f1", common)[0]), float(guesses[present].mean())
    chance = {
        "accuracy": (float(scoring.measure("accuracy", common)[0]), "constant"),
        "macro_f1": max((constant_f1, "constant"), (random_f1, "random")),
        "log_loss": (_prior_loss(gold, shares), "label shares"),
    }
    result = []
    for column, name in enumerate(scoring.METRICS):
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
        low, high = scoring.interval(draws[:, len(scoring.METRICS) + i])
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
    return float(-np.log(np.clip(given, scoring.LEAST_PROBABILITY, 1.0)).mean())


def _against_chance(value: float, low: float, high: float, chance: float, more_is_better: bool) -> str:
    if low <= chance <= high:
        return "not told apart from chance"
    return "" if (value > chance) is more_is_better else "worse than chance"


def _warnings(
    leakage: Leakage, labels: Sequence[str], gold: Sequence[str], test: Records, found: Sequence[Score]
) -> list[Warned]:
    result = []
    if leakage.allowed:
        result.append(
            Warned(
                "leakage",
                f"{leakage.normalised:,} training records stand in the test data "
                f"({leakage.test_share:.1%} of it), so the scores measure memory too",
                leakage.train,
            )
        )
    if leakage.dropped:
        result.append(
            Warned(
                "leakage",
                f"{leakage.dropped:,} training records stand in the test data and were left out of training",
                leakage.train,
            )
        )
    known = set(labels)
    strange = [identity for identity, label in zip(test.ids, gold) if label not in known]
    if strange:
        names = ", ".join(sorted({label for label in gold if label not in known})[:5])
        result.append(
            Warned(
                "unseen_labels",
                f"{len(strange):,} test records have a label no training record has: {names}",
                tuple(strange),
            )
        )
    if len(known) == 1:
        result.append(
            Warned(
                "degenerate_source",
                f"all training records have the label {next(iter(known))!r}; nothing can be learnt",
            )
        )
    if len(gold) < 100:
        result.append(
            Warned("too_few_records", f"{len(gold)} test records give wide intervals; 1,000 would be better")
        )
    return result


def _rows(predictions: Predictions, gold: Sequence[str], test: Records, model: Any) -> tuple[Predicted, ...]:
    place = {name: i for i, name in enumerate(predictions.classes)}
    columns = [place.get(label, -1) for label in gold]
    rows = []
    for i, (identity, text, label, said) in enumerate(
        zip(predictions.ids, test.texts(), gold, predictions.labels)
    ):
        chances = predictions.probabilities[i]
        right = float(chances[columns[i]]) if columns[i] >= 0 else 0.0
        rows.append(Predicted(identity, text, label, said, float(chances.max()), right))
    if not hasattr(model, "telling"):
        return tuple(rows)
    worst = sorted(
        (i for i, row in enumerate(rows) if row.gold != row.predicted), key=lambda i: rows[i].gold_probability
    )
    for i in worst[:20]:
        row = rows[i]
        told = tuple(model.telling(row.text, row.predicted))
        rows[i] = Predicted(
            row.id, row.text, row.gold, row.predicted, row.probability, row.gold_probability, told
        )
    return tuple(rows)


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


_HELP = {
    "accuracy": "Share of test records whose label is predicted. Chance: always the commonest label.",
    "macro_f1": "F1 of each label, then their plain mean, so that rare labels count as much as common ones.",
    "log_loss": "Mean of -ln of the probability given to the right label; less is better.",
}


def _score_table(found: Sequence[Score], title: str, first: str) -> Table:
    rows: list[dict[str, Any]] = []
    for s in found:
        row = {
            "name": s.by.get("label", s.name),
            "value": s.value,
            "interval": list(s.interval),
            "chance": s.chance,
        }
        row |= {"lookup": s.lookup, "best": s.best, "n": s.n}
        row |= {"_signature": s.signature, "_note": s.note, "_help": _HELP.get(s.name, "")}
        rows.append(row)
    return Table(
        (
            Column("name", "label" if first == "label" else "score"),
            Column("value", "value", "number"),
            Column("interval", "95 % interval", "interval"),
            Column("chance", "by chance", "number", "what guessing without reading the text gets"),
            Column(
                "lookup",
                "look-up table",
                "number",
                "what a table of the training texts gets; high means leakage",
            ),
            Column(
                "best", "at best", "number", "what no model can exceed, because equal texts have two labels"
            ),
            Column("n", "test records", "number"),
        ),
        tuple(rows),
        title=title,
    )


def _label_chart(labels: Sequence[Score], top: Score) -> Chart:
    rows = tuple(
        {"label": s.by["label"], "f1": s.value, "low": s.interval[0], "high": s.interval[1]}
        for s in sorted(labels, key=lambda s: -s.value)[:30]
    )
    return Chart(
        "bar",
        rows,
        "label",
        "f1",
        low="low",
        high="high",
        title="F1 of each label",
        y_title="F1",
        lines=(Line(top.value, "macro-F1"),),
    )
