"""A classifier that tells human texts from synthetic ones, scored on texts it has not seen. Knows no metric.

The model is ridge regression of the side (+1 human, -1 synthetic) on TF-IDF of words and characters. It
separates as well as logistic regression on the same features (LOG.md), and its dual form solves any number
of label vectors for the price of one, which is what makes a permutation null by refitting affordable.
Probabilities come from a logistic curve fitted to out-of-fold scores (Platt 1999), so they are calibrated
for texts that the model has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing.features import FeatureSpace, featurise
from karat.errors import NotEnoughData
from karat.texts.tokens import hash_strings, normalise

if TYPE_CHECKING:
    import scipy.sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Kernel = NDArray[np.float32]

PENALTY = 0.5
"""Of the ridge; with unit rows, 0.3 to 1 separate equally well on three real pairs of corpora."""
DENSE_ROWS = 6_000
"""Up to here the n x n kernel is held in memory (144 MB) and factorised; beyond, conjugate gradients."""
LEAST = 8
"""Texts needed on each side; with fewer a fold would hold one text or none."""
MODEL = "ridge"
FEATURES = "word1-2+char2-4"


@dataclass(frozen=True)
class CrossFit:
    """Out-of-fold probabilities of being human, and the fold in which each text was left out."""

    human: Floats
    synthetic: Floats
    folds_human: Ints
    folds_synthetic: Ints


@dataclass(frozen=True)
class Detector:
    """A fitted classifier; `score` gives calibrated probabilities of being human."""

    space: FeatureSpace
    weights: NDArray[np.float32]
    slope: float
    offset: float

    def score(self, texts: Sequence[str], *, batch: int = 5_000) -> Floats:
        """Return P(human) of each text [n]; 0.5-centred when sides are equally likely a priori."""
        found = [np.empty(0)]
        for start in range(0, len(texts), batch):
            margin = np.asarray(
                self.space.matrix(texts[start : start + batch]) @ self.weights, dtype=np.float64
            )
            found.append(_sigmoid(self.slope * margin + self.offset))
        return np.concatenate(found)


def cross_fit_scores(
    human: Sequence[str],
    synthetic: Sequence[str],
    *,
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> CrossFit:
    """Return for every text P(human) from a model that saw neither it, nor a copy of it, nor its group.

    `groups` holds one key for each text, human texts first; rows of one key share a fold. Copies of a text
    (up to case, spaces and punctuation) always share a fold. Raises NotEnoughData below 8 texts a side.
    """
    texts = [*human, *synthetic]
    sides = np.arange(len(texts)) < len(human)
    fold = assign_folds(sides, group_ids(texts, groups), folds=folds, seed=seed)
    _, matrix = featurise(texts, words=(1, 2), chars=(2, 3, 4))
    scores = out_of_fold(matrix, signs(sides)[:, None], fold)[:, 0]
    probability = calibrated(scores, sides, fold)
    n = len(human)
    return CrossFit(probability[:n], probability[n:], fold[:n], fold[n:])


def fit_detector(
    human: Sequence[str],
    synthetic: Sequence[str],
    *,
    groups: Sequence[Any] | None = None,
    folds: int = 5,
    limit: int = 10_000,
    seed: int = 0,
) -> Detector:
    """Return a classifier with calibrated probabilities, fitted on all texts.

    Of each side at most `limit` texts are used, drawn by seed. Raises NotEnoughData below 8 texts a side.
    """
    rng = np.random.default_rng(seed)
    chosen = [
        np.sort(rng.permutation(len(side))[:limit]) + start
        for side, start in ((human, 0), (synthetic, len(human)))
    ]
    texts = [*human, *synthetic]
    rows = np.concatenate(chosen)
    texts = [texts[row] for row in rows]
    keys = None if groups is None else [groups[row] for row in rows]
    sides = rows < len(human)
    fold = assign_folds(sides, group_ids(texts, keys), folds=folds, seed=seed)
    space, matrix = featurise(texts, words=(1, 2), chars=(2, 3, 4))
    targets = signs(sides)[:, None]
    slope, offset = fit_platt(out_of_fold(matrix, targets, fold)[:, 0], sides)
    weights, mean = ridge(matrix, targets)
    return Detector(space, weights[:, 0], slope, offset + slope * float(mean[0]))


def calibrated(scores: Floats, sides: Flags, fold: Ints) -> Floats:
    """Return P(human) [n] from out-of-fold scores, the curve of each fold fitted on the other folds."""
    probability = np.empty(len(scores))
    for k in np.unique(fold):
        out = fold == k
        slope, offset = fit_platt(scores[~out], sides[~out])
        probability[out] = _sigmoid(slope * scores[out] + offset)
    return probability


def group_ids(texts: Sequence[str], groups: Sequence[Any] | None = None) -> Ints:
    """Return one number for each text; equal for copies and for rows of one group, also along a chain."""
    column = pa.array(texts, pa.large_string())
    folded = normalise(column)
    # A text of nothing but marks folds to nothing; such texts are copies only where they are equal.
    blank = np.array([not text for text in folded.to_pylist()], dtype=np.bool_)
    copies = numbered(np.where(blank, hash_strings(column), hash_strings(folded)).tolist())
    if groups is None:
        return copies
    import scipy.sparse
    from scipy.sparse.csgraph import connected_components

    n, given = len(texts), numbered(list(groups))
    rows = np.concatenate([np.arange(n), np.arange(n)])
    nodes = np.concatenate([n + copies, 2 * n + given])
    graph = scipy.sparse.coo_matrix((np.ones(2 * n, np.int8), (rows, nodes)), shape=(3 * n, 3 * n))
    _, component = connected_components(graph, directed=False)
    return numbered(component[:n].tolist())


def assign_folds(sides: Flags, groups: Ints, *, folds: int = 5, seed: int = 0) -> Ints:
    """Return a fold for each row: groups stay whole, both sides are spread as evenly as groups allow."""
    least = min(int(sides.sum()), int((~sides).sum()))
    if least < LEAST:
        raise NotEnoughData(
            f"telling human from synthetic texts needs {LEAST} texts on each side, but one side has {least}; "
            "add records"
        )
    count = int(groups.max()) + 1
    table = np.stack([np.bincount(groups[flag], minlength=count) for flag in (~sides, sides)], axis=1)
    folds = min(folds, least, count)
    if folds < 2:
        raise NotEnoughData(
            "all texts are copies of one text or rows of one group; nothing is left to test on"
        )
    rng = np.random.default_rng(seed)
    place = np.empty(count, dtype=np.int64)
    loads = np.zeros((folds, 2))
    sizes = table.sum(axis=1)
    shuffled = rng.permutation(count)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        if sizes[group] == 1:
            break  # the order is by size: only single rows are left
        after = loads + table[group]
        cost = (after**2).sum(axis=1) - (loads**2).sum(axis=1)
        place[group] = int(cost.argmin())
        loads[place[group]] += table[group]
    for side in (0, 1):
        singles = shuffled[(sizes[shuffled] == 1) & (table[shuffled, side] == 1)]
        place[singles] = _fill(loads[:, side], len(singles))
    return place[groups]


def out_of_fold(
    matrix: scipy.sparse.csr_matrix,
    targets: Floats,
    fold: Ints,
    *,
    kernel: Kernel | None = None,
    penalty: float = PENALTY,
) -> Floats:
    """Return scores [n, k] for k target vectors [n, k], each row by the model that left its fold out.

    `kernel` is what `gram` gives, where it is at hand already.
    """
    scores = np.zeros(targets.shape)
    if kernel is None:
        kernel = gram(matrix)
    for k in np.unique(fold):
        held, rest = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        scores[held] = held_out(matrix, targets[rest], rest, held, kernel=kernel, penalty=penalty)
    return scores


def held_out(
    matrix: scipy.sparse.csr_matrix,
    targets: Floats,
    rest: Ints,
    held: Ints,
    *,
    kernel: Kernel | None = None,
    penalty: float = PENALTY,
) -> Floats:
    """Return scores [held, k] of some rows by models fitted on `rest`, whose targets are [rest, k].

    `kernel` is what `gram` gives for the whole matrix; without it the systems are solved by iteration.
    """
    mean = targets.mean(axis=0)
    centred = (targets - mean).astype(np.float32)
    if kernel is None:
        weights = matrix[rest].T @ _conjugate_gradients(matrix[rest], centred, penalty)
        return np.asarray(matrix[held] @ weights + mean, dtype=np.float64)
    dual = _solve(kernel[np.ix_(rest, rest)], centred, penalty)
    with _one_thread():
        return np.asarray(kernel[np.ix_(held, rest)] @ dual + mean, dtype=np.float64)


def ridge(
    matrix: scipy.sparse.csr_matrix,
    targets: Floats,
    *,
    kernel: Kernel | None = None,
    penalty: float = PENALTY,
) -> tuple[NDArray[np.float32], Floats]:
    """Return the weights [m, k] and means [k] of ridge regressions on all rows."""
    mean = targets.mean(axis=0)
    centred = (targets - mean).astype(np.float32)
    if kernel is None:
        kernel = gram(matrix)
    if kernel is None:
        dual = _conjugate_gradients(matrix, centred, penalty)
    else:
        dual = _solve(kernel.copy(), centred, penalty)
    return np.asarray(matrix.T @ dual, dtype=np.float32), mean


def gram(matrix: scipy.sparse.csr_matrix, *, block: int = 500) -> Kernel | None:
    """Return all inner products of rows [n, n]; None above 6,000 rows, where they would not fit."""
    n = matrix.shape[0]
    if n > DENSE_ROWS:
        return None
    kernel = np.empty((n, n), dtype=np.float32)
    transposed = matrix.T.tocsr()
    for start in range(0, n, block):  # a sparse product takes three times the room of a dense one
        kernel[start : start + block] = (matrix[start : start + block] @ transposed).toarray()
    return kernel


def fit_platt(scores: Floats, sides: Flags, *, steps: int = 50) -> tuple[float, float]:
    """Return slope and offset of P(human) = sigmoid(slope * score + offset), by Newton's method (Platt 1999).

    The targets are drawn in from 0 and 1 as in Platt's paper, so that separated scores give a finite slope.
    """
    ahead, behind = int(sides.sum()), int((~sides).sum())
    target = np.where(sides, (ahead + 1) / (ahead + 2), 1 / (behind + 2))
    scale = float(np.std(scores)) or 1.0
    design = np.stack([scores / scale, np.ones(len(scores))], axis=1)
    beta = np.array([0.0, np.log((ahead + 1) / (behind + 1))])
    for _ in range(steps):
        p = _sigmoid(design @ beta)
        gradient = design.T @ (p - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta -= step * min(
            1.0, 4.0 / max(1e-12, float(np.abs(step).max()))
        )  # a far first step would overshoot
        if np.abs(step).max() < 1e-9:
            break
    return float(beta[0] / scale), float(beta[1])


def _solve(kernel: Kernel, targets: NDArray[np.float32], penalty: float) -> NDArray[np.float32]:
    """Solve (kernel + penalty) a = targets for all columns with one factorisation; overwrites both."""
    import scipy.linalg

    kernel[np.diag_indices(len(kernel))] += penalty
    with _one_thread():
        factor = scipy.linalg.cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
        solved = scipy.linalg.cho_solve(factor, targets, overwrite_b=True, check_finite=False)
    return np.asarray(solved, dtype=np.float32)


def _one_thread() -> Any:
    """One thread for linear algebra: the same digits everywhere, and no waiting for each other.

    On a machine with other work the threads of a factorisation spin; that cost twenty times its arithmetic.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return threadpool_limits(1)


