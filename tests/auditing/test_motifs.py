"""Motifs of discourse trees: every connected shape is counted, and the same shape under one name."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

import karat
from karat import records
from karat.auditing import motifs, trees
from karat.auditing import statistics as stats
from karat.auditing.motifs import Graph, count, read_graph
from karat.errors import BadSetting, InputError
from karat.records import Records

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


HUMAN, MACHINE = (0.4, 0.3, 0.2, 0.1), (0.6, 0.2, 0.1, 0.1)


def corpus(n: int, weights: tuple[float, ...], *, seed: int, domains: int = 1, copies: int = 1) -> Records:
    """Texts with random discourse trees; with copies, several texts of one source share its tree."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        fields = tree(rng, int(rng.integers(5, 12)), weights=weights)
        for k in range(copies):
            row = {"text": f"{seed} {i} {k}", "domain": f"d{i % domains}", **fields}
            rows.append({**row, "lineage": {"parents": [f"s{seed}-{i}"]}} if copies > 1 else row)
    return records.from_rows(rows, datatype="text")


class TestFrequency:
    def test_by_hand(self) -> None:
        """Counts for each edge of one small tree: one whole of two parts has one motif and three edges."""
        fields = {
            "nodes": ["w", "l", "r"],
            "edges": [["l", "w"], ["r", "w"]],
            "relations": [["r", "l", "Cause"]],
        }
        rows = records.from_rows([{"text": f"t{i}", **fields} for i in range(4)], datatype="text")
        score = karat.audit(rows, metrics="motif_frequency").scores[0]
        assert abs(score.value - 1 / 3) < 1e-12  # type: ignore[operator]
        assert 1 == len(score.by)

    def test_published_counts(self) -> None:
        """Paper mode counts mappings, as a subgraph matcher does: a symmetric motif counts twice."""
        nx = pytest.importorskip("networkx")
        found = corpus(20, HUMAN, seed=3)
        score = karat.audit(found, metrics="motif_frequency", mode="paper").scores[0]
        same = nx.algorithms.isomorphism.categorical_edge_match("label", None)
        expected = []
        for row in found:
            one = graph(row)
            whole = nx.DiGraph()
            for (a, b), label in one.edges.items():
                whole.add_edge(a, b, label=label)
            total = 0
            for part in brute(one, 3)[1]:
                matcher = nx.algorithms.isomorphism.DiGraphMatcher(whole, part, edge_match=same)
                total += sum(1 for _ in matcher.subgraph_isomorphisms_iter())
            expected.append(total / len(one.edges))
        assert abs(np.mean(expected) - score.value) < 1e-12  # type: ignore[operator]

    def test_planted(self) -> None:
        """Trees with more elaborations have more motifs of elaboration; the others stay where they are."""
        spec = "motif_frequency:motif=Elaboration motif_frequency:motif=Cause,norm=motifs"
        audited = karat.audit(corpus(150, MACHINE, seed=1), corpus(150, HUMAN, seed=2), metrics=spec)
        more, same = audited.scores
        assert more.flagged and more.difference is not None and more.difference > 0.05
        assert not same.flagged

    def test_refusals(self) -> None:
        """No tree, no such motif and settings without sense are said in one line."""
        plain = records.from_rows([{"text": "a"}, {"text": "b"}])
        with pytest.raises(BadSetting, match="needs discourse trees in the candidate"):
            karat.audit(plain, metrics="motif_frequency")
        with pytest.raises(BadSetting, match="name one with motif=Elaboration"):
            karat.audit(plain, metrics="motif_frequency:norm=motifs")
        audited = karat.audit(corpus(5, HUMAN, seed=0), metrics="motif_frequency:motif=Banana")
        assert "no motif's name holds 'Banana'" in audited.scores[0].note


