"""The fully synthetic loop of the MAD paper, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass

from karat.simulation.base import Policy, check_amount


@dataclass(frozen=True)
class MadSynthetic:
    """Each model trains only on what the last one wrote: the fully synthetic loop (Alemohammad et al.).

    size: synthetic rows an iteration, as a share of the first human data.
    """

    size: float = 1.0

    def __post_init__(self) -> None:
        check_amount("size", self.size)

    def policy(self) -> Policy:
        """Return the policy: keep nothing, train on new synthetic rows."""
        return Policy(keep="none", batch=self.size)
