"""A detector at home and abroad: its AUC on domains it was trained on, and on domains it has never seen.

Each domain (topic, source, genre) is scored twice, on the same texts: by models trained on other texts of all
domains, this one among them, and by a model trained on all other domains only. Areas are taken within a
domain, so that what tells domains apart is no merit. Errors come from the influence of each group of texts
(whole documents with all that was made from them), widened by what refits with permuted sides show. Knows no
metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from karat.auditing import detector
from karat.auditing import statistics as stats
from karat.auditing.detector import Flags, Floats, Ints
from karat.auditing.features import featurise
from karat.auditing.two_sample import area_interval, permuted_sides, upper_p

LEAST = 20
"""Texts a domain needs on each side to be tested on; smaller ones are trained on only."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Area:
    """An AUC or a difference of two, its error, interval, and what the same is with permuted sides."""

    value: float
    error: float
    interval: Interval
    null: float
    p: float


@dataclass(frozen=True)
class Domain:
    """One domain: the area at home, abroad, and their difference; `texts` of both sides together."""

    name: str
    seen: Area
    unseen: Area
    loss: Area
    texts: int


@dataclass(frozen=True)
class Transfer:
    """Means over all domains, and each domain; scores [n] are those abroad, nan where none was tested."""

    seen: Area
    unseen: Area
    loss: Area
    domains: tuple[Domain, ...]
    scores: Floats


def transfer(
    human: Sequence[str],
    synthetic: Sequence[str],
    domains: Sequence[str],
    *,
    clusters: Sequence[Any] | None = None,
    trials: int = 50,
    folds: int = 5,
    seed: int = 0,
) -> Transfer | None:
    """Return how a detector fares in each domain; None where fewer than two have 20 texts a side
    and 8 of other documents elsewhere.

    domains and clusters name those of each text, human texts first; texts of one cluster are never on both
    sides of a split. Raises NotEnoughData below 8 texts a side.
    """
    texts = [*human, *synthetic]
    sides = np.arange(len(texts)) < len(human)
    names, domain = np.unique(np.asarray(domains, dtype=str), return_inverse=True)
    groups = detector.group_ids(texts, clusters)
    tested = _tested(domain, sides, groups, len(names))
    if len(tested) < 2:
        return None
    fold = detector.assign_folds(sides, groups, folds=folds, seed=seed)
    strata = domain * (int(fold.max()) + 1) + fold
    drawn = permuted_sides(sides, strata, groups, trials=trials, seed=seed)
    all_sides = np.concatenate([sides[:, None], drawn], axis=1)
    targets = detector.signs(all_sides)
    _, matrix = featurise(texts, words=(1, 2), chars=(2, 3, 4))
    kernel = detector.gram(matrix)
    at_home = detector.out_of_fold(matrix, targets, fold, kernel=kernel)
    abroad = np.full(at_home.shape, np.nan)
    for one in tested:
        held = np.flatnonzero(domain == one)
        rest = _elsewhere(domain, groups, one)
        abroad[held] = detector.held_out(matrix, targets[rest], rest, held, kernel=kernel)
    found = []
    shares: list[tuple[Floats, Floats]] = []
    for one in tested:
        rows = np.flatnonzero(domain == one)
        home = influences(at_home[rows], all_sides[rows], fold[rows])
        away = influences(abroad[rows], all_sides[rows], fold[rows])
        areas = np.stack([home[0], away[0], away[0] - home[0]])
        effects = np.stack([home[1], away[1], away[1] - home[1]])
        three = [_area(a, e, groups[rows], bounded=i < 2) for i, (a, e) in enumerate(zip(areas, effects))]
        found.append(Domain(str(names[one]), three[0], three[1], three[2], len(rows)))
        spread = np.zeros((3, len(texts), trials + 1))
        spread[:, rows] = effects
        shares.append((areas, spread))
    means = np.mean([areas for areas, _ in shares], axis=0)
    whole = np.sum([spread for _, spread in shares], axis=0) / len(shares)
    seen, unseen, loss = (_area(means[i], whole[i], groups, bounded=i < 2) for i in range(3))
    return Transfer(seen, unseen, loss, tuple(found), abroad[:, 0])


def _tested(domain: Ints, sides: Flags, groups: Ints, count: int) -> list[int]:
    """The domains with enough texts on each side, where enough of others is left to train on."""
    table = [np.bincount(domain[flag], minlength=count) for flag in (sides, ~sides)]
    large = [int(one) for one in np.flatnonzero(np.minimum(*table) >= LEAST)]
    left = {one: sides[_elsewhere(domain, groups, one)] for one in large}
    return [one for one in large if min(left[one].sum(), (~left[one]).sum()) >= detector.LEAST]


def _elsewhere(domain: Ints, groups: Ints, one: int) -> Ints:
    """The texts of all other domains, but for those whose document stands in this one too."""
    return np.flatnonzero((domain != one) & ~np.isin(groups, groups[domain == one]))


def influences(scores: Floats, sides: Flags, strata: Ints) -> tuple[Floats, Floats]:
    """The mean area [k] over strata, weighted by pairs, and the influence of each text on it [n, k].

    The influence of a text is how far its own share of pairs won is from the area, over the number of texts
    of its side (the placements of DeLong, DeLong and Clarke-Pearson 1988); their squares add up to the
    variance.
    """
    k = scores.shape[1]
    rounded = np.round(scores, 4)  # equal texts must tie, which float32 products do not promise
    area, weight = np.zeros(k), np.zeros(k)
    effect = np.zeros(scores.shape)
    for one in np.unique(strata):
        rows = np.flatnonzero(strata == one)
        for column in range(k):
            ahead, behind = rows[sides[rows, column]], rows[~sides[rows, column]]
            pairs = len(ahead) * len(behind)
            if not pairs:
                continue
            gap = rounded[ahead, column][:, None] - rounded[behind, column][None, :]
            won = (gap > 0) + 0.5 * (gap == 0)
            mean = float(won.mean())
            area[column] += pairs * mean
            weight[column] += pairs
            effect[ahead, column] = pairs * (won.mean(axis=1) - mean) / len(ahead)
            effect[behind, column] = pairs * (won.mean(axis=0) - mean) / len(behind)
    weight = np.where(weight > 0, weight, np.nan)
    return area / weight, effect / weight


def _area(values: Floats, effects: Floats, groups: Ints, *, bounded: bool) -> Area:
    """The first column with its error, which the other columns (permuted sides) say how much to widen.

    Models of different folds learn from each other's texts, so the influences alone fall short.
    """
    _, member = np.unique(groups, return_inverse=True)
    sums = np.zeros((int(member.max()) + 1, effects.shape[1]))
    np.add.at(sums, member, effects)
    errors = np.sqrt((sums**2).sum(axis=0))
    value, null = float(values[0]), values[1:]
    trials = len(null)
    expected = float(np.sqrt(np.mean(errors[1:] ** 2))) if trials else 0.0
    wide = float(np.std(null, ddof=1)) / expected if trials > 1 and expected > 0 else np.sqrt(2)
    error = float(errors[0]) * max(1.0, wide)
    df = max(1, trials - 1)
    reach = stats.t_quantile(0.975, df) * error
    interval = (
        area_interval(value, error, df=df, n=len(groups) // 2) if bounded else (value - reach, value + reach)
    )
    return Area(value, error, interval, float(null.mean()) if trials else 0.5, upper_p(value, null))
