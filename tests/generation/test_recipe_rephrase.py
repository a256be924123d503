"""Rephrase: each human record in other words; label, parent and style are recorded."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from scripted import Scripted, samples

from karat import records, registry
from karat.errors import InputError
from karat.generation.base import Plot, Slot
from karat.generation.recipes.rephrase import STYLES
from karat.generation.tasks import Attribute, Label, Task

HUMAN = records.from_rows(
    [
        {"id": f"h{i}", "text": f"The kettle of flat {i} is cold.", "label": "ab"[i % 3 == 0]}
        for i in range(9)
    ],
    datatype="classification",
)
TASK = Task("remark", (Label("a"), Label("b")))
TEXTS = dict(zip(HUMAN.ids, HUMAN.texts()))
LABELS = dict(zip(HUMAN.ids, HUMAN.labels() or ()))


def slots(spec: str = "rephrase", n: int = 9, task: Task = TASK) -> list[Slot]:
    return list(registry.make("recipes", spec).compose(Plot(task, n, 0, HUMAN, pool=samples(HUMAN))))


def test_each_record_is_rewritten_once_before_any_is_again() -> None:
    """Label and parent are the record's own, its text stands in the prompt."""
    found = slots(n=18)
    assert Counter(dict.fromkeys(HUMAN.ids, 2)) == Counter(slot.parents[0] for slot in found)
    assert set(HUMAN.ids) == {slot.parents[0] for slot in found[:9]}
    for slot in found:
        assert (LABELS[slot.parents[0]], 1) == (slot.label, len(slot.parents))
        assert TEXTS[slot.parents[0]] in slot.messages[0].content


def test_no_record_meets_a_style_twice_until_all_styles_are_used() -> None:
    """Six styles and nine records: 54 rows are 54 different pairs."""
    found = slots(n=54)
    assert 54 == len({(slot.parents[0], slot.attributes["style"]) for slot in found})
    assert dict.fromkeys(STYLES, 9) == Counter(slot.attributes["style"] for slot in found)
    assert all(slot.attributes["style"] in slot.messages[0].content for slot in found)


def test_styles_are_those_given_or_those_of_the_task() -> None:
    """The setting goes before the task's attribute, that before the built-in list."""
    task = Task("remark", TASK.labels, attributes=(Attribute("style", ("like a telegram",)),))
    assert {"like a telegram"} == {slot.attributes["style"] for slot in slots(task=task)}
    spec = "rephrase:styles=in verse+as a headline"
    assert {"in verse", "as a headline"} == {slot.attributes["style"] for slot in slots(spec, task=task)}


def test_an_unchanged_answer_is_rejected() -> None:
    """Also in other case; a rewritten one is kept."""
    (slot, *_) = slots()
    before = TEXTS[slot.parents[0]]
    for text, rejected in ((before, True), (before.upper(), True), ("That kettle has gone cold.", False)):
        scene = Scripted(TASK, slot, lambda messages, t=text: t)
        (draft,) = asyncio.run(registry.make("recipes", "rephrase").write(scene))
        assert rejected == bool(draft.reason)
        assert not rejected or "was not rewritten" in draft.reason


def test_items_are_rewritten_where_they_are_given() -> None:
    """Items take the place of the human records; classes that the task lacks are left out."""
    items = records.from_rows(
        [{"id": "i1", "text": "An item.", "label": "a"}, {"id": "i2", "text": "Other.", "label": "z"}],
        datatype="classification",
    )
    recipe = registry.make("recipes", "rephrase")
    found = list(recipe.compose(Plot(TASK, 3, 0, HUMAN, items, pool=samples(HUMAN))))
    assert ["i1"] * 3 == [slot.parents[0] for slot in found]
    with pytest.raises(InputError, match=r"no record of the task's classes.*--human"):
        list(recipe.compose(Plot(Task("x", (Label("q"),)), 3, 0, HUMAN, pool=samples(HUMAN))))


def test_records_of_several_fields_stay_so() -> None:
    """An instruction is shown and asked for as an object with both of its fields."""
    human = records.from_rows(
        [{"prompt": "Boil an egg.", "completion": "Ten minutes."}], datatype="instruction"
    )
    task = Task("instruction", type="instruction")
    (slot,) = registry.make("recipes", "rephrase").compose(Plot(task, 1, 0, human, pool=samples(human)))
    assert '{"prompt": "Boil an egg.", "completion": "Ten minutes."}' in slot.messages[0].content
    assert "Keep the fields." in slot.messages[0].content and "JSON" in slot.messages[0].content
