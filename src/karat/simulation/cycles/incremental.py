"""The incremental cycle, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass

from karat.simulation.base import Policy, check_share


@dataclass(frozen=True)
class Incremental:
    """A share of the last training data is replaced by what the last model wrote (Briesch et al. 2023).

    share: of the rows that are replaced each iteration.
    fresh_share: how much of what comes new is fresh real data.
    """

    share: float = 0.5
    fresh_share: float = 0.0

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)
        check_share("share", self.share)

    def policy(self) -> Policy:
        """Return the policy: keep a random part of the last training data, add a batch."""
        return Policy(
            keep="sample",
            keep_share=1.0 - self.share,
            batch=self.share,
            generated_share=1.0 - self.fresh_share,
        )
