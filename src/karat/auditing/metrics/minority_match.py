"""How often a model's rarest label of an item is one of people's rarest ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing import labels_paired, labels_sets, labels_sheet
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.labels_sheet import Ints


@dataclass(frozen=True)
class MinorityMatch(Metric):
    """The share of items on which the minority labels of model and people meet (m accuracy).

    The minority holds all labels with the smallest count; lists of equally frequent labels (one label alone
    too) have none. Items without a minority on either side are left out; in paper mode they count as misses.
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    per: whose labels make one list: annotator, crowd, or auto (the crowd where each labels an item once)
    """

    labels: tuple[str, ...] = ()
    per: str = "auto"

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "In paper mode it measures whether a model varies its answers at all, and items without a human "
        "minority set its ceiling: read it beside chance and best only."
    )
    cost: ClassVar[str] = "O(labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Rare opinions are missed: sample at a higher temperature, with personas, or ask people.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "closer to people's minority"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, section 5.1 (m accuracy)"

    def __post_init__(self) -> None:
        labels_paired.check_per(self.per)

    def needs(self) -> tuple[Need, ...]:
        return (labels_sheet.SHEET,)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        published = context.mode == "paper"
        paired = labels_paired.opened(candidate, reference, context, labels=self.labels, per=self.per)
        if isinstance(paired, Comparison):
            return paired

        def score(mine: Ints, theirs: Ints) -> labels_paired.Scored:
            sets = [labels_sets.minority(one) for one in (mine, theirs)]
            return labels_sets.meeting(*sets, published=published)

        found = labels_paired.figures(paired, score, context, finish=labels_paired.share)
        human = paired.human
        ours, people = (labels_sets.minority(one).any(axis=1) for one in (paired.mine.counts, human))
        details = {"with_minority": float(ours.mean()), "human_with_minority": float(people.mean())}
        note = labels_paired.note(paired)
        if not found.n:
            note = "no item has a minority label on both sides: one side never varies"
        missed = found.scored.weight * (1 - found.scored.amount)
        told = labels_paired.telling(paired, missed, labels_paired.beside(paired))
        return labels_paired.comparison(found, note=note, details=details, telling=told)
