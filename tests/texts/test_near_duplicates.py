"""The join of near-duplicates finds exactly the pairs that comparing all with all finds."""

from __future__ import annotations

import numpy as np
import pytest

from karat.texts.neighbours import sets_of, similar_pairs
from karat.texts.tokens import mix


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_pairs_are_those_of_brute_force(threshold: float, seed: int) -> None:
    """Every pair of sets with a Jaccard of the threshold or above, with its coefficient, and no other."""
    rng = np.random.default_rng(seed)
    drawn = {frozenset(rng.integers(0, 30, rng.integers(1, 15)).tolist()) for _ in range(60)}
    edited = {one - {min(one)} | {31} for one in list(drawn)[:20]}
    sets = sorted(drawn | edited, key=sorted)
    owner = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    hashes = mix(np.array([word for one in sets for word in one], np.uint64))
    expected = {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i in range(len(sets))
        for j in range(i + 1, len(sets))
        if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]) - 1e-9
    }
    for method in ("exact", "minhash"):
        found = similar_pairs(sets_of(hashes, owner, len(sets)), threshold, method=method)
        pairs = dict(
            zip(zip(found.one.tolist(), found.other.tolist(), strict=True), found.jaccard, strict=True)
        )
        if method == "exact":
            assert expected == pytest.approx(pairs)
        else:  # what MinHash finds is true; it may miss one in a hundred
            assert set(pairs) <= set(expected)
            assert len(pairs) >= 0.9 * len(expected)
