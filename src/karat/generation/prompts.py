"""Sentences that recipes share: how a class is named, which form an answer has. Knows no recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from karat.generation import attributes as finding
from karat.generation.base import Sample
from karat.generation.parsing import fields_of, schema_of
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
_PHRASES = {
    finding.LENGTH: "Its length is {}.",
    finding.STYLE: "Its style: {}.",
    finding.TOPIC: "It is about the subject that these words hint at: {}.",
}
_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")


def class_line(task: Task, label: str | None) -> str:
    """The sentence that names the class; empty without one."""
    if not label:
        return ""
    definition = task.definition(label)
    names = task.classes(label)
    if task.type == "annotation" and task.question:
        head = f"Asked {quoted(task.question)}, a careful reader would answer {quoted(label)}"
    elif len(names) > 1:
        head = f"It belongs to all of the classes {listed([quoted(name) for name in names])} at once"
    else:
        head = f"It belongs to the class {quoted(label)}"
    return head + (f": {definition.rstrip('.')}." if definition else ".")


def apart_line(task: Task, label: str | None) -> str:
    """The sentence that keeps a class apart from its neighbours; empty where the task names none."""
    others = [other for other in task.neighbours.get(label or "", ()) if other != label]
    if not label or not others:
        return ""
    own = listed([quoted(name) for name in task.classes(label)])
    return f"It clearly belongs to {own} and not to {listed([quoted(o) for o in others], 'or')}."


def attribute_lines(attributes: Mapping[str, str]) -> list[str]:
    """One sentence for each attribute value."""
    lines = []
    for name, value in attributes.items():
        phrase = _PHRASES.get(name, f"{name[:1].upper()}{name[1:].replace('_', ' ')}: {{}}.")
        line = phrase.replace("{}", value)
        # a value that is a sentence has its own mark at the end
        lines.append(line[:-1] if value.rstrip().endswith(_ENDS) else line)
    return lines


def requirements(
    task: Task, label: str | None, attributes: Mapping[str, str], more: Iterable[str] = ()
) -> list[str]:
    """Class, attributes and further wishes; what sets the class apart from its neighbours comes last."""
    lines = [class_line(task, label), *attribute_lines(attributes), *more, apart_line(task, label)]
    return [line for line in lines if line]


def numbered(lines: Iterable[str]) -> list[str]:
    """The lines with numbers in front."""
    return [f"{number}. {line}" for number, line in enumerate(lines, 1)]


def quoted(text: str) -> str:
    """A name between quotes."""
    return f'"{text}"'


def listed(names: Sequence[str], word: str = "and") -> str:
    """Names in one phrase: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def is_plain(task: Task) -> bool:
    """True where an answer is the text itself, and no JSON is needed."""
    return not task.schema and fields_of(task) == ("text",)


def parts(task: Task) -> str:
    """The fields that an answer has, each with what it is."""
    if task.schema:
        return ", ".join(task.schema.get("properties", {}))
    known = dict(_FIELDS)
    if task.source_language:
        known["source"] = f"a sentence in {task.source_language}"
    if task.target_language:
        known["target"] = f"its translation into {task.target_language}"
    told = (f"{name}: {known[name]}" if name in known else name for name in fields_of(task))
    return f"({'; '.join(told)})"


def wishes(task: Task) -> list[str]:
    """Sentences on the language, and what the task file says besides."""
    lines = [f"Write in {task.language}."] if task.language else []
    return [*lines, task.instructions] if task.instructions else lines


def answer_form(task: Task) -> list[str]:
    """Sentences on language and form of the answer."""
    if is_plain(task):
        return [*wishes(task), "Answer with the text alone."]
    return [*wishes(task), f"Answer with one JSON object with the fields {parts(task)}, and nothing else."]


def candidates_form(task: Task, k: int, *, tags: bool = False) -> list[str]:
    """Sentences on an answer that holds k candidates, each with its probability, as JSON or between tags."""
    if tags:
        one = "<text>...</text><probability>...</probability>"
        told = f"Answer with {k} lines of the form {one} and nothing else; probabilities are from 0 to 1."
        return [*wishes(task), told]
    told = "text (the text itself)" if is_plain(task) else parts(task)
    return [
        *wishes(task),
        f'Answer with one JSON object {{"candidates": [...]}} and nothing else: a list of {k} objects, each '
        f"with the fields {told} and probability (a number from 0 to 1).",
    ]


def candidates_schema(task: Task, k: int) -> dict[str, Any]:
    """The JSON schema of k candidates, each with its probability."""
    own = dict(task.schema or schema_of(("text",) if is_plain(task) else fields_of(task)))
    properties = {**own.get("properties", {}), "probability": {"type": "number", "minimum": 0, "maximum": 1}}
    needed = [*own.get("required", list(own.get("properties", {}))), "probability"]
    one = {**own, "properties": properties, "required": list(dict.fromkeys(needed))}
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": k}
    return {"type": "object", "properties": {"candidates": many}, "required": ["candidates"]}


def shown(task: Task, sample: Sample) -> str:
    """A record as it stands in a prompt: its text, or one JSON object in the form that is asked for."""
    if is_plain(task):
        return sample.text
    names = list(task.schema.get("properties", {})) if task.schema else list(fields_of(task))
    held = {name: sample.fields[name] for name in names if sample.fields.get(name) is not None}
    return json.dumps(held, ensure_ascii=False) if held else sample.text


def examples(task: Task, samples: Sequence[Sample], *, labels: bool = False) -> list[str]:
    """Records one below the other, each under a heading with its number (and class)."""
    heads = (
        f"Example {number}" + (f' (class "{sample.label}")' if labels and sample.label else "")
        for number, sample in enumerate(samples, 1)
    )
    return [f"{head}:\n{shown(task, sample)}\n" for head, sample in zip(heads, samples)]
