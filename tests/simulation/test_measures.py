from __future__ import annotations

import math
import random
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest

from karat.auditing.statistics import jackknife
from karat.simulation.base import Verdict
from karat.simulation.measures import (
    coverage_estimate,
    distinct_estimate,
    distinct_ngrams,
    length_bin,
    levenshtein_diversity,
    measure,
    ngram_estimate,
)
from karat.simulation.repetition import self_bleu
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
        low, high = sampled.interval() or (0.0, 0.0)
        assert low <= exact.value <= high


def test_long_texts_are_sampled_sooner() -> None:
    """A distance of long texts costs more; the answer says that it sampled, and holds the exact one."""
    chance = random.Random(0)
    rows = [[str(chance.randrange(50)) for _ in range(chance.randrange(60, 140))] for _ in range(300)]
    exact, whole = levenshtein_diversity(rows)
    sampled, part = levenshtein_diversity(rows, exact_pairs=300 * 299 // 2)
    assert (True, False) == (whole, part)
    low, high = sampled.interval() or (0.0, 0.0)
    assert low <= exact.value <= high


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


# --- coverage of real data ------------------------------------------------------------------------


def test_coverage_is_the_share_of_real_rows_that_are_written() -> None:
    """By brute force: each row of another real sample is looked up, and each that it holds only once."""
    task = Logic(depth_max=4)
    rows = [tuple(task.tokens(text)) for text in task.sample(400, seed=1)]
    support = [tuple(task.tokens(text)) for text in task.sample(300, seed=2)]
    found = measure(rows, support=support)
    assert sum(row in rows for row in support) / 300 == found.coverage
    rare = [row for row in support if support.count(row) == 1]
    assert sum(row in rows for row in rare) / len(rare) == found.coverage_rare
    assert found.coverage_rare < found.coverage
    assert found.intervals["coverage"][0] < found.coverage < found.intervals["coverage"][1]
    assert found.intervals["coverage_rare"][0] < found.coverage_rare < found.intervals["coverage_rare"][1]


def test_a_real_sample_without_rare_rows_says_nothing_of_them() -> None:
    """None, and not 0; without a support neither is known."""
    found = measure([["a"], ["b"]], support=[("a",), ("a",), ("c",), ("c",)])
    assert (0.5, None) == (found.coverage, found.coverage_rare)
    assert (None, None) == (measure([["a"]]).coverage, measure([["a"]]).coverage_rare)


def test_the_interval_of_coverage_holds_what_n_texts_reach_on_average() -> None:
    """95% intervals over fresh texts and fresh real samples hold the expected one in 91 to 99 of 100."""
    shares = 1 / np.arange(1, 601)
    shares /= shares.sum()
    generator, held, trials = np.random.default_rng(4), 0, 300
    expected = float((shares * (1 - (1 - shares) ** 300)).sum())
    for _ in range(trials):
        written, real = (generator.choice(600, size=size, p=shares) for size in (300, 400))
        counts = [Counter((str(i),) for i in draws) for draws in (written, real)]
        _, (low, high) = coverage_estimate(*counts)
        held += low <= expected <= high
    assert 0.91 * trials <= held <= 0.99 * trials


def test_nothing_covered_has_an_interval_all_the_same() -> None:
    """No hit among 50 real rows is not certainty: Wilson's interval."""
    _, (low, high) = coverage_estimate({("a",): 3}, {(str(i),): 1 for i in range(50)})
    assert 0.0 == low
    assert 0.02 < high < 0.1


# --- histograms -----------------------------------------------------------------------------------


def test_histograms_hold_every_text() -> None:
    """Lengths and depths by brute force; bins do not depend on the texts."""
    task = Logic(depth_max=4)
    texts = [*task.sample(200, seed=3), "(True", "and"]
    rows, verdicts = [task.tokens(text) for text in texts], task.verify(texts)
    found = measure(rows, verdicts)
    assert len(texts) == sum(found.lengths.values())
    for name, times in found.lengths.items():
        low, _, high = name.partition("-")
        assert sum(int(low) <= len(row) <= int(high or low) for row in rows) == times
    depths = [verdict.depth for verdict in verdicts if verdict.valid]
    assert {str(deep): depths.count(deep) for deep in sorted(set(depths))} == found.depths
    assert sum(depths) / len(depths) == pytest.approx(found.mean_depth)
    assert 2 / 202 == pytest.approx(sum(found.errors.values()) / found.n)


def test_bins_of_lengths_leave_no_gap() -> None:
    """Every length has one bin; bins follow each other; two of them double the length."""
    names = list(dict.fromkeys(map(length_bin, range(200))))
    ends = [tuple(map(int, name.split("-"))) for name in names]
    assert [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32] == [one[0] for one in ends[:11]]
    assert all(before[-1] + 1 == after[0] for before, after in pairwise(ends))


# --- repetition -----------------------------------------------------------------------------------


def test_self_bleu_is_that_of_nltk() -> None:
    """Smoothing method 1, each text against all others, up to 4-grams."""
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    task = Logic(depth_max=4)
    rows = [tuple(task.tokens(text)) for text in task.sample(40, seed=6)]
    smooth = bleu.SmoothingFunction().method1
    each = [
        bleu.sentence_bleu(rows[:i] + rows[i + 1 :], row, smoothing_function=smooth)
        for i, row in enumerate(rows)
    ]
    assert sum(each) / 40 == pytest.approx(self_bleu(rows).value, abs=1e-9)


def test_self_bleu_does_not_depend_on_how_many_texts_there_are() -> None:
    """It is asked among a hundred texts, so that 400 and 2,000 of one source agree."""
    task = Logic(depth_max=5)
    rows = [tuple(task.tokens(text)) for text in task.sample(2000, seed=8)]
    small, large = self_bleu(rows[:400]), self_bleu(rows)
    assert abs(small.value - large.value) < 3 * math.hypot(small.error, large.error)
    assert large.error < 0.001
    assert self_bleu(rows[:1]) is None
    assert 1.0 == pytest.approx(self_bleu([("a", "b", "c", "d", "e")] * 300).value)


def test_distinct_ngrams_have_the_jackknife_s_error() -> None:
    """As when each group of texts is left out and all is counted again."""
    task = Logic(depth_max=3)
    rows = [task.tokens(text) for text in task.sample(100, seed=9)]
    left_out = [distinct_ngrams([row for i, row in enumerate(rows) if i % 10 != g], 3) for g in range(10)]
    found = ngram_estimate(rows, 3)
    assert jackknife(found.value, left_out).error == pytest.approx(found.error)
    assert "distinct_3" in measure(rows).intervals


def test_the_effective_number_of_texts_has_an_honest_error() -> None:
    """The delta method's error of Hill's number of order 2 is its spread over draws, within a fifth."""
    shares = 1 / np.arange(1, 51)
    shares /= shares.sum()
    generator, values, errors = np.random.default_rng(0), [], []
    for _ in range(100):
        found = measure([[str(i)] for i in generator.choice(50, size=400, p=shares)], orders=())
        values.append(found.hill_2)
        errors.append((found.intervals["hill_2"][1] - found.hill_2) / 1.966)
    assert float(np.std(values)) == pytest.approx(float(np.mean(errors)), rel=1 / 5)
