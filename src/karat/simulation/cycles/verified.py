"""Loops filtered by a verifier, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

from karat import registry
from karat.simulation.base import Policy, Selection, check_share


@dataclass(frozen=True)
class Verified:
    """Only texts that a verifier takes for correct become training data (Feng et al. 2024).

    of: which cycle is filtered, by its name (with its usual settings).
    false_positives: share of the wrong texts that the verifier lets through.
    false_negatives: share of the correct texts that it refuses.
    fresh_share: how much of each batch that comes new is fresh real data.
    """

    of: str = "full"
    fresh_share: float = 0.0
    false_positives: float = 0.0
    false_negatives: float = 0.0

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)
        check_share("false_positives", self.false_positives)
        check_share("false_negatives", self.false_negatives)

    def policy(self) -> Policy:
        """Return the policy of the other cycle, its texts chosen by a verifier."""
        policy: Policy = registry.make("cycles", self.of).policy()
        if self.fresh_share:
            policy = policy.with_fresh(self.fresh_share)
        return replace(
            policy,
            selection=Selection(
                "verifier", false_positives=self.false_positives, false_negatives=self.false_negatives
            ),
        )
