"""Every interval, test and baseline of karat. Knows numbers only: no text, no metric, no record.

scipy is imported inside functions, because `import karat` must stay quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


# -------------------------------------------------------------------------------- quantiles, tails


def normal_quantile(share: float) -> float:
    """The value below which a standard normal variable falls with probability `share`."""
    from scipy.special import ndtri

    return float(ndtri(share))


def normal_p(z: float) -> float:
    """The two-sided p-value of a standard normal statistic."""
    from scipy.special import ndtr

    return float(2 * ndtr(-abs(z)))


def t_quantile(share: float, df: float) -> float:
    """The quantile of Student's t with `df` degrees of freedom (they need not be whole)."""
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def t_p(t: float, df: float) -> float:
    """The two-sided p-value of a t statistic."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(t)))


# ------------------------------------------------------------------------ replicate groups: masks


def leave_one_out(groups: int) -> Flags:
    """bool [G, G]: row g merges all groups but g."""
    return ~np.eye(groups, dtype=np.bool_)


def random_halves(groups: int, *, trials: int, seed: int) -> Flags:
    """bool [trials, 2G]: random halves of 2G pooled groups, one of each pair (g, G + g).

    Swapping within pairs is as exact a permutation as any under "one source", and it keeps copies apart:
    equal texts of two corpora have equal ranks, so a corpus pooled with itself gives itself again.
    """
    first = np.random.default_rng(seed).random((trials, groups)) < 0.5
    return np.concatenate([first, ~first], axis=1)


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and the degrees of freedom that the error was found with."""

    value: float
    error: float
    df: float

    def interval(
        self, *, level: float = 0.95, bounds: tuple[float | None, float | None] = (None, None)
    ) -> tuple[float, float] | None:
        """value ± t(df) * error, cut to the range of the value; None where there is no error to speak of."""
        if not (np.isfinite(self.value) and np.isfinite(self.error)) or self.df < 1:
            return None
        reach = t_quantile(0.5 + level / 2, self.df) * self.error
        low, high = self.value - reach, self.value + reach
        if bounds[0] is not None:
            low = max(low, bounds[0])
        if bounds[1] is not None:
            high = min(high, bounds[1])
        return low, high


def jackknife(value: float, left_out: ArrayLike) -> Estimate:
    """The delete-a-group jackknife: `left_out` [G] are the values with one group left out each.

    Var = (G - 1)/G * sum (v_g - mean v)^2, with G - 1 degrees of freedom. The groups are simple random
    samples, so this holds for any smooth statistic; for symmetric ones it errs on the wide side.
    Sources: Quenouille 1956; Kott 2001, The delete-a-group jackknife; Efron and Stein 1981 (bias upward).
    """
    values = np.asarray(left_out, dtype=np.float64)
    groups = len(values)
    if groups < 2 or not np.isfinite(values).all():
        return Estimate(value, float("nan"), 0)
    spread = float(((values - values.mean()) ** 2).sum())
    return Estimate(value, float(np.sqrt((groups - 1) / groups * spread)), groups - 1)


def two_sample_jackknife(value: float, first: ArrayLike, second: ArrayLike) -> Estimate:
    """The jackknife of a statistic of two independent samples, one group of either left out at a time.

    The variances of both samples add up (Arvesen 1969); degrees of freedom as in Welch's test.
    """
    parts = [jackknife(value, left_out) for left_out in (first, second)]
    if any(not np.isfinite(part.error) for part in parts):
        return Estimate(value, float("nan"), 0)
    error = float(np.hypot(parts[0].error, parts[1].error))
    if error == 0:
        return Estimate(value, 0.0, min(part.df for part in parts))
    df = error**4 / sum(part.error**4 / part.df for part in parts if part.error > 0)
    return Estimate(value, error, df)


# ------------------------------------------------------------------------------------ differences


@dataclass(frozen=True)
class Difference:
    """One side minus the other, with its standard error, interval and p-value."""

    value: float
    error: float
    df: float
    interval: tuple[float, float] | None
    p: float | None


