"""Keeps a number of records that stand for all the others. Knows no quality, only likeness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from karat.curation import coverage
from karat.curation.base import Verdicts
from karat.curation.embedding import embed
from karat.errors import NotEnoughData
from karat.records import Records


@dataclass(frozen=True)
class Diverse:
    """Keeps k records, or a share, that cover all of them (facility location) or lie far apart (k-center).

    share: of records kept, used where k is 0. k: how many are kept. method: facility (each record is near a
    kept one, lazy greedy, at least 63 % of the best value) or center (no record is far from a kept one,
    farthest first, at most twice the best radius). Facility favours the typical, center takes outliers too.
    encoder: lsa, minilm or another of the encoders. Over 6,000 records facility looks at the 128 nearest
    of each. Sources: Minoux 1978; Gonzalez 1985.
    """

    share: float = 0.5
    k: int = 0
    method: Literal["facility", "center"] = "facility"
    encoder: str = "lsa"

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k is {self.k}, but must be 1 or more; 0 keeps a share")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}, but must lie above 0 and at most at 1, for example 0.5")

    def judge(
        self, records: Records, reference: Records | None = None, *, cache: Path | None = None, seed: int = 0
    ) -> Verdicts:
        """Judge each record; the reason names the nearest kept record and its distance."""
        n = len(records)
        k = self.k or max(1, round(self.share * n))
        if k > n:
            raise NotEnoughData(f"filter 'diverse': k={k:,} records asked for, but there are {n:,}; lower k")
        vectors = embed(records.texts(), self.encoder, cache=cache, seed=seed)
        if self.method == "facility":
            chosen = coverage.facility_location(coverage.similarities(vectors), k)
        else:
            chosen = coverage.k_center(vectors, k)
        kept = np.zeros(n, np.bool_)
        kept[chosen] = True
        reasons = {}
        gone = np.flatnonzero(~kept)
        for start in range(0, len(gone), 1_024):
            rows = gone[start : start + 1_024]
            cosines = vectors[rows] @ vectors[chosen].T
            near = cosines.argmax(axis=1)
            for row, column, cosine in zip(rows.tolist(), near.tolist(), cosines.max(axis=1).tolist()):
                other = records.ids[chosen[column]]
                reasons[row] = f"not among the k={k:,} most diverse; cosine {cosine:.3f} with {other}"
        return Verdicts(kept, reasons, self._note(vectors, chosen, seed))

    def _note(self, vectors: coverage.Rows, chosen: coverage.I64, seed: int) -> str:
        mine = coverage.reach(vectors, chosen)
        others = coverage.at_random(vectors, len(chosen), seed=seed)
        figures = []
        for name in ("covering", "packing", "coverage") if len(chosen) > 1 else ("covering", "coverage"):
            values = [getattr(other, name) for other in others]
            what = {"covering": "covering radius", "packing": "packing radius", "coverage": "mean coverage"}
            figures.append(
                f"{what[name]} {getattr(mine, name):.3f} (random {np.mean(values):.3f}, "
                f"{min(values):.3f} to {max(values):.3f} of {len(values)})"
            )
        return f"{self.method}, k={len(chosen):,}: " + ", ".join(figures)
