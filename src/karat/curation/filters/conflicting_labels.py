"""Drops records that give one text several labels. Knows no label by its meaning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from karat.curation.base import Verdicts, normalised, rows_by_text
from karat.errors import BadSetting
from karat.records import Records


@dataclass(frozen=True)
class ConflictingLabels:
    """Drops labels that contradict each other on the same text (after folding case, spaces and stops).

    keep: majority keeps the records with the label that most copies of the text have, none where two labels
    tie; none drops all records of such a text. Copies that agree stay; exact_duplicates drops those.
    """

    keep: Literal["majority", "none"] = "majority"

    def judge(self, records: Records, reference: Records | None = None) -> Verdicts:
        """Judge each record; the reason names the labels of its text and how often each was given."""
        labels = records.labels()
        if labels is None:
            raise BadSetting(
                f"filter 'conflicting_labels' needs labels, but {records.path} has none; name the field with "
                "--label-field"
            )
        if records.datatype == "annotation":
            raise BadSetting(
                "filter 'conflicting_labels': annotators may disagree on an item without a mistake; "
                "give one label an item, or leave the filter out"
            )
        reasons: dict[int, str] = {}
        conflicts = 0
        for rows in rows_by_text([normalised(text) for text in records.texts()]).values():
            counts = Counter(str(labels[row]) for row in rows)
            if len(counts) < 2:
                continue
            conflicts += 1
            (most, n), (_, second) = counts.most_common(2)
            winner = most if self.keep == "majority" and n > second else None
            given = ", ".join(f"{label!r} x {count}" for label, count in counts.most_common(5))
            for row in rows:
                if winner is None:
                    why = "no majority" if self.keep == "majority" else "keep=none"
                    reasons[row] = f"the same text is labelled {given}: {why}"
                elif str(labels[row]) != winner:
                    reasons[row] = f"the same text is labelled {given}: {winner!r} has the majority"
        kept = np.ones(len(records), np.bool_)
        kept[list(reasons)] = False
        return Verdicts(kept, reasons, f"{conflicts:,} texts had several labels")
