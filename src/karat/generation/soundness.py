"""Whether the fields of a record make sense together, beyond their types. Knows no provider and no prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from karat.generation.tasks import Task
from karat.texts.answers import plain, read_label

ROLES = ("system", "user", "assistant")
"""The roles of a dialogue whose task has no schema of its own."""
_NAMES = 3  # words up to which a translation may be its source: names, numbers


def unsound(fields: Mapping[str, Any], task: Task) -> str:
    """Why fields that fit the schema make no record of the task's type; empty when they do."""
    for name, value in fields.items():
        if isinstance(value, str) and not value.strip() and _needed(name, task):
            return f"answer.{name} is blank"
    check = _CHECKS.get(task.type)
    return (check(fields, task) if check else "") or _labels(fields, task)


def with_labels(fields: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The fields with each label spelt as the task spells it."""
    found = dict(fields)
    for name in ("label", "labels"):
        value = found.get(name)
        if task.labels and isinstance(value, str):
            found[name] = _spelt(value, task) or value
        elif task.labels and isinstance(value, list):
            found[name] = list(dict.fromkeys(_spelt(str(one), task) or one for one in value))
    return found


def _needed(name: str, task: Task) -> bool:
    return not task.schema or name in task.schema.get("required", ())


def _spelt(value: str, task: Task) -> str | None:
    return read_label(value, task.label_names)


def _labels(fields: Mapping[str, Any], task: Task) -> str:
    """One label or several, all of the task."""
    if not task.labels:
        return ""
    for name in ("label", "labels"):
        value = fields.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and _spelt(one, task) is None:
                known = ", ".join(task.label_names[:10]) + (", ..." if len(task.labels) > 10 else "")
                return f"answer.{name} is {one!r}, which is no label of the task (known: {known})"
    return ""


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, str) and isinstance(other, str) and plain(one) == plain(other)


def _preference(fields: Mapping[str, Any], task: Task) -> str:
    for one, other in (("chosen", "rejected"), ("response_a", "response_b")):
        if one in fields and _same(fields[one], fields.get(other)):
            return f"answer.{one} and answer.{other} are the same"
    for name in ("chosen", "rejected"):
        if name in fields and _same(fields[name], fields.get("prompt")):
            return f"answer.{name} repeats the prompt"
    return ""


def _instruction(fields: Mapping[str, Any], task: Task) -> str:
    repeated = _same(fields.get("completion"), fields.get("prompt"))
    return "answer.completion repeats the prompt" if repeated else ""


def _translation(fields: Mapping[str, Any], task: Task) -> str:
    source, target = fields.get("source"), fields.get("target")
    if isinstance(source, str) and _same(source, target) and (len(source.split()) > _NAMES):
        return "answer.target repeats the source"
    return ""


def _dialogue(fields: Mapping[str, Any], task: Task) -> str:
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return ""
    before = ""
    for place, one in enumerate(messages):
        role, content = str(one.get("role", "")), str(one.get("content", ""))
        if not content.strip():
            return f"answer.messages[{place}].content is blank"
        if not task.schema and role not in ROLES:
            return f"answer.messages[{place}].role is {role!r} (known: {', '.join(ROLES)})"
        if role == "system" and place:
            return f"answer.messages[{place}] is of the system, which speaks first or not at all"
        if role == before:
            return f"answer.messages[{place}] is of {role!r} again; turns must alternate"
        before = role
    return ""


_CHECKS: dict[str, Callable[[Mapping[str, Any], Task], str]] = {
    "preference": _preference,
    "instruction": _instruction,
    "translation": _translation,
    "dialogue": _dialogue,
}
