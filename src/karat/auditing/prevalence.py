"""How common something is, when those who counted it err: corrected shares with honest intervals.

A classifier or a judge that calls 12% of the records synthetic has found 12% positive answers, not 12%
synthetic records. A human-labelled sample says how often it errs; every interval here carries the
uncertainty of the sample that was counted and of the sample that told the errors. Knows numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Share:
    """A share between 0 and 1, its interval, and the share as counted before any correction."""

    value: float
    interval: Interval | None
    apparent: float


@dataclass(frozen=True)
class Shares:
    """Shares of K classes that make 1 together: values [K], intervals [K] of (low, high), apparent [K]."""

    values: Floats
    intervals: tuple[Interval, ...]
    apparent: Floats


@dataclass(frozen=True)
class Mixture:
    """The share of positives in a mixture, the same uncut (it can leave [0, 1]), its error, and p of none."""

    share: Share
    raw: float
    error: float
    p: float


# ------------------------------------------------------------------------------- shares as counted


def clopper_pearson(hits: int, n: int, *, level: float = 0.95) -> Interval | None:
    """The exact interval of a share: coverage is never below `level`, and often above; None for n = 0.

    Source: Clopper and Pearson 1934, The use of confidence or fiducial limits.
    """
    from scipy.special import betaincinv

    if n == 0:
        return None
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def jeffreys(hits: int, n: int, *, level: float = 0.95) -> Interval | None:
    """The interval of a share under Jeffreys' prior: coverage is `level` on the average; None for n = 0.

    The end beside 0 of n (or n of n) is 0 (or 1). Source: Brown, Cai and DasGupta 2001, Interval estimation
    for a binomial proportion.
    """
    from scipy.special import betaincinv

    if n == 0:
        return None
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits + 0.5, n - hits + 0.5, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 0.5, n - hits + 0.5, 1 - tail))
    return low, high


# ---------------------------------------------------------------------------- corrected for errors


def rogan_gladen(
    hits: int,
    n: int,
    *,
    sensitivity: tuple[int, int],
    specificity: tuple[int, int],
    level: float = 0.95,
) -> Share:
    """The true share behind `hits` positive answers of `n`, given how often the one who answers errs.

    sensitivity: (positive answers, known positives); specificity: (negative answers, known negatives).
    Value: (p + Sp - 1) / (Se + Sp - 1), cut to [0, 1] (Rogan and Gladen 1978).
    Interval: all shares pi for which p = pi Se + (1 - pi)(1 - Sp) is not rejected, with the errors of all
    three rates in it (Fieller 1954), each rate drawn in after Lang and Reiczigel 2014 (Agresti and
    Coull's for p, one hit and one miss more for Se and Sp). Answers that tell nothing (Se + Sp = 1)
    give (0, 1). The value is nan where Se + Sp <= 1 or a sample is empty.
    """
    from scipy.special import ndtri

    if min(n, sensitivity[1], specificity[1]) <= 0:
        return Share(float("nan"), None, hits / n if n else float("nan"))
    rate, se, sp = hits / n, sensitivity[0] / sensitivity[1], specificity[0] / specificity[1]
    power = se + sp - 1
    value = float(np.clip((rate + sp - 1) / power, 0, 1)) if power > 0 else float("nan")
    z = float(ndtri(0.5 + level / 2))
    p, p_var = _drawn_in(hits, n, z * z / 2)
    se, se_var = _drawn_in(*sensitivity, 1.0)
    sp, sp_var = _drawn_in(*specificity, 1.0)
    low, high = _fieller(p + sp - 1, se + sp - 1, z, p_var, se_var, sp_var)
    if np.isfinite(value):
        low, high = min(low, value), max(high, value)
    return Share(value, (low, high), rate)


def _drawn_in(hits: int, n: int, extra: float) -> tuple[float, float]:
    """The share with `extra` hits and misses more, and its variance."""
    size = n + 2 * extra
    share = (hits + extra) / size
    return share, share * (1 - share) / size


def _fieller(a: float, b: float, z: float, rate: float, positive: float, negative: float) -> Interval:
    """All pi in [0, 1] with (a - pi b)^2 <= z^2 (rate + pi^2 positive + (1 - pi)^2 negative)."""
    square = b * b - z * z * (positive + negative)
    linear = -2 * (a * b - z * z * negative)
    constant = a * a - z * z * (rate + negative)

    def accepted(pi: float) -> bool:
        return square * pi * pi + linear * pi + constant <= 0

    root = linear * linear - 4 * square * constant
    ends = [pi for pi in (0.0, 1.0) if accepted(pi)]
    if root >= 0 and square != 0:
        both = [(-linear - s * np.sqrt(root)) / (2 * square) for s in (1, -1)]
        ends += [float(pi) for pi in both if 0 <= pi <= 1]
    if b <= 0:
        return 0.0, 1.0
    if not ends:  # further out than the errors explain: as wide as if the estimate were just 0 or 1
        return _fieller(0.0 if a < b / 2 else b, b, z, rate, positive, negative)
    return min(ends), max(ends)


def confusion_corrected(
    counts: ArrayLike,
    confusion: ArrayLike,
    *,
    level: float = 0.95,
    trials: int = 1000,
    seed: int = 0,
) -> Shares:
    """The true shares of K classes behind `counts` [K] of answers, given the errors of whoever answered.

    confusion [K, K]: how many records of true class i (row) were answered as class j (column).
    Value: maximum likelihood by expectation and maximisation (Saerens, Latinne and Decaestecker 2002,
    on hard answers), which stays on the simplex where inverting the matrix does not. A class
    without labelled records is taken as answered rightly. Interval: draws of the answers' shares and
    of each row of the matrix (Dirichlet, prior mass 1/K a cell), each draw solved by inversion and cut
    to [0, 1] only at the end: draws that were kept on the simplex would crowd at its edge.
    """
    answers = np.asarray(counts, dtype=np.float64)
    table = np.array(confusion, dtype=np.float64)  # a copy: empty rows are filled in below
    k = len(answers)
    if table.shape != (k, k):
        raise ValueError(f"counts hold {k} classes, but the confusion matrix is {table.shape}")
    total = answers.sum()
    if total == 0:
        return Shares(np.full(k, np.nan), ((0.0, 1.0),) * k, np.full(k, np.nan))
    empty = table.sum(axis=1) == 0
    table[empty] = np.eye(k)[empty]
    rates = table / table.sum(axis=1, keepdims=True)
    value = expectation_maximisation(answers[None] / total, rates[None])[0]
    rng = np.random.default_rng(seed)
    drawn = _dirichlet(rng, np.broadcast_to(answers + 1 / k, (trials, k)))
    errors = _dirichlet(rng, np.broadcast_to(table + 1 / k, (trials, k, k)))
    errors += 1e-9 * np.eye(k)
    solved = np.linalg.solve(errors.transpose(0, 2, 1), drawn[:, :, None])[:, :, 0]
    ends = np.clip(np.quantile(solved, [0.5 - level / 2, 0.5 + level / 2], axis=0), 0, 1)
    low, high = np.minimum(ends[0], value), np.maximum(ends[1], value)
    return Shares(value, tuple((float(a), float(b)) for a, b in zip(low, high, strict=True)), answers / total)


def _dirichlet(rng: np.random.Generator, alpha: Floats) -> Floats:
    """Dirichlet draws along the last axis."""
    drawn = np.maximum(rng.standard_gamma(alpha), 1e-300)
    return np.asarray(drawn / drawn.sum(axis=-1, keepdims=True))


def expectation_maximisation(answers: Floats, rates: Floats, *, steps: int = 2000) -> Floats:
    """float64 [T, K]: the shares pi with the highest likelihood of `answers` [T, K], rates [T, K, K]."""
    shares = np.full(answers.shape, 1 / answers.shape[1])
    for _ in range(steps):
        expected = np.einsum("ti,tij->tj", shares, rates)
        ratio = np.divide(answers, expected, out=np.zeros_like(answers), where=expected > 0)
        updated = shares * np.einsum("tij,tj->ti", rates, ratio)
        updated /= updated.sum(axis=1, keepdims=True)
        moved = float(np.abs(updated - shares).max())
        shares = updated
        if moved < 1e-7:
            break
    return shares


def mixture_share(
    unknown: ArrayLike,
    negative: ArrayLike,
    positive: ArrayLike,
    *,
    clusters: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    level: float = 0.95,
) -> Mixture:
    """The share of positives in a sample, from scores of it and of known negatives and positives.

    Any score whose distribution among negatives (and among positives) is the same in all samples will do; the
    estimate is (u - n) / (p - n) with the mean scores of the three samples. With probabilities as scores this
    is the probabilistic adjusted count (Bella et al. 2010), with answers 0 and 1 that of Rogan and
    Gladen. Interval: all shares pi for which u = pi p + (1 - pi) n is not rejected, with the errors of all
    three means in it (Fieller 1954; Student's t for the fewest clusters), so scores that tell nothing give
    (0, 1). clusters: for each sample a key of each record; records of one key count together (Cameron,
    Gelbach and Miller 2008). p tests pi = 0, one-sided.
    """
    from scipy.special import ndtr, stdtrit

    samples = [np.asarray(one, dtype=np.float64) for one in (unknown, negative, positive)]
    if min(map(len, samples)) < 2:
        return Mixture(Share(float("nan"), None, float("nan")), float("nan"), float("nan"), float("nan"))
    keys = clusters or (None, None, None)
    (u, u_var), (n, n_var), (p, p_var) = (_mean(one, key) for one, key in zip(samples, keys, strict=True))
    gap = p - n
    raw = (u - n) / gap if gap > 0 else float("nan")
    value = float(np.clip(raw, 0, 1)) if np.isfinite(raw) else float("nan")
    least = min(len(s) if key is None else len(np.unique(key)) for s, key in zip(samples, keys, strict=True))
    z = float(stdtrit(max(1, least - 1), 0.5 + level / 2))
    low, high = _fieller(u - n, gap, z, u_var, p_var, n_var)
    if np.isfinite(value):
        low, high = min(low, value), max(high, value)
    error = float(np.sqrt(u_var + n_var))
    tail = float(ndtr(-(u - n) / error)) if error > 0 else float("nan")
    slope = float(np.sqrt(u_var + (1 - value) ** 2 * n_var + value**2 * p_var) / gap) if gap > 0 else np.nan
    return Mixture(Share(value, (low, high), u), float(raw), float(slope), tail)


def _mean(scores: Floats, key: ArrayLike | None) -> tuple[float, float]:
    """The mean of scores and its variance, records of one key counted together."""
    mean = float(scores.mean())
    gaps = scores - mean
    if key is not None:
        _, member = np.unique(np.asarray(key), return_inverse=True)
        gaps = np.bincount(member, weights=gaps).astype(np.float64)
    many = len(gaps)
    factor = many / (many - 1) if many > 1 else np.inf
    # half a pseudo-record at either end: scores that are all alike do not show that the next one is
    floor = 0.25 / (len(scores) + 2) ** 2
    return mean, float(factor * (gaps**2).sum() / len(scores) ** 2 + floor)


def likeliest_prior(probabilities: ArrayLike, *, prior: float, steps: int = 1000) -> float:
    """The share of positives with the highest likelihood, from calibrated probabilities of being positive.

    prior: the share of positives for which the probabilities were calibrated. Source: Saerens, Latinne and
    Decaestecker 2002 (expectation and maximisation). It leans on the calibration, which the
    adjusted count does not, so it stands beside it and not in its place.
    """
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-9, 1 - 1e-9)
    odds = p / (1 - p) * (1 - prior) / prior
    share = prior
    for _ in range(steps):
        updated = float((share * odds / (share * odds + 1 - share)).mean())
        if abs(updated - share) < 1e-7:
            break
        share = updated
    return share


def mixture_fit(
    unknown: ArrayLike, negative: ArrayLike, positive: ArrayLike, share: float, *, bins: int = 8
) -> float:
    """The p-value of "the unknown scores are a mixture of the known ones, with this share of positives".

    Pearson's chi-squared (1900) over equally filled bins, with the errors of all three histograms; two
    degrees of freedom less than bins, for the total and the share.
    """
    from scipy.special import chdtrc

    samples = [np.asarray(one, dtype=np.float64) for one in (unknown, negative, positive)]
    if not np.isfinite(share) or min(map(len, samples)) < 5 * bins:
        return float("nan")
    cuts = np.unique(np.quantile(np.concatenate(samples), np.arange(1, bins) / bins))
    counts = [np.bincount(np.searchsorted(cuts, one), minlength=len(cuts) + 1) + 0.0 for one in samples]
    u, n, p = ((one + 0.5) / (one.sum() + 0.5 * len(one)) for one in counts)
    sizes = [len(one) for one in samples]
    expected = share * p + (1 - share) * n
    spread = expected / sizes[0] + (1 - share) ** 2 * n / sizes[1] + share**2 * p / sizes[2]
    return float(chdtrc(max(1, len(u) - 2), float(((u - expected) ** 2 / spread).sum())))


def prediction_powered(
    judged: ArrayLike,
    labelled: ArrayLike,
    truth: ArrayLike,
    *,
    subset: bool = False,
    level: float = 0.95,
) -> Share:
    """The true share from answers about many records, set right by the truth about a few of them.

    judged [N] are the flags that a judge gave, `labelled` [m] and `truth` [m] its flags and the true ones of
    a random sample of the same source; subset=True where that sample is part of the N.
    Value: mean(judged) - mean(labelled - truth), cut to [0, 1]: unbiased whatever the errors of the judge
    (Angelopoulos et al. 2023, Prediction-powered inference). Interval: normal, on counts drawn
    in by one of either kind (Agresti and Coull 1998; Bonett and Price 2012 for the rectifier), because
    a small sample without any error does not show that there are none.
    """
    from scipy.special import ndtri

    flags = np.asarray(judged, dtype=np.float64)
    guess, known = np.asarray(labelled, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    n, m = len(flags), len(known)
    if len(guess) != m:
        raise ValueError(f"labelled holds {len(guess)} answers, but truth {m}")
    if not n or not m:
        return Share(float("nan"), None, float(flags.mean()) if n else float("nan"))
    apparent = float(flags.mean())
    value = apparent - float((guess - known).mean())
    z = float(ndtri(0.5 + level / 2))
    over = float(((guess == 1) & (known == 0)).sum() + 1) / (m + 2)
    under = float(((guess == 0) & (known == 1)).sum() + 1) / (m + 2)
    spread = over + under - (over - under) ** 2
    if subset:  # all N have an expected truth: only the unlabelled ones add the judge's error
        rate, _ = _drawn_in(round(float(np.clip(value, 0, 1)) * n), n, z * z / 2)
        variance = rate * (1 - rate) / n + spread * max(0.0, 1 / (m + 2) - 1 / (n + 2))
        centre = _drawn_in(int(flags.sum()), n, z * z / 2)[0] - (over - under)
    else:
        rate, rate_var = _drawn_in(int(flags.sum()), n, z * z / 2)
        variance = rate_var + spread / (m + 2)
        centre = rate - (over - under)
    reach = z * float(np.sqrt(variance))
    value = float(np.clip(value, 0, 1))
    low, high = (float(np.clip(end, 0, 1)) for end in (centre - reach, centre + reach))
    return Share(value, (min(low, value), max(high, value)), apparent)


# ------------------------------------------------------------------------------------- agreement


def kappa(table: ArrayLike) -> float:
    """Cohen's kappa (1960) of a square table [K, K] of counts; nan where chance agreement is 1."""
    return float(_kappas(np.asarray(table, dtype=np.float64)[None])[0])


def kappa_interval(
    table: ArrayLike, *, level: float = 0.95, trials: int = 2000, seed: int = 0
) -> tuple[float, Interval | None]:
    """Cohen's kappa and its interval from a square table [K, K] of counts.

    Draws of the cells under a Dirichlet distribution. As in Clopper and Pearson's interval, of which this is
    the analogue for a table, the lower end takes one more disagreement and the upper end one more
    agreement for granted: unlike the usual normal error (Fleiss, Cohen and Everitt 1969) the
    interval has a width where a small sample holds no disagreement at all.
    """
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"kappa needs a square table of counts, not one of shape {counts.shape}")
    value = kappa(counts)
    if not np.isfinite(value):
        return value, None
    k = len(counts)
    same = np.eye(k, dtype=np.bool_)
    rng = np.random.default_rng(seed)
    ends = []
    for more, tail in ((~same, 0.5 - level / 2), (same, 0.5 + level / 2)):
        alpha = (counts + more / more.sum()).ravel()
        drawn = _kappas(_dirichlet(rng, np.broadcast_to(alpha, (trials, k * k))).reshape(trials, k, k))
        drawn = drawn[np.isfinite(drawn)]
        ends.append(float(np.quantile(drawn, tail)) if len(drawn) else value)
    return value, (min(ends[0], value), max(ends[1], value))


def _kappas(tables: Floats) -> Floats:
    """float64 [T]: kappa of each table [T, K, K]."""
    shares = tables / np.maximum(tables.sum(axis=(1, 2), keepdims=True), 1e-300)
    agreed = np.trace(shares, axis1=1, axis2=2)
    expected = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    open_ = 1 - expected
    return np.where(open_ > 1e-12, (agreed - expected) / np.maximum(open_, 1e-12), np.nan)
