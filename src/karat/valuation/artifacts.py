"""Artifacts of labels, preferences and texts as sums over records, and how good probabilities are.

An artifact is measured in training data and in a model's answers by the same function, so that the
difference says whether training made it larger: the amplification index. Knows no trainer and no file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from karat.auditing import shares
from karat.training.pairs import Pairs
from karat.training.written import words as words_of

Floats = NDArray[np.float64]

MEANING = {
    "mode_share": "share of the label that is most frequent in training",
    "unevenness": "1 - H / log K: 0 where all labels are equally frequent, 1 where one has all",
    "tvd": "distance of the label shares to the gold ones of the human test records",
    "tie_share": "share of ties",
    "longer_share": "share of choices for the longer response, where one is longer and there is no tie",
    "first_share": "share of choices for the response that stands first, without ties",
    "words": "mean number of words of a text",
    "repeated": "share of the words of a text that stand in it before",
}
BINS = 15
"""of confidence, equally wide (Guo et al. 2017)"""


def of_labels(said: Floats, pairs: Pairs | None = None) -> dict[str, Floats]:
    """Return statistics [n, k] by artifact from how much of each label a record has, [n, classes].

    With pairs the classes are a, b and perhaps tie, and the artifacts are those of preferences.
    """
    if pairs is None:
        return dict.fromkeys(("mode_share", "unevenness", "tvd"), said)
    first, second = said[:, 0], said[:, 1]
    tie = said[:, 2] if said.shape[1] > 2 else np.zeros(len(said))
    longer = np.array([len(one) - len(other) for one, other in zip(pairs.a, pairs.b)])
    unequal = longer != 0
    chosen = np.where(longer > 0, first, second)
    return {
        "tie_share": np.column_stack([tie, said.sum(axis=1)]),
        "longer_share": np.column_stack([chosen * unequal, (first + second) * unequal]),
        "first_share": np.column_stack([first, first + second]),
    }


def of_texts(texts: Sequence[str]) -> dict[str, Floats]:
    """Return statistics [n, 2] by artifact of texts."""
    split = [words_of(text) for text in texts]
    words = np.array([len(row) for row in split], dtype=np.float64)
    distinct = np.array([len(set(row)) for row in split], dtype=np.float64)
    ones = np.ones(len(words))
    repeated = np.where(words > 0, 1 - distinct / np.maximum(words, 1), 0.0)
    return {"words": np.column_stack([words, ones]), "repeated": np.column_stack([repeated, ones])}


def finish(name: str, totals: Floats, *, target: Floats, mode: int) -> Floats:
    """Return the artifact [t] from sums [t, k]. target [classes]: gold shares; mode: place of a label."""
    if name in ("mode_share", "unevenness", "tvd"):
        part = totals / np.maximum(totals.sum(axis=-1, keepdims=True), 1e-12)
        if name == "mode_share":
            return np.asarray(part[..., mode])
        if name == "unevenness":
            return np.asarray(1 - shares.measure(part, part, "entropy"))
        return shares.measure(part, target, "tvd")
    return np.asarray(totals[..., 0] / np.maximum(totals[..., 1], 1e-12))


def confidences(probabilities: Floats, gold: NDArray[np.int64]) -> Floats:
    """Return [n, 2 + 3 bins]: Brier score, whether right, and by bin of confidence: 1, confidence, right.

    gold [n] are places of the columns; -1 where no column is the right label.
    """
    n, classes = probabilities.shape
    true = np.zeros((n, classes))
    known = gold >= 0
    true[np.flatnonzero(known), gold[known]] = 1.0
    brier = ((probabilities - true) ** 2).sum(axis=1) + ~known  # an unknown label has its 1 - 0 too
    said = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n), said]
    right = (said == gold).astype(np.float64)
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    bins = np.zeros((n, BINS))
    bins[np.arange(n), place] = 1.0
    return np.column_stack([brier, right, bins, bins * confidence[:, None], bins * right[:, None]])


def calibration_error(totals: Floats) -> Floats:
    """Return the expected calibration error [t] from sums of `confidences` (Guo et al. 2017, equation 3)."""
    n = totals[:, 2 : 2 + BINS].sum(axis=1)
    gaps = totals[:, 2 + BINS : 2 + 2 * BINS] - totals[:, 2 + 2 * BINS :]
    return np.asarray(np.abs(gaps).sum(axis=1) / np.maximum(n, 1e-12))


def calibrated_by_chance(probabilities: Floats, *, trials: int = 100, seed: int = 0) -> float:
    """Return the mean calibration error that perfectly calibrated probabilities would show, from n alone."""
    rng = np.random.default_rng([seed, 0xECE])
    confidence = probabilities.max(axis=1)
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    found = []
    for _ in range(trials):
        right = rng.random(len(confidence)) < confidence
        gap = np.bincount(place, weights=confidence - right, minlength=BINS)
        found.append(np.abs(gap).sum() / len(confidence))
    return float(np.mean(found))


def described(texts: Sequence[str]) -> dict[str, Floats]:
    """Return plain attributes of each text [n]: words, letters a word, repeated words, signs a word."""
    split = [words_of(text) for text in texts]
    words = np.array([len(row) for row in split], dtype=np.float64)
    letters = np.array([sum(len(word) for word in row) for row in split], dtype=np.float64)
    signs = np.array([sum(not (c.isalnum() or c.isspace()) for c in text) for text in texts], np.float64)
    some = np.maximum(words, 1)
    return {
        "words": words,
        "letters_a_word": letters / some,
        "repeated": of_texts(texts)["repeated"][:, 0],
        "signs_a_word": signs / some,
    }
