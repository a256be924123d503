"""How often a model's most frequent label of an item is one of people's most frequent ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import labels_paired, labels_sets, labels_sheet
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.labels_sheet import Ints


@dataclass(frozen=True)
class MajorityMatch(Metric):
    """The share of items on which the majority labels of model and people meet (M accuracy).

    The majority holds all labels with the largest count. Lists in which every label is another one have no
    majority; such items are left out, in paper mode they count as misses, and one label alone is none.
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    per: whose labels make one list: annotator, crowd, or auto (the crowd where each labels an item once)
    """

    labels: tuple[str, ...] = ()
    per: str = "auto"

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "An annotator who always gives the commonest label scores its base rate: read the value beside "
        "chance; and beside best, since people do not match themselves either."
    )
    cost: ClassVar[str] = "O(labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Mend the prompt (label options, definitions) or change the model; see item_information.",
        "higher": "The model agrees more than people do with each other: look at label_variation.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "closer to people's majority"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, section 5.1 (M accuracy)"

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
            sets = [labels_sets.majority(one, single=not published) for one in (mine, theirs)]
            return labels_sets.meeting(*sets, published=published)

        found = labels_paired.figures(paired, score, context, finish=labels_paired.share)
        alone, people = labels_sets.leave_one_out(paired.human)
        details = {"with_majority": float(labels_sets.majority(paired.human).any(axis=1).mean())}
        if people:
            details["leave_one_out"] = alone
        human = paired.human[paired.mine.item]
        sure = human.max(axis=1, initial=0) / np.maximum(human.sum(axis=1), 1)
        missed = found.scored.weight * (1 - found.scored.amount) * sure
        told = labels_paired.telling(paired, missed, labels_paired.beside(paired))
        return labels_paired.comparison(found, note=labels_paired.note(paired), details=details, telling=told)
