"""How long a text keeps up a share of different words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from karat.auditing import lexical, streams
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View


@dataclass(frozen=True)
class Mtld(Metric):
    """The mean length, in words, of runs in which the share of different words stays above 0.72.

    Read forwards and backwards, with the mean of both (measure of textual lexical diversity).

    threshold: the share of different words at which a run ends
    unit: corpus reads all records one after the other in hash order; record reads each by itself and takes
        the mean over those with at least `least` words
    least: the shortest record that is read by itself; shorter ones give values that tell little
    tokens: the tokeniser, word or whitespace
    """

    threshold: float = 0.72
    unit: Literal["corpus", "record"] = "corpus"
    least: int = 100
    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "Punctuation counts as words (tokens=whitespace leaves it on them), which shortens runs; over short "
        "records it measures how different neighbouring records are."
    )
    cost: ClassVar[str] = "O(tokens) of at most 200,000 (a hash sample of records)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "The same words come back soon: vary topics and styles, and remove near-duplicates."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    permutations: ClassVar[int] = 20
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace", "unit": "record"}
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "McCarthy and Jarvis 2010, MTLD, vocd-D, and HD-D, pages 384-385"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; give a share between 0 and 1")
        if self.least < 1:
            raise ValueError(f"least is {self.least}; give at least 1 word")

    def needs(self) -> tuple[Need, ...]:
        return (streams.stream(self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        some = summary[self.needs()[0]]
        if self.unit == "record":
            return streams.mean_of_records(
                some, masks, self.least, lambda codes: lexical.both_ways(codes, self.threshold)
            )
        return streams.of_stream(
            some, masks, lambda after, before: lexical.mtld_both(before, after, self.threshold)
        )

    def note(self, summary: Summary) -> str:
        return streams.note(summary[self.needs()[0]], self.least, self.unit)

    def extra(self, summary: Summary) -> dict[str, Setting]:
        return streams.sampled(summary[self.needs()[0]], summary)

    def used(self, summary: Summary) -> int:
        return streams.records_used(summary[self.needs()[0]], self.least, self.unit)
