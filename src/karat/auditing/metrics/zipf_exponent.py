"""How steeply the frequency of words falls with their rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import lexical
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, everything, need
from karat.auditing.spectra import Spectrum


@dataclass(frozen=True)
class ZipfExponent(Metric):
    """The exponent s of frequency ~ rank^-s, by maximum likelihood; about 1 in human text.

    Words that occur less than `least` times are left out: their order by frequency is that of chance.

    least: the smallest count of a word that takes part
    tokens: the tokeniser, word or whitespace
    """

    least: int = 20
    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "Text does not follow one power law: the value depends on `least` and on the size of the corpus, so "
        "compare at equal sizes only."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Frequent words take too large a part: raise the temperature, or vary topics and styles."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "fewer words carry more of the text"
    source: ClassVar[str] = "Clauset, Shalizi and Newman 2009, appendix B, for ranks; Pilgrim and Hills 2021"

    def __post_init__(self) -> None:
        if self.least < 1:
            raise ValueError(f"least is {self.least}; a word occurs at least once")

    def needs(self) -> tuple[Need, ...]:
        return (need("spectrum", n=1, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        spectrum: Spectrum = summary[self.needs()[0]]
        found = [lexical.zipf_exponent(one, self.least)[0] for one in spectrum.frequencies(masks)]
        return np.array(found, dtype=np.float64)

    def note(self, summary: Summary) -> str:
        ranks = self._ranks(summary)
        return "" if ranks >= 10 else f"only {ranks} words occur {self.least} times or more"

    def details(self, summary: Summary) -> dict[str, float]:
        return {"ranks": float(self._ranks(summary))}

    def _ranks(self, summary: Summary) -> int:
        spectrum: Spectrum = summary[self.needs()[0]]
        counts, types = spectrum.frequencies(everything(summary.groups))[0]
        return int(types[counts >= self.least].sum())
