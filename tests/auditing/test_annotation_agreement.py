"""Agreement against references: kappa of scikit-learn, alpha of its author's example and of a peer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from annotation_corpora import Told, context, people

from karat import registry
from karat.auditing import agreement
from karat.auditing.base import Comparison, everything

# Four observers and twelve units, the example of Krippendorff (2011), section C; alpha is .743 (nominal),
# .815 (ordinal) and .849 (interval) there.
OBSERVERS = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def observed() -> Told:
    """The example as records."""
    return Told(
        {f"o{i}": [[] if x == "." else [x] for x in line.split()] for i, line in enumerate(OBSERVERS)}
    )


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_its_author(level: str, expected: float) -> None:
    """The published example, to the digits printed."""
    metric = registry.make("metrics", f"krippendorff_alpha:level={level}")
    assert expected == pytest.approx(float(metric.values(observed(), everything(20))[0]), abs=5e-4)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_of_a_peer(level: str) -> None:
    """Equal to the package krippendorff to 1e-9, with answers missing, also on parts of the groups."""
    peer = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, (6, 90)).astype(float)
    labels[rng.random(labels.shape) < 0.3] = np.nan
    given = {f"a{i}": [[] if np.isnan(x) else [str(int(x))] for x in row] for i, row in enumerate(labels)}
    told = Told(given, groups=9)
    metric = registry.make("metrics", f"krippendorff_alpha:level={level}")
    masks = np.concatenate([everything(9), ~np.eye(9, dtype=np.bool_)])
    found = metric.values(told, masks)
    for mask, value in zip(masks, found, strict=True):
        part = labels[:, mask[np.arange(90) % 9]]
        assert peer.alpha(part, level_of_measurement=level) == pytest.approx(value, abs=1e-9)


def test_coincidences_by_brute_force() -> None:
    """Each ordered pair of labels of a unit counts 1 / (m - 1), and groups add up."""
    counts = np.array([[2, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 4]])
    expected = np.zeros((3, 3))
    for row in counts:
        labels = np.repeat(np.arange(3), row)
        for a, b in itertools.permutations(range(len(labels)), 2):
            expected[labels[a], labels[b]] += 1 / (len(labels) - 1)
    found = agreement.coincidences(counts, np.array([0, 1, 1, 0]), 2)
    assert np.allclose(expected, found.sum(axis=0))


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_of_a_peer(weights: str) -> None:
    """Equal to scikit-learn's kappa where each side has one label an item."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    human = rng.integers(0, 4, 80)
    model = np.where(rng.random(80) < 0.6, human, rng.integers(0, 4, 80))
    metric = registry.make("metrics", f"annotator_agreement:weights={weights}")
    found = metric.compare(
        Told({"m": [[one] for one in model]}), Told({"p": [[one] for one in human]}), context()
    )
    expected = metrics.cohen_kappa_score(human, model, weights=None if weights == "none" else weights)
    assert expected == pytest.approx(found.value, abs=1e-12)
    assert (0.0, 1.0, None) == (found.chance, found.best, found.p)
    assert float((human == model).mean()) == pytest.approx(found.details["accuracy"])


def test_a_person_left_out() -> None:
    """Model and people are held against the same majorities, each person left out in turn: by hand."""
    human = [["0", "0", "1"], ["1", "1", "1"], ["0", "1", "1"]]
    model = [["0"], ["1"], ["0"]]
    # item 1: others of p0 {0,1}, of p1 {0,1}, of p2 {0}; item 3: others of p0 {1}, of p1 {0,1}, of p2 {0,1}
    person = np.mean([np.mean([0.5, 0.5, 0]), 1, np.mean([0, 0.5, 0.5])])
    machine = np.mean([np.mean([0.5, 0.5, 1]), 1, np.mean([0, 0.5, 0.5])])
    metric = registry.make("metrics", "annotator_agreement:measure=accuracy")
    found: Comparison = metric.compare(Told({"m": model}), Told(people(human)), context())
    assert float(person) == pytest.approx(found.reference)
    assert float(machine) == pytest.approx(found.value)
    assert found.reference == found.best
    paper = metric.compare(Told({"m": model}), Told(people(human)), context(mode="paper"))
    assert 2 / 3 == pytest.approx(paper.value), "the majority of all three: 0, 1, 1"


def test_annotators_among_themselves() -> None:
    """Without a reference each is held against the others, and one who guesses is named."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 300)
    given = {
        f"a{i}": [[str(x)] for x in np.where(rng.random(300) < 0.85, truth, rng.integers(0, 3, 300))]
        for i in range(4)
    }
    given["guess"] = [[str(x)] for x in rng.integers(0, 3, 300)]
    found = registry.make("metrics", "annotator_agreement").compare(Told(given), None, context())
    assert "guess" == min(found.by, key=lambda name: found.by[name][0])
    assert found.by["guess"][0] == pytest.approx(0.0, abs=0.12)
    assert "guess" in found.note
    assert ["outlier.guess"] == [name for name in found.details if name.startswith("outlier.")]


def test_alpha_says_why_it_has_no_value() -> None:
    """Labels without an order have no ordinal alpha, and the note says how to give them one."""
    told = Told({"a": [["low"], ["high"]], "b": [["low"], ["low"]]})
    metric = registry.make("metrics", "krippendorff_alpha:level=ordinal")
    assert np.isnan(metric.values(told, everything(20))[0])
    assert "labels=" in metric.note(told)
    ordered = registry.make("metrics", "krippendorff_alpha:level=ordinal,labels=low+high")
    assert np.isfinite(ordered.values(told, everything(20))[0])
