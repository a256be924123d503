"""Label balance: evenness of labels, with labels that are seen once or on one side only."""

from __future__ import annotations

import numpy as np
import pytest
from audit_corpora import corpus

import karat
from karat.auditing.result import Score


def scored(labels: list[str], reference: list[str] | None = None) -> Score:
    """The score of records that have these labels."""
    texts = [f"text number {i} of {label}" for i, label in enumerate(labels)]
    other = None if reference is None else corpus([f"other {i}" for i in range(len(reference))], reference)
    return karat.audit(corpus(texts, labels), other, metrics="label_balance", budget="small").scores[0]


def test_closed_form() -> None:
    """H / log K: 1 for even labels, and (3/4 log 4/3 + 1/4 log 4) / log 2 for three to one."""
    assert scored(["a", "b"] * 20).value == pytest.approx(1.0)
    expected = (0.75 * np.log(4 / 3) + 0.25 * np.log(4)) / np.log(2)
    assert expected == pytest.approx(scored(["a", "a", "a", "b"] * 20).value)


def test_a_label_seen_once() -> None:
    """One record of its own label neither breaks the interval nor makes it jump."""
    found = scored([*["a", "b"] * 50, "once"])
    shares = np.array([50, 50, 1]) / 101
    assert float(-(shares * np.log(shares)).sum() / np.log(3)) == pytest.approx(found.value)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]  # type: ignore[operator]
    assert found.interval[1] - found.interval[0] < 0.2
    assert "1 seen once" in found.note


def test_one_label_alone() -> None:
    """A single label has no entropy."""
    assert 0.0 == scored(["a"] * 30).value


def test_a_label_that_the_candidate_lacks_counts_against_it() -> None:
    """K is the number of labels of both sides: two even labels of four reach one half."""
    found = scored(["a", "b"] * 40, ["a", "b", "c", "d"] * 20)
    assert found.value == pytest.approx(0.5)
    assert found.reference == pytest.approx(1.0)
    assert found.details["largest_share"] == pytest.approx(0.5)
    assert found.details["tvd_to_even"] == pytest.approx(0.5)
    assert found.details["labels"] == 2


def test_interval_covers_the_truth() -> None:
    """Over 60 samples of known shares the interval covers the true evenness about 95 times in 100."""
    shares = np.array([0.6, 0.3, 0.1])
    truth = float(-(shares * np.log(shares)).sum() / np.log(3))
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        interval = scored([str(one) for one in rng.choice(["a", "b", "c"], 200, p=shares)]).interval
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
    assert hits >= 53
