"""Attributes of a task by a model: what is planted is found, what is there stays, the ambiguous goes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from karat import errors, records
from karat.generation import dimensions
from karat.generation.base import Request, Response
from karat.generation.engineering import attributes
from karat.generation.tasks import Attribute, Label, Task
from karat.records import Records

NAMES = ("rain", "snow", "wind", "dogs")
TASK = Task("weather and pet note", tuple(Label(name, f"about {name}") for name in NAMES))
# Values that suit another class as well; eight for `rain`: the paper allowed five.
PLANTED = {"rain": {f"rain topic {i}": "snow" for i in range(8)}, "snow": {"snow topic 3": "wind"}}


@dataclass
class Oracle:
    """Answers the questions of attribute engineering by a script; notes what it is asked."""

    batch_size: int = 1
    concurrency: int = 8
    model: str = "oracle"
    asked: list[str] = field(default_factory=list)
    values_at_a_time: int = 6

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        self.asked += [r.id for r in requests]
        return [Response(r.id, self.say(r), 20, 10, cost_usd=0.001, model=self.model) for r in requests]

    def say(self, request: Request) -> str:
        kind, _, rest = request.id.partition("/")
        text = request.messages[-1].content
        if kind == "dimensions":
            found = [
                {"name": "Length", "description": "how long", "class_dependent": False, "complete": True},
                {
                    "name": "sub-topic",
                    "description": "what about",
                    "class_dependent": True,
                    "complete": False,
                },
            ]
            if rest == "1":  # one draw of three has something else, which comes last
                found.insert(0, {"name": "time of day", "description": "when", "class_dependent": False})
            return f"Sure!\n```json\n{json.dumps(found)}\n```"
        if kind == "neighbours":
            near = {"rain": "snow", "snow": "wind", "wind": "rain", "dogs": "rain"}[rest]
            return f"1. {near.upper()}\n2. something else\n3. {rest}"
        if kind == "values":
            return self.values(rest, text)
        assert kind == "ambiguous"
        value, label = re.findall(r'"([^"]+)"', text)[:2]
        other = PLANTED.get(label, {}).get(value)
        listed = re.findall(r"^(\d+)\. (.+)$", text, flags=re.M)
        return next((f"{number}." for number, name in listed if name == other), "None.")

    def values(self, rest: str, text: str) -> str:
        name, *more = rest.split("/")
        if name == "length":
            return "- short\n- long\n- Short"
        topic = f"{more[0]} topic" if len(more) == 2 else name
        done = len(re.findall(rf"{topic} \d+", text))
        wanted = int(re.search(r"List (\d+)", text)[1])  # type: ignore[index]
        count = min(self.values_at_a_time, wanted)
        return "\n".join(f"{i + 1}) {topic} {done + i}" for i in range(count))


def test_everything_is_found_for_a_bare_task(tmp_path: Path) -> None:
    """Dimensions by votes, values topped up, neighbours of the task, all planted ambiguities gone."""
    found = attributes(TASK, provider=Oracle(), values=12, dimensions=3, journal=tmp_path)
    assert ["length", "sub_topic", "time_of_day"] == [one.name for one in found.task.attributes]
    assert [3, 3, 1] == [one.votes for one in found.dimensions]
    length, topic, _ = found.task.attributes
    assert ("short", "long") == length.values and length.complete
    assert {
        "rain": ("snow",),
        "snow": ("wind",),
        "wind": ("rain",),
        "dogs": ("rain",),
    } == found.task.neighbours
    removed = {label: set(reasons) for label, reasons in topic.removed_by_label.items()}
    assert {label: set(planted) for label, planted in PLANTED.items()} == removed
    assert 4 == len(topic.of("rain")) and 12 == len(topic.of("wind"))
    assert 48 == found.asked and "suits snow as well" in found.why("rain topic 0")
    told = found.to_json()
    assert 9 == told["filtered"]["removed"]
    assert Task.from_toml(_written(found.task, tmp_path)) == found.task


def test_human_records_are_a_task_to_begin_with() -> None:
    """Without a task file, the classes are those that people gave; without either, the cure is named."""
    human = records.from_rows([{"text": f"t {i}", "label": NAMES[i % 4]} for i in range(8)])
    found = attributes(human=human, provider=Oracle(), dimensions=1, neighbours=0, filter=False)
    assert sorted(NAMES) == list(found.task.label_names)
    assert ["length"] == [one.name for one in found.task.attributes]
    with pytest.raises(errors.InputError, match=r"no task; give a task file \(--task\), human records"):
        attributes(provider=Oracle())


def _written(task: Task, folder: Path) -> Path:
    path = folder / "task.toml"
    path.write_text(task.to_toml(), "utf-8")
    return path


def test_a_second_call_asks_nothing_and_an_edited_file_keeps_its_edits(tmp_path: Path) -> None:
    """All answers are in the journal; what people wrote stays, and only what is missing is asked for."""
    first = attributes(TASK, provider=Oracle(), values=12, journal=tmp_path)
    oracle = Oracle()
    again = attributes(TASK, provider=oracle, values=12, journal=tmp_path)
    assert [] == oracle.asked and first.task == again.task
    own = Attribute("mood", ("calm", "angry"), complete=True)
    kept = first.task.attribute("sub_topic")
    assert kept is not None
    edited = replace(first.task, attributes=(own, kept), neighbours={"rain": ("dogs",)})
    found = attributes(edited, provider=oracle, values=12, journal=tmp_path)
    assert own == found.task.attribute("mood")
    assert {"rain": ("dogs",)} == found.task.neighbours
    assert not [name for name in oracle.asked if name.startswith(("dimensions", "neighbours"))]
    topic = found.task.attribute("sub_topic")
    assert topic is not None
    # Values that were taken out do not come back when the list is topped up.
    assert not set(topic.of("rain")) & set(PLANTED["rain"])


def test_a_cap_keeps_what_was_answered(tmp_path: Path) -> None:
    """A cap stops in one line; the next call with a higher cap pays only for the rest."""
    with pytest.raises(errors.BudgetSpent, match="max_tokens=1500 is reached"):
        attributes(TASK, provider=Oracle(), values=12, max_tokens=1500, journal=tmp_path)
    oracle = Oracle()
    found = attributes(TASK, provider=oracle, values=12, journal=tmp_path)
    assert 0 < found.usage.reused and found.usage.answers == found.usage.reused + len(oracle.asked)


def test_human_records_name_neighbours_too() -> None:
    """Classes that share words in the human records are neighbours; agreement with the model is told."""
    human = _overlapping()
    found = attributes(TASK, human, provider=Oracle(), values=4, neighbours=1, filter=False)
    assert "snow" == found.task.neighbours["rain"][0]
    assert found.agreement is not None and 0.0 <= found.agreement <= 1.0
    alone = attributes(TASK, human, provider=Oracle(), values=4, neighbours=1, nearness="human", filter=False)
    assert ("snow",) == alone.task.neighbours["rain"] and alone.agreement is None


def _overlapping() -> Records:
    """Rain and snow share their words, wind and dogs share theirs."""
    words = {
        "rain": "cloud drop wet",
        "snow": "cloud drop white",
        "wind": "storm run air",
        "dogs": "bark run air",
    }
    rows = []
    for label, told in words.items():
        pieces = told.split()
        for i in range(40):
            rows.append(
                {
                    "text": f"{pieces[i % 2]} {pieces[(i + 1) % 2]} {pieces[2] if i % 4 == 0 else 'today'}",
                    "label": label,
                }
            )
    return records.from_rows(rows, datatype="classification")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. one\n2. two\n\n3) three", ["one", "two", "three"]),
        ('["one", "two"]', ["one", "two"]),
        ("Here you are:\n- **one**\n- two", ["one", "two"]),
        ("one, two; three", ["one", "two", "three"]),
        ('{"values": [{"name": "one"}, {"name": "two"}]}', ["one", "two"]),
        ("雨、雪、風", ["雨", "雪", "風"]),
        ("30 to 40 words\n30 to 45 words", ["30 to 40 words", "30 to 45 words"]),
        ("", []),
        ("x" * 500, []),
    ],
)
def test_lists_are_read_however_they_are_written(text: str, expected: list[str]) -> None:
    """Numbers, bullets, JSON, commas, any script; remarks and whole paragraphs are no values."""
    assert expected == dimensions.listed(text)


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "Mood", "description": "how it sounds"}, {"name": "sub-topic"}]',
        '{"dimensions": [{"name": "mood", "description": "how it sounds"}, "sub-topic"]}',
        "Here they are:\n1. **Mood**: how it sounds\n2. Sub-topic\nI hope this helps!",
        "- mood – how it sounds\n- sub topic",
    ],
)
def test_dimensions_are_read_however_they_are_written(text: str) -> None:
    """A JSON list, an object around one (as JSON modes give), or a list of names; prose names none."""

    class Lister(Oracle):
        def say(self, request: Request) -> str:
            return text if request.id.startswith("dimensions/") else super().say(request)

    found = attributes(TASK, provider=Lister(), dimensions=2, neighbours=0, values=3, filter=False)
    assert ["mood", "sub_topic"] == [attribute.name for attribute in found.task.attributes]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2", ["b"]), ("1, 3", ["a", "c"]), ("None.", []), ("no", []), ("It also suits b.", ["b"]), ("?", [])],
)
def test_answers_on_ambiguity_are_read(text: str, expected: list[str]) -> None:
    """Numbers or names; what says none, or cannot be read, takes nothing out."""
    assert expected == dimensions.read_neighbours(text, ["a", "b", "c"])


def test_a_model_that_answers_nonsense_is_named(tmp_path: Path) -> None:
    """No attribute that can be read is one line that names the model and the cure; bad settings are too."""

    class Mumbler(Oracle):
        def say(self, request: Request) -> str:
            return "I like turtles"

    with pytest.raises(errors.InputError, match="named no attributes that can be read"):
        attributes(TASK, provider=Mumbler())
    with pytest.raises(errors.BadSetting, match="values=0"):
        attributes(TASK, provider=Oracle(), values=0)
    with pytest.raises(errors.BadSetting, match="learns to write"):
        attributes(TASK, provider="embedded")


def test_values_of_several_classes_are_merged() -> None:
    """A value that two classes have is theirs together; one that names a class is out."""
    topic = Attribute(
        "subtopic",
        by_label={
            "rain": ("Thunder", "Heavy snow", "drizzle"),
            "wind": ("thunder", "gust"),
            "snow": ("drift",),
        },
    )
    task = Task(
        "note", tuple(Label(name) for name in ("rain", "wind", "snow")), multi_label=True, attributes=(topic,)
    )
    found = attributes(task, provider=Oracle(), values=1, neighbours=0, filter=False)
    merged = found.task.attribute("subtopic")
    assert merged is not None
    assert {"thunder"} <= {value.casefold() for value in merged.of("rain")} & {
        value.casefold() for value in merged.of("wind")
    }
    assert "Heavy snow" not in merged.of("rain") and "Heavy snow" in merged.gone("rain")
    assert any("classes a value" in note for note in found.notes)
