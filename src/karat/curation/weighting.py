"""Weights that make synthetic records resemble human ones: kernel mean matching, density ratios, MMD.

Knows vectors and probabilities, no text. Weights have mean 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

EXACT = 3_000
"""Rows up to which the kernel of all pairs is held (72 MB); beyond, random Fourier features."""
FEATURES = 1_024


def effective_size(weights: Floats) -> float:
    """How many equally weighted records these are worth: (sum w)^2 / sum w^2 (Kish 1965)."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def human_odds(p_human: Floats, most: float) -> Floats:
    """p / (1 - p), the density ratio human : synthetic up to a factor; mean 1, none over `most`.

    Source: Bickel, Brückner and Scheffer 2009, section 4.
    """
    odds = p_human / np.maximum(1 - p_human, 1e-12)
    if not odds.sum() > 0:
        return np.zeros(len(odds))
    # The bound is on weights of mean 1, so that cutting and scaling are repeated until both hold.
    weights = odds / odds.mean()
    for _ in range(100):
        cut = np.minimum(weights, most)
        weights = cut / cut.mean()
        if weights.max() <= most * (1 + 1e-9):
            break
    return np.asarray(weights)


def gaussian(one: Rows, other: Rows, bandwidth: float) -> Floats:
    """float64 [n, m]: exp(-|x - y|^2 / (2 bandwidth^2))."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    squares = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("nd,nd->n", b, b) - 2 * a @ b.T
    return np.asarray(np.exp(-np.maximum(squares, 0.0) / (2 * bandwidth**2)))


def discrepancy(ours: Rows, weights: Floats, theirs: Rows, bandwidth: float) -> float:
    """MMD^2 of weighted rows and human ones, unbiased: no row is compared with itself.

    Gretton et al. 2012, equation 3, with weights that sum to 1 on our side; below 0 by chance.
    """
    share = weights / weights.sum()
    own, cross = gaussian(ours, ours, bandwidth), gaussian(ours, theirs, bandwidth)
    human = gaussian(theirs, theirs, bandwidth)
    m = len(theirs)
    inner = float(share @ own @ share - (share**2 * np.diag(own)).sum()) / max(1e-12, 1 - (share**2).sum())
    outer = float(human.sum() - np.trace(human)) / (m * (m - 1))
    return float(inner + outer - 2 * (share @ cross).mean())


@dataclass(frozen=True, eq=False)
class Problem:
    """The quadratic form of kernel mean matching: w'Qw / 2 - kappa'w with Q = A A' (factor) or a matrix."""

    factor: Floats
    kappa: Floats
    exact: bool

    def times(self, w: Floats) -> Floats:
        """Q w."""
        found = self.factor @ w if self.exact else self.factor @ (self.factor.T @ w)
        return np.asarray(found)

    def value(self, w: Floats) -> float:
        """The objective."""
        return float(w @ self.times(w) / 2 - self.kappa @ w)


def problem(ours: Rows, theirs: Rows, bandwidth: float, *, exact: int = EXACT, seed: int = 0) -> Problem:
    """The form in units of means: Q = K / n^2 and kappa = mean human kernel / n (Huang et al. 2007)."""
    n = len(ours)
    if n <= exact:
        kappa = np.zeros(n)
        for start in range(0, len(theirs), 1_024):
            kappa += gaussian(ours, theirs[start : start + 1_024], bandwidth).sum(axis=1)
        return Problem(gaussian(ours, ours, bandwidth) / n**2, kappa / len(theirs) / n, True)
    rng = np.random.default_rng([seed, 0x4FF])
    directions = rng.standard_normal((ours.shape[1], FEATURES)) / bandwidth
    shift = rng.uniform(0, 2 * np.pi, FEATURES)

    def features(rows: Rows) -> Floats:  # Rahimi and Recht 2007
        return np.asarray(np.sqrt(2 / FEATURES) * np.cos(rows @ directions + shift))

    factor = features(ours) / n
    return Problem(factor, factor @ features(theirs).mean(axis=0), False)


def mean_matching(asked: Problem, most: float, *, rounds: int = 500, tolerance: float = 1e-7) -> Floats:
    """Weights [n] between 0 and `most` with mean 1 that bring the features' mean nearest to the human one.

    Kernel mean matching (Huang et al. 2007), by accelerated projected gradients (Beck and Teboulle 2009) with
    restarts; the projection onto box and mean is exact.
    """
    n = len(asked.kappa)
    w, step = np.ones(n), 1 / max(_largest(asked, n), 1e-300)
    image = asked.times(w)  # Q w; the form is linear, so one product a round serves gradient and value
    last = float(w @ image / 2 - asked.kappa @ w)
    ahead, ahead_image, momentum = w, image, 1.0
    for _ in range(rounds):
        new = _projected(ahead - step * (ahead_image - asked.kappa), most)
        new_image = asked.times(new)
        value = float(new @ new_image / 2 - asked.kappa @ new)
        if value > last and momentum > 1:  # momentum has led uphill: start again from here
            ahead, ahead_image, momentum = w, image, 1.0
            continue
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        push = (momentum - 1) / faster
        moved = float(np.abs(new - w).max())
        ahead, ahead_image = new + push * (new - w), new_image + push * (new_image - image)
        done = abs(last - value) <= tolerance * max(abs(value), 1e-12) and moved < 1e-3
        w, image, momentum, last = new, new_image, faster, value
        if done:
            break
    return w


def _largest(asked: Problem, n: int, rounds: int = 50) -> float:
    """A bound on the largest eigenvalue of Q, by power iteration."""
    v = np.random.default_rng(0).standard_normal(n)
    value = 0.0
    for _ in range(rounds):
        v /= max(float(np.linalg.norm(v)), 1e-300)
        v = asked.times(v)
        value = float(np.linalg.norm(v))
    return 1.05 * value


def _projected(w: Floats, most: float) -> Floats:
    """The nearest point with 0 <= w <= most and mean 1: clip(w - shift), the shift by bisection."""
    low, high = float(w.min()) - most, float(w.max())
    for _ in range(60):
        middle = (low + high) / 2
        if np.clip(w - middle, 0, most).mean() > 1:
            low = middle
        else:
            high = middle
    return np.asarray(np.clip(w - (low + high) / 2, 0, most))


def bandwidth_of(rows: Rows, *, seed: int = 0, most: int = 1_000) -> float:
    """The median distance of pairs of rows, of at most `most` drawn at random; 1 where all are equal."""
    some = rows[np.random.default_rng([seed, 0xBA]).permutation(len(rows))[:most]].astype(np.float64)
    squares = np.einsum("nd,nd->n", some, some)
    gaps = squares[:, None] + squares - 2 * some @ some.T
    distance = np.sqrt(np.maximum(gaps[np.triu_indices(len(some), 1)], 0.0))
    return float(np.median(distance)) if len(distance) and np.median(distance) > 0 else 1.0
