from __future__ import annotations

import math
import random
from itertools import combinations

import numpy as np
import pytest

from karat.simulation.base import Verdict
from karat.simulation.measures import distinct_estimate, distinct_ngrams, levenshtein_diversity, measure
from karat.simulation.tasks.logic import Logic


def edit_distance(a, b) -> int:
    """The textbook recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def brute(rows) -> float:
    pairs = list(combinations(rows, 2))
    return sum(edit_distance(a, b) / max(len(a), len(b)) for a, b in pairs) / len(pairs)


def test_exact_diversity_is_that_of_all_pairs() -> None:
    """Merging equal texts changes nothing: the value is the mean over all pairs of records."""
    task = Logic(depth_max=3)
    rows = [task.tokens(text) for text in task.sample(80, seed=2)]
    value, exact = levenshtein_diversity(rows)
    assert exact
    assert brute(rows) == pytest.approx(value.value, abs=1e-6)


def test_the_interval_is_that_of_a_jackknife_over_records() -> None:
    """The U-statistic's error agrees with leaving out one record at a time."""
    task = Logic(depth_max=3)
    rows = [task.tokens(text) for text in task.sample(60, seed=5)]
    left_out = [levenshtein_diversity(rows[:i] + rows[i + 1 :])[0].value for i in range(60)]
    error = math.sqrt(59 / 60 * sum((v - np.mean(left_out)) ** 2 for v in left_out))
    assert error == pytest.approx(levenshtein_diversity(rows)[0].error, rel=0.05)


def test_sampled_diversity_agrees_with_the_exact_one() -> None:
    """Sampling is off by its own error at most, and says that it sampled."""
    task = Logic(depth_max=5)
    for seed in range(5):
        rows = [task.tokens(text) for text in task.sample(1500, seed=seed)]
        exact, _ = levenshtein_diversity(rows)
        sampled, whole = levenshtein_diversity(rows, seed=seed, exact_pairs=0)
        assert not whole
        assert exact.value == pytest.approx(sampled.value, abs=0.006)  # 4 standard errors of 60,000 pairs
        assert exact.error == pytest.approx(sampled.error, rel=0.2)


def test_a_vocabulary_may_be_larger_than_the_first_plane_of_characters() -> None:
    """Words beyond the 55,000th still get characters of their own."""
    rows = [[str(i), str(i + 1)] for i in range(0, 120_000, 2)]
    value, _ = levenshtein_diversity(rows)
    assert 1.0 == value.value


def test_nothing_and_one_text_have_no_diversity() -> None:
    """One record, or equal records, give zero and no error."""
    assert 0.0 == levenshtein_diversity([["a"]])[0].value
    assert 0.0 == levenshtein_diversity([["a", "b"]] * 9)[0].value


def test_counts_of_distinct_texts_have_honest_errors() -> None:
    """The Good-Toulmin error is the spread of the count over repeated draws, within a quarter."""
    shares = np.array([1 / (i + 1) for i in range(3000)])
    shares /= shares.sum()
    generator = np.random.default_rng(0)
    found, errors = [], []
    for _ in range(200):
        _, counts = np.unique(generator.choice(3000, size=1000, p=shares), return_counts=True)
        found.append(len(counts))
        errors.append(distinct_estimate(counts.tolist()).error)
    assert float(np.std(found)) == pytest.approx(float(np.mean(errors)), rel=0.25)


def test_distinct_ngrams_by_hand() -> None:
    """a b a b, a b: three bigrams a-b of four, and b-a; n-grams do not cross texts."""
    assert 2 / 4 == distinct_ngrams([["a", "b", "a", "b"], ["a", "b"]], 2)
    assert 0.0 == distinct_ngrams([["a"]], 2)


def test_one_iteration_in_numbers_by_hand() -> None:
    """Shares, errors, entropy, Hill numbers and novelty of four texts."""
    texts = ["True", "True", "(not True)", "(True"]
    task = Logic()
    found = measure([task.tokens(text) for text in texts], task.verify(texts), known=frozenset({("True",)}))
    assert (0.75, 0.5) == (found.valid, found.correct)
    assert {"unbalanced": 1} == found.errors
    assert (3, 1) == (found.distinct, found.distinct_correct)
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert entropy == pytest.approx(found.entropy)
    assert math.exp(entropy) == pytest.approx(found.hill_1)
    assert 1 / (0.25 + 2 * 0.0625) == pytest.approx(found.hill_2)
    assert 2.0 == found.mean_length
    assert 0.5 == found.new
    low, high = found.intervals["correct"]
    assert low < 0.5 < high


def test_without_a_verifier_nothing_is_said_about_correctness() -> None:
    """None, and not 0 or 1."""
    found = measure([["a"], ["b"]])
    assert (None, None, None) == (found.valid, found.correct, found.distinct_correct)
    assert "correct" not in found.intervals


def test_intervals_cover() -> None:
    """The 95% interval of the diversity holds the population's value in about 95 of 100 draws."""
    task, held = Logic(depth_max=3), 0
    population = [task.tokens(text) for text in task.sample(4000, seed=77)]
    truth = levenshtein_diversity(population)[0].value
    chooser = random.Random(1)
    for _ in range(100):
        rows = chooser.sample(population, 100)
        found = measure(rows, [Verdict("true")] * 100)
        low, high = found.intervals["levenshtein"]
        held += low <= truth <= high
    assert 88 <= held
