"""Dialogues that hold an empty turn, or no turn at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.dialogues import DIALOGUES, Floats, Talk, opened
from karat.auditing.ratios import ratio, told

# [name], [Your Name], {city}, <phone number>, [check in|tomorrow]
_BLANK = re.compile(
    r"\[[A-Za-z][A-Za-z _/-]{1,30}(?:\|[^\]\n]{0,80})?\]|\{\{?[A-Za-z][A-Za-z _]{1,30}\}?\}"
    r"|<(?!/)[A-Za-z]{3,}[ _][A-Za-z_ ]{2,30}>"
)


@dataclass(frozen=True)
class EmptyTurn(Metric):
    """The share of dialogues that hold an empty turn, or no turn at all.

    Beside it: dialogues without any turn, empty turns, and the share of turns with a placeholder such as
    [name] that nobody filled in (or an annotation such as [city|Rome] that was left in).
    """

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    misleads: ClassVar[str] = (
        "A turn of one emoji or of three dots is not empty; a lost attachment is, whoever lost it. Brackets "
        "are wanted where data are annotated by design."
    )
    cost: ClassVar[str] = "O(turns)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Drop these dialogues or ask for them again; look for a parser that cuts answers away."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more dialogues with holes"
    source: ClassVar[str] = "Defects of published dialogue data, for example Synthetic-Persona-Chat 2023"

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        talk = opened(summary[DIALOGUES])
        return ratio(masks, talk.groups, (_holes(talk) > 0).astype(np.float64), np.ones(len(talk)))

    def best(self, summary: Summary) -> float:
        return 0.0

    def details(self, summary: Summary) -> dict[str, float]:
        talk = opened(summary[DIALOGUES])
        blank = [bool(_BLANK.search(text)) for text in talk.texts]
        return {
            "dialogues_without_turns": float((talk.lengths == 0).sum()),
            "empty_turns": float(sum(not text.strip() for text in talk.texts)),
            "placeholder_turns": float(np.mean(blank)) if blank else float("nan"),
        }

    def note(self, summary: Summary) -> str:
        found = self.details(summary)
        note = f"{found['dialogues_without_turns']:.0f} dialogues without turns, "
        note += f"{found['empty_turns']:.0f} empty turns"
        if found["placeholder_turns"] > 0:
            note += f"; {found['placeholder_turns']:.1%} of turns hold a placeholder such as [name]"
        return note

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        talk = opened(summary[DIALOGUES])

        def reason(i: int) -> str:
            empty = [turn for turn in talk.turns_of(i) if not talk.texts[turn].strip()]
            if not empty:
                return "has no turn"
            return "empty turns: " + ", ".join(str(int(talk.place[turn]) + 1) for turn in empty[:8])

        return told(talk.keys, _holes(talk), reason, limit)


def _holes(talk: Talk) -> Floats:
    """float64 [n]: the empty turns of each dialogue; 1 where there is no turn."""
    empty = np.array([not text.strip() for text in talk.texts], np.float64)
    return np.where(talk.lengths == 0, 1.0, talk.sums(empty))
