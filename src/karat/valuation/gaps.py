"""Reads curves, differences, closures and worths off what the models of all arms said. Knows no record.

Every number comes from the same resamples of the test records and the same draws over seeds, so that what
is common to two arms cancels in their difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from karat.training import scores as scoring
from karat.training.scores import Scored
from karat.valuation import comparing
from karat.valuation import equivalence as worth
from karat.valuation.comparing import Closure, Compared, Kind, Scale
from karat.valuation.equivalence import Equivalence

Floats = NDArray[np.float64]
Point = tuple[int, float, float, float]


@dataclass(frozen=True, eq=False)
class Gaps:
    """The outcomes of all arms: `models[name][size]` has one a seed."""

    metric: str
    models: Mapping[str, Mapping[int, Sequence[Scored]]]
    plain: Mapping[str, str]
    """arm -> the plain synthetic arm that it is held against"""
    texts: Sequence[str]
    trials: int
    seed: int
    scale: Scale = "linear"
    real: str = "real"
    columns: Mapping[tuple[str, int], int] = field(init=False)

    def __post_init__(self) -> None:
        places = [(arm, size) for arm, sizes in self.models.items() for size in sorted(sizes)]
        object.__setattr__(self, "columns", {place: k for k, place in enumerate(places)})

    @property
    def sign(self) -> float:
        """1 where more is better, -1 for a loss."""
        return 1.0 if scoring.METRICS[self.metric] else -1.0

    def sizes(self, *arms: str) -> tuple[int, ...]:
        """Return the sizes that all these arms have."""
        return tuple(sorted(set.intersection(*(set(self.models[arm]) for arm in arms))))

    def end(self, arm: str) -> int:
        """Return the most records that an arm has."""
        return max(self.models[arm])

    @cached_property
    def _models(self) -> tuple[list[Scored], NDArray[np.int64]]:
        """Return the different models, and the number of the model of each column and seed."""
        unique: dict[int, int] = {}
        models: list[Scored] = []
        table = []
        for arm, size in self.columns:
            row = []
            for one in self.models[arm][size]:
                if id(one) not in unique:
                    unique[id(one)] = len(models)
                    models.append(one)
                row.append(unique[id(one)])
            table.append(row)
        return models, np.array(table)

    @cached_property
    def scores(self) -> Floats:
        """Scores [columns, seeds]; more is better."""
        models, at = self._models
        return np.asarray(np.array([comparing.scored(self.metric, one)[0] for one in models])[at])

    @cached_property
    def point(self) -> Floats:
        """The mean score of each column."""
        return np.asarray(self.scores.mean(axis=1))

    @cached_property
    def draws(self) -> Floats:
        """Resamples of the mean score [trials, columns], over test records and seeds."""
        models, at = self._models
        found = comparing.draws(self.metric, models, self.texts, self.trials, seed=self.seed)
        return comparing.over_seeds(found[:, at], seed=self.seed)

    def weights(self, terms: Mapping[tuple[str, int], float]) -> Floats:
        """Return a combination of columns as a vector of weights."""
        found = np.zeros(len(self.columns))
        for place, weight in terms.items():
            found[self.columns[place]] += weight
        return found

    def terms(
        self, kind: Kind, arm: str, against: str, at: int | None = None
    ) -> list[tuple[int, int, float]]:
        """Return (size of the arm, size of the other, weight) of which a difference is made."""
        if kind == "step":
            assert at is not None
            return [(at, at, 1.0)]
        if kind == "all":
            return [(self.end(arm), self.end(against), 1.0)]
        sizes = self.sizes(arm, against, self.real)
        return [(n, n, float(w)) for n, w in zip(sizes, comparing.area_weights(sizes, self.scale))]

    def gain(self, kind: Kind, arm: str, against: str, at: int | None = None) -> Floats:
        """Return a difference of two arms as weights of columns."""
        terms = self.terms(kind, arm, against, at)
        up = self.weights({(arm, mine): w for mine, _, w in terms})
        return np.asarray(up - self.weights({(against, theirs): w for _, theirs, w in terms}))

    def curve(self, arm: str) -> tuple[Point, ...]:
        """Return (size, score, low, high) as the user knows the score."""
        found = []
        for size in sorted(self.models[arm]):
            k = self.columns[arm, size]
            low, high = scoring.interval(self.sign * self.draws[:, k])
            found.append((size, float(self.sign * self.point[k]), low, high))
        return tuple(found)

    def compare(self, asked: Sequence[tuple[Kind, str, str, int | None]]) -> tuple[Compared, ...]:
        """Return comparisons of one kind, with Holm's correction over them."""
        pairs: dict[tuple[int, int], int] = {}
        models: list[tuple[Scored, Scored]] = []
        makings: list[list[tuple[int, float]]] = []
        for kind, arm, against, at in asked:
            making = []
            for mine, theirs, weight in self.terms(kind, arm, against, at):
                both = list(zip(self.models[arm][mine], self.models[against][theirs]))
                for pair in both:
                    place = (id(pair[0]), id(pair[1]))
                    if place not in pairs:
                        pairs[place] = len(models)
                        models.append(pair)
                    making.append((pairs[place], weight / len(both)))
            makings.append(making)
        null = comparing.exchanged(self.metric, models, self.texts, self.trials, seed=self.seed)
        found = []
        for (kind, arm, against, at), making in zip(asked, makings):
            gain = self.gain(kind, arm, against, at)
            chance = np.sum([null[:, k] * weight for k, weight in making], axis=0)
            difference = float(gain @ self.point)
            p = comparing.randomisation_p(difference, chance)
            interval = scoring.interval(self.draws @ gain)
            p_seeds = comparing.seeds_p(gain @ self.scores)
            found.append(Compared(kind, arm, against, at, difference, interval, p, p_seeds))
        return comparing.corrected(found)

    def closure(self, kind: Kind, arm: str) -> Closure:
        """Return which share of the gap between its plain arm and the real one an arm closes."""
        plain = self.plain[arm]
        if kind == "area":  # gain and gap over the same sizes
            sizes = self.sizes(arm, plain, self.real)
            if not sizes:
                return Closure(None, None, "no size that all three arms have")
            shares = dict(zip(sizes, comparing.area_weights(sizes, self.scale)))
            base = self.weights({(plain, n): w for n, w in shares.items()})
            gain = self.weights({(arm, n): w for n, w in shares.items()}) - base
            gap = self.weights({(self.real, n): w for n, w in shares.items()}) - base
        else:
            gain, gap = self.gain("all", arm, plain), self.gain("all", self.real, plain)
        return comparing.closure(
            float(gain @ self.point), float(gap @ self.point), self.draws @ gain, self.draws @ gap
        )

    def worth(self, arm: str) -> Equivalence:
        """Return how many real records score as much as a synthetic arm, and as parts of it."""
        rng = np.random.default_rng([self.seed, 0xE9])
        sizes = self.sizes(self.real)
        places = [self.columns[self.real, n] for n in sizes]
        curve = self.draws[:, places] + self._noise(self.real, rng)[:, None]
        noise = self._noise(self.plain[arm], rng)
        found = []
        for records in self.sizes(arm):
            at = self.columns[arm, records]
            reached = self.draws[:, at] + noise
            target = float(self.point[at])
            found.append(worth.equivalence(sizes, self.point[places], curve, records, target, reached))
        parts = tuple((one.records, one.worth_human_records, *one.interval) for one in found)
        return replace(found[-1], by_size=parts)

    def _noise(self, arm: str, rng: np.random.Generator) -> Floats:
        """Return by how much another set of the same source would have scored otherwise, by halves of it."""
        total = self.end(arm)
        size = min(self.sizes(arm), key=lambda n: abs(np.log(2 * n / total)))
        if not 0.25 * total <= size <= 0.75 * total:
            return np.zeros(self.trials)
        scores = self.scores[self.columns[arm, size]]
        return worth.draw_noise(scores, float(np.sqrt(size / (total - size))), self.trials, rng=rng)
