"""Two-by-two tables: exact tests, odds ratios, strata, and differences of shares. Knows numbers only.

A table is (hits, n) of one group and (hits, n) of another; strata are several such tables whose margins are
kept apart, so that what differs between strata (length, task, turn) is not taken for an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats

Interval = tuple[float, float]
Table = tuple[int, int, int, int]
"""Hits and n of the first group, hits and n of the second."""


def fisher_p(table: Table) -> float:
    """The two-sided p-value of Fisher's exact test (1922): all tables at most as likely as this one."""
    return stratified_p([table])


def stratified_p(tables: Sequence[Table]) -> float:
    """The two-sided exact p-value of "no difference within any stratum", given all margins; 1 if none tells.

    The hits of the first group add up to a sum of hypergeometric variables, whose distribution is had by
    convolution. Source: Mehta, Patel and Gray 1985; the score of Mantel and Haenszel 1959, tested exactly.
    """
    from scipy.stats import hypergeom

    masses, observed = np.ones(1), 0
    for hits, n, others, m in tables:
        total = hits + others
        if not (n and m and total) or total == n + m:
            continue
        low, high = max(0, total - m), min(total, n)
        masses = np.convolve(masses, hypergeom.pmf(np.arange(low, high + 1), n + m, total, n))
        observed += hits - low
    limit = masses[observed] * (1 + 1e-7)  # ties must count in spite of rounding
    return float(min(1.0, masses[masses <= limit].sum()))


@dataclass(frozen=True)
class Odds:
    """An odds ratio and its interval; infinite ends where a cell is empty."""

    value: float
    interval: Interval | None


def odds_ratio(table: Table, *, level: float = 0.95) -> Odds:
    """The sample odds ratio, with the exact conditional interval (Cornfield 1956); nan without two groups."""
    from scipy.stats.contingency import odds_ratio as exact

    hits, n, others, m = table
    a, b, c, d = hits, n - hits, others, m - others
    if not (n and m):
        return Odds(float("nan"), None)
    value = float("nan") if (a * d == 0 and b * c == 0) else np.inf if b * c == 0 else a * d / (b * c)
    if not (a + c and b + d):
        return Odds(value, None)
    ends = exact([[a, b], [c, d]]).confidence_interval(confidence_level=level)
    return Odds(float(value), (float(ends.low), float(ends.high)))


def common_odds_ratio(tables: Sequence[Table], *, level: float = 0.95) -> Odds:
    """The odds ratio that strata share (Mantel and Haenszel 1959), interval of Robins et al. 1986."""
    from scipy.special import ndtri

    cells = np.array([(h, n - h, o, m - o) for h, n, o, m in tables if n and m], dtype=np.float64)
    if not len(cells):
        return Odds(float("nan"), None)
    a, b, c, d = cells.T
    size = cells.sum(axis=1)
    r, s = a * d / size, b * c / size
    if r.sum() == 0 or s.sum() == 0:
        return Odds(float("nan") if r.sum() == s.sum() else float(np.inf if s.sum() == 0 else 0.0), None)
    value = float(r.sum() / s.sum())
    p, q = (a + d) / size, (b + c) / size
    variance = (
        (p * r).sum() / (2 * r.sum() ** 2)
        + (p * s + q * r).sum() / (2 * r.sum() * s.sum())
        + (q * s).sum() / (2 * s.sum() ** 2)
    )
    reach = float(ndtri(0.5 + level / 2) * np.sqrt(variance))
    return Odds(value, (float(value * np.exp(-reach)), float(value * np.exp(reach))))


# ------------------------------------------------------------------------- differences of estimates

Estimate = Callable[[float], tuple[float, Interval | None]]
"""Level -> value and interval at that level."""


def difference_interval(one: Estimate, other: Estimate, *, level: float = 0.95) -> Interval | None:
    """The interval of one minus other from the intervals of both (MOVER: Zou and Donner 2008, equation 2).

    Wilson's intervals give Newcombe's (1998, method 10); any other pair of independent intervals will do.
    """
    (p, mine), (q, theirs) = one(level), other(level)
    if mine is None or theirs is None or not np.isfinite([p, q]).all():
        return None
    low = p - q - np.hypot(p - mine[0], theirs[1] - q)
    high = p - q + np.hypot(mine[1] - p, q - theirs[0])
    return float(low), float(high)


def share_difference(table: Table, *, level: float = 0.95) -> Interval | None:
    """The interval of hits/n of the first group minus that of the other (Newcombe 1998, method 10)."""
    hits, n, others, m = table

    def share(of: int, among: int) -> Estimate:
        return lambda level: (of / among, stats.wilson(of, among, level=level))

    return difference_interval(share(hits, n), share(others, m), level=level) if n and m else None


def difference_p(one: Estimate, other: Estimate) -> float | None:
    """The p-value that belongs to `difference_interval`: 1 - the level at which 0 is just inside."""
    if difference_interval(one, other) is None:
        return None
    low, high = 0.0, 1 - 1e-12  # 0 lies outside at `low`, inside at `high`
    if one(0.5)[0] == other(0.5)[0]:
        return 1.0
    for _ in range(40):
        level = (low + high) / 2
        ends = difference_interval(one, other, level=level) if level > 0 else None
        inside = ends is not None and ends[0] <= 0 <= ends[1]
        low, high = (low, level) if inside else (level, high)
    return float(1 - high)


# ------------------------------------------------------------------------------ rates of rare events


def weighted_rate_interval(
    events: NDArray[np.int64], weights: NDArray[np.float64], *, level: float = 0.95
) -> Interval:
    """The interval of sum(weights * events), events being Poisson counts (Fay and Feuer 1997, section 3).

    For equal weights it is Garwood's exact interval (1936); it covers at least `level` elsewhere too.
    """
    from scipy.special import chdtri

    y = float((weights * events).sum())
    v = float((weights**2 * events).sum())
    top = float(weights.max(initial=0.0))
    tail = (1 - level) / 2
    low = 0.0 if y == 0 else v / (2 * y) * float(chdtri(2 * y * y / v, 1 - tail))
    y, v = y + top, v + top**2
    high = v / (2 * y) * float(chdtri(2 * y * y / v, tail)) if y > 0 else float("nan")
    return low, high
