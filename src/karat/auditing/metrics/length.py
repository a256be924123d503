"""How long the records of a corpus are, in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, everything, need
from karat.auditing.summaries import Lengths

_SHARES = {"min": 0.0, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True)
class Length(Metric):
    """The mean number of tokens of a record; the quantiles stand beside it.

    tokens: the tokeniser, word or whitespace
    """

    tokens: str = "word"

    family: ClassVar[str] = "size"
    misleads: ClassVar[str] = (
        "Lengths follow the prompt (an asked length, a token limit), so a difference may be of the "
        "recipe and not of the model."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Ask for lengths drawn from the human data (recipe attributed) or keep records of matching "
            "lengths."
        ),
        "lower": "Ask for lengths drawn from the human data (recipe attributed) or raise the token limit.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "longer records"

    def needs(self) -> tuple[Need, ...]:
        return (need("lengths", tokens=self.tokens),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        lengths: Lengths = summary[self.needs()[0]]
        records = lengths.records(masks)
        return np.where(records > 0, lengths.totals(masks) / np.maximum(records, 1), np.nan)

    def details(self, summary: Summary) -> dict[str, float]:
        lengths: Lengths = summary[self.needs()[0]]
        masks = everything(summary.groups)
        return {name: float(lengths.quantiles(share, masks)[0]) for name, share in _SHARES.items()}

    def note(self, summary: Summary) -> str:
        found = self.details(summary)
        return f"half of the records have {found['p25']:.0f} to {found['p75']:.0f} tokens"
