"""Reads curves, worth and gain off the outcomes of all models, on common resamples of the test records.

Scores are turned so that more is better; what is shown to a user is turned back. Knows no trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from karat.errors import NotEnoughData
from karat.training import scores as scoring
from karat.training.scores import Scored
from karat.valuation import equivalence as worth
from karat.valuation import joint
from karat.valuation.curves import Arm, Outcomes, scored
from karat.valuation.equivalence import Equivalence, Marginal, Turn

Floats = NDArray[np.float64]
_BEST = {"bleu": 100.0, "chrf": 100.0}
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
    """what no record at all gives: a constant answer, or guessing where that scores more"""
    parts: dict[int, Side]
    """number of synthetic records -> their scores, added to human ones"""
    seed: int

    @property
    def sign(self) -> float:
        """1 where more is better, -1 for a loss."""
        return 1.0 if scoring.METRICS[self.metric] else -1.0

    @property
    def chance(self) -> float:
        """The score without any record: of a constant answer or of guessing, of the source itself."""
        return float(self.sign * self.none.point[0, 0])

    @property
    def learned(self) -> bool:
        """Whether any set of records scores more than none. A loss does not tell: see `equivalence`."""
        sides = (self.human, self.synthetic, self.mixed)
        best = max(float(side.point.mean(axis=1).max()) for side in sides)
        return self.sign < 0 or best > float(self.none.point[0, 0])

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
                # a loss may be above that of guessing where a model is too sure, however much it has learnt
                chance=self.none.draws[:, 0, 0] if self.sign > 0 else None,
            )
            for k, records in enumerate(self.synthetic.sizes)
        ]
        parts = tuple((e.records, e.worth_human_records, *e.interval) for e in found)
        return replace(found[-1], by_size=parts)

    def marginal(self) -> tuple[Marginal, ...]:
        """Return what adding all synthetic records to some human ones does, on the same draws and seeds."""
        return self._gains(self.mixed, self.synthetic.sizes[-1])[0]

    def marginal_parts(self) -> tuple[Marginal, ...]:
        """Return the same for parts of the synthetic set, the smallest first."""
        return tuple(row for n, side in sorted(self.parts.items()) for row in self._gains(side, n)[0])

    def turn(self) -> Turn:
        """Return at how many human records the gain of all synthetic ones is used up, with its interval."""
        rows, draws = self._gains(self.mixed, self.synthetic.sizes[-1])
        return worth.turn(rows, draws)

    def last_gain(self) -> tuple[float, Floats]:
        """Return the gain of all synthetic records beside all human ones, and its resamples."""
        rows, draws = self._gains(self.mixed, self.synthetic.sizes[-1])
        return self.sign * (rows[-1].with_synthetic - rows[-1].without), draws[:, -1]

    def curve(self, side: Side) -> tuple[tuple[int, ...], Floats, Floats]:
        """Return the sizes, mean scores and resamples of one side, with the draw of its records."""
        rng = np.random.default_rng([self.seed, 0xC0])
        drawn = worth.resample_seeds(side.draws, rng=rng)
        drawn += worth.draw_noise(*_half(side), len(drawn), rng=rng)[:, None]
        return side.sizes, side.point.mean(axis=1), drawn

    def _gains(self, mixed: Side, records: int) -> tuple[tuple[Marginal, ...], Floats]:
        """Return the gains of one side of mixed sets, and their resamples [trials, sizes]."""
        rng = np.random.default_rng([self.seed, 0xA7])
        at = [self.human.sizes.index(size) if size else -1 for size in mixed.sizes]
        alone = [self.human if k >= 0 else self.none for k in at]
        without = np.array([side.point[max(k, 0)].mean() for side, k in zip(alone, at)])
        base = np.stack([side.draws[:, max(k, 0), :] for side, k in zip(alone, at)], axis=1)
        draws = worth.resample_seeds(mixed.draws - base, rng=rng)
        together = mixed.point.mean(axis=1)
        rows = tuple(
            worth.marginal(
                size,
                self.sign * float(without[k]),
                self.sign * float(together[k]),
                float(together[k] - without[k]),
                draws[:, k],
                synthetic=records,
            )
            for k, size in enumerate(mixed.sizes)
        )
        return rows, draws

    def joint(self, trials: int) -> joint.Joint:
        """Fit one law to all sets that were trained on; `trials` resamples give its intervals.

        Resampled are test records, seeds, and the draw of both sets: each moves a run by its share of the
        records. Left out are runs that are not better than no record at all, since the law has no such floor.
        """
        total = self.synthetic.sizes[-1]
        sides = [(self.human, None), (self.synthetic, 0), (self.mixed, total)]
        sides += [(side, n) for n, side in self.parts.items()]
        runs: dict[tuple[int, int], tuple[Floats, Floats]] = {}
        for side, n in sides:
            for k, size in enumerate(side.sizes):
                pair = (0, size) if n == 0 else (size, n or 0)
                if sum(pair):
                    runs[pair] = side.point[k], side.draws[:, k]
        chosen = np.linspace(0, len(self.none.draws) - 1, min(trials, len(self.none.draws))).astype(int)
        rng = np.random.default_rng([self.seed, 0x10])
        scores = np.stack([draws[chosen] for _, draws in runs.values()], axis=1)
        moved = worth.resample_seeds(scores, rng=rng, wide=True)
        share = np.array([s / (r + s) for r, s in runs])
        moved += worth.draw_noise(*_half(self.human), len(chosen), rng=rng)[:, None] * (1 - share)
        moved += worth.draw_noise(*_half(self.synthetic), len(chosen), rng=rng)[:, None] * share
        above = np.quantile(moved - self.none.draws[chosen][:, 0, :1], 0.025, axis=0) > 0
        pairs = [pair for pair, keep in zip(runs, above.tolist()) if keep]
        mean = np.array([point.mean() for point, _ in runs.values()])[above]
        if len(pairs) < 2:
            reason = "hardly any set that was trained on is better than no record at all"
            return joint.Joint(len(pairs), None, None, None, None, None, refused=reason)
        return joint.fit(
            [r for r, _ in pairs],
            [s for _, s in pairs],
            -mean,
            -moved[:, above],
            floor=-_BEST.get(self.metric, 1.0) if self.sign > 0 else 0.0,
            at=[(size, total) for size in self.mixed.sizes if size],
        )

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
    *,
    human: Sequence[int],
    synthetic: Sequence[int],
    added: Sequence[int],
    texts: Sequence[str],
    trials: int,
    seed: int,
    shares: Sequence[int] = (),
) -> Reading:
    """Score all models on the test records and on resamples of them.

    human, synthetic: the sizes of the curves; added: the numbers of human records that all synthetic ones
    were added to, and `shares` of them; texts: of the test records. Sizes at which a model could not be
    trained are left out. Raises NotEnoughData where too little is left.
    """
    total = synthetic[-1]
    human = [n for n in human if found.has("human", n, 0)]
    synthetic = [n for n in synthetic if found.has("synthetic", 0, n)]
    if len(human) < 2 or not synthetic or synthetic[-1] != total:
        raise NotEnoughData(
            "too few models could be trained for a worth: " + next(iter(found.failed.values()), "no sizes")
        )

    def able(part: int, *, zero: bool) -> list[int]:
        known = [n for n in added if n and n in human and found.has("mixed", n, part)]
        return [0, *known] if zero and 0 in added else known

    arms: list[tuple[str, list[tuple[Arm, int, int]]]] = [
        ("human", [("human", n, 0) for n in human]),
        ("synthetic", [("synthetic", 0, n) for n in synthetic]),
        ("mixed", [("mixed", n, total) if n else ("synthetic", 0, total) for n in able(total, zero=True)]),
    ]
    arms += [(str(part), [("mixed", n, part) for n in able(part, zero=False)]) for part in shares]
    models: list[Scored] = []
    place: dict[int, int] = {}

    def column(outcome: Scored) -> int:  # twins share one
        if id(outcome) not in place:
            place[id(outcome)] = len(models)
            models.append(outcome)
        return place[id(outcome)]

    columns = {
        name: np.array([[column(one) for one in found.of(*size)] for size in sizes]).reshape(-1, found.seeds)
        for name, sizes in arms
    }
    none = np.full((1, found.seeds), column(found.nothing))
    sign = 1.0 if scoring.METRICS[found.metric] else -1.0
    point = scored(found.metric, models)[0]
    draws = scoring.resampled(lambda weights: scored(found.metric, models, weights), texts, trials, seed=seed)

    lift = 0.0 if found.guess is None else max(0.0, sign * found.guess - float(point[none[0, 0]]))

    def side(name: str, at: int) -> Side:
        sizes = tuple(size[1] if at == 1 else size[2] for size in dict(arms)[name])
        return Side(sizes, point[columns[name]], draws[:, columns[name]])

    return Reading(
        found.metric,
        side("human", 1),
        side("synthetic", 2),
        side("mixed", 1),
        Side((0,), point[none] + lift, draws[:, none] + lift),
        {part: side(str(part), 1) for part in shares if len(columns[str(part)])},
        seed,
    )


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
