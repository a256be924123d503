"""Discourse trees as labelled graphs, and how often each small connected shape (motif) occurs in them.

A record carries its tree in one of three forms:

    nodes, edges, relations   nodes: a list of names, or of objects with `id` and `label` (Nucleus ...);
                              edges: [child, parent] pairs; relations: [from, to, name] triples
    graph                     node-link data as networkx writes it: nodes with `id`, links (or edges) with
                              `source`, `target` and `label` (or `label_0`, `relation`)
    parsed                    the bracket form of the DMRST parser, (1:Nucleus=span:1,2:Satellite=Cause:3) ...

A motif is a connected set of nodes with all edges among them, two being the same motif when some renaming
of nodes turns one into the other with directions and edge labels kept. All sets are enumerated: no
sampling, no hash that could collide. Knows no metric.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from karat.errors import BadSetting, InputError
from karat.texts.tokens import hash_strings, mix

if TYPE_CHECKING:
    import scipy.sparse

Ints = NDArray[np.int64]
FIELDS = "nodes edges relations graph parsed"
PARENT = "/"
"""The label of an edge from a part to its whole."""
_MOST = 8_000_000  # sets of nodes held at a time, before equal ones are joined: 8 bytes a node and set
_SLICE = 100_000  # sets that are compared at a time: 8 k^2 bytes each, a few times over
_NODES = 20_000  # nodes of the trees that are enumerated together
_WORD = re.compile(r"[\w/+.&-]+")
_SPAN = re.compile(r"\((\d+):([^=,()]+)=([^=,()]+):(\d+),(\d+):([^=,()]+)=([^=,()]+):(\d+)\)")


@dataclass(frozen=True)
class Graph:
    """A directed graph: one label a node ("" for none), and (from, to) -> label for each edge."""

    nodes: tuple[str, ...]
    edges: Mapping[tuple[int, int], str]


# ---------------------------------------------------------------------------------------- reading


def read_graph(fields: Mapping[str, Any], where: str = "") -> Graph | None:
    """The graph of one record from the fields it has; None where it has none. Raises InputError."""
    try:
        if fields.get("edges") is not None or fields.get("nodes") is not None:
            return _listed(*(_plain(fields.get(name)) or [] for name in ("nodes", "edges", "relations")))
        if fields.get("graph") is not None:
            return _node_link(_plain(fields["graph"]))
        if fields.get("parsed"):
            return _bracketed(str(fields["parsed"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"record {where}: its discourse tree cannot be read ({error}); see the forms in the help of "
            "motif_frequency (karat show metrics motif_frequency)"
        ) from None
    return None


def _plain(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _listed(nodes: Sequence[Any], edges: Sequence[Any], relations: Sequence[Any]) -> Graph:
    place: dict[str, int] = {}
    labels: list[str] = []
    for node in nodes:
        name, label = (node["id"], node.get("label") or "") if isinstance(node, dict) else (node, "")
        place[str(name)] = len(labels)
        labels.append(str(label))
    found: list[tuple[str, str, str]] = [(str(a), str(b), PARENT) for a, b, *_ in edges]
    found += [(str(a), str(b), str(name)) for a, b, name in relations]
    return _built(place, labels, found)


def _node_link(graph: Mapping[str, Any]) -> Graph:
    place: dict[str, int] = {}
    labels: list[str] = []
    for node in graph["nodes"]:
        place[str(node["id"])] = len(labels)
        labels.append(str(_label(node, ("label", "label_0", "type")) or ""))
    links = graph.get("links") or graph.get("edges") or []
    names = ("label", "label_0", "relation")
    found = [(str(one["source"]), str(one["target"]), str(_label(one, names) or PARENT)) for one in links]
    return _built(place, labels, found)


def _label(given: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((given[name] for name in names if given.get(name) is not None), None)


def _bracketed(text: str) -> Graph | None:
    """Spans (left:type=relation:end,start:type=relation:right): two parts of one whole and their relation."""
    spans = text.split()
    if not spans or text.strip().upper() == "NONE":
        return None
    place: dict[str, int] = {}
    labels: list[str] = []
    found: list[tuple[str, str, str]] = []

    def node(start: str, end: str, label: str) -> str:
        name = f"{start}-{end}"
        if name not in place:
            place[name] = len(labels)
            labels.append(label)
        elif label:
            labels[place[name]] = label
        return name

    for i, span in enumerate(spans):
        match = _SPAN.fullmatch(span)
        if match is None:
            raise ValueError(f"no span: {span[:60]}")
        left, one, relation, middle, start, other, back, right = match.groups()
        whole = node(left, right, "root" if i == 0 else "")
        first, second = node(left, middle, one), node(start, right, other)
        found += [(first, whole, PARENT), (second, whole, PARENT)]
        found += [(first, second, relation)] if relation != "span" else []
        found += [(second, first, back)] if back != "span" else []
    return _built(place, labels, found)


def _built(place: dict[str, int], labels: list[str], edges: Sequence[tuple[str, str, str]]) -> Graph:
    merged: dict[tuple[int, int], list[str]] = {}
    for source, target, label in edges:
        for name in (source, target):
            if name not in place:
                place[name] = len(labels)
                labels.append("")
        if source == target:
            raise ValueError(f"node {source!r} has an edge to itself")
        merged.setdefault((place[source], place[target]), []).append(label)
    # two relations in one direction are one edge that bears both names
    return Graph(tuple(labels), {key: "+".join(sorted(set(names))) for key, names in merged.items()})


# --------------------------------------------------------------------------------------- counting


@dataclass(frozen=True)
class Counts:
    """How often each motif occurs in each graph: counts [graphs, motifs], names, automorphisms and edges."""

    names: tuple[str, ...]
    counts: scipy.sparse.csr_matrix
    symmetries: Ints
    """int64 [motifs]: the number of renamings that leave a motif as it is."""
    edges: Ints
    """int64 [graphs]: the number of edges of each graph."""


class _TooMany(Exception):
    """The sets of nodes would not fit in memory."""


@dataclass
class Names:
    """Motifs by their canonical form, numbered as they are met; shared by all graphs that are compared."""

    known: dict[str, int] = field(default_factory=dict)
    symmetries: list[int] = field(default_factory=list)
    patterns: dict[bytes, int] = field(default_factory=dict)


def count(graphs: Sequence[Graph], *, nodes: int = 3, triads: int = 0, labelled: bool = False) -> Counts:
    """Count all motifs of graphs.

    Every connected set of `nodes` nodes is a place where one motif occurs; with `triads`, instead, that many
    triads (three nodes, each joined to both others: a whole, its two parts and their relation) that
    hang together at single nodes; the published sizes 3, 6 and 9 are 1, 2 and 3 of them.
    labelled tells motifs apart by the labels of nodes too. Raises BadSetting where there are too many.
    """
    import scipy.sparse

    vocabulary = sorted(
        {label for graph in graphs for label in graph.edges.values()} | {n for g in graphs for n in g.nodes}
    )
    codes = {label: i + 1 for i, label in enumerate(vocabulary)}
    hashes = np.concatenate([[np.uint64(0)], hash_strings(_strings(vocabulary))]) if vocabulary else None
    names = Names()
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    start, together = 0, _NODES
    while start < len(graphs):
        stop, total = start, 0
        while stop < len(graphs) and (stop == start or total + len(graphs[stop].nodes) <= together):
            total += len(graphs[stop].nodes)
            stop += 1
        forest = _Forest.of(graphs[start:stop], codes, labelled)
        try:
            sets = _triads(forest, triads) if triads else _connected(forest, nodes)
        except _TooMany:
            if stop - start == 1:
                raise BadSetting(
                    f"one tree of {total} nodes holds millions of connected sets of {nodes} nodes; choose a "
                    "smaller number, or triads=2, which follows whole triads"
                ) from None
            together = total // 2
            continue
        if len(sets):
            assert hashes is not None
            rows.append(forest.owner[sets[:, 0]] + start)
            columns += [
                _numbered(forest, sets[i : i + _SLICE], hashes, vocabulary, names)
                for i in range(0, len(sets), _SLICE)
            ]
        start = stop
    owner, column = np.concatenate(rows), np.concatenate(columns)
    shape_ = (len(graphs), len(names.known))
    table = scipy.sparse.csr_matrix((np.ones(len(owner), np.int64), (owner, column)), shape=shape_)
    table.sum_duplicates()
    order = np.array([i for _, i in sorted(names.known.items())], dtype=np.int64)
    return Counts(
        tuple(sorted(names.known)),
        table[:, order] if len(order) else table,
        np.array(names.symmetries, dtype=np.int64)[order],
        np.array([len(graph.edges) for graph in graphs], dtype=np.int64),
    )


def _strings(values: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.array(list(values), pa.large_string())


@dataclass(frozen=True)
class _Forest:
    """Many graphs with their nodes numbered through: neighbours as CSR, edges as sorted keys u * N + v."""

    owner: Ints
    label: Ints
    starts: Ints
    neighbours: Ints
    keys: Ints
    codes: Ints

    @classmethod
    def of(cls, graphs: Sequence[Graph], codes: Mapping[str, int], labelled: bool) -> _Forest:
        sizes = np.array([len(graph.nodes) for graph in graphs], dtype=np.int64)
        shift = np.concatenate([[0], np.cumsum(sizes)])
        n = int(shift[-1])
        ends = [
            (s + a, s + b, codes[name]) for s, g in zip(shift, graphs) for (a, b), name in g.edges.items()
        ]
        table = np.array(ends, dtype=np.int64).reshape(-1, 3)
        keys = table[:, 0] * n + table[:, 1]
        order = np.argsort(keys)
        pairs = np.unique(np.concatenate([keys, table[:, 1] * n + table[:, 0]])) if len(keys) else keys
        source = pairs // max(n, 1)
        label = np.array([codes[name] for graph in graphs for name in graph.nodes], dtype=np.int64)
        return cls(
            np.repeat(np.arange(len(graphs)), sizes),
            label if labelled else np.zeros(n, np.int64),
            np.searchsorted(source, np.arange(n + 1)),
            pairs % max(n, 1),
            keys[order],
            table[order, 2],
        )

    def code(self, source: Ints, target: Ints) -> Ints:
        """The code of the edge from `source` to `target`, 0 where there is none."""
        wanted = source * len(self.owner) + target
        at = np.minimum(np.searchsorted(self.keys, wanted), max(len(self.keys) - 1, 0))
        if not len(self.keys):
            return np.zeros_like(wanted)
        return np.asarray(np.where(self.keys[at] == wanted, self.codes[at], 0), dtype=np.int64)

    def grown(self, sets: Ints, column: int) -> tuple[Ints, Ints]:
        """Each row of `sets` once for each neighbour of its node in `column`, and those neighbours."""
        node = sets[:, column]
        degree = self.starts[node + 1] - self.starts[node]
        row = np.repeat(np.arange(len(sets)), degree)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(degree) - degree, degree)
        return row, self.neighbours[self.starts[node][row] + offset]


def _distinct(sets: Ints) -> Ints:
    """Rows as sets: sorted inside, each once."""
    if not len(sets):
        return sets
    sets = np.sort(sets, axis=1)
    order = np.lexsort(sets.T[::-1])
    sets = sets[order]
    return np.asarray(sets[np.concatenate([[True], (sets[1:] != sets[:-1]).any(axis=1)])])


def _connected(forest: _Forest, nodes: int) -> Ints:
    """All connected sets of `nodes` nodes [M, nodes]: each grows from a smaller one by a neighbour of it."""
    sets = np.arange(len(forest.owner), dtype=np.int64)[:, None]
    for _ in range(nodes - 1):
        if int((forest.starts[sets + 1] - forest.starts[sets]).sum()) > _MOST:
            raise _TooMany
        parts = []
        for column in range(sets.shape[1]):
            row, added = forest.grown(sets, column)
            fresh = (sets[row] != added[:, None]).all(axis=1)
            parts.append(np.column_stack([sets[row[fresh]], added[fresh]]))
        sets = _distinct(np.concatenate(parts))
    return sets


def _triads(forest: _Forest, number: int) -> Ints:
    """All sets of `number` triads that hang together at single nodes [M, 2 number + 1]."""
    three = _connected(forest, 3)
    if len(three):
        closed = np.ones(len(three), np.bool_)
        for a, b in itertools.combinations(range(3), 2):
            u, v = three[:, a], three[:, b]
            closed &= (forest.code(u, v) > 0) | (forest.code(v, u) > 0)
        three = three[closed]
    sets = three
    # triads by node: node -> the other two
    node = three.T.ravel()
    others = np.concatenate([three[:, [1, 2]], three[:, [0, 2]], three[:, [0, 1]]]) if len(three) else three
    order = np.argsort(node, kind="stable")
    starts = np.searchsorted(node[order], np.arange(len(forest.owner) + 1))
    for _ in range(number - 1):
        parts = [np.zeros((0, sets.shape[1] + 2), np.int64)]
        for column in range(sets.shape[1]):
            at = sets[:, column]
            degree = starts[at + 1] - starts[at]
            row = np.repeat(np.arange(len(sets)), degree)
            offset = np.arange(len(row)) - np.repeat(np.cumsum(degree) - degree, degree)
            pair = others[order[starts[at][row] + offset]]
            fresh = (sets[row][:, :, None] != pair[:, None, :]).all(axis=(1, 2))
            parts.append(np.concatenate([sets[row[fresh]], pair[fresh]], axis=1))
        sets = _distinct(np.concatenate(parts))
    return sets


# ------------------------------------------------------------------------------------- same motif?


def _numbered(
    forest: _Forest, sets: Ints, hashes: NDArray[np.uint64], vocabulary: Sequence[str], names: Names
) -> Ints:
    """int64 [M]: the number of the motif that each set of nodes is."""
    k = sets.shape[1]
    codes = np.zeros((len(sets), k, k), np.int64)
    for a, b in itertools.permutations(range(k), 2):
        codes[:, a, b] = forest.code(sets[:, a], sets[:, b])
    codes[:, range(k), range(k)] = forest.label[sets]
    colours = _colours(codes, hashes)
    order = np.argsort(colours, axis=1, kind="stable")
    rows = np.arange(len(sets))[:, None]
    colours = np.take_along_axis(colours, order, axis=1)
    codes = codes[rows[:, :, None], order[:, :, None], order[:, None, :]]
    tied = np.concatenate(
        [np.zeros((len(sets), 1), np.int64), np.cumsum(colours[:, 1:] != colours[:, :-1], axis=1)], axis=1
    )
    flat = np.concatenate([codes.reshape(len(sets), -1), tied], axis=1)
    patterns, which = _unique_rows(flat)
    found = np.empty(len(patterns), np.int64)
    for i, pattern in enumerate(patterns):
        key = pattern.tobytes() + bytes([k])
        if key not in names.patterns:
            names.patterns[key] = _named(pattern[: k * k].reshape(k, k), pattern[k * k :], vocabulary, names)
        found[i] = names.patterns[key]
    return found[which]


def _unique_rows(rows: Ints) -> tuple[Ints, Ints]:
    """The different rows, and the number of each row's."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    first = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    which = np.empty(len(rows), np.int64)
    which[order] = np.cumsum(first) - 1
    return ordered[first], which


