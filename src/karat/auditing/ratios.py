"""Rates of replicate groups: what holds of records, added up under masks. Knows no kind of record."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Telling, Values

Floats = NDArray[np.float64]


def ratio(masks: Masks, groups: NDArray[np.int64], amount: Floats, weight: Floats) -> Values:
    """float64 [K]: sum of `amount` [n] over sum of `weight` [n], of the groups that each mask merges."""
    chosen = masks.astype(np.float64)
    n = masks.shape[1]
    above = chosen @ np.bincount(groups, weights=amount, minlength=n)[:n]
    below = chosen @ np.bincount(groups, weights=weight, minlength=n)[:n]
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def told(
    keys: NDArray[np.uint64],
    amount: Floats,
    reason: Callable[[int], str],
    limit: int,
    *,
    least: float = 0.0,
) -> tuple[Telling, ...]:
    """The records with the largest amounts above `least`, the first by hash where they are equal."""
    order = np.lexsort((keys, -amount))[:limit]
    return tuple(Telling(int(keys[i]), float(amount[i]), reason(int(i))) for i in order if amount[i] > least)
