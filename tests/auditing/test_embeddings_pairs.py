"""Average pairwise similarity from sums alone equals the mean over pairs that are really visited."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from audit_corpora import corpus, write
from numpy.typing import NDArray

import karat
from karat import registry
from karat.auditing.base import everything, need
from karat.auditing.encoders.base import make
from karat.auditing.summaries import Embeddings
from karat.errors import KaratError

GROUPS = 5


class Summary:
    """What a metric is given, of vectors that the test holds."""

    def __init__(self, rows: NDArray[Any], groups: NDArray[Any], labels: list[str]) -> None:
        names = tuple(sorted(set(labels)))
        cells = [(g, label) for g in range(GROUPS) for label in names]
        chosen = [np.array([g == a and label == b for a, b in zip(groups, labels)]) for g, label in cells]
        shape = (GROUPS, len(names))
        self.groups, self.records = GROUPS, len(rows)
        self.vectors = Embeddings(
            "test",
            names,
            np.array([c.sum() for c in chosen]).reshape(shape),
            np.array([rows[c].sum(axis=0) for c in chosen]).reshape(*shape, -1),
            np.array([(rows[c] ** 2).sum() for c in chosen]).reshape(shape),
        )

    def __getitem__(self, wanted: Any) -> Any:
        assert need("embeddings", encoder="") == wanted
        return self.vectors


def brute_force(kind: str, rows: NDArray[Any], labels: list[str]) -> float:
    """The mean cosine over all pairs i < j of the kind, one pair at a time."""
    found = []
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            both = labels[i] != "" and labels[j] != ""
            if kind == "aps" or (both and (labels[i] == labels[j]) == (kind == "aps_intra")):
                found.append(float(rows[i] @ rows[j]))
    return float(np.mean(found)) if found else float("nan")


@pytest.mark.parametrize("kind", ["aps", "aps_intra", "aps_inter"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_closed_form_equals_all_pairs_under_every_mask(kind: str, seed: int) -> None:
    """To 1e-9, with empty texts (zero vectors), records without a label and a label seen once."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((40, 7)) + 0.5
    rows /= np.sqrt((rows**2).sum(axis=1))[:, None]
    rows[[3, 17]] = 0
    groups = rng.permutation(np.arange(40) % GROUPS)
    labels = [str(one) for one in rng.choice(["a", "b", "c"], 40)]
    labels[5], labels[6], labels[7] = "", "", "once"
    masks = np.concatenate([everything(GROUPS), ~np.eye(GROUPS, dtype=bool), np.eye(GROUPS, dtype=bool)])
    actual = registry.make("metrics", kind).values(Summary(rows, groups, labels), masks)
    expected = []
    for mask in masks:
        kept = np.flatnonzero(mask[groups])
        expected.append(brute_force(kind, rows[kept], [labels[i] for i in kept]))
    np.testing.assert_allclose(actual, expected, atol=1e-9, rtol=0, equal_nan=True)


def test_no_pair_is_nan() -> None:
    """One record has no pair; records of one label have no pair of different labels."""
    one = Summary(np.eye(3)[:1], np.zeros(1, int), ["a"])
    same = Summary(np.eye(3), np.arange(3), ["a", "a", "a"])
    assert np.isnan(registry.make("metrics", "aps").values(one, everything(GROUPS))[0])
    assert np.isnan(registry.make("metrics", "aps_inter").values(same, everything(GROUPS))[0])
    assert 0.0 == registry.make("metrics", "aps_intra").values(same, everything(GROUPS))[0]


def test_the_audit_gives_what_all_pairs_give() -> None:
    """From texts to the score, by way of shards, groups and sums: the mean over visited pairs."""
    texts = write(90, seed=1, words=300)
    labels = ["a" if i % 3 else "b" for i in range(90)]
    data = corpus(texts, labels)
    audited = karat.audit(data, metrics="aps aps_intra aps_inter", encoder="lsa:dims=16", budget="small")
    rows = make("lsa:dims=16").fit(texts).encode(texts).astype(np.float64)
    for kind in ("aps", "aps_intra", "aps_inter"):
        score = audited.score(kind)
        assert score.value is not None
        assert abs(brute_force(kind, rows, labels) - score.value) < 1e-6  # ARPACK or LAPACK, float32
        assert "encoder:lsa-" in score.signature


def test_without_labels() -> None:
    """aps_intra without labels is one line when asked for, and left out when it was not."""
    data = corpus(write(60, seed=2))
    with pytest.raises(KaratError, match="'aps_intra' needs a label on each record"):
        karat.audit(data, metrics="aps_intra")
    audited = karat.audit(data, budget="small")
    assert {"aps_intra", "aps_inter"} <= set(audited.skipped)
    assert "aps" in [score.name for score in audited.scores]


def test_halves_of_one_source_do_not_differ() -> None:
    """Random halves have the same similarity on average: no side gains by how the encoder was fitted."""
    texts = write(1200, seed=9)
    gaps, flags = [], 0
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(len(texts))
        one, other = (corpus([texts[i] for i in half]) for half in (order[:150], order[150:300]))
        score = karat.audit(one, other, metrics="aps", budget="small", seed=seed).scores[0]
        assert score.difference is not None and score.p is not None
        gaps.append(score.difference)
        flags += score.p < 0.05
    # fitted on the reference alone the mean gap here is 0.1, some fifty of its standard errors
    assert abs(np.mean(gaps)) < 4 * np.std(gaps, ddof=1) / np.sqrt(8)
    assert flags <= 2
