"""The share of words that a corpus uses only once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.spectra import Spectrum


@dataclass(frozen=True)
class HapaxShare(Metric):
    """The share of different words that occur exactly once (hapax legomena), at equal tokens.

    of: types divides by the different words; tokens by all words, which is the rate at which new words come
    tokens: the tokeniser, word or whitespace
    """

    of: Literal["types", "tokens"] = "types"
    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "Typing errors, names and numbers occur once too; clean text has fewer without being poorer."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Rare words are missing: give exemplars or attributes from the tail, raise the temperature."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more rare words"
    source: ClassVar[str] = "Baayen 2001, Word frequency distributions, sections 1.2 and 2.4"

    def needs(self) -> tuple[Need, ...]:
        return (need("spectrum", n=1, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        spectrum: Spectrum = summary[self.needs()[0]]
        out = np.full(len(masks), np.nan)
        for row, (counts, types) in enumerate(spectrum.frequencies(masks)):
            whole = types.sum() if self.of == "types" else counts @ types
            if whole:
                out[row] = types[counts == 1].sum() / whole
        return out
