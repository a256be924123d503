"""How often an n-gram of a corpus occurs on average: the first reading of "inter-sample n-gram frequency"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.grams import Grams


@dataclass(frozen=True)
class NgramFrequencyMean(Metric):
    """All n-grams divided by different n-grams: how often one occurs on average.

    n: the number of tokens of an n-gram
    tokens: the tokeniser, word or whitespace
    """

    n: int = 3
    tokens: str = "word"

    family: ClassVar[str] = "repetition"
    misleads: ClassVar[str] = (
        "It is 1 / distinct_n of the same order, and grows with the corpus; other code means other "
        "things by INGF."
    )
    cost: ClassVar[str] = "O(tokens)"
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more repeated"
    source: ClassVar[str] = "Yu et al. 2023 (AttrPrompt), INGF, read as a mean count"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 token")

    def needs(self) -> tuple[Need, ...]:
        return (need("ngrams", n=self.n, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        grams: Grams = summary[self.needs()[0]]
        types = grams.types(masks)
        return np.where(types > 0, grams.count(masks) / np.maximum(types, 1), np.nan)
