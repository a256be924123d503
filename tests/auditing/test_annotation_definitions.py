"""Label metrics by hand: the published definitions to the last digit, cleaning, and what "proper" changes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from annotation_corpora import Told, context, corpus, people

import karat
from karat import records, registry
from karat.auditing import labels_distance, labels_sets, labels_sheet, labels_spread
from karat.auditing.base import Comparison
from karat.errors import BadSetting

# Seven items; three people, five draws. Majority and minority of each side by hand:
#   people        majority   minority      model          majority  minority
#   0 0 0         {0}        None          0 0 0 0 0      {0}       None
#   0 0 1         {0}        {1}           1 1 1 0 0      {1}       {0}
#   0 1 2         None       None          0 0 1 1 2      {0,1}     {2}
#   1 1 2         {1}        {2}           1 1 0 2 x      {1}       {0,2}     (x: not a label)
#   2 2 0         {2}        {0}           0 1 2 x x      None      None
#   1 1 1         {1}        None          1 1 1 1 2      {1}       {2}
#   0 2 2         {2}        {0}           x x x x x      None      None
HUMAN = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 1, 2], [2, 2, 0], [1, 1, 1], [0, 2, 2]]
X = ["nan", "", "3", "-1", "null"]
MODEL: list[list[Any]] = [
    [0, 0, 0, 0, 0],
    [1, 1, 1, 0, 0],
    [0, 0, 1, 1, 2],
    [1, 1, 0, 2, "nan"],
    [0, 1, 2, "", "3"],
    [1, 1, 1, 1, 2],
    X,
]


def scored(name: str, mode: str = "proper", human: Any = HUMAN, model: Any = MODEL) -> Comparison:
    """A metric on hand-made labels."""
    metric = registry.make("metrics", name)
    found: Comparison = metric.compare(Told({"m": model}), Told(people(human)), context(mode=mode))
    return found


def test_majority_and_minority_sets() -> None:
    """All labels with the largest and the smallest count; None where every value is unique, or all equal."""
    counts = np.array([[3, 0, 0], [2, 1, 0], [1, 1, 1], [2, 2, 1], [1, 0, 0], [0, 0, 0], [2, 2, 0]])
    majority = [[0], [0], [], [0, 1], [], [], [0, 1]]
    minority = [[], [1], [], [2], [], [], []]
    sets = labels_sets.majority(counts, single=False)
    assert majority == [np.flatnonzero(row).tolist() for row in sets]
    assert minority == [np.flatnonzero(row).tolist() for row in labels_sets.minority(counts)]
    assert [0] == np.flatnonzero(labels_sets.majority(counts)[4]).tolist(), "one label alone, proper mode"


def test_majority_match_as_published() -> None:
    """Items 1, 4 and 6 match; None on either side counts 0; over all seven items."""
    found = scored("majority_match", "paper")
    assert 3 / 7 == found.value
    assert (3 / 7, 7) == (found.by["m"][0], found.by["m"][2])


def test_minority_match_as_published() -> None:
    """Item 4 alone matches ({2} and {0, 2}), over all seven items."""
    assert 1 / 7 == scored("minority_match", "paper").value


def test_proper_mode_leaves_out_what_has_no_set() -> None:
    """Both sides have a majority on items 1, 2, 4 and 6, and a minority on 2 and 4."""
    majority, minority = scored("majority_match"), scored("minority_match")
    assert (3 / 4, 4) == (majority.value, majority.n)
    assert (1 / 2, 2) == (minority.value, minority.n)


def test_mismatch_as_published() -> None:
    """No item has equal minority lists, and None on both sides (items 1 and 5 ... 7) is no equality."""
    found = scored("label_mismatch", "paper")
    assert 1.0 == found.value
    same = scored("label_mismatch", "paper", [[0, 0, 1], [1, 1, 1]], [[1, 0, 0], [1, 1, 1]])
    assert 1 / 2 == same.value
    proper = scored("label_mismatch", "proper", [[0, 0, 1], [1, 1, 1]], [[1, 0, 0], [1, 1, 1]])
    assert (0.0, 1) == (proper.value, proper.n)


def test_flips_as_published() -> None:
    """The i-th label of people with the i-th of the model, up to the shorter list; invalid ones left out."""
    found = scored("label_flips", "paper")
    cells = {name: value for name, value in found.details.items() if name.startswith("flip.")}
    # pairs: 00 00 00 | 01 01 11 | 00 10 21 | 11 11 20 | 20 21 02 | 11 11 11 | none
    assert 18 == found.details["pairs"]
    assert 8 == found.details["flips"]
    assert 8 / 18 == found.value
    expected = {"flip.0>1": 2, "flip.1>0": 1, "flip.2>1": 2, "flip.2>0": 2, "flip.0>2": 1, "flip.1>2": 0}
    assert expected == cells


def test_flips_over_all_pairs() -> None:
    """Proper mode is the expectation over all pairs, by brute force; people's own flips stand beside it."""
    found = scored("label_flips")
    rates, own = [], []
    for human, model in zip(HUMAN[:6], MODEL[:6], strict=True):
        valid = [one for one in model if one in (0, 1, 2)]
        rates.append(np.mean([a != b for a in human for b in valid]))
        own.append(np.mean([a != b for a, b in itertools.combinations(human, 2)]))
    assert float(np.mean(rates)) == pytest.approx(found.value, abs=1e-12)
    assert float(np.mean(own)) == pytest.approx(found.reference, abs=1e-12)


