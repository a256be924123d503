"""The share of records whose text stands elsewhere in the corpus already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View, need
from karat.auditing.grams import Grams
from karat.auditing.summaries import Sample

_LOOK = 20_000


@dataclass(frozen=True)
class DuplicateShare(Metric):
    """The share of records that repeat the whole text of an earlier one.

    normalise: also count texts that differ only in case, spaces, punctuation or Unicode form
    """

    normalise: bool = False

    source: ClassVar[str] = "Lee et al. 2022, Deduplicating training data"
    family: ClassVar[str] = "repetition"
    misleads: ClassVar[str] = (
        "Short texts coincide by chance, also in human data; copies that differ in one word are not "
        "seen (near_duplicate_share)."
    )
    cost: ClassVar[str] = "O(records), one 64-bit hash a record"
    cure: ClassVar[Mapping[str, str]] = {"higher": "Drop copies: karat curate --filters exact_duplicates."}
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more repeated"

    def needs(self) -> tuple[Need, ...]:
        return (need("duplicates", normalise=self.normalise), need("sample", limit=_LOOK))

    def values(self, summary: Summary, masks: Masks) -> Values:
        grams: Grams = summary[self.needs()[0]]
        records = grams.count(masks)
        return np.where(records > 0, 1 - grams.types(masks) / np.maximum(records, 1), np.nan)

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        sample: Sample = summary[self.needs()[1]]
        _, first, count = np.unique(sample.content, return_index=True, return_counts=True)
        most = np.argsort(-count, kind="stable")[:limit]
        return tuple(
            Telling(int(sample.keys[first[i]]), float(count[i]), f"its text occurs {count[i]} times")
            for i in most
            if count[i] > 1
        )
