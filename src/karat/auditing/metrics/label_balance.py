"""How evenly the records of a corpus are spread over their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Values, View, everything, need
from karat.auditing.summaries import Labels


@dataclass(frozen=True)
class LabelBalance(Metric):
    """The entropy of the labels as a share of the largest possible: 1 is even, 0 is one label alone.

    H / log K, K the number of labels of both corpora together, so that a label which one side lacks counts
    against it. Records without a label are left out. Beside it: the share of the largest label.
    """

    family: ClassVar[str] = "label"
    misleads: ClassVar[str] = (
        "An even spread is not a good one where the task is uneven: compare with human data."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Draw labels with the human shares if the model will meet human shares.",
        "lower": "Ask for the missing labels by name; a class that is rare or absent cannot be learnt.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    needs_labels: ClassVar[bool] = True
    by_label: ClassVar[bool] = False
    higher: ClassVar[str] = "labels more even"
    source: ClassVar[str] = "Shannon 1948; Pielou 1966 (evenness)"

    def needs(self) -> tuple[Need, ...]:
        return (need("labels"),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        labels: Labels = summary[self.needs()[0]]
        counts = masks.astype(np.float64) @ labels.counts
        total = counts.sum(axis=1)
        shares = counts / np.maximum(total, 1)[:, None]
        logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
        # K is that of the whole corpus in every mask: a label that is seen once must not change the scale
        # when its group is left out.
        kinds = counts.shape[1]
        if kinds < 2:
            return np.where(total > 0, 0.0, np.nan)
        evenness = -(shares * logs).sum(axis=1) / np.log(kinds)
        return np.where(total > 0, np.clip(evenness, 0.0, 1.0), np.nan)

    def details(self, summary: Summary) -> dict[str, float]:
        labels: Labels = summary[self.needs()[0]]
        counts = labels.counts.sum(axis=0)
        total = int(counts.sum())
        found = {"labels": float((counts > 0).sum()), "unlabelled": float(labels.unlabelled.sum())}
        if total:
            found["largest_share"] = float(counts.max() / total)
            # the distance to even labels, and each share, so that a report can draw them
            found["tvd_to_even"] = float(np.abs(counts / total - 1 / len(counts)).sum() / 2)
            order = np.argsort(-counts, kind="stable")[:50]
            found |= {f"share.{labels.names[i]}": float(counts[i] / total) for i in order}
        return found

    def note(self, summary: Summary) -> str:
        labels: Labels = summary[self.needs()[0]]
        counts = (everything(summary.groups).astype(np.int64) @ labels.counts)[0]
        total = int(counts.sum())
        if not total:
            return "no record has a label"
        largest = int(counts.argmax())
        note = f"the largest of {int((counts > 0).sum())} labels, {labels.names[largest]!r}, "
        note += f"has {counts[largest] / total:.0%} of the records"
        once = int((counts == 1).sum())
        return note + (f"; {once} seen once" if once else "")
