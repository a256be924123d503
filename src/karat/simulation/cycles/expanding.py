"""The expanding cycle, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass

from karat.simulation.base import Policy, check_amount, check_share


@dataclass(frozen=True)
class Expanding:
    """The data grow by what the last model wrote; nothing is ever removed, so the first human data stay.

    growth: rows added each iteration, as a share of the first human data.
    fresh_share: how much of each addition is fresh real data.
    """

    growth: float = 0.1
    fresh_share: float = 0.0

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)
        check_amount("growth", self.growth)

    def policy(self) -> Policy:
        """Return the policy: keep everything, add a batch."""
        return Policy(keep="all", batch=self.growth, generated_share=1.0 - self.fresh_share)
