"""Task files: every data type, all that a task may want, there and back; each mistake named with its cure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karat import records, registry
from karat.errors import InputError
from karat.generation.constraints import Constraint, Joint
from karat.generation.draws import draws
from karat.generation.tasks import Attribute, Label, Task

HEAD = 'domain = "note"\n[labels]\na = ""\nb = ""\n'

# Anything that UTF-8 can hold: quotes, backslashes, newlines, controls, DEL, all scripts.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "'''", '"""\\', "a\r\nb", "\x7f\x00\t", "ключ", "値.段", "مرحبا", "a = 1 # b", "\u2028\u0085", "💡"]
)
NAME = TEXT.filter(lambda text: text != "label")
SHARE = st.floats(0.001, 1e6) | st.integers(1, 9).map(float)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """A task of any type, as a file may hold it."""
    datatype = draw(st.sampled_from(registry.names("datatypes")))
    least = 1 if datatype == "classification" else 0
    names = draw(st.lists(TEXT, min_size=least, max_size=4, unique=True))
    some = st.sampled_from(names) if names else st.nothing()

    def shares(keys: tuple[str, ...] | list[str]) -> dict[str, float]:
        return {key: draw(SHARE) for key in keys} if keys and draw(st.booleans()) else {}

    attributes = []
    for name in draw(st.lists(NAME, max_size=3, unique=True)):
        own = bool(names) and draw(st.booleans())
        of = {x: tuple(draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))) for x in names if own}
        plain = () if own else tuple(draw(st.lists(TEXT, min_size=1, max_size=4, unique=True)))
        gone = draw(st.dictionaries(TEXT, TEXT, max_size=2))
        by_label = {x: shares(of.get(x, plain)) for x in names} if draw(st.booleans()) else {}
        by_label = {x: found for x, found in by_label.items() if found}
        attributes.append(
            Attribute(
                name,
                plain,
                of,
                weights={} if by_label or own else shares(plain),
                weights_by_label=by_label,
                complete=draw(st.booleans()),
                removed=gone,
                removed_by_label={names[0]: {"x": "y"}} if names and not gone and draw(st.booleans()) else {},
            )
        )
    several = datatype == "classification" and draw(st.booleans())
    dialogue, translation = datatype == "dialogue", datatype == "translation"
    asks = datatype in ("annotation", "preference")
    joint, rules = [], []
    if len(attributes) > 1:
        left, right = (next(iter(a.by_label.values()), a.values)[0] for a in attributes[:2])
        pair = (attributes[0].name, attributes[1].name)
        joint = [Joint(pair, ((left, right, draw(SHARE)),), draw(some) if names else "")]
        rules = [Constraint(given={pair[0]: (left,)}, then={pair[1]: (right,)})]
        if names:
            rules.append(Constraint(given={pair[0]: (left,), "label": (names[0],)}, then={pair[1]: (right,)}))
    return Task(
        domain=draw(TEXT.filter(str.strip)),
        labels=tuple(Label(name, draw(TEXT)) for name in names),
        type=datatype,
        name=draw(TEXT),
        language=draw(TEXT),
        instructions=draw(TEXT),
        attributes=tuple(attributes),
        schema=draw(st.dictionaries(TEXT, TEXT | st.integers(), max_size=2)),
        shares=shares(names),
        multi_label=several,
        most_labels=len(names) if several else 0,
        cardinality={1: draw(SHARE)} if several else {},
        neighbours={names[0]: tuple(names[1:])} if len(names) > 1 else {},
        constraints=tuple(rules),
        joint=tuple(joint),
        question=draw(TEXT) if asks else "",
        choices=tuple(draw(st.lists(TEXT, max_size=3, unique=True))) if asks else (),
        roles=draw(st.dictionaries(TEXT, TEXT, max_size=2)) if dialogue else {},
        turns=draw(st.integers(0, 99)) if dialogue else 0,
        source_language=draw(TEXT) if translation else "",
        target_language=draw(TEXT) if translation else "",
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(task=tasks())
def test_a_task_is_the_same_after_its_file(task: Task, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a task holds, in any script and with any quotes, is there again after writing and reading."""
    path = tmp_path_factory.mktemp("task") / "task.toml"
    path.write_bytes(task.to_toml().encode("utf-8"))
    try:
        found = Task.from_toml(path)
    except InputError as error:
        # Random rules may leave nothing to draw; that alone is refused.
        assert "leave no combination" in str(error)
        return
    assert task == found


@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (Path(__file__).parents[2] / "examples/tasks").iterdir())
)
def test_examples_load_and_come_back(root: Path, tmp_path: Path, name: str) -> None:
    """The example of each data type is valid, keeps its meaning when written again, and can be drawn."""
    task = Task.from_toml(root / "examples" / "tasks" / f"{name}.toml")
    path = tmp_path / "again.toml"
    path.write_text(task.to_toml(), "utf-8")
    assert task == Task.from_toml(path)
    for label in task.label_names or (None,):
        rows = list(draws(task, label, 12, seed=0))
        assert 12 == len(rows)
        assert all(rule.holds(label, row) for rule in task.constraints for row in rows)


def test_there_is_an_example_for_each_data_type(root: Path) -> None:
    """Nobody has to guess what a task file of their data type looks like."""
    found = {Task.from_toml(path).type for path in (root / "examples" / "tasks").glob("*.toml")}
    assert set(registry.names("datatypes")) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + "[shares]\nab = 1\n", "shares names no label 'ab'; did you mean '"),
        (HEAD + "[shares]\na = -1\n", "shares: 'a' is -1; write a number of 0 or more"),
        (HEAD + "[neighbours]\na = ['c']\n", "neighbours of 'a' names no label 'c'"),
        (
            HEAD + "[attributes.x]\nvalues = ['u']\nweigths = {u = 1}\n",
            "unknown key 'weigths'; did you mean 'weights'",
        ),
        (
            HEAD + "[attributes.x]\nvalues = ['up']\nweights = {ut = 1}\n",
            "names no value 'ut'; did you mean 'up'?",
        ),
        (
            HEAD + "[attributes]\nlabel = ['u']\n",
            "bears the name by which constraints speak of the class; rename it",
        ),
        (HEAD + "[attributes]\nx = ['u']\n[[constraints]]\nforbid = {y = 'u'}\n", "names no attribute 'y'"),
        (HEAD + "[attributes]\nx = ['u']\n[[constraints]]\nforbid = {x = 'v'}\n", "x names no value 'v'"),
        (
            HEAD + "[attributes]\nx = ['u']\n[[constraints]]\nif = {x = 'u'}\n",
            "both if = {...} and then = {...}",
        ),
        (
            HEAD + "[attributes]\nx = ['u']\n[[constraints]]\nforbid = {label = 'a'}\n",
            "of no attribute beside the label",
        ),
        (
            HEAD + "[attributes]\nx = ['u']\n[[constraints]]\nforbid = {x = 'u', label = 'b'}\n",
            "for label 'b'; remove",
        ),
        (HEAD + "[attributes]\nx = ['u']\n[[joint]]\nattributes = ['x']\n", "must name two attributes"),
        ("turns = 3\n" + HEAD, "turns belongs to type dialogue, and type is 'classification'; remove it"),
        ("most_labels = 2\n" + HEAD, "need multi_label = true; add it"),
        ("multi_label = true\n" + HEAD + "[cardinality]\n3 = 1\n", "cardinality names no number of labels"),
        ('type = "annotation"\nscale = [5, 1]\n' + HEAD, "scale is [5, 1]; write its ends, scale = [1, 5]"),
        (HEAD + "[attributes]\nlänge = ['kurz']\n", 'put länge between quotes: "länge"'),
        (HEAD + "文体 = 'x'\n", 'put 文体 between quotes: "文体"'),
        (HEAD + "[attributes.tone of voice]\n", 'put tone of voice between quotes: "tone of voice"'),
        (HEAD + "[attributes]\nx = ['u'\n", "is not TOML"),
        ("multi_labels = true\n" + HEAD, "unknown key 'multi_labels'; did you mean 'multi_label'?"),
    ],
)
def test_a_mistake_names_file_key_and_cure(tmp_path: Path, text: str, told: str) -> None:
    """Each error is one line with the file, the key and what to do."""
    path = tmp_path / "bank.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        Task.from_toml(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_records_of_several_labels_are_classification(tmp_path: Path) -> None:
    """A text with its classes is no annotation; the same list beside an annotator is one."""
    path = tmp_path / "notes.jsonl"
    rows = [{"text": "x", "label": "a", "labels": ["a", "b"]}, {"text": "y", "label": "b", "labels": ["b"]}]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = records.read(path)
    assert "classification" == found.datatype
    assert [["a", "b"], ["b"]] == found.column("labels")
    asked = tmp_path / "asked.jsonl"
    asked.write_text(
        json.dumps({"item_id": "1", "text": "x", "annotator": "p", "labels": ["a", "b"]}), "utf-8"
    )
    assert "annotation" == records.read(asked).datatype
    task = Task.from_records(found)
    assert (True, 2, {1: 0.5, 2: 0.5}) == (task.multi_label, task.most_labels, task.cardinality)
    assert ("a", "b") == task.label_names


def test_an_earlier_file_still_reads(tmp_path: Path) -> None:
    """The short form, lists alone, is as good as the long one."""
    path = tmp_path / "short.toml"
    path.write_text('domain = "note"\nlabels = ["a"]\n[attributes]\nx = ["u", "v", "u"]\n', "utf-8")
    assert Task("note", (Label("a"),), attributes=(Attribute("x", ("u", "v")),)) == Task.from_toml(path)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0", "-3", "1", "-1", "10", "2"], ["-3", "-1", "0", "1", "2", "10"]),
        (["1.5", "0.25", "1"], ["0.25", "1", "1.5"]),
        (["10", "9", "nan"], ["10", "9", "nan"]),
        (["b", "a"], ["a", "b"]),
    ],
)
def test_points_of_a_scale_stand_in_their_order(labels: list[str], expected: list[str]) -> None:
    """Labels of people that are numbers go from the least to the greatest, not from A to Z."""
    human = records.from_rows([{"text": f"t{i}", "label": label} for i, label in enumerate(labels)])
    assert expected == list(Task.from_records(human).label_names)


def test_the_mark_of_an_editor_before_the_first_letter_is_no_part_of_a_task(tmp_path: Path) -> None:
    """Files saved as UTF-8 with a byte order mark read like any; another encoding is named."""
    path = tmp_path / "t.toml"
    path.write_text(HEAD.replace("note", "Größe"), "utf-8-sig")
    assert "Größe" == Task.from_toml(path).domain
    path.write_text(HEAD.replace("note", "Größe"), "latin-1")
    with pytest.raises(InputError, match=r"is not UTF-8 .*; save it as UTF-8"):
        Task.from_toml(path)
