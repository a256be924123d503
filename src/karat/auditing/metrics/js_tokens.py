"""How far the words of two corpora are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from karat.auditing import divergence
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.spectra import Spectrum


@dataclass(frozen=True)
class JsTokens(Metric):
    """The Jensen-Shannon divergence of the word frequencies of both corpora, in bits: 0 alike, 1 disjoint.

    Samples of one source are apart too, by much where words are many; what chance gives is taken off, so that
    one source has 0 whatever the size.

    correction: chance takes off what samples of one source have on average; none is the plug-in value
    tokens: the tokeniser, word or whitespace
    """

    correction: Literal["chance", "none"] = "chance"
    tokens: str = "word"

    family: ClassVar[str] = "difference"
    misleads: ClassVar[str] = (
        "Topic, names and formatting move it as much as style does. Words come in clumps, so two halves of "
        "one corpus have a little more than 0: see chance."
    )
    cost: ClassVar[str] = "O(tokens), and the different words for each permutation"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Read the words that each side has more of, and steer topics and style accordingly."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (None, 1.0)
    needs_reference: ClassVar[bool] = True
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace", "correction": "none"}
    higher: ClassVar[str] = "further from human text"
    source: ClassVar[str] = "Lin 1991, equation 4.1; Vinh, Epps and Bailey 2010, for the adjustment"

    def needs(self) -> tuple[Need, ...]:
        return (need("spectrum", n=1, tokens=self.tokens), need("sample", limit=2_000))

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        spectrum: Spectrum = pool[self.needs()[0]]
        return divergence.of_spectrum(spectrum, ours, theirs, adjusted=self.correction == "chance")

    def details(self, summary: Summary) -> dict[str, float]:
        sample = summary[self.needs()[1]]
        return divergence.telling_of(sample, summary.groups // 2, n=1, tokens=self.tokens)
