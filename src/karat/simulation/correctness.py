"""Whether the share of correct texts rises or falls over the iterations of a loop. Knows numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from karat.auditing.statistics import t_quantile
from karat.simulation.curves import REACH


@dataclass(frozen=True)
class Trend:
    """A straight line through the logits of the correct share: its direction, and where it leads."""

    first: float  # the line at iteration 0
    slope: float  # logits an iteration
    interval: tuple[float, float]  # of the slope, 95%
    verdict: str  # falls, rises, no clear trend
    until: int  # three times the observed range
    then: float  # the line there
    then_interval: tuple[float, float]

    def words(self) -> str:
        """Say the trend in one sentence."""
        low, high = self.then_interval
        if self.verdict == "no clear trend":
            return "the correct share shows no clear trend so far"
        return (
            f"the correct share {self.verdict}: {self.then:.0%} [{low:.0%}, {high:.0%}] at iteration "
            f"{self.until}, if it goes on like this"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the trend as plain values."""
        found = asdict(self)
        found["interval"], found["then_interval"] = list(self.interval), list(self.then_interval)
        return found


def trend(runs: Sequence[Sequence[float | None]], n: int) -> Trend | None:
    """Fit a line to the logits of correct shares, one row a seed; None for fewer than three iterations.

    n: texts behind each share. Errors are those of the shares, widened where the points scatter more.
    """
    points = [
        (float(t), share)
        for run in runs
        for t, share in enumerate(run)
        if share is not None and share == share
    ]
    t = np.asarray([time for time, _ in points])
    if len(set(t)) < 3:
        return None
    # Half a text is added on both sides, so that shares of 0 and 1 have a logit (Haldane 1956).
    right = np.asarray([share for _, share in points]) * n + 0.5
    logits = np.log(right / (n + 1 - right))
    weights = 1 / (1 / right + 1 / (n + 1 - right))
    design = np.stack([np.ones(len(t)), t], axis=1)
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    line = covariance @ (design.T @ (weights * logits))
    df = len(t) - 2
    spread = max(1.0, float((weights * (logits - design @ line) ** 2).sum()) / df)
    reach = t_quantile(0.975, df) * math.sqrt(spread)
    slope, error = float(line[1]), reach * math.sqrt(float(covariance[1, 1]))
    until = int(REACH * t.max())
    there = np.asarray([1.0, until])
    middle, wide = float(there @ line), reach * math.sqrt(float(there @ covariance @ there))
    verdict = "no clear trend"
    if abs(slope) > error:
        verdict = "rises" if slope > 0 else "falls"
    return Trend(
        first=_share(float(line[0])),
        slope=slope,
        interval=(slope - error, slope + error),
        verdict=verdict,
        until=until,
        then=_share(middle),
        then_interval=(_share(middle - wide), _share(middle + wide)),
    )


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))
