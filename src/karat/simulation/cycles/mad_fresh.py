"""The fresh data loop of the MAD paper, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass

from karat.simulation.base import Policy, check_amount


@dataclass(frozen=True)
class MadFresh:
    """Each model trains on new human data and on what the last model wrote (Alemohammad et al. 2024).

    fresh: new human rows an iteration, as a share of the first human data.
    size: synthetic rows an iteration, the same way.
    """

    fresh: float = 0.5
    size: float = 0.5

    def __post_init__(self) -> None:
        if self.fresh:
            check_amount("fresh", self.fresh)
        if self.size or not self.fresh:
            check_amount("size", self.size)

    def policy(self) -> Policy:
        """Return the policy: keep nothing; train on new human and new synthetic rows."""
        rows = self.fresh + self.size
        return Policy(keep="none", batch=rows, generated_share=self.size / rows)
