"""Curves fitted to the first iterations of a loop, averaged by how well each explains them. Knows numbers.

Six shapes: no loss, decay to a plateau, a logistic fall to a plateau; exponential decay, a logistic fall, one
that speeds up (Gompertz). The first three stay and the others end at zero; the weight of evidence between the
two families is the comparison of plateau and zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REACH = 3.0
"""No forecast goes beyond this many times the observed range."""

DECISIVE = 10.0
"""Ratio of Akaike weights from which on one family is favoured."""

FLOOR = 0.005
"""The smallest error of a point, as a share of the first diversity: no shape is exact."""


STAYS = 0.1
"""The least level that counts as a plateau, as a share of the first diversity: below, all is lost anyhow."""

LEAST = 0.1
"""The least weight of each shape in a forecast: few points cannot rule out that a loop speeds up later."""


@dataclass(frozen=True)
class Shape:
    """A kind of curve: where a fit begins, between which bounds, and whether it ends at zero."""

    call: Callable[..., Any]
    start: tuple[tuple[float, ...], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    to_zero: bool


def _exponential(t: Any, a: float, r: float) -> Any:
    return a * np.exp(-r * t)


def _plateau(t: Any, a: float, r: float, c: float) -> Any:
    return a * (c + (1 - c) * np.exp(-r * t))


def _logistic(t: Any, a: float, k: float, m: float) -> Any:
    # Divided by its beginning, so that `a` is the diversity at iteration 0 in every shape.
    return a * (1 + math.exp(-min(k * m, 50))) / (1 + np.exp(np.clip(k * (t - m), -50, 50)))


def _settling(t: Any, a: float, k: float, m: float, c: float) -> Any:
    return a * (c + (1 - c) * _logistic(t, 1.0, k, m))


def _accelerating(t: Any, a: float, b: float, k: float) -> Any:
    # Gompertz's law: what sharpening does, whose power grows by the same factor in each iteration.
    return a * np.exp(-b * np.expm1(np.clip(k * t, 0, 50)))


def _constant(t: Any, a: float) -> Any:
    return a + 0 * t


SHAPES = {
    "constant": Shape(_constant, ((1.0,),), (0.0,), (3.0,), False),
    "exponential": Shape(_exponential, ((1.0, 0.05),), (0.0, -0.3), (3.0, 5.0), True),
    "plateau": Shape(
        _plateau, ((1.0, 0.2, 0.5), (1.0, 0.8, 0.8)), (0.0, 0.02, STAYS), (3.0, 5.0, 1.0), False
    ),
    "logistic": Shape(
        _logistic, ((1.0, 0.5, 6.0), (1.0, 1.0, 3.0)), (0.0, 0.02, 0.0), (3.0, 5.0, 500.0), True
    ),
    "settling": Shape(
        _settling, ((1.0, 0.8, 4.0, 0.5),), (0.0, 0.02, 0.0, STAYS), (3.0, 5.0, 500.0, 1.0), False
    ),
    "accelerating": Shape(_accelerating, ((1.0, 0.1, 0.3),), (0.0, 1e-4, 0.01), (3.0, 20.0, 1.0), True),
}
"""The shapes; an exponential that rises stands for loops that gain diversity."""


@dataclass(frozen=True)
class Fit:
    """A curve fitted to observed diversity; `aicc` is smaller where it is better, `weight` larger."""

    name: str
    parameters: tuple[float, ...]
    aicc: float
    weight: float
    half_life: float | None
    plateau: float | None

    def at(self, t: Any) -> Any:
        """Return the curve's values."""
        return SHAPES[self.name].call(t, *self.parameters)


@dataclass(frozen=True)
class Comparison:
    """Plateau against zero: the weight of the curves that stay, and what may be said of it."""

    level: float  # Akaike weight of the shapes that do not end at zero
    verdict: str  # favours a plateau, favours zero, undecided
    words: str

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        return asdict(self)


