"""The share of n-grams that are different ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.grams import Grams


@dataclass(frozen=True)
class DistinctN(Metric):
    """Different n-grams divided by all n-grams. It falls as a corpus grows, so sizes are made equal.

    n: the number of tokens of an n-gram
    tokens: the tokeniser, word or whitespace
    """

    n: int = 2
    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "It falls as a corpus grows; figures at different sizes cannot be compared. Noise raises it."
    )
    cost: ClassVar[str] = "O(tokens), one 64-bit key an n-gram"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Steer topics and styles by attributes, and remove near-duplicates."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "Li et al. 2016, A diversity-promoting objective function"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 token")

    def needs(self) -> tuple[Need, ...]:
        return (need("ngrams", n=self.n, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        grams: Grams = summary[self.needs()[0]]
        count = grams.count(masks)
        return np.where(count > 0, grams.types(masks) / np.maximum(count, 1), np.nan)
