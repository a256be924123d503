"""Reads curves, worth and gain off the outcomes of all models, on common resamples of the test records.

Scores are turned so that more is better; what is shown to a user is turned back. Knows no trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from karat.training import scores as scoring
from karat.training.scores import Outcome
from karat.valuation import equivalence as worth
from karat.valuation.curves import Arm, Outcomes, scored
from karat.valuation.equivalence import Equivalence, Marginal

Floats = NDArray[np.float64]
Point = tuple[int, float, float, float]


@dataclass(frozen=True, eq=False)
class Side:
    """The scores of one arm: point [sizes, seeds], draws [trials, sizes, seeds]; more is better."""

    sizes: tuple[int, ...]
    point: Floats
    draws: Floats

    def points(self, sign: float, rng: np.random.Generator) -> tuple[Point, ...]:
        """Return (size, score, low, high), resampled over test records and seeds."""
        means = sign * worth.resample_seeds(self.draws, rng=rng)
        ends = [scoring.interval(means[:, k]) for k in range(len(self.sizes))]
        scores = sign * self.point.mean(axis=1)
        return tuple((n, float(s), *end) for n, s, end in zip(self.sizes, scores, ends))


@dataclass(frozen=True, eq=False)
class Reading:
    """All scores of one study."""

    metric: str
    human: Side
    synthetic: Side
    mixed: Side
    none: Side
    """the constant answer, which is what no record at all gives"""
    seed: int

    @property
    def sign(self) -> float:
        """1 where more is better, -1 for a loss."""
        return 1.0 if scoring.METRICS[self.metric] else -1.0

    @property
    def chance(self) -> float:
        """The score of always giving the most common human label."""
        return float(self.sign * self.none.point[0, 0])

    def equivalence(self) -> Equivalence:
        """Return what the whole synthetic set is worth, and what parts of it are."""
        rng = np.random.default_rng([self.seed, 0xE9])
        trials = len(self.human.draws)
        curve = worth.resample_seeds(self.human.draws, rng=rng)
        curve += worth.draw_noise(*_half(self.human), trials, rng=rng)[:, None]
        reached = worth.resample_seeds(self.synthetic.draws, rng=rng)
        reached += worth.draw_noise(*_half(self.synthetic), trials, rng=rng)[:, None]
        found = [
            worth.equivalence(
                self.human.sizes,
                self.human.point.mean(axis=1),
                curve,
                records,
                float(self.synthetic.point[k].mean()),
                reached[:, k],
            )
            for k, records in enumerate(self.synthetic.sizes)
        ]
        parts = tuple((e.records, e.worth_human_records, *e.interval) for e in found)
        return replace(found[-1], by_size=parts)

    def marginal(self) -> tuple[Marginal, ...]:
        """Return what adding all synthetic records to some human ones does, on the same draws and seeds."""
        rng = np.random.default_rng([self.seed, 0xA7])
        found = []
        for k, size in enumerate(self.mixed.sizes):
            alone, at = (self.human, self.human.sizes.index(size)) if size else (self.none, 0)
            gain = self.mixed.draws[:, [k], :] - alone.draws[:, [at], :]
            without, together = float(alone.point[at].mean()), float(self.mixed.point[k].mean())
            draws = worth.resample_seeds(gain, rng=rng)[:, 0]
            found.append(
                worth.marginal(size, self.sign * without, self.sign * together, together - without, draws)
            )
        return tuple(found)

    def points(self) -> tuple[tuple[Point, ...], tuple[Point, ...], tuple[Point, ...]]:
        """Return the curves of human, synthetic and mixed records."""
        rng = np.random.default_rng([self.seed, 0xC5])
        return (
            self.human.points(self.sign, rng),
            self.synthetic.points(self.sign, rng),
            self.mixed.points(self.sign, rng),
        )


def read(
    found: Outcomes,
    metric: str,
    *,
    human: Sequence[int],
    synthetic: Sequence[int],
    added: Sequence[int],
    common: str,
    texts: Sequence[str],
    trials: int,
    seed: int,
) -> Reading:
    """Score all models on the test records and on resamples of them.

    human, synthetic: the sizes of the curves; added: the numbers of human records that all synthetic ones
    were added to; common: the most common human label; texts: of the test records.
    """
    total = synthetic[-1]
    arms: list[tuple[Arm, int, int]] = [("human", n, 0) for n in human]
    arms += [("synthetic", 0, n) for n in synthetic]
    arms += [("mixed", n, total) if n else ("synthetic", 0, total) for n in added]
    models: list[Outcome] = []
    place: dict[int, int] = {}
    table = []  # for each arm and seed the column of its model; twins share one
    for arm, h, s in arms:
        row = []
        for outcome in found.of(arm, h, s):
            if id(outcome) not in place:
                place[id(outcome)] = len(models)
                models.append(outcome)
            row.append(place[id(outcome)])
        table.append(row)
    gold = tuple(found.classes[i] for i in found.gold.tolist())
    constant = _constant(gold, common, found.classes)
    table.append([len(models)] * found.seeds)
    models.append(constant)
    columns = np.array(table)
    point = scored(metric, models)[0]
    draws = scoring.resampled(lambda weights: scored(metric, models, weights), texts, trials, seed=seed)

    def side(sizes: Sequence[int], start: int) -> Side:
        at = columns[start : start + len(sizes)]
        return Side(tuple(sizes), point[at], draws[:, at])

    starts = np.cumsum([0, len(human), len(synthetic), len(added)]).tolist()
    return Reading(
        metric,
        side(human, starts[0]),
        side(synthetic, starts[1]),
        side(added, starts[2]),
        side([0], starts[3]),
        seed,
    )


def _constant(gold: Sequence[str], common: str, classes: Sequence[str]) -> Outcome:
    said = scoring.constant(gold, common, classes)
    # for log loss: without a record every label is as likely as any other
    return replace(said, surprise=np.full(len(gold), np.log(len(classes))))


def _half(side: Side) -> tuple[Floats, float]:
    """Return the scores of parts of about half the set, and what turns their spread into that of whole sets.

    A part of n out of N varies, without replacement, by c/n (1 - n/N); a whole set by c/N.
    """
    total = side.sizes[-1]
    at = min(range(len(side.sizes)), key=lambda k: abs(np.log(2 * side.sizes[k] / total)))
    size = side.sizes[at]
    if not 0.25 * total <= size <= 0.75 * total:
        return side.point[at][:1], 0.0
    return side.point[at], float(np.sqrt(size / (total - size)))
