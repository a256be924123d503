"""Manifold precision: how many candidate records stand where human records stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import neighbourhoods
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Telling, Values, View, need
from karat.auditing.vectors import Vectors


@dataclass(frozen=True)
class Precision(Metric):
    """The share of candidate records inside the neighbourhood of a human record; low is unlike human text.

    A neighbourhood is the ball around a human record that reaches to its k-th nearest human record.
    k: whose distance is the radius of a ball: the k-th nearest neighbour on its own side
    encoder: what turns texts into vectors; empty: the encoder of the audit
    limit: the most records of each side, the first by hash
    """

    k: int = 3
    encoder: str = ""
    limit: int = 1_000

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "One outlying human record has a ball that holds much; density is the sturdier figure. High "
        "precision with "
        "low recall means a few human kinds are imitated well."
    )
    cost: ClassVar[str] = "O(n^2 d) of at most 1,000 records a side"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Read the records it names; filter what no human record is near, or add exemplars."
    }
    size: ClassVar[View] = "lengths"
    needs_reference: ClassVar[bool] = True
    two_sided: ClassVar[bool] = True
    permutations: ClassVar[int] = 60
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "more like human records"
    source: ClassVar[str] = "Kynkäänniemi et al. 2019, Improved precision and recall"

    def __post_init__(self) -> None:
        for name in ("k", "limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 1 or more")

    def needs(self) -> tuple[Need, ...]:
        return (need("vectors", encoder=self.encoder, limit=self.limit),)

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        return neighbourhoods.precisions(self._near(pool), ours, theirs, self.k)

    def used(self, summary: Summary) -> int:
        return len(summary[self.needs()[0]])

    def extra(self, summary: Summary) -> dict[str, Setting]:
        return {"encoder": summary[self.needs()[0]].encoder}

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        """Candidate records in no ball of human data, the furthest from any human record first."""
        vectors: Vectors = summary[self.needs()[0]]
        found = self._near(summary)
        mine = vectors.groups < summary.groups // 2
        if not mine.any() or mine.all():
            return ()
        inside = found.enclosed(~mine, mine, self.k).any(axis=0)
        alone = np.flatnonzero(mine)[~inside]
        gap = found.squares[np.ix_(alone, np.flatnonzero(~mine))].min(axis=1, initial=np.inf)
        order = np.argsort(-gap, kind="stable")[:limit]
        return tuple(
            Telling(int(vectors.keys[alone[i]]), float(np.sqrt(gap[i])), "no human record is near it")
            for i in order
        )

    def _near(self, pool: Summary) -> neighbourhoods.Near:
        """All distances of the pool, once for all the splits that are asked for."""
        vectors: Vectors = pool[self.needs()[0]]
        if "near" not in vectors.worked_out:
            vectors.worked_out["near"] = neighbourhoods.near(vectors.rows, vectors.groups)
        found: neighbourhoods.Near = vectors.worked_out["near"]
        return found
