"""Exemplar: human records in the prompt, recorded as parents; what copies them is rejected."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from scripted import Scripted, samples

from karat import records, registry
from karat.generation.base import Draft, Plot, Sample, Slot
from karat.generation.tasks import Label, Task

TASK = Task("remark", (Label("animal"), Label("weather")))
SUBJECTS = {
    "animal": ("the old dog barks at another dog", "a grey cat sleeps beside the warm cat"),
    "weather": ("heavy rain falls on the wet roof", "cold snow covers the white fields"),
}
ROWS = [
    {"id": f"{label[0]}{kind}{i}", "text": f"{text} for the {i} time", "label": label}
    for label, both in SUBJECTS.items()
    for kind, text in enumerate(both)
    for i in range(5)
]
HUMAN = records.from_rows(ROWS, datatype="classification")
POOL = samples(HUMAN)
OF = {sample.id: sample for sample in POOL}


def slots(spec: str, n: int = 20, pool: list[Sample] | None = None) -> list[Slot]:
    return list(registry.make("recipes", spec).compose(Plot(TASK, n, 0, HUMAN, pool=pool or POOL)))


def answered(slot: Slot, text: str) -> Draft:
    scene = Scripted(TASK, slot, lambda messages: text, POOL)
    (draft,) = asyncio.run(registry.make("recipes", "exemplar").write(scene))
    return draft


@pytest.mark.parametrize("pick", ["random", "nearest", "diverse"])
def test_k_records_of_the_class_are_shown_and_are_the_parents(pick: str) -> None:
    """Every example is human, of the row's class, in the prompt word for word, and there once."""
    for slot in slots(f"exemplar:pick={pick}"):
        assert 3 == len(slot.parents) == len(set(slot.parents)) == slot.messages[0].content.count("Example ")
        for name in slot.parents:
            assert OF[name].label == slot.label and OF[name].text in slot.messages[0].content


@pytest.mark.parametrize("pick", ["random", "nearest", "diverse"])
def test_every_human_record_comes_first_once_before_any_does_twice(pick: str) -> None:
    """In as many rows as there are records, each leads one prompt."""
    assert {row["id"]: 1 for row in ROWS} == Counter(
        slot.parents[0] for slot in slots(f"exemplar:pick={pick}")
    )


def test_nearest_shows_one_kind_and_diverse_both() -> None:
    """In two planted kinds of texts a class: neighbours are of the same, what is spread is not."""
    for slot in slots("exemplar:pick=nearest"):
        assert 1 == len({name[:2] for name in slot.parents})
    for slot in slots("exemplar:pick=diverse"):
        assert 2 == len({name[:2] for name in slot.parents})


def test_made_records_are_never_shown() -> None:
    """What earlier rounds made stays out of the examples."""
    made = [Sample(f"m{i}", "made up", "animal", human=False) for i in range(50)]
    assert all(name in OF for slot in slots("exemplar", pool=[*made, *POOL]) for name in slot.parents)


def test_equal_texts_are_shown_once() -> None:
    """A record and its copies under other ids are one example."""
    copies = [Sample(f"c{i}", "it rains", "weather") for i in range(9)] + [Sample("o", "dry day", "weather")]
    task = Task("remark", (Label("weather"),))
    for pick in ("random", "nearest", "diverse"):
        recipe = registry.make("recipes", f"exemplar:pick={pick}")
        for slot in recipe.compose(Plot(task, 10, 0, pool=copies)):
            assert slot.messages[0].content.count("it rains") <= 1


def test_an_answer_that_copies_an_example_is_rejected() -> None:
    """Word for word, in other case, or with a word changed; a new text is kept."""
    (slot, *_) = slots("exemplar")
    shown = OF[slot.parents[1]].text
    assert f"copies {slot.parents[1]}, which was shown as an example" == answered(slot, shown.upper()).reason
    assert "nearly copies" in answered(slot, shown.replace(" the ", " that ", 1)).reason
    draft = answered(slot, "Two storks have built their nest on our chimney.")
    assert ("", "Two storks have built their nest on our chimney.") == (draft.reason, draft.fields["text"])
    assert 1 == len(draft.responses)
