"""Loops resampled by a detector, as a preset; knows no loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from karat import registry
from karat.simulation.base import Policy, Selection, check_share


@dataclass(frozen=True)
class Detected:
    """A detector of model-written text decides how often rows are drawn: (1 - p_ai)^b (Drayson et al. 2025).

    of: which cycle is filtered, by its name (with its usual settings).
    b: how sharply likely synthetic rows are avoided.
    repeats: how often a row may be drawn.
    fresh_share: how much of each batch that comes new is fresh real data.
    """

    of: str = "full"
    fresh_share: float = 0.0
    b: float = 10.0
    repeats: int = 3

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)
        if not 0 <= self.b < math.inf or self.repeats < 1:
            raise ValueError(f"b={self.b} must be a number from 0, and repeats={self.repeats} be at least 1")

    def policy(self) -> Policy:
        """Return the policy of the other cycle, its rows drawn by a detector."""
        policy: Policy = registry.make("cycles", self.of).policy()
        if self.fresh_share:
            policy = policy.with_fresh(self.fresh_share)
        return replace(policy, selection=Selection("detector", strength=self.b, repeats=self.repeats))
