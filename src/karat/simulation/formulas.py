"""What can be said of a loop with a pocket calculator: drift, sharpening, the weight of real data. No texts.

Drift is what sampling noise alone does (temperature 1, a learner without faults): slow, n decides. Sharpening
is what a temperature below 1 does in each iteration: fast, n hardly matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from karat.errors import BadSetting

REPHRASED = 0.3
"""Share of synthetic text that was best in mixes of real and rephrased text (Kang et al. 2025)."""


def drift_half_life(n: int) -> float:
    """Iterations until resampling n texts halves pairwise diversity: ln 2 / -ln(1 - 1/n) (Seddik 2024)."""
    return math.log(2) / -math.log1p(-1 / n)


def drift_collapse(n: int) -> float:
    """Iterations until resampling n texts has left a single one, about 2n (Kazdan 2025 read 1.7 to 2 n).

    It is the mean time of fixation of a neutral Wright-Fisher population that starts with many kinds.
    """
    return 2.0 * n


def drift_plateau(n: int, fresh_share: float) -> float:
    """Share of pairwise diversity that drift leaves where each batch holds a share of fresh human data.

    H*/H_0 = (1 - 1/n) a / (1 - (1 - 1/n)(1 - a)), a = 1 - (1 - share)^2. Sharpening is not in it.
    """
    a = 1 - (1 - fresh_share) ** 2
    return (1 - 1 / n) * a / (1 - (1 - 1 / n) * (1 - a))


def drift_fresh_share(n: int, kept: float) -> float:
    """The fresh share with which drift keeps this share of pairwise diversity: `drift_plateau` inverted."""
    _check_share("kept", kept)
    if kept >= drift_plateau(n, 1.0):  # not even fresh data alone keep what n texts hold of all texts
        return 1.0
    a = kept / ((n - 1) * (1 - kept))
    return 1 - math.sqrt(1 - a)


def sharpening_time(n: int, temperature: float) -> float | None:
    """Iterations until one text is left by sharpening: ln(5 sqrt n) / ln(1/T); None at 1 and above.

    Near-ties of a sample of n differ by about 1/sqrt(n), and grow by the power 1/T in each iteration. A
    heuristic: 28 for n = 10,000 and T = 0.8, where the one published run took 39.
    """
    if temperature >= 1.0:
        return None
    return math.log(5 * math.sqrt(n)) / math.log(1 / temperature)


def sharpening_path(
    start: ArrayLike, temperature: float, *, fresh_share: float = 0.0, iterations: int = 40
) -> NDArray[np.float64]:
    """Iterate p <- share p_0 + (1 - share) normalise(p^(1/T)); shape (iterations + 1, kinds).

    No sampling noise is in it, so that exact ties stay. `start` needs not be normalised.
    """
    first = np.asarray(start, dtype=np.float64)
    if (
        first.ndim != 1
        or not first.size
        or not np.isfinite(first).all()
        or (first < 0).any()
        or not first.sum()
    ):
        raise BadSetting("start is no distribution; give numbers of 0 and above that do not add up to 0")
    if not temperature > 0:
        raise BadSetting(f"temperature={temperature} must be above 0")
    _check_share("fresh_share", fresh_share)
    first = first / first.sum()
    path = np.empty((iterations + 1, first.size))
    path[0] = now = first
    for t in range(1, iterations + 1):
        powers = (now / now.max()) ** (1 / temperature)  # the largest is 1, so that nothing vanishes too soon
        now = fresh_share * first + (1 - fresh_share) * powers / powers.sum()
        path[t] = now
    return path


def pairwise_diversity(shares: ArrayLike) -> NDArray[np.float64]:
    """How often two draws differ, 1 - sum p^2, along the last axis."""
    p = np.asarray(shares, dtype=np.float64)
    found: NDArray[np.float64] = 1 - (p**2).sum(axis=-1)
    return found


def optimal_weight(ratio: float) -> float:
    """The best weight of real data in the long run: (sqrt(k^2 + 4k) - k) / 2, k = real / synthetic rows.

    1 gives 0.618, the golden ratio. Source: He, Xu and Cheng (2025), for estimation from a mixture in each
    iteration; the direction of k is inferred.
    """
    if not ratio >= 0 or math.isinf(ratio):
        raise BadSetting(f"real / synthetic = {ratio} must be a number of 0 and above")
    return (math.sqrt(ratio**2 + 4 * ratio) - ratio) / 2


@dataclass(frozen=True)
class WeightAdvice:
    """How heavily real rows should count, beside what pooling all rows alike gives them."""

    real: int
    synthetic: int
    weight: float  # share of the total weight that real rows get
    pooled: float  # share that they have where all rows count alike
    row_weight: float  # how many times a synthetic row's weight a real row gets
    words: str

    def to_json(self) -> dict[str, Any]:
        """Return the advice as plain values."""
        return dict(vars(self))


def weight_advice(real: int, synthetic: int) -> WeightAdvice:
    """Advise on the weight of real rows among synthetic ones, where every iteration trains on both."""
    if real < 1 or synthetic < 1:
        raise BadSetting(f"real={real} and synthetic={synthetic} must both be at least 1")
    weight, pooled = optimal_weight(real / synthetic), real / (real + synthetic)
    # `real` rows share `weight`, `synthetic` rows the rest.
    times = weight / real / ((1 - weight) / synthetic)
    words = (
        f"give real rows {weight:.0%} of the weight (each counts {times:.1f} times a synthetic row); "
        f"pooled alike they would have {pooled:.0%}"
    )
    if 1 - pooled > REPHRASED:
        words += (
            f". Where the synthetic rows are rephrased real text, mixes with about {REPHRASED:.0%} synthetic "
            f"did best in pre-training, and these have {1 - pooled:.0%}"
        )
    return WeightAdvice(real, synthetic, weight, pooled, times, words)


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise BadSetting(f"{name}={value} is not a share; give a number from 0 to 1")
