"""The share of different words in a window that moves over the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from karat.auditing import streams
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View
from karat.auditing.lexical import moving_ttr, previous


@dataclass(frozen=True)
class Mattr(Metric):
    """The mean share of different words in all windows of 500 words; it does not fall as a corpus grows.

    window: words a window
    unit: corpus reads all records one after the other in hash order; record reads each by itself and takes
        the mean over those that are as long as a window
    tokens: the tokeniser, word or whitespace
    """

    window: int = 500
    unit: Literal["corpus", "record"] = "corpus"
    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "Over a corpus of short records it measures how different neighbouring records are, not how each is "
        "written; unit=record does that, for long records."
    )
    cost: ClassVar[str] = "O(tokens) of at most 200,000 (a hash sample of records)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "The same words come back soon: vary topics and styles, and remove near-duplicates."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    permutations: ClassVar[int] = 20
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace", "unit": "record"}
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "Covington and McFall 2010, Cutting the Gordian knot"

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"window is {self.window}; give at least 2 words")

    def needs(self) -> tuple[Need, ...]:
        return (streams.stream(self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        some = summary[self.needs()[0]]
        if self.unit == "record":
            return streams.mean_of_records(
                some, masks, self.window, lambda codes: moving_ttr(previous(codes), self.window)
            )
        return streams.of_stream(some, masks, lambda _, before: moving_ttr(before, self.window))

    def note(self, summary: Summary) -> str:
        return streams.note(summary[self.needs()[0]], self.window, self.unit)

    def extra(self, summary: Summary) -> dict[str, Setting]:
        return streams.sampled(summary[self.needs()[0]], summary)

    def used(self, summary: Summary) -> int:
        return streams.records_used(summary[self.needs()[0]], self.window, self.unit)
