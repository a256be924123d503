"""Coverage: how many human records have a candidate record near them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.auditing import neighbourhoods
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.vectors import Vectors


@dataclass(frozen=True)
class Coverage(Metric):
    """The share of human records whose neighbourhood holds a candidate record; low is a narrow corpus.

    A neighbourhood reaches to the k-th nearest human record. Human data covers about 1 - 1/2^k of human data.
    k: whose distance is the radius of a ball: the k-th nearest neighbour on its own side
    encoder: what turns texts into vectors; empty: the encoder of the audit
    limit: the most records of each side, the first by hash
    """

    k: int = 5
    encoder: str = ""
    limit: int = 1_000

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "It grows with the number of candidate records; sizes are made equal. Its ceiling is below "
        "1: read it "
        "beside what human data gets."
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
    source: ClassVar[str] = "Naeem et al. 2020, Reliable fidelity and diversity metrics"

    def __post_init__(self) -> None:
        for name in ("k", "limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 1 or more")

    def needs(self) -> tuple[Need, ...]:
        return (need("vectors", encoder=self.encoder, limit=self.limit),)

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        return neighbourhoods.coverages(self._near(pool), ours, theirs, self.k)

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
