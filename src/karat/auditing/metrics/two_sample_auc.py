"""The classifier two-sample test: can human and synthetic records be told apart, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import detector
from karat.auditing.base import Comparison, Context, Metric, Need, Setting, Summary, Telling, View, need
from karat.auditing.summaries import Sample
from karat.auditing.two_sample import Separation, separation
from karat.errors import NotEnoughData

# What one dial sets: records of each side, and permutations that are refitted.
_BUDGETS = {"small": (1_000, 400), "medium": (2_500, 200), "large": (10_000, 20)}
_SHOWN = 8


@dataclass(frozen=True)
class TwoSampleAuc(Metric):
    """The AUC of a classifier that tells human from synthetic records it has not seen; 0.5 is no difference.

    Copies of a text and rows made from one record stay in one fold. Chance is the mean of refits with
    permuted sides, p is one-sided against them.
    Sources: Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests; DeLong et al. 1988.
    records: the most records of each side; 0: by budget (1000, 2500, 10000)
    folds: parts of the data, each scored by a model fitted on the others
    trials: permutations; 0: by budget (400, 200, 20)
    """

    records: int = 0
    folds: int = 5
    trials: int = 0

    family: ClassVar[str] = "difference"
    misleads: ClassVar[str] = (
        "Formatting (case, quotes, final stops) can carry it alone: read the telling features before "
        "concluding. An AUC near 1 does not say that the texts are bad."
    )
    cost: ClassVar[str] = "O(tokens + n^2) of at most 2,000 to 20,000 records a side"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Clean what the telling features show (boiler-plate, formatting), and order by likeness: "
            "karat curate --order human_likeness."
        )
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "easier to tell from human text"
    source: ClassVar[str] = "Lopez-Paz and Oquab 2017; DeLong, DeLong and Clarke-Pearson 1988"

    def __post_init__(self) -> None:
        for name, least in (("records", 0), ("folds", 2), ("trials", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {least} or more")
        if self.trials == 1:
            raise ValueError("trials is 1, but an error needs 2 or more (0: by budget)")

    def needs(self) -> tuple[Need, ...]:
        return (need("sample", limit=self.records or max(most for most, _ in _BUDGETS.values())),)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        most, trials = _BUDGETS[context.budget]
        most, trials = self.records or most, self.trials or trials
        human, synthetic = _equal(reference[self.needs()[0]], candidate[self.needs()[0]], most)
        try:
            found = separation(
                human.texts,
                synthetic.texts,
                clusters=np.concatenate([human.clusters, synthetic.clusters]).tolist(),
                trials=trials,
                folds=self.folds,
                seed=context.seed,
            )
        except NotEnoughData as few:
            return Comparison(float("nan"), chance=0.5, best=0.5, n=len(human), note=str(few))
        told = found.p < 0.05
        extra: dict[str, Setting] = {
            "sample": len(human),
            "model": detector.MODEL,
            "features": detector.FEATURES,
            "null": f"{found.trials} refits",
            "p": "t",
            "trials": trials,
            "folds": found.folds,
        }
        return Comparison(
            value=found.auc,
            interval=found.interval,
            p=found.p,
            chance=found.null_mean,
            best=0.5,
            n=len(human),
            note=_note(found, told),
            details=_details(found, told),
            extra=extra,
            telling=_least_human(found, synthetic) if told else (),
        )


def _equal(human: Sample, synthetic: Sample, most: int) -> tuple[Sample, Sample]:
    """The first records of both sides by hash, as many of one as of the other."""
    n = min(len(human), len(synthetic), most)
    return tuple(one.take(np.argsort(one.keys, kind="stable")[:n]) for one in (human, synthetic))  # type: ignore[return-value]


def _length_share(found: Separation) -> float:
    """How much of the distance to 0.5 a classifier that sees nothing but the length has."""
    return (found.length_auc - 0.5) / max(found.auc - 0.5, 1e-9)


def _details(found: Separation, told: bool) -> dict[str, float]:
    """Figures by name; `human.X` and `synthetic.X` give by how much more texts of that side have X."""
    details = {
        "error": found.error,
        "null_error": found.null_error,
        "length_auc": found.length_auc,
    }
    if not told:
        return details  # what a classifier of noise leans on is noise
    details["length_confounded"] = float(_length_share(found) > 0.5)
    for one in found.features:
        more = one.human - one.synthetic
        details[f"{one.side}.{shown(one.text)}"] = more if one.side == "human" else -more
    return details


def _note(found: Separation, told: bool) -> str:
    if not told:
        return "nothing was found that tells the sides apart"
    parts = []
    for side in ("human", "synthetic"):
        features = [one for one in found.features if one.side == side]
        best = sorted(features, key=lambda one: -one.weight)[:_SHOWN]
        if best:
            parts.append(f"{side}: " + "  ".join(shown(one.text) for one in best))
    note = "most telling of " + "; of ".join(parts) if parts else "no single feature tells much"
    share = _length_share(found)
    if share > 0.5:
        note += f"; length alone reaches AUC {found.length_auc:.2f} (length_confounded)"
    return note


def shown(feature: str) -> str:
    """Return an n-gram as it can be read: spaces that matter are drawn, control characters escaped."""
    drawn = feature.replace(" ", "␣") if _is_style(feature) else feature
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in drawn)


def _is_style(feature: str) -> bool:
    return feature != feature.strip() or any(c.isupper() for c in feature)


def _least_human(found: Separation, synthetic: Sample) -> tuple[Telling, ...]:
    order = np.argsort(found.synthetic, kind="stable")[:_SHOWN]
    return tuple(
        Telling(
            int(synthetic.keys[i]),
            float(1 - found.synthetic[i]),
            f"to a detector that has not seen it, it is human with probability {found.synthetic[i]:.1%}",
        )
        for i in order
    )
