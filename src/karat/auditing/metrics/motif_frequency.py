"""How many discourse motifs a text has for each edge of its discourse tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing import attributes, trees
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, Telling, View

_SHOWN = 8
_LISTED = 60


@dataclass(frozen=True)
class MotifFrequency(Metric):
    """The mean number of discourse motifs for each edge of a text's tree; each motif stands in `by`.

    A motif is a connected set of nodes of the tree with all edges among them. Trees come from a parser and
    stand in the records: `nodes`, `edges` ([child, parent]) and `relations` ([from, to, name]); or `graph`,
    node-link data as networkx writes it; or `parsed`, the bracket form of the DMRST parser.
    motif: only motifs whose name holds this text, for example Elaboration
    nodes: the number of nodes of a motif
    triads: instead, so many triads (a whole, its parts, their relation); published 3, 6, 9 are 1, 2, 3
    labelled: whether motifs are told apart by the labels of nodes too
    norm: edges (counts for each edge) or motifs (shares of all motifs of the text)
    """

    motif: str = ""
    nodes: int = 3
    triads: int = 0
    labelled: bool = False
    norm: str = "edges"

    family: ClassVar[str] = "discourse"
    misleads: ClassVar[str] = (
        "Long texts have other trees than short ones, and a parser makes mistakes of its own on LLM text: "
        "compare texts of like length, parsed by one parser."
    )
    cost: ClassVar[str] = "all connected sets of nodes: 1 ms a tree of 60 nodes at size 3, 6 ms at size 6"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Vary the structure that is asked for (story, list, argument), not the topic alone.",
        "lower": "Vary the structure that is asked for (story, list, argument), not the topic alone.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    by_label: ClassVar[bool] = False
    higher: ClassVar[str] = "more of the motifs"
    source: ClassVar[str] = (
        "Das et al. 2024, Under the Surface, figure 7; Kim et al. 2024, Threads of Subtlety (motifs)"
    )

    def __post_init__(self) -> None:
        attributes.checked(self.norm, trees.NORMS, "norm")
        if not 2 <= self.nodes <= 9 or not 0 <= self.triads <= 4:
            raise ValueError(
                f"nodes is {self.nodes} and triads {self.triads}; nodes are 2 to 9, triads 0 (none) to 4"
            )
        if self.norm == "motifs" and not self.motif:
            raise ValueError("norm is motifs, of which all motifs have 1; name one with motif=Elaboration")

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        return trees.lacking(candidate, reference)

    def needs(self) -> tuple[Need, ...]:
        return trees.needed()

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        sides = [trees.trees(one, self.needs()) for one in (candidate, reference) if one is not None]
        if not all(map(len, sides)):
            return Comparison(float("nan"), n=len(sides[0]), note="one side has no discourse tree")
        found = trees.rates(
            sides,
            nodes=self.nodes,
            triads=self.triads,
            labelled=self.labelled,
            norm=self.norm,
            published=context.mode == "paper",
        )
        chosen = np.array([self.motif in name for name in found.names], dtype=np.bool_)
        extra = {"trees": len(sides[0]), "motifs": int(chosen.sum())}
        if not chosen.any():
            shown = ", ".join(found.names[:3])
            note = f"no motif's name holds {self.motif!r} (names are like {shown})"
            return Comparison(float("nan"), n=len(sides[0]), note=note, extra=extra)
        columns = found.table[:, np.flatnonzero(chosen)]
        per_text = np.asarray(columns.sum(axis=1), dtype=np.float64).ravel()
        ours = attributes.clustered_mean(per_text[found.ours], found.clusters[found.ours])
        main: dict[str, Any] = {}
        if len(sides) > 1:
            main = _beside(per_text, found, ours)
        means = np.asarray(columns[np.flatnonzero(found.ours)].mean(axis=0)).ravel()
        human = (
            np.asarray(columns[np.flatnonzero(~found.ours)].mean(axis=0)).ravel() if len(sides) > 1 else None
        )
        names = [found.names[i] for i in np.flatnonzero(chosen)]
        order = np.argsort(-means, kind="stable")[:_LISTED]
        by = {}
        for i in order:
            one = columns[np.flatnonzero(found.ours), i].toarray().ravel()
            estimate = attributes.clustered_mean(one, found.clusters[found.ours])
            by[names[i]] = (estimate.value, estimate.interval(bounds=(0.0, None)), int((one > 0).sum()))
        top = names[int(order[0])]
        return Comparison(
            value=ours.value,
            interval=ours.interval(bounds=(0.0, None)),
            n=len(sides[0]),
            note=f"the most frequent of {len(names)} motifs is {top} ({means[order[0]]:.3f})",
            details={f"human.{names[i]}": float(human[i]) for i in order} if human is not None else {},
            by=by,
            extra=extra,
            telling=_telling(found, per_text),
            **main,
        )


def _beside(per_text: trees.Floats, found: trees.Rates, ours: stats.Estimate) -> dict[str, Any]:
    """The human value, the difference and what stands beside it."""
    groups = [found.clusters[found.ours], found.clusters[~found.ours]]
    texts = [per_text[found.ours], per_text[~found.ours]]
    theirs = attributes.clustered_mean(texts[1], groups[1])
    gap = attributes.clustered_gap(texts[0], texts[1], groups[0], groups[1], ours, theirs)
    return {
        "reference": theirs.value,
        "reference_interval": theirs.interval(bounds=(0.0, None)),
        "difference": gap.value,
        "difference_interval": gap.interval,
        "p": gap.p,
        "chance": float(per_text.mean()),
        "best": theirs.value,
        "effect": attributes.cliffs_delta(texts[0], texts[1]),
        "effect_name": "cliffs_delta",
    }


def _telling(found: trees.Rates, per_text: trees.Floats) -> tuple[Telling, ...]:
    """The candidate's texts with most motifs an edge."""
    values = np.where(found.ours, per_text, -1.0)
    order = np.argsort(-values, kind="stable")[:_SHOWN]
    return tuple(
        Telling(int(found.keys[i]), float(values[i]), f"{values[i]:.2f} motifs an edge")
        for i in order
        if values[i] > 0
    )
