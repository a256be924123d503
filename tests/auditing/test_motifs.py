"""Motifs of discourse trees: every connected shape is counted, and the same shape under one name."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from karat.auditing import motifs
from karat.auditing.motifs import Graph, count, read_graph
from karat.errors import BadSetting, InputError

RELATIONS = ("Elaboration", "Joint", "Contrast", "Cause")


def tree(
    rng: np.random.Generator, leaves: int, *, weights: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
) -> dict[str, Any]:
    """A random binary discourse tree over `leaves` units, in the form of fields."""
    nodes, edges, relations = ["n0"], [], []
    open_ = ["n0"]
    while len(open_) < leaves:
        whole = open_.pop(int(rng.integers(len(open_))))
        left, right = f"n{len(nodes)}", f"n{len(nodes) + 1}"
        nodes += [left, right]
        open_ += [left, right]
        edges += [[left, whole], [right, whole]]
        name = str(rng.choice(RELATIONS, p=weights))
        relations.append([left, right, name])
        if name in ("Joint", "Contrast"):
            relations.append([right, left, name])
    return {"nodes": nodes, "edges": edges, "relations": relations}


def graph(fields: dict[str, Any]) -> Graph:
    found = read_graph(fields)
    assert found is not None
    return found


def brute(one: Graph, size: int) -> tuple[Counter[int], list[Any]]:
    """The motifs of one graph by trying every set of nodes and every known motif (networkx)."""
    nx = pytest.importorskip("networkx")
    whole = nx.DiGraph()
    whole.add_nodes_from(range(len(one.nodes)))
    for (a, b), label in one.edges.items():
        whole.add_edge(a, b, label=label)
    found: list[Any] = []
    times: Counter[int] = Counter()
    same = nx.algorithms.isomorphism.categorical_edge_match("label", None)
    for chosen in itertools.combinations(whole, size):
        part = whole.subgraph(chosen)
        if not nx.is_weakly_connected(part):
            continue
        for i, known in enumerate(found):
            if nx.is_isomorphic(known, part, edge_match=same):
                times[i] += 1
                break
        else:
            times[len(found)] += 1
            found.append(part.copy())
    return times, found


class TestCounting:
    @pytest.mark.parametrize(("size", "leaves"), [(2, 6), (3, 8), (4, 7), (6, 6), (9, 6)])
    def test_brute_force(self, size: int, leaves: int) -> None:
        """All connected sets of nodes, told apart exactly as by pairwise isomorphism tests."""
        nx = pytest.importorskip("networkx")
        rng = np.random.default_rng(size)
        for _ in range(4):
            one = graph(tree(rng, leaves))
            times, found = brute(one, size)
            counted = count([one], nodes=size)
            assert sorted(times.values()) == sorted(counted.counts.toarray()[0].tolist())
            same = nx.algorithms.isomorphism.categorical_edge_match("label", None)
            mappings = sorted(
                sum(
                    1
                    for _ in nx.algorithms.isomorphism.DiGraphMatcher(
                        g, g, edge_match=same
                    ).isomorphisms_iter()
                )
                for g in found
            )
            assert mappings == sorted(counted.symmetries.tolist())
            assert len(one.edges) == counted.edges[0]

    def test_graphs_that_are_no_trees(self) -> None:
        """Any directed graph with labels on its edges will do."""
        rng = np.random.default_rng(0)
        for _ in range(5):
            edges = {
                (int(a), int(b)): str(rng.choice(["x", "y"]))
                for a, b in itertools.permutations(range(8), 2)
                if rng.random() < 0.25
            }
            one = Graph(("",) * 8, edges)
            times, _ = brute(one, 4)
            assert sorted(times.values()) == sorted(count([one], nodes=4).counts.toarray()[0].tolist())

    def test_one_name_for_one_shape(self) -> None:
        """The names of motifs depend neither on the numbering of nodes nor on what else is counted."""
        rng = np.random.default_rng(3)
        fields = tree(rng, 9)
        one = graph(fields)
        order = rng.permutation(len(one.nodes))
        place = np.argsort(order)
        other = Graph(one.nodes, {(int(place[a]), int(place[b])): v for (a, b), v in one.edges.items()})
        both = count([one, other], nodes=5)
        assert (both.counts[0] != both.counts[1]).nnz == 0
        more = count([graph(tree(rng, 12)), one], nodes=5)
        alone = count([one], nodes=5)
        row = dict(zip(more.names, more.counts.toarray()[1].tolist(), strict=True))
        assert {k: v for k, v in row.items() if v} == dict(
            zip(alone.names, alone.counts.toarray()[0].tolist(), strict=True)
        )

    def test_by_hand(self) -> None:
        """One whole of two parts: three edges, one motif of three nodes, and its mirror image is itself."""
        one = graph(
            {"nodes": ["w", "l", "r"], "edges": [["l", "w"], ["r", "w"]], "relations": [["r", "l", "Cause"]]}
        )
        counted = count([one], nodes=3)
        assert 1 == len(counted.names)
        assert [[1]] == counted.counts.toarray().tolist()
        assert [1] == counted.symmetries.tolist()
        assert 1 == counted.names[0].count(":Cause")
        joint = graph(
            {
                "nodes": ["w", "l", "r"],
                "edges": [["l", "w"], ["r", "w"]],
                "relations": [["r", "l", "Joint"], ["l", "r", "Joint"]],
            }
        )
        assert [2] == count([joint], nodes=3).symmetries.tolist()

    def test_triads(self) -> None:
        """Published sizes 3, 6 and 9 are one, two and three triads that share nodes: 3, 5 and 7 nodes."""
        rng = np.random.default_rng(5)
        one = graph(tree(rng, 10))
        inner = {b for (a, b), label in one.edges.items() if label == motifs.PARENT}
        parents = {a: b for (a, b), label in one.edges.items() if label == motifs.PARENT}
        linked = [
            (a, b)
            for a, b in itertools.combinations(sorted(inner), 2)
            if parents.get(a) == b or parents.get(b) == a
        ]
        # two triads share a node where one whole is part of the other
        assert len(inner) == count([one], triads=1).counts.sum()
        assert len(linked) == count([one], triads=2).counts.sum()
        triples = [
            three
            for three in itertools.combinations(sorted(inner), 3)
            if sum(pair in linked for pair in itertools.combinations(three, 2)) == 2
        ]
        assert len(triples) == count([one], triads=3).counts.sum()

    def test_labels_of_nodes(self) -> None:
        """Nucleus and satellite tell motifs apart where they are asked to."""
        nodes = [
            {"id": "w", "label": "root"},
            {"id": "l", "label": "Nucleus"},
            {"id": "r", "label": "Satellite"},
        ]
        fields = {"edges": [["l", "w"], ["r", "w"]], "relations": [["r", "l", "Cause"]]}
        swapped = [nodes[0], {"id": "l", "label": "Satellite"}, {"id": "r", "label": "Nucleus"}]
        both = [graph({"nodes": one, **fields}) for one in (nodes, swapped)]
        assert 1 == len(count(both, nodes=3).names)
        assert 2 == len(count(both, nodes=3, labelled=True).names)

    def test_too_many(self) -> None:
        """A size at which the sets would not fit is refused with the way out, not tried."""
        star = Graph(("",) * 120, {(i, 0): "/" for i in range(1, 120)})
        with pytest.raises(BadSetting, match="choose a smaller number"):
            count([star], nodes=9)


class TestForms:
    def test_all_forms_are_one(self) -> None:
        """Lists of fields, node-link data and the brackets of the parser give the same motifs."""
        text = "(1:Nucleus=span:1,2:Satellite=Cause:3) (2:Nucleus=Joint:2,3:Nucleus=Joint:3)"
        listed = {
            "nodes": ["1-3", "1-1", "2-3", "2-2", "3-3"],
            "edges": [["1-1", "1-3"], ["2-3", "1-3"], ["2-2", "2-3"], ["3-3", "2-3"]],
            "relations": [["2-3", "1-1", "Cause"], ["2-2", "3-3", "Joint"], ["3-3", "2-2", "Joint"]],
        }
        links = [{"source": a, "target": b, "label_0": "/"} for a, b in listed["edges"]]
        links += [{"source": a, "target": b, "label_0": c} for a, b, c in listed["relations"]]
        node_link = {"nodes": [{"id": name} for name in listed["nodes"]], "links": links}
        forms = [{"parsed": text}, listed, {"graph": node_link}, {"graph": json.dumps(node_link)}]
        counted = count([graph(one) for one in forms], nodes=3)
        assert [counted.counts.toarray()[0].tolist()] * 4 == counted.counts.toarray().tolist()

    def test_no_tree(self) -> None:
        """A record without a tree has no graph; a tree that makes no sense is named."""
        assert read_graph({"parsed": "NONE"}) is None
        assert read_graph({}) is None
        with pytest.raises(InputError, match="record 7: its discourse tree cannot be read"):
            read_graph({"parsed": "(1:Nucleus"}, "7")
        with pytest.raises(InputError, match="cannot be read"):
            read_graph({"nodes": ["a"], "edges": [["a", "a"]]})
