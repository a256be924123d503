"""From learning curves to a worth: how many human records are as good as a synthetic set. Knows no trainer.

A curve is a list of sizes and, for each, the scores of several seeds on one test set. The synthetic set
is worth the smallest size at which the human curve reaches its score. The curve is made monotone first
(pool adjacent violators), and read between its sizes on the logarithm of the size.

Three things make the answer uncertain, and the interval holds all of them:

- the test records: each resample scores both sides on the same drawn records;
- the seeds: their mean is resampled, widened by sqrt(s / (s - 1)) because s values vary too little;
- the draw of the two training sets themselves. Scores of random halves of a set vary about as much as
  scores of whole sets from the same source do (the delete-half jackknife, Shao & Wu 1989), so the spread
  of the curve at half its size says how far another set of that kind would have scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ABOVE = np.inf
"""worth more than the largest human set"""
BELOW = 0.0
"""worth less than the smallest human set"""


@dataclass(frozen=True)
class Equivalence:
    """How many human records a synthetic set is worth. None where the human curve does not say."""

    records: int
    worth_human_records: int | None
    interval: tuple[float | None, float | None]
    """None at the upper end: no human set at hand is good enough to say"""
    rate: float | None
    rate_interval: tuple[float | None, float | None]
    censored: str
    """above: better than the largest human set; below: worse than the smallest; empty otherwise"""
    bound: int | None
    """the size of that largest or smallest human set"""
    by_size: tuple[tuple[int, float | None, float | None, float | None], ...] = ()
    """(synthetic records, worth, low, high) for parts of the synthetic set"""

    def to_json(self) -> dict[str, Any]:
        """Return what `karat value --json` prints under `equivalence`."""
        return {
            "records": self.records,
            "worth_human_records": self.worth_human_records,
            "interval": [_whole(end) for end in self.interval],
            "rate": self.rate,
            "rate_interval": list(self.rate_interval),
            "censored": self.censored or None,
            "bound": self.bound,
            "by_size": [[_whole(entry) for entry in row] for row in self.by_size],
        }


def monotone(values: Floats) -> Floats:
    """Return the rows of [k, sizes] made non-decreasing by pooling adjacent violators (least squares)."""
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    out = np.empty_like(rows)
    for row, target in zip(rows, out):
        if np.all(np.diff(row) >= 0):
            target[:] = row
            continue
        blocks: list[tuple[float, int]] = []
        for value in row.tolist():
            total, count = value, 1
            while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
                earlier, size = blocks.pop()
                total, count = total + earlier, count + size
            blocks.append((total, count))
        target[:] = np.repeat([total / count for total, count in blocks], [count for _, count in blocks])
    return out


def reach(sizes: Sequence[int], curves: Floats, targets: Floats, *, last: bool = False) -> Floats:
    """Return for each row of curves [k, sizes] the smallest size that scores targets [k].

    BELOW where even the smallest size scores more, ABOVE where no size scores as much. Between two sizes
    the score is taken to be straight on log(size). last: the largest size that scores no more instead, which
    differs where a curve is flat; ABOVE where it stays so to its end, as at a perfect score.
    """
    # resampled means of equal scores differ in the last digits, and would not be seen to be equal
    smooth, targets = monotone(np.round(curves, 12)), np.round(targets, 12)
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    found = np.empty(len(smooth))
    for k, (row, target) in enumerate(zip(smooth, targets.tolist())):
        # the first size whose score is at least the target
        at = int(np.searchsorted(row, target, side="left"))
        if at == len(row) or (last and row[-1] == target):
            found[k] = ABOVE
        elif last and row[at] == target:
            found[k] = float(sizes[int(np.searchsorted(row, target, side="right")) - 1])
        elif at == 0:
            found[k] = float(sizes[0]) if row[0] == target else BELOW
        else:
            share = (target - row[at - 1]) / (row[at] - row[at - 1])
            found[k] = np.exp(logs[at - 1] + share * (logs[at] - logs[at - 1]))
    return found


def resample_seeds(scores: Floats, *, rng: np.random.Generator, wide: bool = False) -> Floats:
    """Return the mean over resampled seeds of scores [trials, sizes, seeds] as [trials, sizes].

    All sizes share the drawn seeds, because their sets are nested. wide: as Student's t is wider than the
    normal curve, because few seeds tell their own spread badly.
    """
    trials, _, seeds = scores.shape
    mean = scores.mean(axis=2)
    if seeds == 1:
        return np.asarray(mean)
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=trials) / seeds
    moved = np.einsum("tns,ts->tn", scores, drawn)
    factor = np.full((trials, 1), np.sqrt(seeds / (seeds - 1)))
    if wide:
        factor *= np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, (trials, 1)))
    return np.asarray(mean + (moved - mean) * factor)


def draw_noise(parts: Floats, factor: float, trials: int, *, rng: np.random.Generator) -> Floats:
    """Return by how much another training set of the same source would have scored otherwise, [trials].

    parts [seeds]: scores of random parts of the set; factor: what turns their spread into that of whole
    sets, 1 for halves. Student's t, because few seeds tell the spread badly; zeros for one seed.
    """
    seeds = len(parts)
    if seeds < 2:
        return np.zeros(trials)
    return np.asarray(rng.standard_t(seeds - 1, trials) * parts.std(ddof=1) * factor)


def equivalence(
    sizes: Sequence[int],
    human: Floats,
    human_draws: Floats,
    records: int,
    target: float,
    target_draws: Floats,
    *,
    chance: Floats | None = None,
    level: float = 0.95,
) -> Equivalence:
    """Return what a set of `records` is worth that scores `target`.

    human [sizes] and human_draws [trials, sizes]: the mean human curve and its resamples. target_draws
    [trials]: resamples of the target, paired with those of the curve. More must be better. chance: what
    guessing scores, and its resamples [trials]; a set that is not told apart from it is worth nothing,
    although a handful of human records may score less than guessing does.
    """
    point = float(reach(sizes, human[None, :], np.array([target]))[0])
    # where the curve is flat, all sizes from the first to the last one of that score are as good
    ends_of = [reach(sizes, human_draws, target_draws, last=last) for last in (False, True)]
    if chance is not None:
        ends_of = [np.where(target_draws > chance, draws, BELOW) for draws in ends_of]
        if np.quantile(target_draws - chance, (1 - level) / 2) <= 0:
            point = BELOW
    low, high = (
        float(np.quantile(draws, q, method="nearest"))
        for draws, q in zip(ends_of, [(1 - level) / 2, (1 + level) / 2])
    )
    censored = "above" if point == ABOVE else "below" if point == BELOW else ""
    worth = None if censored else round(point)
    ends: tuple[float | None, float | None] = (
        min(low, float(sizes[-1])),  # "more than all" is as low as the largest set
        None if high == ABOVE else max(high, float(sizes[0])) if high == BELOW else high,
    )
    return Equivalence(
        records=records,
        worth_human_records=worth,
        interval=ends,
        rate=None if censored else point / records,
        rate_interval=(_share(ends[0], records), _share(ends[1], records)),
        censored=censored,
        bound=sizes[-1] if censored == "above" else sizes[0] if censored == "below" else None,
    )


@dataclass(frozen=True)
class Marginal:
    """What adding the synthetic set, or a part of it, to some human records does."""

    human: int
    without: float
    with_synthetic: float
    difference: float
    """positive where the synthetic records help"""
    interval: tuple[float, float]
    verdict: str
    """helps, hurts or unclear"""
    synthetic: int = 0
    """how many synthetic records were added"""

    def to_json(self) -> dict[str, Any]:
        """Return one entry of `marginal`."""
        return {
            "human": self.human,
            "synthetic": self.synthetic,
            "without": self.without,
            "with": self.with_synthetic,
            "difference": self.difference,
            "interval": list(self.interval),
            "verdict": self.verdict,
        }


def marginal(
    human: int,
    without: float,
    together: float,
    difference: float,
    draws: Floats,
    *,
    synthetic: int = 0,
    level: float = 0.95,
) -> Marginal:
    """Return the gain and its paired interval; `draws` are resamples of the gain, more being better."""
    low, high = (float(q) for q in np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
    verdict = "helps" if low > 0 else "hurts" if high < 0 else "unclear"
    return Marginal(human, without, together, difference, (low, high), verdict, synthetic)


@dataclass(frozen=True)
class Turn:
    """At how many human records the gain falls to zero for good."""

    value: float | None
    """None where it does not, up to all human records"""
    interval: tuple[float, float | None]
    """None at the upper end: beyond all human records"""
    probability: float
    """share of the resamples in which the gain is used up before the end"""

    def to_json(self) -> dict[str, Any]:
        """Return what `karat value --json` prints under `turning_point`."""
        return {"value": self.value, "interval": list(self.interval), "probability": self.probability}


def turn(found: Sequence[Marginal], draws: Floats, *, level: float = 0.95) -> Turn:
    """Return the turning point and its interval; draws [trials, sizes] resample the gains together."""
    sizes = [row.human for row in found]
    points = [_turn(sizes, row) for row in draws.tolist()]
    known = np.array([np.inf if point is None else point for point in points])
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2], method="nearest").tolist()
    first = float(sizes[-1]) if np.isinf(low) else low
    return Turn(
        turning_point(found), (first, None if np.isinf(high) else high), float(np.isfinite(known).mean())
    )


def turning_point(found: Sequence[Marginal]) -> float | None:
    """Return at how many human records the gain falls to zero for good; None if it does not.

    Read between two sizes on log(1 + size). Only a sign change that no later size takes back counts.
    """
    return _turn([row.human for row in found], [row.difference for row in found])


def _turn(sizes: Sequence[int], gains: Sequence[float]) -> float | None:
    if not gains or gains[-1] > 0:
        return None
    last = len(gains) - 1
    while last > 0 and gains[last - 1] <= 0:
        last -= 1
    if last == 0:
        return 0.0
    low, high = np.log1p(sizes[last - 1]), np.log1p(sizes[last])
    share = gains[last - 1] / (gains[last - 1] - gains[last])
    return float(np.expm1(low + share * (high - low)))


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _share(value: float | None, records: int) -> float | None:
    return None if value is None else value / records