def difference(one: Estimate, other: Estimate, *, level: float = 0.95) -> Difference:
    """The difference of two independent estimates (Welch 1947; degrees of freedom by Satterthwaite 1946).

    Two values that are equal have p = 1, also where both errors are 0; values without a known error,
    and values that differ without any error, have no p.
    """
    value = one.value - other.value
    error = float(np.hypot(one.error, other.error))
    if not (np.isfinite(value) and np.isfinite(error)):
        return Difference(value, error, 0, None, None)
    if abs(value) <= 1e-12 * max(abs(one.value), abs(other.value)):  # rounding in sums of another order
        return Difference(0.0, error, min(one.df, other.df), None, 1.0)
    if error <= 1e-12 * abs(value):
        return Difference(value, error, 0, None, None)
    shares = sum(e.error**4 / e.df for e in (one, other) if e.df > 0 and e.error > 0)
    df = error**4 / shares
    reach = t_quantile(0.5 + level / 2, df) * error
    return Difference(value, error, df, (value - reach, value + reach), t_p(value / error, df))


def against_zero(gap: Estimate, *, level: float = 0.95) -> Difference:
    """A difference that was estimated as one (linked groups), tested against 0."""
    if not (np.isfinite(gap.value) and np.isfinite(gap.error)) or gap.df < 1:
        return Difference(gap.value, gap.error, 0, None, None)
    if abs(gap.value) <= 1e-12:
        return Difference(0.0, gap.error, gap.df, None, 1.0)
    if gap.error <= 1e-12 * abs(gap.value):
        return Difference(gap.value, gap.error, 0, None, None)
    p = t_p(gap.value / gap.error, gap.df)
    return Difference(gap.value, gap.error, gap.df, gap.interval(level=level), p)


