"""Histograms of an attribute: how far they lie from a target, when whoever counted them errs.

Numbers only: counts of K classes as a classifier saw them, and a table of its errors on held-out records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from karat.auditing.prevalence import expectation_maximisation

Floats = NDArray[np.float64]
_STEPS = 300  # of a draw: its shares are then right to about .001, far below what draws differ by
MEASURES = ("tvd", "jsd", "entropy", "largest")


@dataclass(frozen=True, eq=False)
class Counted:
    """One side as counted: counts float64 [K], and how much clusters swell the variance (1: not at all)."""

    counts: Floats
    effect: float = 1.0
    confusion: NDArray[np.int64] | None = None
    """int64 [K, K]: how many held-out records of true class (row) were counted as which; None: no errors."""

    @property
    def n(self) -> float:
        """The number of records."""
        return float(self.counts.sum())

    @property
    def effective(self) -> float:
        """The number of independent records that would know as much (Rao and Scott 1992)."""
        return max(1.0, self.n / self.effect)

    @property
    def shares(self) -> Floats:
        """float64 [K]: the shares as counted, uncorrected."""
        return self.counts / max(self.n, 1.0)

    @property
    def rates(self) -> Floats:
        """float64 [K, K]: row i is how records of class i are counted; without any record, rightly."""
        return error_rates(self.confusion, len(self.counts))

    @property
    def true(self) -> Floats:
        """float64 [K]: the shares with the errors of the confusion table taken out.

        Maximum likelihood on the simplex (Saerens, Latinne and Decaestecker 2002); as counted without one.
        """
        if self.n == 0:
            return np.full(len(self.counts), np.nan)
        if self.confusion is None:
            return self.shares
        return np.asarray(unmixed(self.shares[None], self.rates[None])[0])


def measure(shares: ArrayLike, target: ArrayLike, name: str) -> Floats:
    """float64 [...]: one figure of histograms [..., K].

    tvd: half the sum of absolute differences to the target. jsd: Jensen-Shannon divergence to it, in bits.
    entropy: H / log K, 1 is even. largest: the largest share.
    """
    p, q = np.broadcast_arrays(np.asarray(shares, dtype=np.float64), np.asarray(target, dtype=np.float64))
    if name == "tvd":
        return np.asarray(np.abs(p - q).sum(axis=-1) / 2)
    if name == "jsd":
        middle = (p + q) / 2
        return np.asarray(np.maximum(0.0, _bits(middle) - (_bits(p) + _bits(q)) / 2))
    if name == "entropy":
        kinds = p.shape[-1]
        return np.asarray(_bits(p) / np.log2(kinds)) if kinds > 1 else np.zeros(p.shape[:-1])
    if name == "largest":
        return np.asarray(p.max(axis=-1))
    raise ValueError(f"measure is {name!r}; choose one of: {', '.join(MEASURES)}")


def _bits(shares: Floats) -> Floats:
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=-1))


def error_rates(confusion: ArrayLike | None, classes: int) -> Floats:
    """float64 [K, K]: row i is how records of class i are answered; without any record, rightly."""
    if confusion is None:
        return np.eye(classes)
    table = np.array(confusion, dtype=np.float64)
    empty = table.sum(axis=1) == 0
    table[empty] = np.eye(classes)[empty]
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def unmixed(answers: Floats, rates: Floats, *, steps: int = 2000) -> Floats:
    """float64 [T, K]: the likeliest true shares behind `answers` [T, K], given error rates [T, K, K].

    Where the inverse of the rates gives shares that are all 0 or more, they are the likeliest; else those on
    the edge of the simplex are found by expectation and maximisation (Saerens et al. 2002) in so many steps.
    """
    with np.errstate(all="ignore"):
        turned = rates.transpose(0, 2, 1)
        regular = np.linalg.cond(turned) < 1e6
        found = np.full(answers.shape, -1.0)
        found[regular] = np.linalg.solve(turned[regular], answers[regular][:, :, None])[:, :, 0]
    edge = ~(found >= 0).all(axis=1)
    if edge.any():
        found[edge] = expectation_maximisation(answers[edge], rates[edge], steps=steps)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def pooled(sides: Sequence[Counted]) -> Floats:
    """float64 [K]: the true shares of all sides together, each weighing as many records as it is worth."""
    weights = np.array([side.effective for side in sides])
    return np.asarray(np.average([side.true for side in sides], axis=0, weights=weights))


def resampled(
    sides: Sequence[Counted], *, trials: int, seed: int, truth: Floats | None = None
) -> list[Floats]:
    """For each side float64 [trials, K]: true shares as found again in drawn counts and drawn error tables.

    The parametric bootstrap (Efron and Tibshirani 1993, section 6.5) of everything that is random: which
    records were counted, and which were held out to count the errors. Sides with one and the same table of
    errors share its draws. truth [K] draws under the hypothesis that it holds on every side; else as counted.
    """
    rng = np.random.default_rng(seed)
    classes = len(sides[0].counts)
    tables: dict[int, Floats] = {}
    found = []
    for side in sides:
        rates, one = side.rates, id(side.confusion)
        if side.confusion is not None and one not in tables:
            held = side.confusion.sum(axis=1)
            drawn = rng.multinomial(np.broadcast_to(held, (trials, classes)), rates)
            tables[one] = np.where((held > 0)[:, None], drawn / np.maximum(held, 1)[:, None], np.eye(classes))
        answers = np.maximum(side.shares if truth is None else truth @ rates, 0)
        n = round(side.effective)
        seen = rng.multinomial(n, answers / answers.sum(), size=trials) / n
        found.append(seen if side.confusion is None else unmixed(seen, tables[one], steps=_STEPS))
    return found


def basic_interval(
    value: float, draws: ArrayLike, *, low: float = 0.0, high: float = 1.0, level: float = 0.95
) -> tuple[float, float] | None:
    """The basic bootstrap interval, 2 value - quantiles: chance enlarges distances, and those of draws twice.

    Source: Davison and Hinkley 1997, equation 5.6.
    """
    drawn = np.asarray(draws, dtype=np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2 or not np.isfinite(value):
        return None
    ends = 2 * value - np.quantile(drawn, [0.5 + level / 2, 0.5 - level / 2])
    # a distance within the noise lies above its own interval; a reader expects it inside
    return float(np.clip(min(ends[0], value), low, high)), float(np.clip(max(ends[1], value), low, high))


# ----------------------------------------------------------------------------------- chi-square tests


def goodness_p(side: Counted, target: Floats) -> tuple[float, int, float]:
    """Chi-square, degrees of freedom and p of "the true shares are `target`" [K], from counts that err.

    Pearson's statistic on the answers that the target would give, its variance made larger by clusters (Rao
    and Scott 1981, first order) and by the held-out sample that told the errors. Rare classes are merged.
    """
    rates = side.rates
    expected = target @ rates
    spread = _multinomial(expected) / side.effective
    if side.confusion is not None:
        held = np.maximum(side.confusion.sum(axis=1), 1)
        for share, row, m in zip(target, rates, held, strict=True):
            spread = spread + share**2 * _multinomial(row) / m
    return _chi_square(side.shares - expected, spread, expected * side.effective)


def homogeneity_p(one: Counted, other: Counted) -> tuple[float, int, float]:
    """Chi-square, degrees of freedom and p of "both sides have the same shares", by counts as they are.

    Sides with the same true shares have the same answers, so no error table is needed as long as the
    classifier errs alike on both. Clusters count as in `goodness_p`.
    """
    n, m = one.effective, other.effective
    pooled = (one.shares * n + other.shares * m) / (n + m)
    spread = _multinomial(pooled) * (1 / n + 1 / m)
    return _chi_square(one.shares - other.shares, spread, pooled * min(n, m))


def _multinomial(shares: Floats) -> Floats:
    return np.asarray(np.diag(shares) - np.outer(shares, shares))


def _chi_square(gap: Floats, spread: Floats, expected: Floats) -> tuple[float, int, float]:
    """d' S^- d over classes with at least 5 expected records; rarer ones are one class together."""
    from scipy.special import chdtrc

    rare = expected < 5
    merge = np.eye(len(gap))[~rare]
    if rare.any():
        merge = np.vstack([merge, rare.astype(np.float64)])
    df = len(merge) - 1
    if df < 1:
        return 0.0, 0, float("nan")
    d, s = merge @ gap, merge @ spread @ merge.T
    value = float(d @ np.linalg.pinv(s, rcond=1e-10, hermitian=True) @ d)
    return value, df, float(chdtrc(df, value))


def design_effect(codes: NDArray[np.int64], clusters: NDArray[np.int64], classes: int) -> float:
    """By how much clusters swell the variance of the shares of K classes, at least 1.

    codes [n] are classes, clusters [n] numbers. The mean over classes of (error with clusters / without)^2
    (Rao and Scott 1992, A simple method for the analysis of clustered binary data).
    """
    n, groups = len(codes), int(clusters.max()) + 1 if len(clusters) else 0
    if groups < 2 or groups == n:
        return 1.0
    table = np.zeros((groups, classes))
    np.add.at(table, (clusters, codes), 1.0)
    shares = table.sum(axis=0) / n
    residual = table - table.sum(axis=1, keepdims=True) * shares
    clustered = groups / (groups - 1) * (residual**2).sum(axis=0) / n**2
    plain = float((shares * (1 - shares)).sum() / n)
    return max(1.0, float(clustered.sum()) / plain) if plain > 0 else 1.0
