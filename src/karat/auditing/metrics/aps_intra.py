"""Average pairwise similarity within labels: how alike the records of one class are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.pairs import same_label
from karat.auditing.summaries import Embeddings


@dataclass(frozen=True)
class ApsIntra(Metric):
    """The mean cosine of all pairs of records with the same label; lower is more varied within classes.

    encoder: what turns texts into vectors; empty: the encoder of the audit
    """

    encoder: str = ""

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = "It depends on the encoder; with few records a label it is rough."
    cost: ClassVar[str] = "O(n d) after encoding"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Vary texts within each class by attributes (subtopic, style)."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    needs_labels: ClassVar[bool] = True
    by_label: ClassVar[bool] = False
    higher: ClassVar[str] = "more alike within a label"
    source: ClassVar[str] = "Yu et al. 2023 (AttrPrompt), intra-class APS"

    def needs(self) -> tuple[Need, ...]:
        return (need("embeddings", encoder=self.encoder),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        vectors: Embeddings = summary[self.needs()[0]]
        return same_label(vectors, masks).mean()

    def extra(self, summary: Summary) -> dict[str, Setting]:
        vectors: Embeddings = summary[self.needs()[0]]
        return {"encoder": vectors.encoder}
