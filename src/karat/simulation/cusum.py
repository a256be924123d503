"""The arithmetic of control charts: tabular CUSUM, its run lengths, its limits where the baseline is short.

Knows numbers only. Page 1954 (the chart), Brook and Evans 1972 (run lengths by a Markov chain). Where mean
and spread come of a few baseline values, the chart standardised by them runs hot: its limits are therefore
drawn from simulated baselines of the same size, which is exact for independent normal values whatever their
mean and spread, since the standardised values do not depend on either (Hawkins 1987 uses the same fact).

What was measured with a stated chance of 5% within 20 steps, over baselines of 5, 10, 30 and 100 values:
normal values 5%, counts of 400 at a rate of 0.97 5%, uniform ones 4 to 6%, heavy tails (t with 3 degrees of
freedom) 7 to 13%, exponential ones 11 to 13%, correlated neighbours 12 to 20% (0.3) and 29 to 43% (0.6), and
5% where the correlation was told. Limits for known mean and spread give 41, 26, 11 and 6% of normal values.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from karat.errors import BadSetting

Floats = NDArray[np.float64]

STATES = 200  # of the Markov chain: run lengths to 0.1%
TRIALS = 20_000
CELLS = 60_000_000  # trials x steps that are simulated at most


def sums(z: ArrayLike, allowance: float) -> tuple[Floats, Floats]:
    """Return the upper and the lower CUSUM of standardised values; `nan` leaves a sum as it is."""
    up = down = 0.0
    ups, downs = [], []
    for value in np.asarray(z, dtype=float):
        if np.isfinite(value):
            up = max(0.0, up + value - allowance)
            down = max(0.0, down - value - allowance)
        ups.append(up)
        downs.append(down)
    return np.array(ups), np.array(downs)


@lru_cache(maxsize=256)
def run_length(allowance: float, limit: float, *, shift: float = 0.0, sides: int = 1) -> float:
    """Return the average number of steps to an alarm when mean and spread are known.

    shift: how far the mean has moved, in standard deviations. sides: 1 (upper) or 2.
    """
    if limit <= 0 or sides not in (1, 2):
        raise BadSetting(f"limit={limit:g} must be above 0 and sides={sides} be 1 or 2")
    upper = _one_sided(allowance, limit, shift)
    if sides == 1:
        return upper
    # the two sums of one chart never stand above zero together for long (Kemp 1961)
    return 1 / (1 / upper + 1 / _one_sided(allowance, limit, -shift))


def _one_sided(allowance: float, limit: float, shift: float) -> float:
    from scipy.special import ndtr

    width = 2 * limit / (2 * STATES - 1)
    at = width * np.arange(STATES)  # state 0 is the sum zero and what lies below half a width
    edges = at[None, :] + width / 2 - at[:, None] + allowance - shift
    below = ndtr(edges)
    moves = np.diff(below, axis=1, prepend=0.0)
    return float(np.linalg.solve(np.eye(STATES) - moves, np.ones(STATES))[0])


def limit_for(allowance: float, length: float, *, sides: int = 1) -> float:
    """Return the limit that gives this average run length without a change, mean and spread being known."""
    if not length > 2:
        raise BadSetting(f"an average run length of {length:g} is no monitor; it must be above 2 steps")
    low, high = 1e-3, 1.0
    while run_length(allowance, high, sides=sides) < length:
        low, high = high, 2 * high
        if high > 64:
            raise BadSetting(f"no limit gives a run length of {length:g} with allowance {allowance:g}")
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if run_length(allowance, middle, sides=sides) < length else (low, middle)
    return (low + high) / 2


@lru_cache(maxsize=32)
def null_maxima(
    baseline: int,
    horizon: int,
    allowance: float,
    sides: int,
    *,
    correlation: float = 0.0,
    trials: int = TRIALS,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Return how high CUSUM and single values rise within `horizon` steps in which nothing changes.

    float [trials] each, sorted downwards; standardised by the mean and the standard deviation of
    `baseline` values drawn before them. correlation: of each value with the one before it.
    """
    trials = max(2_000, min(trials, CELLS // (horizon + (baseline if correlation else 0))))
    rng = np.random.default_rng([seed, baseline, horizon])
    fresh = float(np.sqrt(1 - correlation**2))
    now = rng.standard_normal(trials)
    if correlation == 0:  # the mean and the spread of independent normal values are independent too
        mean = rng.standard_normal(trials) / baseline**0.5
        spread = np.sqrt(rng.chisquare(baseline - 1, trials) / (baseline - 1))
    else:
        mean, squares = np.zeros(trials), np.zeros(trials)
        for count in range(1, baseline + 1):
            away = now - mean
            mean += away / count
            squares += away * (now - mean)
            now = correlation * now + fresh * rng.standard_normal(trials)
        spread = np.sqrt(squares / (baseline - 1))
    up, down, highest = np.zeros(trials), np.zeros(trials), np.zeros(trials)
    furthest = np.full(trials, -np.inf)
    for _ in range(horizon):
        z = (now - mean) / spread
        np.maximum(0.0, up + z - allowance, out=up)
        np.maximum(highest, up, out=highest)
        if sides == 2:
            np.maximum(0.0, down - z - allowance, out=down)
            np.maximum(highest, down, out=highest)
            z = np.abs(z)
        np.maximum(furthest, z, out=furthest)
        now = correlation * now + fresh * rng.standard_normal(trials)
    return np.sort(highest)[::-1], np.sort(furthest)[::-1]


def chance(maxima: Floats, seen: float) -> float:
    """Return the chance to reach what was seen where nothing changes; never less than one in the trials."""
    reached = int(np.searchsorted(-maxima, -seen, side="right"))
    return (1 + reached) / (1 + len(maxima))


def limit_of(maxima: Floats, level: float) -> float:
    """Return the limit that is passed with this chance: `seen > limit` is the same as `chance <= level`."""
    place = int(np.floor(level * (1 + len(maxima)) + 1e-9)) - 1
    if place < 0:
        raise BadSetting(
            f"a chance of {level:.2g} for a false alarm is finer than {len(maxima):,} trials can tell; "
            "allow more false alarms or watch fewer streams"
        )
    return float(maxima[place])


def correlation_of(values: ArrayLike) -> float:
    """Return the correlation of each value with the one before it, corrected for the bias of short series.

    The raw one is too low by about (1 + 4r) / n (Kendall 1954).
    """
    given = np.asarray(values, dtype=float)
    n = len(given)
    around = given - given.mean()
    total = float(around @ around)
    if n < 6 or total == 0:
        return 0.0
    raw = float(around[1:] @ around[:-1]) / total
    return float(np.clip((n * raw + 1) / (n - 4), -0.99, 0.99))
