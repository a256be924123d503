"""What is measured in each iteration: correctness, diversity, coverage, with intervals. Knows no loop.

Distances between all pairs are exact: equal texts are merged and counted. Above a bound on the number of
distinct pairs they are sampled, and the interval then holds the sampling error as well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.statistics import Estimate, jackknife, wilson
from karat.simulation.base import Verdict
from karat.simulation.repetition import self_bleu

EXACT_PAIRS = 4_000_000
"""Up to this many pairs of distinct texts the mean distance is exact (about half a second on one core).

It is for texts of up to 16 tokens; longer ones cost more, and fewer pairs of them are compared exactly.
"""

SAMPLED_PARTNERS = 40
"""Partners for each text where pairs are sampled."""

GROUPS = 10
"""Groups of texts of which the jackknife leaves out one at a time."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measures:
    """One iteration's samples in numbers; None where the task has no verifier."""

    n: int
    valid: float | None
    correct: float | None
    errors: dict[str, int]  # texts of each class of error
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
    lengths: dict[str, int] = field(default_factory=dict)  # texts of each bin of token lengths
    depths: dict[str, int] = field(default_factory=dict)  # valid texts of each depth
    mean_depth: float | None = None  # of valid texts
    self_bleu: float | None = None  # 0 to 1, among a hundred texts; None for a single text
    coverage: float | None = None  # share of the support sample's rows that some text equals
    coverage_rare: float | None = None  # the same of its rows that the support sample holds once


def measure(
    tokens: Sequence[Sequence[str]],
    verdicts: Sequence[Verdict] | None = None,
    *,
    known: frozenset[tuple[str, ...]] | None = None,
    support: Sequence[tuple[str, ...]] | None = None,
    orders: Sequence[int] = (1, 2, 3),
    seed: int = 0,
    exact_pairs: int = EXACT_PAIRS,
) -> Measures:
    """Measure token lists (one for each text), and their verdicts where a verifier gave them.

    known: rows that do not count as new. support: the rows of an independent real sample, whose coverage is
    asked. orders: of the n-grams that are counted. exact_pairs: up to so many pairs no pair is left out.
    """
    n = len(tokens)
    assert n > 0, "nothing to measure"
    rows = [tuple(row) for row in tokens]
    counts = Counter(rows)
    distance, exact = levenshtein_diversity(rows, seed=seed, exact_pairs=exact_pairs)
    shares = np.asarray(list(counts.values()), dtype=np.float64) / n
    entropy, hill_2 = _entropy(shares, n), _hill_2(shares, n)
    length = _mean([len(row) for row in rows])
    bleu = self_bleu(rows, seed=seed)
    intervals = {
        "levenshtein": _interval(distance, (0.0, 1.0)),
        "distinct": _interval(distinct_estimate(list(counts.values())), (1.0, float(n))),
        "entropy": _interval(entropy, (0.0, None)),
        "hill_2": _interval(hill_2, (1.0, None)),
        "mean_length": _interval(length, (0.0, None)),
    }
    intervals["hill_1"] = (math.exp(intervals["entropy"][0]), math.exp(intervals["entropy"][1]))
    if bleu is not None:
        intervals["self_bleu"] = _interval(bleu, (0.0, 1.0))
    grams = {str(order): ngram_estimate(rows, order) for order in orders}
    intervals |= {f"distinct_{order}": _interval(found, (0.0, 1.0)) for order, found in grams.items()}
    new = None if known is None else sum(row not in known for row in rows)
    if new is not None:
        intervals["new"] = wilson(new, n) or (0.0, 1.0)
    judged = _judged(rows, verdicts, intervals)
    covered = _covered(counts, support, intervals)
    return Measures(
        n=n,
        **judged,
        levenshtein=distance.value,
        distinct=len(counts),
        entropy=entropy.value,
        hill_1=math.exp(entropy.value),
        hill_2=hill_2.value,
        mean_length=length.value,
        distinct_n={order: found.value for order, found in grams.items()},
        new=None if new is None else new / n,
        intervals=intervals,
        sampled=not exact,
        lengths=length_histogram([len(row) for row in rows]),
        self_bleu=None if bleu is None else bleu.value,
        coverage=covered[0],
        coverage_rare=covered[1],
    )


