"""What each training record is worth to validation records: kNN-Shapley, TracIn and influence functions.

Knows features and classes, not texts. Both count in units of validation score a record, so that they add up:
Shapley values to the score of all, TracIn's to what training gained, influences to what leaving out changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 4_000_000  # distances held at once


def knn_shapley(features: Floats, labels: Ints, validation: Floats, truth: Ints, *, k: int = 5) -> Floats:
    """Return the Shapley value [n] of each record to the accuracy of k nearest neighbours, averaged.

    The exact recursion of Jia et al. 2019 (theorem 1), O(n log n) a validation record. The utility of a set
    is the sum over its k nearest of [label is right] / k; distances are Euclidean, equal ones by position.
    """
    n = len(features)
    values = np.zeros(n)
    if not n or not len(validation):
        return values
    squares = np.einsum("nd,nd->n", features, features)
    rank = np.arange(1, n + 1, dtype=np.float64)
    share = np.minimum(k, rank) / (k * rank)  # min(k, i) / (k i)
    step = max(1, _BLOCK // n)
    for start in range(0, len(validation), step):
        block = validation[start : start + step]
        order = np.argsort(squares[None] - 2 * (block @ features.T), axis=1, kind="stable")
        right = (labels[order] == truth[start : start + step, None]).astype(np.float64)
        found = np.empty_like(right)
        found[:, -1] = right[:, -1] / max(k, n)
        gains = (right[:, :-1] - right[:, 1:]) * share[:-1]
        found[:, :-1] = found[:, -1:] + np.cumsum(gains[:, ::-1], axis=1)[:, ::-1]
        values += np.bincount(order.ravel(), weights=found.ravel(), minlength=n)
    return values / len(validation)


def logistic_influence(
    features: Floats,
    labels: Ints,
    validation: Floats,
    truth: Ints,
    *,
    classes: int,
    penalty: float = 1e-3,
) -> Floats:
    """Return how much the mean validation log loss rises when each record [n] is left out, to first order.

    Influence functions of Koh and Liang 2017 for logistic regression with an L2 penalty of `penalty` / 2
    times the squared weights a record: g_val' H^-1 g_i / n, where H is the Hessian of the mean training loss
    at its minimum. One linear system is solved for all records.
    """
    from scipy.sparse.linalg import LinearOperator, cg

    design = np.c_[features, np.ones(len(features))]
    beside = np.c_[validation, np.ones(len(validation))]
    weights = fit_logistic(design, labels, classes=classes, penalty=penalty)
    chances = _softmax(design @ weights)
    errors = chances - one_hot(labels, classes)
    wrong = _softmax(beside @ weights) - one_hot(truth, classes)
    target = beside.T @ wrong / len(beside)  # the gradient of the validation loss [d, classes]

    def product(flat: Floats) -> Floats:
        direction = flat.reshape(weights.shape)
        moved = design @ direction
        inner = chances * (moved - (chances * moved).sum(axis=1, keepdims=True))
        return np.asarray((design.T @ inner / len(design) + penalty * direction).ravel())

    size = weights.size
    hessian = LinearOperator((size, size), matvec=product, dtype=np.float64)
    solved, _ = cg(hessian, target.ravel(), rtol=1e-8, maxiter=10 * size)
    return np.asarray((errors * (design @ solved.reshape(weights.shape))).sum(axis=1) / len(design))


def descent_influence(
    features: Floats,
    labels: Ints,
    validation: Floats,
    truth: Ints,
    *,
    classes: int,
    steps: int = 5,
    rate: float = 0.5,
) -> Floats:
    """Return how much of the fall of the mean validation log loss each record [n] brought about in training.

    TracIn (Pruthi et al. 2020) along a gradient descent of logistic regression from nothing: at each step
    rate / n times the product of a record's gradient with that of the validation loss. The values add up to
    the fall of the loss, to first order in the rate. The descent ends where that loss is lowest: what is
    learned after that is the noise of the records.
    """
    design = np.c_[features, np.ones(len(features))]
    beside = np.c_[validation, np.ones(len(validation))]
    wanted, other = one_hot(labels, classes), one_hot(truth, classes)
    weights = np.zeros((design.shape[1], classes))
    values, best = np.zeros(len(design)), np.inf
    for _ in range(steps):
        chances = _softmax(beside @ weights)
        loss = float(-np.log(np.maximum((chances * other).sum(axis=1), 1e-300)).mean())
        if loss > best:
            break
        best = loss
        errors = _softmax(design @ weights) - wanted
        target = beside.T @ (chances - other) / len(beside)
        values += rate / len(design) * (errors * (design @ target)).sum(axis=1)
        weights -= rate * (design.T @ errors) / len(design)
    return values


def fit_logistic(design: Floats, labels: Ints, *, classes: int, penalty: float) -> Floats:
    """Return the weights [d, classes] that minimise the mean log loss with its L2 penalty."""
    from scipy.optimize import minimize

    wanted = one_hot(labels, classes)
    shape = (design.shape[1], classes)

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        scores = design @ weights
        top = scores.max(axis=1, keepdims=True)
        normal = top[:, 0] + np.log(np.exp(scores - top).sum(axis=1))
        value = float((normal - (scores * wanted).sum(axis=1)).mean() + penalty / 2 * (weights**2).sum())
        gradient = design.T @ (np.exp(scores - normal[:, None]) - wanted) / len(design) + penalty * weights
        return value, gradient.ravel()

    options: Any = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x, dtype=np.float64).reshape(shape)


def _softmax(scores: Floats) -> Floats:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def one_hot(labels: Ints, classes: int) -> Floats:
    """Return [n, classes] with a 1 in the place of each label [n]."""
    found = np.zeros((len(labels), classes))
    found[np.arange(len(labels)), labels] = 1.0
    return found
