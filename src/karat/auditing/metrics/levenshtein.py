"""How far two records are apart, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing import edit_distance
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.sequences import Sequences


@dataclass(frozen=True)
class Levenshtein(Metric):
    """The mean edit distance of two records in tokens, divided by the longer one's length: 0 for copies.

    All pairs of records where these hold few different texts, each text weighted by its copies; else all
    pairs of a hash sample.

    distinct: the most different texts held against each other; 20 times as many records are looked at
    tokens: the tokeniser, word or whitespace
    """

    distinct: int = 500
    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "Records of unlike lengths are far apart whatever they say, and unrelated texts are all about .9 "
        "apart: it tells templates and copies from free text, and little more."
    )
    cost: ClassVar[str] = "O(pairs * tokens) of at most 500 different texts (a hash sample)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Records follow few patterns: vary the prompts, and drop near-duplicates."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = (
        "Levenshtein 1966; Briesch et al. 2023, Large language models suffer from their own output"
    )

    def __post_init__(self) -> None:
        if self.distinct < 2:
            raise ValueError(f"distinct is {self.distinct}; a pair needs 2 texts")

    def needs(self) -> tuple[Need, ...]:
        most = 1_000 * self.distinct
        return (need("sequences", tokens=self.tokens, limit=20 * self.distinct, most=most),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        held = self._held(summary)
        return edit_distance.mean_distance(held, masks)

    def note(self, summary: Summary) -> str:
        held = self._held(summary)
        return f"{held.distinct:,} different texts" if len(held.groups) < summary.records else ""

    def extra(self, summary: Summary) -> dict[str, Setting]:
        used = self.used(summary)
        return {"sample": f"{used}-records"} if used < summary.records else {}

    def used(self, summary: Summary) -> int:
        return len(self._held(summary).groups)

    def _held(self, summary: Summary) -> edit_distance.Texts:
        some: Sequences = summary[self.needs()[0]]
        return edit_distance.texts(some, self.distinct)
