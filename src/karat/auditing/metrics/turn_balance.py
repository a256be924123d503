"""How evenly the words of a dialogue are spread over its speakers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.dialogues import DIALOGUES, Floats, Talk, opened
from karat.auditing.ratios import ratio, told


@dataclass(frozen=True)
class TurnBalance(Metric):
    """The entropy of words by speaker, as a share of the largest possible: 1 is even, 0 a monologue.

    H / log K for each dialogue, K its speakers (2 at least), and the mean over dialogues that hold a word.
    Beside it: the share of all words that each role has, and words a turn.
    """

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    misleads: ClassVar[str] = "Even is not good by itself: an expert who answers a layman says more."
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Give the speakers different parts, of which some ask and some explain.",
        "lower": "Cap the length of turns, or prompt the silent role to say more than thanks and yes.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "words shared more evenly"
    source: ClassVar[str] = "Shannon 1948; Pielou 1966 (evenness)"

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        talk = opened(summary[DIALOGUES])
        even, counted = evenness(talk)
        return ratio(masks, talk.groups, even, counted)

    def details(self, summary: Summary) -> dict[str, float]:
        talk = opened(summary[DIALOGUES])
        words = np.bincount(talk.role, weights=talk.words, minlength=len(talk.roles))
        turns = np.bincount(talk.role, minlength=len(talk.roles))
        order = np.argsort(-words, kind="stable")[:10]
        total = max(1.0, float(words.sum()))
        found = {f"share.{talk.roles[i]}": float(words[i] / total) for i in order}
        found |= {f"words_a_turn.{talk.roles[i]}": float(words[i] / max(1, turns[i])) for i in order}
        return found

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        talk = opened(summary[DIALOGUES])
        even, counted = evenness(talk)

        def reason(i: int) -> str:
            turns = talk.turns_of(i)
            words = np.bincount(talk.role[turns.start : turns.stop], weights=talk.words[turns])
            most = int(words.argmax())
            return f"{talk.roles[most]} has {words[most] / words.sum():.0%} of the words"

        return told(talk.keys, np.where(counted > 0, 1 - even, 0.0), reason, limit)


def evenness(talk: Talk) -> tuple[Floats, Floats]:
    """float64 [n] twice: the evenness of each dialogue, and 1 where it holds a word."""
    kinds = max(1, len(talk.roles))
    cells, cell = np.unique(talk.dialogue * kinds + talk.role, return_inverse=True)
    words = np.bincount(cell, weights=talk.words, minlength=len(cells)).astype(np.float64)
    owner = cells // kinds
    total = np.bincount(owner, weights=words, minlength=len(talk))
    speakers = np.bincount(owner, minlength=len(talk))
    shares = words / np.where(total > 0, total, 1)[owner]
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -np.bincount(owner, weights=shares * logs, minlength=len(talk))
    return entropy / np.log(np.maximum(speakers, 2)), (total > 0).astype(np.float64)
