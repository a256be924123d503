"""What comparisons promise: exact against enumeration, few false alarms, intervals that cover."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import accuracy_score, f1_score

from karat.training.base import Written
from karat.training.scores import Outcome, interval, outcome
from karat.valuation import comparing

CLASSES = ("a", "b", "c")


def answers(gold: np.ndarray, right: float, seed: int) -> Outcome:
    """Answers of a model that is right with a given probability, independently for each record."""
    rng = np.random.default_rng(seed)
    wrong = (gold + rng.integers(1, 3, len(gold))) % 3
    return Outcome(CLASSES, gold, np.where(rng.random(len(gold)) < right, gold, wrong))


def texts(n: int) -> list[str]:
    return [f"text {i}" for i in range(n)]


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_randomisation_equals_the_exact_test(metric: str) -> None:
    """With nine records the p of drawn exchanges is that of all 512, each scored by scikit-learn."""
    gold = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    one, other = answers(gold, 0.95, 3), answers(gold, 0.3, 4)

    def score(said: np.ndarray) -> float:
        if metric == "accuracy":
            return float(accuracy_score(gold, said))
        return float(f1_score(gold, said, average="macro", zero_division=0))

    observed = score(one.predicted) - score(other.predicted)
    exact = []
    for swap in product([False, True], repeat=len(gold)):
        kept = ~np.array(swap)
        mine = np.where(kept, one.predicted, other.predicted)
        theirs = np.where(kept, other.predicted, one.predicted)
        exact.append(abs(score(mine) - score(theirs)) >= abs(observed) - 1e-9)
    null = comparing.exchanged(metric, [(one, other)], texts(9), 5_000)[:, 0]
    assert 0.001 < np.mean(exact) < 0.5
    assert comparing.randomisation_p(observed, null) == pytest.approx(np.mean(exact), abs=0.02)


def test_exchanged_bleu_is_that_of_sacrebleu() -> None:
    """The BLEU of two systems with exchanged sentences is what sacreBLEU gives for the exchanged texts."""
    sacrebleu = pytest.importorskip("sacrebleu")
    rng = np.random.default_rng(5)
    words = [f"w{i}" for i in range(12)]
    references = [" ".join(rng.choice(words, 9)) for _ in range(6)]

    def system(seed: int, noise: float) -> list[str]:
        draw = np.random.default_rng(seed)
        return [" ".join(w if draw.random() > noise else "x" for w in r.split()) for r in references]

    one, other = system(1, 0.1), system(2, 0.3)
    said = [outcome(Written(tuple("abcdef"), tuple(t), tuple(references))) for t in (one, other)]
    gaps = set()
    for swap in product([False, True], repeat=6):
        mine = [b if s else a for a, b, s in zip(one, other, swap)]
        theirs = [a if s else b for a, b, s in zip(one, other, swap)]
        found = [sacrebleu.corpus_bleu(side, [references]).score for side in (mine, theirs)]
        gaps.add(round(found[0] - found[1], 6))
    null = comparing.exchanged("bleu", [(said[0], said[1])], texts(6), 2_000)[:, 0]
    assert gaps == set(np.round(null, 6).tolist())
    plain = sacrebleu.corpus_bleu(one, [references]).score
    assert plain == pytest.approx(comparing.scored("bleu", said[0])[0], abs=1e-9)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_equal_models_are_called_different_one_time_in_twenty(metric: str) -> None:
    """Two models of the same skill have p < 0.05 in about 5 % of 400 experiments.

    Where scores are not counted in whole records, which leaves no ties, p < 0.2 comes in about 20 %.
    """
    found = []
    for k in range(400):
        rng = np.random.default_rng(k)
        gold = rng.integers(0, 3, 120)
        both = [
            replace(answers(gold, 0.7, 10_000 * m + k), surprise=rng.lognormal(0, 1, 120)) for m in (1, 2)
        ]
        observed = float(np.subtract(*(comparing.scored(metric, one)[0] for one in both)))
        null = comparing.exchanged(metric, [(both[0], both[1])], texts(120), 299, seed=k)[:, 0]
        found.append(comparing.randomisation_p(observed, null))
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)
    if metric == "log_loss":
        assert np.mean(np.array(found) < 0.2) == pytest.approx(0.2, abs=0.05)


def test_copies_of_a_text_are_exchanged_together() -> None:
    """Ten copies of each record tell no more than one: p stays, where separate records would lower it."""
    gold = np.random.default_rng(0).integers(0, 3, 30)
    one, other = answers(gold, 0.8, 1), answers(gold, 0.6, 2)

    def p_of(times: int, named: list[str]) -> float:
        both = [Outcome(CLASSES, np.tile(o.gold, times), np.tile(o.predicted, times)) for o in (one, other)]
        observed = float(np.subtract(*(comparing.scored("accuracy", o)[0] for o in both)))
        null = comparing.exchanged("accuracy", [(both[0], both[1])], named, 3000)[:, 0]
        return comparing.randomisation_p(observed, null)

    once = p_of(1, texts(30))
    assert once == pytest.approx(p_of(10, texts(30) * 10))
    assert p_of(10, texts(300)) < once / 3


def test_the_paired_interval_covers() -> None:
    """The 95 % interval of a difference holds the true one in about 95 % of 300 experiments."""
    hits = 0
    for k in range(300):
        gold = np.random.default_rng(k).integers(0, 3, 150)
        rng = np.random.default_rng(50_000 + k)
        hard = rng.random(150) < 0.4  # records that are hard for both: pairing matters
        right = np.where(hard, 0.4, 0.95)
        both = []
        for gain in (0.0, 0.05):
            said = np.where(rng.random(150) < right - gain, gold, (gold + 1) % 3)
            both.append(Outcome(CLASSES, gold, said))
        drawn = comparing.draws("accuracy", both, texts(150), 400, seed=k)
        low, high = interval(drawn[:, 0] - drawn[:, 1])
        hits += low <= 0.05 <= high
    assert hits / 300 == pytest.approx(0.95, abs=0.035)


def test_few_seeds_are_no_excuse() -> None:
    """Where all spread is that of three seeds, the interval of their mean covers in about 95 % of 400."""
    rng = np.random.default_rng(1)
    hits = 0
    for k in range(400):
        scores = np.tile(rng.normal(0.5, 0.02, 3), (1000, 1, 1))
        low, high = interval(comparing.over_seeds(scores, seed=k)[:, 0])
        hits += low <= 0.5 <= high
    assert hits / 400 == pytest.approx(0.95, abs=0.03)


def test_what_a_seed_does_to_both_arms_cancels() -> None:
    """A seed that lifts two arms alike leaves no doubt about their difference."""
    lifts = np.array([0.0, 0.1, 0.2])
    scores = np.tile(np.stack([0.5 + lifts, 0.4 + lifts]), (500, 1, 1))
    found = comparing.over_seeds(scores)
    assert np.allclose(0.1, found[:, 0] - found[:, 1])
    assert found[:, 0].std() > 0.02


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_area_is_the_trapezoid(scale: comparing.Scale) -> None:
    """The area between curves is numpy's trapezoid over the range; one size is its own area."""
    sizes, curve = (100, 200, 250, 1000), np.array([0.2, 0.5, 0.55, 0.7])
    at = np.log(sizes) if scale == "log" else np.array(sizes, dtype=float)
    pieces = np.diff(at) * (curve[1:] + curve[:-1]) / 2
    expected = pieces.sum() / (at[-1] - at[0])
    assert expected == pytest.approx(comparing.area_weights(sizes, scale) @ curve)
    assert [1.0] == comparing.area_weights((7,), scale).tolist()


