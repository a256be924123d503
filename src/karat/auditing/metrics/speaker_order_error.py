"""Dialogues in which one speaker has two turns in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.dialogues import DIALOGUES, Flags, Talk, opened
from karat.auditing.ratios import ratio, told


@dataclass(frozen=True)
class SpeakerOrderError(Metric):
    """The share of dialogues in which the same speaker has two turns in a row.

    Dialogues with one turn or none are left out. Beside it: how many turns follow one of their own speaker.
    """

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    misleads: ClassVar[str] = (
        "People do send two messages in a row; it is an error only where turns must alternate, as chat "
        "templates demand. Compare with human data of the same kind."
    )
    cost: ClassVar[str] = "O(turns)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Join the double turns, or drop the dialogue: chat templates refuse roles out of order.",
        "lower": "Where human speakers send several messages in a row, let the generator do so too.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more double turns"
    source: ClassVar[str] = "Sacks, Schegloff and Jefferson 1974, A simplest systematics (turn-taking)"

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        talk = opened(summary[DIALOGUES])
        counted = (talk.lengths > 1).astype(np.float64)
        return ratio(masks, talk.groups, (talk.sums(doubled(talk)) > 0).astype(np.float64), counted)

    def details(self, summary: Summary) -> dict[str, float]:
        talk = opened(summary[DIALOGUES])
        double = doubled(talk)
        return {
            "dialogues": float((talk.sums(double) > 0).sum()),
            "double_turns": float(double.sum()),
            "turn_share": float(double.sum() / max(1, (talk.place > 0).sum())),
        }

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        talk = opened(summary[DIALOGUES])
        double = doubled(talk)

        def reason(i: int) -> str:
            turns = [turn for turn in talk.turns_of(i) if double[turn]]
            places = ", ".join(str(int(talk.place[turn]) + 1) for turn in turns[:8])
            return f"{talk.roles[talk.role[turns[0]]]} speaks twice in a row at turn {places}"

        return told(talk.keys, talk.sums(double), reason, limit)


def doubled(talk: Talk) -> Flags:
    """bool [T]: turns whose speaker had the turn before."""
    found = np.zeros(len(talk.role), np.bool_)
    found[1:] = (talk.role[1:] == talk.role[:-1]) & (talk.dialogue[1:] == talk.dialogue[:-1])
    return found