def _judged(
    rows: Sequence[tuple[str, ...]], verdicts: Sequence[Verdict] | None, intervals: dict[str, Interval]
) -> dict[str, Any]:
    """Return what verdicts say, as fields of Measures, and add its intervals."""
    if verdicts is None:
        return {"valid": None, "correct": None, "errors": {}, "distinct_correct": None}
    n, good, right = len(rows), sum(v.valid for v in verdicts), sum(v.correct for v in verdicts)
    intervals["valid"] = wilson(good, n) or (0.0, 1.0)
    intervals["correct"] = wilson(right, n) or (0.0, 1.0)
    held = Counter(row for row, verdict in zip(rows, verdicts) if verdict.correct)
    intervals["distinct_correct"] = _interval(distinct_estimate(list(held.values())), (0.0, float(n)))
    errors = Counter(verdict.kind for verdict in verdicts if not verdict.valid)
    intervals |= {f"error:{kind}": wilson(times, n) or (0.0, 1.0) for kind, times in errors.items()}
    depths = [verdict.depth for verdict in verdicts if verdict.valid]
    depth = _mean(depths) if depths else None
    if depth is not None:
        intervals["mean_depth"] = _interval(depth, (0.0, None))
    return {
        "valid": good / n,
        "correct": right / n,
        "errors": dict(sorted(errors.items())),
        "distinct_correct": len(held),
        "depths": {str(deep): times for deep, times in sorted(Counter(depths).items())},
        "mean_depth": None if depth is None else depth.value,
    }


def _covered(
    counts: Counter[tuple[str, ...]],
    support: Sequence[tuple[str, ...]] | None,
    intervals: dict[str, Interval],
) -> tuple[float | None, float | None]:
    """Return the coverage of the whole support and of what is rare in it, and add their intervals."""
    if not support:
        return None, None
    wanted = Counter(map(tuple, support))
    rare = Counter({row: 1 for row, times in wanted.items() if times == 1})
    found: list[float | None] = []
    for name, part in (("coverage", wanted), ("coverage_rare", rare)):
        if not part:
            found.append(None)
            continue
        estimate, interval = coverage_estimate(counts, part)
        intervals[name] = interval
        found.append(estimate.value)
    return found[0], found[1]


def coverage_estimate(
    counts: Mapping[tuple[str, ...], int], wanted: Mapping[tuple[str, ...], int]
) -> tuple[Estimate, Interval]:
    """Return the share of the wanted rows that were written at least once, and its 95% interval.

    counts: how often each row was written. wanted: how often an independent real sample holds each row, so
    that the share estimates how much of the real distribution n texts reach; it grows with n.
    Two errors add up: that of a share among finitely many real rows, and that of the written texts, where
    Var = sum w^2 q (1 - q) with q the chance that a row is written at all. Under Poisson sampling the sum
    of w^2 over rows written an odd number of times less that over rows written an even number of times
    has just this expectation (the argument of Good and Toulmin 1956, with weights).
    """
    total = sum(wanted.values())
    hits = sum(times for row, times in wanted.items() if row in counts)
    share, variance, once = hits / total, 0.0, 0.0
    for row, times in wanted.items():
        seen = counts.get(row, 0)
        if seen:
            variance += (times / total) ** 2 * (1 if seen % 2 else -1)
            once += (times / total) ** 2 * (seen == 1)
    written = min(max(variance, 0.0), once)
    estimate = Estimate(share, math.sqrt(share * (1 - share) / total + written), max(1, total - 1))
    of_rows = wilson(hits, total) or (0.0, 1.0)
    low, high = _interval(estimate, (0.0, 1.0))
    # Where all or nothing is covered only Wilson's interval knows that there is an error at all.
    return estimate, (min(low, of_rows[0]), max(high, of_rows[1]))


def length_histogram(lengths: Sequence[int]) -> dict[str, int]:
    """Return how many texts have each length in tokens, in bins that are the same for all corpora."""
    found = Counter(map(length_bin, lengths))
    ordered = sorted(found, key=lambda name: int(name.partition("-")[0]))
    return {name: found[name] for name in ordered}


def length_bin(length: int) -> str:
    """Return the bin of a length: 0, 1, 2, 3, 4-5, 6-7, 8-11, 12-15 and so on, two bins a doubling."""
    if length < 4:
        return str(length)
    half = 1 << (length.bit_length() - 2)
    low = length // half * half
    return f"{low}-{low + half - 1}"


