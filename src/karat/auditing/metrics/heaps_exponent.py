"""How fast a corpus goes on bringing new words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import lexical
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.grams import Grams

_LEAST = 3  # groups: fewer make no line


@dataclass(frozen=True)
class HeapsExponent(Metric):
    """The exponent b of different words ~ words^b (Heaps' law): 1 if every word is a new one.

    The slope of log types against log tokens over 1, 2 .. all groups of the corpus; types of j groups are
    their expectation over all choices of j groups, so the order of records has no part in it.

    tokens: the tokeniser, word or whitespace
    """

    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "The slope is that of the last factor of 20 in size, and flattens as a corpus grows: compare at "
        "equal sizes only. Typing errors and numbers keep it up."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "More such records bring few new words: change prompts, attributes or generator first."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "new words keep coming"
    source: ClassVar[str] = "Heaps 1978, section 7.5; Hurlbert 1971, equation 2, for the expectation"

    def needs(self) -> tuple[Need, ...]:
        return (need("ngrams", n=1, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        grams: Grams = summary[self.needs()[0]]
        bits = np.uint64(1) << np.arange(len(grams.totals), dtype=np.uint64)
        out = np.full(len(masks), np.nan)
        for row, mask in enumerate(masks):
            groups, tokens = int(mask.sum()), int(grams.totals[mask].sum())
            if groups < _LEAST or tokens == 0:
                continue
            shared = np.bitwise_count(grams.sets & np.bitwise_or.reduce(bits[mask])).astype(np.int64)
            sizes = np.bincount(shared, weights=grams.sizes, minlength=groups + 1)[1:]
            types = lexical.rarefied(np.arange(1, groups + 1), sizes, groups)
            parts = np.arange(1, groups + 1) / groups
            out[row] = lexical.slope(np.log(parts * tokens), np.log(types))
        return out
