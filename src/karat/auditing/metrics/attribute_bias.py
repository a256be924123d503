"""How unevenly a corpus covers the values of an attribute, with the errors of the classifier taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import attributes, shares
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Found, Metric, Need, Summary, Telling, View
from karat.auditing.prevalence import confusion_corrected
from karat.auditing.scorers.base import Scorer, Scores
from karat.auditing.shares import Counted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_DRAWS = 400
_HEADLINES = ("tvd", "jsd", "largest")
_LABELS = 60
_VALUES = 60
_SHOWN = 8
_LESS_SURE = 0.05  # a fall of the mean confidence that no change of shares alone makes on real texts


@dataclass(frozen=True)
class AttributeBias(Metric):
    """How far the shares of an attribute's values lie from a target: all values alike, or human data.

    Shares are corrected for the classifier's errors (see karat.auditing.shares); shares as counted stand
    beside them as uncorrected.VALUE. `by` holds the share of each value and, as `label NAME`, the figure
    within each label; p_holm.NAME tests it (chi-square, Holm).
    attribute: its name, for example location
    scorer: who says which value a record has: lineage, field, trained, text_classification
    target: uniform, reference, or a file of shares; empty: reference where there is one, else uniform
    measure: tvd, jsd (bits) or largest (the largest share); all, and the entropy, stand in the details
    on: a file of records whose value is known, for the scorer
    checked: a file of hand-labelled records of the candidate's kind; its errors then correct the candidate
    model: a classifier, for the scorer text_classification
    least: records with a value before it counts as covered
    records: the most records a classifier reads of each side; 0: by budget (1000, 4000, 20000)
    """

    attribute: str = ""
    scorer: str = "lineage"
    target: str = ""
    measure: str = "tvd"
    on: str = ""
    checked: str = ""
    model: str = ""
    least: int = 5
    records: int = 0

    family: ClassVar[str] = "attribute"
    misleads: ClassVar[str] = (
        "The correction holds if the classifier errs on these texts as it did on its held-out ones; on "
        "another style it may not. lineage says what was asked for, not what was written."
    )
    cost: ClassVar[str] = "one classifier over at most 1,000 to 20,000 texts a side; O(records) otherwise"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Ask for the missing values by name: karat generate --recipe attributed."
    }
    size: ClassVar[View] = "all"
    by_label: ClassVar[bool] = False
    higher: ClassVar[str] = "farther from the target"
    source: ClassVar[str] = (
        "Yu et al. 2023, Large language model as attributed training data generator (histograms); Saerens, "
        "Latinne and Decaestecker 2002 (correction); Rao and Scott 1992 (clusters)"
    )

    def __post_init__(self) -> None:
        attributes.checked(self.measure, _HEADLINES, "measure")

    def _scorer(self) -> Scorer:
        return attributes.scorer_of(self.scorer, attribute=self.attribute, on=self.on, model=self.model)

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if self.target == "reference" and reference is None:
            return "needs a reference for target=reference"
        missing = attributes.need_attribute(self.attribute, "attribute_bias")
        return missing or attributes.lacking(self._scorer(), candidate, reference)

    def needs(self) -> tuple[Need, ...]:
        return attributes.needed(self._scorer(), self.records)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        summaries = [candidate] if reference is None else [candidate, reference]
        sides = attributes.material(summaries, self.needs(), records=self.records, budget=context.budget)
        scorer = self._scorer()
        sample = [attributes.read_given(self.checked, scorer, self.attribute)] if self.checked else []
        scores = attributes.scored(scorer, [*sides, *sample], context)
        codes = attributes.one_class(scores, "attribute_bias")
        target = self.target or ("uniform" if reference is None else "reference")
        given = {} if target in ("uniform", "reference") else attributes.read_shares(target)
        names = (*scores.names, *sorted(set(given) - set(scores.names)))
        if not names or not (codes[0] >= 0).any():
            raise attributes.nobody_knows(self.attribute, sides[0].columns)
        tables = [_widened(scores.confusion, len(names))] * len(sides)
        if sample:
            tables[0] = attributes.confusion_of(sample[0], codes[-1], names, self.attribute, self.checked)
        aim = np.array([given.get(name, 0.0) for name in names]) if given else None
        aim = np.full(len(names), 1 / len(names)) if target == "uniform" else aim
        counted = [
            _count(code, side.clusters, len(names), table)
            for code, side, table in zip(codes, sides, tables, strict=False)
        ]
        settled = _Settled(self.measure, names, aim, context)
        main = _against_human(settled, counted) if aim is None else _against_target(settled, counted)
        labels = {} if self.attribute == "label" else _by_label(settled, codes, sides, counted)
        rows = _values(settled, counted[0])
        details = self._details(settled, counted, scores, codes, sides)
        return Comparison(
            **main,
            n=int(counted[0].n),
            note=_note(settled, counted, self.attribute),
            details={**details, **{k: v for part in labels.values() for k, v in part.details.items()}},
            by={**rows, **{k: v.row for k, v in labels.items()}},
            extra={
                "scorer": scores.id,
                "aim": target,
                "corrected": tables[0] is not None,
                "values": len(names),
            },
            telling=_telling(settled, counted, codes[0], sides[0], scores, self.attribute),
            warnings=_warned(scores, rows, details, counted[0], bool(sample)),
        )

    def _details(
        self,
        settled: _Settled,
        counted: list[Counted],
        scores: Scores,
        codes: list[Ints],
        sides: tuple[attributes.Material, ...],
    ) -> dict[str, float]:
        """All measures of both sides, coverage, shares as counted, and how well the classifier does."""
        even = np.full(len(settled.names), 1 / len(settled.names))
        found: dict[str, float] = {}
        for prefix, side, code, material in zip(("", "reference."), counted, codes, sides, strict=False):
            true = side.true
            for name in shares.MEASURES:
                found[f"{prefix}{name}"] = float(shares.measure(true, even, name))
            found[f"{prefix}coverage"] = float((side.counts >= self.least).mean())
            found[f"{prefix}design_effect"] = side.effect
            found[f"{prefix}unknown"] = float((code < 0).mean()) if len(code) else 0.0
            order = np.argsort(-side.counts, kind="stable")[:_VALUES]
            found |= {f"{prefix}uncorrected.{settled.names[i]}": float(side.shares[i]) for i in order}
            found |= {f"{prefix}share.{settled.names[i]}": float(true[i]) for i in order}
            found |= _checked(prefix, material, code, settled.names, self.attribute, scores)
        if np.isfinite(scores.accuracy):
            found["held_out_accuracy"] = scores.accuracy
            for prefix, rows in zip(("", "reference."), scores.rows[: len(sides)], strict=False):
                found[f"{prefix}confidence"] = float(np.nanmean(rows.max(axis=1))) if len(rows) else 0.0
        return {**found, **scores.facts}


@dataclass(frozen=True)
class _Settled:
    """What all parts of one comparison share."""

    measure: str
    names: tuple[str, ...]
    aim: Floats | None
    context: Context

    def draws(self, sides: list[Counted], trials: int, truth: Floats | None = None) -> list[Floats]:
        """Shares [trials, K] of each side, drawn as counted or under a hypothesis."""
        seed = self.context.seed
        return shares.resampled(sides, trials=trials, seed=seed, truth=truth)

    def of(self, one: Floats, other: Floats | None = None) -> Floats:
        """The measure of shares [..., K] against the aim, or against other shares."""
        aim = self.aim if other is None else other
        return shares.measure(one, one if aim is None else aim, self.measure)


def _against_human(settled: _Settled, counted: list[Counted]) -> dict[str, Any]:
    """The distance of both histograms; its null by draws of both sides from their pool."""
    ours, theirs = counted
    if theirs.n == 0:
        return {"value": float("nan")}
    trials = settled.context.trials
    true = [side.true for side in counted]
    if settled.measure == "largest":
        return _against_target(settled, counted)
    value = float(settled.of(true[0], true[1]))
    drawn = settled.draws(counted, _DRAWS)
    pool = shares.pooled([ours, theirs])
    null = settled.of(*settled.draws(counted, trials, pool))
    return {
        "value": value,
        "interval": shares.basic_interval(value, settled.of(drawn[0], drawn[1])),
        "p": stats.tail_p(value, null, two_sided=False),
        "chance": float(null.mean()),
        "best": float(null.mean()),
    }


def _against_target(settled: _Settled, counted: list[Counted]) -> dict[str, Any]:
    """The figure of each side, against a target where the measure has one, and the sides by draws."""
    trials = settled.context.trials
    true = [side.true for side in counted]
    values = [float(settled.of(one)) for one in true]
    drawn = [settled.of(one) for one in settled.draws(counted, _DRAWS)]
    aim = np.full(len(settled.names), 1 / len(settled.names)) if settled.aim is None else settled.aim
    null = settled.of(settled.draws(counted[:1], trials, aim)[0])
    ideal = float(settled.of(aim))
    found: dict[str, Any] = {
        "value": values[0],
        "interval": shares.basic_interval(values[0], drawn[0]),
        "chance": float(null.mean()),
        "best": ideal,
    }
    if len(counted) == 1 or counted[1].n == 0:
        return found | {"p": stats.tail_p(values[0], null, two_sided=False)}
    ours, theirs = counted
    pool = shares.pooled([ours, theirs])
    apart = [settled.of(one) for one in settled.draws(counted, trials, pool)]
    gap = values[0] - values[1]
    return found | {
        "p": stats.tail_p(gap, apart[0] - apart[1]),
        "chance": float(apart[0].mean()),
        "best": values[1],
        "reference": values[1],
        "reference_interval": shares.basic_interval(values[1], drawn[1]),
        "difference": gap,
        "difference_interval": shares.basic_interval(gap, drawn[0] - drawn[1], low=-1.0),
    }


@dataclass(frozen=True)
class _Label:
    row: tuple[float, tuple[float, float] | None, int]
    details: dict[str, float]


def _by_label(
    settled: _Settled,
    codes: list[Ints],
    sides: tuple[attributes.Material, ...],
    sides_counted: list[Counted],
) -> dict[str, _Label]:
    """The figure within each label, and a chi-square test of it, Holm-corrected over the labels."""
    labels = [side.labels for side in sides]
    known = [label for label in labels[0] if label is not None and label != ""]
    names, counts = np.unique(np.array(known, dtype=str), return_counts=True)
    if not 2 <= len(names) <= 10 * _LABELS:
        return {}
    chosen = sorted(names[np.argsort(-counts, kind="stable")[:_LABELS]])
    parts: list[tuple[str, list[Counted], float, float]] = []
    for name in chosen:
        inside = [np.array([label == name for label in one], dtype=np.bool_) for one in labels]
        counted = [
            _count(code[mask], side.clusters[mask], len(settled.names), whole.confusion)
            for code, side, mask, whole in zip(codes, sides, inside, sides_counted, strict=False)
        ]
        if counted[0].n == 0 or (settled.aim is None and counted[1].n == 0):
            continue
        if settled.aim is None:
            chi, _, p = shares.homogeneity_p(counted[0], counted[1])
            if counted[0].confusion is not counted[1].confusion:  # counts that err differently differ anyhow
                p = float("nan")
        else:
            chi, _, p = shares.goodness_p(counted[0], settled.aim)
        parts.append((name, counted, chi, p))
    holm = stats.holm([p if np.isfinite(p) else None for *_, p in parts])
    found = {}
    for (name, counted, chi, _), adjusted in zip(parts, holm, strict=True):
        human = counted[1].true if settled.aim is None else None
        value = float(settled.of(counted[0].true, human))
        details = {f"chi2.{name}": chi}
        if adjusted is not None:
            details[f"p_holm.{name}"] = adjusted
        found[f"label {name}"] = _Label((value, None, int(counted[0].n)), details)
    return found


def _count(codes: Ints, clusters: Ints, classes: int, confusion: NDArray[np.int64] | None) -> Counted:
    known = codes >= 0
    counts = np.bincount(codes[known], minlength=classes).astype(np.float64)
    if not known.any():
        return Counted(counts, confusion=confusion)
    effect = shares.design_effect(codes[known], attributes.numbered(clusters[known]), classes)
    return Counted(counts, effect, confusion)


def _values(settled: _Settled, side: Counted) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    """The corrected share of each value with its interval, and the number of records counted."""
    order = np.argsort(-side.counts, kind="stable")[:_VALUES]
    counts = side.counts / side.effect
    ends: Sequence[tuple[float, float] | None]
    if side.confusion is None:
        n = round(side.effective)
        ends = [stats.wilson(round(count), n) for count in counts]
        values = side.shares
    else:
        found = confusion_corrected(counts, side.confusion, seed=settled.context.seed)
        values, ends = found.values, found.intervals
    return {settled.names[i]: (float(values[i]), ends[i], int(side.counts[i])) for i in order}


def _widened(confusion: NDArray[np.int64] | None, classes: int) -> NDArray[np.int64] | None:
    """The error table with empty rows for values that the target names and nobody has."""
    if confusion is None:
        return None
    wide = np.zeros((classes, classes), np.int64)
    wide[: len(confusion), : len(confusion)] = confusion
    return wide


def _checked(
    prefix: str,
    side: attributes.Material,
    code: Ints,
    names: tuple[str, ...],
    attribute: str,
    scores: Scores,
) -> dict[str, float]:
    """How often the class found is the one known, where a record knows it and the class was guessed."""
    from karat.auditing.scorers.base import known_values

    if scores.exact or ("lineage.attributes" not in side.columns and attribute not in side.columns):
        return {}
    truth = known_values(side.columns, attribute)
    hits = [names[c] == t for c, t in zip(code, truth, strict=True) if c >= 0 and t is not None]
    return {f"{prefix}agrees_with_known": float(np.mean(hits))} if hits else {}


def _warned(
    scores: Scores,
    rows: Mapping[str, tuple[float, tuple[float, float] | None, int]],
    details: Mapping[str, float],
    side: Counted,
    checked: bool,
) -> tuple[Found, ...]:
    """Warnings where the correction cannot be made, says nothing, or rests on texts of another kind."""
    if side.confusion is None:
        return attributes.unvalidated(scores)
    said = []
    wide = [name for name, (_, ends, _) in rows.items() if ends is not None and ends[1] - ends[0] > 0.5]
    if wide:
        said.append(
            f"the classifier hardly tells {', '.join(wide[:5])} apart: their corrected shares are all but "
            "unknown; train it on more records, or merge values"
        )
    sure, held = details.get("confidence", 1.0), scores.facts.get("held_out_confidence", 0.0)
    if not checked and held - sure > _LESS_SURE:
        said.append(
            f"the classifier is less sure of the candidate ({sure:.2f}) than of its held-out records "
            f"({held:.2f}): it errs more on these texts, and the correction does not know how; label some "
            "of them by hand and give it with checked=FILE"
        )
    return tuple(Found("judge_unvalidated", one) for one in said)


def _note(settled: _Settled, counted: list[Counted], attribute: str) -> str:
    true = counted[0].true
    top = int(np.argmax(true))
    said = f"{attribute} is {settled.names[top]!r} in {true[top]:.0%} of the records"
    if counted[0].confusion is not None:
        said += f" ({counted[0].shares[top]:.0%} as counted)"
    if len(counted) > 1 and counted[1].n:
        said += f", in {counted[1].true[top]:.0%} of the human ones"
    return said


def _telling(
    settled: _Settled,
    counted: list[Counted],
    codes: Ints,
    side: attributes.Material,
    scores: Scores,
    attribute: str,
) -> tuple[Telling, ...]:
    """Records of the value that is most over-represented, the surest first."""
    aim = settled.aim
    if aim is None:
        aim = counted[1].true if len(counted) > 1 and counted[1].n else counted[0].shares
    over = counted[0].true - aim
    top = int(np.argmax(over))
    if over[top] <= 0 or top >= len(scores.names):
        return ()
    sure = np.where(codes == top, scores.rows[0][:, top], -1.0)
    reason = f"{attribute} is {settled.names[top]}, {over[top]:+.0%} against the target"
    order = np.argsort(-sure, kind="stable")[:_SHOWN]
    return tuple(Telling(int(side.keys[i]), float(sure[i]), reason) for i in order if sure[i] > 0)
