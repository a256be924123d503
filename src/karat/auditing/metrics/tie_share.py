"""How often a rater prefers neither response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing.base import Facts, Found, Masks, Metric, Need, Summary, Values, View
from karat.auditing.preferences import CHOICES, Choices, lacks_choices, listed, read

_FLOOD = 0.95
_FEW = 20


@dataclass(frozen=True)
class TieShare(Metric):
    """The share of ties among valid choices. Nothing but ties often stands for answers that were not read."""

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "A file may code failed answers as ties, or may have dropped ties; whether people were allowed a tie "
        "decides their share."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Read raw answers that became ties: failed ones belong to invalid.",
        "lower": (
            "Tell the judge that a tie is allowed, or judge in both orders and call contradictions ties."
        ),
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more pairs are left undecided"
    source: ClassVar[str] = "Das et al. 2024, section 6; Zheng et al. 2023 (ties)"

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        return lacks_choices(candidate)

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        choices = _valid(summary)
        groups = choices.columns.groups[choices.row]
        ties = masks @ np.bincount(groups[choices.said == 0], minlength=summary.groups)
        total = masks @ np.bincount(groups, minlength=summary.groups)
        return np.where(total > 0, ties / np.maximum(total, 1), np.nan)

    def used(self, summary: Summary) -> int:
        return len(_valid(summary))

    def details(self, summary: Summary) -> dict[str, float]:
        choices = _valid(summary)
        if len(choices.raters) > 30:
            return {}
        return {choices.raters[i]: share for i, share, _ in _by_rater(choices)}

    def warnings(self, candidate: Summary, reference: Any) -> tuple[Found, ...]:
        found = []
        for side, summary in (("candidate", candidate), ("reference", reference)):
            if summary is None:
                continue
            choices = _valid(summary)
            flooded = [
                (choices.raters[i], s, n) for i, s, n in _by_rater(choices) if s >= _FLOOD and n >= _FEW
            ]
            if flooded:
                named = listed([f"{name} ({share:.1%} of {n:,})" for name, share, n in flooded])
                message = (
                    f"{side} raters who say little but tie: {named}; failed answers may have been coded as "
                    "ties, so leave these raters out or read their answers again"
                )
                found.append(Found("degenerate_source", message))
        return tuple(found)


def _valid(summary: Summary) -> Choices:
    return read(summary[CHOICES]).plain


def _by_rater(choices: Choices) -> list[tuple[int, float, int]]:
    """Number of the rater, share of ties, number of choices."""
    total = np.bincount(choices.rater, minlength=len(choices.raters))
    ties = np.bincount(choices.rater[choices.said == 0], minlength=len(choices.raters))
    return [(int(i), float(ties[i] / total[i]), int(total[i])) for i in np.flatnonzero(total)]
