"""How often a machine text has an attribute that its human source lacks, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import attributes
from karat.auditing import statistics as stats
from karat.auditing.attributes import Linked
from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, Telling, View
from karat.auditing.scorers.base import Scorer
from karat.errors import InputError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
_CATEGORIES = 40
_CLASSES = 30
_SHOWN = 8


@dataclass(frozen=True)
class AttributeFlip(Metric):
    """The share of machine texts that changed an attribute of the human text they were made from.

    1m0h: the machine text has it and the human one has not; 0m1h the reverse; each stands in `by`, also
    within each category. The value is the mean over attributes of both together. Chance: the machine texts
    dealt out among the human ones at random. p asks whether both directions are alike (exact McNemar test
    by source, Holm over attributes).
    attribute: one or several joined by + (joy+sadness)
    scorer: who scores: field, text_classification, trained, lineage
    model: a classifier, for the scorer text_classification
    on: a file of records whose value is known, for the scorer trained
    link: the field that names the human source (human_id, pair_id); empty: the parents in the lineage
    category: the field by which flips are counted apart
    threshold: scores from here on say that a text has the attribute
    gapped: attributes that flip by a difference of scores instead, joined by +
    gap: the difference of scores beyond which those flip
    """

    attribute: str = ""
    scorer: str = "field"
    model: str = ""
    on: str = ""
    link: str = ""
    category: str = "label"
    threshold: float = 0.5
    gapped: tuple[str, ...] = ("metaphor",)
    gap: float = 0.15

    family: ClassVar[str] = "attribute"
    misleads: ClassVar[str] = (
        "A noisy classifier flips by itself: two human texts of one meaning flip too. A rate says nothing "
        "without the other direction beside it; only the asymmetry shows a shift."
    )
    cost: ClassVar[str] = "one classifier over all linked records of both sides; O(pairs) for fields"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Show the source text in the prompt and ask to keep its tone; drop pairs that flip."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    by_label: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "more attributes changed"
    source: ClassVar[str] = (
        "Das et al. 2024, Under the Surface, section on free-form text (1m0h, 0m1h); McNemar 1947; Durkalski "
        "et al. 2003 (clusters)"
    )

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold:g}, but must be above 0 and at most 1")

    def _scorer(self) -> Scorer:
        return attributes.scorer_of(self.scorer, attribute=self.attribute, on=self.on, model=self.model)

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if self.link and self.link not in candidate.fields:
            return f"needs a field {self.link} in the candidate"
        if not self.link and not candidate.linked:
            return "needs pairs: parents in the lineage of the candidate, or a field that names them (link=)"
        return attributes.lacking(self._scorer(), candidate, reference)

    def needs(self) -> tuple[Need, ...]:
        further = [self.link, "text"] if self.link else []
        return attributes.needed(self._scorer(), -1, self.category, *further)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        ours, theirs = attributes.material(
            [candidate, reference], self.needs(), records=-1, budget=context.budget
        )
        pairs = attributes.linked(ours.columns, theirs.columns, self.link)
        if not len(pairs):
            where = self.link or "lineage.parents"
            raise InputError(
                f"no candidate record names a reference record by {where}; give its sources as reference"
            )
        sources, place = np.unique(pairs.theirs, return_inverse=True)
        scores = attributes.scored(self._scorer(), [ours.given(pairs.ours), theirs.given(sources)], context)
        machine, human = scores.rows[0], scores.rows[1][place]
        names = [name for name in scores.names[:_CLASSES] if self._moved(machine, human, scores.names, name)]
        found = {
            name: self._flips(machine[:, i], human[:, i], name)
            for i, name in enumerate(scores.names)
            if name in names
        }
        extra: dict[str, Any] = {"scorer": scores.id, "linked_by": pairs.how, "attributes": len(found)}
        if not found:
            note = "no linked pair has scores on both sides"
            return Comparison(float("nan"), n=0, note=note, extra=extra)
        categories = _categories(ours.columns[self.category][pairs.ours])
        return self._compared(found, pairs, categories, ours, extra)

    def _moved(self, machine: Floats, human: Floats, names: tuple[str, ...], name: str) -> bool:
        i = names.index(name)
        return bool((np.isfinite(machine[:, i]) & np.isfinite(human[:, i])).any())

    def _flips(self, machine: Floats, human: Floats, name: str) -> Flips:
        known = np.isfinite(machine) & np.isfinite(human)
        if name in self.gapped:
            up, down = machine - human > self.gap, human - machine > self.gap
            chance = None
        else:
            has, had = machine >= self.threshold, human >= self.threshold
            up, down = has & ~had, ~has & had
            share, before = float(has[known].mean()), float(had[known].mean())
            chance = share * (1 - before) + (1 - share) * before
        if chance is None:
            chance = _chance_of_gaps(machine[known], human[known], self.gap)
        return Flips(up & known, down & known, known, chance)

    def _compared(
        self,
        found: Mapping[str, Flips],
        pairs: Linked,
        categories: Mapping[str, Flags],
        ours: attributes.Material,
        extra: dict[str, Any],
    ) -> Comparison:
        sources = attributes.numbered(pairs.theirs)
        either = np.mean([one.up | one.down for one in found.values()], axis=0)
        estimate = attributes.clustered_mean(either, sources)
        interval = estimate.interval(bounds=(0.0, 1.0))
        if estimate.error == 0:  # none of n flipped, which n says how surely
            interval = stats.wilson(round(estimate.value * (sources.max() + 1)), int(sources.max()) + 1)
        tests = {name: one.p(sources) for name, one in found.items()}
        holm = dict(zip(tests, stats.holm(list(tests.values())), strict=True))
        details: dict[str, float] = {"pairs": float(len(pairs)), "sources": float(sources.max() + 1)}
        rows: dict[str, tuple[float, tuple[float, float] | None, int]] = {}
        for name, one in found.items():
            rows |= one.rows(name, sources)
            details |= {f"p_holm.{name}": holm[name] or 0.0, f"chance.{name}": one.chance}
            details[f"odds.{name}"] = float((one.up.sum() + 0.5) / (one.down.sum() + 0.5))
        for category, mask in categories.items():
            for name, one in found.items():
                rows |= {
                    f"{key} in {category}": row for key, row in one.within(mask).rows(name, sources).items()
                }
        order = np.argsort(-either, kind="stable")[:_SHOWN]
        telling = [
            Telling(int(ours.keys[pairs.ours[i]]), float(either[i]), _changed(found, int(i)))
            for i in order
            if either[i] > 0
        ]
        return Comparison(
            value=estimate.value,
            interval=interval,
            p=min(p for p in holm.values() if p is not None),
            chance=float(np.mean([one.chance for one in found.values()])),
            best=0.0,
            n=len(pairs),
            note=_note(found, holm),
            details=details,
            by=rows,
            extra=extra,
            telling=tuple(telling),
        )


@dataclass(frozen=True)
class Flips:
    """Which pairs gained an attribute (up), which lost it (down), which are known, and the rate by chance."""

    up: Flags
    down: Flags
    known: Flags
    chance: float

    def within(self, mask: Flags) -> Flips:
        """The pairs of a category."""
        return Flips(self.up & mask, self.down & mask, self.known & mask, self.chance)

    def p(self, sources: Ints) -> float:
        """The exact p of "gains and losses are alike", whole sources flipped."""
        moved = self.up.astype(np.int64) - self.down.astype(np.int64)
        return attributes.sign_p(np.bincount(sources, weights=moved).round())

    def rows(self, name: str, sources: Ints) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
        """Both rates with intervals: Wilson's at the effective number of pairs."""
        from karat.auditing.shares import design_effect

        n = int(self.known.sum())
        if not n:
            return {}
        found: dict[str, tuple[float, tuple[float, float] | None, int]] = {}
        group = attributes.numbered(sources[self.known])
        for key, flags in ((f"{name} 1m0h", self.up), (f"{name} 0m1h", self.down)):
            inside = flags[self.known]
            effect = design_effect(inside.astype(np.int64), group, 2)
            interval = stats.wilson(round(inside.sum() / effect), max(1, round(n / effect)))
            found[key] = (float(inside.mean()), interval, n)
        return found


