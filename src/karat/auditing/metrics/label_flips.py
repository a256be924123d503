"""How often a model's label of an item is another one than a person's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from karat.auditing import labels_paired
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.labels_paired import Paired, Scored
from karat.auditing.labels_sheet import SHEET, Floats, Ints, occurrence

_CELLS = 90


@dataclass(frozen=True)
class LabelFlips(Metric):
    """The share of pairs of a human and a model label of one item that differ; items count equally.

    Beside it: how often two people differ. details hold the matrix, flip.HUMAN>MODEL as a share of all pairs.
    Paper mode pairs the i-th human label with the i-th model label, up to the shorter list, and counts.
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    per: whose labels make one list: annotator, crowd, or auto (the crowd where each labels an item once)
    """

    labels: tuple[str, ...] = ()
    per: str = "auto"

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "People flip too: on a subjective task half of all pairs differ. In paper mode it depends on the "
        "order in which annotators stand in a list, which has no meaning."
    )
    cost: ClassVar[str] = "O(labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Read the largest cells of the matrix: a label that flips one way asks for a definition."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "more labels unlike people's"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, section 5.1 (label flips)"

    def __post_init__(self) -> None:
        labels_paired.check_per(self.per)

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        paired = labels_paired.opened(candidate, reference, context, labels=self.labels, per=self.per)
        if isinstance(paired, Comparison):
            return paired
        human = paired.human
        several = bool((human.sum(axis=1) > 1).mean() >= 0.5)

        def score(mine: Ints, theirs: Ints) -> Scored:
            n, m = mine.sum(axis=1), theirs.sum(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                flips = np.where((n > 0) & (m > 0), 1 - (mine * theirs).sum(axis=1) / (n * m), 0.0)
                among = 1 - (theirs * (theirs - 1)).sum(axis=1) / (m * (m - 1))
            known = (n > 0) & (m > (1 if several else 0))
            return Scored(flips, known.astype(np.float64), np.where(m > 1, among, 0.0) if several else None)

        found = labels_paired.figures(paired, score, context, finish=labels_paired.share)
        told = labels_paired.telling(
            paired, found.scored.weight * _surprise(paired, found.scored), labels_paired.beside(paired)
        )
        note = labels_paired.note(paired)
        if several:
            note += f"; two people differ on {found.best or 0:.1%} of their pairs"
        result = labels_paired.comparison(found, note=note, details=_matrix(paired), telling=told)
        return _positional(result, paired) if context.mode == "paper" else result


def _surprise(paired: Paired, scored: Scored) -> Floats:
    """How much more a list flips than people do among themselves."""
    return scored.amount - (scored.other if scored.other is not None else 0.0)


def _matrix(paired: Paired) -> dict[str, float]:
    """The share of pairs in each cell human > model, lists counting equally; the largest cells."""
    human = paired.human[paired.mine.item]
    n, m = paired.mine.counts.sum(axis=1), human.sum(axis=1)
    known = (n > 0) & (m > 0)
    table = (human[known] / m[known, None]).T @ (paired.mine.counts[known] / n[known, None])
    return _cells(table / max(int(known.sum()), 1), paired.space)


def _cells(table: Floats, space: tuple[str, ...]) -> dict[str, float]:
    table = table.copy()
    np.fill_diagonal(table, -1.0)
    order = np.argsort(-table, axis=None, kind="stable")[:_CELLS]
    cells = [np.unravel_index(i, table.shape) for i in order]
    return {f"flip.{space[a]}>{space[b]}": float(table[a, b]) for a, b in cells if a != b}


def _positional(found: Comparison, paired: Paired) -> Comparison:
    """The published count: the i-th label of a person with the i-th of the model."""
    mine, theirs = paired.sheets
    place = occurrence(theirs.item)
    table = np.full((paired.items, int(place.max(initial=0)) + 1), -1, np.int64)
    table[theirs.item, place] = theirs.label
    number = occurrence(paired.mine.member)
    inside = number < table.shape[1]
    human = np.where(inside, table[mine.item, np.minimum(number, table.shape[1] - 1)], -1)
    both = (human >= 0) & (mine.label >= 0)
    kinds = len(paired.space)
    cells = np.bincount(human[both] * kinds + mine.label[both], minlength=kinds * kinds)
    size = len(paired.mine)
    pairs = np.bincount(paired.mine.member[both], minlength=size).astype(np.float64)
    flips = np.bincount(paired.mine.member[both], (human != mine.label)[both], size)
    share = np.divide(flips, pairs, out=np.zeros(size), where=pairs > 0)
    value, interval, _ = labels_paired.ratio(share[pairs > 0], pairs[pairs > 0], labels_paired.share)
    owner = paired.mine.owner
    by = {
        name: labels_paired.ratio(
            share[(owner == i) & (pairs > 0)], pairs[(owner == i) & (pairs > 0)], labels_paired.share
        )
        for i, name in enumerate(paired.mine.owners)
        if name in found.by
    }
    kept = {name: value for name, value in found.details.items() if not name.startswith("flip.")}
    matrix = cells.reshape(kinds, kinds).astype(np.float64)
    return replace(
        found,
        value=value,
        interval=interval,
        difference=None if found.reference is None else value - found.reference,
        difference_interval=None,
        by=by,
        details={
            **kept,
            "flips": float(flips.sum()),
            "pairs": float(pairs.sum()),
            **_cells(matrix, paired.space),
        },
        note=found.note + "; chance, best and p are those of all pairs",
    )
