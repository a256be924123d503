"""DCScore: how many records of a corpus can be told from all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Telling, Values, View, everything, need
from karat.auditing.kernels import Floats, GroupSums, Kernel, group_sums, own_shares
from karat.auditing.vectors import Vectors


@dataclass(frozen=True)
class Dcscore(Metric):
    """The sum over records of the softmax share that its own cosine has among its cosines with all records.

    n where every record is only like itself, 1 where all are alike. It grows with the number of records.
    temperature: cosines are divided by it; the published 1 leaves little between all alike and all different
    encoder: what turns texts into vectors; empty: the encoder of the audit
    limit: the most records of each side, the first by hash
    """

    temperature: float = 1.0
    encoder: str = ""
    limit: int = 2_500

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "It depends on the encoder and grows with the number of records; at temperature 1 even very "
        "different corpora differ by little."
    )
    cost: ClassVar[str] = "O(n^2 d) of at most 2,500 records a side"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Widen topics and styles by attributes or by human exemplars, and remove near-duplicates."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "Zhu et al. 2025, Measuring diversity in synthetic datasets (DCScore)"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, but must be above 0")
        if self.limit < 1:
            raise ValueError(f"limit is {self.limit}, but must be 1 or more")

    def needs(self) -> tuple[Need, ...]:
        return (need("vectors", encoder=self.encoder, limit=self.limit),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        found = self._sums(summary)
        inside = masks[:, found.groups]
        scores = [own_shares(found, mask)[rows].sum() for mask, rows in zip(masks, inside, strict=True)]
        return np.where(inside.any(axis=1), np.array(scores, dtype=np.float64), np.nan)

    def used(self, summary: Summary) -> int:
        return len(summary[self.needs()[0]])

    def extra(self, summary: Summary) -> dict[str, Setting]:
        return {"encoder": summary[self.needs()[0]].encoder}

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        vectors: Vectors = summary[self.needs()[0]]
        shares = own_shares(self._sums(summary), everything(summary.groups)[0])
        order = np.argsort(shares, kind="stable")[:limit]
        return tuple(
            Telling(int(vectors.keys[i]), float(shares[i]), "many other records are like it") for i in order
        )

    def _sums(self, summary: Summary) -> GroupSums:
        vectors: Vectors = summary[self.needs()[0]]
        name = ("softmax", self.temperature)
        if name not in vectors.worked_out:
            vectors.worked_out[name] = group_sums(
                vectors.rows, vectors.groups, summary.groups, _exponential(self.temperature)
            )
        found: GroupSums = vectors.worked_out[name]
        return found


def _exponential(temperature: float) -> Kernel:
    """exp((cosine - 1) / temperature): the shares are the same without the 1, which keeps e^x in range."""

    def kernel(inner: Floats, _: Any, __: Any) -> Floats:
        return np.asarray(np.exp((inner - 1) / temperature))

    return kernel
