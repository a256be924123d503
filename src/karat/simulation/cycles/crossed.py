"""Several models that train on each other's texts, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from karat import registry
from karat.simulation.base import Policy, check_share


@dataclass(frozen=True)
class Crossed:
    """Several models write, and each trains on the texts of the others; several trainers take turns.

    models: how many. feed: `pool` deals all texts to all, `ring` hands each model's texts to the next one,
    `own` keeps them apart (what several models are worth without feeding each other).
    of: which cycle each of them goes through, by its name.
    fresh_share: how much of each batch that comes new is fresh real data.
    """

    models: int = 2
    feed: Literal["own", "ring", "pool"] = "pool"
    of: str = "full"
    fresh_share: float = 0.0

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)
        if not 1 <= self.models <= 64:
            raise ValueError(f"models={self.models} must lie between 1 and 64")
        if self.feed not in ("own", "ring", "pool"):
            raise ValueError(f"feed={self.feed!r} is not known; choose own, ring or pool")

    def policy(self) -> Policy:
        """Return the policy of the other cycle, with several models."""
        policy: Policy = registry.make("cycles", self.of).policy()
        if self.fresh_share:
            policy = policy.with_fresh(self.fresh_share)
        return replace(policy, models=self.models, feed=self.feed)
