"""Confident learning: which labels a model that did not see them doubts. Knows no model and no text.

Source: Northcutt, Jiang and Chuang 2021. `probabilities` are always out of fold, [n, classes].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Score = Literal["margin", "self_confidence"]


@dataclass(frozen=True, eq=False)
class Doubts:
    """How far each label is believed, and which ones are taken for wrong."""

    scores: Floats
    """[n] from 0 (wrong) to 1"""
    issues: Flags
    """[n]: off the diagonal of the confident joint"""
    thresholds: Floats
    """[classes]: how sure the model is of a class, on average where it is given; NaN where it never is"""
    noise: float
    """the estimated share of wrong labels"""


def doubts(probabilities: Floats, given: Ints, *, score: Score = "margin", adjust: bool = True) -> Doubts:
    """Weigh labels; `given` [n] is the position of each among the classes, -1 for a class nobody knows.

    adjust: subtract each class's threshold first, so that classes the model is never sure of are not blamed.
    """
    n, classes = probabilities.shape
    known = given >= 0
    own = np.where(known, given, 0)
    mine = np.where(known, probabilities[np.arange(n), own], 0.0)
    counts = np.bincount(own[known], minlength=classes)
    sums = np.bincount(own[known], weights=mine[known], minlength=classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return Doubts(
        _scores(probabilities, own, known, thresholds, score, adjust),
        *_issues(probabilities, own, known, thresholds, counts),
    )


def _scores(
    probabilities: Floats, own: Ints, known: Flags, thresholds: Floats, score: Score, adjust: bool
) -> Floats:
    rows = probabilities
    if adjust:
        top = float(np.nanmax(thresholds)) if np.isfinite(thresholds).any() else 1.0
        rows = (
            rows - np.nan_to_num(thresholds, nan=top) + top
        )  # lifted by one amount, so that none is below 0
        rows = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)
    mine = rows[np.arange(len(rows)), own]
    if score == "margin" and rows.shape[1] > 1:
        others = rows.copy()
        others[np.arange(len(rows)), own] = -np.inf
        mine = (mine - others.max(axis=1) + 1) / 2
    return np.where(known, mine, 0.0)


def _issues(
    probabilities: Floats, own: Ints, known: Flags, thresholds: Floats, counts: Ints
) -> tuple[Flags, Floats, float]:
    """The confident joint: a label counts as the likeliest of the classes that are above their thresholds."""
    n, classes = probabilities.shape
    sure = probabilities >= np.nan_to_num(thresholds, nan=np.inf) - 1e-12
    best = np.where(sure, probabilities, -np.inf).argmax(axis=1)
    counted = sure.any(axis=1) & known
    joint = np.zeros((classes, classes))
    np.add.at(joint, (own[counted], best[counted]), 1.0)
    rows = joint.sum(axis=1, keepdims=True)
    shares = np.divide(joint, rows, out=np.zeros_like(joint), where=rows > 0)
    weight = np.where(rows[:, 0] > 0, counts, 0)
    noise = 1 - float((np.diag(shares) * weight).sum() / weight.sum()) if weight.sum() else float("nan")
    issues = (counted & (best != own)) | ~known
    assert len(issues) == n
    return issues, thresholds, noise
