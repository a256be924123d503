"""What is measured in each iteration: correctness, diversity, coverage, with intervals. Knows no loop.

Distances between all pairs are exact: equal texts are merged and counted. Above a bound on the number of
distinct
pairs they are sampled, and the interval then holds the sampling error as well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing.statistics import Estimate, wilson
from karat.simulation.base import Verdict

EXACT_PAIRS = 4_000_000
"""Up to this many pairs of distinct texts the mean distance is exact (about half a second on one core)."""

SAMPLED_PARTNERS = 40
"""Partners for each text where pairs are sampled."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measures:
    """One iteration's samples in numbers; None where the task has no verifier."""

    n: int
    valid: float | None
    correct: float | None
    errors: dict[str, int]
    levenshtein: float
    distinct: int
    distinct_correct: int | None
    entropy: float  # nats, of the distribution over distinct texts
    hill_1: float  # exp(entropy): the effective number of texts
    hill_2: float  # 1 / sum of squared shares
    mean_length: float  # tokens
    distinct_n: dict[str, float]  # distinct n-grams / n-grams
    new: float | None  # share of the texts that the real data of iteration 0 do not hold
    intervals: dict[str, Interval]
    sampled: bool  # whether the pairs behind `levenshtein` were sampled


def measure(
    tokens: Sequence[Sequence[str]],
    verdicts: Sequence[Verdict] | None = None,
    *,
    known: frozenset[tuple[str, ...]] | None = None,
    orders: Sequence[int] = (1, 2, 3),
    seed: int = 0,
    exact_pairs: int = EXACT_PAIRS,
) -> Measures:
    """Measure token lists (one for each text), and their verdicts where a verifier gave them."""
    n = len(tokens)
    assert n > 0, "nothing to measure"
    rows = [tuple(row) for row in tokens]
    counts = Counter(rows)
    intervals: dict[str, Interval] = {}
    distance, exact = levenshtein_diversity(rows, seed=seed, exact_pairs=exact_pairs)
    intervals["levenshtein"] = _interval(distance, (0.0, 1.0))
    intervals["distinct"] = _interval(distinct_estimate(list(counts.values())), (1.0, float(n)))
    shares = np.asarray(list(counts.values()), dtype=np.float64) / n
    entropy = _entropy(shares, n)
    intervals["entropy"] = _interval(entropy, (0.0, None))
    intervals["hill_1"] = (math.exp(intervals["entropy"][0]), math.exp(intervals["entropy"][1]))
    lengths = np.asarray([len(row) for row in rows], dtype=np.float64)
    spread = float(lengths.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    length = Estimate(float(lengths.mean()), spread, n - 1)
    intervals["mean_length"] = _interval(length, (0.0, None))
    valid = correct = distinct_correct = None
    errors: dict[str, int] = {}
    if verdicts is not None:
        good, right = sum(v.valid for v in verdicts), sum(v.correct for v in verdicts)
        valid, correct = good / n, right / n
        intervals["valid"] = wilson(good, n) or (0.0, 1.0)
        intervals["correct"] = wilson(right, n) or (0.0, 1.0)
        held = Counter(row for row, verdict in zip(rows, verdicts) if verdict.correct)
        distinct_correct = len(held)
        intervals["distinct_correct"] = _interval(distinct_estimate(list(held.values())), (0.0, float(n)))
        errors = dict(sorted(Counter(v.kind for v in verdicts if not v.valid).items()))
    return Measures(
        n=n,
        valid=valid,
        correct=correct,
        errors=errors,
        levenshtein=distance.value,
        distinct=len(counts),
        distinct_correct=distinct_correct,
        entropy=entropy.value,
        hill_1=math.exp(entropy.value),
        hill_2=float(1.0 / (shares**2).sum()),
        mean_length=length.value,
        distinct_n={str(order): distinct_ngrams(rows, order) for order in orders},
        new=None if known is None else sum(row not in known for row in rows) / n,
        intervals=intervals,
        sampled=not exact,
    )


def levenshtein_diversity(
    tokens: Sequence[Sequence[str]], *, seed: int = 0, exact_pairs: int = EXACT_PAIRS
) -> tuple[Estimate, bool]:
    """Return (mean over all pairs of edit distance / length of the longer text, whether all pairs were used).

    Source: Briesch et al. 2023 (their normaliser is not stated; the longer length is ours). The error is
        that of a
    U-statistic: 4/n times the variance of a text's mean distance, plus the sampling error where pairs are
    sampled.
    """
    n = len(tokens)
    if n < 2:
        return Estimate(0.0, 0.0, 0), True
    texts = as_strings(tokens)
    counts = Counter(texts)
    distinct = list(counts)
    exact = len(distinct) * (len(distinct) - 1) // 2 <= exact_pairs
    if not exact:
        return Estimate(*_sampled(texts, seed), n - 1), False
    weights = np.asarray([counts[text] for text in distinct], dtype=np.float64)
    value, between = _exact(distinct, weights, n)
    return Estimate(value, math.sqrt(4 * between / n), n - 1), True


def _interval(estimate: Estimate, bounds: tuple[float | None, float | None]) -> Interval:
    return estimate.interval(bounds=bounds) or (estimate.value, estimate.value)


def _exact(distinct: list[str], weights: NDArray[np.float64], n: int) -> tuple[float, float]:
    """Return (mean over pairs, variance between the texts' own mean distances)."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    means = np.zeros(len(distinct))
    step = max(1, 20_000_000 // len(distinct))  # rows at once: at most 80 MB
    for start in range(0, len(distinct), step):
        block = cdist(
            distinct[start : start + step], distinct, scorer=Levenshtein.normalized_distance, dtype=np.float32
        )
        means[start : start + step] = block.astype(np.float64) @ weights / (n - 1)
    value = float(means @ weights / n)
    between = float((weights * (means - value) ** 2).sum() / (n - 1))
    return value, between


def _sampled(texts: list[str], seed: int) -> tuple[float, float]:
    """Return (mean, standard error) from each text's distance to a few random partners.

    Partners are the same for all texts in shuffled order (text i meets text i + shift), so that each text
    is drawn
    equally often. The error adds what finitely many texts and finitely many partners contribute.
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    n = len(texts)
    random = np.random.default_rng([seed, n])
    order = random.permutation(n)
    shuffled = [texts[i] for i in order]
    partners = min(SAMPLED_PARTNERS, (n - 1) // 2)
    shifts = random.choice((n - 1) // 2, size=partners, replace=False) + 1  # a pair must not come twice
    distances = np.empty((partners, n))
    for row, shift in enumerate(shifts):
        other = shuffled[shift:] + shuffled[:shift]
        distances[row] = cpdist(shuffled, other, scorer=Levenshtein.normalized_distance, dtype=np.float32)
    # Each text has `partners` distances as the first of a pair; their spread within a text and between
    # texts differ.
    within = float(distances.var(axis=0, ddof=1).mean())
    between = max(0.0, float(distances.mean(axis=0).var(ddof=1)) - within / partners)
    return float(distances.mean()), math.sqrt(4 * between / n + within / (partners * n))


def as_strings(tokens: Sequence[Sequence[str]]) -> list[str]:
    """Return each token list as a string, one character a token: what rapidfuzz is fastest on."""
    vocabulary: dict[str, str] = {}
    found = []
    for row in tokens:
        for token in row:
            if token not in vocabulary:
                number = len(vocabulary) + 1
                # The code points from D800 to DFFF are no characters.
                vocabulary[token] = chr(number if number < 0xD800 else number + 0x800)
        found.append("".join(vocabulary[token] for token in row))
    return found


def distinct_estimate(counts: Sequence[int]) -> Estimate:
    """The number of distinct texts among n draws with its error, from how often each text was seen.

    Source: for Poisson sampling Var(D_n) = E(D_2n) - E(D_n), and Good and Toulmin (1956) estimate that
        difference by
    f1 - f2 + f3 - ..., where f_k texts were seen k times.
    """
    seen = Counter(counts)
    variance = sum((1 if k % 2 else -1) * times for k, times in seen.items())
    # The alternating series can be off either way; the variance of a count of distinct things is at most f1.
    error = math.sqrt(min(max(variance, 0), seen.get(1, 0)))
    return Estimate(float(len(counts)), error, max(1, sum(counts) - 1))


def distinct_ngrams(tokens: Sequence[Sequence[str]], order: int) -> float:
    """Distinct n-grams / n-grams (Li et al. 2016); n-grams do not cross texts. 0 where there are none."""
    grams: Counter[tuple[str, ...]] = Counter()
    for row, times in Counter(map(tuple, tokens)).items():
        for start in range(len(row) - order + 1):
            grams[row[start : start + order]] += times
    total = sum(grams.values())
    return len(grams) / total if total else 0.0


def _entropy(shares: NDArray[np.float64], n: int) -> Estimate:
    """Plug-in entropy in nats and its standard error (delta method); biased downwards where n is small."""
    logs = np.log(shares)
    entropy = max(0.0, float(-(shares * logs).sum()))
    error = math.sqrt(max(0.0, float((shares * logs**2).sum()) - entropy**2) / n)
    return Estimate(entropy, error, n - 1)