class TestDifference:
    def test_planted(self) -> None:
        """More elaborations are found in both domains, motif by motif, and the distance is covered."""
        truth = self.distance()
        machine, human = corpus(240, MACHINE, seed=1, domains=2), corpus(200, HUMAN, seed=2, domains=2)
        audited = karat.audit(machine, human, metrics="motif_difference:by=domain")
        score = audited.scores[0]
        assert score.flagged and score.interval is not None
        assert score.interval[0] <= truth <= score.interval[1]
        assert 2 * score.chance < score.value  # type: ignore[operator]
        assert {"d0", "d1"} <= set(score.by)
        chosen = [name for name in score.details if name.startswith("selected.")]
        assert score.details["selected"] == len(chosen) >= 3
        assert any("Elaboration" in name for name in chosen)
        assert not any("Cause" in name for name in chosen)

    def distance(self) -> float:
        """The distance of the mean trees of both kinds, from many trees without sampling to speak of."""
        sides = []
        for weights in (MACHINE, HUMAN):
            rng = np.random.default_rng(9)
            many = [graph(tree(rng, int(rng.integers(5, 12)), weights=weights)) for _ in range(3000)]
            sides.append(many)
        counted = count([*sides[0], *sides[1]], nodes=3)
        rates = counted.counts.multiply(1 / counted.edges[:, None]).tocsr()
        gap = np.asarray(rates[:3000].mean(axis=0)) - np.asarray(rates[3000:].mean(axis=0))
        return float(np.abs(gap).sum())

    def test_the_published_selection(self) -> None:
        """Paper mode: mean difference per edge and domain, |difference| >= mean + spread * deviation."""
        machine, human = corpus(40, MACHINE, seed=1), corpus(40, HUMAN, seed=2)
        score = karat.audit(machine, human, metrics="motif_difference:spread=1", mode="paper").scores[0]
        graphs = [graph(row) for side in (machine, human) for row in side]
        counted = count(graphs, nodes=3)
        table = counted.counts.toarray() * counted.symmetries / counted.edges[:, None]
        gap = table[:40].mean(axis=0) - table[40:].mean(axis=0)
        expected = {
            counted.names[i] for i in np.flatnonzero(np.abs(gap) >= np.abs(gap).mean() + np.abs(gap).std())
        }
        chosen = {name.removeprefix("selected.") for name in score.details if name.startswith("selected.")}
        assert expected == chosen
        for name, difference in zip(counted.names, gap, strict=True):
            assert abs(score.by[name].value - difference) < 1e-12  # type: ignore[operator]

    def test_no_alarm_without_a_difference(self) -> None:
        """Trees of one source, three texts a tree: at most 10 alarms; the published rule always picks."""
        pool = corpus(1200, HUMAN, seed=5)
        graphs = [graph(row) for row in pool]
        counted = count(graphs, nodes=3)
        table = counted.counts.multiply(1 / counted.edges[:, None]).tocsr()
        alarms, picked = 0, 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            chosen = rng.permutation(1200)[:40]
            rows = np.repeat(chosen, 3)
            found = trees.Rates(
                counted.names,
                table[rows],
                np.arange(120) < 60,
                np.repeat(np.arange(40), 3),
                np.full(120, "", dtype=object),
                np.arange(120).astype(np.uint64),
            )
            parts = {"": trees.balanced(found, "")}
            gap = trees.gap(found, *parts[""])
            null = trees.shuffled_distances(found, parts, trials=60, seed=seed)
            alarms += stats.tail_p(gap.distance, null, two_sided=False) < 0.05
            picked += len(trees.selected(gap.difference, 1.0)) > 0
        assert alarms <= 10
        assert picked > 90

    def test_machine_texts_of_human_sources(self) -> None:
        """A machine text with the tree of its human source differs in nothing, and that is no alarm."""
        human = corpus(60, HUMAN, seed=7)
        ids = [f"h{i}" for i in range(60)]
        human = human.with_column("id", ids)
        machine = human.with_column("id", [f"m{i}" for i in range(60)])
        machine = machine.with_column("text", [f"other {i}" for i in range(60)]).with_lineage(
            parents=[[i] for i in ids]
        )
        score = karat.audit(machine, human, metrics="motif_difference").scores[0]
        assert score.value is not None and score.value < 1e-9
        assert not score.flagged
