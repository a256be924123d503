"""Whether labels depend on the item at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import labels_distance, labels_information, labels_paired, labels_sheet
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.labels_information import Moments, Source
from karat.auditing.labels_paired import Paired, Part
from karat.auditing.labels_sheet import SHEET, Floats, Ints, Lists

_BEST = 20
_NAMED = 60


@dataclass(frozen=True)
class ItemInformation(Metric):
    """How far labels depend on the item: the correlation of an item's mean label with people's mean label.

    Pearson's r of mean labels; for labels without an order of their shares, added over labels. Without a
    reference: the share of the variance of single labels that the item explains. details: permutation_p, that
    labels do not depend on the item; bits, the mutual information with people's majority beyond chance.
    Warns degenerate_source of annotators whose draws are constant or say nothing about the item.
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    per: whose labels make one list: annotator, crowd, or auto (the crowd where each labels an item once)
    scale: auto (numbers, and labels whose order is given, are a scale) or nominal (numbers are names)
    """

    labels: tuple[str, ...] = ()
    per: str = "auto"
    scale: str = "auto"

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "It sees dependence, not agreement: labels with exchanged codes have a strong negative r. Few labels "
        "an item lower r for people too, so read it beside best."
    )
    cost: ClassVar[str] = "O(labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Near 0 the annotator did not judge the items: leave it out, or mend its prompt and parser.",
        "higher": "The model follows people's mean more closely than people do: see label_variation.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    higher: ClassVar[str] = "labels tell more about the item"
    source: ClassVar[str] = "Pearson 1895; Landis and Koch 1977 (without a reference); Shannon 1948 (bits)"

    def __post_init__(self) -> None:
        labels_paired.check_per(self.per)
        if self.scale not in ("auto", "nominal"):
            raise ValueError(f"scale is {self.scale!r}; choose one of: auto, nominal")

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        if reference is None:
            return self._alone(candidate, context)
        paired = labels_paired.opened(candidate, reference, context, labels=self.labels, per=self.per)
        if isinstance(paired, Comparison):
            return paired
        if self.scale == "nominal":
            paired = replace(paired, points=None)
        rng = np.random.default_rng(context.seed)
        at, human = paired.mine.item, paired.human
        value, estimate, by, sources = self._figures(paired, context)
        null, blind, best = [], [], []
        for _ in range(context.trials):
            ours, people = paired.swapped(rng)
            again = labels_sheet.summed(paired.theirs.item, people, paired.items)
            null.append(self._mean(paired, ours, again[at]) - _among(paired, again))
            blind.append(self._mean(paired, paired.shuffled(rng), human[at]))
        for _ in range(_BEST):
            ours, people = paired.twice(rng)
            best.append(self._mean(paired, ours, people[at]))
        ceiling = float(np.mean(best))
        shares = human.sum(axis=0) / max(int(human.sum()), 1)
        known = [Source(one.name, one.value, one.interval, ceiling) for one in sources]
        warnings = labels_information.degenerate(paired.sheets[0], known, shares)
        bits = _bits(paired.mine.counts, human[at])
        chance_bits = float(np.mean([_bits(paired.shuffled(rng), human[at]) for _ in range(10)]))
        sign = np.sign(value) or 1.0
        gap = _distance(paired)
        return Comparison(
            value=value,
            interval=estimate.interval(bounds=self.bounds),
            p=stats.tail_p(value - _among(paired, human), null),
            chance=float(np.mean(blind)),
            best=ceiling,
            reference=ceiling,
            difference=value - ceiling,
            n=int((paired.mine.counts.sum(axis=1) > 0).sum()),
            note=labels_paired.note(paired),
            details={
                "permutation_p": stats.tail_p(sign * value, sign * np.array(blind)),
                "bits": bits - chance_bits,
            },
            by=by,
            warnings=warnings,
            telling=labels_paired.telling(paired, gap, labels_paired.beside(paired)),
        )

    def _mean(self, paired: Paired, mine: Ints, theirs: Ints) -> float:
        """The mean r over annotators, weighted by their lists."""
        return _weighted(_moments(paired, mine, theirs, paired.mine.owner, len(paired.mine.owners)))

    def _figures(
        self, paired: Paired, context: Context
    ) -> tuple[float, stats.Estimate, dict[str, Part], list[Source]]:
        """The mean r with its jackknife, and r of each annotator."""
        at, groups, owners = paired.mine.item, context.groups, paired.mine.owners
        cell = paired.mine.owner * groups + paired.groups[at]
        cells = _moments(paired, paired.mine.counts, paired.human[at], cell, len(owners) * groups)
        each = cells.merged(groups)
        values, left, sizes = each.correlation(), cells.left_out(groups), each.sums[:, 0]
        known = np.isfinite(values)
        if not known.any():
            return float("nan"), stats.Estimate(float("nan"), float("nan"), 0), {}, []
        by, sources = {}, []
        for i in np.flatnonzero(known):
            interval = stats.jackknife(float(values[i]), left[i]).interval(bounds=self.bounds)
            sources.append(Source(owners[i], float(values[i]), interval, None))
            by[owners[i]] = (float(values[i]), interval, int(sizes[i]))
        value = _weighted(each)
        share = sizes[known] / sizes[known].sum()
        named = {} if owners == ("all",) else dict(list(by.items())[:_NAMED])
        return value, stats.jackknife(value, share @ left[known]), named, sources

    def _alone(self, candidate: Summary, context: Context) -> Comparison:
        """The variance of labels that the item explains, without people to compare with."""
        book = labels_sheet.read(candidate[SHEET], labels=self.labels)
        if book.lacks:
            return labels_paired.nothing(book.lacks)
        crowd = self.per == "crowd" or (self.per == "auto" and not labels_sheet.repeats(book.mine))
        mine = labels_sheet.lists(book.mine, len(book.space), crowd=crowd)
        if not (mine.counts.sum(axis=1) > 1).any():
            return labels_paired.nothing("no item has two labels, and there is no reference")
        group = book.groups[mine.item]
        parts = np.array(
            [_explained(mine, np.ones(len(mine), np.bool_))]
            + [_explained(mine, group != g) for g in range(context.groups)]
        )
        rng = np.random.default_rng(context.seed)
        blind = []
        for _ in range(context.trials):
            # labels are dealt anew among all items of their annotator
            order = np.argsort(book.mine.annotator + rng.random(len(book.mine)))
            label = np.empty_like(book.mine.label)
            label[np.argsort(book.mine.annotator, kind="stable")] = book.mine.label[order]
            counts = labels_sheet.tally(mine.member, label, *mine.counts.shape)
            blind.append(labels_information.explained(counts))
        value = float(parts[0])
        return Comparison(
            value=value,
            interval=stats.jackknife(value, parts[1:]).interval(bounds=self.bounds),
            chance=float(np.nanmean(blind)),
            best=1.0,
            n=int((mine.counts.sum(axis=1) > 1).sum()),
            note="the share of the variance of single labels that the item explains; no reference",
            details={"permutation_p": stats.tail_p(value, blind, two_sided=False)},
            by={
                name: (_explained(mine, mine.owner == i), None, int((mine.owner == i).sum()))
                for i, name in enumerate(mine.owners[:_NAMED])
                if not crowd
            },
            warnings=labels_information.degenerate(
                book.mine, (), mine.counts.sum(axis=0) / max(int(mine.counts.sum()), 1), others="all"
            ),
        )


def _moments(paired: Paired, mine: Ints, theirs: Ints, cell: Ints, cells: int) -> Moments:
    x, y = (labels_information.features(one, paired.points) for one in (mine, theirs))
    return Moments.of(x, y, _known(mine, theirs), cell, cells)


def _among(paired: Paired, human: Ints) -> float:
    """The r that further people would have: beside it the p-value looks at r, see labels_paired."""
    draws = paired.mine.counts.sum(axis=1)
    return labels_information.among_people(human, float(draws[draws > 0].mean()), paired.points)


def _weighted(moments: Moments) -> float:
    """The mean r over cells, weighted by their rows."""
    r, n = moments.correlation(), moments.sums[:, 0]
    known = np.isfinite(r)
    return float((r[known] * n[known]).sum() / n[known].sum()) if known.any() else float("nan")


def _known(mine: Ints, theirs: Ints) -> Floats:
    both: NDArray[np.bool_] = (mine.sum(axis=1) > 0) & (theirs.sum(axis=1) > 0)
    return both.astype(np.float64)


def _explained(mine: Lists, chosen: NDArray[np.bool_]) -> float:
    """The mean over annotators of what the item explains, weighted by their lists."""
    total, weight = 0.0, 0
    for i in range(len(mine.owners)):
        counts = mine.counts[chosen & (mine.owner == i)]
        found = labels_information.explained(counts) if len(counts) else float("nan")
        if np.isfinite(found):
            total, weight = total + found * len(counts), weight + len(counts)
    return total / weight if weight else float("nan")


def _bits(mine: Ints, theirs: Ints) -> float:
    """The mutual information of label and people's majority, in bits, lists counting equally."""
    known = _known(mine, theirs) > 0
    shares = mine[known] / mine[known].sum(axis=1, keepdims=True)
    modes = theirs[known] == theirs[known].max(axis=1, keepdims=True)
    return labels_distance.information(shares.T @ (modes / modes.sum(axis=1, keepdims=True)))


def _distance(paired: Paired) -> Floats:
    """How far each list's mean is from people's, in standard deviations of people's means."""
    x = labels_information.features(paired.mine.counts, paired.points)
    y = labels_information.features(paired.human, paired.points)
    spread = np.sqrt(((y - y.mean(axis=0)) ** 2).sum(axis=1).mean())
    gap = np.sqrt(((x - y[paired.mine.item]) ** 2).sum(axis=1))
    return np.asarray(gap * _known(paired.mine.counts, paired.human[paired.mine.item]) / max(spread, 1e-9))
