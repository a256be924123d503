"""Sentences that recipes share: how a class is named, which form an answer has. Knows no recipe."""

from __future__ import annotations

from karat.generation.parsing import fields_of
from karat.generation.tasks import Task

_FIELDS = {
    "prompt": "what a user asks",
    "completion": "a good answer to it",
    "chosen": "the better of two answers",
    "rejected": "the worse of two answers",
    "source": "a sentence in the source language",
    "target": "its translation",
    "messages": "a list of turns, each an object with role (user or assistant) and content",
}


def class_line(task: Task, label: str | None) -> str:
    """The sentence that names the class; empty without one."""
    if not label:
        return ""
    definition = task.definition(label)
    return f'It belongs to the class "{label}"' + (f": {definition.rstrip('.')}." if definition else ".")


def answer_form(task: Task) -> list[str]:
    """Sentences on language and form of the answer."""
    lines = [f"Write in {task.language}."] if task.language else []
    if task.instructions:
        lines.append(task.instructions)
    fields = fields_of(task)
    if task.schema:
        names = ", ".join(task.schema.get("properties", {}))
        lines.append(f"Answer with one JSON object with the fields {names}, and nothing else.")
    elif fields == ("text",):
        lines.append("Answer with the text alone.")
    else:
        told = "; ".join(f"{name}: {_FIELDS[name]}" if name in _FIELDS else name for name in fields)
        lines.append(f"Answer with one JSON object with the fields ({told}), and nothing else.")
    return lines
