"""Drops the worst records by an ordering, which is how an order is mostly used. Knows no ordering by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karat import registry
from karat.curation.base import Ask, Ordered, Verdicts, offered
from karat.errors import NotEnoughData
from karat.records import Records


@dataclass(frozen=True)
class Worst:
    """Drops the worst share of records by an ordering, or all below a score.

    by: the ordering; its settings are parted by semicolons: by='agreement:trainer=linear;folds=5'.
    share: how much is dropped, rounded down to whole records; of equal scores the later ones go first.
    below: drop what scores less than this instead. unknown: drop records without a score, too (keep: not).
    """

    by: str
    share: float = 0.2
    below: float | None = None
    unknown: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share is {self.share}, but must be 0 or more and below 1")

    def judge(
        self,
        records: Records,
        reference: Records | None = None,
        *,
        seed: int = 0,
        ask: Ask | None = None,
        cache: Path | None = None,
    ) -> Verdicts:
        """Judge each record; the reason names its score and its place."""
        orderer = registry.make("orderings", self.by.replace(";", ","))
        more = offered(orderer.order, ask=ask, cache=cache)
        found: Ordered = orderer.order(records, reference, seed=seed, **more)
        scores, known = found.scores, ~np.isnan(found.scores)
        name, n = registry.name_of(orderer), len(records)
        if not known.any():
            raise NotEnoughData(f"ordering {self.by!r} has no score for any of {n:,} records; {found.note}")
        reasons: dict[int, str] = {}
        if self.unknown:
            reasons = dict.fromkeys(np.flatnonzero(~known).tolist(), f"no score by {name}")
        if self.below is not None:
            for row in np.flatnonzero(known & (scores < self.below)).tolist():
                reasons[row] = f"{name} {scores[row]:.4g}, under below={self.below:g}"
        else:
            rows = np.flatnonzero(known)
            best = rows[np.argsort(-scores[rows], kind="stable")]
            for place in range(len(best) - int(self.share * len(best) + 1e-9), len(best)):
                row = int(best[place])
                reasons[row] = (
                    f"{name} {scores[row]:.4g}, place {place + 1:,} of {len(best):,}, among the worst "
                    f"{self.share:.0%}"
                )
        kept = np.ones(n, np.bool_)
        kept[list(reasons)] = False
        return Verdicts(kept, reasons, found.note)
