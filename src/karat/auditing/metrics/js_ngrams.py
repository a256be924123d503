"""How far the word pairs of two corpora are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from karat.auditing import divergence
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.spectra import Spectrum


@dataclass(frozen=True)
class JsNgrams(Metric):
    """The Jensen-Shannon divergence of the n-gram frequencies of both corpora, in bits: 0 alike, 1 disjoint.

    Samples of one source are apart too, by most of a bit where n-grams are rare; that is taken off.

    n: the number of tokens of an n-gram
    correction: chance takes off what samples of one source have on average; none is the plug-in value
    tokens: the tokeniser, word or whitespace
    """

    n: int = 2
    correction: Literal["chance", "none"] = "chance"
    tokens: str = "word"

    family: ClassVar[str] = "difference"
    misleads: ClassVar[str] = (
        "Topic, names and formatting move it as much as style does. Without the correction it mostly "
        "measures the size of the corpora."
    )
    cost: ClassVar[str] = "O(tokens), and the different n-grams for each permutation"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Read the phrases that each side has more of, and steer topics and style accordingly."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (None, 1.0)
    needs_reference: ClassVar[bool] = True
    permutations: ClassVar[int] = 20
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace", "correction": "none"}
    higher: ClassVar[str] = "further from human text"
    source: ClassVar[str] = "Lin 1991, equation 4.1; Vinh, Epps and Bailey 2010, for the adjustment"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 token")

    def needs(self) -> tuple[Need, ...]:
        return (need("spectrum", n=self.n, tokens=self.tokens), need("sample", limit=2_000))

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        spectrum: Spectrum = pool[self.needs()[0]]
        return divergence.of_spectrum(spectrum, ours, theirs, adjusted=self.correction == "chance")

    def details(self, summary: Summary) -> dict[str, float]:
        sample = summary[self.needs()[1]]
        return divergence.telling_of(sample, summary.groups // 2, n=self.n, tokens=self.tokens)
