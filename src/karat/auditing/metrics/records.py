"""The number of records of a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from karat.auditing.base import Masks, Metric, Need, Summary, Values, View, need
from karat.auditing.summaries import Lengths


@dataclass(frozen=True)
class Records(Metric):
    """The number of records."""

    family: ClassVar[str] = "size"
    misleads: ClassVar[str] = (
        "Nothing by itself: more records are not more information, see distinct_n and duplicate_share."
    )
    cost: ClassVar[str] = "O(1)"
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    tested: ClassVar[bool] = False
    higher: ClassVar[str] = "more data"

    def needs(self) -> tuple[Need, ...]:
        return (need("lengths", tokens="word"),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        lengths: Lengths = summary[self.needs()[0]]
        return lengths.records(masks)
