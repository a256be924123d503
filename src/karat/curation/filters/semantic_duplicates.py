"""Drops records whose vector points the same way as that of one that is kept. Knows no encoder by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from karat.curation.base import Verdicts
from karat.curation.clusters import cosine_links, keep_of, preference, texts_of
from karat.curation.embedding import embed
from karat.records import Records


@dataclass(frozen=True)
class SemanticDuplicates:
    """Keeps one of each group of texts whose embeddings have a cosine over a threshold (SemDeDup).

    threshold: the least cosine of two duplicates; it means something else for each encoder. encoder: lsa,
    minilm or another of the encoders. keep: which one of a cluster stays: first, longest or best (highest
    `by`). by: a numeric field, for keep=best. clusters: star (each dropped record is alike to the kept one;
    no two kept ones are) or component (chains count too). All pairs are looked at, block by block.
    field: compare this field and not the whole text.
    Source: Abbas et al. 2023. Texts without anything to encode are never duplicates.
    """

    threshold: float = 0.95
    encoder: str = "lsa"
    keep: Literal["first", "longest", "best"] = "first"
    by: str = "order_score"
    clusters: Literal["star", "component"] = "star"
    field: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"threshold is {self.threshold}, but must lie above 0 and at most at 1, e.g. 0.95"
            )

    def judge(
        self, records: Records, reference: Records | None = None, *, cache: Path | None = None, seed: int = 0
    ) -> Verdicts:
        """Judge each record; the reason names the cosine, the bound and the record that stands for it."""
        vectors = embed(texts_of(records, self.field), self.encoder, cache=cache, seed=seed)
        order = preference(records, self.keep, self.by, "filter 'semantic_duplicates'")
        found = keep_of(order, cosine_links(vectors, self.threshold), self.clusters)
        reasons = {}
        for row in np.flatnonzero(~found.kept).tolist():
            alike = found.likeness[row]
            how = "linked by a chain" if np.isnan(alike) else f"cosine {alike:.3f}"
            other = records.ids[found.stands[row]]
            reasons[row] = f"{how} with {other}, at or over threshold={self.threshold:g}"
        usual = _usual(vectors, seed)
        note = f"cosine of two records drawn at random {usual:.3f}" if usual is not None else ""
        empty = int((~vectors.any(axis=1)).sum())
        if empty:
            note += f"; {empty:,} records have nothing to encode and stay"
        return Verdicts(
            found.kept, reasons, f"{self.clusters} clusters, {self.keep} kept; {note}".rstrip("; ")
        )


def _usual(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]], seed: int) -> float | None:
    """The mean cosine of 1,000 pairs drawn at random, which is the level of chance."""
    if len(vectors) < 2:
        return None
    rng = np.random.default_rng([seed, 0x5E3])
    one = rng.integers(0, len(vectors), 1_000)
    other = (one + rng.integers(1, len(vectors), 1_000)) % len(vectors)
    return float(np.einsum("nd,nd->n", vectors[one], vectors[other]).mean())
