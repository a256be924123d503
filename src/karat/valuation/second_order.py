"""The answers of all models of a second-order test, read on common draws. Knows no trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True)
class Cell:
    """One model: the side it is trained on, and the seed that draws its records."""

    side: int
    seed: int


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
        return rows[: self.size]

    def test(self, side: int, seed: int) -> Indices:
        """Return the places of the test records of a side."""
        return self.sides.rows(side, seed, test_share=self.test_share, base=self.base)[1]


class Study:
    """All answers, read on common draws of the groups of test records; more is as the metric says."""

    def __init__(self, plan: Plan, kind: Kind, metric: str, said: Mapping[Cell, Any], trials: int) -> None:
        self.plan, self.kind, self.metric, self.said = plan, kind, metric, said
        self.names, self.seeds, self.trials = plan.sides.names, plan.seeds, trials
        self.labels: list[str] = gold_labels(plan.sides.pool) if kind == "labels" else []
        seen = {name for found in said.values() for one in found for name in getattr(one, "classes", ())}
        self.classes = tuple(sorted({*self.labels, *seen}))
        groups = int(plan.sides.group.max()) + 1
        self._weights = stats.poisson_weights(groups, trials=trials, seed=plan.base + 0x2D)
        self._rng = [plan.base, 0xC7055]
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

    def weights(self, rows: Indices) -> NDArray[np.float32]:
        """Return how often each record is drawn, [trials, n]; records of one group alike."""
        return self._weights[:, self.plan.sides.group[rows]]

    def gold(self, rows: Indices) -> list[str]:
        """Return the labels of records."""
        return [self.labels[i] for i in rows.tolist()]

    def _outcome(self, answers: Answers, rows: Indices) -> Scored:
        costly = (self.metric,) if self.metric == "embedding_cosine" else ()
        gold: Sequence[Any] = self.gold(rows) if isinstance(answers, Predictions) else ()
        return scoring.outcome(answers, gold, self.classes, metrics=costly)

    def draws(self, side: int, test: int, measure: Measure | None = None) -> tuple[Floats, Floats]:
        """Return a figure of the models of a side on a test: point [seeds] and draws [trials, seeds].

        measure: from an outcome and weights to values [trials]; the study's metric when None.
        """
        how = measure or (lambda found, weights: scoring.measure(self.metric, found, weights))
        point, drawn = [], []
        for k in range(self.seeds):
            found = self.outcomes[Cell(side, k), test]
            point.append(float(how(found, None)[0]))
            drawn.append(how(found, self.weights(self.plan.test(test, k))))
        return np.array(point), np.stack(drawn, axis=1)

    def interval(self, drawn: Floats) -> tuple[float, float]:
        """Return the 95 % interval of the mean over seeds, of draws [trials, seeds]."""
        mean = resample_seeds(drawn[:, None, :], rng=np.random.default_rng(self._rng))[:, 0]
        return scoring.interval(mean)

    def p(self, value: float, drawn: Floats) -> float:
        """Return the two-sided p of a mean over seeds that should be 0."""
        mean = resample_seeds(drawn[:, None, :], rng=np.random.default_rng(self._rng))[:, 0]
        error = float(np.std(mean, ddof=1))
        if error == 0:
            return 1.0 if value == 0 else 0.0
        return stats.normal_p(value / error)

    def cell(self, side: int, test: int) -> CrossCell:
        """Return the score of one side's models on one test, beside chance and a look-up table."""
        point, drawn = self.draws(side, test)
        chance, lookup = self._beside(side, test)
        return CrossCell(
            trained_on=self.names[side],
            tested_on=self.names[test],
            value=float(point.mean()),
            interval=self.interval(drawn),
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
            value = float((base - point).mean())
            found.append(
                Gap(
                    kind=self.names[side],
                    value=value,
                    interval=self.interval(drawn_base - drawn),
                    p=self.p(value, drawn_base - drawn),
                    optimism=float((own - point).mean()),
                    optimism_interval=self.interval(drawn_own - drawn),
                )
            )
        holm = stats.holm([gap.p for gap in found])
        return tuple(replace(gap, p_holm=p) for gap, p in zip(found, holm))
