"""Whether a choice follows what most are said to prefer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, View
from karat.auditing.preference_pushes import compared, lacks_push
from karat.auditing.preferences import CHOICES, read_both


@dataclass(frozen=True)
class Bandwagon(Metric):
    """How often a rater who was told what most people prefer follows them, beside the same pairs without.

    Reads rows whose `condition` is bandwagon; `pushed` (a or b) is the response that most are said to prefer.
    Rows without `pushed` on the same pairs by the same raters say how often it is chosen anyway: that is the
    chance, and p is of the difference. Other metrics leave pushed rows out.
    condition: the name of the condition in the field `condition`
    """

    condition: str = "bandwagon"

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "Without plain rows on the same pairs chance is taken as 0.5, which holds only where the "
        "side that was "
        "pushed was drawn at random."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Keep statements about others' opinions out of the judge's prompt."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "choices follow what others are said to prefer"
    source: ClassVar[str] = "Koo et al. 2023, CoBBLEr (bandwagon effect); cluster bootstrap by prompt"

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        return lacks_push(candidate)

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        return compared(mine, theirs, self.condition, context, twice=False)
