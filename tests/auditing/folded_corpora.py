"""Corpora of folded words, and what a metric is given of them, without an audit. Knows no metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from karat.auditing.base import Context, Need
from karat.auditing.folded import Seen, StackedWords, Words
from karat.auditing.summaries import Sample
from karat.texts.tokens import fold, hash_strings, mix, tokenise

GROUPS = 20


def words(texts: Sequence[str], groups: Sequence[int] | None = None) -> Words:
    """The folded words of texts; groups by position, keys by text and position."""
    folded = fold(pa.array(texts, pa.large_string()))
    place = np.arange(len(texts))
    return Words(
        tokenise(folded),
        place % GROUPS if groups is None else np.asarray(groups, np.int64),
        mix(hash_strings(folded) ^ mix(place.astype(np.uint64))),
        hash_strings(folded),
        pa.array([str(i) for i in place], pa.large_string()),
    )


@dataclass(frozen=True)
class Summary:
    """One corpus as a metric sees it: its words, and all its records as the sample."""

    texts: tuple[str, ...]
    groups: int = GROUPS

    @property
    def records(self) -> int:
        return len(self.texts)

    @cached_property
    def _words(self) -> Words:
        return words(self.texts)

    def __getitem__(self, wanted: Need) -> Any:
        held = self._words
        if wanted.kind == "words":
            return Seen(StackedWords((held,), self.groups), 0, self.groups)
        return Sample(
            self.texts,
            tuple(map(str, range(len(held)))),
            (None,) * len(held),
            held.groups,
            held.keys,
            held.content,
            held.keys,
            np.arange(len(held)),
        )


def draw(n: int, *, seed: int, words: int, length: int) -> list[str]:
    """n texts of about `length` independent words, low numbers more often."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 2 * length, n)
    drawn = [f"w{i}" for i in (words * rng.random(int(sizes.sum())) ** 2).astype(np.int64).tolist()]
    ends = np.cumsum(sizes).tolist()
    return [" ".join(drawn[low:high]) for low, high in zip([0, *ends], ends, strict=False)]


def compared(metric: Any, candidate: Sequence[str], reference: Sequence[str]) -> Any:
    """What a metric of two corpora says of these texts."""
    return metric.compare(Summary(tuple(candidate)), Summary(tuple(reference)), Context())
