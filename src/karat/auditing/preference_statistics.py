"""Shares of choices whose records are not independent: prompts are drawn, not records. Knows numbers only.

Several pairs of one prompt, and several raters of one pair, go up and down together. So each interval comes
from a bootstrap over prompts, and each p-value from the sums of whole prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Found, Setting, Telling

Floats = NDArray[np.float64]
Interval = tuple[float, float]

DRAWS = 1000
_MANY = 4_000  # prompts above which sums are drawn instead of prompts: they are normal by then
_FEW = 40  # prompts below which signs are drawn, because a normal tail is not to be trusted


@dataclass(frozen=True)
class Tally:
    """Hits out of weight, one a record, and the prompt of each: arrays [n]. Its value is a ratio of sums."""

    prompt: NDArray[np.uint64]
    hits: Floats
    weight: Floats

    @staticmethod
    def of(prompt: NDArray[np.uint64], hits: Any, weight: Any = 1.0) -> Tally:
        """A tally of hits (flags or parts); each record weighs 1 unless said otherwise."""
        flags = np.asarray(hits, dtype=np.float64)
        return Tally(prompt, flags, np.broadcast_to(np.asarray(weight, dtype=np.float64), flags.shape))

    def __len__(self) -> int:
        return int((self.weight > 0).sum())

    @property
    def value(self) -> float:
        total = float(self.weight.sum())
        return float(self.hits.sum() / total) if total > 0 else float("nan")

    def take(self, chosen: Any) -> Tally:
        """The records at these places."""
        return Tally(self.prompt[chosen], self.hits[chosen], self.weight[chosen])


@dataclass(frozen=True)
class Share:
    """A share with its interval, the same for a reference, and what separates both; None where unknown."""

    value: float
    interval: Interval | None
    n: int
    prompts: int
    p_null: float | None = None
    """p of "the share is `null`"."""
    error: float = float("nan")
    reference: float | None = None
    reference_interval: Interval | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    p: float | None = None
    """p of "both shares are equal"."""


def share(
    mine: Tally, theirs: Tally | None = None, *, null: float | None = None, seed: int = 0, draws: int = 0
) -> Share:
    """A share beside that of a reference: prompts that both have are drawn for both at once.

    Interval: percentiles of a bootstrap over prompts (Cameron, Gelbach and Miller 2008; Poisson weights),
    drawn out for few prompts as in Hesterberg 2015; Wilson's on the prompts where all agree.
    p: of the sums of whole prompts under random signs (few prompts) or in their normal limit.
    """
    if theirs is not None and len(theirs) == 0:
        theirs = None
    if len(mine) == 0:
        return Share(float("nan"), None, 0, 0)
    sides = [mine] if theirs is None else [mine, theirs]
    sums, present = _by_prompt(sides)
    totals = _drawn(sums, draws=draws or DRAWS, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = [totals[:, 2 * i] / totals[:, 2 * i + 1] for i in range(len(sides))]
    numbers = [int(flags.sum()) for flags in present]
    value = mine.value
    hits, weight = sums[present[0], 0], sums[present[0], 1]
    found: dict[str, Any] = {"error": _error((hits - value * weight) / weight.sum())}
    if null is not None:
        found["p_null"] = score_p(hits - null * weight, seed=seed)
    if theirs is not None:
        gap = value - theirs.value
        pooled = (mine.hits.sum() + theirs.hits.sum()) / (mine.weight.sum() + theirs.weight.sum())
        parts = [(sums[:, 2 * i] - pooled * sums[:, 2 * i + 1]) / sums[:, 2 * i + 1].sum() for i in range(2)]
        either = present[0] | present[1]
        found |= {
            "reference": theirs.value,
            "reference_interval": _interval(theirs.value, drawn[1], numbers[1]),
            "difference": gap,
            "difference_interval": percentiles(drawn[0] - drawn[1], int(either.sum())),
            "p": score_p((parts[0] - parts[1])[either], seed=seed),
        }
    return Share(value, _interval(value, drawn[0], numbers[0]), len(mine), numbers[0], **found)


def score_p(parts: Floats, *, seed: int = 0, trials: int = 1999) -> float | None:
    """p of "these independent parts sum to 0": their sum in units of the root of their sum of squares.

    With few parts signs are drawn at random, which is exact where parts are symmetric under the null; with
    many the self-normalised sum is normal (de la Peña, Lai and Shao 2009). None without parts.
    """
    parts = parts[np.isfinite(parts)]
    scale = float(np.abs(parts).max()) if len(parts) else 0.0
    if scale == 0:
        return 1.0 if len(parts) else None
    parts = parts[np.abs(parts) > 1e-12 * scale]
    root = float(np.sqrt((parts**2).sum()))
    observed = abs(float(parts.sum())) / root
    if len(parts) >= _FEW:
        return stats.normal_p(observed)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (trials, len(parts)))
    return stats.tail_p(observed, np.abs(signs @ parts) / root, two_sided=False)


def lower_p(value: float, null: float, p: float | None) -> float | None:
    """The one-sided p of "no lower than `null`" from a two-sided one."""
    return None if p is None else p / 2 if value < null else 1 - p / 2


def percentiles(draws: Floats, prompts: int) -> Interval | None:
    """The interval of bootstrap draws, drawn out for few prompts (Hesterberg 2015, expanded percentiles)."""
    if prompts < 2:
        return None
    reach = float(np.sqrt(prompts / (prompts - 1)) * stats.t_quantile(0.975, prompts - 1))
    return stats.percentile_interval(draws, level=1 - stats.normal_p(reach))


def comparison(
    found: Share,
    *,
    null: float | None = None,
    chance: float | None = None,
    best: float | None = None,
    p: float | None = None,
    note: str = "",
    details: Mapping[str, float] = {},
    extra: Mapping[str, Setting] = {},
    warnings: Sequence[Found] = (),
    by: Mapping[str, tuple[float, Interval | None, int]] = {},
    telling: Sequence[Telling] = (),
) -> Comparison:
    """A share as a metric's answer. p: that of the difference where there is one, else against `null`."""
    tested = found.p if found.difference is not None else found.p_null
    figures = dict(details)
    if found.prompts > 1 and found.error > 0:
        figures["detectable"] = stats.detectable(found.error, found.prompts - 1)
    figures["prompts"] = found.prompts
    if found.p_null is not None and found.difference is not None:
        figures["p_against_chance"] = found.p_null
    other = found.reference if found.reference is not None else null
    effect = odds_ratio(found.value, other)
    return Comparison(
        value=found.value,
        interval=found.interval,
        p=p if p is not None else tested,
        chance=chance if chance is not None else null,
        best=best if best is not None else found.reference,
        reference=found.reference,
        reference_interval=found.reference_interval,
        difference=found.difference,
        difference_interval=found.difference_interval,
        effect=effect,
        effect_name="" if effect is None else "odds_ratio",
        n=found.n,
        note=note,
        details={name: float(value) for name, value in figures.items() if np.isfinite(value)},
        extra=extra,
        warnings=tuple(warnings),
        by=by,
        telling=tuple(telling),
    )


