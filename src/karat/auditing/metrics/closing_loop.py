"""Dialogues whose end goes on and on: thanks, wishes and good-byes after all is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.dialogues import DIALOGUES, Floats, Talk, opened
from karat.auditing.ratios import ratio, told
from karat.texts.closings import closes


@dataclass(frozen=True)
class ClosingLoop(Metric):
    """The share of dialogues that end in three or more turns of thanks and good-byes.

    A closing turn holds a phrase of thanks, of welcome, a wish or a good-bye (in seven languages), asks
    nothing and has at most 40 words; only those at the very end count. Beside it: the mean number of them.
    turns: how many closing turns in a row make a loop; after two, both sides have closed
    """

    turns: int = 3

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    misleads: ClassVar[str] = (
        "People close in steps too, and dialogues that were cut at a number of turns never close: compare "
        "with human data of the same kind. Closings in other languages are not seen."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Stop a dialogue at the first good-bye of either side, or cut the turns after it.",
        "lower": "Let dialogues come to an end instead of cutting them at a number of turns.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more endless good-byes"
    source: ClassVar[str] = "Schegloff and Sacks 1973, Opening up closings; Li et al. 2023, CAMEL (loops)"

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ValueError(f"turns is {self.turns}, but must be 1 or more")

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        talk = opened(summary[DIALOGUES])
        looped = (closing_run(talk) >= self.turns).astype(np.float64)
        return ratio(masks, talk.groups, looped, (talk.lengths > 0).astype(np.float64))

    def details(self, summary: Summary) -> dict[str, float]:
        talk = opened(summary[DIALOGUES])
        run = closing_run(talk)[talk.lengths > 0]
        if not len(run):
            return {}
        return {
            "closing_turns": float(run.mean()),
            "longest": float(run.max()),
            "closed": float((run > 0).mean()),
        }

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        talk = opened(summary[DIALOGUES])
        run = closing_run(talk)

        def reason(i: int) -> str:
            return f"the last {run[i]:.0f} turns say thanks and good-bye"

        return told(talk.keys, np.where(run >= self.turns, run, 0.0), reason, limit)


def closing_run(talk: Talk) -> Floats:
    """float64 [n]: the closing turns in a row at the end of each dialogue."""
    if "closing_run" not in talk.memo:
        run = np.zeros(len(talk))
        for dialogue in range(len(talk)):
            for turn in reversed(talk.turns_of(dialogue)):
                if not closes(talk.texts[turn]):
                    break
                run[dialogue] += 1
        talk.memo["closing_run"] = run
    found: Floats = talk.memo["closing_run"]
    return found
