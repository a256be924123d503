"""Corpora that the tests of the audit share. Knows no metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from karat import records
from karat.records import Records


def write(n: int, *, seed: int = 0, words: int = 2000, length: int = 20) -> list[str]:
    """n independent texts of Zipf-distributed words, half of which follow from the word before."""
    world = np.random.default_rng(77)
    follows = world.integers(0, words, (words, 2))
    weights = 1 / (np.arange(words) + 2.0)
    rng = np.random.default_rng(seed)
    texts = []
    for size in rng.poisson(length, n) + 1:
        fresh = rng.choice(words, size, p=weights / weights.sum())
        row = [int(fresh[0])]
        for i, tied in enumerate(rng.random(size - 1) < 0.5):
            row.append(int(follows[row[-1], rng.integers(2)]) if tied else int(fresh[i + 1]))
        texts.append(" ".join(f"w{token}" for token in row))
    return texts


def corpus(texts: Sequence[str], labels: Sequence[str] | None = None) -> Records:
    """Records of texts, with labels or without."""
    if labels is None:
        return records.from_rows([{"text": text} for text in texts], datatype="text")
    return records.from_rows(
        [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    )