def test_real_data_closes_all_of_the_gap_and_plain_none() -> None:
    """The closure of real data is 1 and of plain data 0, without any doubt."""
    rng = np.random.default_rng(0)
    gap = rng.normal(0.1, 0.02, 2000)
    real = comparing.closure(0.1, 0.1, gap, gap)
    assert (1.0, (1.0, 1.0)) == (real.value, real.interval)
    plain = comparing.closure(0.0, 0.1, np.zeros(2000), gap)
    assert (0.0, (0.0, 0.0)) == (plain.value, plain.interval)


def test_a_gap_that_is_none_is_not_closed() -> None:
    """Where the gap may be zero, or goes the other way, no share of it is given, and the reason is."""
    rng = np.random.default_rng(0)
    gain, unclear = rng.normal(0.05, 0.01, 1000), rng.normal(0.01, 0.02, 1000)
    found = comparing.closure(0.05, 0.01, gain, unclear)
    assert (None, None) == (found.value, found.interval) and "not told apart from zero" in found.note
    found = comparing.closure(0.05, -0.1, gain, rng.normal(-0.1, 0.01, 1000))
    assert found.value is None and "no gap to close" in found.note


def test_the_closure_covers() -> None:
    """The interval of a share of one half holds it in about 95 % of 400 experiments."""
    hits, told = 0, 0
    for k in range(400):
        rng = np.random.default_rng(k)
        plain, arm, real = rng.normal([0.6, 0.65, 0.7], 0.012)
        draws = rng.normal([plain, arm, real], 0.012, (800, 3))
        found = comparing.closure(
            arm - plain, real - plain, draws[:, 1] - draws[:, 0], draws[:, 2] - draws[:, 0]
        )
        if found.interval is not None:
            low, high = found.interval
            told += 1
            hits += (-np.inf if low is None else low) <= 0.5 <= (np.inf if high is None else high)
    assert told > 350
    assert hits / told == pytest.approx(0.95, abs=0.035)


