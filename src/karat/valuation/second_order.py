"""The answers of all models of a second-order test, read on common draws. Knows no trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.training import scores as scoring
from karat.training.base import Answers, Floats, Indices, Kind, Predictions, codes, gold_labels
from karat.training.rating import baselines, lookup_table, most_common
from karat.training.scores import Outcome, Scored
from karat.valuation.crossed import CrossCell, Gap
from karat.valuation.equivalence import resample_seeds
from karat.valuation.sides import Sides

Measure = Callable[[Any, Any], Floats]
_BLOCK = 8_000_000  # weights of records held at once: 32 MB


@dataclass(frozen=True)
class Cell:
    """One model: the side it is trained on, and the seed that draws its records."""

    side: int
    seed: int
    half: bool = False
    """trained on the first half of these records, to tell how much their draw matters"""


@dataclass(frozen=True, eq=False)
class Plan:
    """Which records each model is trained on, and which are tested."""

    sides: Sides
    size: int
    seeds: int
    test_share: float
    base: int

    def train(self, cell: Cell) -> Indices:
        """Return the places of the training records."""
        rows, _ = self.sides.rows(cell.side, cell.seed, test_share=self.test_share, base=self.base)
        return rows[: max(1, self.size // 2) if cell.half else self.size]

    def cells(self) -> list[Cell]:
        """Return all models; a single seed tells nothing of luck, so it has no halves."""
        sides, seeds = range(len(self.sides.names)), range(self.seeds)
        whole = [Cell(side, k) for side in sides for k in seeds]
        return whole + [replace(cell, half=True) for cell in whole if self.seeds > 1]

    def share(self, side: int) -> float:
        """Return which share of the records of a side each of its models is trained on, mean over seeds."""
        rows = [
            self.sides.rows(side, k, test_share=self.test_share, base=self.base)[0] for k in range(self.seeds)
        ]
        return float(np.mean([min(1.0, self.size / len(one)) for one in rows]))

    def test(self, side: int, seed: int) -> Indices:
        """Return the places of the test records of a side."""
        return self.sides.rows(side, seed, test_share=self.test_share, base=self.base)[1]


class Study:
    """All answers, read on common draws of the groups of test records; more is as the metric says.

    Two more things make a score uncertain. Seeds draw other records of the same side. And the side itself is
    one draw of its source, which no seed changes: models trained on halves tell how much that matters (the
    delete-half jackknife, Shao & Wu 1989). Without it two halves of one human set were told apart in 35 % of
    trials.
    """

    def __init__(self, plan: Plan, kind: Kind, metric: str, said: Mapping[Cell, Any], trials: int) -> None:
        self.plan, self.kind, self.metric, self.said = plan, kind, metric, said
        self.names, self.seeds, self.trials = plan.sides.names, plan.seeds, trials
        self.labels: list[str] = gold_labels(plan.sides.pool) if kind == "labels" else []
        seen = {name for found in said.values() for one in found for name in getattr(one, "classes", ())}
        self.classes = tuple(sorted({*self.labels, *seen}))
        groups = int(plan.sides.group.max()) + 1
        self._weights = _drawn(groups, trials, plan.base + 0x2D)
        self._rng = [plan.base, 0xC7055]
        self._luck = [self._normal(side) for side in range(len(self.names))]
        self.outcomes = {
            (cell, side): self._outcome(found[side], plan.test(side, cell.seed))
            for cell, found in said.items()
            for side in range(len(self.names))
        }
        some = next(iter(self.outcomes.values()))
        if not isinstance(some, Outcome):
            scoring.measure(metric, some)  # names the scores there are
        else:
            scoring.check_metric(metric, kind)

    def _normal(self, side: int) -> Floats:
        """Return draws [trials, seeds] that turn deviations over seeds into Student's t of their size.

        All figures of a side share them, so that differences between its figures are paired.
        """
        rng = np.random.default_rng([self.plan.base, side, 0x1BC])
        normal = rng.standard_normal((self.trials, self.seeds))
        freedom = max(1, self.seeds - 1)
        scale = np.sqrt(self.plan.share(side) / rng.chisquare(freedom, self.trials))
        return np.asarray(normal * scale[:, None])

    def luck(self, side: int, whole: Floats, half: Floats) -> Floats:
        """Return by how much another set of this side's source would score otherwise [trials, ...].

        whole, half [seeds, ...]: a figure of models trained on a set and on half of it. For a mean, their
        difference varies as the mean of the whole set does; the part that all seeds share is `share` of it.
        """
        gaps = half - whole
        return np.asarray(self._luck[side] @ (gaps - gaps.mean(axis=0)))

    def weights(self, rows: Indices) -> Iterator[NDArray[np.float32]]:
        """Give how often each record is drawn, some trials at a time, [some trials, n]; groups alike."""
        group = self.plan.sides.group[rows]
        step = max(1, _BLOCK // max(1, len(rows), len(self.classes)))
        for start in range(0, self.trials, step):
            yield self._weights[start : start + step, group].astype(np.float32)

    def sums(self, rows: Indices, statistics: Floats) -> Floats:
        """Return the sums [trials, k] of statistics of records [n, k] over what each trial draws."""
        return np.concatenate([part.astype(np.float64) @ statistics for part in self.weights(rows)])

    def gold(self, rows: Indices) -> list[str]:
        """Return the labels of records."""
        return [self.labels[i] for i in rows.tolist()]

    def _outcome(self, answers: Answers, rows: Indices) -> Scored:
        costly = (self.metric,) if self.metric == "embedding_cosine" else ()
        gold: Sequence[Any] = self.gold(rows) if isinstance(answers, Predictions) else ()
        return scoring.outcome(answers, gold, self.classes, metrics=costly)

    def draws(self, side: int, test: int, measure: Measure | None = None) -> tuple[Floats, Floats]:
        """Return a figure of the models of a side on a test: point [seeds] and draws [trials, seeds].

        measure: from an outcome and weights to values [trials], or to [trials, k] for k figures at once,
        which come last then; the study's metric when None.
        """
        how = measure or (lambda found, weights: scoring.measure(self.metric, found, weights))
        point, drawn = self._read(side, test, how, half=False)
        if self.seeds < 2:
            return point, drawn
        half, half_drawn = self._read(side, test, how, half=True)
        luck = self.luck(side, point, half) * self._own(half - point, half_drawn - drawn)
        return point, drawn + luck[:, None]

    def _read(self, side: int, test: int, how: Measure, *, half: bool) -> tuple[Floats, Floats]:
        """Return a figure of a side's models [seeds, ...] and its draws [trials, seeds, ...]."""
        point, drawn = [], []
        for k in range(self.seeds):
            found = self.outcomes[Cell(side, k, half), test]
            point.append(how(found, None)[0])
            parts = [how(found, part) for part in self.weights(self.plan.test(test, k))]
            drawn.append(np.concatenate(parts))
        return np.array(point, dtype=np.float64), np.stack(drawn, axis=1)

    @staticmethod
    def _own(gaps: Floats, drawn: Floats) -> Floats:
        """Return which part of the deviations over seeds is not the draw of test records, as a factor [...].

        gaps [seeds, ...] differ between seeds because of training sets and because of test records; the
        second is in the draws [trials, seeds, ...] already, and would be counted twice.
        """
        noise = (drawn - gaps).var(axis=1, ddof=1).mean(axis=0)
        spread = gaps.var(axis=0, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.where(spread > 0, 1 - noise / spread, 0.0)
        return np.asarray(np.sqrt(np.clip(own, 0.0, 1.0)))

    def interval(self, value: float, drawn: Floats, *, share: bool = False) -> tuple[float, float]:
        """Return the 95 % interval of a mean over seeds, of draws [trials, seeds], around its value.

        share: the value cannot leave 0 to 1, and neither may the interval.

        Draws of shares and of macro-F1 are off on average: what is drawn lacks a label here and there.
        """
        mean = resample_seeds(drawn[:, None, :], rng=np.random.default_rng(self._rng))[:, 0]
        low, high = scoring.interval(mean + value - mean.mean())
        return (max(0.0, low), min(1.0, high)) if share else (low, high)

    def p(self, value: float, drawn: Floats) -> float:
        """Return the two-sided p of a mean over seeds that should be 0, in agreement with its interval.

        Few seeds make heavy tails, of which a standard deviation says nothing: the width of the interval
        gives the scale, and Student's t with one degree of freedom less than there are seeds the rest.
        """
        low, high = self.interval(value, drawn)
        if high == low:
            return 1.0 if value == 0 else 0.0
        if self.seeds < 2:
            return stats.normal_p(value * 2 * stats.normal_quantile(0.975) / (high - low))
        freedom = self.seeds - 1
        return stats.t_p(value * 2 * stats.t_quantile(0.975, freedom) / (high - low), freedom)

    def cell(self, side: int, test: int) -> CrossCell:
        """Return the score of one side's models on one test, beside chance and a look-up table."""
        point, drawn = self.draws(side, test)
        chance, lookup = self._beside(side, test)
        return CrossCell(
            trained_on=self.names[side],
            tested_on=self.names[test],
            value=float(point.mean()),
            interval=self.interval(float(point.mean()), drawn, share=self.metric in ("accuracy", "macro_f1")),
            spread=float(point.std(ddof=1)) if self.seeds > 1 else 0.0,
            chance=chance,
            lookup=lookup,
            n=round(float(np.mean([len(self.plan.test(test, k)) for k in range(self.seeds)]))),
        )

    def _beside(self, side: int, test: int) -> tuple[float | None, float | None]:
        """Return what chance and a look-up table of the training records get, mean over seeds."""
        found: dict[str, list[float]] = {"chance": [], "lookup": []}
        for k in range(self.seeds):
            cell = Cell(side, k)
            pool, rows = self.plan.sides.pool, self.plan.test(test, k)
            train, tested = pool.take(self.plan.train(cell)), pool.take(rows)
            if self.kind == "labels":
                gold = self.gold(rows)
                common = scoring.constant(gold, most_common(gold_labels(train)), self.classes)
                said = codes(lookup_table(train, tested), self.classes)
                others: dict[str, Scored] = {
                    "chance": common,
                    "lookup": Outcome(self.classes, common.gold, said),
                }
            else:
                costly = ("embedding_cosine",) if self.metric == "embedding_cosine" else ()
                others = dict(baselines(self.said[cell][test], train, tested, costly)[1])
            for name, other in others.items():
                # neither knows probabilities, so there is no log loss or perplexity to set beside
                known = other.statistics if not isinstance(other, Outcome) else ("accuracy", "macro_f1")
                if self.metric in known:
                    found[name].append(float(scoring.measure(self.metric, other)[0]))
        chance, lookup = (float(np.mean(each)) if each else None for each in found.values())
        return chance, lookup

    def gaps(self) -> tuple[Gap, ...]:
        """Return what training on each kind of synthetic records costs on the human test, paired."""
        base, drawn_base = self.draws(0, 0)
        found = []
        for side in range(1, len(self.names)):
            point, drawn = self.draws(side, 0)
            own, drawn_own = self.draws(side, side)
            value, looks = float((base - point).mean()), float((own - point).mean())
            found.append(
                Gap(
                    kind=self.names[side],
                    value=value,
                    interval=self.interval(value, drawn_base - drawn),
                    p=self.p(value, drawn_base - drawn),
                    optimism=looks,
                    optimism_interval=self.interval(looks, drawn_own - drawn),
                )
            )
        holm = stats.holm([gap.p for gap in found])
        return tuple(replace(gap, p_holm=p) for gap, p in zip(found, holm))


def _drawn(groups: int, trials: int, seed: int) -> NDArray[np.uint8]:
    """Return how often each group is drawn, [trials, groups]: Poisson(1), a byte each."""
    rng = np.random.default_rng(seed)
    found = np.empty((trials, groups), np.uint8)
    for row in found:
        row[:] = rng.poisson(1.0, groups)
    return found
