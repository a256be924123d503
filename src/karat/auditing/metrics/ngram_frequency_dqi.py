"""How many and how evenly used the n-grams of a corpus are: the third reading of "n-gram frequency"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.grams import Grams


@dataclass(frozen=True)
class NgramFrequencyDqi(Metric):
    """Different n-grams divided by the standard deviation of their counts: DQI's term T1.

    n: the number of tokens of an n-gram
    tokens: the tokeniser, word or whitespace
    """

    n: int = 1
    tokens: str = "word"

    family: ClassVar[str] = "repetition"
    misleads: ClassVar[str] = (
        "It grows with the corpus (421 to 157,947 from words to trigrams on one set); only equal "
        "sizes compare."
    )
    cost: ClassVar[str] = "O(tokens)"
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more varied and more even"
    source: ClassVar[str] = "Mishra et al. 2020 (DQI), component 2, term T1; standard deviation over types"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 token")

    def needs(self) -> tuple[Need, ...]:
        return (need("ngrams", n=self.n, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        grams: Grams = summary[self.needs()[0]]
        types = np.maximum(grams.types(masks), 1)
        variance = grams.squares(masks) / types - (grams.count(masks) / types) ** 2
        # Counts are whole numbers: a variance below this is rounding, and all counts are equal.
        even = variance < 1e-12
        return np.where(even, np.nan, types / np.sqrt(np.where(even, 1.0, variance)))

    def note(self, summary: Summary) -> str:
        grams: Grams = summary[self.needs()[0]]
        return (
            "no value: every n-gram occurs equally often" if len(grams.totals) and self._even(grams) else ""
        )

    def _even(self, grams: Grams) -> bool:
        every = np.ones((1, len(grams.totals)), np.bool_)
        types, count = float(grams.types(every)[0]), float(grams.count(every)[0])
        return types == 0 or abs(float(grams.squares(every)[0]) * types - count**2) < 1e-6