def test_variation_as_published() -> None:
    """The mean standard deviation (ddof 1) of the lists as they are."""
    human = [np.std(one, ddof=1) for one in HUMAN[:6]]
    model = [np.std([x for x in one if x in (0, 1, 2)], ddof=1) for one in MODEL[:6]]
    found = scored("label_variation", "paper")
    assert float(np.mean(model)) == pytest.approx(found.value, abs=1e-12)
    assert float(np.mean(human)) == pytest.approx(found.reference, abs=1e-12)
    assert 6 == sum(value for name, value in found.details.items() if name.startswith("joint."))


def test_variation_at_equal_draws() -> None:
    """Variances (ddof 1) do not depend on the number of labels, entropies are those of the shorter list."""
    found = scored("label_variation")
    variances = [np.var([x for x in one if x in (0, 1, 2)], ddof=1) for one in MODEL[:6]]
    assert float(np.sqrt(np.mean(variances))) == pytest.approx(found.value, abs=1e-12)
    counts = np.array([[3, 1, 1], [2, 2, 0], [5, 0, 0]])
    expected = []
    for row in counts:
        labels = np.repeat(np.arange(3), row)
        subsets = [np.unique(one, return_counts=True)[1] / 3 for one in itertools.combinations(labels, 3)]
        expected.append(np.mean([-(p * np.log2(p)).sum() for p in subsets]))
    drawn = labels_spread.entropy(counts, np.array([3, 3, 3]))
    assert np.allclose(expected, drawn, atol=1e-12)


def test_same_labels_in_so_many_draws() -> None:
    """The chance that k labels drawn without replacement are one, by listing all draws."""
    counts = np.array([[3, 1, 1], [2, 2, 0], [5, 0, 0]])
    expected = [
        np.mean([len(set(one)) == 1 for one in itertools.combinations(np.repeat(np.arange(3), row), 3)])
        for row in counts
    ]
    assert np.allclose(expected, labels_spread.same(counts, np.array([3, 3, 3])), atol=1e-12)


def test_distances_by_hand() -> None:
    """TVD, JSD in bits, and soft cross-entropy with half a label added to each."""
    mine, theirs = np.array([[4, 0], [1, 1]]), np.array([[0, 3], [1, 1]])
    assert [1.0, 0.0] == labels_distance.distance(mine, theirs, "tvd").tolist()
    assert [1.0, 0.0] == labels_distance.distance(mine, theirs, "jsd").tolist()
    expected = [-np.log2(0.5 / 5), 1.0]
    assert np.allclose(expected, labels_distance.distance(mine, theirs, "cross_entropy"))


def test_raw_distances_in_paper_mode() -> None:
    """The mean over items of half the absolute differences of shares."""
    human = np.array([[one.count(k) / 3 for k in range(3)] for one in HUMAN[:6]])
    kept = [[x for x in one if x in (0, 1, 2)] for one in MODEL[:6]]
    model = np.array([[one.count(k) / len(one) for k in range(3)] for one in kept])
    found = scored("label_distribution", "paper")
    assert float(np.abs(human - model).sum(axis=1).mean() / 2) == pytest.approx(found.value, abs=1e-12)


def test_one_label_a_list() -> None:
    """A single answer is its own majority in proper mode; as published it has none."""
    human, model = [[0, 0, 1], [1, 1, 0]], [[0], [0]]
    assert 0.5 == scored("majority_match", "proper", human, model).value
    assert 0.0 == scored("majority_match", "paper", human, model).value


def test_cleaning() -> None:
    """Labels outside the space of people are invalid, whole numbers within it are not, 2.0 is 2."""
    told = Told({"m": [["2.0", "1", "7", "-1", "nan", "", "x"]]})
    book = labels_sheet.read(told.columns, Told(people([[0, 2]])).columns)
    assert ("0", "1", "2") == book.space
    assert [2, 1, -1, -1, -1, -1, -1] == book.mine.label.tolist()
    given = labels_sheet.read(told.columns, None, labels=("x", "1"))
    assert [-1, 1, -1, -1, -1, -1, 0] == given.mine.label.tolist()
    assert given.points is not None, "a given order is an order"
    nominal = labels_sheet.read(Told({"m": [["a", "b", "nan"]]}).columns)
    assert (("a", "b"), None) == (nominal.space, nominal.points)


