"""Personas: who answers, from a file or from the task's attribute `persona`. Knows no recipe."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from karat.errors import InputError
from karat.formats import read_rows
from karat.generation.tasks import Task

ATTRIBUTE = "persona"
_TEXT = ("persona", "description", "text")
_NAME = ("name", "id")
_SHORT = 40  # characters of a persona that are its name


@dataclass(frozen=True)
class Person:
    """A persona: a short name of its own, and who it is."""

    name: str
    text: str


def people(path: str, task: Task) -> tuple[Person, ...]:
    """The personas of a file (a line each, or rows with `persona` and perhaps `name`), else of the task.

    Raises InputError naming the row.
    """
    if path:
        found = _lines(Path(path)) if Path(path).suffix == ".txt" else _rows(path)
    else:
        found = [("", value) for a in task.attributes if a.name == ATTRIBUTE for value in a.of(None)]
    seen: dict[str, Person] = {}
    for name, text in found:
        person = Person(name or _named(text), text)
        if seen.setdefault(person.name, person).text != text:
            raise InputError(f"{path}: the persona {person.name!r} stands twice; rename one")
    if path and not seen:
        raise InputError(f"{path}: no personas; write one a line")
    return tuple(seen.values())


def some(found: Sequence[Person], count: int, seed: int) -> tuple[Person, ...]:
    """As many personas drawn without replacement, in their old order; all of them for 0."""
    if not count or count >= len(found):
        return tuple(found)
    chosen = sorted(random.Random(seed).sample(range(len(found)), count))
    return tuple(found[i] for i in chosen)


def _named(text: str) -> str:
    text = " ".join(text.split())
    if len(text) <= _SHORT:
        return text
    return f"{text[:_SHORT].rstrip()}… {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:4]}"


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name a file of personas, one a line") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8; save it as UTF-8") from None
    return [("", line.strip()) for line in text.splitlines() if line.strip()]


def _rows(path: str) -> list[tuple[str, str]]:
    found = []
    for line, row in read_rows(path):
        text = next((row[name] for name in _TEXT if row.get(name)), None)
        if text is None:
            raise InputError(f"{path}:{line}: no field 'persona' (found: {', '.join(row)}); name it so")
        name = next((row[name] for name in _NAME if row.get(name) is not None), "")
        found.append((str(name), str(text)))
    return found
