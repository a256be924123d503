"""The classifier two-sample test: AUC on unseen texts, its interval, its null by refitting. Knows no metric.

AUC is taken within each fold and averaged (weighted by pairs): scores of different folds come from different
models, and pooling them biases the area under the null downward.

The folds are not independent: fold A scores B's texts and B's model scores A's. Where the classifier has
nothing to learn, the area is a sum over pairs of texts in which each pair stands twice, so its variance is
twice what DeLong's formula gives (measured: a ratio of errors of 1.41 to 1.45 on human against human text).
The permutation null, which refits everything, measures that ratio, and the interval is widened by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from karat.auditing import detector
from karat.auditing import statistics as stats
from karat.auditing.detector import Flags, Floats, Ints
from karat.auditing.features import FeatureSpace, featurise

if TYPE_CHECKING:
    import scipy.sparse

_BINS = 10


@dataclass(frozen=True)
class Feature:
    """An n-gram that tells the sides apart, and the share of texts of each side that have it."""

    text: str
    side: str
    human: float
    synthetic: float
    weight: float
    """Its part of the gap between the mean scores of both sides; all features together make 1."""


@dataclass(frozen=True)
class Separation:
    """How well human and synthetic texts can be told apart, and what that number is worth."""

    auc: float
    error: float
    interval: tuple[float, float]
    null_mean: float
    null_error: float
    p: float
    trials: int
    folds: int
    length_auc: float
    features: tuple[Feature, ...]
    human: Floats
    """P(human) of each human text, by a model that did not see it."""
    synthetic: Floats


def separation(
    human: Sequence[str],
    synthetic: Sequence[str],
    *,
    clusters: Sequence[object] | None = None,
    trials: int = 100,
    folds: int = 5,
    features: int = 10,
    seed: int = 0,
) -> Separation:
    """Return the cross-fitted AUC of human against synthetic texts, with interval, null and telling features.

    `clusters` names for each text (human first) what it was made from: texts of one cluster stay in one fold
    and change sides together in the null. `trials` permutations are refitted; p is one-sided (better than
    chance), from the null's mean and error by Student's t, since so few trials have no tail to count.
    Raises NotEnoughData below 8 texts a side.
    """
    texts = [*human, *synthetic]
    sides = np.arange(len(texts)) < len(human)
    fold = detector.assign_folds(sides, detector.group_ids(texts, clusters), folds=folds, seed=seed)
    space, matrix = featurise(texts, words=(1, 2), chars=(2, 3, 4))
    units = detector.numbered(list(clusters)) if clusters is not None else np.arange(len(texts))
    drawn = permuted_sides(sides, fold, units, trials=trials, seed=seed)
    all_sides = np.concatenate([sides[:, None], drawn], axis=1)
    kernel = detector.gram(matrix)
    scores = detector.out_of_fold(matrix, detector.signs(all_sides), fold, kernel=kernel)
    areas, errors = fold_areas(scores, all_sides, fold)
    null, null_errors = areas[1:], errors[1:]
    null_error = float(np.std(null, ddof=1)) if trials > 1 else float("nan")
    error = float(errors[0]) * inflation(null_error, null_errors)
    probability = detector.calibrated(scores[:, 0], sides, fold)
    return Separation(
        auc=float(areas[0]),
        error=error,
        interval=area_interval(
            float(areas[0]), error, df=max(1, trials - 1), n=min(len(human), len(synthetic))
        ),
        null_mean=float(np.mean(null)) if trials else 0.5,
        null_error=null_error,
        p=upper_p(float(areas[0]), null),
        trials=trials,
        folds=int(fold.max()) + 1,
        length_auc=length_area(texts, sides, fold),
        features=telling(space, matrix, texts, sides, kernel, most=features),
        human=probability[: len(human)],
        synthetic=probability[len(human) :],
    )


def permuted_sides(sides: Flags, fold: Ints, units: Ints, *, trials: int, seed: int = 0) -> Flags:
    """Return sides [n, trials] shuffled within folds, as the null sees them.

    A unit of one side changes sides as a whole; a unit that holds both sides is shuffled within itself.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    out = np.repeat(sides[:, None], trials, axis=1)
    total = np.bincount(units)
    ahead = np.bincount(units, weights=sides)
    mixed = (ahead > 0) & (ahead < total)
    for k in np.unique(fold):
        rows = np.flatnonzero(fold == k)
        both, whole = rows[mixed[units[rows]]], rows[~mixed[units[rows]]]
        names, member = np.unique(units[whole], return_inverse=True)
        labels = ahead[names] > 0
        for trial in range(trials):
            out[whole, trial] = rng.permutation(labels)[member]
            if len(both):
                shuffled = np.lexsort((rng.random(len(both)), units[both]))
                ordered = np.argsort(units[both], kind="stable")
                out[both[ordered], trial] = sides[both[shuffled]]
    return out


def fold_areas(scores: Floats, sides: Flags, fold: Ints) -> tuple[Floats, Floats]:
    """Return for each column of scores and sides [n, k] the mean area over folds and DeLong's error."""
    k = scores.shape[1]
    area, variance, weight = np.zeros(k), np.zeros(k), np.zeros(k)
    # Equal texts must tie exactly, which float32 products do not promise. Scores are of the order of the
    # targets, -1 and 1; where a corpus is compared with itself they are nothing but rounding, about 1e-6.
    scores = np.round(scores, 4)
    for one in np.unique(fold):
        rows = fold == one
        for column in range(k):
            ahead = sides[rows, column]
            values = scores[rows, column]
            pairs = float(ahead.sum()) * float((~ahead).sum())
            if pairs == 0:
                continue
            found = stats.auc(values[ahead], values[~ahead])
            area[column] += pairs * found.auc
            variance[column] += (pairs * np.nan_to_num(found.error)) ** 2
            weight[column] += pairs
    weight = np.maximum(weight, 1)
    return area / weight, np.sqrt(variance) / weight


