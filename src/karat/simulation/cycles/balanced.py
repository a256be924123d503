"""The balanced cycle, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass

from karat.simulation.base import Policy, check_share


@dataclass(frozen=True)
class Balanced:
    """Equal parts of the first human data and of each iteration so far, in all n rows (Briesch et al.).

    fresh_share: how much of each new iteration is fresh real data.
    """

    fresh_share: float = 0.0

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)

    def policy(self) -> Policy:
        """Return the policy: keep everything, draw n rows, the same share from each source."""
        return Policy(
            keep="all", batch=1.0, generated_share=1.0 - self.fresh_share, weights="source", subsample=1.0
        )
