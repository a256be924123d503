"""More rows than combinations, and shares wanted: how often each combination comes. Knows no text.

Without shares a sampler goes round and round through all combinations. With shares, when each has come once,
each has a quota, so that in the end the values have come as often as they are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LARGEST = 4096
"""Combinations up to which quotas are given; more of them are hardly ever exhausted."""
_FITS = 200


def quotas_of(rows: Array, n: int, wanted: Sequence[Array]) -> Array:
    """How often each of the rows [m, attributes] comes among n > m, int64 [m].

    Shares are products of those of the values, fitted to the wanted margins (iterative proportional fitting,
    Deming and Stephan 1940), since constraints bend them. What rounding leaves over goes, one by one, to the
    row whose values are furthest behind.
    """
    share = np.prod([weights[rows[:, j]] for j, weights in enumerate(wanted)], axis=0)
    share = share / share.sum()
    for _ in range(_FITS):
        before = share
        for j, weights in enumerate(wanted):
            sums = np.bincount(rows[:, j], share, minlength=len(weights))
            factor = np.divide(weights, sums, out=np.zeros_like(sums), where=sums > 0)
            share = share * factor[rows[:, j]]
            share = share / share.sum()
        if np.abs(share - before).max() < 1e-9:
            break
    # Each comes at least once: what is hardly wanted is not to be missing where there is room for it.
    found = np.maximum(np.floor(n * share).astype(np.int64), share > 0)
    while found.sum() > n:
        most = int((found - n * share - 1e6 * (found < 2)).argmax())
        if found[most] < 2:
            break
        found[most] -= 1
    open_ = n * share - found > 1e-12
    behind = [n * w - np.bincount(rows[:, j], found, minlength=len(w)) for j, w in enumerate(wanted)]
    for _ in range(n - int(found.sum())):
        gain = sum((lack[rows[:, j]] for j, lack in enumerate(behind)), np.zeros(len(rows)))
        gain = gain + (n * share - found) * 1e-3
        gain[~open_] -= 1e6  # twice only when all have been rounded up
        best = int(gain.argmax())
        found[best] += 1
        open_[best] = False
        for j, lack in enumerate(behind):
            lack[rows[best, j]] -= 1
    return np.asarray(found)


def after_all(
    rows: Array, n: int, wanted: Sequence[Array], generator: np.random.Generator
) -> Iterator[tuple[int, ...]]:
    """Yield the n - m rows that follow when each of the m has come once, as the quotas of n say.

    Those of one combination are evenly spread over the run.
    """
    left = quotas_of(rows, n, wanted) - 1
    owner = np.repeat(np.arange(len(rows)), left)
    begins = np.concatenate([[0], np.cumsum(left)[:-1]])
    turn = np.arange(len(owner)) - begins[owner]
    # Where in its own stride a row stands is drawn: else all that come once more would stand in the middle.
    when = (turn + generator.random(len(rows))[owner]) / left[owner]
    for i in np.argsort(when, kind="stable").tolist():
        yield tuple(rows[owner[i]].tolist())
