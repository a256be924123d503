"""The Vendi Score: how many different records a corpus amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.spectrum import diversities
from karat.auditing.vectors import Moments


@dataclass(frozen=True)
class Vendi(Metric):
    """The effective number of different records: n where all differ, 1 where all are alike.

    The exponential of the entropy of the eigenvalues of the cosines of all pairs, had from the d x d Gram
    matrix, so no pair is ever visited. It is never above the dimension of the encoder and grows with the
    corpus; sizes are made equal. Texts with nothing to encode do not count.
    encoder: what turns texts into vectors; empty: the encoder of the audit
    order: of the entropy; above 1 frequent kinds of records weigh more, below 1 rare ones; inf is the largest
    """

    encoder: str = ""
    order: float = 1.0

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "It depends on the encoder and grows with the number of records, so figures of other encoders or "
        "sizes cannot be compared. Noise raises it."
    )
    cost: ClassVar[str] = "O(n d^2 + d^3) after encoding"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Widen topics and styles by attributes or by human exemplars, and remove near-duplicates."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "Friedman and Dieng 2023, The Vendi Score; Pasarkar and Dieng 2024"

    def __post_init__(self) -> None:
        if not self.order > 0:
            raise ValueError(f"order is {self.order}, but must be above 0 (inf is allowed)")

    def needs(self) -> tuple[Need, ...]:
        return (need("moments", encoder=self.encoder),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        moments: Moments = summary[self.needs()[0]]
        return diversities(moments, masks, self.order)

    def extra(self, summary: Summary) -> dict[str, Setting]:
        moments: Moments = summary[self.needs()[0]]
        return {"encoder": moments.encoder, "dims": moments.sums.shape[1]}
