"""Which sets are trained on, in what sizes, and how they score: human, synthetic, both. Knows no worth.

For each seed the records of a side are shuffled once, and a smaller set is the beginning of a larger one.
The shuffle is plain, not stratified by label: a small human set may lack a rare label, as in real life.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.errors import InputError, NotEnoughData
from karat.records import Records
from karat.training import grid as trainings
from karat.training import scores as scoring
from karat.training.base import (
    Answers,
    Indices,
    Kind,
    Predictions,
    Prepared,
    Progress,
    Tagged,
    Weighed,
    Written,
    gold_labels,
    inputs,
    kind_of,
    prepared,
)
from karat.training.rating import most_common
from karat.training.scores import Scored
from karat.training.tallies import Tally
from karat.valuation import comparing
from karat.valuation.cells import pack, unpack
from karat.valuation.sides import pooled

Floats = NDArray[np.float64]
Arm = Literal["human", "synthetic", "mixed"]

_STEPS = {"small": (1, 3), "medium": (1, 2, 3, 5), "large": (1, 1.5, 2, 3, 5, 7)}
SMALLEST = 10
ADDED_TO = {
    "small": (0, 100, 1000),
    "medium": (0, 100, 300, 1000, 3000, 10_000, 30_000),
    "large": (0, 30, 100, 300, 1000, 2000, 3000, 5000, 10_000, 30_000, 100_000),
}
"""numbers of human records that all synthetic ones are added to, by budget; the whole human set always too"""


@dataclass(frozen=True)
class Fit:
    """One model to train: `human` and `synthetic` records, drawn by one seed."""

    arm: Arm
    human: int
    synthetic: int
    seed: int


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What every model said of the test records, and what is said without any record (`nothing`)."""

    metric: str
    seeds: int
    said: dict[Fit, Scored] = field(repr=False)
    nothing: Scored = field(repr=False)
    guess: float | None = None
    """the score of guessing labels by their human shares, where that is something else"""
    failed: dict[Fit, str] = field(default_factory=dict)
    """why a model could not be trained"""

    def has(self, arm: Arm, human: int, synthetic: int) -> bool:
        """Tell whether the models of one size were trained with every seed."""
        return all(Fit(arm, human, synthetic, seed) in self.said for seed in range(self.seeds))

    def of(self, arm: Arm, human: int, synthetic: int) -> list[Scored]:
        """Return the outcomes of one size, a seed each."""
        return [self.said[Fit(arm, human, synthetic, seed)] for seed in range(self.seeds)]


