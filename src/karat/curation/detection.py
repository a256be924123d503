"""Detectors of human text beside the n-gram one, and what their probabilities are worth. Knows no ordering.

Each gives P(human) of texts that it has not been fitted on: over the vectors of an encoder, or from one
number a text (a curvature), set on the scale of probabilities by a curve that was fitted on the other folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics
from karat.auditing.detector import (
    DENSE_ROWS,
    CrossFit,
    assign_folds,
    calibrated,
    group_ids,
    out_of_fold,
    signs,
)
from karat.auditing.judged_tables import fisher_p

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
CODE = "detector_false_positives"
_FEW = 10  # human texts of a group below which its rate is not compared


def from_vectors(
    texts: Sequence[str], vectors: Floats, humans: int, *, groups: Sequence[Any] | None, folds: int, seed: int
) -> CrossFit:
    """P(human) of texts, human ones first, by ridge regression on vectors [n, d]; copies share a fold."""
    import scipy.sparse

    sides = np.arange(len(texts)) < humans
    fold = assign_folds(sides, group_ids(texts, groups), folds=folds, seed=seed)
    rows = np.asarray(vectors, dtype=np.float32)
    kernel = rows @ rows.T if len(rows) <= DENSE_ROWS else None
    scores = out_of_fold(scipy.sparse.csr_matrix(rows), signs(sides)[:, None], fold, kernel=kernel)[:, 0]
    chance = calibrated(scores, sides, fold)
    return CrossFit(chance[:humans], chance[humans:], fold[:humans], fold[humans:])


def from_scores(
    texts: Sequence[str], scores: Floats, humans: int, *, groups: Sequence[Any] | None, folds: int, seed: int
) -> CrossFit:
    """P(human) of texts, human ones first, from one score each, the higher the more human; NaN stays NaN."""
    known = np.flatnonzero(np.isfinite(scores))
    sides = known < humans
    kept = [texts[i] for i in known.tolist()]
    named = None if groups is None else [groups[i] for i in known.tolist()]
    fold = np.full(len(texts), -1, dtype=np.int64)
    fold[known] = assign_folds(sides, group_ids(kept, named), folds=folds, seed=seed)
    chance = np.full(len(texts), np.nan)
    chance[known] = calibrated(scores[known], sides, fold[known])
    return CrossFit(chance[:humans], chance[humans:], fold[:humans], fold[humans:])


def calibration_error(human: Floats, synthetic: Floats, *, bins: int = 10) -> float:
    """The expected calibration error of P(human): |mean P - share of human texts|, averaged over equal bins.

    Source: Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017.
    """
    chance = np.r_[human, synthetic]
    truth = np.r_[np.ones(len(human)), np.zeros(len(synthetic))]
    place = np.minimum((chance * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    gaps = np.abs(
        np.bincount(place, weights=chance, minlength=bins) - np.bincount(place, weights=truth, minlength=bins)
    )
    return float(gaps[counts > 0].sum() / len(chance))


def overlap(human: Floats, synthetic: Floats, bins: int = 20) -> float:
    """Return the shared area of two histograms of scores: 1 for equal ones, 0 for separate ones."""
    edges = np.linspace(0, 1, bins + 1)
    one = np.histogram(human, edges)[0] / len(human)
    other = np.histogram(synthetic, edges)[0] / len(synthetic)
    return float(np.minimum(one, other).sum())


def accused(human: Floats, synthetic: Floats) -> Flags:
    """Which human texts are taken for synthetic, both sides being equally likely beforehand."""
    share = len(human) / (len(human) + len(synthetic))
    return np.asarray(human / share < (1 - human) / (1 - share), dtype=np.bool_)


@dataclass(frozen=True)
class Rates:
    """How often human texts are taken for synthetic, by group: name -> (hits, n, low, high, Holm's p)."""

    groups: Mapping[str, tuple[int, int, float, float, float]]
    field: str

    @property
    def figures(self) -> dict[str, float]:
        """False-positive rates with their intervals."""
        found: dict[str, float] = {}
        for name, (hits, n, low, high, p) in self.groups.items():
            found |= {f"fpr[{name}]": hits / n, f"fpr_low[{name}]": low, f"fpr_high[{name}]": high}
            found[f"fpr_p[{name}]"] = p
        return found

    def warning(self, level: float = 0.05) -> tuple[tuple[str, str], ...]:
        """A warning that names the groups whose rate differs from that of all others."""
        odd = {name: row for name, row in self.groups.items() if row[4] < level}
        if not odd:
            return ()
        told = ", ".join(
            f"{name} {hits / n:.1%} [{low:.1%}, {high:.1%}] of {n:,}"
            for name, (hits, n, low, high, _) in sorted(odd.items(), key=lambda one: -one[1][0] / one[1][1])
        )
        total, wrong = sum(r[1] for r in self.groups.values()), sum(r[0] for r in self.groups.values())
        return (
            (
                CODE,
                f"the detector takes human texts for synthetic at rates that differ by {self.field}: {told}, "
                f"of all {wrong / total:.1%}; an order by it prefers the texts of some people (known of "
                "texts by learners: Liang et al. 2023)",
            ),
        )


def false_positives(wrong: Flags, groups: Sequence[Any], field: str) -> Rates:
    """The share of human texts taken for synthetic by group, each against the rest by Fisher's exact test."""
    names = np.array([str(one) for one in groups], dtype=object)
    hits_all, n_all = int(wrong.sum()), len(wrong)
    rows, p_values = {}, []
    for name in sorted(set(names.tolist())):
        mine = wrong[names == name]
        hits, n = int(mine.sum()), len(mine)
        low, high = statistics.wilson(hits, n) or (float("nan"), float("nan"))
        rows[name] = (hits, n, low, high)
        enough = _FEW <= n < n_all
        p_values.append(fisher_p((hits, n, hits_all - hits, n_all - n)) if enough else None)
    held = statistics.holm(p_values)
    return Rates({name: (*row, 1.0 if p is None else p) for (name, row), p in zip(rows.items(), held)}, field)