def nothing(why: str) -> Comparison:
    """The answer of a metric that finds no record to look at."""
    return Comparison(float("nan"), n=0, note=why)


def each(
    tally: Tally, parts: Sequence[tuple[str, Any]], *, seed: int = 0
) -> dict[str, tuple[float, Interval | None, int]]:
    """The share of each part (a rater) by name: value, interval, number of records."""
    found = {}
    for name, chosen in parts:
        one = share(tally.take(chosen), seed=seed)
        if one.n:
            found[name] = (one.value, one.interval, one.n)
    return found


def odds_ratio(one: float, other: float | None) -> float | None:
    """The odds of one share in multiples of those of another; None at 0 and 1."""
    if other is None or not (0 < one < 1 and 0 < other < 1):
        return None
    return float(one / (1 - one) / (other / (1 - other)))


# ------------------------------------------------------------------------------------ paired logistic


@dataclass(frozen=True)
class Logit:
    """A logistic regression without intercept: coefficients [k] and their errors [k]."""

    coefficients: Floats = field(default_factory=lambda: np.zeros(0))
    errors: Floats = field(default_factory=lambda: np.zeros(0))


def paired_logit(chosen: Floats, features: Floats, prompt: NDArray[np.uint64]) -> Logit | None:
    """Fit P(first of the pair) = 1 / (1 + exp(-features b)); None where the data separate or say nothing.

    chosen [n] is 1 for the first and 0 for the second; features [n, k] change sign with the orientation,
    which is why there is no intercept (Bradley and Terry 1952, with covariates of the two sides).
    Errors are robust against dependence inside prompts (Liang and Zeger 1986).
    """
    n, k = features.shape
    if n <= k or np.linalg.matrix_rank(features) < k:
        return None
    b = np.zeros(k)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(features @ b, -30, 30)))
        curvature = features.T @ (features * (p * (1 - p))[:, None])
        if not np.isfinite(curvature).all() or np.linalg.cond(curvature) > 1e12:
            return None
        step = np.linalg.solve(curvature, features.T @ (chosen - p))
        b = b + step
        if np.abs(b).max() > 30:
            return None
        if np.abs(step).max() < 1e-10:
            break
    p = 1 / (1 + np.exp(-np.clip(features @ b, -30, 30)))
    _, where = np.unique(prompt, return_inverse=True)
    groups = int(where.max()) + 1
    scores = np.zeros((groups, k))
    np.add.at(scores, where, features * (chosen - p)[:, None])
    inverse = np.linalg.inv(features.T @ (features * (p * (1 - p))[:, None]))
    spread = inverse @ (scores.T @ scores) @ inverse * groups / max(groups - 1, 1)
    return Logit(b, np.sqrt(np.maximum(np.diag(spread), 0)))


