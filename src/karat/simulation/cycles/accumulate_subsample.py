"""Accumulation under a fixed budget, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass

from karat.simulation.base import Policy, check_share


@dataclass(frozen=True)
class AccumulateSubsample:
    """Everything is kept, but each model trains on n rows drawn from it (Kazdan et al. 2024).

    fresh_share: how much of each addition is fresh real data.
    """

    fresh_share: float = 0.0

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)

    def policy(self) -> Policy:
        """Return the policy: keep everything, add n rows, train on n random ones."""
        return Policy(keep="all", batch=1.0, generated_share=1.0 - self.fresh_share, subsample=1.0)
