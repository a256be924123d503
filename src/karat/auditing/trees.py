"""Discourse motifs of two corpora as rates a document, with errors for clusters. Knows no metric.

Rates are counts over the edges of a tree, or over all its motifs. As published, a motif is counted once for
each mapping onto the tree, so that a motif with s symmetries counts s times; else each place counts once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing import motifs
from karat.auditing.attributes import numbered
from karat.auditing.base import Facts, Need, Summary, need
from karat.auditing.columns import Columns

if TYPE_CHECKING:
    import scipy.sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NORMS = ("edges", "motifs")


@dataclass(frozen=True)
class Trees:
    """The records of one side that have a discourse tree, first by hash."""

    keys: NDArray[np.uint64]
    clusters: NDArray[Any]
    domains: NDArray[Any]
    graphs: tuple[motifs.Graph, ...]

    def __len__(self) -> int:
        return len(self.graphs)


@dataclass(frozen=True)
class Rates:
    """Motifs of the documents of both sides: names, sparse rates [documents, motifs], side, domain."""

    names: tuple[str, ...]
    table: scipy.sparse.csr_matrix
    ours: NDArray[np.bool_]
    clusters: Ints
    domains: NDArray[Any]
    keys: NDArray[np.uint64]


def lacking(candidate: Facts, reference: Facts | None) -> str:
    """Why corpora have no discourse trees; empty where they have."""
    for side, facts in (("candidate", candidate), ("reference", reference)):
        if facts is not None and not {"edges", "graph", "parsed"} & facts.fields:
            return (
                f"needs discourse trees in the {side}: fields nodes, edges and relations, or graph, or parsed"
            )
    return ""


def needed(*further: str) -> tuple[Need, ...]:
    """The fields that `trees` reads."""
    return (need("columns", fields=" ".join(["id lineage.parents", motifs.FIELDS, *filter(None, further)])),)


def trees(summary: Summary, needs: Sequence[Need], domain: str = "") -> Trees:
    """The trees of one side, first by hash."""
    columns: Columns = summary[needs[0]]
    order = np.argsort(columns.keys, kind="stable")
    kept: list[int] = []
    graphs: list[motifs.Graph] = []
    fields = {name: columns[name] for name in motifs.FIELDS.split()}
    for row in order.tolist():
        graph = motifs.read_graph({name: values[row] for name, values in fields.items()}, columns["id"][row])
        if graph is not None and graph.edges:
            kept.append(row)
            graphs.append(graph)
    parents, ids = columns["lineage.parents"], columns["id"]
    names = np.empty(len(kept), dtype=object)
    for i, row in enumerate(kept):
        names[i] = parents[row][0] if parents[row] is not None and len(parents[row]) else ids[row]
    values = columns[domain][kept] if domain else np.full(len(kept), "", dtype=object)
    return Trees(columns.keys[kept], names, np.array([str(v) for v in values], dtype=object), tuple(graphs))


def rates(
    sides: Sequence[Trees], *, nodes: int, triads: int, labelled: bool, norm: str, published: bool
) -> Rates:
    """The rate of every motif in every document."""
    import scipy.sparse

    graphs = [graph for side in sides for graph in side.graphs]
    counted = motifs.count(graphs, nodes=nodes, triads=triads, labelled=labelled)
    table: Any = counted.counts.astype(np.float64)
    if published:
        table = table @ scipy.sparse.diags(counted.symmetries.astype(np.float64))
    below = counted.edges.astype(np.float64)
    if norm == "motifs":
        below = np.asarray(table.sum(axis=1), dtype=np.float64).ravel()
    table = scipy.sparse.diags(np.where(below > 0, 1 / np.maximum(below, 1e-300), 0.0)) @ table
    clusters = np.concatenate([side.clusters for side in sides])
    first = np.arange(len(graphs)) < len(sides[0])
    return Rates(
        counted.names,
        table.tocsr(),
        first,
        np.unique(clusters.astype(str), return_inverse=True)[1].astype(np.int64),
        np.concatenate([side.domains for side in sides]),
        np.concatenate([side.keys for side in sides]),
    )


@dataclass(frozen=True)
class Gap:
    """Candidate minus human of each motif [M], with its error, over one domain of balanced documents."""

    difference: Floats
    error: Floats
    df: float
    ours: Floats
    theirs: Floats
    n: int

    @property
    def distance(self) -> float:
        """The sum of absolute differences: by how many motifs the mean documents differ."""
        return float(np.abs(self.difference).sum())


def balanced(found: Rates, domain: str) -> tuple[Ints, Ints]:
    """The documents of a domain, as many of one side as of the other, the first by hash."""
    inside = found.domains == domain
    ours, theirs = np.flatnonzero(inside & found.ours), np.flatnonzero(inside & ~found.ours)
    n = min(len(ours), len(theirs))
    return ours[:n], theirs[:n]


def gap(found: Rates, ours: Ints, theirs: Ints) -> Gap:
    """The difference of the mean rates of two sets of documents, residuals summed by cluster.

    Var = G / (G - 1) * sum over clusters of (sum of residuals / n)^2, where a cluster may hold documents of
    both sides (Cameron and Miller 2015, section 2).
    """
    a, b = found.table[ours], found.table[theirs]
    means = [np.asarray(one.mean(axis=0)).ravel() for one in (a, b)]
    member = numbered(np.concatenate([found.clusters[ours], found.clusters[theirs]]))
    groups = int(member.max()) + 1
    weights = np.concatenate([np.full(len(ours), 1 / len(ours)), np.full(len(theirs), -1 / len(theirs))])
    sums = np.asarray((_indicator(member, weights) @ _stacked(a, b)).todense())
    for sign, mean in zip((1, -1), means, strict=True):
        held = np.bincount(member, weights=np.where(sign * weights > 0, weights, 0), minlength=groups)
        sums -= np.outer(held, mean)
    error = np.sqrt(groups / max(groups - 1, 1) * (sums**2).sum(axis=0))
    df = max(1.0, min(len(ours), len(theirs), groups) - 1.0)
    return Gap(means[0] - means[1], error, df, means[0], means[1], len(ours))


def _indicator(member: Ints, weights: Floats) -> scipy.sparse.csr_matrix:
    import scipy.sparse

    return scipy.sparse.csr_matrix((weights, (member, np.arange(len(member)))))


def _stacked(one: Any, other: Any) -> Any:
    import scipy.sparse

    return scipy.sparse.vstack([one, other])


def shuffled_distances(
    found: Rates, parts: Mapping[str, tuple[Ints, Ints]], *, trials: int, seed: int
) -> Floats:
    """float64 [trials]: the mean distance over domains when whole clusters are dealt out to sides at random.

    A cluster that holds both sides (a machine text and its source) has its sides swapped or not.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(trials)
    for ours, theirs in parts.values():
        rows = np.concatenate([ours, theirs])
        side = np.concatenate([np.ones(len(ours)), np.zeros(len(theirs))])
        member = numbered(found.clusters[rows])
        groups = int(member.max()) + 1
        held = np.bincount(member, weights=side, minlength=groups)
        whole = np.bincount(member, minlength=groups)
        mixed = (held > 0) & (held < whole)
        weights = np.empty((trials, len(rows)))
        single = np.flatnonzero(~mixed)
        for i in range(trials):
            dealt = np.empty(groups)
            dealt[single] = rng.permutation(held[single] / whole[single])
            now = np.where(mixed[member], side, dealt[member])
            swap = rng.random(groups) < 0.5
            now = np.where(mixed[member] & swap[member], 1 - now, now)
            weights[i] = now / max(now.sum(), 1) - (1 - now) / max((1 - now).sum(), 1)
        total += np.abs(np.asarray((found.table[rows].T @ weights.T).T)).sum(axis=1)
    return total / max(len(parts), 1)


def selected(difference: Floats, spread: float) -> Ints:
    """The motifs whose absolute difference is at least mean + spread * standard deviation over all motifs.

    Source: Das et al. 2024, Under the Surface, section on discourse motifs (spread 1 or 2).
    """
    size = np.abs(difference)
    return np.flatnonzero(size >= size.mean() + spread * size.std()) if len(size) else np.zeros(0, np.int64)