def test_holm_is_over_comparisons_of_a_kind() -> None:
    """Corrected p are those of Holm 1979, and a verdict needs both the p and the interval."""
    made = [
        comparing.Compared("area", name, "generated", None, 0.1, ends, p)
        for name, ends, p in (("x", (0.05, 0.15), 0.01), ("y", (0.02, 0.2), 0.04), ("z", (-0.01, 0.2), 0.001))
    ]
    found = comparing.corrected(made)
    assert [0.02, 0.04, 0.003] == pytest.approx([one.p_holm for one in found])
    assert ["better", "better", "not told apart"] == [one.verdict for one in found]


def test_the_same_models_under_other_names_are_no_further_test() -> None:
    """Two tests are corrected for, though one of them has two names and an arm is held against itself."""
    made = [
        comparing.Compared("all", name, "real", None, difference, (low, low + 0.1), p)
        for name, difference, low, p in (
            ("x", -0.1, -0.15, 0.01),
            ("x ordered", -0.1, -0.15, 0.01),
            ("y", -0.2, -0.25, 0.03),
        )
    ]
    made.append(comparing.Compared("all", "real again", "real", None, 0.0, (0.0, 0.0), 1.0))
    assert [0.02, 0.02, 0.03, 1.0] == pytest.approx([one.p_holm for one in comparing.corrected(made)])


def test_luck_of_the_order_is_no_effect() -> None:
    """Models that differ by the luck of their seed are told apart record by record, but not over seeds."""
    gaps = np.array([0.06, -0.02, 0.05, -0.03, 0.04])
    p = comparing.seeds_p(gaps)
    assert p is not None and p == pytest.approx(float(ttest_1samp(gaps, 0).pvalue))
    one = comparing.Compared("area", "x", "generated", None, 0.02, (0.005, 0.035), 0.001, p)
    assert p == one.p_both and "not told apart" == one.verdict
    assert comparing.seeds_p(np.array([0.1])) is None and comparing.seeds_p(np.full(5, 0.1)) is None
