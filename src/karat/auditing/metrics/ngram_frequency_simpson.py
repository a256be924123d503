"""How concentrated the n-grams of a corpus are: the second reading of "inter-sample n-gram frequency"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.grams import Grams


@dataclass(frozen=True)
class NgramFrequencySimpson(Metric):
    """Simpson's concentration: the sum of (count / total) squared over all n-grams of 1 to n tokens together.

    n: the longest n-gram
    tokens: the tokeniser, word or whitespace
    """

    n: int = 3
    tokens: str = "word"

    family: ClassVar[str] = "repetition"
    misleads: ClassVar[str] = "Frequent function words dominate it; it hardly sees rare repeats."
    cost: ClassVar[str] = "O(tokens)"
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more repeated"
    source: ClassVar[str] = "Simpson 1949; as INGF in the public code of Genetic Prompt (2025)"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 token")

    def needs(self) -> tuple[Need, ...]:
        return tuple(need("ngrams", n=n, tokens=self.tokens) for n in range(1, self.n + 1))

    def values(self, summary: Summary, masks: Masks) -> Values:
        orders: list[Grams] = [summary[wanted] for wanted in self.needs()]
        total = np.sum([grams.count(masks) for grams in orders], axis=0)
        squares = np.sum([grams.squares(masks) for grams in orders], axis=0)
        return np.where(total > 0, squares / np.maximum(total, 1) ** 2, np.nan)
