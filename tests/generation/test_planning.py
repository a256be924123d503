"""Tasks, plans and recipes: read, written, edited; attributes that can be measured."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from karat import errors, registry
from karat.generation import attributes as finding
from karat.generation import plan as planning
from karat.generation.tasks import Attribute, Label, Task
from karat.records import Records

TOML = """
name = "bank"
domain = "message to a bank"
language = "German"

[labels]
card = "something about a card"
"lost money" = ""

[attributes.tone]
values = ["polite", "angry"]

[attributes.topic]
class_dependent = true
[attributes.topic.values]
card = ["limit", "delivery", "colour"]
"lost money" = ["transfer"]
"""


def bank(tmp_path: Path, text: str = TOML) -> Task:
    path = tmp_path / "task.toml"
    path.write_text(text, "utf-8")
    return Task.from_toml(path)


def test_a_task_file_is_read_and_written_back(tmp_path: Path) -> None:
    """Labels, definitions and attributes come through, and the written file reads as the same task."""
    task = bank(tmp_path)
    assert ("card", "lost money") == task.label_names
    assert "something about a card" == task.definition("card")
    assert ("transfer",) == task.attributes[1].of("lost money")
    assert task == bank(tmp_path, task.to_toml())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("domain = ", "is not TOML"),
        ('labels = ["a"]', "no key domain"),
        ('domain = "x"', "no labels"),
        ('domain = "x"\nlabel = ["a"]', "unknown key 'label'; did you mean 'labels'"),
        ('domain = "x"\ntype = "clasification"\nlabels = ["a"]', "did you mean 'classification'"),
        ('domain = "x"\nlabels = ["a", "a"]', "'a' stands twice"),
        ('domain = "x"\nlabels = ["a"]\n[attributes.tone]\nvalues = []', "'tone' has no values"),
        (
            'domain = "x"\nlabels = ["ab"]\n[attributes.t.values]\nac = ["1"]',
            "no label 'ac'; did you mean 'ab'",
        ),
        (
            'domain = "x"\nlabels = ["a"]\n[attributes.t]\nclass_dependent = true\nvalues = ["1"]',
            "for each label",
        ),
    ],
)
def test_a_wrong_task_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    """One line that names the file, the key and the cure."""
    with pytest.raises(errors.InputError, match=message) as caught:
        bank(tmp_path, text)
    assert "task.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_task_is_made_of_human_records(remarks: Records) -> None:
    """Type and labels are those of the records."""
    task = Task.from_records(remarks, domain="remark")
    assert (("animal", "weather"), "classification") == (task.label_names, task.type)


def test_every_row_is_planned_with_balanced_labels_and_no_repeats(tmp_path: Path) -> None:
    """Labels by quota at every prefix, combinations distinct until the space of a class is used up."""
    task = bank(tmp_path)
    plan = planning.make_plan(task, registry.make("recipes", "attributed"), 12, seed=3)
    assert {"card": 6, "lost money": 6} == Counter(row.label for row in plan)
    assert {"card": 3, "lost money": 3} == Counter(row.label for row in plan[:6])
    cards = [tuple(row.attributes.items()) for row in plan if row.label == "card"]
    assert 6 == len(set(cards))
    assert 12 == len({row.id for row in plan}) == len({row.seed for row in plan})
    assert plan == planning.make_plan(task, registry.make("recipes", "attributed"), 12, seed=3)
    assert plan != planning.make_plan(task, registry.make("recipes", "attributed"), 12, seed=4)


def test_prompts_name_class_requirements_and_language(tmp_path: Path) -> None:
    """The attributed prompt numbers every attribute; the simple one has none of them."""
    task = bank(tmp_path)
    row = planning.make_plan(task, registry.make("recipes", "attributed"), 2)[0]
    prompt = row.prompt[0].content
    for told in ("message to a bank", '1. It belongs to the class "card": something about a card.', "German"):
        assert told in prompt
    assert all(value in prompt for value in row.attributes.values())
    plain = planning.make_plan(task, registry.make("recipes", "simple"), 2)[0]
    assert not plain.attributes and "polite" not in plain.prompt[0].content


def test_a_plan_can_be_edited(tmp_path: Path) -> None:
    """Written as JSONL and read back it is the same plan; an edited prompt and a deleted row count."""
    task = bank(tmp_path)
    plan = planning.make_plan(task, registry.make("recipes", "attributed"), 5)
    path = planning.write_plan(plan, tmp_path / "plan.jsonl")
    assert plan == planning.read_plan(path, task)
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows[0]["prompt"] = "Write anything."
    path.write_text("\n".join(json.dumps(row) for row in rows[:3]), "utf-8")
    edited = planning.read_plan(path, task)
    assert ("Write anything.", 3) == (edited[0].prompt[0].content, len(edited))
    assert planning.fingerprint(plan) != planning.fingerprint(edited)
    rows[1]["label"] = "other"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    with pytest.raises(errors.InputError, match=r"plan.jsonl:2: label 'other' is not of the task"):
        planning.read_plan(path, task)


def test_attributes_are_found_in_human_records(remarks: Records) -> None:
    """Length buckets hold about equally many; topics separate the subjects of each class."""
    task, found = registry.make("recipes", "attributed:topics=2").enrich(
        Task.from_records(remarks), remarks, 0
    )
    assert ["length", "style", "topic"] == [a.name for a in task.attributes]
    own = [json.loads(text) for text in found.lineage("attributes")]
    counts = Counter(values["length"] for values in own)
    assert max(counts.values()) <= 2 * min(counts.values())
    for text, values in zip(found.texts(), own):
        bounds = finding.bounds(values["length"])
        assert bounds is not None and bounds.hold(text)
        assert ("brackets" in values["style"]) == ("(" in text)
    topic_of = {}
    for text, values in zip(found.texts(), own):
        topic_of.setdefault(next(w for w in ("dog", "cat", "rain", "snow") if w in text), set()).add(
            values["topic"]
        )
    assert all(len(topics) == 1 for topics in topic_of.values()) and 4 == len(
        {*map(frozenset, topic_of.values())}
    )
    again = registry.make("recipes", "attributed:topics=2").enrich(Task.from_records(remarks), remarks, 0)
    assert task == again[0]


def test_scripts_without_blanks_are_measured_in_characters() -> None:
    """Japanese has no blanks between words, so its lengths are characters."""
    texts = ["今日はとても良い天気ですね" + "本当に" * (i % 9) for i in range(60)]
    values = finding.length_values(texts, 3)
    assert all("characters" in value for value in values)
    assert all((b := finding.bounds(v)) is not None and b.hold(t) for v, t in zip(values, texts))


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("10 to 15 words", 10, 15),
        ("between 30 and 80 words", 30, 80),
        ("at most 9 words", 0, 9),
        ("28 words or more", 28, None),
    ],
)
def test_length_values_are_read_as_bounds(value: str, low: int, high: int | None) -> None:
    """The usual ways of writing a length are understood."""
    assert finding.Bounds(low, high, "words") == finding.bounds(value)


def test_marginals_follow_the_human_shares_or_are_even() -> None:
    """By default a value is planned as often as people use it; even sweeps all alike."""
    skewed = Attribute("tone", ("a", "b"), weights={"a": 0.9, "b": 0.1})
    for attribute, expected in ((skewed, 9), (Attribute("tone", ("a", "b")), 5)):
        other = Attribute("k", tuple(map(str, range(20))))
        task = Task("note", (Label("x"),), attributes=(attribute, other))
        plan = planning.make_plan(task, registry.make("recipes", "attributed"), 10)
        assert expected == Counter(row.attributes["tone"] for row in plan)["a"]


def test_attributed_without_attributes_or_human_data_says_what_to_give() -> None:
    """There is nothing to sweep, so the cure is named."""
    with pytest.raises(errors.InputError, match=r"no attributes.*--human"):
        registry.make("recipes", "attributed").enrich(Task("note", (Label("x"),)), None, 0)


def test_rows_of_a_multi_label_task_name_all_their_classes() -> None:
    """Sizes as wanted, every class in the prompt, neighbours kept out."""
    task = Task(
        "news item",
        (Label("sport", "games"), Label("money"), Label("law")),
        multi_label=True,
        cardinality={1: 0.5, 2: 0.5},
        neighbours={"sport": ("law", "money")},
    )
    rows = planning.make_plan(task, registry.make("recipes", "simple"), 40)
    sizes = [len(row.material["labels"]) for row in rows]
    assert (20, 20) == (sizes.count(1), sizes.count(2))
    for row in rows:
        labels = row.material["labels"]
        assert row.label == labels[0]
        assert all(f'"{label}"' in row.prompt[-1].content for label in labels)
        assert ("at once" in row.prompt[-1].content) == (len(labels) == 2)
    attributed = planning.make_plan(
        replace(task, attributes=(Attribute("tone", ("calm", "loud")),)),
        registry.make("recipes", "attributed"),
        40,
    )
    alone = next(row for row in attributed if row.material["labels"] == ["sport"])
    assert 'and not to "law" or "money"' in alone.prompt[-1].content
    both = next(row for row in attributed if set(row.material["labels"]) == {"sport", "law"})
    assert 'and not to "money"' in both.prompt[-1].content
