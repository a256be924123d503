"""What becomes of an answer: frames off, JSON mended, refusals and nonsense out, each with its reason."""

# ruff: noqa: E501 - an answer of a model stands on one line

from __future__ import annotations

import pytest

from karat.errors import InputError
from karat.generation.base import Response
from karat.generation.parsing import (
    check_schema,
    parse,
    parse_candidates,
    read_json,
    repair_message,
    violation,
)
from karat.generation.tasks import Label, Task

TEXT = Task("film review", (Label("good"), Label("bad")))


def answer(text: str, reason: str = "stop") -> Response:
    """An answer of 12 tokens."""
    return Response("r1", text, tokens_out=12, finish_reason=reason)


def task(kind: str, **more: object) -> Task:
    """A task of a data type."""
    return Task("thing", type=kind, **more)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- texts


def test_a_frame_goes_and_is_told() -> None:
    """What an assistant says around a text is no part of the record, and the record says what went."""
    found = parse(answer('Sure, here is a review:\n\n"Dull, but short."\n\nI hope this helps!'), TEXT)
    assert {"text": "Dull, but short."} == found.fields
    assert ("Sure, here is a review:", "I hope this helps!") == found.cleaned


def test_a_text_that_apologises_is_no_refusal() -> None:
    """People say sorry, and cannot do things; only an assistant that declines its task is refused."""
    kept = "I'm sorry I went: I cannot help but think of the ticket price."
    assert {"text": kept} == parse(answer(kept), TEXT).fields
    declined = parse(answer("I'm sorry, but I can't assist with that request."), TEXT)
    assert declined.reason.startswith("the model refused: refuses (en)")
    german = parse(answer("Es tut mir leid, aber dabei kann ich Ihnen leider nicht helfen."), TEXT)
    assert german.reason.startswith("the model refused: refuses (de)")


def test_a_long_text_may_quote_a_model() -> None:
    """Beyond the beginning of a long text nothing counts as a refusal."""
    text = (
        "The novel follows a repair man through one winter. " * 20 + 'It says: "As an AI language model ..."'
    )
    assert "" == parse(answer(text), TEXT).reason


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (answer(" \n"), "empty answer"),
        (answer("half a text", "length"), "cut at 12 tokens; raise answer_tokens"),
        (answer("", "content_filter"), "stopped by the provider's content filter"),
    ],
)
def test_what_is_no_answer_says_why(response: Response, reason: str) -> None:
    """Each way in which an answer is none has its own reason."""
    assert reason == parse(response, TEXT).reason


@pytest.mark.parametrize(
    "text", ["“Ça va très bien…” she said", "很好，真的。", "नमस्ते दुनिया", "👩‍👩‍👧 ok\u200d"]
)
def test_characters_inside_are_never_changed(text: str) -> None:
    """Whatever the script, what is inside a text stays as it came."""
    assert text == parse(answer(text), TEXT).fields["text"]


# -------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("said", "mended"),
    [
        ('{"prompt": "Why?", "completion": "Because."}', False),
        ('Here you go:\n```json\n{"prompt": "Why?", "completion": "Because."}\n```\nEnjoy!', False),
        ("{'prompt': 'Why?', 'completion': 'Because.',}", True),
        ('[{"prompt": "Why?", "completion": "Because."}]', False),
        ('{"prompt": "Why?", "completion": "Because."', True),
    ],
)
def test_objects_are_read_whatever_stands_around(said: str, mended: bool) -> None:
    """Fences, text around, other quotes, a comma too many, a lost bracket: the same record."""
    found = parse(answer(said), task("instruction"))
    assert {"prompt": "Why?", "completion": "Because."} == found.fields
    assert mended == ("mended JSON" in found.cleaned)


def test_a_cut_text_is_no_record() -> None:
    """A string that the answer ends in would be half a text: its field is missing."""
    found = parse(answer('{"prompt": "Why?", "completion": "Because of th'), task("instruction"))
    assert "does not fit the schema: answer has no 'completion'" == found.reason


def test_a_refusal_in_place_of_json_is_named() -> None:
    """Where no object came since the model declined, that is the reason; a completion may well decline."""
    assert parse(answer("I'm sorry, but I can't help with that."), task("instruction")).reason.startswith(
        "the model refused"
    )
    said = '{"prompt": "How do I steal a car?", "completion": "I\'m sorry, but I can\'t help with that."}'
    assert "" == parse(answer(said), task("instruction")).reason


@pytest.mark.parametrize(
    ("kind", "said", "reason"),
    [
        ("preference", '{"prompt": "p q", "chosen": "Same.", "rejected": "same. "}', "are the same"),
        ("translation", '{"source": "Es regnet heute sehr stark", "target": "Es regnet heute sehr stark"}',
         "answer.target repeats the source"),
        ("instruction", '{"prompt": "Say hello", "completion": "say  hello"}', "repeats the prompt"),
        ("instruction", '{"prompt": "Say hello", "completion": "  "}', "answer.completion is blank"),
        ("dialogue", '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
         "answer.messages[1] is of 'user' again; turns must alternate"),
        ("dialogue", '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}',
         "answer.messages[1].content is blank"),
        ("dialogue", '{"messages": [{"role": "user", "content": "a"}, {"role": "guest", "content": "b"}]}',
         "answer.messages[1].role must be one of system, user, assistant"),
    ],
)  # fmt: skip
def test_types_ask_for_more_than_fields(kind: str, said: str, reason: str) -> None:
    """Equal sides of a pair, a translation that translates nothing, turns that do not alternate: no record."""
    found = parse(answer(said), task(kind))
    assert {} == found.fields
    assert reason in found.reason


