"""Task files: what to write, for which classes, along which attributes. Knows no provider and no recipe."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from karat import registry
from karat.errors import InputError, did_you_mean
from karat.records import Records


@dataclass(frozen=True)
class Label:
    """One class: its name and, for the prompt, what belongs to it."""

    name: str
    definition: str = ""


@dataclass(frozen=True)
class Attribute:
    """One dimension along which texts differ.

    values: for every class alike; by_label: for a class of its own (then `values` is empty).
    weights: value -> share wanted (by_label: label -> value -> share); empty: all values alike.
    """

    name: str
    values: tuple[str, ...] = ()
    by_label: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    weights_by_label: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, label: str | None) -> tuple[str, ...]:
        """The values for a class."""
        return self.by_label.get(label or "", ()) if self.by_label else self.values

    def shares(self, label: str | None) -> Mapping[str, float]:
        """The wanted share of each value for a class; all alike where nothing is said."""
        given = self.weights_by_label.get(label or "", {}) if self.by_label else self.weights
        values = self.of(label)
        total = sum(given.get(value, 0.0) for value in values)
        return {v: given.get(v, 0.0) / total if total > 0 else 1 / len(values) for v in values}


_KNOWN = ("name", "domain", "type", "language", "labels", "attributes", "schema", "instructions")


@dataclass(frozen=True)
class Task:
    """What to write: the domain, the classes with their definitions, the language, attributes, a schema."""

    domain: str
    labels: tuple[Label, ...] = ()
    type: str = "classification"
    name: str = ""
    language: str = ""
    instructions: str = ""
    attributes: tuple[Attribute, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)
    """a JSON schema of the answer; empty: the answer is the text itself, or the fields of the data type"""
    shares: Mapping[str, float] = field(default_factory=dict)
    """wanted share of each label; empty: all alike"""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(label.name for label in self.labels)

    def definition(self, label: str | None) -> str:
        """What belongs to a class; empty where nothing is said."""
        return next((found.definition for found in self.labels if found.name == label), "")

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Task:
        """Read a task file. Raises InputError naming the file and the key."""
        import sys

        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            found = tomllib.loads(Path(path).read_text("utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; write a task file with domain and labels") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not TOML ({error}); mend that line") from None
        return _task_of(found, str(path))

    @classmethod
    def from_records(cls, human: Records, *, domain: str = "") -> Task:
        """Take type and labels from human records; the domain is the name of their file unless given."""
        counts = Counter(label for label in human.labels() or () if label is not None)
        if human.datatype == "classification" and not counts:
            raise InputError(f"{human.path}: no labels to make a task of; name them with --label-field")
        names = sorted(counts)
        stem = Path(human.path).name.split(".")[0].strip("<>").replace("_", " ").replace("-", " ")
        return cls(
            domain=domain or (f"{stem} text" if stem and stem != "memory" else "text"),
            labels=tuple(Label(name) for name in names),
            type=human.datatype,
            name=stem,
        )

    def to_toml(self) -> str:
        """The task as a file that `from_toml` reads and people edit."""
        lines = [f"{key} = {_quoted(getattr(self, key))}" for key in ("name", "domain", "type", "language")]
        if self.instructions:
            lines.append(f"instructions = {_quoted(self.instructions)}")
        lines += ["", "[labels]", *(f"{_quoted(x.name)} = {_quoted(x.definition)}" for x in self.labels)]
        for attribute in self.attributes:
            lines += ["", f"[attributes.{_quoted(attribute.name)}]"]
            if attribute.by_label:
                lines += ["class_dependent = true", f"[attributes.{_quoted(attribute.name)}.values]"]
                lines += [f"{_quoted(label)} = {_listed(v)}" for label, v in attribute.by_label.items()]
            else:
                lines.append(f"values = {_listed(attribute.values)}")
        if self.schema:
            lines += ["", f"schema = '''{json.dumps(self.schema, ensure_ascii=False)}'''"]
            lines.insert(0, lines.pop())  # a key of the document stands above its tables
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _listed(values: Sequence[str]) -> str:
    return "[" + ", ".join(_quoted(value) for value in values) + "]"


def _task_of(found: Mapping[str, Any], where: str) -> Task:
    for key in found:
        if key not in _KNOWN:
            raise InputError(
                f"{where}: unknown key {key!r}{did_you_mean(key, _KNOWN)} (known: {', '.join(_KNOWN)})"
            )
    if not isinstance(found.get("domain"), str) or not found["domain"].strip():
        raise InputError(f'{where}: no key domain; say what is written, e.g. domain = "news article"')
    datatype = str(found.get("type", "classification"))
    if datatype not in registry.names("datatypes"):
        hint = did_you_mean(datatype, registry.names("datatypes"))
        raise InputError(
            f"{where}: type is {datatype!r}{hint} (known: {', '.join(registry.names('datatypes'))})"
        )
    labels = found.get("labels", {})
    pairs = labels.items() if isinstance(labels, Mapping) else ((name, "") for name in labels)
    names = tuple(Label(str(name), str(definition)) for name, definition in pairs)
    if datatype == "classification" and not names:
        raise InputError(f'{where}: no labels; write labels = ["a", "b"] or a table [labels]')
    repeated = [name for name, count in Counter(label.name for label in names).items() if count > 1]
    if repeated:
        raise InputError(f"{where}: the label {repeated[0]!r} stands twice; remove one")
    schema = found.get("schema", {})
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: schema is not JSON ({error}); mend it") from None
    attributes = tuple(
        _attribute_of(name, value, {label.name for label in names}, where)
        for name, value in found.get("attributes", {}).items()
    )
    return Task(
        domain=str(found["domain"]),
        labels=names,
        type=datatype,
        name=str(found.get("name", "")),
        language=str(found.get("language", "")),
        instructions=str(found.get("instructions", "")),
        attributes=attributes,
        schema=schema,
    )


def _attribute_of(name: str, given: Any, labels: set[str], where: str) -> Attribute:
    given = {"values": given} if isinstance(given, list) else given
    if not isinstance(given, Mapping) or not given.get("values"):
        raise InputError(f'{where}: attribute {name!r} has no values; write values = ["...", "..."]')
    values = given["values"]
    if bool(given.get("class_dependent", isinstance(values, Mapping))) != isinstance(values, Mapping):
        raise InputError(
            f"{where}: attribute {name!r} must list its values for each label in "
            f"[attributes.{name}.values] when class_dependent = true, and in one list otherwise"
        )
    if isinstance(values, Mapping):
        for label in values:
            if label not in labels:
                raise InputError(
                    f"{where}: attribute {name!r} names no label {label!r}{did_you_mean(label, labels)}"
                )
        return Attribute(name, by_label={label: tuple(map(str, v)) for label, v in values.items()})
    return Attribute(name, tuple(dict.fromkeys(map(str, values))))
