"""How often all draws of an annotator on one item are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from karat.auditing import labels_paired, labels_sheet, labels_spread
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.labels_paired import Scored
from karat.auditing.labels_sheet import SHEET, Floats, Ints, Lists


@dataclass(frozen=True)
class ResponseRepetition(Metric):
    """The share of items on which all labels of a list are the same, beside what as many people would give.

    With people beside it: the chance that as many labels of the list as both sides have are all one, so that
    five draws are not held against three people. details: all_same, the share with all draws as they are.
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    per: whose labels make one list: annotator, crowd, or auto (the crowd where each labels an item once)
    """

    labels: tuple[str, ...] = ()
    per: str = "auto"

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = "On items that everybody labels alike repetition is right: compare with people."
    cost: ClassVar[str] = "O(labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "More draws of this prompt add nothing: vary prompt or persona, or pay for one draw only.",
        "lower": "The model is less sure than people agree: lower the temperature or mend the prompt.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "answers repeat themselves more"
    source: ClassVar[str] = "Hoeffding 1948 (U-statistics); artifact studies of repeated LLM annotation"

    def __post_init__(self) -> None:
        labels_paired.check_per(self.per)

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        if reference is None:
            return self._alone(candidate)
        paired = labels_paired.opened(candidate, reference, context, labels=self.labels, per=self.per)
        if isinstance(paired, Comparison):
            return paired
        published = context.mode == "paper"

        def score(mine: Ints, theirs: Ints) -> Scored:
            n, m = mine.sum(axis=1), theirs.sum(axis=1)
            draws = np.minimum(n, m)
            known = draws > 1
            ours = labels_spread.same(mine, n if published else draws)
            people = labels_spread.same(theirs, draws)
            return Scored(np.where(known, ours, 0.0), known.astype(np.float64), np.where(known, people, 0.0))

        found = labels_paired.figures(paired, score, context, finish=labels_paired.share, blind=False)
        if not found.n:
            return labels_paired.nothing("no item has two labels on both sides")
        by_item = paired.human[paired.mine.item]
        chance = _by_chance(paired.mine, np.minimum(paired.mine.counts.sum(axis=1), by_item.sum(axis=1)))
        assert found.scored.other is not None
        more = (found.scored.amount - found.scored.other) * found.scored.weight
        return replace(
            labels_paired.comparison(
                found,
                note=labels_paired.note(paired),
                details=_shares(paired.mine),
                telling=labels_paired.telling(paired, more, labels_paired.beside(paired)),
            ),
            chance=chance,
        )

    def _alone(self, candidate: Summary) -> Comparison:
        """The share with all draws the same, and what draws from the overall shares would give."""
        book = labels_sheet.read(candidate[SHEET], labels=self.labels)
        if book.lacks:
            return labels_paired.nothing(book.lacks)
        crowd = self.per == "crowd" or (self.per == "auto" and not labels_sheet.repeats(book.mine))
        mine = labels_sheet.lists(book.mine, len(book.space), crowd=crowd)
        draws = mine.counts.sum(axis=1)
        chosen = draws > 1
        if not chosen.any():
            return labels_paired.nothing("no item has two labels")
        amount = labels_spread.same(mine.counts, draws)
        everyone = labels_paired.ratio(amount[chosen], np.ones(int(chosen.sum())), labels_paired.share)
        return Comparison(
            value=everyone[0],
            interval=everyone[1],
            chance=_by_chance(mine, draws),
            n=everyone[2],
            note="without people's labels nothing says how much repetition is right",
            by=labels_paired.by_owner(mine, amount, chosen.astype(np.float64), labels_paired.share),
            details=_shares(mine),
        )


def _shares(mine: Lists) -> dict[str, float]:
    """How many lists of two and more hold one label only."""
    draws = mine.counts.sum(axis=1)
    several = draws > 1
    same = (mine.counts > 0).sum(axis=1) == 1
    return {"all_same": float(same[several].mean()) if several.any() else float("nan")}


def _by_chance(mine: Lists, draws: Ints) -> float:
    """How often as many draws from the overall shares of each annotator would be all one."""
    owners = len(mine.owners)
    totals = labels_sheet.summed(mine.owner, mine.counts, owners)
    shares = totals / np.maximum(totals.sum(axis=1, keepdims=True), 1)
    chosen = draws > 1
    powers: Floats = shares[mine.owner[chosen]] ** draws[chosen, None]
    return float(powers.sum(axis=1).mean()) if chosen.any() else float("nan")
