"""What a synthetic set is worth to a trained model, counted in human records. Knows no trainer by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from karat import registry
from karat.blocks import Section
from karat.curation.base import normalised
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records
from karat.training import scores as scoring
from karat.training.base import Kind, Progress, gold_labels, inputs, kind_of
from karat.training.leakage import Leakage, guard
from karat.training.stage import Warned, check
from karat.valuation import costs, curves, reading
from karat.valuation.advice import advise, law_sentence, worth_sentence
from karat.valuation.costs import Cost
from karat.valuation.equivalence import Equivalence, Marginal, Turn
from karat.valuation.joint import Joint
from karat.valuation.saw import Seen, seen
from karat.valuation.saw import saw_human as saw_human
from karat.valuation.showing import section

Point = tuple[int, float, float, float]

_SHARES: dict[str, tuple[float, ...]] = {"small": (), "medium": (1 / 3,), "large": (0.1, 1 / 3)}
"""parts of the synthetic set that are added to human records too"""
_REFITS = {"small": 40, "medium": 100, "large": 300}
"""resamples to which the joint law is fitted"""
_TRIALS = {"small": 300, "medium": 1000, "large": 4000}
_PARTS = {"small": "small", "medium": "small", "large": "medium"}
_WITHOUT: dict[Kind, str] = {
    "labels": "always giving the most common human label",
    "tags": "the labels that most human records have",
    "texts": "giving the source itself",
    "likelihoods": "finding every byte equally likely",
}
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
    marginal_parts: tuple[Marginal, ...]
    turns_negative_at: float | None
    turning_point: Turn
    joint: Joint
    cost: Cost
    generator_saw_human: str
    """yes, part, no or unknown"""
    generator_saw: str
    """what that is known from"""
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
            "marginal_parts": [row.to_json() for row in self.marginal_parts],
            "turns_negative_at": self.turns_negative_at,
            "turning_point": self.turning_point.to_json(),
            "joint": self.joint.to_json(),
            "cost": self.cost.to_json(),
            "generator_saw": self.generator_saw,
            # three words are promised: a part of the human records is a yes, and how large, the reason says
            "generator_saw_human": "yes" if self.generator_saw_human == "part" else self.generator_saw_human,
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
        lines += [law_sentence(self.joint), self.cost.sentence]
        return "\n".join([*lines, *(f"warning {w.code}: {w.message}" for w in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the worth, the curves and the gain as blocks."""
        return (section(self),)


