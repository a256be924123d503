"""Confident learning where a model is never sure: each class has a threshold of its own."""

from __future__ import annotations

import numpy as np
import pytest

from karat.curation.confident import doubts


def test_a_class_counts_above_its_own_threshold_however_low_that_is() -> None:
    """Thresholds 0.42 and 0.415: record 0 is above neither, record 3 is counted for the other class."""
    chances = np.array([[0.40, 0.35, 0.25], [0.44, 0.30, 0.26], [0.30, 0.45, 0.25], [0.42, 0.38, 0.20]])
    found = doubts(chances, np.array([0, 0, 1, 1]))
    assert pytest.approx([0.42, 0.415, float("nan")], nan_ok=True) == found.thresholds.tolist()
    assert [False, False, False, True] == found.issues.tolist()
    # of class 0 one is counted, rightly; of class 1 two, one of them for class 0; two records a class
    assert 0.25 == pytest.approx(found.noise)
