"""Leaked test records are found by name, whole, in part or rephrased; without a leak none is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_corpora import write
from folded_corpora import Summary, compared, draw, words

from karat.auditing.base import Context
from karat.auditing.metrics.contamination import Contamination, precision_recall
from karat.texts.closest import Weights, closest


def rows_of(data_dir: Path, name: str, file: str) -> list[dict[str, Any]]:
    """The records of a data set."""
    with gzip.open(data_dir / name / f"{file}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def found_ids(found: Any) -> set[int]:
    """The test records that the warning of a comparison names."""
    return {int(name) for one in found.warnings for name in one.records}


@pytest.mark.parametrize("seed", range(10))
def test_the_closest_record_is_that_of_brute_force(seed: int) -> None:
    """The weighted Jaccard coefficient with the closest record, of any group and of another one."""
    rng = np.random.default_rng(seed)
    mine, theirs = (draw(int(rng.integers(1, 20)), seed=2 * seed + i, words=12, length=6) for i in range(2))
    ours = words(mine, rng.integers(0, 3, len(mine)))
    corpus = words(theirs, rng.integers(0, 3, len(theirs)))
    sets = [set(text.split()) for text in (*mine, *theirs)]
    weight = {word: np.log(len(sets) / sum(word in one for one in sets)) for one in sets for word in one}

    def alike(one: set[str], other: set[str]) -> float:
        union = sum(weight[word] for word in one | other)
        return sum(weight[word] for word in one & other) / union if union > 0 else 0.0

    for other_groups in (False, True):
        expected = [
            max(
                (
                    alike(set(text.split()), set(second.split()))
                    for second, group in zip(theirs, corpus.groups, strict=True)
                    if not other_groups or group != own
                ),
                default=0.0,
            )
            for text, own in zip(mine, ours.groups, strict=True)
        ]
        found = closest(
            ours.tokens,
            corpus.tokens,
            Weights.of(ours.tokens, corpus.tokens),
            apart=(ours.groups, corpus.groups) if other_groups else None,
        )
        assert expected == pytest.approx(found.likeness.tolist(), abs=1e-9)


@pytest.mark.parametrize("kind", ["exact", "ngram", "near"])
def test_planted_leaks_are_named(kind: str) -> None:
    """Of 300 test records 30 stand in the training data; they are named, and the interval covers a tenth."""
    test, train = write(300, seed=1, words=4000, length=25), write(300, seed=2, words=4000, length=25)
    for i in range(30):
        text = test[i] if kind == "exact" else f"w1 {test[i]} w2 w3"
        train[10 * i] = text.upper() + "!"
    found = compared(Contamination(kind=kind), train, test)
    assert set(range(30)) <= found_ids(found)
    assert found.interval[0] < 0.1 < found.interval[1]
    assert found.p < 0.001
    keys = words(train).keys
    assert {int(np.flatnonzero(keys == one.key)[0]) % 10 for one in found.telling} == {0}


def test_ngrams_are_counted_as_brute_force_counts_them() -> None:
    """Records at any threshold, short ones as one n-gram of their length."""
    test, train = draw(120, seed=1, words=25, length=9), draw(300, seed=2, words=25, length=12)
    padded = [f" {text} " for text in train]
    for threshold in (0.2, 0.5, 1.0):
        expected = 0
        for text in test:
            run = text.split()
            n = min(6, len(run))
            grams = [" ".join(run[i : i + n]) for i in range(len(run) - n + 1)]
            hits = [any(f" {one} " in line for line in padded) if n >= 5 else one in train for one in grams]
            expected += sum(hits) >= threshold * len(hits)
        found = compared(Contamination(n=6, threshold=threshold), train, test)
        assert expected / len(test) == pytest.approx(found.value)


def test_nothing_leaked_nothing_found() -> None:
    """Of 100 pairs of corpora of one source at most 10 have p < .05, whatever the kind."""
    kinds = (
        Contamination(kind="exact"),
        Contamination(n=5, threshold=0.1),
        Contamination(kind="near", threshold=0.3),
    )
    alarms = np.zeros(len(kinds), np.int64)
    for seed in range(100):
        sides = [Summary(tuple(draw(40, seed=s, words=60, length=6))) for s in (1000 + seed, 5000 + seed)]
        for i, metric in enumerate(kinds):
            p = metric.compare(sides[0], sides[1], Context()).p
            alarms[i] += p is not None and p < 0.05
    assert (alarms <= 10).all(), alarms


def test_no_overlap_has_an_interval_and_no_warning() -> None:
    """None of 200 records is a value with an upper end, and no leak."""
    found = compared(Contamination(), write(200, seed=1), write(200, seed=2))
    assert 0.0 == found.value and 0.01 < found.interval[1] < 0.03
    assert not found.warnings and 1.0 == found.p


def test_a_test_set_without_words_has_no_value() -> None:
    """Empty records are nothing to leak."""
    assert np.isnan(compared(Contamination(), ["a b c"], ["", " "]).value)


def test_precision_and_recall() -> None:
    """Worked by hand: 3 flags, 2 of them right, of 4 true ones."""
    found = precision_recall([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0])
    assert (2 / 3, 0.5, 0.5) == (found.precision, found.recall, found.false_positive_rate)
    assert np.isnan(precision_recall([0], [0]).precision)
    with pytest.raises(ValueError, match="2 flags"):
        precision_recall([1, 0], [1])


@pytest.mark.parametrize(
    ("name", "file", "train", "test", "leaks"),
    [
        ("banking77", "banking77", "train", "test", 26),  # 25, and one that has can't for cant
        ("wvg_tendim", "wvg_tendim", "human_train", "gold_test", 90),  # 91; signs are not folded away
        ("bitext_intents", "bitext_intents", "train", "test", 36),
    ],
)
def test_known_leaks(data_dir: Path, name: str, file: str, train: str, test: str, leaks: int) -> None:
    """Train and test of public data sets share as many texts as their records say."""
    rows = rows_of(data_dir, name, file)
    sides = [[row["text"] for row in rows if row["split"] == part] for part in (train, test)]
    found = compared(Contamination(kind="exact"), *sides)
    assert leaks == round(found.value * len(sides[1]))
    assert "leakage" == found.warnings[0].code


def test_rephrased_questions_are_found_by_near_only(data_dir: Path) -> None:
    """Half of the GSM8K questions leaked in other words: near finds 85% of them and flags 3% of others."""
    rows = rows_of(data_dir, "contam_gsm8k", "contam_gsm8k")
    order = np.random.default_rng(0).permutation(len(rows))
    half = len(rows) // 2
    train = [rows[i]["rephrased"] for i in order[:half]]
    test = [rows[i]["original"] for i in order]
    truth = np.arange(len(rows)) < half
    ours, theirs = words(train), words(test)
    scores = closest(theirs.tokens, ours.tokens, Weights.of(ours.tokens, theirs.tokens)).likeness
    rates = precision_recall(Contamination(kind="near").flags(scores), truth)
    assert rates.recall > 0.85 and rates.precision > 0.95 and rates.false_positive_rate < 0.03
    strict = precision_recall(scores >= 0.4, truth)
    assert strict.precision > 0.99 and 0.25 < strict.recall < 0.6
    for kind in ("exact", "ngram"):
        assert compared(Contamination(kind=kind), train, test).value < 0.01
