"""How many different words there are among 42 drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from karat.auditing import lexical, streams
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.spectra import Spectrum


@dataclass(frozen=True)
class Hdd(Metric):
    """The expected share of different words among 42 that are drawn without return (HD-D).

    draws: words drawn
    unit: corpus draws from all words; record draws from each record by itself and takes the mean over those
        that have as many
    tokens: the tokeniser, word or whitespace
    """

    draws: int = 42
    unit: Literal["corpus", "record"] = "corpus"
    tokens: str = "word"

    family: ClassVar[str] = "lexical"
    misleads: ClassVar[str] = (
        "Drawn from a whole corpus it feels the frequent words, and hardly the rare ones; unit=record is "
        "the published use, for records of at least 42 words."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Frequent words take too large a part: vary style and topic."
    }
    size: ClassVar[View] = "tokens"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace", "unit": "record"}
    higher: ClassVar[str] = "more varied"
    source: ClassVar[str] = "McCarthy and Jarvis 2007, vocd: a theoretical and empirical evaluation"

    def __post_init__(self) -> None:
        if self.draws < 2:
            raise ValueError(f"draws is {self.draws}; draw at least 2 words")

    def needs(self) -> tuple[Need, ...]:
        if self.unit == "record":
            return (streams.stream(self.tokens),)
        return (need("spectrum", n=1, tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        if self.unit == "record":
            return streams.mean_of_records(
                summary[self.needs()[0]], masks, self.draws, lambda codes: lexical.hdd_of(codes, self.draws)
            )
        spectrum: Spectrum = summary[self.needs()[0]]
        found = [lexical.hdd(one, self.draws) for one in spectrum.frequencies(masks)]
        return np.array(found, dtype=np.float64)

    def note(self, summary: Summary) -> str:
        if self.unit == "corpus":
            return ""
        return streams.note(summary[self.needs()[0]], self.draws, self.unit)

    def extra(self, summary: Summary) -> dict[str, Setting]:
        return {} if self.unit == "corpus" else streams.sampled(summary[self.needs()[0]], summary)

    def used(self, summary: Summary) -> int:
        if self.unit == "corpus":
            return summary.records
        return streams.records_used(summary[self.needs()[0]], self.draws, self.unit)
