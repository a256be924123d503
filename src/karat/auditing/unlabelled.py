"""Scores of texts of unknown origin by detectors that saw neither them nor their like. Knows no metric.

Texts of known and of unknown origin are dealt into folds together. The texts of a fold, known or not, get
their scores from one model that was trained on the known texts of the other folds. So unknown human texts are
to held-out human texts as one sample of a source is to another, and what is learned from held-out scores
holds for the unknown ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing import detector
from karat.auditing.detector import Floats, Ints
from karat.auditing.features import featurise


@dataclass(frozen=True)
class Scored:
    """Probabilities of being synthetic of held-out human, known synthetic and unknown texts.

    groups: for each side a number of each text; copies and rows of one source share it.
    """

    human: Floats
    known: Floats
    unknown: Floats
    groups: tuple[Ints, Ints, Ints]
    auc: float
    """Of human against known synthetic texts, within folds."""


def score(
    human: Sequence[str],
    known: Sequence[str],
    unknown: Sequence[str],
    *,
    clusters: Sequence[Any],
    folds: int = 5,
    seed: int = 0,
) -> Scored:
    """Score all texts; `clusters` has one key for each text, human first, then known, then unknown ones.

    Raises NotEnoughData below 8 human or known synthetic texts.
    """
    from karat.auditing.two_sample import fold_areas

    texts = [*human, *known, *unknown]
    sure = len(human) + len(known)
    sides = np.arange(sure) < len(human)
    groups = detector.group_ids(texts, clusters)
    fold = deal(sides, groups, folds=folds, seed=seed)
    _, matrix = featurise(texts, words=(1, 2), chars=(2, 3, 4))
    kernel = detector.gram(matrix)
    targets = detector.signs(sides)[:, None]
    margin = np.empty(len(texts))
    for k in np.unique(fold):
        rest = np.flatnonzero(fold[:sure] != k)
        held = np.flatnonzero(fold == k)
        margin[held] = detector.held_out(matrix, targets[rest], rest, held, kernel=kernel)[:, 0]
    probability = np.empty(len(texts))
    for k in np.unique(fold):
        rest = np.flatnonzero(fold[:sure] != k)
        slope, offset = detector.fit_platt(margin[rest], sides[rest])
        held = fold == k
        probability[held] = 0.5 * (1 - np.tanh(0.5 * (slope * margin[held] + offset)))
    area = fold_areas(margin[:sure, None], sides[:, None], fold[:sure])[0][0]
    a, b = len(human), sure
    return Scored(
        probability[:a],
        probability[a:b],
        probability[b:],
        (groups[:a], groups[a:b], groups[b:]),
        float(area),
    )


def deal(sides: NDArray[np.bool_], groups: Ints, *, folds: int, seed: int) -> Ints:
    """int64 [n]: the fold of each text, of known origin (the first, with sides) and unknown (the others).

    An unknown text whose group holds known ones goes where they are; the others are dealt evenly.
    """
    known = groups[: len(sides)]
    fold = np.empty(len(groups), np.int64)
    fold[: len(sides)] = detector.assign_folds(
        sides, detector.numbered(known.tolist()), folds=folds, seed=seed
    )
    home = dict(zip(known.tolist(), fold[: len(sides)].tolist(), strict=True))
    count = int(fold[: len(sides)].max()) + 1
    strangers = np.array([g for g in np.unique(groups[len(sides) :]) if int(g) not in home], dtype=np.int64)
    order = np.random.default_rng(np.random.SeedSequence([seed, 2])).permutation(strangers)
    home |= {int(group): place % count for place, group in enumerate(order.tolist())}
    fold[len(sides) :] = [home[int(group)] for group in groups[len(sides) :]]
    return fold
