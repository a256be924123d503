"""Multinomial logistic regression on dense features, for very many fits. Knows no text and no label's name.

The model is that of scikit-learn's LogisticRegression (L2 penalty, free intercepts). Its solver walks in the
features as they are, and sentence vectors, of which all share one direction, make that a narrow valley. Here
the features are first centred and scaled along the axes of their own covariance, as Bohning's bound on the
Hessian (1992, Multinomial logistic regression algorithm) tells: the minimum is the same, and L-BFGS is there
in a few dozen steps instead of hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.training.base import Floats, Indices, Probabilities

STEPS = 2000
PRECISION = 3e-8
"""The gradient at the end, a unit of the square root of the records' weight."""


@dataclass(frozen=True, eq=False)
class Logistic:
    """A fitted model: weights [features, classes] and bias [classes]."""

    weights: Floats
    bias: Floats

    def probabilities(self, features: NDArray[np.floating]) -> Probabilities:
        """Return [n, classes] for features [n, d]; each row sums to one."""
        scores = np.asarray(features, dtype=np.float64) @ self.weights + self.bias
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def regress(
    features: NDArray[np.floating], classes: Indices, count: int, *, C: float, balanced: bool = False
) -> Logistic:
    """Fit on features [n, d] and the class of each record, of which each of 0 ... count - 1 occurs.

    C: inverse strength of the penalty on the weights, |w|^2 / 2C, as scikit-learn counts it.
    balanced: weigh records so that all classes weigh the same.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rows = np.asarray(features, dtype=np.float64)
    n, width = rows.shape
    if count < 2:  # nothing to learn, and the answer is known
        return Logistic(np.zeros((width, 1)), np.zeros(1))
    sizes = np.bincount(classes, minlength=count)
    assert (sizes > 0).all(), "a class without a record"
    weight = (n / (count * sizes))[classes] if balanced else np.ones(n)
    shares = np.bincount(classes, weights=weight, minlength=count) / weight.sum()
    # With two classes scikit-learn has one vector of weights; ours are its two halves, of half the length.
    strength = (2.0 if count == 2 else 1.0) / C
    with threadpool_limits(1):  # threads that wait for each other cost more than these products
        centre = weight @ rows / weight.sum()
        axes = _axes(rows - centre, weight, (1 - 1 / count) / count, strength)
        unit = 1 / np.sqrt((1 - 1 / count) / count * weight.sum())
        turned = np.hstack([(rows - centre) @ axes, np.full((n, 1), unit)])
        # the penalty is on the weights as they were before the scaling; the axes stand at right angles
        penalty = np.append(strength * np.einsum("da,da->a", axes, axes), 0.0)
        place = np.arange(n)

        def loss(flat: Floats) -> tuple[float, Floats]:
            values = flat.reshape(-1, count)
            scores = turned @ values
            scores -= scores.max(axis=1, keepdims=True)
            odds = np.exp(scores)
            total = odds.sum(axis=1)
            cost = weight @ (np.log(total) - scores[place, classes])
            slope = odds / total[:, None]
            slope[place, classes] -= 1
            slope *= weight[:, None]
            shrunk = penalty[:, None] * values
            return float(cost + 0.5 * (shrunk * values).sum()), (turned.T @ slope + shrunk).ravel()

        start = np.zeros((turned.shape[1], count))
        start[-1] = np.log(shares) / unit
        limits: Any = {"maxiter": STEPS, "maxfun": 2 * STEPS, "maxcor": 20, "ftol": 1e-16}
        limits["gtol"] = PRECISION * float(np.sqrt(weight.sum()))
        solve: Any = minimize  # its types know no loss that gives its slope too
        found = solve(loss, start.ravel(), jac=True, method="L-BFGS-B", options=limits)
        values = np.asarray(found.x, dtype=np.float64).reshape(-1, count)
        weights = axes @ values[:-1]
        return Logistic(weights, values[-1] * unit - centre @ weights)


def _axes(rows: Floats, weight: Floats, curvature: float, strength: float) -> Floats:
    """Axes of the records' covariance [d, at most n], scaled so that the loss is about as steep on each."""
    if len(rows) > rows.shape[1]:
        spread, axes = np.linalg.eigh((rows * weight[:, None]).T @ rows)
    else:  # fewer records than features: no weight ever leaves the space that the records span
        scaled = rows * np.sqrt(weight)[:, None]
        spread, among = np.linalg.eigh(scaled @ scaled.T)
        kept = spread > 1e-12 * max(float(spread.max(initial=0.0)), 1e-300)
        spread = spread[kept]
        axes = scaled.T @ (among[:, kept] / np.sqrt(spread))
    return np.asarray(axes / np.sqrt(curvature * np.maximum(spread, 0.0) + strength))
