"""The fully synthetic cycle, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass

from karat.simulation.base import Policy, check_share


@dataclass(frozen=True)
class Full:
    """Each model trains only on what the last model wrote (and on fresh real data, if you give a share).

    fresh_share: how much of each batch that comes new is fresh real data.
    """

    fresh_share: float = 0.0

    def __post_init__(self) -> None:
        check_share("fresh_share", self.fresh_share)

    def policy(self) -> Policy:
        """Return the policy: keep nothing, replace everything."""
        return Policy(keep="none", batch=1.0, generated_share=1.0 - self.fresh_share)
