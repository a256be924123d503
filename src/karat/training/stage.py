"""Trains one model, scores it on test records and guards against leaks. Knows no trainer by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karat import registry
from karat.blocks import Block, Chart, Column, Example, Examples, Headline, Line, Note, Section, Table
from karat.errors import BadSetting, InputError, NotEnoughData, did_you_mean
from karat.generation.saved_models import check_saves, save_model
from karat.records import Records
from karat.training import scores as scoring
from karat.training.annotators import answered
from karat.training.base import (
    Answers,
    Floats,
    Kind,
    Predictions,
    Progress,
    Tagged,
    Written,
    gold_labels,
    inputs,
    kind_of,
)
from karat.training.leakage import Leakage, guard
from karat.training.rating import kind_of_answers, rate
from karat.training.rating import lookup_table as lookup_table
from karat.training.rating import most_common as most_common
from karat.training.scores import Score
from karat.training.tallies import Tally, finish
from karat.training.written import signature

LABELLED = ("classification", "text", "annotation")
"""the data types of a trainer that names none: labelled texts"""


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
    """what the model was given; for likelihoods and labels the record itself"""
    gold: str
    """the right label, labels or text; empty for likelihoods"""
    predicted: str
    probability: float | None
    """of what was predicted; None where the model gives none"""
    gold_probability: float
    """of the right answer; of texts and likelihoods the mean of a token, or chrF / 100 where there is none"""
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
    kind: Kind = "labels"
    """what the model was asked for"""

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
        """Return the n records whose right answer got the least probability, or the least likely ones."""
        return tuple(sorted(self.predictions, key=lambda p: (p.gold_probability, p.id))[:n])

    def why(self, id: str) -> str:
        """Say in one sentence what the model made of one test record."""
        for p in self.predictions:
            if p.id == id:
                break
        else:
            ids = [p.id for p in self.predictions]
            raise InputError(f"no test record {id!r}{did_you_mean(id, ids)}")
        if self.kind == "likelihoods":
            return f"{id}: each of its tokens has a probability of {p.gold_probability:.3g} (geometric mean)"
        if p.probability is None:
            what = "right labels are" if self.kind == "tags" else "reference is"
            right = ", which is right" if p.gold == p.predicted else f"; the {what} {p.gold!r}"
            return f"{id}: to {p.text!r} the model says {p.predicted!r}{right}"
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
        top = next((s for s in main if s.name == "macro_f1" and self.kind == "labels"), main[0])
        blocks: list[Block] = [
            Headline(
                f"{top.value:.3f}",
                f"{_NAMES.get(top.name, top.name)} on the test records",
                f"{top.interval[0]:.3f} to {top.interval[1]:.3f}; by chance {_figure(top.chance)}; "
                f"trained on {self.trained_on:,} records",
            ),
            _score_table(main, "Scores", "name"),
        ]
        if labels:
            blocks.append(_score_table(labels, "F1 of each label", "label"))
            blocks.append(_label_chart(labels, top))
        blocks += [Note(w.message, "warning") for w in self.warnings]
        weighed = self.kind == "likelihoods"
        mistakes = [p for p in self.worst(20) if weighed or p.gold != p.predicted]
        if mistakes:
            kind, title = "mistakes", "What the model gets most wrong"
            if weighed:
                kind, title = "unlikely", "What the model finds least likely"
            rows = tuple(
                Example(kind, p.text, _shown(p, self.kind), p.id, _mistake(p, self.kind)) for p in mistakes
            )
            blocks.append(Examples(rows, title, "Often the records are wrong."))
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
    save: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train one model and score it beside chance and a look-up table.

    trainer: the trainer by name and settings, for example linear:C=1.
    seed: for trainers that draw at random, and for resampling.
    allow_leakage: train although training records stand in the test data, and say so.
    drop_leaks: leave training records out that stand in the test data.
    trials: how often the test records are resampled for the 95 % intervals.
    save: folder for the model; one that writes then answers as --provider trained:path=FOLDER.
    Raises LeakageError when records stand in both and neither was chosen.
    """
    maker = registry.make("trainers", trainer)
    if trials < 10:
        raise BadSetting(f"trials is {trials}, but an interval needs at least 10; 1000 is the default")
    if save is not None:
        check_saves(maker, save)
    check(train, test, maker)
    asked, test = len(test), _answered(test)
    train, leakage = guard(train, test, allow_leakage=allow_leakage, drop_leaks=drop_leaks)
    if progress:
        progress("train", 0, 2)
    model = maker.fit(train, seed=seed, progress=progress)
    if save is not None:  # before it is scored: what scoring meets must not cost a training
        save_model(model, maker, save)
    if progress:
        progress("train", 1, 2)
    answers = model.predict(test)
    made = registry.signature(maker, seed=seed, train=train.fingerprint[:8], test=test.fingerprint[:8])
    found = rate(answers, train, test, maker=made, trials=trials, seed=seed, tags=getattr(maker, "tags", ""))
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
        predictions=_rows(answers, test, model),
        warnings=tuple(_warnings(leakage, train, test, asked, found)),
        kind=kind_of_answers(answers),
    )


