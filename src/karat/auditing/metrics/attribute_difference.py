"""By how much candidate and human texts differ in attributes such as joy, formality or toxicity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import attributes, shares
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, Telling, View
from karat.auditing.scorers.base import Scorer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_LABELS = 40
_CLASSES = 60
_SHOWN = 8
_EFFECTS = ("cliffs_delta", "hedges_g")


@dataclass(frozen=True)
class AttributeDifference(Metric):
    """The mean scores of attributes, candidate beside human, and how large their difference is.

    With one attribute the value is its mean; with several it is the mean absolute difference over them. `by`
    holds the difference of each attribute, and within each label (`joy in respect`); p is Holm's over the
    attributes. Records of one source (cluster) count together.
    attribute: one or several joined by + (anger+joy); empty with a classifier: all its classes
    scorer: who scores: field, text_classification, trained, lineage
    model: a classifier, for the scorer text_classification
    on: a file of records whose value is known, for the scorer trained
    effect: cliffs_delta or hedges_g
    records: the most records a classifier reads of each side; 0: by budget (1000, 4000, 20000)
    """

    attribute: str = ""
    scorer: str = "field"
    model: str = ""
    on: str = ""
    effect: str = "cliffs_delta"
    records: int = 0

    family: ClassVar[str] = "attribute"
    misleads: ClassVar[str] = (
        "A classifier trained on human text scores LLM text by its style too: a difference may be the "
        "classifier's. Topics that differ move every attribute; compare within labels."
    )
    cost: ClassVar[str] = "one classifier over at most 1,000 to 20,000 texts a side; O(records) for fields"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Ask for the human mix of tones in the prompt, or draw records to the human shares.",
        "lower": "Ask for the human mix of tones in the prompt, or draw records to the human shares.",
    }
    size: ClassVar[View] = "all"
    by_label: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "more of the attribute; with several, farther from human texts"
    source: ClassVar[str] = (
        "Das et al. 2024, Under the Surface, section on free-form text; Cliff 1993; Liang and Zeger 1986"
    )

    def __post_init__(self) -> None:
        attributes.checked(self.effect, _EFFECTS, "effect")

    def _scorer(self) -> Scorer:
        return attributes.scorer_of(self.scorer, attribute=self.attribute, on=self.on, model=self.model)

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        return attributes.lacking(self._scorer(), candidate, reference)

    def needs(self) -> tuple[Need, ...]:
        return attributes.needed(self._scorer(), self.records)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        sides = attributes.material(
            [candidate, reference], self.needs(), records=self.records, budget=context.budget
        )
        scores = attributes.scored(self._scorer(), sides, context)
        clusters = [side.clusters for side in sides]
        names = scores.names[:_CLASSES]
        tested = {
            name: one
            for i, name in enumerate(names)
            if (one := apart(scores.rows[0][:, i], scores.rows[1][:, i], clusters, self.effect)) is not None
        }
        extra: dict[str, Any] = {"scorer": scores.id, "attributes": len(tested)}
        if not tested:
            note = f"no record of one side has a score of {'+'.join(names) or self.attribute}"
            return Comparison(float("nan"), n=0, note=note, extra=extra)
        holm = dict(zip(tested, stats.holm([one.gap.p for one in tested.values()]), strict=True))
        p = min((p for p in holm.values() if p is not None), default=None)
        rows = [np.where(np.isfinite(side), side, np.nan)[:, : len(names)] for side in scores.rows]
        main = self._one(tested, p) if len(tested) == 1 else self._many(tested, p, rows, clusters, context)
        labels = _within(sides, rows, names, self.effect)
        details = {key: value for name, one in tested.items() for key, value in one.figures(name, holm[name])}
        return Comparison(
            **main,
            n=max(one.n for one in tested.values()),
            note=_note(tested, holm),
            details=details,
            by={**{name: one.row for name, one in tested.items()}, **labels},
            extra=extra,
            telling=_telling(tested, sides[0], rows[0], names),
        )

    def _one(self, tested: Mapping[str, Apart], p: float | None) -> dict[str, Any]:
        """One attribute: the means of both sides."""
        one = next(iter(tested.values()))
        pooled = (one.ours.value * one.n + one.theirs.value * one.m) / (one.n + one.m)
        return {
            "value": one.ours.value,
            "interval": one.ours.interval(bounds=(0.0, 1.0)),
            "reference": one.theirs.value,
            "reference_interval": one.theirs.interval(bounds=(0.0, 1.0)),
            "difference": one.gap.value,
            "difference_interval": one.gap.interval,
            "p": p,
            "chance": pooled,
            "best": one.theirs.value,
            "effect": one.effect,
            "effect_name": self.effect,
        }

    def _many(
        self,
        tested: Mapping[str, Apart],
        p: float | None,
        rows: list[Floats],
        clusters: list[Ints],
        context: Context,
    ) -> dict[str, Any]:
        """Several attributes: the mean absolute difference, its interval by drawing whole clusters."""
        gaps = np.array([one.gap.value for one in tested.values()])
        value = float(np.abs(gaps).mean())
        # |N(0, error^2)| has the mean error * sqrt(2 / pi): what no difference would look like
        errors = np.array([one.gap.error for one in tested.values()])
        chance = float(np.sqrt(2 / np.pi) * np.nanmean(errors))
        drawn = [
            _drawn_means(one, group, trials=max(200, context.trials), seed=context.seed + i)
            for i, (one, group) in enumerate(zip(rows, clusters, strict=True))
        ]
        distances = np.nanmean(np.abs(drawn[0] - drawn[1]), axis=1)
        return {
            "value": value,
            "interval": shares.basic_interval(value, distances),
            "p": p,
            "chance": chance,
            "best": chance,
        }


@dataclass(frozen=True)
class Apart:
    """One attribute on both sides: means, their difference, its effect size, and numbers of records."""

    ours: stats.Estimate
    theirs: stats.Estimate
    gap: stats.Difference
    effect: float
    n: int
    m: int

    @property
    def row(self) -> tuple[float, tuple[float, float] | None, int]:
        """What stands in `by`."""
        return self.gap.value, self.gap.interval, self.n

    def figures(self, name: str, p: float | None) -> list[tuple[str, float]]:
        """What stands in the details."""
        found = [
            (f"candidate.{name}", self.ours.value),
            (f"human.{name}", self.theirs.value),
            (f"effect.{name}", self.effect),
        ]
        return found + ([(f"p_holm.{name}", p)] if p is not None else [])


def apart(ours: Floats, theirs: Floats, clusters: list[Ints], effect: str) -> Apart | None:
    """Scores [n] and [m] of one attribute compared; None where one side has none."""
    known = [np.isfinite(one) for one in (ours, theirs)]
    if not all(one.any() for one in known):
        return None
    a, b = ours[known[0]], theirs[known[1]]
    means = [
        attributes.clustered_mean(x, group[mask])
        for x, group, mask in zip((a, b), clusters, known, strict=True)
    ]
    groups = [group[mask] for group, mask in zip(clusters, known, strict=True)]
    gap = attributes.clustered_gap(a, b, groups[0], groups[1], *means)
    size = attributes.cliffs_delta(a, b) if effect == "cliffs_delta" else stats.standardised(a, b)
    return Apart(means[0], means[1], gap, size, len(a), len(b))


def _within(
    sides: tuple[attributes.Material, ...], rows: list[Floats], names: tuple[str, ...], effect: str
) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    """The difference of each attribute within each label that both sides have."""
    labels = [side.labels.astype(str) for side in sides]
    shared = sorted(set(labels[0]) & set(labels[1]) - {"None", ""})
    if not 2 <= len(shared) <= _LABELS:
        return {}
    found = {}
    for label in shared:
        masks = [one == label for one in labels]
        groups = [side.clusters[mask] for side, mask in zip(sides, masks, strict=True)]
        for i, name in enumerate(names[:12]):
            one = apart(rows[0][masks[0], i], rows[1][masks[1], i], groups, effect)
            if one is not None:
                found[f"{name} in {label}"] = one.row
    return found


def _drawn_means(rows: Floats, clusters: Ints, *, trials: int, seed: int) -> Floats:
    """float64 [trials, C]: means of drawn clusters, by Poisson weights (Chamandy et al. 2012)."""
    member = attributes.numbered(clusters)
    groups = int(member.max()) + 1
    known = np.isfinite(rows)
    sums, counts = np.zeros((groups, rows.shape[1])), np.zeros((groups, rows.shape[1]))
    np.add.at(sums, member, np.where(known, rows, 0.0))
    np.add.at(counts, member, known.astype(np.float64))
    weights = stats.poisson_weights(groups, trials=trials, seed=seed).astype(np.float64)
    total = weights @ counts
    return np.asarray((weights @ sums) / np.where(total > 0, total, np.nan))


def _note(tested: Mapping[str, Apart], holm: Mapping[str, float | None]) -> str:
    sure = [name for name in tested if (p := holm[name]) is not None and p < 0.05]
    sure.sort(key=lambda name: -abs(tested[name].effect))
    if not sure:
        return f"none of {len(tested)} attributes differs" if len(tested) > 1 else ""
    return "; ".join(
        f"{name} {tested[name].ours.value:.2f} against {tested[name].theirs.value:.2f}" for name in sure[:4]
    )


def _telling(
    tested: Mapping[str, Apart], side: attributes.Material, rows: Floats, names: tuple[str, ...]
) -> tuple[Telling, ...]:
    """Records that have most of the attribute whose difference is the largest effect."""
    name = max(tested, key=lambda one: abs(tested[one].effect))
    values = rows[:, names.index(name)]
    sign = 1.0 if tested[name].gap.value >= 0 else -1.0
    order = np.argsort(-sign * np.where(np.isfinite(values), values, -sign * np.inf), kind="stable")[:_SHOWN]
    reason = f"{name} is {'higher' if sign > 0 else 'lower'} in the candidate than in human texts"
    return tuple(
        Telling(int(side.keys[i]), float(values[i]), reason) for i in order if np.isfinite(values[i])
    )
