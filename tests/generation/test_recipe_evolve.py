"""Evolve: operators in depth and breadth, and the rules by which an evolution is eliminated."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from scripted import Scripted, samples

from karat import records, registry
from karat.generation.base import Draft, Plot, Sample, Slot
from karat.generation.recipes.evolve import BREADTH, INSTRUCTIONS, TEXTS
from karat.generation.tasks import Label, Task

HUMAN = records.from_rows(
    [
        {"id": f"h{i}", "prompt": f"Write about the {w}.", "completion": "Well."}
        for i, w in enumerate("sea sky sun".split())
    ],
    datatype="instruction",
)
SEEDS = samples(HUMAN)
TASK = Task("instruction for an assistant", type="instruction", language="English")


@dataclass(frozen=True)
class Child(Sample):
    parents: tuple[str, ...] = ()


def slots(spec: str = "evolve", n: int = 12, pool: list[Sample] | None = None, turn: int = 0) -> list[Slot]:
    return list(
        registry.make("recipes", spec).compose(Plot(TASK, n, 0, HUMAN, pool=pool or SEEDS, round=turn))
    )


def written(*answers: str, spec: str = "evolve:breadth=0") -> tuple[Draft, Scripted]:
    rest = iter(answers)
    scene = Scripted(TASK, slots(spec)[0], lambda messages: next(rest), SEEDS)
    (draft,) = asyncio.run(registry.make("recipes", spec).write(scene))
    return draft, scene


def test_every_record_is_evolved_as_often() -> None:
    """Twelve rows from three records: four each; the instruction is in the prompt, its answer is not."""
    found = slots()
    assert {"h0": 4, "h1": 4, "h2": 4} == Counter(slot.parents[0] for slot in found)
    for slot in found:
        assert slot.material["text"] in slot.messages[0].content and "Well." not in slot.messages[0].content


def test_operators_in_depth_and_breadth() -> None:
    """A fifth in breadth by default; every operator in depth comes up, and its words stand in the prompt."""
    found = slots(n=300)
    drawn = Counter(slot.attributes["operator"] for slot in found)
    assert 35 <= drawn[BREADTH] <= 90 and {*INSTRUCTIONS, BREADTH} == set(drawn)
    for slot in found:
        operator = slot.attributes["operator"]
        assert INSTRUCTIONS.get(operator, "about something less common") in slot.messages[0].content
    assert {BREADTH} == {slot.attributes["operator"] for slot in slots("evolve:breadth=1")}


def test_what_was_made_is_evolved_further() -> None:
    """In the next round the children come first, then those that had no child."""
    made = [
        Child(
            "m0",
            "x",
            None,
            fields={"prompt": "Write about the sea in verse.", "completion": "y"},
            human=False,
            parents=("h0",),
        )
    ]
    found = slots(n=4, pool=[*SEEDS, *made], turn=1)
    assert "m0" == found[0].parents[0] and {"h1", "h2"} == {slot.parents[0] for slot in found[1:3]}
    assert "h0" == found[3].parents[0]


def test_an_evolved_instruction_is_answered() -> None:
    """Two calls; the second is the evolved instruction itself."""
    draft, scene = written("Write about the sea and name three of its dangers.", "Waves, cold and salt.")
    assert ("Write about the sea and name three of its dangers.", "Waves, cold and salt.") == (
        draft.fields["prompt"],
        draft.fields["completion"],
    )
    assert draft.fields["prompt"] == scene.asked[1][1][0].content and 2 == len(draft.responses)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("same", "nothing was evolved"),
        ("SAME", "nothing was evolved"),
        ("Go on.", "too short"),
        ("?!... --- !", "too short"),
        ("New instruction: write about the sea and its many storms.", "speaks of the prompt"),
        ("The rewritten prompt: write about the sea and its many storms.", "speaks of the prompt"),
        ("I'm sorry, but I can't help with that request.", "refus"),
        ("", "empty"),
    ],
)
def test_eliminated_evolutions_say_by_which_rule(answer: str, reason: str) -> None:
    """No second call is made for them."""
    parent = slots("evolve:breadth=0")[0].material["text"]
    said = {"same": parent, "SAME": parent.upper()}.get(answer, answer)
    draft, scene = written(said)
    assert reason in draft.reason and not draft.fields and 1 == len(scene.asked)


def test_an_instruction_about_something_new_is_none_of_these() -> None:
    """Only a heading speaks of the prompt; a text that begins with "new" does not."""
    draft, _ = written("New rivers are rare; explain at length how one begins.", "By rain.")
    assert not draft.reason


def test_texts_have_operators_of_their_own() -> None:
    """Classes stay, the whole text is shown, one call a record."""
    human = records.from_rows(
        [{"id": "c", "text": "The tap drips.", "label": "a"}], datatype="classification"
    )
    task = Task("complaint", (Label("a"),))
    recipe = registry.make("recipes", "evolve:breadth=0")
    for slot in recipe.compose(Plot(task, 30, 0, human, pool=samples(human))):
        assert slot.attributes["operator"] in TEXTS and "The tap drips." in slot.messages[0].content
        scene = Scripted(task, slot, lambda messages: "It drips, but only at night.", samples(human))
        (draft,) = asyncio.run(recipe.write(scene))
        assert ({"text": "It drips, but only at night."}, 1) == (draft.fields, len(scene.asked))
        assert 1 == recipe.calls(slot)


def test_rounds_add_up() -> None:
    """Four generations of about the same size; never an empty one."""
    recipe = registry.make("recipes", "evolve")
    for n in (1, 3, 4, 10, 1001):
        assert n == sum(recipe.rounds(n)) and min(recipe.rounds(n)) >= 1 and len(recipe.rounds(n)) <= 4
