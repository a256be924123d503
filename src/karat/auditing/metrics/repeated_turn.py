"""Turns that repeat an earlier turn of their dialogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.dialogues import DIALOGUES, Flags, Ints, Talk, opened
from karat.auditing.ratios import ratio, told

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class RepeatedTurn(Metric):
    """The share of turns that repeat an earlier turn of their dialogue, exactly or nearly.

    Turns are compared in lower case and without punctuation. Short turns (yes, thank you) are left out, and
    so is the first one. Beside it: exact repeats, echoes of the other speaker, dialogues with any.
    threshold: likeness of two turns (1 - edits / letters of both) from which one repeats the other; 1: exact
    words: the fewest words of a turn that counts
    """

    threshold: float = 0.9
    words: int = 4

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    misleads: ClassVar[str] = (
        "Longer dialogues have more to repeat. Confirmations and read-backs repeat by design; a paraphrase "
        "is not seen."
    )
    cost: ClassVar[str] = "O(turns^2) of each dialogue, in C"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "End a dialogue when its aim is met, show the generator what was said, drop what repeats.",
        "lower": "People confirm and read back; let speakers do so where it matters.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "more repetitive"
    source: ClassVar[str] = "See et al. 2019, What makes a good conversation, section 5 (repetition)"

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}, but must be above 0 and at most 1")
        if self.words < 1:
            raise ValueError(f"words is {self.words}, but must be 1 or more")

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        talk = opened(summary[DIALOGUES])
        of, counted = self.repeats(talk)
        return ratio(masks, talk.groups, talk.sums(of >= 0), talk.sums(counted))

    def details(self, summary: Summary) -> dict[str, float]:
        talk = opened(summary[DIALOGUES])
        of, counted = self.repeats(talk)
        again = np.flatnonzero(of >= 0)
        total = max(1, int(counted.sum()))
        plain = np.array([_plain(text) for text in talk.texts], dtype=object)
        return {
            "dialogue_share": float((talk.sums(of >= 0) > 0).mean()) if len(talk) else float("nan"),
            "exact_share": float((plain[again] == plain[of[again]]).sum() / total),
            "echo_share": float((talk.role[again] != talk.role[of[again]]).sum() / total),
        }

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        talk = opened(summary[DIALOGUES])
        of, _ = self.repeats(talk)

        def reason(i: int) -> str:
            turn = next(turn for turn in talk.turns_of(i) if of[turn] >= 0)
            text = " ".join(talk.texts[turn].split())
            shown = text[:80] + ("…" if len(text) > 80 else "")
            return f"turn {talk.place[turn] + 1} repeats turn {talk.place[of[turn]] + 1}: {shown!r}"

        return told(talk.keys, talk.sums(of >= 0), reason, limit)

    def repeats(self, talk: Talk) -> tuple[Ints, Flags]:
        """int64 [T]: the earlier turn that each turn repeats most, or -1; bool [T]: turns that count."""
        key = ("repeats", self.threshold, self.words)
        if key not in talk.memo:
            talk.memo[key] = self._repeats(talk)
        found: tuple[Ints, Flags] = talk.memo[key]
        return found

    def _repeats(self, talk: Talk) -> tuple[Ints, Flags]:
        from rapidfuzz.distance import Indel
        from rapidfuzz.process import cdist

        long = np.array([len(_WORD.findall(text)) >= self.words for text in talk.texts], np.bool_)
        of = np.full(len(talk.texts), -1, np.int64)
        counted = np.zeros(len(talk.texts), np.bool_)
        for dialogue in np.flatnonzero(talk.sums(long) > 1):
            turns = [turn for turn in talk.turns_of(int(dialogue)) if long[turn]]
            counted[turns[1:]] = True
            plain = [_plain(talk.texts[turn]) for turn in turns]
            alike = cdist(
                plain,
                plain,
                scorer=Indel.normalized_similarity,
                score_cutoff=self.threshold,
                dtype=np.float64,
            )
            alike[np.triu_indices(len(turns))] = 0  # only what came before
            nearest = alike.argmax(axis=1)
            for place in np.flatnonzero(alike.max(axis=1) > 0):
                of[turns[place]] = turns[nearest[place]]
        return of, counted


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