def inflation(null_error: float, null_errors: Floats) -> float:
    """Return by how much DeLong's error falls short of the true one, measured under the null; at least 1."""
    expected = float(np.sqrt(np.mean(np.square(null_errors)))) if len(null_errors) else 0.0
    if expected == 0 or not np.isfinite(null_error):
        return float(np.sqrt(2))
    return max(1.0, null_error / expected)


def area_interval(
    area: float, error: float, *, df: float, n: int, level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of an area on the logit scale, where it stays within 0 and 1.

    An area of 0 or 1 has no error by DeLong's formula; it is treated as half a misplaced text of n.
    """
    if error == 0 and area in (0.0, 1.0):
        error = float(np.sqrt(0.5) / n)
    centre = min(max(area, 0.5 / n), 1 - 0.5 / n) if area in (0.0, 1.0) else area
    reach = stats.t_quantile(0.5 + level / 2, df) * error / (centre * (1 - centre))
    middle = np.log(centre / (1 - centre))
    low, high = 1 / (1 + np.exp(-np.clip([middle - reach, middle + reach], -700, 700)))
    return min(float(low), area), max(float(high), area)


def upper_p(observed: float, null: Floats) -> float:
    """Return P(null >= observed) by Student's t with the null's mean and error."""
    trials = len(null)
    if trials < 2:
        return float("nan")
    error = float(np.std(null, ddof=1)) * np.sqrt(1 + 1 / trials)
    gap = observed - float(np.mean(null))
    if error < 1e-12:
        return 1.0 if gap <= 1e-12 else 1 / (trials + 1)
    two_sided = stats.t_p(gap / error, trials - 1)
    return two_sided / 2 if gap > 0 else 1 - two_sided / 2


def length_area(texts: Sequence[str], sides: Flags, fold: Ints) -> float:
    """Return the out-of-fold AUC of length alone: how human each tenth of the lengths is.

    Tenths and not the length itself, because texts that are neither short nor long tell a side too.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    cuts = np.unique(np.quantile(lengths, np.arange(1, _BINS) / _BINS))
    bins = np.searchsorted(cuts, lengths, side="left")
    size = len(cuts) + 1
    scores = np.empty(len(texts))
    for k in np.unique(fold):
        out = fold == k
        ahead = np.bincount(bins[~out], weights=sides[~out], minlength=size)
        share = (ahead + 1) / (np.bincount(bins[~out], minlength=size) + 2)
        scores[out] = share[bins[out]]
    return float(fold_areas(scores[:, None], sides[:, None], fold)[0][0])


def telling(
    space: FeatureSpace,
    matrix: scipy.sparse.csr_matrix,
    texts: Sequence[str],
    sides: Flags,
    kernel: NDArray[np.float32] | None,
    *,
    most: int,
) -> tuple[Feature, ...]:
    """Return the words that separate the sides most, and character n-grams where these show another style.

    A feature's part is its weight times the gap between its means, as a share of the whole gap of the mean
    scores. Character n-grams are named only if they hold a capital, a mark or two spaces: other ones are
    pieces of words.
    """
    if most < 1 or not len(space.keys):
        return ()
    weights, _ = detector.ridge(matrix, detector.signs(sides)[:, None], kernel=kernel)
    present = matrix.astype(bool).astype(np.float32)
    shares = [np.asarray(present[flag].mean(axis=0)).ravel() for flag in (sides, ~sides)]
    means = [np.asarray(matrix[flag].mean(axis=0)).ravel() for flag in (sides, ~sides)]
    part = weights[:, 0] * (means[0] - means[1])
    part = part / max(1e-12, float(np.abs(part.sum())))
    found: list[Feature] = []
    for side, sign in (("human", 1), ("synthetic", -1)):
        gain = np.where(np.sign(shares[0] - shares[1]) == sign, part, 0.0)
        for kind, count in ((space.word, most), (~space.word, 20 * most)):
            order = np.argsort(-np.where(kind, gain, 0.0), kind="stable")[:count]
            order = order[gain[order] > 0]
            names = space.spell(texts, order.tolist())
            rows = [
                Feature(name, side, float(shares[0][c]), float(shares[1][c]), float(part[c]))
                for name, c in zip(names, order.tolist())
            ]
            found.extend(rows if kind is space.word else _styles(rows, most // 2))
    return tuple(found)


def _styles(rows: Sequence[Feature], most: int) -> list[Feature]:
    """Return the character n-grams that a reader of the words alone would miss, none inside another."""
    kept: list[Feature] = []
    for row in rows:
        bare = row.text.strip(" ")
        core = bare or row.text
        odd = any(c.isupper() or not (c.isalnum() or c.isspace()) for c in bare) or "  " in row.text
        inside = any(core in other.text or other.text.strip(" ") in row.text for other in kept)
        if len(kept) < most and odd and len(bare) != len(row.text) - 2 and not inside:
            kept.append(row)
    return kept
