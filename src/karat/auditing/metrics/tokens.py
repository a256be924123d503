"""The number of tokens of a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.summaries import Lengths


@dataclass(frozen=True)
class Tokens(Metric):
    """The number of tokens, repeats counted.

    tokens: the tokeniser, word or whitespace
    """

    tokens: str = "word"

    family: ClassVar[str] = "size"
    misleads: ClassVar[str] = "Tokens of two tokenisers or languages cannot be compared."
    cost: ClassVar[str] = "O(tokens)"
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    tested: ClassVar[bool] = False
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more text"

    def needs(self) -> tuple[Need, ...]:
        return (need("lengths", tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        lengths: Lengths = summary[self.needs()[0]]
        return lengths.totals(masks)
