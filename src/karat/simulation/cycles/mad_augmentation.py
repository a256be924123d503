"""The synthetic augmentation loop of the MAD paper, as a preset; knows no loop."""

from __future__ import annotations

from dataclasses import dataclass

from karat.simulation.base import Policy, check_amount


@dataclass(frozen=True)
class MadAugmentation:
    """The first human data stay and are joined by what the last model wrote (Alemohammad et al. 2024).

    size: synthetic rows an iteration, as a share of the first human data.
    pool: whether the rows of earlier models stay as well.
    """

    size: float = 1.0
    pool: bool = False

    def __post_init__(self) -> None:
        check_amount("size", self.size)

    def policy(self) -> Policy:
        """Return the policy: keep the first human data, add synthetic rows."""
        return Policy(keep="all" if self.pool else "human", batch=self.size)
