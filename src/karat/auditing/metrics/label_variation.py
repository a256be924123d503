"""How much a model's labels of one item vary, beside how much people's do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from karat.auditing import labels_paired, labels_spread
from karat.auditing.base import Comparison, Context, Metric, Need, Setting, Summary, View
from karat.auditing.labels_paired import Figures, Scored
from karat.auditing.labels_sheet import SHEET, Floats, Ints

_MEASURES = ("auto", "sd", "entropy")


@dataclass(frozen=True)
class LabelVariation(Metric):
    """The spread of the labels of an item: standard deviation (labels with an order) or entropy in bits.

    sd is the root of the mean variance (ddof 1), which does not depend on the number of labels; entropy is
    that of as many labels as the shorter list has. Paper mode: the mean sd of the lists as they are.
    measure: sd, entropy, or auto (sd where labels are numbers or their order is given)
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    per: whose labels make one list: annotator, crowd, or auto (the crowd where each labels an item once)
    """

    measure: str = "auto"
    labels: tuple[str, ...] = ()
    per: str = "auto"

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "As much variation as people have is not the same variation: temperature makes any amount of it. "
        "Numbers are taken as a scale: for numbered classes choose measure=entropy."
    )
    cost: ClassVar[str] = "O(labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Draws of one prompt repeat themselves: raise the temperature or vary the persona.",
        "higher": "The model guesses where people agree: lower the temperature or mend the prompt.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    needs_reference: ClassVar[bool] = True
    paper: ClassVar[Mapping[str, Setting]] = {"measure": "sd"}
    higher: ClassVar[str] = "labels vary more"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, section 5.1; Hurlbert 1971 (rarefaction)"

    def __post_init__(self) -> None:
        labels_paired.check_per(self.per)
        if self.measure not in _MEASURES:
            raise ValueError(f"measure is {self.measure!r}; choose one of: {', '.join(_MEASURES)}")

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        paired = labels_paired.opened(candidate, reference, context, labels=self.labels, per=self.per)
        if isinstance(paired, Comparison):
            return paired
        published = context.mode == "paper"
        measure = self.measure
        if measure == "auto":
            measure = "sd" if paired.points is not None else "entropy"
        if measure == "sd" and paired.points is None:
            return labels_paired.nothing("labels have no order; name it with labels=low+middle+high")

        def score(mine: Ints, theirs: Ints) -> Scored:
            ours, people = _spread(mine, theirs, measure, published, paired.points)
            known = np.isfinite(ours) & np.isfinite(people)
            return Scored(np.where(known, ours, 0.0), known.astype(np.float64), np.where(known, people, 0.0))

        root = measure == "sd" and not published
        found = labels_paired.figures(
            paired, score, context, finish=_root if root else _positive, blind=False
        )
        if not found.n:
            return labels_paired.nothing("no item has two labels on both sides")
        details = _histogram(found) if published else {}
        gap = np.abs(found.scored.amount - _other(found)) * found.scored.weight
        told = labels_paired.telling(paired, gap, labels_paired.beside(paired))
        unit = "standard deviations in label units" if measure == "sd" else "entropies in bits"
        note = f"{unit}; {labels_paired.note(paired)}"
        result = labels_paired.comparison(found, note=note, details=details, telling=told)
        return replace(result, extra={"spread": measure})


def _spread(
    mine: Ints, theirs: Ints, measure: str, published: bool, points: Floats | None
) -> tuple[Floats, Floats]:
    """The spread of each list and of the people's labels of its item; nan below two labels."""
    if measure == "sd":
        assert points is not None
        found = labels_spread.variance(mine, points), labels_spread.variance(theirs, points)
        return (np.sqrt(found[0]), np.sqrt(found[1])) if published else found
    n, m = mine.sum(axis=1), theirs.sum(axis=1)
    draws = None if published else np.minimum(n, m)
    ours, people = labels_spread.entropy(mine, draws), labels_spread.entropy(theirs, draws)
    return np.where(np.minimum(n, m) > 1, ours, np.nan), np.where(np.minimum(n, m) > 1, people, np.nan)


def _root(values: Floats) -> Floats:
    return np.sqrt(np.maximum(values, 0.0))


def _positive(values: Floats) -> Floats:
    return np.maximum(values, 0.0)


def _other(found: Figures) -> Floats:
    assert found.scored.other is not None
    return found.scored.other


def _histogram(found: Figures) -> dict[str, float]:
    """How many items fall in each of ten bins of human spread and ten of model spread: joint.HUMAN.MODEL."""
    chosen = found.scored.weight > 0
    table, _, _ = np.histogram2d(_other(found)[chosen], found.scored.amount[chosen], bins=10)
    return {f"joint.{i}.{j}": float(table[i, j]) for i, j in zip(*np.nonzero(table), strict=True)}
