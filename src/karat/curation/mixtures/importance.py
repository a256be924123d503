"""Draws records again by how little a detector takes them for synthetic. Knows no label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import Mixed
from karat.curation.clusters import numbers
from karat.curation.repeats import Floats, drawn, repeated
from karat.curation.weighting import effective_size
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records


@dataclass(frozen=True)
class Importance:
    """Resamples records with weight (1 - p_ai)^b, p_ai the probability of being synthetic.

    b: how sharply likely synthetic records are avoided. upsample: records drawn for each candidate, where no
    total is given. repeats: how often a record may be drawn. p: a field that holds p_ai; without it, a
    detector cross-fitted on the human reference gives it. folds: of that detector.
    Source: Drayson, Yilmaz and Lampos 2025, with their defaults.
    """

    b: float = 10.0
    upsample: float = 1.5
    repeats: int = 3
    p: str = ""
    folds: int = 5

    def __post_init__(self) -> None:
        if not self.b >= 0 or not self.upsample > 0:
            raise ValueError(f"b={self.b} must not be negative, and upsample={self.upsample} be above 0")
        if self.repeats < 1 or self.folds < 2:
            raise ValueError(f"repeats={self.repeats} must be 1 or more, and folds={self.folds} 2 or more")

    def mix(
        self,
        candidate: Records,
        reference: Records | None = None,
        *,
        size: int | None = None,
        seed: int = 0,
    ) -> Mixed:
        """Draw records by their weights; copies have ids of their own and the record as their parent."""
        chance = self._chance(candidate, reference, seed)
        weights = (1 - chance) ** self.b
        able = int((weights > 0).sum())
        if not able:
            raise NotEnoughData("mixture 'importance': every record is surely synthetic (p_ai = 1); lower b")
        wanted = round(self.upsample * len(candidate))
        total = min(wanted, self.repeats * able) if size is None else size
        counts = drawn(weights, total, self.repeats, seed)
        left = {
            row: f"p_ai {chance[row]:.3f}, weight {weights[row]:.2g}: not drawn"
            for row in np.flatnonzero(counts == 0).tolist()
        }
        as_drawn = effective_size(counts.astype(np.float64))
        note = (
            f"{total:,} drawn of {int((counts > 0).sum()):,} different records; effective sample size "
            f"{effective_size(weights):,.0f} of {len(candidate):,} by weights, {as_drawn:,.0f} as drawn; "
            f"mean p_ai {chance.mean():.3f}, drawn {float(chance @ counts) / total:.3f}"
        )
        if size is None and total < wanted:
            note += f"; {wanted:,} were wanted, but no record may come more than {self.repeats} times"
        return Mixed(repeated(candidate, counts), left, note)

    def _chance(self, candidate: Records, reference: Records | None, seed: int) -> Floats:
        """float64 [n]: the probability of being synthetic."""
        if not self.p:
            from karat.auditing.detector import cross_fit_scores

            if reference is None:
                raise BadSetting(
                    "mixture 'importance' learns from human records; give --reference HUMAN, or p=FIELD"
                )
            found = cross_fit_scores(reference.texts(), candidate.texts(), folds=self.folds, seed=seed)
            return 1 - found.synthetic
        chance = numbers(candidate, self.p, "mixture 'importance'")
        wrong = np.flatnonzero(~((chance >= 0) & (chance <= 1)))
        if len(wrong):
            raise BadSetting(
                f"mixture 'importance': field {self.p!r} of record {candidate.ids[wrong[0]]!r} is "
                f"{chance[wrong[0]]}, but must be a probability between 0 and 1; drop such records first"
            )
        return chance