def _colours(codes: Ints, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """uint64 [M, k]: what a node looks like from inside its set, by rounds of Weisfeiler and Lehman (1968).

    It only sorts the nodes beforehand: nodes of one colour are still tried in every order.
    """
    k = codes.shape[1]
    away = ~np.eye(k, dtype=np.bool_)
    edge = np.where(away & (codes > 0), hashes[codes], np.uint64(0))
    colours = mix(
        np.where(codes[:, range(k), range(k)] > 0, hashes[codes[:, range(k), range(k)]], np.uint64(7))
    )
    with np.errstate(over="ignore"):
        for _ in range(min(k, 4)):
            out = np.where(edge > 0, mix(edge ^ mix(colours)[:, None, :]), np.uint64(0)).sum(axis=2)
            into = np.where(edge > 0, mix(mix(edge) + colours[:, :, None]), np.uint64(0)).sum(axis=1)
            colours = mix(colours + mix(out) * np.uint64(3) + mix(into) * np.uint64(5))
    return np.asarray(colours, dtype=np.uint64)


def _named(codes: Ints, tied: Ints, vocabulary: Sequence[str], names: Names) -> int:
    """The number of a motif from one way of writing it down; ties of colour are tried in every order."""
    groups = [np.flatnonzero(tied == t).tolist() for t in range(int(tied[-1]) + 1)]
    best: tuple[int, ...] | None = None
    same = 0
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        order = [node for part in parts for node in part]
        written = tuple(codes[np.ix_(order, order)].ravel().tolist())
        if best is None or written < best:
            best, same = written, 1
        elif written == best:
            same += 1
    assert best is not None
    name = _spelt(np.array(best).reshape(codes.shape), vocabulary)
    if name not in names.known:
        names.known[name] = len(names.symmetries)
        names.symmetries.append(same)
    return names.known[name]


def _spelt(codes: Ints, vocabulary: Sequence[str]) -> str:
    """A motif as text: a>c b>c a>b:Cause. Plain arrows go from a part to its whole."""
    letters = "abcdefghijklmnop"
    parts = [
        f"{letters[i]}={vocabulary[c - 1]}" for i, c in enumerate(codes.diagonal()) if c and vocabulary[c - 1]
    ]
    for a, b in itertools.product(range(len(codes)), repeat=2):
        if a != b and codes[a, b]:
            label = vocabulary[codes[a, b] - 1]
            label = label if _WORD.fullmatch(label) else json.dumps(label, ensure_ascii=False)
            parts.append(f"{letters[a]}>{letters[b]}" + ("" if label == PARENT else f":{label}"))
    return " ".join(parts)