def value(
    synthetic: Records,
    human: Records,
    test: Records,
    *,
    trainer: Any = "linear",
    metric: str = "",
    seeds: int = 5,
    sizes: Sequence[int] = (),
    seed: int = 0,
    budget: Literal["small", "medium", "large"] = "medium",
    human_price: float = 0.0,
    wanted: float | None = None,
    allow_leakage: bool = False,
    drop_leaks: bool = True,
    executor: Any = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Valued:
    """Find how many human records a synthetic set is worth, by training on both.

    trainer: the trainer by name and settings, for example linear:C=1.
    metric: the score that decides what is equally good; by default macro_f1 of labels, micro_f1 of several
        labels a record, bleu of translations, rouge_l of answers and bits_per_byte of texts.
    seeds: how many orders of the records; at least 3 for a fair interval.
    sizes: numbers of human records to train on; chosen by the budget when none are given.
    seed: of the shuffles and of resampling.
    budget: small, medium or large: how many sizes are tried and how often the test records are resampled.
    human_price: dollars for one more human record, to say what a point of the score costs; 0 if not known.
    wanted: a score to reach, to say what is the cheapest way to it.
    allow_leakage: keep training records that stand in the test data, and say so.
    drop_leaks: leave training records out that stand in the test data; this is the default.
    cache: folder where each finished model's answers are kept, so that a killed study goes on.
    Raises LeakageError when records stand in both and neither was chosen.
    """
    maker = registry.make("trainers", trainer)
    _check(metric, seeds, budget, kind_of(test))
    costs.check(human_price, np.nan if wanted is None else wanted)
    asked = human
    synthetic, human, warnings = _sides(
        synthetic, human, test, maker, allow_leakage=allow_leakage, drop_leaks=drop_leaks
    )
    run = partial(
        curves.run,
        trainer=maker,
        seeds=seeds,
        seed=seed,
        metric=metric,
        executor=executor,
        cache=cache,
        progress=progress,
    )
    study, failed = _study(synthetic, human, test, run, seeds=seeds, sizes=sizes, seed=seed, budget=budget)
    worth, gains, turn = study.equivalence(), study.marginal(), study.turn()
    known = seen(synthetic, (asked, human))
    law = study.joint(_REFITS[budget])
    cost = costs.cost(
        synthetic,
        metric=study.metric,
        sign=study.sign,
        human_price=human_price,
        wanted=np.nan if wanted is None else wanted,
        human=study.curve(study.human),
        artificial=study.curve(study.synthetic),
        gain=study.last_gain(),
        law=law.law,
    )
    sides = {"human": human, "synthetic": synthetic, "test": test}
    prints = {name: side.fingerprint[:8] for name, side in sides.items()}
    warnings += [*_saw_warnings(known), *_warnings(synthetic, human, test, worth, seeds), *_failures(failed)]
    return Valued(
        signature=registry.signature(maker, metric=study.metric, seeds=seeds, seed=seed, **prints),
        metric=study.metric,
        trainer=registry.spec_of(maker),
        seeds=seeds,
        human_records=len(human),
        synthetic_records=len(synthetic),
        test_records=len(test),
        curves=Curves(*study.points()),
        chance=study.chance,
        equivalence=worth,
        marginal=gains,
        marginal_parts=study.marginal_parts(),
        turns_negative_at=turn.value,
        turning_point=turn,
        joint=law,
        cost=cost,
        generator_saw_human=known.verdict,
        generator_saw=known.why,
        advice=advise(worth, gains, turn.value, known.verdict, learned=study.learned),
        warnings=tuple(warnings),
        notes=_notes(seeds, maker, kind_of(test)),
    )


def _sides(
    synthetic: Records, human: Records, test: Records, maker: Any, *, allow_leakage: bool, drop_leaks: bool
) -> tuple[Records, Records, list[Warned]]:
    """Return the synthetic and human records that may be used, and warnings of leaks."""
    for side in (synthetic, human):
        check(side, test, maker)
    if kind_of(test) == "labels":
        _check_labels(synthetic, human, test)
    drop = drop_leaks and not allow_leakage
    human, human_leaks = guard(human, test, allow_leakage=allow_leakage, drop_leaks=drop, what="human")
    synthetic, leaks = guard(synthetic, test, allow_leakage=allow_leakage, drop_leaks=drop, what="synthetic")
    if len(human) < 4 or len(synthetic) < 2:
        raise NotEnoughData(
            f"a worth needs at least 4 human and 2 synthetic records, but there are {len(human)} and "
            f"{len(synthetic)} (after leaks are left out); add records"
        )
    return synthetic, human, _leak_warnings(human_leaks, leaks)


def _study(
    synthetic: Records,
    human: Records,
    test: Records,
    run: Callable[..., Any],
    *,
    seeds: int,
    sizes: Sequence[int],
    seed: int,
    budget: str,
) -> tuple[reading.Reading, dict[curves.Fit, str]]:
    """Plan the fits of all curves, run them and read their scores; and say which could not be trained."""
    scale = _sizes(sizes, len(human), budget)
    added = (*(n for n in curves.ADDED_TO[budget] if n <= 0.85 * len(human)), len(human))
    parts = tuple(n for n in curves.grid(len(synthetic), budget, steps=_PARTS[budget]) if n >= 2)
    shares = tuple(sorted({n for n in (round(len(synthetic) * x) for x in _SHARES[budget]) if n >= 10}))
    fits = curves.plan(
        len(human), len(synthetic), seeds=seeds, sizes=scale, parts=parts, added_to=added, shares=shares
    )
    found = run(fits, human, synthetic, test)
    read = reading.read(
        found,
        human=tuple(sorted({*scale, *(n for n in added if n)})),
        synthetic=parts,
        added=added,
        shares=shares,
        texts=inputs(test),
        trials=_TRIALS[budget],
        seed=seed,
    )
    return read, found.failed


def _check(metric: str, seeds: int, budget: str, kind: Kind) -> None:
    if metric == "perplexity":
        raise BadSetting(
            "perplexity counts the tokens of each model's own, so that models of different records do not "
            "compare; take bits_per_byte for texts, bleu, chrf or rouge_l for answers"
        )
    if metric and not (kind == "labels" and metric in scoring.OF_KIND["tags"]):
        scoring.check_metric(metric, kind)
    if seeds < 1:
        raise BadSetting(f"seeds is {seeds}, but at least 1 order of the records is needed; 5 is the default")
    if budget not in _TRIALS:
        raise BadSetting(f"budget is {budget!r}; choose one of: {', '.join(_TRIALS)}")


def _check_labels(synthetic: Records, human: Records, test: Records) -> None:
    """Raise InputError where one side has no labels, or where the sides share none."""
    gold = set(gold_labels(test, "test"))
    if len(gold) < 2:
        raise NotEnoughData(
            f"{test.path}: all test records have the label {next(iter(gold))!r}, which tells no model from "
            "another; give test records with at least two labels"
        )
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
    told = [*human.told("human"), *synthetic.told("synthetic")]
    return [Warned("leakage", message, ids) for message, ids in told]


def _saw_warnings(known: Seen) -> list[Warned]:
    if known.verdict == "yes":
        message = (
            f"the generator was trained on or shown this human data ({known.why}); "
            "the worth is no exchange rate"
        )
    elif known.verdict == "part":
        message = (
            f"the generator saw at least {known.share:.1%} of this human data ({known.why}); "
            "part of the worth is human data passed on"
        )
    elif known.verdict == "unknown":
        message = (
            "nothing is known of what the generator had seen (lineage.generator_saw); if it was trained on "
            "or shown this human data, the worth is no exchange rate"
        )
    else:
        return []
    return [
        Warned(f"generator_saw_{'unknown' if known.verdict == 'unknown' else 'human'}", message),
    ]


def _failures(failed: Mapping[curves.Fit, str]) -> list[Warned]:
    """Return one warning a reason for models that could not be trained."""
    first = {reason: fit for fit, reason in reversed(list(failed.items()))}
    counts = Counter(failed.values())
    return [
        Warned(
            "not_trained",
            f"{counts[reason]:,} models could not be trained and their sizes are left out, for example on "
            f"{fit.human:,} human and {fit.synthetic:,} synthetic records: {reason}",
        )
        for reason, fit in first.items()
    ]


def _warnings(
    synthetic: Records, human: Records, test: Records, worth: Equivalence, seeds: int
) -> list[Warned]:
    found = []
    known = {normalised(text) for text in human.texts()}
    copies = tuple(i for i, text in zip(synthetic.ids, synthetic.texts()) if normalised(text) in known)
    if copies:
        share = len(copies) / len(synthetic)
        message = f"{len(copies):,} synthetic records ({share:.1%}) are copies of human records"
        found.append(Warned("copied_human", message, copies))
    labelled = kind_of(test) == "labels"
    strange = set(gold_labels(synthetic)) - set(gold_labels(human)) if labelled else set()
    if strange:
        names = ", ".join(sorted(strange)[:5])
        found.append(Warned("unseen_labels", f"synthetic labels that no human record has: {names}"))
    gap = _label_gap(synthetic, human) if labelled else 0.0
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
    shares = [Counter(gold_labels(side)) for side in (one, other)]
    names = set(shares[0]) | set(shares[1])
    return 0.5 * sum(abs(shares[0][name] / len(one) - shares[1][name] / len(other)) for name in names)


def _notes(seeds: int, maker: Any, kind: Kind) -> tuple[str, ...]:
    found = [
        "Sets are drawn at random, not by label, and a smaller one is the beginning of a larger one.",
        "The interval of the worth holds the draw of test records, of seeds and of both training sets; "
        "the bands of the curves and the gains hold test records and seeds.",
        f"Without any human record the comparison is with {_WITHOUT[kind]}.",
    ]
    if seeds == 1:
        found.append("With one seed the intervals hold the test records only.")
    elif getattr(maker, "deterministic", False):
        found.append("The trainer does not depend on the seed, so whole sets were trained on once.")
    return tuple(found)