def fit_curves(observed: Sequence[float], errors: Sequence[float] | None = None) -> tuple[Fit, ...]:
    """Fit all shapes for which there are points enough, best first.

    observed: diversity of each iteration, in any unit; it is divided by the first one.
    errors: standard errors in the same unit; without them, the error is what the best shape leaves over.

    A half-life beyond three times the observed range is None: a fit knows no more. The criterion is QAICc
    (Burnham and Anderson 2002): chi squared over its dispersion, at least 1. The correction for small
    samples is for errors that are estimated; where they are given it is left out.
    """
    y, sigma = _scaled(observed, errors)
    t = np.arange(len(y), dtype=np.float64)
    fitted = {name: found for name in SHAPES if (found := _fit(name, t, y, sigma)) is not None}
    if not fitted:
        return ()
    # Few points fit a flexible shape by chance, so that its parameters are subtracted.
    spread = min(chi / max(1, len(y) - len(values)) for values, chi in fitted.values())
    dispersion = max(1.0, spread)
    if errors is None:  # the unit errors meant nothing
        dispersion = max(spread, FLOOR**2)
    rows = []
    for name, (values, chi) in fitted.items():
        k = len(values) + (errors is None)
        extra = 2 * k * (k + 1) / max(len(y) - k - 1, 0.5) if errors is None else 0.0
        rows.append((chi / dispersion + 2 * k + extra, name, values))
    best = min(rows)[0]
    total = sum(math.exp(-0.5 * (score - best)) for score, _, _ in rows)
    limit = REACH * (len(y) - 1)
    told = []
    for score, name, values in sorted(rows):
        half = _half(name, values, limit)
        plateau = None
        if not SHAPES[name].to_zero:
            plateau = values[-1] if len(values) > 1 else 1.0
        told.append(Fit(name, values, score, math.exp(-0.5 * (score - best)) / total, half, plateau))
    return tuple(told)


def _scaled(observed: Sequence[float], errors: Sequence[float] | None) -> tuple[Floats, Floats]:
    y = np.asarray(observed, dtype=np.float64) / observed[0]
    if errors is None:
        return y, np.ones(len(y))
    return y, np.maximum(np.asarray(errors, dtype=np.float64) / observed[0], FLOOR)


def _fit(name: str, t: Floats, y: Floats, sigma: Floats) -> tuple[tuple[float, ...], float] | None:
    """Return (parameters, chi squared), or None where there are too few points or nothing comes near."""
    from scipy.optimize import least_squares

    shape = SHAPES[name]
    if len(y) < len(shape.low) + 1:
        return None

    def missed(values: Floats) -> Any:
        return (shape.call(t, *values) - y) / sigma

    best: tuple[tuple[float, ...], float] | None = None
    for start in shape.start:
        found = least_squares(
            missed,
            start,
            bounds=(shape.low, shape.high),
            max_nfev=200,
        )
        chi = 2 * float(found.cost)
        if math.isfinite(chi) and (best is None or chi < best[1]):
            best = (tuple(float(value) for value in found.x), chi)
    return best


def _half(name: str, values: Sequence[float], limit: float) -> float | None:
    """Return when a curve has fallen to half of its own beginning, up to a limit."""
    fine = np.linspace(0.0, limit, 1500)
    curve = np.asarray(SHAPES[name].call(fine, *values))
    below = np.flatnonzero(curve <= curve[0] / 2)
    return float(fine[below[0]]) if len(below) and curve[0] > 0 else None


def compare(fits: Sequence[Fit]) -> Comparison | None:
    """Weigh curves that stay against curves that end at zero; None where only one family could be fitted."""
    level = [fit for fit in fits if not SHAPES[fit.name].to_zero]
    zero = [fit for fit in fits if SHAPES[fit.name].to_zero]
    if not level or not zero:
        return None
    share = sum(fit.weight for fit in level)
    ratio = max(1e-9, share) / max(1e-9, 1 - share)
    if ratio >= DECISIVE:
        verdict = "favours a plateau"
        words = f"the observed iterations favour a plateau over a fall to zero, {_odds(ratio)} to 1"
    elif ratio <= 1 / DECISIVE:
        verdict = "favours zero"
        words = f"the observed iterations favour a fall to zero over a plateau, {_odds(1 / ratio)} to 1"
    else:
        verdict = "undecided"
        words = (
            f"plateau or zero is undecided: curves that stay have {share:.0%} of the weight, and under "
            f"{DECISIVE:.0f} to 1 is no evidence"
        )
    return Comparison(share, verdict, words)


