"""Published attribute trees: every file is read, counts and repeat rates are those of the publication."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import pytest

from karat.errors import InputError
from karat.generation.attributes import bounds
from karat.generation.draws import draws
from karat.generation.merging import merge_values
from karat.generation.published import Published, read_published, read_tree, survey, unmarked
from karat.generation.sampler import combinations
from karat.generation.tasks import Task


@pytest.fixture(scope="module")
def trees(data_dir: Path) -> dict[str, Published]:
    """The eight published sets."""
    return read_tree(data_dir / "attrprompt_attributes" / "datasets")


# data set, attribute, lists, values in all of them, shortest, mean, longest: spec of the publication
COUNTS = [
    ("nyt", "subtopics", 27, 254, 6, 9.4, 20),
    ("amazon", "brands", 23, 227, 8, 9.87, 10),
    ("amazon", "product_name", 23, 378, 11, 16.5, 21),
    ("reddit", "experience", 45, 550, 1, 12.2, 21),
    ("reddit", "resource", 45, 449, 9, 10.0, 10),
    ("stackexchange", "scenario", 50, 487, 4, 9.7, 20),
    ("arxiv", "technique", 98, 973, 7, 9.93, 10),
    ("agnews", "subtopics", 4, 71, 15, 17.75, 20),
    ("sst-2", "subtopics", 2, 20, 10, 10.0, 10),
    ("yelp", "subtopics", 2, 20, 10, 10.0, 10),
]
LABELS = {"agnews": 4, "amazon": 23, "arxiv": 98, "nyt": 26, "reddit": 45, "sst-2": 2}
LABELS |= {"stackexchange": 50, "yelp": 2}

# data set: rows of a class, combinations of a class (mean), share of rows whose combination came before
RATES = {
    "nyt": (346, 624, 0.23),
    "amazon": (600, 9548, 0.03),
    "reddit": (600, 1454, 0.18),
    "stackexchange": (540, 430, 0.43),
}


def test_every_file_is_read(trees: dict[str, Published]) -> None:
    """All 577 files of the eight sets load, and every set is a task with all of its labels."""
    assert 577 == sum(found.files for found in trees.values())
    assert LABELS == {name: len(found.task.labels) for name, found in trees.items()}


@pytest.mark.parametrize(("name", "attribute", "lists", "values", "least", "mean", "most"), COUNTS)
def test_value_counts_are_the_published_ones(
    trees: dict[str, Published],
    name: str,
    attribute: str,
    lists: int,
    values: int,
    least: int,
    mean: float,
    most: int,
) -> None:
    """As many lists and values as in the publication; means within 1 %."""
    found = list(trees[name].lines[attribute].values())
    assert (lists, values, least, most) == (len(found), sum(found), min(found), max(found))
    assert float(np.mean(found)) == pytest.approx(mean, rel=0.01)


def spaces(found: Published) -> list[list[int]]:
    """The sizes of the lists of each class as the paper's program draws them: one value more, "Others"."""
    plain = [len(a.values) for a in found.task.attributes if not a.by_label]
    own = [found.lines[a.name] for a in found.task.attributes if a.by_label]
    return [[*plain, *(lines[file] + 1 for lines in own)] for file in own[0]]


@pytest.mark.parametrize("name", sorted(RATES))
def test_repeats_of_independent_draws_are_the_published_ones(trees: dict[str, Published], name: str) -> None:
    """Within one point, by formula and by our own draws, for a class with the mean number of combinations."""
    rows, mean, rate = RATES[name]
    every = spaces(trees[name])
    totals = np.array([prod(sizes) for sizes in every])
    assert float(totals.mean()) == pytest.approx(mean, rel=0.01)
    size = float(totals.mean())
    # of N combinations, N (1 - (1 - 1/N)^n) come in n draws
    assert 1 - size * (1 - (1 - 1 / size) ** rows) / rows == pytest.approx(rate, abs=0.01)
    typical = every[int(np.abs(totals - size).argmin())]
    expected = 1 - prod(typical) * (1 - (1 - 1 / prod(typical)) ** rows) / rows
    drawn = [
        1 - len(set(combinations(typical, rows, seed=seed, mode="independent"))) / rows for seed in range(60)
    ]
    assert float(np.mean(drawn)) == pytest.approx(expected, abs=0.01)
    assert float(np.mean(drawn)) == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize("name", sorted(RATES))
def test_covering_draws_repeat_nothing_and_meet_more_pairs(trees: dict[str, Published], name: str) -> None:
    """In the first 12 classes: no repeat until a class is used up, and no fewer pairs than by chance."""
    task = trees[name].task
    rows = RATES[name][0]
    for label in task.label_names[:12]:
        values = [a.of(label) for a in task.attributes]
        sizes = [len(v) for v in values]
        n = min(rows, prod(sizes))
        drawn = np.array(list(combinations(sizes, n, seed=1)))
        assert n == len(np.unique(drawn, axis=0))
        met, chance = pairs_met(drawn, sizes)
        assert (met >= chance - 1e-9).all()


