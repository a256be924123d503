"""How far each annotator agrees with the majority of people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import agreement, labels_coding, labels_paired, labels_sets, labels_sheet
from karat.auditing import statistics as stats
from karat.auditing.agreement import Panels
from karat.auditing.base import Comparison, Context, Found, Metric, Need, Summary, Telling, View
from karat.auditing.labels_paired import Paired, Part
from karat.auditing.labels_sheet import SHEET, Floats, Ints, Lists

_NAMED = 60


@dataclass(frozen=True)
class AnnotatorAgreement(Metric):
    """Cohen's kappa (or accuracy) of each annotator with the majority of people, beside that of a person.

    A person is held against the majority of the other people, and the model against the same majorities, each
    person left out in turn; ties share. Without a reference each annotator is held against all others. Paper
    mode: the majority of all people. details.leave_one_out: how often a person's label is among the most
    frequent ones of the others, ties counted full.
    measure: kappa or accuracy
    weights: of kappa: none, linear or quadratic (for labels with an order)
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    """

    measure: str = "kappa"
    weights: str = "none"
    labels: tuple[str, ...] = ()

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "Kappa is low wherever one label is very common, and agreement with a majority says nothing of "
        "minorities. An annotator beyond best agrees with people more than they do."
    )
    cost: ClassVar[str] = "O(labels)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Mend the prompt or the label definitions; look for exchanged codes (coding_inverted).",
        "higher": "The model gives the majority's label more surely than people do: it is no crowd.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    higher: ClassVar[str] = "agrees more with people's majority"
    source: ClassVar[str] = "Cohen 1960, 1968; Das et al. 2024 (leave-one-out ceiling)"

    def __post_init__(self) -> None:
        if self.measure not in ("kappa", "accuracy"):
            raise ValueError(f"measure is {self.measure!r}; choose one of: kappa, accuracy")
        if self.weights not in agreement.WEIGHTS:
            known = ", ".join(agreement.WEIGHTS)
            raise ValueError(f"weights is {self.weights!r}; choose one of: {known}")

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        if reference is None:
            return self._among(candidate, context)
        paired = labels_paired.opened(candidate, reference, context, labels=self.labels, per="annotator")
        if isinstance(paired, Comparison):
            return paired
        scale = self._scale(paired.space, paired.points)
        others = agreement.panels(paired.theirs, paired.items)
        known = others.known
        several = np.bincount(paired.theirs.item, known, paired.items).astype(np.float64)
        full = labels_sets.even(labels_sets.modes(paired.human))
        alone = context.mode == "paper" or (several > 1).mean() < 0.5
        targets = full if alone else _means(others.targets, known, paired.theirs.item, several)
        shares = agreement.shares_of(paired.mine.counts)
        mine = Panels(targets[paired.mine.item], shares)
        model = _Tables.of(paired.mine, mine, mine.known, paired.groups, context.groups)
        weight = known / np.maximum(several, 1)[paired.theirs.item]
        people = _Tables.of(paired.theirs, others, weight, paired.groups, context.groups)
        value, left, by = model.scored(scale)
        human, human_left = scale.of(people.whole), scale.of(agreement.left_out(people.parts))
        estimate = stats.jackknife(value, left)
        compared = not alone and np.isfinite(human)
        gap = (
            stats.against_zero(stats.jackknife(value - float(human), left - human_left)) if compared else None
        )
        rate, n = labels_sets.leave_one_out(paired.human)
        odd = agreement.outliers(paired.theirs, others, paired.items)
        details = {
            "accuracy": float(agreement.accuracy(model.whole)),
            "kappa": float(agreement.kappa(model.whole, agreement.apart(len(paired.space), None, "none"))),
            **({"leave_one_out": rate} if n else {}),
            **{f"outlier.{one.name}": one.less for one in odd},
        }
        beside = people.scored(scale)[2] if len(paired.theirs.owners) <= _NAMED else {}
        return Comparison(
            value=value,
            interval=estimate.interval(bounds=self.bounds),
            chance=scale.chance(model.whole),
            best=float(human) if compared else 1.0,
            reference=float(human) if compared else None,
            reference_interval=stats.jackknife(float(human), human_left).interval(bounds=self.bounds)
            if compared
            else None,
            difference=gap.value if gap else None,
            difference_interval=gap.interval if gap else None,
            p=gap.p if gap else None,
            n=int(mine.known.sum()),
            note=_note(paired, odd, alone),
            details=details,
            by={**by, **{f"reference.{name}": part for name, part in beside.items()}},
            warnings=model.warnings(paired.space, paired.points),
            telling=_unlike(paired, mine),
        )

    def _among(self, candidate: Summary, context: Context) -> Comparison:
        """Each annotator of one corpus against the majority of all others."""
        book = labels_sheet.read(candidate[SHEET], labels=self.labels)
        if book.lacks:
            return labels_paired.nothing(book.lacks)
        mine = labels_sheet.lists(book.mine, len(book.space))
        others = agreement.panels(mine, book.items)
        if not others.known.any():
            return labels_paired.nothing("no item was labelled by two annotators, and there is no reference")
        scale = self._scale(book.space, book.points)
        model = _Tables.of(mine, others, others.known, book.groups, context.groups)
        value, left, by = float(scale.of(model.whole)), scale.of(agreement.left_out(model.parts)), model
        odd = agreement.outliers(mine, others, book.items)
        return Comparison(
            value=value,
            interval=stats.jackknife(value, left).interval(bounds=self.bounds),
            chance=scale.chance(model.whole),
            best=1.0,
            n=int(others.known.sum()),
            note="each annotator against the majority of the others" + _named(odd),
            details={
                "accuracy": float(agreement.accuracy(model.whole)),
                "leave_one_out": labels_sets.leave_one_out(mine.by_item(book.items))[0],
                **{f"outlier.{one.name}": one.less for one in odd},
            },
            by=by.scored(scale)[2],
            warnings=model.warnings(book.space, book.points),
        )

    def _scale(self, space: tuple[str, ...], points: Floats | None) -> _Scale:
        return _Scale(self.measure, agreement.apart(len(space), points, self.weights))


@dataclass(frozen=True)
class _Scale:
    """How a table becomes a number."""

    measure: str
    distance: Floats

    def of(self, tables: Floats) -> Floats:
        """The measure of tables [..., K, K]."""
        if self.measure == "accuracy":
            return agreement.accuracy(tables)
        return agreement.kappa(tables, self.distance)

    def chance(self, table: Floats) -> float:
        """What labels that do not depend on the item reach."""
        return agreement.by_chance(table) if self.measure == "accuracy" else 0.0


@dataclass(frozen=True)
class _Tables:
    """Tables of label against target: of all lists [G, K, K], and of each annotator."""

    parts: Floats
    each: Mapping[str, Floats]
    sizes: Mapping[str, int]

    @staticmethod
    def of(lists: Lists, panels: Panels, weight: Floats, group: Ints, groups: int) -> _Tables:
        """Tables by annotator and replicate group."""
        each, sizes = {}, {}
        where = group[lists.item]
        total = np.zeros((groups, lists.counts.shape[1], lists.counts.shape[1]))
        for i, name in enumerate(lists.owners):
            chosen = (lists.owner == i) & (weight > 0)
            if chosen.any():
                # of one annotator each item counts once, whatever its weight among all annotators
                ones = np.ones(int(chosen.sum()))
                each[name] = agreement.tables(
                    panels.shares[chosen], panels.targets[chosen], ones, where[chosen], groups
                )
                sizes[name] = int(chosen.sum())
        total += agreement.tables(panels.shares, panels.targets, weight, where, groups)
        return _Tables(total, each, sizes)

    @property
    def whole(self) -> Floats:
        """float64 [K, K]: all groups together."""
        return np.asarray(self.parts.sum(axis=0), dtype=np.float64)

    def scored(self, scale: _Scale) -> tuple[float, Floats, dict[str, Part]]:
        """The mean over annotators weighted by their items, the same with one group left out, and each."""
        names = sorted(self.each)
        weights = np.array([self.sizes[name] for name in names], dtype=np.float64)
        values = np.array([float(scale.of(self.each[name].sum(axis=0))) for name in names])
        left = np.array([scale.of(agreement.left_out(self.each[name])) for name in names])
        by = {
            name: (float(value), stats.jackknife(float(value), one).interval(bounds=(-1.0, 1.0)), int(size))
            for name, value, one, size in list(zip(names, values, left, weights))[:_NAMED]
        }
        known = np.isfinite(values)
        if not known.any():
            return float("nan"), np.full(len(self.parts), np.nan), by
        share = weights[known] / weights[known].sum()
        return float(share @ values[known]), share @ left[known], by

    def warnings(self, space: tuple[str, ...], points: Floats | None) -> tuple[Found, ...]:
        """Annotators whose codes seem to be exchanged."""
        found = []
        for name, parts in self.each.items():
            changed = labels_coding.recoded(parts, space, points)
            if changed is not None:
                found.append(changed.found(name))
        return tuple(found)


def _means(targets: Floats, known: Floats, item: Ints, several: Floats) -> Floats:
    """float64 [items, K]: the mean over people of the majorities that leave each of them out."""
    found = np.zeros((len(several), targets.shape[1]))
    np.add.at(found, item, targets * known[:, None])
    return found / np.maximum(several, 1)[:, None]


def _note(paired: Paired, odd: tuple[agreement.Outlier, ...], alone: bool) -> str:
    said = labels_paired.note(paired)
    if alone:
        said += "; against the majority of all people"
    return said + _named(odd)


def _named(odd: tuple[agreement.Outlier, ...]) -> str:
    if not odd:
        return ""
    return "; agree less than the others on the same items: " + ", ".join(
        f"{one.name} (by {one.less:.2f})" for one in odd[:5]
    )


def _unlike(paired: Paired, mine: Panels) -> tuple[Telling, ...]:
    """Lists that miss the majority of people where people agree most."""
    human = paired.human[paired.mine.item]
    n = np.maximum(human.sum(axis=1), 1)
    sure = human.max(axis=1, initial=0) / n * (1 - 0.5 / n)  # five of five tell more than one of one
    return labels_paired.telling(paired, mine.known * (1 - mine.hits) * sure, labels_paired.beside(paired))