def _odds(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio < 1000 else "more than 1,000"


def futures(
    fits: Sequence[Fit],
    observed: Sequence[float],
    errors: Sequence[float],
    times: Sequence[float] | Floats,
    *,
    size: int = 400,
    seed: int = 0,
) -> Floats:
    """Draw curves that may follow, by parametric bootstrap of the averaged fits; shape (size, times).

    They begin at 1. Each draw takes one shape by its weight, adds errors to what it gives (the larger of
    those stated and of what the shape leaves over), fits that shape again on a grid, and reads it.
    """
    y, sigma = _scaled(observed, errors)
    t, later = np.arange(len(y), dtype=np.float64), np.asarray(times, dtype=np.float64)
    random = np.random.default_rng([seed, 13])
    weights = np.maximum([fit.weight for fit in fits], LEAST)
    counts = random.multinomial(size, weights / weights.sum())
    found = []
    for fit, draws in zip(fits, counts):
        told = np.asarray(fit.at(t), dtype=np.float64)
        free = max(1, len(y) - len(fit.parameters))
        wide = math.sqrt(max(1.0, float((((told - y) / sigma) ** 2).sum()) / free))
        # A t distribution, since the size of the errors is itself estimated from few points.
        noise = random.standard_t(max(3, free), size=(draws, len(y))) * sigma * wide
        cells = _nearest(fit.name, t, told + noise, sigma)
        found.append(
            np.stack([SHAPES[fit.name].call(later, 1.0, *cell) for cell in cells])
            if draws
            else np.empty((0, len(later)))
        )
    return np.concatenate(found)


def _cells(name: str) -> Floats:
    """Return a grid over a shape's parameters but the amplitude, which is linear; (cells, parameters)."""
    rates = np.concatenate([[0.0], np.geomspace(0.002, 3.0, 90)])
    grids = {
        "constant": [np.zeros(0)],
        "exponential": [np.concatenate([-np.geomspace(0.3, 0.002, 30), rates])],
        "plateau": [np.geomspace(0.02, 4.0, 40), np.linspace(STAYS, 1.0, 31)],
        "logistic": [np.geomspace(0.05, 4.0, 30), np.geomspace(0.3, 300.0, 60)],
        "settling": [
            np.geomspace(0.1, 4.0, 16),
            np.geomspace(0.3, 100.0, 30),
            np.linspace(STAYS, 0.95, 12),
        ],
        "accelerating": [np.geomspace(1e-4, 10.0, 50), np.geomspace(0.01, 1.0, 30)],
    }[name]
    if name == "constant":
        return np.empty((1, 0))
    return np.stack([axis.ravel() for axis in np.meshgrid(*grids, indexing="ij")], axis=1)


def _nearest(name: str, t: Floats, rows: Floats, sigma: Floats) -> Floats:
    """Return for each row of values the grid cell whose curve, at its best amplitude, fits best."""
    cells = _cells(name)
    curves = np.stack([SHAPES[name].call(t, 1.0, *cell) for cell in cells]) / sigma
    scaled = rows / sigma
    # The best amplitude of a curve c for values y is cy / cc, which leaves yy - cy^2 / cc.
    gain = (scaled @ curves.T) ** 2 / np.maximum((curves**2).sum(axis=1), 1e-30)
    found: Floats = cells[np.argmax(gain, axis=1)]
    return found


def half_lives(curves: Floats, times: Sequence[float] | Floats) -> Floats:
    """Return when each drawn curve first falls to half; infinite where none of the times reaches it."""
    t = np.asarray(times, dtype=np.float64)
    below = curves <= 0.5
    first = np.where(below.any(axis=1), below.argmax(axis=1), len(t))
    return np.append(t, np.inf)[first]
