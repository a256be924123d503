"""Messages between roles, and the other names under which files keep them. Knows no file."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

# Where a message keeps who speaks and what is said; the first of them that is there counts. CAMEL's `role`
# is that of a chat model, its `role_type` the one in the play.
_ROLE = ("role_type", "role", "speaker", "from", "author", "name")
_CONTENT = ("content", "text", "value", "utterance", "message")
_LISTS = ("turns", "conversation", "conversations", "dialogue", "dialog")
_NAMES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}  # ShareGPT
_NUMBERED = re.compile(r"message_(\d+)")


@dataclass(frozen=True)
class Dialogue:
    """A list of messages, each with a role and its content.

    Read too: `turns` or `conversation` with speaker and text, ShareGPT's `conversations` with from and value,
    CAMEL's message_1, message_2 ...; lists may stand in a field as JSON text. A `system` that takes turns
    with the user, where nobody is called assistant, is the assistant (as in SGD and MultiWOZ).
    """

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("messages",),)
    optional: ClassVar[tuple[str, ...]] = ("task", "outcome", "termination_reason")
    label: ClassVar[str | None] = None
    wide: ClassVar[tuple[tuple[str, ...], ...]] = (*((name,) for name in _LISTS), ("message_1",))
    unit: ClassVar[str | None] = None

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Tell whether the fields hold messages: other data has a `conversation` or `turns` too."""
        return row.get("messages") is not None or _found(row) is not None

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself."""
        return [row]

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with `messages`, and without the field that they were read from."""
        if row.get("messages") is not None:
            read = _listed(row["messages"])
            return row if read is None else {**row, "messages": _messages(read)}
        found = _found(row)
        if found is None:
            return row
        names, listed = found
        kept = {key: value for key, value in row.items() if key not in names}
        if "task" not in kept:  # CAMEL's
            task = kept.get("specified_task") or kept.get("original_task")
            kept |= {"task": task} if task else {}
        return {**kept, "messages": _messages(listed)}

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the contents of all messages, one a line."""
        return "\n".join(str(message["content"]) for message in row["messages"])


def _found(row: Mapping[str, Any]) -> tuple[set[str], list[Any]] | None:
    """The fields that hold the messages, and the messages; None where none does."""
    for name in _LISTS:
        listed = _listed(row.get(name)) if row.get(name) is not None else None
        if listed is not None:
            return {name}, listed
    numbered = {name: int(m[1]) for name in row if (m := _NUMBERED.fullmatch(name))}
    names = [name for name in sorted(numbered, key=numbered.__getitem__) if row[name] is not None]
    listed = [_opened(row[name]) for name in names]
    return (set(names), listed) if listed and all(map(_is_message, listed)) else None


def _listed(value: Any) -> list[Any] | None:
    """A list of messages, also from JSON text or from an object message_1 ...; None for anything else."""
    value = _opened(value)
    if isinstance(value, dict):
        found = _found(value)
        return None if found is None else found[1]
    if isinstance(value, list) and all(map(_is_message, value)):
        return value
    return None


def _opened(value: Any) -> Any:
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and any(n in value for n in _ROLE) and any(n in value for n in _CONTENT)


def _messages(listed: list[Any]) -> list[dict[str, Any]]:
    """The messages; a system that takes turns, where there is no assistant, is one."""
    found = [_message(one) for one in listed]
    roles = [one["role"] for one in found]
    if "system" in roles[1:] and "assistant" not in roles:
        return [{**one, "role": "assistant"} if one["role"] == "system" else one for one in found]
    return found


def _message(value: Mapping[str, Any]) -> dict[str, Any]:
    role = str(next(value[name] for name in _ROLE if name in value))
    role = role.removeprefix("RoleType.")  # CAMEL's writes ASSISTANT and RoleType.ASSISTANT
    role = role.lower() if role.isupper() else role
    return {
        "role": _NAMES.get(role, role),
        "content": next((value[name] for name in _CONTENT if value.get(name) is not None), ""),
    }
