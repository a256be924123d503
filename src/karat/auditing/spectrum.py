"""What first and second moments of vectors tell of a corpus: its spectrum, and the distance of two Gaussians.

Knows matrices only: no text, no encoder, no metric.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks
from karat.auditing.vectors import Moments

Floats = NDArray[np.float64]


def merged(moments: Moments, mask: NDArray[np.bool_]) -> tuple[int, Floats, Floats]:
    """The number of records n, sum [d] and Gram matrix [d, d] of the groups that one mask [G] merges."""
    weight = mask.astype(np.float64)
    wide = moments.grams.shape[1]
    gram = (weight @ moments.grams.reshape(len(weight), -1)).reshape(wide, wide)
    return int(mask @ moments.counts), weight @ moments.sums, gram


def shares(gram: Floats) -> Floats:
    """float64 [d]: the eigenvalues of a Gram matrix, as shares that make 1; empty where it is all zeros.

    They are those of the n x n matrix of all inner products, whose other eigenvalues are 0.
    """
    total = float(np.trace(gram))
    if total <= 0:
        return np.zeros(0)
    found = np.linalg.eigvalsh(gram)
    return np.asarray(np.maximum(found, 0.0) / total)


def diversity(gram: Floats, order: float) -> float:
    """The effective number of different records: the exponential of the Rényi entropy of the spectrum.

    Order 1 is Shannon's entropy, 2 is 1 / sum of squares (had from the Frobenius norm, without eigenvalues),
    infinity 1 / the largest. Sources: Friedman and Dieng 2023 (order 1); Pasarkar and Dieng 2024,
    Cousins of the Vendi Score (other orders).
    """
    total = float(np.trace(gram))
    if total <= 0:
        return float("nan")
    if order == 2:
        return float(total**2 / np.square(gram).sum())
    held = shares(gram)
    if np.isinf(order):
        return float(1 / held.max())
    held = held[held > 1e-15]  # what rounding leaves of an eigenvalue of 0
    if order == 1:
        return float(np.exp(-(held * np.log(held)).sum()))
    return float((held**order).sum() ** (1 / (1 - order)))


def diversities(moments: Moments, masks: Masks, order: float) -> Floats:
    """float64 [K]: the diversity of the groups that each mask [K, G] merges."""
    with _one_thread():
        found = [diversity(merged(moments, mask)[2], order) for mask in masks]
    return np.array(found, dtype=np.float64)


def covariance(n: int, total: Floats, gram: Floats) -> tuple[Floats, Floats]:
    """The mean [d] and unbiased covariance [d, d] of n vectors, from their sum and Gram matrix."""
    mean = total / n
    return mean, (gram - n * np.outer(mean, mean)) / (n - 1)


def frechet(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> float:
    """The squared Fréchet distance of two Gaussians, each a mean [d] and a covariance [d, d].

    |m - m'|^2 + Tr(S) + Tr(S') - 2 Tr((S S')^(1/2)); the last trace is the sum of the square roots of the
    eigenvalues of L' S' L, where S = L L'. Sources: Dowson and Landau 1982; Heusel et al. 2017.
    """
    gap = one[0] - other[0]
    root = _root(one[1])
    found = np.linalg.eigvalsh(root.T @ other[1] @ root)
    cross = float(np.sqrt(np.maximum(found, 0.0)).sum())
    return float(gap @ gap + np.trace(one[1]) + np.trace(other[1]) - 2 * cross)


def frechets(moments: Moments, ours: Masks, theirs: Masks, *, extrapolate: bool = False) -> Floats:
    """float64 [K]: the distance of the groups under row k of `ours` [K, G] to those under `theirs` [K, G].

    extrapolate: take off the bias of finite samples, which is of order 1/n: twice the distance minus the mean
    distance of halves with half as many records (Quenouille 1949; the straight line of Chong and Forsyth
    2020 through two points). The result can fall below 0.
    """
    found = np.full(len(ours), np.nan)
    with _one_thread():
        for k, (mine, their) in enumerate(zip(ours, theirs, strict=True)):
            whole = _distance(moments, mine, their)
            if extrapolate:
                halves = [_distance(moments, _half(mine, h), _half(their, h)) for h in (0, 1)]
                whole = 2 * whole - float(np.mean(halves))
            found[k] = whole
    return found


def _distance(moments: Moments, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    sides = [merged(moments, mask) for mask in (ours, theirs)]
    if min(n for n, _, _ in sides) < 2:
        return float("nan")
    one, other = (covariance(*side) for side in sides)
    return frechet(one, other)


def _half(mask: NDArray[np.bool_], which: int) -> NDArray[np.bool_]:
    """Every other group of a mask: a group stays in its half whichever others are left out."""
    place = np.arange(len(mask)) % (len(mask) // 2)  # both corpora side by side
    return np.asarray(mask & (place % 2 == which))


def _root(matrix: Floats) -> Floats:
    """L with L L' = matrix; by Cholesky where it is definite, else by its eigenvectors."""
    try:
        return np.asarray(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _one_thread() -> Any:
    """One thread for small matrices: the same digits everywhere, and threads that do not wait in turn.

    To be entered once for many matrices: looking for the libraries to limit takes a millisecond.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return threadpool_limits(1)
