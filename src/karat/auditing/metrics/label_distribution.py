"""How far the labels of model and people are apart as distributions, item by item or pooled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from karat.auditing import labels_distance, labels_paired
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.labels_distance import Pooled
from karat.auditing.labels_paired import Figures, Paired, Scored
from karat.auditing.labels_sheet import SHEET, Ints

_TRIALS = 10


@dataclass(frozen=True)
class LabelDistribution(Metric):
    """The distance of the label shares of model and people, corrected for finite numbers of labels.

    Three labels an item are far from their own shares, so that raw distances are too large. The excess is
    measured on label shares drawn anew given the labels (Dirichlet-multinomial model) and taken off; details
    hold the raw figures. cross_entropy is left as it is. Paper mode: raw. Chance of pooled labels is what
    giving all labels equally often is at.
    distance: tvd (total variation), jsd (Jensen-Shannon divergence, bits), cross_entropy (soft, bits)
    level: item (the mean over items) or pooled (all labels of an annotator together)
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    per: whose labels make one list: annotator, crowd, or auto (the crowd where each labels an item once)
    """

    distance: str = "tvd"
    level: str = "item"
    labels: tuple[str, ...] = ()
    per: str = "auto"

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "Pooled shares can agree while no item does: read level=item too. With one label an item of a side "
        "nothing can be corrected, and the distance is that of single answers."
    )
    cost: ClassVar[str] = "O(labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Reweight or resample the labels, or calibrate them on a few items with many people."
    }
    size: ClassVar[View] = "all"
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "labels further from people's"
    source: ClassVar[str] = "Lin 1991 (JSD); Peterson et al. 2019 (soft cross-entropy); Mosimann 1962"

    def __post_init__(self) -> None:
        labels_paired.check_per(self.per)
        if self.distance not in labels_distance.DISTANCES:
            known = ", ".join(labels_distance.DISTANCES)
            raise ValueError(f"distance is {self.distance!r}; choose one of: {known}")
        if self.level not in ("item", "pooled"):
            raise ValueError(f"level is {self.level!r}; choose one of: item, pooled")

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        paired = labels_paired.opened(candidate, reference, context, labels=self.labels, per=self.per)
        if isinstance(paired, Comparison):
            return paired
        raw = self.distance == "cross_entropy" or context.mode == "paper"
        found = self._by_items(paired, context, raw)
        told = labels_paired.telling(
            paired, found.scored.amount * found.scored.weight, labels_paired.beside(paired)
        )
        pooled = Pooled(paired, self.distance)
        details = {"pooled.raw": pooled.of(paired.mine.counts, paired.human)[0]}
        if self.level == "pooled":
            found = self._pooled(paired, pooled, context, raw)
            details = {}
        with_raw = {} if raw else {"raw": self._raw(paired, pooled)}
        note = labels_paired.note(paired)
        if (paired.mine.counts.sum(axis=1) < 2).all() and not raw:
            note += "; the candidate gave one label an item, of which nothing can be taken off"
        return labels_paired.comparison(
            found, note=note, details={**with_raw, **details, **_shares(paired)}, telling=told
        )

    def _score(self, mine: Ints, theirs: Ints) -> Scored:
        found = labels_distance.distance(mine, theirs, self.distance)
        return Scored(np.nan_to_num(found), np.isfinite(found).astype(np.float64))

    def _raw(self, paired: Paired, pooled: Pooled) -> float:
        if self.level == "pooled":
            return pooled.of(paired.mine.counts, paired.human)[0]
        scored = self._score(paired.mine.counts, paired.human[paired.mine.item])
        return float((scored.amount * scored.weight).sum() / max(scored.weight.sum(), 1))

    def _by_items(self, paired: Paired, context: Context, raw: bool) -> Figures:
        """The mean over items; what finite numbers of labels add is taken off each list."""
        rng = np.random.default_rng(context.seed + 2)
        at, owner = paired.mine.item, paired.mine.owner

        def excess(mine: Ints, human: Ints, trials: int) -> Scored:
            return labels_distance.excess(
                mine, human, at=at, owner=owner, kind=self.distance, rng=rng, trials=trials
            )

        if raw:
            return labels_paired.figures(paired, self._score, context, sign=-1)
        found = labels_paired.figures(
            paired,
            self._score,
            context,
            sign=-1,
            less=excess(paired.mine.counts, paired.human, _TRIALS).amount,
        )
        blind = excess(paired.shuffled(rng), paired.human, 2)
        best = []
        for _ in range(5):
            ours, people = paired.twice(rng)
            scored = self._score(ours, people[at])
            less = excess(ours, people, 2)
            best.append(float(((scored.amount - less.amount) * scored.weight).sum() / scored.weight.sum()))
        floor = float(np.mean(best))
        return replace(
            found,
            chance=found.chance - float((blind.amount * blind.weight).sum() / max(blind.weight.sum(), 1)),
            chance_by={},
            best=floor,
            reference=floor,
            difference=found.value - floor,
        )

    def _pooled(self, paired: Paired, pooled: Pooled, context: Context, raw: bool) -> Figures:
        """All labels of an annotator together; the interval draws items, p swaps labels within items."""
        rng = np.random.default_rng(context.seed)
        value, each = pooled.of(paired.mine.counts, paired.human)
        null = np.array([pooled.of(*pooled.swapped(rng))[0] for _ in range(context.trials)])
        best = np.array([pooled.of(*paired.twice(rng))[0] for _ in range(20)])
        less, each_less = (0.0, np.zeros(len(each))) if raw else pooled.excess(rng, _TRIALS)
        rows = pooled.rows()
        drawn, means = pooled.drawn(labels_paired.weighted_sums(rows, context))
        moved = [
            _down(stats.percentile_interval(one), by) for one, by in zip(drawn.T, each_less, strict=True)
        ]
        names, n = paired.mine.owners, np.bincount(paired.mine.owner, minlength=len(paired.mine.owners))
        floor = float(best.mean()) - less
        return Figures(
            value=value - less,
            interval=_down(stats.percentile_interval(means), less),
            by={}
            if names == ("all",)
            else {
                name: (float(each[i] - each_less[i]), moved[i], int(n[i]))
                for i, name in enumerate(names[:60])
            },
            chance=pooled.even(),
            best=floor,
            reference=floor,
            difference=value - less - floor,
            difference_interval=None,
            p=stats.tail_p(value, null),
            blind_p=None,
            swapped=float(null.mean()),
            swapped_by={},
            chance_by={},
            n=paired.items,
            scored=Scored(np.zeros(0), np.zeros(0)),
        )


def _down(interval: tuple[float, float] | None, by: float) -> tuple[float, float] | None:
    return None if interval is None else (interval[0] - float(by), interval[1] - float(by))


def _shares(paired: Paired) -> dict[str, float]:
    """The share of each label on both sides, for labels that can be listed."""
    found: dict[str, float] = {}
    if len(paired.space) > 30:
        return found
    for side, counts in (("", paired.mine.counts), ("human.", paired.human)):
        total = max(int(counts.sum()), 1)
        for k, name in enumerate(paired.space):
            found[f"{side}share.{name}"] = float(counts[:, k].sum() / total)
    return found