def _mean(values: Sequence[int]) -> Estimate:
    found = np.asarray(values, dtype=np.float64)
    error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else 0.0
    return Estimate(float(found.mean()), error, len(found) - 1)


def levenshtein_diversity(
    tokens: Sequence[Sequence[str]], *, seed: int = 0, exact_pairs: int = EXACT_PAIRS
) -> tuple[Estimate, bool]:
    """Return (mean over all pairs of edit distance / length of the longer text, whether all pairs were used).

    Source: Briesch et al. 2023 (their normaliser is not stated; the longer length is ours). The error is
    that of a U-statistic: 4/n times the variance of a text's mean distance, plus the sampling error where
    pairs are sampled.
    """
    n = len(tokens)
    if n < 2:
        return Estimate(0.0, 0.0, 0), True
    texts = as_strings(tokens)
    counts = Counter(texts)
    distinct = list(counts)
    # Fewer than five texts give no two partners each, whose spread is the error of sampling.
    exact = n < 5 or _costs(distinct) * len(distinct) * (len(distinct) - 1) / 2 <= exact_pairs
    if not exact:
        return Estimate(*_sampled(texts, seed), n - 1), False
    weights = np.asarray([counts[text] for text in distinct], dtype=np.float64)
    value, between = _exact(distinct, weights, n)
    return Estimate(value, math.sqrt(4 * between / n), n - 1), True


def _costs(texts: Sequence[str]) -> float:
    """Return what one distance costs, in distances of texts of at most 16 tokens: 64 tokens take one word."""
    length = sum(map(len, texts)) / len(texts)
    return max(1.0, length * math.ceil(length / 64) / 16)


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
    is drawn equally often. The error adds what finitely many texts and finitely many partners contribute.
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
    difference by f1 - f2 + f3 - ..., where f_k texts were seen k times.
    """
    seen = Counter(counts)
    variance = sum((1 if k % 2 else -1) * times for k, times in seen.items())
    # The alternating series can be off either way; the variance of a count of distinct things is at most f1.
    error = math.sqrt(min(max(variance, 0), seen.get(1, 0)))
    return Estimate(float(len(counts)), error, max(1, sum(counts) - 1))


def distinct_ngrams(tokens: Sequence[Sequence[str]], order: int) -> float:
    """Distinct n-grams / n-grams (Li et al. 2016); n-grams do not cross texts. 0 where there are none."""
    return ngram_estimate(tokens, order).value


def ngram_estimate(tokens: Sequence[Sequence[str]], order: int) -> Estimate:
    """The same with its error: the jackknife over GROUPS groups of texts, which errs on the wide side."""
    n = len(tokens)
    groups = min(GROUPS, n)
    held: dict[tuple[str, ...], int] = {}  # the only group that holds an n-gram, or -1
    totals = np.zeros(groups)
    for place, row in enumerate(map(tuple, tokens)):
        group = place % groups
        totals[group] += max(0, len(row) - order + 1)
        for start in range(len(row) - order + 1):
            gram = row[start : start + order]
            if held.setdefault(gram, group) != group:
                held[gram] = -1
    total = float(totals.sum())
    if not total:
        return Estimate(0.0, 0.0, groups - 1)
    only = np.bincount([group for group in held.values() if group >= 0], minlength=groups)
    rest = total - totals
    left_out = np.where(rest > 0, (len(held) - only) / np.maximum(rest, 1), 0.0)
    return jackknife(len(held) / total, left_out)


def _entropy(shares: NDArray[np.float64], n: int) -> Estimate:
    """Plug-in entropy in nats and its standard error (delta method); biased downwards where n is small."""
    logs = np.log(shares)
    entropy = max(0.0, float(-(shares * logs).sum()))
    error = math.sqrt(max(0.0, float((shares * logs**2).sum()) - entropy**2) / n)
    return Estimate(entropy, error, n - 1)


def _hill_2(shares: NDArray[np.float64], n: int) -> Estimate:
    """Plug-in 1 / sum p^2; its error by the delta method, Var(sum p^2) = 4 (sum p^3 - (sum p^2)^2) / n."""
    same = float((shares**2).sum())
    variance = 4 * max(0.0, float((shares**3).sum()) - same**2) / n
    return Estimate(1 / same, math.sqrt(variance) / same**2, n - 1)