def check(train: Records, test: Records, maker: Any) -> None:
    """Raise InputError or BadSetting where a trainer cannot be trained on, or scored by, such records."""
    types, tags = getattr(maker, "types", LABELLED), getattr(maker, "tags", "")
    for records, what in ((train, "training"), (test, "test")):
        if not len(records):
            raise NotEnoughData(f"{records.path}: no {what} records are left; give more, or drop fewer")
        if records.datatype not in types:
            raise BadSetting(
                f"trainer {registry.name_of(maker)!r} takes {' or '.join(types)} records, but {records.path} "
                f"holds {records.datatype} records; choose another trainer (see: karat list trainers)"
            )
        if tags:
            _check_tags(records, tags, what)
            continue
        # A test of labels needs a model that has learned some.
        if "labels" in (kind_of(records), kind_of(test)) or types == LABELLED:
            gold_labels(records, what)
    if kind_of(test) == "texts":
        signature("bleu", ())  # raises before the training where the library of the scores is missing


def _check_tags(records: Records, field: str, what: str) -> None:
    """Raise InputError where a record has no list of labels in the field; an empty list is one."""
    for identity, given in zip(records.ids, records.column(field)):
        if given is None:
            raise InputError(
                f"{records.path}: record {identity!r} has no {field!r}, which {what} needs; "
                "write an empty list where no label is right, or leave the record out"
            )


def _answered(test: Records) -> Records:
    """Leave annotators' empty answers out, against which nothing can be scored."""
    return answered(test, "test") if test.datatype == "annotation" else test


def _warnings(
    leakage: Leakage, train: Records, test: Records, asked: int, found: Sequence[Score]
) -> list[Warned]:
    result = []
    if asked > len(test):
        result.append(
            Warned(
                "unanswered",
                f"{asked - len(test):,} of {asked:,} test records have an empty label of their annotator and "
                "were left out",
            )
        )
    if test.datatype == "instruction" and "embedding_cosine" not in {score.name for score in found}:
        result.append(
            Warned(
                "no_encoder",
                "embedding_cosine is left out, since the sentence encoder minilm is not installed here",
            )
        )
    result += [Warned("leakage", message, ids) for message, ids in leakage.told("training")]
    if len(test) < 100:
        result.append(
            Warned("too_few_records", f"{len(test)} test records give wide intervals; 1,000 would be better")
        )
    labelled = kind_of(test) == "labels" and any(score.name == "accuracy" for score in found)
    return [*result, *_label_warnings(train, test)] if labelled else result


def _label_warnings(train: Records, test: Records) -> list[Warned]:
    result = []
    labels, gold = gold_labels(train), gold_labels(test, "test")
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
    if not any(text.strip() for text in inputs(train)):
        result.append(Warned("degenerate_source", "all training texts are empty; nothing can be learnt"))
    if len(known) == 1:
        result.append(
            Warned(
                "degenerate_source",
                f"all training records have the label {next(iter(known))!r}; nothing can be learnt",
            )
        )
    return result


