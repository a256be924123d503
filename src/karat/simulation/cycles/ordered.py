"""Loops of the best or the most surprising texts, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from karat import registry
from karat.simulation.base import Policy, Selection, check_share


@dataclass(frozen=True)
class Ordered:
    """Each model writes more than is needed, and the share it is surest of (or least sure of) is trained on.

    of: which cycle is filtered, by its name (with its usual settings).
    keep: share of what is written that becomes training data.
    fresh_share: how much of each batch that comes new is fresh real data.
    """

    of: str = "full"
    fresh_share: float = 0.0
    by: Literal["confidence", "surprise"] = "confidence"
    keep: float = 0.5

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)
        if not 0.0 < self.keep <= 1.0:
            raise ValueError(f"keep={self.keep} is not a share above 0")
        if self.by not in ("confidence", "surprise"):
            raise ValueError(f"by={self.by!r} is not known; choose confidence or surprise")

    def policy(self) -> Policy:
        """Return the policy of the other cycle, its texts chosen by how likely they are."""
        policy: Policy = registry.make("cycles", self.of).policy()
        if self.fresh_share:
            policy = policy.with_fresh(self.fresh_share)
        return replace(policy, selection=Selection(self.by, keep=self.keep))
