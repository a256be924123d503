"""Persona: people of a wanted mixture, met to within one row for each cell and each class."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from karat import registry
from karat.errors import InputError
from karat.generation import plan
from karat.generation.base import Plot, Slot
from karat.generation.constraints import Constraint
from karat.generation.recipes.persona import FACETS, invented, read_people, shares_met
from karat.generation.tasks import Attribute, Label, Task

TASK = Task("complaint", (Label("a"), Label("b")))


def slots(spec: str = "persona", n: int = 100, task: Task = TASK, turn: int = 0) -> list[Slot]:
    return list(registry.make("recipes", spec).compose(Plot(task, n, 3, round=turn)))


@pytest.mark.parametrize("n", [1, 7, 40, 1000])
def test_shares_are_met_to_within_one_row(n: int) -> None:
    """Each cell, and each run of cells, has its share of n rows, rounded up or down."""
    weights = [0.31, 0.002, 0.2, 0.0, 0.088, 0.4]
    for seed in "abcdefgh":
        drawn = Counter(shares_met(weights, n, seed))
        assert n == sum(drawn.values()) and 0 == drawn[3]
        for start in range(6):
            for stop in range(start + 1, 7):
                share = n * sum(weights[start:stop])
                assert abs(sum(drawn[i] for i in range(start, stop)) - share) < 1 + 1e-9


def test_shares_are_met_on_the_average_too() -> None:
    """A cell of 0.2 % comes up in about one of 5 draws of 100 rows."""
    hits = sum(1 in shares_met([0.5, 0.002, 0.498], 100, str(seed)) for seed in range(1000))
    assert 150 <= hits <= 250


def test_the_joint_shares_of_a_file_are_the_target(tmp_path: Path) -> None:
    """Facets with weights: within each class every cell has its share, to within one row."""
    path = tmp_path / "people.jsonl"
    cells = [("young", "north", 3), ("young", "south", 1), ("old", "north", 0), ("old", "south", 6)]
    rows = [{"age": age, "region": region, "weight": weight} for age, region, weight in cells]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = slots(f"persona:path={path}", n=200)
    for label in "ab":
        told = Counter(slot.attributes["persona"] for slot in found if slot.label == label)
        assert {
            "age: young; region: north": 30,
            "age: young; region: south": 10,
            "age: old; region: south": 60,
        } == told
    for slot in found:
        assert f"You are this person: {slot.attributes['persona']}." in slot.messages[0].content


def test_plain_lists_and_named_personas_are_read(tmp_path: Path) -> None:
    """One a line, or an object with `persona`; blank lines do not count."""
    lines, named = tmp_path / "a.txt", tmp_path / "b.jsonl"
    lines.write_text("a nurse from Łódź\n\n  a retired judge \n", "utf-8")
    named.write_text('{"id": "1", "persona": "a baker", "weight": 2}\n{"persona": "a pilot"}\n', "utf-8")
    assert [("a nurse from Łódź", 1.0), ("a retired judge", 1.0)] == read_people(str(lines))
    assert [("a baker", 2.0), ("a pilot", 1.0)] == read_people(str(named))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"persona": "x", "weight": "much"}', r"p.jsonl:1: weight is no number"),
        ('{"persona": "x", "weight": -1}', r"p.jsonl:1: weight is -1"),
        ('{"persona": "x"}\n{"weight": 1}', r"p.jsonl:2: no persona; name it persona"),
        ('{"persona": "x", "weight": 0}', r"no persona with a weight above 0"),
    ],
)
def test_wrong_files_are_named_with_line_and_cure(tmp_path: Path, text: str, message: str) -> None:
    """One line for each mistake; a file that is missing is one too."""
    path = tmp_path / "p.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        slots(f"persona:path={path}")
    with pytest.raises(InputError, match=r"gone.txt: no such file"):
        slots(f"persona:path={tmp_path / 'gone.txt'}")


def test_the_attribute_of_the_task_is_used_where_it_has_one() -> None:
    """Its shares are the task's; nobody is invented."""
    people = Attribute("persona", ("a nurse", "a judge"), weights={"a nurse": 3, "a judge": 1})
    found = slots(n=40, task=Task("complaint", (Label("a"),), attributes=(people,)))
    assert {"a nurse": 30, "a judge": 10} == Counter(slot.attributes["persona"] for slot in found)
    assert all(
        "You are this person: " + slot.attributes["persona"] in slot.messages[0].content for slot in found
    )


def test_invented_people_are_possible_and_of_the_rough_shares() -> None:
    """No pensioner of twenty, no one at school at fifty; shares that nothing forbids are as they say."""
    people = invented()
    assert len(people) == len({told for told, _ in people}) > 100
    for told, _ in people:
        assert not (
            "retired" in told and ("under 18" in told or "between 18" in told or "between 30" in told)
        )
        assert ("at school" not in told) or "under 18" in told
    total = sum(weight for _, weight in people)
    for facet, slack in (("home", 0.001), ("manner", 0.001)):
        for value, share in FACETS[facet].items():
            assert abs(sum(w for told, w in people if value in told) / total - share) < slack
    assert abs(1 - sum(FACETS["age"].values())) < 1e-9 > abs(1 - sum(FACETS["occupation"].values()))


def test_people_are_drawn_anew_in_another_round_and_repeat_with_the_seed() -> None:
    """The same plot gives the same people; hardly one is there twice."""
    found = [slot.attributes["persona"] for slot in slots()]
    assert found == [slot.attributes["persona"] for slot in slots()]
    assert found != [slot.attributes["persona"] for slot in slots(turn=1)]
    assert len(set(found)) >= 60


def test_a_system_message_for_those_who_want_it() -> None:
    """place=system puts the person there, and the prompt stays alone."""
    for slot in slots("persona:place=system", n=4):
        system, user = slot.messages
        assert "system" == system.role and slot.attributes["persona"] in system.content
        assert slot.attributes["persona"] not in user.content


def test_other_attributes_are_requirements() -> None:
    """They are swept as ever, beside the person."""
    task = Task("complaint", (Label("a"),), attributes=(Attribute("tone", ("dry", "warm")),))
    for slot in slots(n=10, task=task):
        assert f"Tone: {slot.attributes['tone']}." in slot.messages[0].content
        assert "persona" in slot.attributes


def test_who_may_go_with_what_is_left_to_the_sampler() -> None:
    """Where constraints or joint shares speak of the persona, the rows are those of the sampler."""
    people = Attribute("persona", ("a nurse", "a judge"))
    tone = Attribute("tone", ("dry", "warm"))
    rule = Constraint(forbid={"persona": ("a judge",), "tone": ("warm",)})
    task = Task("complaint", (Label("a"),), attributes=(people, tone), constraints=(rule,))
    recipe = registry.make("recipes", "persona")
    assert list(plan.slots(Plot(task, 12, 3), recipe)) == slots(n=12, task=task)
