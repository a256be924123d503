"""What another group of the same people would say, from the few labels an item has. Knows counts only.

The label shares of an item are taken to come from one Dirichlet distribution for all items of a corpus
(the Dirichlet-multinomial model, Mosimann 1962). Its concentration is found by moments, from how often two
labels of one item agree, and shares are drawn anew given the labels of the item (empirical Bayes). Drawing
from the labels themselves instead would flatter: three equal labels are no proof that a fourth is equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.auditing.labels_sheet import Floats, Ints

_LEAST = 1e-3


@dataclass(frozen=True)
class People:
    """A model of the shares of labels: counts [N, K] and the Dirichlet parameters [K] added to each row."""

    counts: Ints
    added: Floats

    @staticmethod
    def of(counts: Ints) -> People:
        """Fit the model; where no item has two labels, an item's one label is all there is to say of it."""
        total = counts.sum()
        shares = counts.sum(axis=0) / total if total else np.full(counts.shape[1], 1.0)
        return People(counts, concentration(counts) * shares)

    def shares(self, rng: np.random.Generator) -> Floats:
        """float64 [N, K]: the label shares of each item, drawn given its labels."""
        drawn = rng.gamma(np.maximum(self.counts + self.added, 1e-12))
        drawn = np.maximum(drawn, 1e-290)
        return np.asarray(drawn / drawn.sum(axis=1, keepdims=True), dtype=np.float64)


def concentration(counts: Ints) -> float:
    """How sure the overall shares make one of an item's shares, in labels: (1 - rho) / rho.

    rho is the intraclass correlation: (agreement - chance) / (1 - chance), agreement that of two labels of
    one item (Landis and Koch 1977). Small values: each item has a label of its own.
    """
    n = counts.sum(axis=1).astype(np.float64)
    several = n > 1
    if not several.any():
        return _LEAST
    some = counts[several].astype(np.float64)
    m = n[several]
    agreement = float(((some * (some - 1)).sum(axis=1) / (m * (m - 1))).mean())
    shares = counts.sum(axis=0) / n.sum()
    chance = float((shares**2).sum())
    if chance > 1 - 1e-9:
        return _LEAST
    rho = min(max((agreement - chance) / (1 - chance), _LEAST), 1 - _LEAST)
    return (1 - rho) / rho


def multinomial(rng: np.random.Generator, sizes: Ints, shares: Floats) -> Ints:
    """int64 [N, K]: so many labels drawn from the shares of each row."""
    drawn: Ints = rng.multinomial(sizes, shares)
    return drawn