def pairs_met(rows: np.ndarray, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """How many pairs of values have met after each row, and how many would have by independent draws."""
    new, chance = np.zeros(len(rows)), np.zeros(len(rows))
    t = np.arange(1, len(rows) + 1)
    for a in range(len(sizes)):
        for b in range(a):
            new[np.unique(rows[:, a] * sizes[b] + rows[:, b], return_index=True)[1]] += 1
            cells = sizes[a] * sizes[b]
            chance += cells * (1 - (1 - 1 / cells) ** t)
    return new.cumsum(), chance


def test_several_labels_are_as_published(trees: dict[str, Published]) -> None:
    """1,740 subtopics; 1,659 declare one label, 63 two; 1.07 in the mean, 4.7 % more than one."""
    found = trees["arxiv"]
    declared = Counter(found.declared.values())
    assert {1: 1659, 2: 63, 3: 9, 4: 5, 5: 1, 6: 3} == dict(sorted(declared.items()))
    assert 1.07 == round(sum(found.declared.values()) / 1740, 2)
    assert 0.047 == round(1 - declared[1] / 1740, 3)
    # 32 of them list two labels and declare one: the task keeps what is listed, and says so
    assert 1740 == len(found.labelled)
    assert any("32 values have another number of labels than n_lbl says" in w for w in found.warnings)
    assert found.task.multi_label
    assert 95 / 1740 == pytest.approx(found.task.cardinality[2])


def test_merging_the_lists_of_all_classes_gives_the_labels_back(data_dir: Path) -> None:
    """The published subtopics, taken apart and merged, have their labels again; the rest a reason."""
    found = survey(data_dir / "attrprompt_attributes/datasets/arxiv", catch_all=False)
    attribute = found.task.attribute("subtopics")
    assert attribute is not None
    merged = merge_values(attribute.by_label)
    assert 1740 == len(merged.labels) + len(merged.removed)
    # names of labels as words: these hold the name of another class, which the rule forbids
    assert 36 == len(merged.removed)
    assert all("the name of label" in why for why in merged.removed.values())
    published = {value.lower(): set(labels) for value, labels in found.labelled.items()}
    assert all(published[value] <= set(labels) for value, labels in merged.labels.items())


def test_what_is_broken_is_told_and_left_out(trees: dict[str, Published]) -> None:
    """Orphans of NYT and Reddit, and arXiv's neighbour lists of 0 to 99 lines, are warnings and no errors."""
    orphans = [w for w in trees["reddit"].warnings if "belongs to no label" in w]
    assert 8 == len(orphans)
    assert ["nyt/subtopics/cosmos.jsonl: belongs to no label of label.txt; left out"] == list(
        trees["nyt"].warnings
    )
    broken = [w for w in trees["arxiv"].warnings if "the neighbours are left out" in w]
    assert 6 == len(broken)
    task = trees["arxiv"].task
    assert all(1 <= len(near) <= 5 and label not in near for label, near in task.neighbours.items())


def test_a_published_task_is_a_task_file_and_can_be_drawn(data_dir: Path, tmp_path: Path) -> None:
    """What is imported can be written, edited, read and drawn; the catch-all is a matter of choice."""
    folder = data_dir / "attrprompt_attributes/datasets/nyt"
    task = read_published(folder)
    path = tmp_path / "nyt.toml"
    path.write_text(task.to_toml(), "utf-8")
    assert task == Task.from_toml(path)
    length, topics = task.attribute("length"), task.attribute("subtopics")
    assert length is not None and topics is not None
    assert [(30, 80), (100, 150)] == [(b.low, b.high) for v in length.values if (b := bounds(v))]
    assert {"length", "location", "style", "subtopics"} == {a.name for a in task.attributes}
    row = next(draws(task, "baseball", 1, seed=0))
    assert row["subtopics"] in topics.of("baseball")
    plain = read_published(folder, catch_all=False).attribute("subtopics")
    assert plain is not None
    assert all(len(topics.of(x)) == len(plain.of(x)) + 1 for x in task.label_names)


def test_only_marks_of_lists_are_taken_off() -> None:
    """Numbers and bullets go; what belongs to a value stays, in any script."""
    lines = {
        "12. New  fares ": "New  fares",
        "3) Гимн": "Гимн",
        "- 値段": "値段",
        "• x": "x",
        '1. "Machine Learning"': "Machine Learning",
        "3.5 mm jack": "3.5 mm jack",
        "2023 budget": "2023 budget",
        "-5 degrees": "-5 degrees",
        "7. 7 For All Mankind": "7 For All Mankind",
        'say "no"': 'say "no"',
    }
    assert list(lines.values()) == [unmarked(line) for line in lines]


def test_merging_follows_its_rules() -> None:
    """Union of labels, also when a value stands twice in one list; names of classes are no values."""
    merged = merge_values(
        {
            "graph_theory": ("1. Random Walks", "random walks", "Probability", "trees"),
            "probability": ("Random walks", "graph-theory", "graph theory on lattices", "theory"),
            "smart_art": ("art", "artful prose"),
            "価格": ("価格の変動",),
            "市場": ("価格の上昇", "株"),
        }
    )
    assert ("graph_theory", "probability") == merged.labels["random walks"]
    assert "is the name of label 'probability'" == merged.removed["probability"]
    assert "is nearly the name of label 'graph_theory'" == merged.removed["graph-theory"]
    assert "contains the name of label 'graph_theory'" == merged.removed["graph theory on lattices"]
    assert ("probability", "graph_theory") == merged.labels["theory"]
    assert ("smart_art",) == merged.labels["artful prose"]
    assert "contains the name of label '価格'" == merged.removed["価格の上昇"]
    assert {1: 5, 2: 2} == merged.cardinality


def test_a_folder_without_lists_is_an_error(tmp_path: Path) -> None:
    """One line that names the folder and what to name instead."""
    with pytest.raises(InputError, match=r"no label\.txt in it; name the folder of one data set"):
        read_published(tmp_path)
    (tmp_path / "label.txt").write_text("a\n")
    with pytest.raises(InputError, match="no folder with lists of values"):
        read_published(tmp_path)
