"""Average pairwise similarity between labels: how alike the records of different classes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.pairs import all_pairs, same_label
from karat.auditing.summaries import Embeddings


@dataclass(frozen=True)
class ApsInter(Metric):
    """The mean cosine of all pairs of records with different labels.

    Lower is more varied, and also better separated: read it beside aps_intra.
    encoder: what turns texts into vectors; empty: the encoder of the audit
    """

    encoder: str = ""

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "It depends on the encoder; far-apart classes make it low whatever the texts are."
    )
    cost: ClassVar[str] = "O(n d) after encoding"
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    needs_labels: ClassVar[bool] = True
    by_label: ClassVar[bool] = False
    higher: ClassVar[str] = "more alike between labels"
    source: ClassVar[str] = "Yu et al. 2023 (AttrPrompt), inter-class APS"

    def needs(self) -> tuple[Need, ...]:
        return (need("embeddings", encoder=self.encoder),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        vectors: Embeddings = summary[self.needs()[0]]
        return all_pairs(vectors, masks, labelled=True).minus(same_label(vectors, masks)).mean()

    def extra(self, summary: Summary) -> dict[str, Setting]:
        vectors: Embeddings = summary[self.needs()[0]]
        return {"encoder": vectors.encoder}
