"""Adds human records so that they make up a given share. Knows no generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import Mixed
from karat.curation.lexis import lexical_note
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records


@dataclass(frozen=True)
class HumanShare:
    """Mixes human records of the reference in, so that they make up a share of the total.

    share: of human records among all. Without a total size all candidates are kept and human ones are
    added; with one, the best candidates fill the rest. Human records are never repeated.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, but must lie between 0 and 1, for example 0.1")

    def mix(
        self,
        candidate: Records,
        reference: Records | None = None,
        *,
        size: int | None = None,
        seed: int = 0,
    ) -> Mixed:
        """Draw human records at random and put them among the candidates at random places."""
        if reference is None:
            raise BadSetting("mixture 'human_share' adds human records; give --reference HUMAN")
        if size is None:
            synthetic = len(candidate)
            human = round(self.share / (1 - self.share) * synthetic)
        else:
            human = round(self.share * size)
            synthetic = min(size - human, len(candidate))
        if human > len(reference):
            most = len(reference) / (len(reference) + synthetic)
            raise NotEnoughData(
                f"mixture 'human_share' needs {human:,} human records for a share of {self.share:g}, but the "
                f"reference has {len(reference):,}; a share of {most:.3f} can be had"
            )
        rng = np.random.default_rng([seed, 0x4A2])
        drawn = rng.choice(len(reference), human, replace=False)
        kept, added = candidate.slice(0, synthetic), reference.take(drawn)
        both = kept.concat(added)
        # The order of the candidates stays; human records are spread among them evenly at random.
        places = np.concatenate([np.arange(synthetic) + 0.5, rng.random(human) * max(1, synthetic)])
        reason = f"not among the first {synthetic:,}, which leave room for {human:,} human records"
        left = dict.fromkeys(
            range(synthetic, len(candidate)),
            reason,
        )
        note = f"{human:,} human records added to {synthetic:,} synthetic ones"
        order = np.argsort(places, kind="stable")
        mixed = both.take(order)
        names = ["synthetic" if place < synthetic else "human" for place in order.tolist()]
        words = lexical_note(mixed.texts(), names, seed=seed)
        return Mixed(mixed, left, "; ".join(filter(None, (note, words))))
