"""Different words divided by all words, at equal numbers of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.grams import Grams


@dataclass(frozen=True)
class TypeTokenRatio(Metric):
    """Different tokens divided by all tokens. It falls with every token added, so sizes are made equal.

    tokens: the tokeniser, word or whitespace
    """

    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "It falls as a corpus grows, so figures at different sizes cannot be compared (mattr can); typing "
        "errors and names raise it."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Steer topics and styles by attributes, raise the temperature, or mix several generators."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "Templin 1957; Covington and McFall 2010, section 1"

    def needs(self) -> tuple[Need, ...]:
        return (need("ngrams", n=1, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        grams: Grams = summary[self.needs()[0]]
        count = grams.count(masks)
        return np.where(count > 0, grams.types(masks) / np.maximum(count, 1), np.nan)
