"""Curves fitted to the first iterations of a loop. Knows numbers only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

REACH = 3.0
"""No forecast goes beyond this many times the observed range."""


@dataclass(frozen=True)
class Fit:
    """A curve fitted to observed diversity; `aicc` is smaller where it is better."""

    name: str
    parameters: tuple[float, ...]
    aicc: float
    half_life: float | None
    plateau: float | None


def fit_stretch(emulated: Sequence[float], observed: Sequence[float]) -> float:
    """Return by how much slower than the emulator the observed loop is (least squares)."""
    import numpy as np

    kept = np.asarray(observed) / observed[0]
    times = np.arange(len(kept))
    grid = np.exp(np.linspace(math.log(0.25), math.log(20), 400))
    curve, steps = np.asarray(emulated), np.arange(len(emulated))
    errors = [float(((np.interp(times / factor, steps, curve) - kept) ** 2).sum()) for factor in grid]
    return float(grid[int(np.argmin(errors))])


def fit_curves(observed: Sequence[float]) -> tuple[Fit, ...]:
    """Fit exponential decay, decay to a plateau, and a logistic fall; each with its small-sample AIC.

    A half-life beyond three times the observed range is None: that much a fit does not know.
    """
    import numpy as np
    from scipy.optimize import curve_fit

    y = np.asarray(observed, dtype=np.float64) / observed[0]
    t = np.arange(len(y), dtype=np.float64)
    limit = REACH * (len(y) - 1)
    shapes: dict[str, tuple[Callable[..., Any], list[float], tuple[list[float], list[float]]]] = {
        "exponential": (lambda t, a, r: a * np.exp(-r * t), [1.0, 0.05], ([0.5, 0.0], [1.5, 5.0])),
        "plateau": (
            lambda t, a, r, c: c + (a - c) * np.exp(-r * t),
            [1.0, 0.2, 0.5],
            ([0.5, 1e-3, 0.0], [1.5, 5.0, 1.0]),
        ),
        "logistic": (
            lambda t, a, k, m: a / (1 + np.exp(np.clip(k * (t - m), -50, 50))),
            [1.0, 0.5, float(len(y))],
            ([0.5, 1e-3, 0.0], [1.5, 5.0, 4.0 * limit]),
        ),
    }
    found = []
    for name, (shape, start, bounds) in shapes.items():
        size = len(start)
        if len(y) < size + 2:
            continue
        try:
            values, _ = curve_fit(shape, t, y, p0=start, bounds=bounds, maxfev=5000)
        except (RuntimeError, ValueError):
            continue  # no such curve comes near; another one will
        residual = max(float(((shape(t, *values) - y) ** 2).sum()), 1e-12)
        k = size + 1
        aicc = len(y) * math.log(residual / len(y)) + 2 * k + 2 * k * (k + 1) / max(len(y) - k - 1, 0.5)
        fine = np.linspace(0, limit, 2000)
        below = np.flatnonzero(shape(fine, *values) <= 0.5)
        half = float(fine[below[0]]) if len(below) else None
        plateau = float(values[2]) if name == "plateau" else None
        found.append(Fit(name, tuple(map(float, values)), aicc, half, plateau))
    return tuple(found)
