"""How far the label shares of two corpora are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from karat.auditing import divergence
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Values, View, need
from karat.auditing.summaries import Labels


@dataclass(frozen=True)
class JsLabels(Metric):
    """The Jensen-Shannon divergence of the label shares of both corpora, in bits: 0 alike, 1 disjoint.

    correction: chance takes off what samples of one source have on average; none is the plug-in value
    """

    correction: Literal["chance", "none"] = "chance"

    family: ClassVar[str] = "label"
    misleads: ClassVar[str] = (
        "Training data may be balanced on purpose; records without a label are left out, and a label that is "
        "spelt otherwise is another label."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Ask for labels in the shares of human data, or sample and weight records to match them."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (None, 1.0)
    needs_labels: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    by_label: ClassVar[bool] = False
    paper: ClassVar[Mapping[str, Setting]] = {"correction": "none"}
    higher: ClassVar[str] = "further from human shares"
    source: ClassVar[str] = "Lin 1991, equation 4.1; Vinh, Epps and Bailey 2010, for the adjustment"

    def needs(self) -> tuple[Need, ...]:
        return (need("labels"),)

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        labels: Labels = pool[self.needs()[0]]
        return divergence.of_counts(labels.counts, ours, theirs, adjusted=self.correction == "chance")

    def details(self, summary: Summary) -> dict[str, float]:
        labels: Labels = summary[self.needs()[0]]
        half = summary.groups // 2
        parts = [labels.counts[:half].sum(axis=0), labels.counts[half:].sum(axis=0)]
        if not all(part.sum() for part in parts):
            return {}
        gaps = parts[0] / parts[0].sum() - parts[1] / parts[1].sum()
        most = sorted(range(len(gaps)), key=lambda i: -abs(gaps[i]))[:8]
        return {f"more.{labels.names[i]}": float(gaps[i]) for i in most}