def grid(total: int, budget: str, *, steps: str = "") -> tuple[int, ...]:
    """Return the sizes of a learning curve up to `total`: 10, 20, 30, 50, 100 ..., its half and itself."""
    found = {total, max(1, total // 2)}
    scale = SMALLEST
    while scale < total:
        found.update(int(step * scale) for step in _STEPS[steps or budget] if step * scale <= 0.85 * total)
        scale *= 10
    return tuple(sorted(found))


def plan(
    human: int,
    synthetic: int,
    *,
    seeds: int,
    sizes: Sequence[int],
    parts: Sequence[int],
    added_to: Sequence[int],
    shares: Sequence[int] = (),
) -> tuple[Fit, ...]:
    """Return all models to train: `sizes` of human, `parts` of synthetic, all synthetic `added_to` human.

    shares: numbers of synthetic records that are added to the same human ones, beside all of them.
    """
    found: dict[Fit, None] = {}
    for seed in range(seeds):
        for size in sorted({*sizes, *(n for n in added_to if n)}):
            found[Fit("human", size, 0, seed)] = None
        for part in parts:
            found[Fit("synthetic", 0, part, seed)] = None
        for size in added_to:
            for part in (*shares, synthetic) if size else ():
                found[Fit("mixed", size, part, seed)] = None
    assert all(fit.human <= human and fit.synthetic <= synthetic for fit in found)
    return tuple(found)


def run(
    fits: Sequence[Fit],
    human: Records,
    synthetic: Records,
    test: Records,
    *,
    trainer: Any,
    seeds: int,
    seed: int,
    metric: str = "",
    executor: Any = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Outcomes:
    """Train every model and return what it says of the test records; finished ones are kept in `cache`.

    metric: the score that decides; empty takes that of the kind of answers. A model that cannot be trained
    (too few records, for example) is noted as failed.
    """
    pool = pooled(human, synthetic, test)
    labelled = kind_of(pool) == "labels"
    shuffles = Shuffles(len(human), len(synthetic), seeds, seed)
    bench = Bench(
        prepared(trainer, pool, cache=cache),
        np.arange(len(human) + len(synthetic), len(pool)),
        shuffles,
        tuple(gold_labels(test, "test")) if labelled else (),
        tuple(sorted(set(gold_labels(pool)))) if labelled else (),
        test.datatype,
        metric,
    )
    once = bool(getattr(trainer, "deterministic", False))
    # Where seed and order do not matter, the whole of a side is one set, whatever the seed.
    twins = {fit: _first_twin(fit, len(human), len(synthetic)) if once else fit for fit in fits}
    todo = list(dict.fromkeys(twins.values()))
    made = registry.signature(trainer, metric=metric or "auto", seed=seed)
    print_ = f"{made}|{_print(human)}|{_print(synthetic)}|{_print(test)}"
    results = trainings.run(
        partial(train_one, bench),
        todo,
        key=lambda fit: f"{print_}|{fit.human}|{fit.synthetic}|{fit.seed}",
        weigh=lambda fit: 200.0 + fit.human + fit.synthetic,
        executor=executor,
        cache=cache,
        pack=_pack,
        unpack=_unpack,
        lenient=True,
        progress=progress,
        name="value",
    )
    found = dict(zip(todo, results))
    said: dict[Fit, Scored] = {}
    failed: dict[Fit, str] = {}
    for fit, twin in twins.items():
        result = found[twin]
        if isinstance(result, trainings.Failed):
            failed[fit] = result.reason
        else:
            said[fit] = result
    if not said:
        raise NotEnoughData(f"no model could be trained: {next(iter(failed.values()))}")
    first = next(iter(said.values()))
    decided = _metric(first, metric)
    nothing = _nothing(decided, bench, first, human, test)
    guess = _guess(nothing, bench, human) if decided == "macro_f1" else None
    return Outcomes(decided, seeds, said, nothing, guess, failed)


@dataclass(frozen=True, eq=False)
class Bench:
    """What all models share: the pool as the trainer reads it, and how answers are scored."""

    reader: Prepared
    test: Indices
    shuffles: Shuffles
    gold: tuple[str, ...]
    """of the test records; empty where records have no label"""
    classes: tuple[str, ...]
    datatype: str
    metric: str


def train_one(bench: Bench, fit: Fit) -> Scored:
    """Train one model and score what it says; runs in a worker."""
    rows = bench.shuffles.rows(fit)
    said: Answers = bench.reader.fit_predict(rows, bench.test, seed=bench.shuffles.seed + fit.seed)
    if isinstance(said, Predictions):
        _finite(said.probabilities)
        scoring.check_metric(bench.metric or "macro_f1", "labels")
        return scoring.outcome(said, bench.gold, bench.classes)
    kind: Kind = (
        "tags" if isinstance(said, Tagged) else "texts" if isinstance(said, Written) else "likelihoods"
    )
    name = bench.metric or scoring.default_metric(kind, bench.datatype)
    scoring.check_metric(name, kind)
    found = scoring.outcome(said, metrics=(name,))
    assert isinstance(found, Tally)
    _finite(found.statistics[name])
    return Tally({name: found.statistics[name]})  # a corpus has many statistics, and there are many models


def _finite(numbers: Floats) -> None:
    if not np.isfinite(numbers).all():
        raise InputError(
            "the model answers with NaN or infinity; lower its learning rate, or give it more records"
        )


def _metric(said: Scored, asked: str) -> str:
    return next(iter(said.statistics)) if isinstance(said, Tally) else asked or "macro_f1"


def _nothing(metric: str, bench: Bench, said: Scored, human: Records, test: Records) -> Scored:
    """Return what is said without any record.

    The most common human label, each equally likely; of several labels those that most human records have;
    the source itself; every byte equally likely.
    """
    if not isinstance(said, Tally):
        constant = scoring.constant(bench.gold, most_common(gold_labels(human)), bench.classes)
        return replace(constant, surprise=np.full(len(bench.gold), np.log(len(bench.classes))))
    ids = tuple(test.ids)
    answers: Answers
    if bench.gold:
        gold, known = _several(test), _several(human)
        classes = tuple(sorted({name for row in (*gold, *known) for name in row}))
        shares = np.array([np.mean([name in row for row in known]) for name in classes])
        answers = Tagged(ids, classes, np.tile(shares, (len(ids), 1)), gold)
    elif bench.datatype in ("translation", "instruction"):
        given = tuple(inputs(test))
        right = test.column("target" if bench.datatype == "translation" else "completion")
        answers = Written(ids, given, tuple(map(str, right)), given)
    else:
        sizes = np.array([len(text.encode("utf-8", "replace")) for text in test.texts()], dtype=np.int64)
        answers = Weighed(ids, sizes * np.log(256.0), sizes, sizes)
    return scoring.outcome(answers, metrics=(metric,))


def _guess(nothing: Scored, bench: Bench, human: Records) -> float | None:
    """Return the macro-F1 of labels drawn by the shares that they have among human records."""
    if isinstance(nothing, Tally):
        return None
    labels = gold_labels(human)
    shares = {name: count / len(labels) for name, count in Counter(labels).items()}
    drawn = np.isin(np.arange(len(bench.classes)), [bench.classes.index(name) for name in shares])
    f1 = scoring.random_f1(bench.gold, shares, bench.classes)
    return float(f1[drawn | np.isin(bench.classes, bench.gold)].mean())


def _several(records: Records) -> tuple[tuple[str, ...], ...]:
    """Return the labels of records that may have several."""
    first = gold_labels(records)
    rows = records.column("labels") if records.has("labels") else [None] * len(first)
    return tuple(tuple(map(str, row)) if row is not None else (label,) for row, label in zip(rows, first))


def _pack(found: Scored) -> dict[str, Any]:
    return pack([found])


def _unpack(packed: dict[str, Any]) -> Scored:
    return unpack(packed)[0]


def _print(records: Records) -> str:
    """Return what tells a set from every other one; ids too, since they turn pairs."""
    ids = hashlib.sha256("\0".join(records.ids).encode("utf-8", "replace")).hexdigest()[:12]
    return f"{records.fingerprint}:{ids}"


@dataclass(frozen=True)
class Shuffles:
    """The order of both sides for each seed."""

    human: int
    synthetic: int
    seeds: int
    seed: int

    def rows(self, fit: Fit) -> Indices:
        """Return the positions in the pool on which a model is trained, the human ones first."""
        parts = []
        for side, (taken, total, start) in enumerate(
            ((fit.human, self.human, 0), (fit.synthetic, self.synthetic, self.human))
        ):
            if taken == total:
                parts.append(np.arange(total) + start)
            elif taken:
                order = np.random.default_rng([self.seed, fit.seed, side]).permutation(total)
                parts.append(np.sort(order[:taken]) + start)
        return np.concatenate(parts).astype(np.int64)


def _first_twin(fit: Fit, human: int, synthetic: int) -> Fit:
    whole = fit.human in (0, human) and fit.synthetic in (0, synthetic)
    return Fit(fit.arm, fit.human, fit.synthetic, 0) if whole else fit


def scored(metric: str, found: Sequence[Scored], weights: scoring.Weights | None = None) -> Floats:
    """Return scores [trials, models] so that more is better (log loss with its sign turned)."""
    return np.stack([comparing.scored(metric, each, weights) for each in found], axis=1)
