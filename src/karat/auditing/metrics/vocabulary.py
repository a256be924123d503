"""How many different words a corpus uses, at equal numbers of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.grams import Grams


@dataclass(frozen=True)
class Vocabulary(Metric):
    """The number of different tokens. It grows with the corpus, so both sides are cut to equal tokens.

    tokens: the tokeniser, word or whitespace
    """

    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "It grows with the number of tokens, so it is compared at equal tokens only; typing errors "
        "and names count as variety."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Steer topics and styles by attributes, raise the temperature, or mix several generators."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "Yu et al. 2023 (AttrPrompt), section 5"

    def needs(self) -> tuple[Need, ...]:
        return (need("ngrams", n=1, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        grams: Grams = summary[self.needs()[0]]
        return grams.types(masks)
