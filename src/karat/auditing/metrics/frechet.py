"""The Fréchet distance of two corpora as clouds of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.spectrum import frechets
from karat.auditing.vectors import Moments


@dataclass(frozen=True)
class Frechet(Metric):
    """How far mean and covariance of the vectors are from human data's; 0 where both are the same.

    Exact from sums and Gram matrices. It is biased upward by order 1/n: two halves of one corpus do not
    get 0 but the value beside it that stands for chance.
    encoder: what turns texts into vectors; empty: the encoder of the audit
    extrapolate: take off that bias, by the straight line in 1/n (three times the cost); can fall below 0
    """

    encoder: str = ""
    extrapolate: bool = False

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "It falls as samples grow, on the same source: compare it with its chance value and never across "
        "sizes or encoders. It sees means and covariances only."
    )
    cost: ClassVar[str] = "O(n d^2) after encoding, and O(d^3) for each of some hundred values"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Bring topics and styles nearer to human data: attributes and exemplars drawn from it."
    }
    size: ClassVar[View] = "lengths"
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "further from human data"
    source: ClassVar[str] = (
        "Heusel et al. 2017; Dowson and Landau 1982; Chong and Forsyth 2020 (extrapolation)"
    )

    def needs(self) -> tuple[Need, ...]:
        return (need("moments", encoder=self.encoder),)

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        moments: Moments = pool[self.needs()[0]]
        return frechets(moments, ours, theirs, extrapolate=self.extrapolate)

    def extra(self, summary: Summary) -> dict[str, Setting]:
        moments: Moments = summary[self.needs()[0]]
        return {"encoder": moments.encoder, "dims": moments.sums.shape[1]}
