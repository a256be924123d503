"""Clouds of vectors that the tests of embedding metrics share, and an audit of them without any text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.base import Metric, form
from karat.auditing.vectors import Moments, Vectors

GROUPS = 10


class Pool:
    """What a metric is given: vectors and moments of rows in G replicate groups."""

    def __init__(self, rows: NDArray[Any], member: NDArray[np.int64], groups: int) -> None:
        self.groups, self.records = groups, len(rows)
        keys = np.arange(len(rows), dtype=np.uint64)
        self.vectors = Vectors("test", np.asarray(rows), member, keys, (None,) * len(rows), 0, groups)
        parts = [np.asarray(rows[member == one], dtype=np.float64) for one in range(groups)]
        self.moments = Moments(
            "test",
            np.array([len(part) for part in parts]),
            np.stack([part.sum(axis=0) for part in parts]),
            np.stack([part.T @ part for part in parts]),
        )

    def __getitem__(self, wanted: Any) -> Any:
        return self.vectors if wanted.kind == "vectors" else self.moments


def alone(rows: NDArray[Any], groups: int = GROUPS) -> Pool:
    """One corpus."""
    return Pool(rows, np.arange(len(rows)) % groups, groups)


def side_by_side(ours: NDArray[Any], theirs: NDArray[Any], groups: int = GROUPS) -> Pool:
    """Two corpora, the candidate first."""
    member = np.concatenate([np.arange(len(ours)) % groups, np.arange(len(theirs)) % groups + groups])
    return Pool(np.concatenate([ours, theirs]), member, 2 * groups)


def distance(metric: Metric, ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The point estimate of a distance."""
    first = np.arange(2 * GROUPS)[None] < GROUPS
    return float(metric.between(side_by_side(ours, theirs), first, ~first)[0])


def topics(rng: np.random.Generator, n: int, *, skew: float = 0.0, dims: int = 8) -> NDArray[np.float64]:
    """n unit vectors around six topics; with a skew some topics are more frequent than others."""
    centres = np.random.default_rng(5).normal(size=(6, dims))
    weights = np.arange(1.0, 7.0) ** skew
    chosen = centres[rng.choice(6, n, p=weights / weights.sum())]
    rows = chosen + rng.normal(size=(n, dims))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def p_value(
    metric: Metric, ours: NDArray[Any], theirs: NDArray[Any], *, seed: int, trials: int = 40
) -> float:
    """The p that an audit would print for these vectors."""
    if form(metric) == "values":
        sides = []
        masks = np.concatenate([np.ones((1, GROUPS), np.bool_), stats.leave_one_out(GROUPS)])
        for rows in (ours, theirs):
            values = metric.values(alone(rows), masks)
            sides.append(stats.jackknife(float(values[0]), values[1:]))
        p = stats.difference(*sides).p
        return float("nan") if p is None else p
    pool = side_by_side(ours, theirs)
    first = np.arange(2 * GROUPS)[None] < GROUPS
    halves = stats.random_halves(GROUPS, trials=trials, seed=seed)
    observed = float(metric.between(pool, first, ~first)[0])
    return stats.tail_p(observed, metric.between(pool, halves, ~halves), two_sided=metric.two_sided)
