"""Drops texts that are too short or too long. Knows nothing of their content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from karat.curation.base import Verdicts
from karat.errors import BadSetting
from karat.records import Records
from karat.texts.tokens import count_tokens


@dataclass(frozen=True)
class Length:
    """Keeps texts whose number of tokens lies within bounds.

    min, max: the bounds; 0 for no upper bound. low, high: quantiles of the reference's lengths, for
    example 0.01 and 0.99, which tighten the bounds where a reference is given; 0 and 1 leave them.
    tokens: word (words and signs), whitespace (what stands between spaces) or character.
    """

    min: int = 1
    max: int = 0
    low: float = 0.0
    high: float = 1.0
    tokens: Literal["word", "whitespace", "character"] = "word"

    def __post_init__(self) -> None:
        if self.min < 0 or self.max < 0:
            raise ValueError(f"min={self.min} and max={self.max} must not be negative; 0 stands for no bound")
        if self.max and self.max < self.min:
            raise ValueError(f"max={self.max} is below min={self.min}; raise max or lower min")
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low={self.low} and high={self.high} must be shares with 0 <= low < high <= 1")

    def judge(self, records: Records, reference: Records | None = None) -> Verdicts:
        """Judge each record; the reason names its length and the bound."""
        relative = self.low > 0 or self.high < 1
        if relative and reference is None:
            raise BadSetting(
                "filter 'length': low and high are quantiles of the reference's lengths; "
                "give --reference, or set min and max instead"
            )
        lengths = self._count(records)
        least, lower = self.min, f"min={self.min}"
        most, upper = self.max or None, f"max={self.max}"
        if relative and reference is not None:
            bottom, top = np.quantile(
                self._count(reference), [self.low, self.high], method="nearest"
            ).tolist()
            if self.low > 0 and bottom > least:
                least, lower = int(bottom), f"{int(bottom)}, the {self.low:g} quantile of the reference"
            if self.high < 1 and (most is None or top < most):
                most, upper = int(top), f"{int(top)}, the {self.high:g} quantile of the reference"
        kept = lengths >= least if most is None else (lengths >= least) & (lengths <= most)
        unit = "character" if self.tokens == "character" else "token"
        reasons = {}
        for position in np.flatnonzero(~kept).tolist():
            n = int(lengths[position])
            count = f"{n:,} {unit}{'' if n == 1 else 's'}"
            reasons[position] = f"{count}, under {lower}" if n < least else f"{count}, over {upper}"
        return Verdicts(np.asarray(kept, dtype=np.bool_), reasons)

    def _count(self, records: Records) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if self.tokens == "character":
            return np.fromiter((len(text) for text in records.texts()), np.int64, len(records))
        return count_tokens(records.text_array(), self.tokens)
