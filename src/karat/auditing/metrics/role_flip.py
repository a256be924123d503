"""Dialogues in which a speaker falls into the other speaker's role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.dialogues import (
    DIALOGUES,
    Markers,
    flag_details,
    flag_telling,
    flag_values,
    marked,
    opened,
)


@dataclass(frozen=True)
class RoleFlip(Metric):
    """The share of dialogues (or turns) in which a speaker writes the marker of the other role.

    A rule of markers, and no more: where roles mark nothing it can say nothing, and gives no value. The
    defaults are those of CAMEL, whose user gives an "Instruction:" and whose assistant a "Solution:".
    user_marker, assistant_marker: what turns of either role contain
    done: what ends a task; such a turn needs no marker
    users, assistants: names of the two roles, joined by +
    per: dialogue or turn
    """

    user_marker: str = "Instruction:"
    assistant_marker: str = "Solution:"
    done: str = "<CAMEL_TASK_DONE>"
    users: tuple[str, ...] = ("user", "human")
    assistants: tuple[str, ...] = ("assistant", "gpt")
    per: str = "dialogue"

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    misleads: ClassVar[str] = (
        "Longer dialogues have more turns in which to flip: read role_flip_hazard beside it. The rule was "
        "never checked by people; a speaker who quotes a marker counts as flipped."
    )
    cost: ClassVar[str] = "O(characters)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Repeat the role in each prompt, stop at the first flip, drop the turns from there on."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more role flips"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, section 8.1; Li et al. 2023, CAMEL"

    def __post_init__(self) -> None:
        if self.per not in ("dialogue", "turn"):
            raise ValueError(f"per is {self.per!r}; choose dialogue or turn")
        self.markers.check()

    @property
    def markers(self) -> Markers:
        """The settings as one thing."""
        return Markers(self.user_marker, self.assistant_marker, self.done, self.users, self.assistants)

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        talk = opened(summary[DIALOGUES])
        found = marked(talk, self.markers)
        if not found.present:
            return np.full(len(masks), np.nan)
        return flag_values(talk, masks, found.flipped, found.counted, self.per)

    def best(self, summary: Summary) -> float:
        return 0.0

    def details(self, summary: Summary) -> dict[str, float]:
        talk = opened(summary[DIALOGUES])
        found = marked(talk, self.markers)
        return flag_details(talk, found.flipped, found.counted) if found.present else {}

    def note(self, summary: Summary) -> str:
        return "" if marked(opened(summary[DIALOGUES]), self.markers).present else self.markers.absent

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        talk = opened(summary[DIALOGUES])
        found = marked(talk, self.markers)
        return flag_telling(talk, found.flipped, "takes the other role", limit) if found.present else ()