def detectable(error: float, df: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true difference that a test at `alpha` finds with probability `power`, given its error.

    (t_{1 - alpha/2} + t_{power}) * error: Bloom 1995, Minimum detectable effects.
    """
    return float((t_quantile(1 - alpha / 2, df) + t_quantile(power, df)) * error)


def sizes(gap: Difference, mine: Estimate, theirs: Estimate, *, share: bool) -> dict[str, Any]:
    """What stands beside a difference: effect size, what could have been found, and what "the same" takes.

    effect: the odds ratio for shares (Haldane's 0/1 kept apart), else the value in multiples of the other.
    equivalence: the smallest margin for which two one-sided tests at 5% say "no further apart".
    """
    found: dict[str, Any] = {}
    if share and 0 < mine.value < 1 and 0 < theirs.value < 1:
        odds = mine.value / (1 - mine.value) / (theirs.value / (1 - theirs.value))
        found |= {"effect": float(odds), "effect_name": "odds_ratio"}
    elif not share and theirs.value > 0 and mine.value >= 0:
        found |= {"effect": float(mine.value / theirs.value), "effect_name": "ratio"}
    if np.isfinite(gap.error) and gap.df >= 1:
        found["detectable"] = detectable(gap.error, gap.df)
        found["equivalence"] = float(abs(gap.value) + t_quantile(0.95, gap.df) * gap.error)
    return found


def tail_p(observed: float, null: ArrayLike, *, two_sided: bool = True) -> float:
    """A permutation p-value; where no null value is as extreme, a fitted tail of the null reaches further.

    The bare permutation p (Phipson and Smyth 2010) cannot fall below 1 / (1 + trials), which no correction
    for many tests survives. Beyond the null values the tail is the larger of two: Student's t with
    trials - 1 degrees of freedom, and, where the null leans outwards as that of a distance does, the gamma
    with its mean, deviation and skewness (Pearson's type III, as Gretton et al. 2012 use for the MMD).
    """
    values = np.asarray(null, dtype=np.float64)
    values = values[np.isfinite(values)]
    exact = permutation_p(observed, values, two_sided=two_sided)
    if len(values) < 20 or exact > 1.5 / (1 + len(values)):
        return exact
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(observed)):
        return exact
    z = (observed - mean) / spread
    tail = t_p(z, len(values) - 1) / 2
    skew = float((((values - mean) / spread) ** 3).mean()) * np.sign(z)
    if skew > 0.05:
        from scipy.special import gammaincc

        shape = 4 / skew**2
        tail = max(tail, float(gammaincc(shape, max(0.0, shape + abs(z) * np.sqrt(shape)))))
    return min(exact, 2 * tail if two_sided else tail)


def paired_difference(one: ArrayLike, other: ArrayLike, *, level: float = 0.95) -> Difference:
    """The mean of one - other over pairs, by the paired t-test (Student 1908)."""
    gaps = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    n = len(gaps)
    mean = float(gaps.mean()) if n else float("nan")
    if n < 2:
        return Difference(mean, float("nan"), 0, None, None)
    error = float(gaps.std(ddof=1) / np.sqrt(n))
    if error == 0:
        return Difference(mean, 0.0, n - 1, (mean, mean), 1.0 if mean == 0 else 0.0)
    reach = t_quantile(0.5 + level / 2, n - 1) * error
    return Difference(mean, error, n - 1, (mean - reach, mean + reach), t_p(mean / error, n - 1))


def permutation_p(observed: float, null: ArrayLike, *, two_sided: bool = True) -> float:
    """The share of null values at least as far out as the observed one, the observed one counted in.

    (1 + #extreme) / (1 + trials) is a valid p-value; without the 1 it is not (Phipson and Smyth 2010).
    Two-sided: distance from the mean of the null.
    """
    values = np.asarray(null, dtype=np.float64)
    values = values[np.isfinite(values)]
    if two_sided:
        centre = values.mean() if len(values) else 0.0
        extreme = int((np.abs(values - centre) >= abs(observed - centre) - 1e-12).sum())
    else:
        extreme = int((values >= observed - 1e-12).sum())
    return (1 + extreme) / (1 + len(values))


def equivalence_p(gap: Estimate, margin: float) -> float:
    """The p-value of "the difference is at least `margin` wide" (two one-sided tests, Schuirmann 1987)."""
    from scipy.special import stdtr

    if gap.error == 0:
        return 0.0 if abs(gap.value) < margin else 1.0
    below = (gap.value - margin) / gap.error
    above = (-gap.value - margin) / gap.error
    return float(max(stdtr(gap.df, below), stdtr(gap.df, above)))


def standardised(one: ArrayLike, other: ArrayLike) -> float:
    """Hedges' g: the difference of means in pooled standard deviations, corrected for small samples."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    df = len(a) + len(b) - 2
    if df < 1:
        return float("nan")
    pooled = np.sqrt((((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / df)
    if pooled == 0:
        return 0.0 if a.mean() == b.mean() else float("nan")
    return float((a.mean() - b.mean()) / pooled * (1 - 3 / (4 * df - 1)))


# ----------------------------------------------------------------------------------- many at once


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's step-down adjustment (1979): below alpha, the chance of any false flag at all is alpha.

    None stays None and does not count as a test.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(tested):
        running = max(running, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = running
    return tuple(adjusted)


def benjamini_hochberg(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Adjusted p-values that bound the share of false finds (Benjamini and Hochberg 1995)."""
    tested = sorted(((p, i) for i, p in enumerate(p_values) if p is not None), reverse=True)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 1.0
    for below, (p, i) in enumerate(tested):
        running = min(running, p * len(tested) / (len(tested) - below))
        adjusted[i] = running
    return tuple(adjusted)


# --------------------------------------------------------------------------------------- bootstrap


def percentile_interval(draws: ArrayLike, *, level: float = 0.95) -> tuple[float, float] | None:
    """The middle `level` of bootstrap draws (Efron 1979); None where fewer than two are finite."""
    values = np.asarray(draws, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def bootstrap(
    n: int, statistic: Callable[[NDArray[np.int64]], float], *, trials: int = 1000, seed: int = 0
) -> Floats:
    """float64 [trials]: the statistic on n indices drawn with replacement (Efron 1979)."""
    rng = np.random.default_rng(seed)
    return np.array([statistic(rng.integers(0, n, n)) for _ in range(trials)], dtype=np.float64)


def poisson_weights(n: int, *, trials: int, seed: int = 0) -> NDArray[np.float32]:
    """float32 [trials, n] of Poisson(1) weights: the bootstrap of sums that are collected in one pass.

    Sources: Hanley and MacGibbon 2006; Chamandy et al. 2012.
    """
    return np.random.default_rng(seed).poisson(1.0, (trials, n)).astype(np.float32)


def poisson_bootstrap(values: ArrayLike, *, trials: int = 1000, seed: int = 0) -> Floats:
    """float64 [trials]: bootstrap draws of the mean of `values`, by Poisson weights in one product."""
    rows = np.asarray(values, dtype=np.float64)
    weights = poisson_weights(len(rows), trials=trials, seed=seed)
    total = weights.sum(axis=1, dtype=np.float64)
    return np.asarray((weights @ rows) / np.where(total > 0, total, np.nan), dtype=np.float64)


def cluster_bootstrap(
    clusters: ArrayLike,
    statistic: Callable[[NDArray[np.int64]], float],
    *,
    trials: int = 1000,
    seed: int = 0,
) -> Floats:
    """float64 [trials]: whole clusters are drawn with replacement, since their rows are not independent.

    `clusters` [n] names the cluster of each row; the statistic is given the row numbers of a draw.
    Source: Cameron, Gelbach and Miller 2008.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    order = np.argsort(member, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(member[order])) + 1)
    rng = np.random.default_rng(seed)
    draws = [
        statistic(np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))]))
        for _ in range(trials)
    ]
    return np.array(draws, dtype=np.float64)


# ------------------------------------------------------------------------------ shares and ranking


def wilson(hits: int, n: int, *, level: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval (1927) for a share of independent trials; None for n = 0."""
    if n == 0:
        return None
    z = normal_quantile(0.5 + level / 2)
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # at the ends the formula gives 0 and 1 but for rounding
    low = 0.0 if hits == 0 else float(max(0.0, centre - reach))
    return low, 1.0 if hits == n else float(min(1.0, centre + reach))


@dataclass(frozen=True)
class Ranking:
    """The area under the ROC curve with DeLong's error, interval and p-value against 0.5."""

    auc: float
    error: float
    interval: tuple[float, float] | None
    p: float | None


def auc(positive: ArrayLike, negative: ArrayLike, *, level: float = 0.95) -> Ranking:
    """P(positive score > negative score), ties counted half, in O(n log n).

    Source: DeLong, DeLong and Clarke-Pearson 1988; midranks as in Sun and Xu 2014. The interval is formed
    on the logit scale, so that it stays inside [0, 1] and covers when the area is near 1.
    """
    ahead, behind = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    m, n = len(ahead), len(behind)
    if m == 0 or n == 0:
        return Ranking(float("nan"), float("nan"), None, None)
    both = midranks(np.concatenate([ahead, behind]))
    over = (both[:m] - midranks(ahead)) / n  # share of negatives below each positive
    under = 1 - (both[m:] - midranks(behind)) / m  # share of positives above each negative
    area = float(over.mean())
    if m < 2 or n < 2:
        return Ranking(area, float("nan"), None, None)
    error = float(np.sqrt(over.var(ddof=1) / m + under.var(ddof=1) / n))
    if error == 0:
        return Ranking(area, 0.0, (area, area), 1.0 if area == 0.5 else 0.0)
    z = normal_quantile(0.5 + level / 2)
    if 0 < area < 1:
        centre, reach = np.log(area / (1 - area)), z * error / (area * (1 - area))
        ends = 1 / (1 + np.exp(-np.clip([centre - reach, centre + reach], -700, 700)))
        interval = (float(ends[0]), float(ends[1]))
    else:
        interval = (max(0.0, area - z * error), min(1.0, area + z * error))
    return Ranking(area, error, interval, normal_p((area - 0.5) / error))


def midranks(values: ArrayLike) -> Floats:
    """float64 [n]: ranks from 1, equal values sharing the mean of their ranks."""
    array = np.asarray(values, dtype=np.float64)
    _, member, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[member], dtype=np.float64)
