"""A/A: two samples of one source must not be found to differ more often than the test says."""

from __future__ import annotations

import numpy as np
import pytest
from audit_corpora import corpus, write

from karat.auditing.stage import audit

SPLITS = 60
METRICS = (
    "length vocabulary distinct_n ngram_frequency_mean ngram_frequency_simpson ngram_frequency_dqi "
    "self_bleu duplicate_share"
)


@pytest.fixture(scope="module")
def splits() -> list[dict[str, tuple[float, float]]]:
    """p and adjusted p of each metric for many random halves of one corpus of independent texts."""
    # Short texts of few words, so that copies happen by chance and duplicate_share has something to vary in.
    texts = np.array(write(500, seed=20, length=12) + write(100, seed=21, words=6, length=1), dtype=object)
    found = []
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(600)
        one, other = corpus(texts[order[:300]]), corpus(texts[order[300:]])
        audited = audit(one, other, metrics=METRICS, seed=split, budget="small")
        found.append({s.name: (s.p or 1.0, s.p_holm or 1.0) for s in audited.scores})
    return found


@pytest.mark.parametrize("name", METRICS.split())
def test_a_metric_differs_by_chance_no_more_than_it_says(
    splits: list[dict[str, tuple[float, float]]], name: str
) -> None:
    """p < 0.05 comes up in at most 8 of 60 splits: a true rate of 5% does more in 1 of 200 tries."""
    assert sum(split[name][0] < 0.05 for split in splits) <= 8


def test_an_audit_without_a_difference_flags_nothing(splits: list[dict[str, tuple[float, float]]]) -> None:
    """After Holm's correction at most 8 of 60 audits hold any flag."""
    assert sum(min(p for _, p in split.values()) < 0.05 for split in splits) <= 8


def test_a_real_difference_is_found() -> None:
    """The same tests have power: texts with a fifth of the words differ in vocabulary at once."""
    audited = audit(corpus(write(300, seed=1, words=400)), corpus(write(300, seed=2)), metrics="vocabulary")
    assert audited.scores[0].flagged
