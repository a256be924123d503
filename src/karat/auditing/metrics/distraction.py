"""Whether a choice follows a remark that has nothing to do with the responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, View
from karat.auditing.preference_pushes import compared, lacks_push
from karat.auditing.preferences import CHOICES, read_both


@dataclass(frozen=True)
class Distraction(Metric):
    """How often a choice falls on the response about whose author something irrelevant was said.

    Reads rows whose `condition` is distraction; `pushed` (a or b) is the response that the remark is about.
    Rows without `pushed` on the same pairs by the same raters say how often it is chosen anyway: that is the
    chance, and p is of the difference. Other metrics leave pushed rows out.
    condition: the name of the condition in the field `condition`
    """

    condition: str = "distraction"

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "Without plain rows on the same pairs chance is taken as 0.5, which holds only where the "
        "side that was "
        "pushed was drawn at random."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Take a stronger judge, and keep the judge's prompt to the responses.",
        "lower": "Take a stronger judge, and keep the judge's prompt to the responses.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "choices follow irrelevant remarks"
    source: ClassVar[str] = "Koo et al. 2023, CoBBLEr (attentional bias); cluster bootstrap by prompt"

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        return lacks_push(candidate)

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,)

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        return compared(mine, theirs, self.condition, context, twice=True)
