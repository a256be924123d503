"""Dialogues are read in the layouts in which they are published; other data is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from karat import records

EXPECTED = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": EXPECTED},
        {"turns": [{"speaker": "user", "text": "hi"}, {"speaker": "assistant", "text": "hello"}]},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        {"conversation": json.dumps(EXPECTED)},
        {"conversation": str(EXPECTED)},
        {
            "role_1": "Poet",
            "message_2": {"role_name": "Poet", "role_type": "RoleType.ASSISTANT", "content": "hello"},
            "message_1": {"role_name": "Critic", "role_type": "USER", "role": "assistant", "content": "hi"},
            "message_3": None,
        },
        {"messages": [{"speaker": "user", "text": "hi"}, {"speaker": "assistant", "text": "hello"}]},
        {"turns": [{"speaker": "USER", "utterance": "hi"}, {"speaker": "SYSTEM", "utterance": "hello"}]},
    ],
)
def test_layouts(row: dict[str, Any]) -> None:
    """Whatever the names of the fields, messages have a role and a content, in order."""
    found = records.from_rows([row])
    assert "dialogue" == found.datatype
    assert EXPECTED == found.column("messages")[0]
    assert ["hi\nhello"] == found.texts()


def test_a_system_that_answers_is_the_assistant() -> None:
    """Where nobody else answers the user, the system does, as in SGD; a chat's system prompt stays."""
    chat = ["system", "user", "assistant", "user"]
    for roles, expected in (
        (["system", "user", "system"], ["assistant", "user", "assistant"]),
        (["system", "user"], ["system", "user"]),
        (chat, chat),
        ([*chat, "system"], [*chat, "system"]),
    ):
        row = {"messages": [{"role": role, "content": "a"} for role in roles]}
        assert expected == [one["role"] for one in records.from_rows([row]).column("messages")[0]]


def test_other_fields_stay() -> None:
    """The field that held the messages goes, all others stay; CAMEL's task is the task."""
    row = {"id": "a", "turns": [], "specified_task": "sing", "outcome": 1}
    found = records.from_rows([row])
    assert [[]] == found.column("messages")
    assert ["sing"] == found.column("task")
    assert not found.has("turns")
    assert [1] == found.column("outcome")


@pytest.mark.parametrize(
    "row",
    [
        {"text": "t", "turns": 3},
        {"text": "t", "conversation": "we talked"},
        {"text": "t", "turns": ["a", "b"]},
        {"text": "t", "dialogue": [{"name": "x", "price": 2}]},
    ],
)
def test_fields_that_hold_no_messages(row: dict[str, Any]) -> None:
    """Numbers, prose and other lists in fields of these names make no dialogue."""
    assert "text" == records.from_rows([row]).datatype


def test_csv(tmp_path: Path) -> None:
    """A list of messages stands in a CSV file as JSON text."""
    path = tmp_path / "a.csv"
    text = json.dumps(EXPECTED).replace('"', '""')
    path.write_text(f'id,conversation\n1,"{text}"\n', "utf-8")
    assert EXPECTED == records.read(path).column("messages")[0]


@pytest.mark.parametrize(
    ("name", "n", "turns"),
    [
        ("botbots_open/botbots_open", 805, 11205),
        ("sgd_dialogues/sgd_dialogues", 1500, 25532),
        ("synthetic_persona_chat_valid/spc_valid", 1000, 27704),
    ],
)
def test_real_files(data_dir: Path, name: str, n: int, turns: int) -> None:
    """Published files are read without any flag, every turn of them."""
    found = records.read(data_dir / f"{name}.jsonl.gz")
    assert "dialogue" == found.datatype
    assert n == len(found)
    assert turns == sum(map(len, found.column("messages")))
