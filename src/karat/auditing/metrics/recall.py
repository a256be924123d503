"""Manifold recall: how much of human data the candidate reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing import neighbourhoods
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.vectors import Vectors


@dataclass(frozen=True)
class Recall(Metric):
    """The share of human records inside the neighbourhood of a candidate record; low is a narrow corpus.

    A neighbourhood is the ball around a candidate record that reaches to its k-th nearest candidate record.
    k: whose distance is the radius of a ball: the k-th nearest neighbour on its own side
    encoder: what turns texts into vectors; empty: the encoder of the audit
    limit: the most records of each side, the first by hash
    """

    k: int = 3
    encoder: str = ""
    limit: int = 1_000

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "A few outlying candidate records have balls that hold much human data: coverage is the "
        "sturdier figure."
    )
    cost: ClassVar[str] = "O(n^2 d) of at most 1,000 records a side"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": (
            "Widen topics and styles: what human data holds is missing. Use attributes or human exemplars."
        )
    }
    size: ClassVar[View] = "lengths"
    needs_reference: ClassVar[bool] = True
    two_sided: ClassVar[bool] = True
    permutations: ClassVar[int] = 60
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "reaches more of human data"
    source: ClassVar[str] = "Kynkäänniemi et al. 2019, Improved precision and recall"

    def __post_init__(self) -> None:
        for name in ("k", "limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 1 or more")

    def needs(self) -> tuple[Need, ...]:
        return (need("vectors", encoder=self.encoder, limit=self.limit),)

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        return neighbourhoods.precisions(self._near(pool), theirs, ours, self.k)

    def used(self, summary: Summary) -> int:
        return len(summary[self.needs()[0]])

    def extra(self, summary: Summary) -> dict[str, Setting]:
        return {"encoder": summary[self.needs()[0]].encoder}

    def _near(self, pool: Summary) -> neighbourhoods.Near:
        """All distances of the pool, once for all the splits that are asked for."""
        vectors: Vectors = pool[self.needs()[0]]
        if "near" not in vectors.worked_out:
            vectors.worked_out["near"] = neighbourhoods.near(vectors.rows, vectors.groups)
        found: neighbourhoods.Near = vectors.worked_out["near"]
        return found