def test_a_name_may_be_its_own_translation() -> None:
    """Short texts are the same in two languages."""
    assert "" == parse(answer('{"source": "New York", "target": "New York"}'), task("translation")).reason


def test_labels_are_those_of_the_task() -> None:
    """One label or several: spelt as in the task, and none that the task does not know."""
    form = {"type": "object", "properties": {"text": {"type": "string"}, "labels": {"type": "array"}}}
    several = Task("mail", (Label("billing"), Label("tech_support")), type="text", schema=form)
    found = parse(answer('{"text": "No sound", "labels": ["Tech support", "tech_support"]}'), several)
    assert ["tech_support"] == found.fields["labels"]
    unknown = parse(answer('{"text": "No sound", "labels": ["sales"]}'), several)
    assert "answer.labels is 'sales', which is no label of the task (known: billing, tech_support)" == (
        unknown.reason
    )


# ------------------------------------------------------------------------------------------ schema


@pytest.mark.parametrize(
    ("value", "schema", "says"),
    [
        ({}, {"required": ["a"]}, "answer has no 'a'"),
        ({"a": [1, "x"]}, {"properties": {"a": {"items": {"type": "integer"}}}}, "answer.a[1] must be of type integer"),
        ({"a": True}, {"properties": {"a": {"type": "number"}}}, "answer.a must be of type number"),
        ({"a": "x"}, {"properties": {"a": {"minLength": 3}}}, "answer.a is shorter than 3 characters"),
        ({"b": 1}, {"properties": {"a": {}}, "additionalProperties": False}, "answer has the unknown field 'b'"),
        ([1, 1], {"uniqueItems": True}, "answer [1, 1] has non-unique elements"),
        ({"a": 7}, {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"maximum": 5}}},
         "answer.a is 7, which is out of bounds"),
        ({"a": 1}, {"type": "object"}, ""),
    ],
)  # fmt: skip
def test_faults_are_told_with_their_place(value: object, schema: dict[str, object], says: str) -> None:
    """The path of the first fault and what is wrong there, for keywords of any kind."""
    assert says == violation(value, schema)


def test_a_schema_asks_nothing_of_the_network_and_may_be_wrong() -> None:
    """A reference to elsewhere and a schema that is none are one line, not a traceback or a download."""
    with pytest.raises(InputError, match=r"no definition 'http://127.0.0.1:9/x.json'"):
        violation({}, {"$ref": "http://127.0.0.1:9/x.json"})
    with pytest.raises(InputError, match=r"schema\.properties\.a\.type: 'text' is not valid"):
        check_schema({"properties": {"a": {"type": "text"}}})


def test_the_model_is_told_what_to_mend() -> None:
    """Reason, fields and schema; advice for the user is left out."""
    told = repair_message("cut at 12 tokens; raise answer_tokens", {"properties": {"a": {}}})
    assert told.startswith(
        "Your answer could not be used: cut at 12 tokens. Answer again with one JSON object"
    )
    assert '{"properties": {"a": {}}}' in told
    assert repair_message("empty answer", {}).endswith("Write the text again, and nothing but the text.")


def test_read_json_takes_the_first_of_a_kind() -> None:
    """A footnote is a list, but who asks for an object gets the object."""
    said = 'As shown in [1]: {"a": null, "b": NaN}'
    assert [1] == read_json(said)
    assert {"a": None, "b": None} == read_json(said, dict)
    assert None is read_json("no JSON {here} [at all]")


# -------------------------------------------------------------------------------------- candidates

TWO = [("A fine day.", 0.1), ("Rain, again", 0.05)]


@pytest.mark.parametrize(
    "said",
    [
        '{"candidates": [{"text": "A fine day.", "probability": 0.1}, {"text": "Rain, again", "probability": 0.05}]}',
        '```json\n[{"text": "A fine day.", "probability": "10%"}, {"text": "Rain, again", "probability": 0.05},]\n```',
        '[["A fine day.", 0.1], ["Rain, again", 0.05]]',
        '{"text": "A fine day.", "p": 0.1}\n{"text": "Rain, again", "p": 5e-2}',
        "<response><text>A fine day.</text><probability>0.1</probability></response>\n"
        "<response><text>Rain, again</text><probability>0.05</probability></response>",
        "<response>\n<text>A fine day.\n<probability>0.1</probability>\n</response>"
        "<response><text>Rain, again</text><probability>5%</probability>",
        "Sure, here are two:\n1. A fine day. (probability: 0.1)\n2. \"Rain, again\" - p = 0.05\n\nI hope this helps!",
        "1) A fine day. [Probability: 10%]\n2) Rain, again | **Probability**: 0.05",
        '{"candidates": [{"text": "A fine day.", "probability": 0.1}, {"text": "Rain, again", "probability": 0.05}, '
        '{"text": "cut off he',
    ],
)  # fmt: skip
def test_candidates_are_read_in_any_form(said: str) -> None:
    """JSON, tags, numbered lists, with shares or per cent: the same two candidates."""
    assert TWO == parse_candidates(said, 5)


def test_candidates_without_probability_and_none_at_all() -> None:
    """Bullets and plain lists have no probability; prose holds no candidate; no more than k are given."""
    assert [("one", None), ("two", None)] == parse_candidates("- one\n- two\n- two", 3)
    assert [("one", None)] == parse_candidates('["one", "two"]', 1)
    assert [] == parse_candidates("I would rather not.", 3)
    assert [("Only this.", None)] == parse_candidates("Certainly!\n\nOnly this.", 1)


def test_items_may_have_several_lines() -> None:
    """An item ends where the next number begins, and a year at the start of a line is none."""
    said = "1. First line\n1999. was a year\n2. Second"
    assert [("First line\n1999. was a year", None), ("Second", None)] == parse_candidates(said, 5)
