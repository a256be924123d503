"""Compares arms of a study by their answers to the same test records. Knows no record and no trainer.

Two questions are kept apart. How large is a difference? The paired bootstrap says: test records are drawn
again, the same for both arms, and the seeds add Student's t, since a few of them tell their spread badly.
Could it be chance? Approximate randomisation says: the answers of both arms to a record are exchanged at
random, for all seeds and sizes alike, which is what no difference would look like (Noreen 1989; Riezler &
Maxwell 2005). That takes the models as given: arms of another order differ by luck alone more often than it
says. So a t-test over seeds must agree. All scores are turned so that more is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics
from karat.curation.base import normalised
from karat.training import scores as scoring
from karat.training.scores import Outcome, Scored, Weights
from karat.training.tallies import Tally

Floats = NDArray[np.float64]
Scale = Literal["linear", "log"]
Kind = Literal["step", "area", "all"]
ALPHA = 0.05
_WEIGHTS = 4_000_000  # entries of exchange weights held at once: 16 MB


@dataclass(frozen=True)
class Compared:
    """One arm minus another, more being better, with a paired interval and the chance of so much by luck."""

    kind: Kind
    """step: both trained on `at` records; area: between the curves; all: each with all that it has"""
    arm: str
    against: str
    at: int | None
    difference: float
    interval: tuple[float, float]
    p: float | None
    """two-sided, by approximate randomisation: for other test records, these models taken as given"""
    p_seeds: float | None = None
    """two-sided, by the paired t-test over seeds: for other orders, these test records taken as given"""
    p_holm: float | None = None
    """of the larger of both, after Holm's correction over the comparisons of its kind"""

    @property
    def p_both(self) -> float | None:
        """The larger p: a difference must hold for other records and for other seeds (Berger 1982)."""
        known = [p for p in (self.p, self.p_seeds) if p is not None]
        return max(known) if known else None

    @property
    def verdict(self) -> str:
        """better, worse or not told apart: the corrected p and the interval must agree."""
        p = self.p_both if self.p_holm is None else self.p_holm
        low, high = self.interval
        if p is None or p >= ALPHA or low <= 0 <= high:
            return "not told apart"
        return "better" if self.difference > 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        """Return one entry of `comparisons`."""
        return {
            "kind": self.kind,
            "arm": self.arm,
            "against": self.against,
            "at": self.at,
            "difference": self.difference,
            "interval": list(self.interval),
            "p": self.p,
            "p_seeds": self.p_seeds,
            "p_holm": self.p_holm,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Closure:
    """Which share of the gap from plain synthetic to real data an arm closes; None where it says nothing."""

    value: float | None
    interval: tuple[float | None, float | None] | None
    """None at an end that cannot be told"""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the closure as JSON holds it."""
        ends = None if self.interval is None else list(self.interval)
        return {"value": self.value, "interval": ends, "note": self.note}


# ------------------------------------------------------------------------------- scores and draws


def scored(metric: str, found: Scored, weights: Weights | None = None) -> Floats:
    """Return the score under each row of weights, turned so that more is better."""
    return np.asarray((1.0 if scoring.METRICS[metric] else -1.0) * scoring.measure(metric, found, weights))


def draws(
    metric: str, models: Sequence[Scored], texts: Sequence[str], trials: int, *, seed: int = 0
) -> Floats:
    """Return scores [trials, models] on common resamples of the test records; copies are drawn together."""

    def all_models(weights: Weights) -> Floats:
        return np.stack([scored(metric, model, weights) for model in models], axis=1)

    return scoring.resampled(all_models, texts, trials, seed=seed)


def over_seeds(scores: Floats, *, seed: int = 0) -> Floats:
    """Return [trials, columns] from scores [trials, columns, seeds]: the mean over seeds, its error drawn.

    The error of a mean of s values is Student's t with s - 1 degrees of freedom times their deviation over
    sqrt(s). All columns share the drawn seeds, so that what a seed does to every arm cancels in differences.
    """
    trials, _, seeds = scores.shape
    mean = scores.mean(axis=2)
    if seeds < 2:
        return np.asarray(mean)
    rng = np.random.default_rng([seed, 0x5EED])
    normal = rng.standard_normal((trials, seeds))
    student = normal / np.sqrt(rng.chisquare(seeds - 1, trials) / (seeds - 1))[:, None]
    error = np.einsum("tcs,ts->tc", scores - mean[:, :, None], student) / np.sqrt(seeds * (seeds - 1))
    return np.asarray(mean + error)


# ----------------------------------------------------------------------- approximate randomisation


def joined(one: Scored, other: Scored) -> Scored:
    """Return the answers of two models as those of one to twice the records: first all of `one`."""
    if isinstance(one, Tally):
        assert isinstance(other, Tally), "both are sums, or both are labels"
        shared = [name for name in one.statistics if name in other.statistics]
        both = {name: np.concatenate([one.statistics[name], other.statistics[name]]) for name in shared}
        return Tally(both)
    assert isinstance(other, Outcome) and one.classes == other.classes, "codes of labels must be the same"
    surprise = None
    if one.surprise is not None and other.surprise is not None:
        surprise = np.concatenate([one.surprise, other.surprise])
    return replace(
        one,
        gold=np.concatenate([one.gold, other.gold]),
        predicted=np.concatenate([one.predicted, other.predicted]),
        surprise=surprise,
    )


def exchanged(
    metric: str,
    pairs: Sequence[tuple[Scored, Scored]],
    texts: Sequence[str],
    trials: int,
    *,
    seed: int = 0,
) -> Floats:
    """Return differences [trials, pairs] after exchanging the answers of both models to random test records.

    The same records are exchanged for all pairs, and records of one text together. A corpus score of the
    exchanged systems is that of both systems' answers under weights of 0 and 1.
    """
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(normalised(text), len(numbers)) for text in texts], dtype=np.int64)
    rng = np.random.default_rng([seed, 0xA44A])
    both = [None if one is other else joined(one, other) for one, other in pairs]
    step = max(1, _WEIGHTS // (2 * len(texts)))
    found = np.zeros((trials, len(pairs)))
    for start in range(0, trials, step):
        rows = min(step, trials - start)
        kept = (rng.random((rows, len(numbers))) < 0.5)[:, group]
        mine = np.concatenate([kept, ~kept], axis=1).astype(np.float32)
        for k, model in enumerate(both):
            if model is not None:
                gap = scored(metric, model, mine) - scored(metric, model, 1 - mine)
                found[start : start + rows, k] = gap
    return found


def randomisation_p(observed: float, null: Floats) -> float:
    """Return the two-sided p of a difference among exchanged ones; 1 where the answers are all the same.

    Exchanging all records turns the sign, so the null is symmetric about 0 and is completed that way.
    """
    if not np.any(np.abs(null) > 1e-12):
        return 1.0
    return statistics.tail_p(abs(observed), np.abs(null), two_sided=False) if abs(observed) > 1e-12 else 1.0


def seeds_p(gaps: Floats) -> float | None:
    """Return the two-sided p of the differences of each seed [seeds]; None where seeds tell nothing.

    One seed tells nothing, and neither do equal ones: the set is whole, or the trainer takes no seed.
    """
    if len(gaps) < 2 or float(np.ptp(gaps)) <= 1e-12:
        return None
    return statistics.paired_difference(gaps, np.zeros(len(gaps))).p


# --------------------------------------------------------------------------------- areas, closures


def area_weights(sizes: Sequence[int], scale: Scale = "linear") -> Floats:
    """Return weights [sizes] that turn a curve into its mean height: the trapezoid rule over the sizes.

    On the linear scale every record counts alike; on the logarithmic one every doubling does.
    """
    at = np.asarray(sizes, dtype=np.float64)
    if len(at) < 2:
        return np.ones(len(at))
    at = np.log(at) if scale == "log" else at
    assert np.all(np.diff(at) > 0), "sizes grow"
    half = np.diff(at) / 2
    weights = np.zeros(len(at))
    weights[:-1] += half
    weights[1:] += half
    return np.asarray(weights / (at[-1] - at[0]))


def corrected(found: Sequence[Compared]) -> tuple[Compared, ...]:
    """Return comparisons of one kind with Holm's correction over them.

    Arms of one set share their models: the same comparison under another name is no further test, and models
    held against themselves are none.
    """
    keys = [(one.difference, one.interval, one.p, one.p_seeds) for one in found]
    tests = {key: one.p_both for key, one in zip(keys, found)}
    for key, one in zip(keys, found):
        if one.difference == 0 and one.interval == (0.0, 0.0):
            tests[key] = None
    adjusted = dict(zip(tests, statistics.holm(list(tests.values()))))
    return tuple(
        replace(one, p_holm=one.p_both if adjusted[key] is None else adjusted[key])
        for key, one in zip(keys, found)
    )


def closure(
    gain: float, gap: float, gain_draws: Floats, gap_draws: Floats, *, level: float = 0.95
) -> Closure:
    """Return gain / gap with a bootstrap interval, where gain = arm - plain and gap = real - plain.

    It is refused where the gap is not told apart from zero, since a share of nothing says nothing, and
    where plain synthetic data is better than real data, since then there is no gap to close.
    """
    low, high = scoring.interval(gap_draws, level)
    told = f"{gap:+.3f} [{low:+.3f}, {high:+.3f}]"
    if high < 0:
        return Closure(None, None, f"no gap to close: the synthetic data does better than the real ({told})")
    if low <= 0 or gap <= 0:
        return Closure(None, None, f"the gap itself is not told apart from zero ({told})")
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(gap_draws > 0, gain_draws / gap_draws, np.sign(gain_draws) * np.inf)
    shares = np.where(np.isnan(shares), 0.0, shares)
    ends = np.quantile(shares, [0.5 - level / 2, 0.5 + level / 2], method="nearest")
    bottom, top = (float(end) if np.isfinite(end) else None for end in ends)
    return Closure(gain / gap, (bottom, top))
