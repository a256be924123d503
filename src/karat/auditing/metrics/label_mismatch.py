"""On how many items the rare opinions of model and people are not the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing import labels_paired, labels_sets
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.labels_sheet import SHEET, Ints


@dataclass(frozen=True)
class LabelMismatch(Metric):
    """The share of items whose minority labels are not the same for model and people.

    Of the items on which at least one side has a minority (labels given least often, where not all are given
    equally often). Paper mode: of all items, and two sides without a minority count as different.
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    per: whose labels make one list: annotator, crowd, or auto (the crowd where each labels an item once)
    """

    labels: tuple[str, ...] = ()
    per: str = "auto"

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "Two groups of people mismatch on most items too (see best). The published count also holds "
        "the items on which nobody had a minority opinion."
    )
    cost: ClassVar[str] = "O(labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Read the items listed: rare opinions are missing or invented there."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "rare opinions differ on more items"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, section 5.1 (mismatched rows)"

    def __post_init__(self) -> None:
        labels_paired.check_per(self.per)

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        paired = labels_paired.opened(candidate, reference, context, labels=self.labels, per=self.per)
        if isinstance(paired, Comparison):
            return paired
        published = context.mode == "paper"

        def score(mine: Ints, theirs: Ints) -> labels_paired.Scored:
            sets = [labels_sets.minority(one) for one in (mine, theirs)]
            return labels_sets.differing(*sets, published=published)

        found = labels_paired.figures(paired, score, context, finish=labels_paired.share, sign=-1)
        human = paired.human[paired.mine.item]
        # an item tells most where people disagreed in earnest: the share of their labels off the mode
        split = 1 - human.max(axis=1, initial=0) / human.sum(axis=1).clip(1)
        differ = found.scored.amount * found.scored.weight
        told = labels_paired.telling(paired, differ * split, labels_paired.beside(paired))
        return labels_paired.comparison(
            found,
            note=labels_paired.note(paired),
            details={"items": float(differ.sum())},
            telling=told,
        )