def _rows(answers: Answers, test: Records, model: Any) -> tuple[Predicted, ...]:
    """Return what the model said of each record."""
    given = inputs(test)
    if isinstance(answers, Predictions):
        return _labelled_rows(answers, gold_labels(test, "test"), given, model)
    if isinstance(answers, Tagged):
        gold = answers.gold or ((),) * len(given)
        chances = _tag_chances(answers)
        named = zip(answers.ids, given, gold, answers.labels, chances)
        return tuple(
            Predicted(i, text, ", ".join(right), ", ".join(said), None, chance)
            for i, text, right, said, chance in named
        )
    if isinstance(answers, Written):
        right = answers.references or ("",) * len(given)
        each = rightness(answers).tolist()
        return tuple(
            Predicted(i, text, reference, said, None, how)
            for i, text, reference, said, how in zip(answers.ids, given, right, answers.texts, each)
        )
    each = np.exp(-answers.surprise / np.maximum(answers.tokens, 1)).tolist()
    return tuple(Predicted(i, text, "", "", None, how) for i, text, how in zip(answers.ids, given, each))


def _tag_chances(answers: Tagged) -> list[float]:
    """Return for each record the geometric mean, over labels, of what was given to the right verdict."""
    place = {name: i for i, name in enumerate(answers.classes)}
    found = []
    for row, gold in zip(answers.probabilities, answers.gold or ((),) * len(answers.ids)):
        true = np.zeros(len(row), np.bool_)
        true[[place[name] for name in gold if name in place]] = True
        found.append(float(np.exp(np.log(np.clip(np.where(true, row, 1 - row), 1e-12, 1)).mean())))
    return found


def rightness(answers: Written) -> Floats:
    """Return how right each written text is: the chance of its reference a token, else chrF / 100."""
    if answers.surprise is not None and answers.tokens is not None:
        return np.asarray(np.exp(-answers.surprise / np.maximum(answers.tokens, 1)))
    found = scoring.outcome(answers)
    assert isinstance(found, Tally)
    return np.asarray(finish("chrf", found.statistics["chrf"]) / 100)


def _labelled_rows(
    predictions: Predictions, gold: Sequence[str], texts: Sequence[str], model: Any
) -> tuple[Predicted, ...]:
    place = {name: i for i, name in enumerate(predictions.classes)}
    columns = [place.get(label, -1) for label in gold]
    rows = []
    for i, (identity, text, label, said) in enumerate(zip(predictions.ids, texts, gold, predictions.labels)):
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


def _shown(found: Predicted, kind: Kind) -> str:
    return "" if kind == "texts" else found.gold


def _mistake(found: Predicted, kind: Kind) -> str:
    if kind == "likelihoods":
        return f"{found.gold_probability:.3g} a token"
    if kind == "texts":
        return f"the model says {found.predicted!r}; the reference says {found.gold!r}"
    if found.probability is None:
        return f"the model says {found.predicted!r}"
    return f"taken for {found.predicted}, {found.probability:.2f}"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


_NAMES = {
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
}
_HELP = {
    "accuracy": "Share of test records whose label is predicted. Chance: always the commonest label.",
    "macro_f1": "F1 of each label, then their plain mean, so that rare labels count as much as common ones.",
    "log_loss": "Mean of -ln of the probability given to the right label; less is better.",
    "micro_f1": "F1 over all labels of all records together.",
    "subset_accuracy": "Share of test records of which all labels are right and none is missing.",
    "bleu": "n-grams shared with the references of the whole test set, 0 to 100. Chance: the source.",
    "chrf": "F-score of character n-grams shared with the references, 0 to 100. Chance: the source.",
    "rouge_l": "F-score of the longest common word sequence, mean over records.",
    "embedding_cosine": "Cosine of sentence embeddings of text and reference, mean over records.",
    "exact_match": "Share of texts that are the reference.",
    "perplexity": "Inverse probability of a token; models with other tokens do not compare. Less is better.",
    "bits_per_byte": "Bits that a byte of test text costs. Chance: bytes by their frequency. Less is better.",
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
