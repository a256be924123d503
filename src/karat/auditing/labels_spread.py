"""How much the labels of one list vary, comparable between lists of different lengths. Knows counts only."""

from __future__ import annotations

from functools import lru_cache
from math import comb, log2

import numpy as np

from karat.auditing.labels_sheet import Floats, Ints


def variance(counts: Ints, points: Floats) -> Floats:
    """float64 [n]: the sample variance (ddof 1) of the points of each list; nan below two labels.

    It is unbiased at any number of labels, so that lists of different lengths can be compared.
    """
    n = counts.sum(axis=1).astype(np.float64)
    sums = counts @ points
    squares = counts @ points**2
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (squares - sums**2 / n) / (n - 1)
    return np.where(n > 1, np.maximum(found, 0.0), np.nan)


def entropy(counts: Ints, draws: Ints | None = None) -> Floats:
    """float64 [n]: the entropy of the labels of each list, in bits; nan for an empty list.

    draws: the mean entropy of so many labels drawn from the list without replacement, which is exact
    rarefaction (Hurlbert 1971): it makes lists of different lengths comparable
    """
    total = counts.sum(axis=1)
    size = total if draws is None else draws
    parts = np.zeros(len(counts))
    for column in counts.T:
        parts += _expected(total, column, size)
    return np.where((total > 0) & (size > 0), parts, np.nan)


def same(counts: Ints, draws: Ints) -> Floats:
    """float64 [n]: the chance that so many labels drawn from each list without replacement are all one.

    It is unbiased for the chance that so many new draws are all one (Hoeffding 1948); nan for longer draws.
    """
    from scipy.special import gammaln

    total = counts.sum(axis=1)
    enough = (draws > 0) & (draws <= total)
    size = np.where(enough, draws, 1)
    wide = np.maximum(total, 1)
    found = np.zeros(len(counts))
    all_ways = gammaln(wide + 1) - gammaln(wide - size + 1)
    for column in counts.T:
        can = column >= size
        held = np.where(can, column, size)
        found += np.where(can, np.exp(gammaln(held + 1) - gammaln(held - size + 1) - all_ways), 0.0)
    return np.where(enough, np.minimum(found, 1.0), np.nan)


def _expected(total: Ints, given: Ints, draws: Ints) -> Floats:
    """float64 [n]: the mean of -y/k log2 y/k, y the number of a label in k draws without replacement."""
    span = int(max(total.max(initial=0), draws.max(initial=0))) + 1
    known, where = np.unique((total * span + given) * span + draws, return_inverse=True)
    table = [_one(code // span**2, code // span % span, code % span) for code in known.tolist()]
    found: Floats = np.array(table, dtype=np.float64)[where.reshape(-1)]
    return found


@lru_cache(maxsize=100_000)
def _one(n: int, x: int, k: int) -> float:
    """The same for a list of n labels that holds x of one."""
    if x == 0 or k == 0 or k > n:
        return 0.0
    ways = comb(n, k)
    counts = range(max(1, k - (n - x)), min(k, x) + 1)
    return sum(comb(x, y) * comb(n - x, k - y) / ways * -(y / k) * log2(y / k) for y in counts)
