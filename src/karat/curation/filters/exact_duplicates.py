"""Drops copies of texts that came earlier. Knows nothing of near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import Verdicts, normalised
from karat.records import Records


@dataclass(frozen=True)
class ExactDuplicates:
    """Keeps the first of equal texts.

    normalise: texts are equal after folding case, Unicode form, spaces, quotes, stops and dashes; false
    compares letter by letter. labels: texts are equal only if their labels are too.
    against_reference: also drop copies of reference texts (off: human copies may be wanted).
    """

    normalise: bool = True
    labels: bool = False
    against_reference: bool = False

    def judge(self, records: Records, reference: Records | None = None) -> Verdicts:
        """Judge each record; the reason names the record it repeats."""
        ids = records.ids
        keys = self._keys(records)
        seen: dict[tuple[str, str | None], str] = {}
        if self.against_reference and reference is not None:
            for key, identity in zip(self._keys(reference), reference.ids):
                seen.setdefault(key, f"{identity} of the reference")
        kept = np.ones(len(records), np.bool_)
        reasons: dict[int, str] = {}
        for position, (key, identity) in enumerate(zip(keys, ids)):
            first = seen.setdefault(key, identity)
            if first is not identity:
                kept[position] = False
                reasons[position] = f"copy of {first}"
        return Verdicts(kept, reasons)

    def _keys(self, records: Records) -> list[tuple[str, str | None]]:
        texts = [normalised(text) for text in records.texts()] if self.normalise else records.texts()
        labels: list[str] | list[None] = [None] * len(records)
        if self.labels:
            labels = records.labels() or labels
        return list(zip(texts, labels))
