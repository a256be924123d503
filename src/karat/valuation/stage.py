"""What a synthetic set is worth to a trained model, counted in human records. Knows no trainer by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from karat import registry
from karat.blocks import Block, Chart, Column, Headline, Line, Note, Section, Table
from karat.curation.base import normalised
from karat.errors import BadSetting, InputError, NotEnoughData, did_you_mean
from karat.records import Records
from karat.training import scores as scoring
from karat.training.base import Progress, gold_labels
from karat.training.leakage import Leakage, guard
from karat.training.stage import Warned, most_common
from karat.valuation import curves, equivalence, reading
from karat.valuation.advice import advise, worth_sentence
from karat.valuation.equivalence import Equivalence, Marginal

Point = tuple[int, float, float, float]

_TRIALS = {"small": 300, "medium": 1000, "large": 4000}
_PARTS = {"small": "small", "medium": "small", "large": "medium"}
LABEL_GAP = 0.2
"""total variation distance of label shares above which a worth may be one of balance rather than of texts"""


@dataclass(frozen=True)
class Curves:
    """Learning curves: (records, score, low, high); for `mixed` the number counts the human records."""

    human: tuple[Point, ...]
    synthetic: tuple[Point, ...]
    mixed: tuple[Point, ...]


@dataclass(frozen=True)
class Valued:
    """What a synthetic set is worth, and when to use it."""

    signature: str
    metric: str
    trainer: str
    seeds: int
    human_records: int
    synthetic_records: int
    test_records: int
    curves: Curves
    chance: float
    equivalence: Equivalence
    marginal: tuple[Marginal, ...]
    turns_negative_at: float | None
    generator_saw_human: str
    advice: str
    warnings: tuple[Warned, ...] = ()
    notes: tuple[str, ...] = ()

    def at(self, human: int) -> Marginal:
        """Return what the synthetic set adds to about so many human records: the nearest tested number."""
        return min(self.marginal, key=lambda row: abs(np.log1p(row.human) - np.log1p(human)))

    def why(self) -> str:
        """Say in a few sentences how the worth was found."""
        synthetic, first, last = self.curves.synthetic[-1], self.curves.human[0], self.curves.human[-1]
        return (
            f"Trained on all {self.synthetic_records:,} synthetic records, {self.trainer} has {self.metric} "
            f"{synthetic[1]:.3f} on {self.test_records:,} test records. Human records have {first[1]:.3f} "
            f"with {first[0]:,} and {last[1]:.3f} with {last[0]:,}. "
            f"{worth_sentence(self.equivalence)} {' '.join(self.notes)}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `karat value --json` prints."""
        return {
            "signature": self.signature,
            "metric": self.metric,
            "trainer": self.trainer,
            "seeds": self.seeds,
            "human_records": self.human_records,
            "synthetic_records": self.synthetic_records,
            "test_records": self.test_records,
            "curves": {
                "human": [list(point) for point in self.curves.human],
                "synthetic": [list(point) for point in self.curves.synthetic],
                "mixed": [list(point) for point in self.curves.mixed],
            },
            "chance": self.chance,
            "equivalence": self.equivalence.to_json(),
            "marginal": [row.to_json() for row in self.marginal],
            "turns_negative_at": self.turns_negative_at,
            "generator_saw_human": self.generator_saw_human,
            "advice": self.advice,
            "warnings": [
                {"code": w.code, "message": w.message, "records": list(w.records[:20])} for w in self.warnings
            ],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [
            self.advice,
            "",
            f"{self.metric} by {self.trainer}, {self.seeds} seeds; chance {self.chance:.3f}",
        ]
        for name in ("human", "synthetic", "mixed"):
            for n, score, low, high in getattr(self.curves, name):
                lines.append(f"  {name:<10}{n:>8,}  {score:.3f} [{low:.3f}, {high:.3f}]")
        lines.append("adding all synthetic records to human ones:")
        for row in self.marginal:
            low, high = row.interval
            lines.append(f"  {row.human:>8,}  {row.difference:+.3f} [{low:+.3f}, {high:+.3f}]  {row.verdict}")
        return "\n".join([*lines, *(f"warning {w.code}: {w.message}" for w in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the worth, the curves and the gain as blocks."""
        return (_section(self),)


def value(
    synthetic: Records,
    human: Records,
    test: Records,
    *,
    trainer: Any = "linear",
    metric: Literal["macro_f1", "accuracy", "log_loss"] = "macro_f1",
    seeds: int = 5,
    sizes: Sequence[int] = (),
    seed: int = 0,
    budget: Literal["small", "medium", "large"] = "medium",
    allow_leakage: bool = False,
    drop_leaks: bool = True,
    executor: Any = None,
    progress: Progress | None = None,
) -> Valued:
    """Find how many human records a synthetic set is worth, by training on both.

    trainer: the trainer by name and settings, for example linear:C=1.
    metric: the score that decides what is equally good.
    seeds: how many orders of the records; at least 3 for a fair interval.
    sizes: numbers of human records to train on; chosen by the budget when none are given.
    seed: of the shuffles and of resampling.
    budget: small, medium or large: how many sizes are tried and how often the test records are resampled.
    allow_leakage: keep training records that stand in the test data, and say so.
    drop_leaks: leave training records out that stand in the test data; this is the default.
    Raises LeakageError when records stand in both and neither was chosen.
    """
    maker = registry.make("trainers", trainer)
    _check(metric, seeds, budget)
    _check_labels(synthetic, human, test)
    asked, drop = human, drop_leaks and not allow_leakage
    human, human_leaks = guard(human, test, allow_leakage=allow_leakage, drop_leaks=drop, what="human")
    synthetic, leaks = guard(synthetic, test, allow_leakage=allow_leakage, drop_leaks=drop, what="synthetic")
    if len(human) < 4 or len(synthetic) < 2:
        raise NotEnoughData(
            f"a worth needs at least 4 human and 2 synthetic records, but there are {len(human)} and "
            f"{len(synthetic)} (after leaks are left out); add records"
        )
    run = partial(curves.run, trainer=maker, seeds=seeds, seed=seed, executor=executor, progress=progress)
    study = _study(
        synthetic, human, test, run, metric=metric, seeds=seeds, sizes=sizes, seed=seed, budget=budget
    )
    worth, gains = study.equivalence(), study.marginal()
    saw = saw_human(synthetic, (asked, human))
    warnings = [
        *_leak_warnings(human_leaks, leaks),
        *_warnings(synthetic, human, test, saw, worth, seeds),
    ]
    turn = equivalence.turning_point(gains)
    return Valued(
        signature=registry.signature(
            maker,
            metric=metric,
            seeds=seeds,
            seed=seed,
            human=human.fingerprint[:8],
            synthetic=synthetic.fingerprint[:8],
            test=test.fingerprint[:8],
        ),
        metric=metric,
        trainer=registry.spec_of(maker),
        seeds=seeds,
        human_records=len(human),
        synthetic_records=len(synthetic),
        test_records=len(test),
        curves=Curves(*study.points()),
        chance=study.chance,
        equivalence=worth,
        marginal=gains,
        turns_negative_at=turn,
        generator_saw_human=saw,
        advice=advise(worth, gains, turn, saw),
        warnings=tuple(warnings),
        notes=_notes(seeds, maker),
    )


def _study(
    synthetic: Records,
    human: Records,
    test: Records,
    run: Callable[..., Any],
    *,
    metric: str,
    seeds: int,
    sizes: Sequence[int],
    seed: int,
    budget: str,
) -> reading.Reading:
    """Plan the fits of all curves, run them and read their scores."""
    scale = _sizes(sizes, len(human), budget)
    added = (*(n for n in curves.ADDED_TO[budget] if n <= 0.85 * len(human)), len(human))
    parts = tuple(n for n in curves.grid(len(synthetic), budget, steps=_PARTS[budget]) if n >= 2)
    fits = curves.plan(len(human), len(synthetic), seeds=seeds, sizes=scale, parts=parts, added_to=added)
    return reading.read(
        run(fits, human, synthetic, test),
        metric,
        human=tuple(sorted({*scale, *(n for n in added if n)})),
        synthetic=parts,
        added=added,
        common=most_common(gold_labels(human)),
        texts=test.texts(),
        trials=_TRIALS[budget],
        seed=seed,
    )


def saw_human(synthetic: Records, human: Sequence[Records]) -> str:
    """Return yes, no or unknown: was the generator trained on, or shown, this human data?

    By the record of the synthetic rows: `lineage.generator_saw` holds fingerprints, `lineage.parents` ids.
    A part of a set has another fingerprint than the set, so "no" is as good as the record.
    """
    saw = synthetic.lineage("generator_saw")
    known = {side.fingerprint for side in human}
    for side in human:
        for entry in side.lineage("parents"):
            known.update(entry or ())  # the fingerprint of the set that this one was cut from, if recorded
    ids = {identity for side in human for identity in side.ids}
    if any(known.intersection(entry or ()) for entry in saw):
        return "yes"
    if any(ids.intersection(entry or ()) for entry in synthetic.lineage("parents")):
        return "yes"
    return "unknown" if any(entry is None for entry in saw) else "no"


def _check(metric: str, seeds: int, budget: str) -> None:
    if metric not in scoring.METRICS:
        raise BadSetting(
            f"no score named {metric!r}{did_you_mean(metric, scoring.METRICS)} "
            f"(there are: {', '.join(scoring.METRICS)})"
        )
    if seeds < 1:
        raise BadSetting(f"seeds is {seeds}, but at least 1 order of the records is needed; 5 is the default")
    if budget not in _TRIALS:
        raise BadSetting(f"budget is {budget!r}; choose one of: {', '.join(_TRIALS)}")


def _check_labels(synthetic: Records, human: Records, test: Records) -> None:
    """Raise InputError where one side has no labels, or where the sides share none."""
    gold = set(gold_labels(test, "test"))
    for side, name in ((synthetic, "synthetic"), (human, "human")):
        labels = set(gold_labels(side, name))
        if not labels & gold:
            raise InputError(
                f"{side.path}: no {name} label is a test label (for example {sorted(labels)[0]!r} against "
                f"{sorted(gold)[0]!r}); spell them alike, or name the field with --label-field"
            )


def _sizes(asked: Sequence[int], total: int, budget: str) -> tuple[int, ...]:
    if not asked:
        return tuple(n for n in curves.grid(total, budget) if n >= 2)
    for size in asked:
        if not 2 <= size <= total:
            raise BadSetting(f"sizes has {size}, but must be from 2 to {total:,}, the human records at hand")
    return tuple(sorted(set(asked)))


def _leak_warnings(human: Leakage, synthetic: Leakage) -> list[Warned]:
    found = []
    for leak, name in ((human, "human"), (synthetic, "synthetic")):
        if leak.dropped:
            message = f"{leak.dropped:,} {name} records stand in the test data and were left out"
        elif leak.allowed:
            message = (
                f"{leak.normalised:,} {name} records stand in the test data, so scores measure memory too"
            )
        else:
            continue
        found.append(Warned("leakage", message, leak.train))
    return found


def _warnings(
    synthetic: Records, human: Records, test: Records, saw: str, worth: Equivalence, seeds: int
) -> list[Warned]:
    found = []
    if saw == "yes":
        message = "the generator was trained on or shown this human data; the worth is no exchange rate"
        found.append(Warned("generator_saw_human", message))
    known = {normalised(text) for text in human.texts()}
    copies = tuple(i for i, text in zip(synthetic.ids, synthetic.texts()) if normalised(text) in known)
    if copies:
        share = len(copies) / len(synthetic)
        message = f"{len(copies):,} synthetic records ({share:.1%}) are copies of human records"
        found.append(Warned("copied_human", message, copies))
    strange = set(synthetic.labels() or ()) - set(human.labels() or ())
    if strange:
        names = ", ".join(sorted(strange)[:5])
        found.append(Warned("unseen_labels", f"synthetic labels that no human record has: {names}"))
    gap = _label_gap(synthetic, human)
    if gap > LABEL_GAP:
        message = (
            f"{gap:.0%} of the synthetic records would need another label to have the label shares of "
            "the human ones; part of the worth may be label balance "
            "(compare with --trainer linear:class_weight=balanced)"
        )
        found.append(Warned("label_balance", message))
    if worth.censored:
        side = "more than the largest" if worth.censored == "above" else "less than the smallest"
        message = f"the set is worth {side} human set tried ({worth.bound:,}); beyond it lies a guess"
        found.append(Warned("extrapolation_refused", message))
    if len(test) < 200 or seeds < 3:
        message = (
            f"{len(test):,} test records and {seeds} seeds; at least 200 and 3 are needed for a fair interval"
        )
        found.append(Warned("too_few_records", message))
    return found


def _label_gap(one: Records, other: Records) -> float:
    """Return the total variation distance of the label shares."""
    shares = [Counter(side.labels() or ()) for side in (one, other)]
    names = set(shares[0]) | set(shares[1])
    return 0.5 * sum(abs(shares[0][name] / len(one) - shares[1][name] / len(other)) for name in names)


def _notes(seeds: int, maker: Any) -> tuple[str, ...]:
    found = [
        "Sets are drawn at random, not by label, and a smaller one is the beginning of a larger one.",
        "The interval of the worth holds the draw of test records, of seeds and of both training sets; "
        "the bands of the curves and the gains hold test records and seeds.",
        "Without any human record the comparison is with always giving the most common human label.",
    ]
    if seeds == 1:
        found.append("With one seed the intervals hold the test records only.")
    elif getattr(maker, "deterministic", False):
        found.append("The trainer does not depend on the seed, so whole sets were trained on once.")
    return tuple(found)


def _ends(worth: Equivalence) -> str:
    low, high = worth.interval
    upper = "more than there are" if high is None else f"{high:,.0f}"
    return f"95 %: {low or 0:,.0f} to {upper}"


def _section(found: Valued) -> Section:
    worth = found.equivalence
    figure = {"above": f"> {worth.bound:,}", "below": f"< {worth.bound:,}"} if worth.bound else {}
    level: Literal["info", "good", "warning"] = "warning" if found.generator_saw_human == "yes" else "info"
    headline = Headline(
        figure.get(worth.censored, f"{worth.worth_human_records or 0:,}"),
        f"human records are what {worth.records:,} synthetic records are worth",
        f"{_ends(worth)}; {found.metric} by {found.trainer.partition(':')[0]}, {found.seeds} seeds",
        level,
        rank=1,
    )
    rows = [
        {"series": name, "records": n, "score": score, "low": low, "high": high}
        for name in ("human", "synthetic", "mixed")
        for n, score, low, high in getattr(found.curves, name)
        if n
    ]
    chart = Chart(
        "line",
        tuple(rows),
        "records",
        "score",
        series="series",
        low="low",
        high="high",
        title="How good a model gets",
        x_title="training records (for mixed: human records, with all synthetic ones added)",
        y_title=found.metric,
        note="Bands: 95 %, over test records and seeds.",
        log_x=True,
        lines=(Line(found.chance, "chance"),),
    )
    gains = Table(
        (
            Column("human", "human records", "number"),
            Column("without", "alone", "number"),
            Column("with", "with all synthetic", "number"),
            Column("difference", "gain", "number", "positive where the synthetic records help"),
            Column("interval", "95 % interval", "interval"),
            Column("verdict", "verdict", "text"),
        ),
        tuple({**row.to_json(), "_flag": row.verdict == "hurts"} for row in found.marginal),
        title="What adding all synthetic records does",
        note="Paired: the same human records, seeds and test records with and without.",
    )
    parts = Table(
        (
            Column("records", "synthetic records", "number"),
            Column("worth", "worth in human records", "number"),
            Column("interval", "95 % interval", "interval"),
        ),
        tuple(
            {
                "records": n,
                "worth": w,
                "interval": [low, high],
                "_note": "" if w is not None else "outside the human sizes tried",
            }
            for n, w, low, high in worth.by_size
        ),
        title="The worth of a part of the set",
    )
    blocks: list[Block] = [headline, Note(found.advice, level), chart, gains, parts]
    blocks += [Note(w.message, "warning") for w in found.warnings]
    blocks += [Note(note) for note in found.notes]
    return Section("What the synthetic data is worth", tuple(blocks), id="value")