# ------------------------------------------------------------------------------------------------ parts


def _by_prompt(sides: Sequence[Tally]) -> tuple[Floats, list[NDArray[np.bool_]]]:
    """float64 [P, 2 * sides] of hits and weight by prompt, and for each side which prompts it has."""
    prompts, where = np.unique(np.concatenate([side.prompt for side in sides]), return_inverse=True)
    sums = np.zeros((len(prompts), 2 * len(sides)))
    start = 0
    for i, side in enumerate(sides):
        own = where[start : start + len(side.prompt)]
        start += len(side.prompt)
        sums[:, 2 * i] = np.bincount(own, side.hits, len(prompts))
        sums[:, 2 * i + 1] = np.bincount(own, side.weight, len(prompts))
    return sums, [sums[:, 2 * i + 1] > 0 for i in range(len(sides))]


def _drawn(sums: Floats, *, draws: int, seed: int) -> Floats:
    """float64 [draws, columns]: the sums of prompts drawn with replacement.

    Of many prompts the sums under Poisson weights are normal, with the sums of squares as covariances.
    """
    rng = np.random.default_rng(seed)
    if len(sums) <= _MANY:
        return rng.poisson(1.0, (draws, len(sums))).astype(np.float32) @ sums
    return rng.multivariate_normal(sums.sum(axis=0), sums.T @ sums, draws, method="svd")


def _error(parts: Floats) -> float:
    """The standard error of a ratio from its linearised parts, one a prompt."""
    n = len(parts)
    return float(np.sqrt(n / (n - 1) * (parts**2).sum())) if n > 1 else float("nan")


def _interval(value: float, draws: Floats, prompts: int) -> Interval | None:
    if prompts < 2:
        return None
    finite = draws[np.isfinite(draws)]
    if value in (0.0, 1.0) and len(finite) and np.ptp(finite) < 1e-6:
        return stats.wilson(round(value) * prompts, prompts)
    return percentiles(draws, prompts)
