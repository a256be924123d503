"""The entropy of a corpus' words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from karat.auditing import lexical
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.spectra import Spectrum


@dataclass(frozen=True)
class TokenEntropy(Metric):
    """The entropy of the distribution of words, in bits: how hard the next word is to guess without context.

    correction: chao_shen and miller_madow add what words not seen yet would bring; none is the plug-in value
    tokens: the tokeniser, word or whitespace
    """

    correction: Literal["chao_shen", "miller_madow", "none"] = "chao_shen"
    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "It sees single words only: shuffled text has the same entropy; the plug-in value is too low for "
        "small corpora, the corrected ones less so."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "A few words carry too much of the text: steer topics and styles, raise the temperature."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace", "correction": "none"}
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "Shannon 1948; Miller 1955; Chao and Shen 2003, equation 8"

    def needs(self) -> tuple[Need, ...]:
        return (need("spectrum", n=1, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        spectrum: Spectrum = summary[self.needs()[0]]
        found = [lexical.token_entropy(one, self.correction) for one in spectrum.frequencies(masks)]
        return np.array(found, dtype=np.float64)
