"""Draws records again so that they resemble the human reference. Knows no label and no generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from karat.curation import weighting
from karat.curation.base import Mixed
from karat.curation.embedding import embed
from karat.curation.repeats import drawn, repeated
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records

_SHOWN = 2_000  # records of each side that the discrepancy is measured on


@dataclass(frozen=True)
class Matching:
    """Resamples records with weights that make their distribution that of the human reference.

    method: kmm (kernel mean matching on embeddings, Huang et al. 2007) or odds (p / (1 - p) of a cross-fitted
    human-or-synthetic detector). most: the largest weight, where the mean is 1. repeats: how often a record
    may be drawn. encoder: lsa, minilm or another of the encoders. The discrepancy (MMD squared) is measured
    on a fifth of the human records, which no weight has seen.
    """

    method: Literal["kmm", "odds"] = "kmm"
    most: float = 10.0
    repeats: int = 3
    encoder: str = "lsa"

    def __post_init__(self) -> None:
        if not self.most > 1 or self.repeats < 1:
            raise ValueError(f"most={self.most} must be above 1 and repeats={self.repeats} 1 or more")

    def mix(
        self,
        candidate: Records,
        reference: Records | None = None,
        *,
        size: int | None = None,
        seed: int = 0,
        cache: Path | None = None,
    ) -> Mixed:
        """Draw records by their weights; copies have ids of their own and the record as their parent."""
        if reference is None:
            raise BadSetting("mixture 'matching' matches human records; give --reference HUMAN")
        if len(reference) < 20 or len(candidate) < 20:
            raise NotEnoughData(
                f"mixture 'matching' needs 20 records a side, but there are {len(candidate):,} and "
                f"{len(reference):,} human ones"
            )
        vectors = embed([*candidate.texts(), *reference.texts()], self.encoder, cache=cache, seed=seed)
        mine, human = vectors[: len(candidate)], vectors[len(candidate) :]
        order = np.random.default_rng([seed, 0x3A7]).permutation(len(reference))
        apart = max(10, len(order) // 5)
        held, seen = order[:apart], np.sort(order[apart:])
        bandwidth = weighting.bandwidth_of(human, seed=seed)
        if self.method == "kmm":
            asked = weighting.problem(mine, human[seen], bandwidth, seed=seed)
            weights = weighting.mean_matching(asked, self.most)
        else:
            from karat.auditing.detector import cross_fit_scores

            texts = reference.take(seen).texts()
            found = cross_fit_scores(texts, candidate.texts(), seed=seed)
            weights = weighting.human_odds(found.synthetic, self.most)
            if not weights.any():
                raise NotEnoughData("mixture 'matching': no record is ever taken for human; use method=kmm")
        total = len(candidate) if size is None else size
        if size is None:
            total = min(total, self.repeats * int((weights > 0).sum()))
        counts = drawn(weights, total, self.repeats, seed)
        left = {
            row: f"weight {weights[row]:.3g} toward human text: not drawn"
            for row in np.flatnonzero(counts == 0).tolist()
        }
        rng = np.random.default_rng([seed, 0x3A8])
        some = np.sort(rng.permutation(len(mine))[:_SHOWN])
        unseen, known = human[held[:_SHOWN]], human[seen[:_SHOWN]]
        as_drawn = np.maximum(counts[some].astype(np.float64), 1e-12)
        before, after, real = (
            weighting.discrepancy(rows, part, unseen, bandwidth)
            for rows, part in (
                (mine[some], np.ones(len(some))),
                (mine[some], as_drawn),
                (known, np.ones(len(known))),
            )
        )
        note = (
            f"{total:,} drawn of {int((counts > 0).sum()):,} different records; effective sample size "
            f"{weighting.effective_size(weights):,.0f} of {len(candidate):,}; MMD squared to unseen human "
            f"text {before:.5f} before, {after:.5f} as drawn (best: {real:.5f}, other human text)"
        )
        return Mixed(repeated(candidate, counts), left, note)
