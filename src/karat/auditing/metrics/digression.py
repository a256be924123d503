"""Dialogues that leave their task or subject, by the word of a judge who is asked twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from karat.auditing import judged_dialogues, judged_rates
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.dialogues import DIALOGUES
from karat.auditing.judged_questions import YES_NO


@dataclass(frozen=True)
class Digression(Metric):
    """The share of dialogues that hold a digression, as a judge sees it, corrected by what people saw.

    The judge answers yes or no, is then asked to quote and to give reasons, and may change its answer. A
    field `digression` (yes, no) makes a judge needless.
    records: the most dialogues of each side that are judged; 0: by budget (50, 200, 1000)
    sampled: how the dialogues that people judged were drawn: random, chosen, or auto (as they look)
    """

    records: int = 0
    sampled: str = "auto"

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    judged: ClassVar[bool] = True
    judged_fields: ClassVar[tuple[str, ...]] = ("digression",)
    misleads: ClassVar[str] = (
        "Uncorrected it measures the judge as much as the dialogues. A judge may err in other ways on human "
        "than on synthetic dialogues: let people judge some of both."
    )
    cost: ClassVar[str] = "two calls of the judge a dialogue, 50 to 1,000 dialogues a side"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Prompt for the task in each turn, end it when it is solved, drop dialogues that wander.",
        "lower": "People wander too: vary subjects within a dialogue if the model will meet such people.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "more dialogues wander"
    source: ClassVar[str] = (
        "Das et al. 2024, Under the Surface, section 8.1; Angelopoulos et al. 2023; Rogan and Gladen 1978"
    )

    def __post_init__(self) -> None:
        judged_rates.check(self.records, self.sampled)

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        sides = [
            judged_dialogues.side(one[DIALOGUES], "digression", YES_NO)
            for one in (candidate, reference)
            if one is not None
        ]
        query = replace(judged_dialogues.DIGRESSION, records=self.records, sampled=self.sampled)
        return judged_rates.judged_rate(sides[0], sides[1] if len(sides) > 1 else None, query, context)
