"""Divergences of two corpora: the published value, no more than chance takes off, and the truth between."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from audit_corpora import corpus, write
from scipy.spatial.distance import jensenshannon

from karat.auditing.divergence import expected_by_chance, of_counts, of_spectrum, telling_ngrams
from karat.auditing.grams import GramKeys
from karat.auditing.spectra import stack_spectrum
from karat.auditing.stage import audit
from karat.texts.tokens import mix


def shares(texts: list[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each n-gram occurs."""
    return Counter(tuple(t.split()[i : i + n]) for t in texts for i in range(len(t.split()) - n + 1))


@pytest.mark.parametrize(("name", "n"), [("js_tokens", 1), ("js_ngrams", 2), ("js_ngrams:n=3", 3)])
def test_the_published_value_is_that_of_scipy(name: str, n: int) -> None:
    """Without the correction it is the square of scipy's distance, whatever the sizes."""
    mine, theirs = write(120, seed=1, words=80), write(200, seed=2, words=90)
    counts = [shares(texts, n) for texts in (mine, theirs)]
    names = list(counts[0] | counts[1])
    expected = jensenshannon(*([c[one] for one in names] for c in counts), base=2) ** 2
    found = audit(corpus(mine), corpus(theirs), metrics=[name], mode="paper").scores[0]
    assert expected == pytest.approx(found.value, rel=1e-12)


def test_labels_by_hand() -> None:
    """Half and half against all of one label, in bits; names of the labels with the widest gap."""
    labels = [["a"] * 50 + ["b"] * 50, ["a"] * 100]
    sides = [corpus(write(100, seed=i), some) for i, some in enumerate(labels)]
    found = audit(*sides, metrics=["js_labels:correction=none", "js_labels"]).scores
    expected = 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)) + 0.5 * math.log2(1 / 0.75)
    assert expected == pytest.approx(found[0].value)
    assert found[1].value is not None and expected - 0.01 < found[1].value < expected
    assert pytest.approx(0.5) == found[1].details["more.b"]
    assert found[1].p is not None and found[1].p < 0.001


@pytest.mark.parametrize(("ours", "theirs"), [(40.0, 40.0), (30.0, 60.0)])
def test_what_chance_gives_is_the_mean_over_random_splits(ours: float, theirs: float) -> None:
    """The expectation in closed form against 20,000 binomial splits of the same counts."""
    rng = np.random.default_rng(0)
    counts = np.array([1] * 20 + [2] * 8 + [3] * 4 + [9, 13])
    total = ours + theirs
    size = counts.sum()
    a = rng.binomial(counts, ours / total, (20_000, len(counts)))
    p, q = a / (size * ours / total), (counts - a) / (size * theirs / total)
    m = (p + q) / 2
    terms = [np.where(x > 0, x * np.log2(np.where(x > 0, x, 1)), 0) for x in (p, q, m)]
    expected = ((terms[0] + terms[1]) / 2 - terms[2]).sum(axis=1).mean()
    types = np.bincount(counts, minlength=30).astype(float)
    assert expected == pytest.approx(
        expected_by_chance(types, size * ours / total, size * theirs / total), rel=0.005
    )


def test_frequent_types_have_the_expectation_of_chi_squared() -> None:
    """At the longest count that is summed up, the sum and the asymptotic form agree to 1%."""
    exact, many = np.zeros(257), np.zeros(257)
    exact[255], many[256] = 1, 1
    assert expected_by_chance(many, 9e4, 9e4) == pytest.approx(expected_by_chance(exact, 9e4, 9e4), rel=0.01)


@pytest.mark.parametrize("apart", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("size", [3_000, 30_000])
def test_the_truth_is_found_at_any_size(apart: float, size: int) -> None:
    """20,000 types of a long tail: the plug-in value is off by most of a bit, the corrected one by little."""
    rng = np.random.default_rng(1)
    p = 1 / (np.arange(20_000) + 3.0)
    q = p * np.exp(apart * rng.standard_normal(len(p)))
    p, q = p / p.sum(), q / q.sum()
    truth = jensenshannon(p, q, base=2) ** 2
    found = {True: [], False: []}
    ours, theirs = np.array([[True, False]]), np.array([[False, True]])
    for _ in range(5):
        counts = np.stack([rng.multinomial(size, one) for one in (p, q)])
        for adjusted, values in found.items():
            values.append(of_counts(counts, ours, theirs, adjusted=adjusted)[0])
    assert truth == pytest.approx(np.mean(found[True]), abs=0.015 + 0.1 * truth)
    assert abs(np.mean(found[False]) - truth) > 3 * abs(np.mean(found[True]) - truth)


def test_disjoint_corpora_are_one_bit_apart() -> None:
    """Nothing in common is 1 with the correction and without."""
    mine, theirs = write(100, seed=1), [text.replace("w", "v") for text in write(100, seed=2)]
    names = ["js_tokens", "js_tokens:correction=none", "js_ngrams"]
    for score in audit(corpus(mine), corpus(theirs), metrics=names).scores:
        assert 1.0 == pytest.approx(score.value)


def test_groups_of_a_table_and_of_ngrams_agree() -> None:
    """Any two sets of groups, from the packed table and from the plain one."""
    rng = np.random.default_rng(2)
    types, groups = rng.zipf(1.5, 3000) % 400, rng.integers(0, 8, 3000)
    plain = np.zeros((8, 400), np.int64)
    np.add.at(plain, (groups, types), 1)
    hashes = mix(types.astype(np.uint64))
    spectrum = stack_spectrum([GramKeys.of(hashes, groups.astype(np.uint8))], [0], 8)
    ours = rng.random((12, 8)) < 0.5
    ours[0] = False
    theirs = ~ours & (rng.random((12, 8)) < 0.9)
    for adjusted in (True, False):
        expected = of_counts(plain, ours, theirs, adjusted=adjusted)
        assert expected == pytest.approx(of_spectrum(spectrum, ours, theirs, adjusted=adjusted), nan_ok=True)
    assert np.isnan(expected[0])


def test_the_words_that_tell_most_are_named() -> None:
    """A word that one side alone has comes first, under the name of that side."""
    mine, theirs = write(60, seed=1, words=40), write(60, seed=2, words=40)
    told = telling_ngrams([f"however {t}" for t in mine], theirs, n=1, tokens="word")
    assert "synthetic.however" == max(told, key=lambda one: told[one])
    found = audit(corpus([f"however {t}" for t in mine]), corpus(theirs), metrics=["js_ngrams"]).scores[0]
    assert any(name.startswith("synthetic.however ") for name in found.details)
    assert {} == telling_ngrams([], theirs, n=1, tokens="word")