def _chance_of_gaps(machine: Floats, human: Floats, gap: float) -> float:
    """The share of all pairs (any machine, any human text) that differ by more than `gap`, in O(n log n)."""
    ordered = np.sort(human)
    above = len(human) - np.searchsorted(ordered, machine + gap, side="right")
    below = np.searchsorted(ordered, machine - gap, side="left")
    return float((above + below).mean() / len(human)) if len(human) else float("nan")


def _categories(values: NDArray[Any]) -> dict[str, Flags]:
    """The most frequent values of the category, in order, and which pairs have each."""
    named = np.array(["" if value is None else str(value) for value in values], dtype=object)
    names, counts = np.unique(named.astype(str), return_counts=True)
    names = names[np.argsort(-counts, kind="stable")[:_CATEGORIES]]
    return {str(name): named == name for name in sorted(names) if name} if len(names) > 1 else {}


def _changed(found: Mapping[str, Flips], row: int) -> str:
    gained = [name for name, one in found.items() if one.up[row]]
    lost = [name for name, one in found.items() if one.down[row]]
    said = [f"gained {', '.join(gained[:4])}"] if gained else []
    return "; ".join(said + ([f"lost {', '.join(lost[:4])}"] if lost else []))


def _note(found: Mapping[str, Flips], holm: Mapping[str, float | None]) -> str:
    sure = [name for name in found if (holm[name] or 1.0) < 0.05]
    sure.sort(key=lambda name: -abs(int(found[name].up.sum()) - int(found[name].down.sum())))
    if not sure:
        return "gains and losses balance"
    parts = []
    for name in sure[:4]:
        n = max(1, int(found[name].known.sum()))
        parts.append(
            f"{name} gained in {found[name].up.sum() / n:.1%}, lost in {found[name].down.sum() / n:.1%}"
        )
    return "; ".join(parts)