def _conjugate_gradients(
    matrix: scipy.sparse.csr_matrix,
    targets: NDArray[np.float32],
    penalty: float,
    *,
    steps: int = 60,
    tol: float = 2e-3,
) -> NDArray[np.float32]:
    """Solve (X X' + penalty) a = targets for all columns at once without holding X X'."""
    transposed = matrix.T.tocsr()
    solution = np.zeros_like(targets)
    residual = targets.copy()
    direction = residual.copy()
    square = (residual**2).sum(axis=0)
    start = np.maximum(square, 1e-30)
    for _ in range(steps):
        image = matrix @ (transposed @ direction) + penalty * direction
        rate = square / np.maximum((direction * image).sum(axis=0), 1e-30)
        solution += rate * direction
        residual -= rate * image
        before, square = square, (residual**2).sum(axis=0)
        if np.all(square <= tol**2 * start):
            break
        direction = residual + (square / np.maximum(before, 1e-30)) * direction
    return solution


def _fill(loads: Floats, count: int) -> Ints:
    """Return folds for `count` single rows so that the loads end as level as they can."""
    order = []
    level = loads.astype(np.int64).copy()
    for _ in range(count):
        fold = int(level.argmin())
        level[fold] += 1
        order.append(fold)
    return np.array(order, dtype=np.int64)


def signs(sides: Flags) -> Floats:
    """Return +1 for human and -1 for synthetic."""
    return np.where(sides, 1.0, -1.0)


def numbered(keys: Sequence[Any]) -> Ints:
    """Return for each key the number of its first occurrence among different keys."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))
