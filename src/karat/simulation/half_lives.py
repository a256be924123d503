"""The half-life of a loop over several seeds, with an interval that covers. Knows curves only, no loop.

A seed whose diversity has not halved by its last iteration is censored: its half-life is later than that.
The interval is one for the median half-life of all seeds that could be run.
"""

from __future__ import annotations

import math
import statistics as plain
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing.statistics import normal_quantile, t_quantile

Floats = NDArray[np.float64]

LEAST_SPREAD = 0.02
"""Standard deviation of log half-life between seeds that is taken for granted (runs never agree better)."""

ASSUMED_SPREAD = 0.3
"""What the spread is taken for where one seed or none has halved (0.15 is usual)."""

_FARTHEST = 20.0
"""A half-life beyond so many times the last iteration is not told from none at all."""


@dataclass(frozen=True)
class HalfLife:
    """Iterations until the diversity of the first model's texts has halved; None where it did not happen."""

    value: float | None
    interval: tuple[float | None, float | None]
    note: str


@dataclass(frozen=True)
class Reached:
    """One seed: where its curve crossed half (None: not yet), its last iteration, its error in log time."""

    at: float | None
    last: int
    error: float


def crossing(values: Sequence[float], target: float) -> float | None:
    """Return where a curve first falls to the target (linear between iterations); None if it never does."""
    for t, value in enumerate(values):
        if value <= target:
            if t == 0:
                return 0.0
            before = values[t - 1]
            return t - 1 + (before - target) / (before - value)
    return None


def reached(curve: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> Reached:
    """Return when one seed's diversity halved; `lows` and `highs` are the 95% intervals of its values."""
    target, last = curve[0] / 2, len(curve) - 1
    at = crossing(curve, target)
    if at is None or at <= 0.0:
        return Reached(None if at is None else 0.5, last, 0.0)
    early, late = crossing(lows, target), crossing(highs, target)
    # Both ends of the value's interval, on the time axis; where one end does not cross, the other speaks.
    reach = [abs(math.log(end / at)) for end in (early, late) if end is not None and end > 0]
    return Reached(at, last, max(reach, default=0.0) / normal_quantile(0.975))


def over_seeds(seeds: Sequence[Reached]) -> HalfLife:
    """Return the median half-life over seeds and its 95% interval.

    Half-lives of seeds are taken as log-normal. Where all seeds have halved, the interval is Student's t on
    log half-life; it holds the measurement error of each seed too, which is part of the spread between
    them (and a floor where seeds happen to agree). Where some have not, it is the profile-likelihood interval
    of the censored log-normal (Cohen 1959; Meeker and Escobar 1998, chapter 8), at the threshold at which
    it equals Student's where nothing is censored. One seed tells nothing of the spread.
    """
    times = [seed.at for seed in seeds]
    done = [time for time in times if time is not None]
    k, m, last = len(seeds), len(done), max(seed.last for seed in seeds)
    floor = math.hypot(LEAST_SPREAD, _pooled(seeds)) if k > 1 else _pooled(seeds)
    if k == 1 and m == 1:
        note = "one seed: the interval holds the sampling error of the measure, not the spread between runs"
        reach = math.exp(normal_quantile(0.975) * floor)
        return HalfLife(done[0], (done[0] / reach, done[0] * reach), note)
    if m == 0:
        return HalfLife(None, (_later_than(seeds), None), _none(k, last))
    low, high = _student(done, floor) if m == k else _profile(seeds, floor)
    # A seed that did not get there counts as later than all that did.
    value = plain.median([math.inf if time is None else time for time in times])
    if not math.isfinite(value):
        note = f"diversity halved in {m} of {k} seeds within {last} iterations; interval of the median"
        return HalfLife(None, (low, None), note)
    note = f"median over {k} seeds; 95% t interval of the median on log half-life"
    if m < k:
        note = (
            f"median over {k} seeds, of which {k - m} did not halve within {last} iterations; "
            "95% profile-likelihood interval of a censored log-normal"
        )
    return HalfLife(value, (min(low, value), None if high is None else max(high, value)), note)


def _none(k: int, last: int) -> str:
    seeds = "" if k == 1 else f" in any of {k} seeds"
    return f"diversity did not halve within {last} iterations{seeds}; the half-life is longer than that"


def _later_than(seeds: Sequence[Reached]) -> float:
    """Return a lower end for the median where no seed has halved: as low as leaves that a chance of 2.5%."""
    last = min(seed.last for seed in seeds)
    if len(seeds) == 1:
        return float(last)
    behind = normal_quantile(0.025 ** (1 / len(seeds)))  # of k seeds all are later than this with 2.5%
    return last * math.exp(min(0.0, ASSUMED_SPREAD * behind))


def _pooled(seeds: Sequence[Reached]) -> float:
    """Return the measurement error of one seed in log time."""
    errors = [seed.error for seed in seeds if seed.at is not None]
    return math.sqrt(plain.fmean([error**2 for error in errors])) if errors else 0.0


def _student(times: Sequence[float], floor: float) -> tuple[float, float]:
    logs = [math.log(time) for time in times]
    k, middle = len(logs), plain.fmean(logs)
    reach = max(
        t_quantile(0.975, k - 1) * plain.stdev(logs) / math.sqrt(k),
        normal_quantile(0.975) * floor / math.sqrt(k),
    )
    return math.exp(middle - reach), math.exp(middle + reach)


def _profile(seeds: Sequence[Reached], floor: float) -> tuple[float, float | None]:
    """Return the ends of the profile-likelihood interval of the median; None where it has no upper end."""
    from scipy.special import log_ndtr

    known = np.array([math.log(seed.at) for seed in seeds if seed.at is not None])
    ends = np.array([math.log(max(1, seed.last)) for seed in seeds if seed.at is None])
    farthest = float(ends.max()) + math.log(_FARTHEST)
    mu: Floats = np.linspace(float(known.min()) - 2.0, farthest, 1000)
    # One that has halved tells nothing of the spread, which may be as small as it ever is, or as assumed.
    least, most = max(floor, LEAST_SPREAD), 3.0 if len(known) > 1 else max(floor, ASSUMED_SPREAD)
    sigma: Floats = np.geomspace(least, most, 80)
    squares = float(known.var()) + (float(known.mean()) - mu[:, None]) ** 2
    likelihood = -len(known) * (np.log(sigma) + squares / sigma**2 / 2)
    for end, times in zip(*np.unique(ends, return_counts=True)):
        likelihood += times * log_ndtr((mu[:, None] - end) / sigma)
    profile = likelihood.max(axis=1)
    # k log(1 + t^2 / (k - 1)) is twice the fall of the log-likelihood at the end of Student's interval.
    k = len(seeds)
    fall = k * math.log1p(t_quantile(0.975, k - 1) ** 2 / (k - 1)) / 2
    inside = np.flatnonzero(profile >= profile.max() - fall)
    low, high = math.exp(float(mu[inside[0]])), math.exp(float(mu[inside[-1]]))
    return low, None if inside[-1] == len(mu) - 1 else high


def half_life_words(half: HalfLife) -> str:
    """Say a half-life in a few words."""
    if half.value is None:
        low = half.interval[0]
        return f"not reached; more than {low:.1f} iterations" if low is not None else "none"
    low, high = half.interval
    end = "?" if high is None else f"{high:.1f}"
    return f"{half.value:.1f} iterations [{low:.1f}, {end}]"