def test_invalid_share() -> None:
    """What cleaning takes away is counted, by annotator and with its commonest forms."""
    found = scored("invalid_share")
    assert 8 / 35 == found.value
    assert 8 == round(found.by["m"][0] * found.by["m"][2])
    assert 0.0 == found.reference
    assert "'nan' x2" in found.note


def test_invalid_choices() -> None:
    """Of preferences, every choice that is not a, b or tie."""
    rows = [
        {"prompt": f"p{i}", "response_a": "x", "response_b": "y", "choice": choice, "rater": "r"}
        for i, choice in enumerate(["a", "b", "tie", "invalid", "A", "invalid"])
    ]
    found = karat.audit(records.from_rows(rows), metrics="invalid_share").score("invalid_share")
    assert (2 / 6, 6) == (found.value, found.n)
    assert 2 / 6 == found.by["r"].value


def test_a_draw_that_stands_twice_counts_once() -> None:
    """People's labels repeated beside each model are not multiplied; repeats of a person are kept."""
    base = {"text": "t", "human_annots": [0, 1, 1]}
    both = records.from_rows(
        [{**base, "model_name": name, "model_annots": [1, 1]} for name in ("m", "n")], datatype="annotation"
    )
    found = karat.audit(both, metrics="label_flips", budget="small").score("label_flips")
    assert 1 / 3 == pytest.approx(found.value)
    assert {"m", "n"} == set(found.by)
    again = labels_sheet.read(
        Told({"p": [["0", "1"]]}, sample_id=[None, None]).columns  # type: ignore[list-item]
    )
    assert 2 == len(again.mine)


def test_texts_that_stand_twice() -> None:
    """Paper mode drops items whose text stood in an earlier item; proper mode goes by the item."""
    told = Told({"m": [["0"], ["1"], ["2"]]}, text=["same", "other", "same"])
    assert 2 == len(labels_sheet.read(told.columns, once=True).mine)
    assert 3 == len(labels_sheet.read(told.columns).mine)


def test_items_that_are_not_shared() -> None:
    """Without a common item there is no value, and the note says what to do."""
    other = corpus({"p": [["0"]]}, "human").with_column("item_id", ["elsewhere"])
    found = karat.audit(corpus({"m": [["0"]]}), other, metrics="majority_match").scores[0]
    assert found.value is None
    assert "item_id" in found.note


def test_whose_labels_make_a_list() -> None:
    """Annotators who label each item once are a crowd, unless it is said otherwise."""
    human = people([[0, 0, 0], [1, 1, 1]])
    crowd = {name: [[0], [label]] for name, label in (("a", 1), ("b", 1), ("c", 0))}
    for per, expected in (("auto", 1.0), ("crowd", 1.0), ("annotator", 5 / 6)):
        metric = registry.make("metrics", f"majority_match:per={per}")
        assert expected == pytest.approx(metric.compare(Told(crowd), Told(human), context()).value)
    with pytest.raises(BadSetting, match="choose one of"):
        registry.make("metrics", "majority_match:per=nobody")


def test_leave_one_out() -> None:
    """A person's label counts as a hit if it is among the commonest ones of the others, ties in full."""
    counts = np.array([[2, 1, 0], [1, 1, 1], [3, 0, 0], [1, 0, 0]])
    # item 1: both 0 hit ({0,1} of the others), the 1 misses; item 2: no hit; item 3: three hits
    assert (5 / 9, 9) == labels_sets.leave_one_out(counts)


def test_numbers_that_are_names() -> None:
    """With scale=nominal numbered classes are no scale: r is that of the shares, as for named classes."""
    human, model = [[0], [1], [2], [0], [2]] * 4, [[0], [1], [0], [2], [2]] * 4
    values = {}
    for spec, shape in (("nominal", "{}"), ("auto", "class {}")):
        sides = [[[shape.format(one[0])] for one in side] for side in (model, human)]
        metric = registry.make("metrics", f"item_information:scale={spec}")
        values[spec] = metric.compare(Told({"m": sides[0]}), Told({"p": sides[1]}), context()).value
    assert values["auto"] == pytest.approx(values["nominal"], abs=1e-12)
    scaled = registry.make("metrics", "item_information").compare(
        Told({"m": model}), Told({"p": human}), context()
    )
    expected = np.corrcoef([one[0] for one in model], [one[0] for one in human])[0, 1]
    assert float(expected) == pytest.approx(scaled.value, abs=1e-12)
