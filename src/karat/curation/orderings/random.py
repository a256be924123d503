"""Orders records at random, which is what any other ordering has to beat. Knows no text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import Ordered
from karat.records import Records


@dataclass(frozen=True)
class Random:
    """A random order, drawn by the seed of the stage."""

    def order(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Ordered:
        """Score each record by a random number."""
        scores = np.random.default_rng([seed, 0x0DE2]).random(len(records))
        return Ordered(
            scores, "a random order carries no information; other orderings are measured against it", False
        )
