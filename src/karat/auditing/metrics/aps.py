"""Average pairwise similarity: how alike the records of a corpus are, over all pairs at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.pairs import all_pairs
from karat.auditing.summaries import Embeddings


@dataclass(frozen=True)
class Aps(Metric):
    """The mean cosine of all pairs of records; lower is more varied.

    With unit vectors the sum over all pairs is (|sum of vectors|^2 - n) / 2, so no pair is ever visited.
    Values of different encoders cannot be compared.
    encoder: what turns texts into vectors; empty: the encoder of the audit
    """

    encoder: str = ""

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "It depends on the encoder, and cosines of two encoders cannot be compared; a corpus on one "
        "topic is close by right."
    )
    cost: ClassVar[str] = "O(n d) after encoding"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Widen topics and styles by attributes or by human exemplars."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    higher: ClassVar[str] = "more alike"
    source: ClassVar[str] = "Yu et al. 2023 (AttrPrompt), average pairwise sample similarity"

    def needs(self) -> tuple[Need, ...]:
        return (need("embeddings", encoder=self.encoder),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        vectors: Embeddings = summary[self.needs()[0]]
        return all_pairs(vectors, masks).mean()

    def extra(self, summary: Summary) -> dict[str, Setting]:
        vectors: Embeddings = summary[self.needs()[0]]
        return {"encoder": vectors.encoder}
