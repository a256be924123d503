"""MAUVE: the area under the divergence frontier of two corpora, over clusters of their vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import quantised
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.vectors import Vectors


@dataclass(frozen=True)
class Mauve(Metric):
    """How alike candidate and human data are spread over clusters of their vectors; 1 is no difference.

    Both corpora are clustered together (principal axes that hold 90% of the variance, then k-means), and the
    area is that under (exp(-c KL(Q|R)), exp(-c KL(P|R))) for all mixtures R of their histograms P and Q. The
    value is the mean over several clusterings, since one alone moves by some percent with its seed.
    encoder: what turns texts into vectors; empty: the encoder of the audit
    clusters: the number k of clusters; 0: a tenth of the candidate's records, at most 500
    seeds: clusterings, each from its own seed
    scaling: the constant c
    limit: the most records of each side, the first by hash
    """

    encoder: str = ""
    clusters: int = 0
    seeds: int = 5
    scaling: float = 5.0
    limit: int = 2_500

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "It moves with the number of records, of clusters and with the encoder; figures of other settings or "
        "from other programs cannot be compared. Two halves of one corpus do not reach 1."
    )
    cost: ClassVar[str] = "O(n k d) a k-means step, five clusterings of at most 2,500 records a side"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Bring topics and styles nearer to human data: attributes and exemplars drawn from it."
    }
    size: ClassVar[View] = "lengths"
    needs_reference: ClassVar[bool] = True
    two_sided: ClassVar[bool] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "more like human data"
    source: ClassVar[str] = (
        "Pillutla et al. 2021, MAUVE: measuring the gap between neural text and human text"
    )

    def __post_init__(self) -> None:
        for name, least in (("clusters", 0), ("seeds", 1), ("limit", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {least} or more")
        if not self.scaling > 0:
            raise ValueError(f"scaling is {self.scaling}, but must be above 0")

    def needs(self) -> tuple[Need, ...]:
        return (need("vectors", encoder=self.encoder, limit=self.limit),)

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        return np.asarray(self._areas(pool, ours, theirs).mean(axis=0), dtype=np.float64)

    def used(self, summary: Summary) -> int:
        return len(summary[self.needs()[0]])

    def extra(self, summary: Summary) -> dict[str, Setting]:
        vectors: Vectors = summary[self.needs()[0]]
        return {"encoder": vectors.encoder, "k": self._k(len(vectors))}

    def details(self, summary: Summary) -> dict[str, float]:
        first = np.arange(summary.groups)[None] < summary.groups // 2
        found = self._areas(summary, first, ~first)[:, 0]
        spread = float(found.std(ddof=1)) if len(found) > 1 else float("nan")
        return {"seed_sd": spread, "lowest_seed": float(found.min()), "highest_seed": float(found.max())}

    def note(self, summary: Summary) -> str:
        spread = self.details(summary)["seed_sd"]
        return f"mean of {self.seeds} clusterings, whose SD is {spread:.3f}" if self.seeds > 1 else ""

    def _k(self, side: int) -> int:
        """The number of clusters for so many records a side."""
        return self.clusters or max(2, min(500, side // 10))

    def _areas(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        """float64 [seeds, K]: the area for each clustering of the pool."""
        vectors: Vectors = pool[self.needs()[0]]
        if "mauve" not in vectors.worked_out:
            points = quantised.principal(vectors.rows)
            k = self._k(int((vectors.groups < pool.groups // 2).sum()))
            vectors.worked_out["mauve"] = [
                quantised.histograms(quantised.clusters(points, k, seed), vectors.groups, pool.groups)
                for seed in range(self.seeds)
            ]
        tables: list[quantised.Floats] = vectors.worked_out["mauve"]
        return np.array(
            [quantised.frontier_areas(ours @ table, theirs @ table, scaling=self.scaling) for table in tables]
        )
