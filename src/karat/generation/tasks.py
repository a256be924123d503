"""Task files: what to write, for which classes, along which attributes. Knows no provider and no recipe."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from karat.errors import InputError
from karat.generation.constraints import Constraint, Joint
from karat.records import Records

_TOGETHER = " + "
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class Label:
    """One class: its name and, for the prompt, what belongs to it."""

    name: str
    definition: str = ""


@dataclass(frozen=True)
class Attribute:
    """One dimension along which texts differ.

    values: for every class alike; by_label: for a class of its own (then `values` is empty).
    weights: value -> share wanted, weights_by_label: of a class; empty: all values alike.
    complete: the values are all there are (so that an even sweep covers the dimension).
    removed: values that were taken out, with the reason; removed_by_label: of a class.
    """

    name: str
    values: tuple[str, ...] = ()
    by_label: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    weights_by_label: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    complete: bool = False
    removed: Mapping[str, str] = field(default_factory=dict)
    removed_by_label: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, label: str | None) -> tuple[str, ...]:
        """The values for a class."""
        return self.by_label.get(label or "", ()) if self.by_label else self.values

    def weighted(self, label: str | None) -> Mapping[str, float]:
        """The shares that are asked for, as given; those of the class go before those of all."""
        return self.weights_by_label.get(label or "") or self.weights

    def shares(self, label: str | None) -> Mapping[str, float]:
        """The wanted share of each value for a class; all alike where nothing is said."""
        given = self.weighted(label)
        values = self.of(label)
        total = sum(given.get(value, 0.0) for value in values)
        return {v: given.get(v, 0.0) / total if total > 0 else 1 / len(values) for v in values}

    def gone(self, label: str | None) -> Mapping[str, str]:
        """The values that were taken out for a class, with the reasons."""
        return {**self.removed, **self.removed_by_label.get(label or "", {})}


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
    multi_label: bool = False
    """classification: a record may have several labels; `label` is the first, `labels` are all"""
    most_labels: int = 0
    """multi-label: how many labels a record has at most; 0: no bound"""
    cardinality: Mapping[int, float] = field(default_factory=dict)
    """multi-label: wanted share of records with so many labels; empty: not asked for"""
    neighbours: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """label -> the labels that it is most easily taken for"""
    constraints: tuple[Constraint, ...] = ()
    joint: tuple[Joint, ...] = ()
    question: str = ""
    """annotation, preference: what is asked about each item"""
    choices: tuple[str, ...] = ()
    """annotation, preference: the answers one may give, in their order; empty: the labels"""
    roles: Mapping[str, str] = field(default_factory=dict)
    """dialogue: who speaks -> who that is"""
    turns: int = 0
    """dialogue: the most turns; 0: not said"""
    source_language: str = ""
    target_language: str = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(label.name for label in self.labels)

    def definition(self, label: str | None) -> str:
        """What belongs to a class; empty where nothing is said."""
        return next((found.definition for found in self.labels if found.name == label), "")

    def attribute(self, name: str) -> Attribute | None:
        """The attribute of that name; None when there is none."""
        return next((found for found in self.attributes if found.name == name), None)

    def together(self, labels: Sequence[str]) -> tuple[Task, str]:
        """The task with one more class, which is several of its classes at once, and its name."""
        if len(labels) == 1:
            return self, labels[0]
        name = _TOGETHER.join(labels)
        told = "; ".join(f"{label}: {self.definition(label)}" for label in labels if self.definition(label))
        near = [other for label in labels for other in self.neighbours.get(label, ()) if other not in labels]
        neighbours = {**self.neighbours, name: tuple(dict.fromkeys(near))}
        return replace(self, labels=(*self.labels, Label(name, told)), neighbours=neighbours), name

    def classes(self, label: str) -> tuple[str, ...]:
        """The classes that a label names: itself, or those that `together` has put into it."""
        parts = tuple(label.split(_TOGETHER))
        known = self.label_names
        return parts if self.multi_label and all(part in known for part in parts) else (label,)

    @property
    def answers(self) -> tuple[str, ...]:
        """What may be answered about an item: the choices, or the labels."""
        return self.choices or self.label_names

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Task:
        """Read a task file. Raises InputError naming the file and the key."""
        from karat.generation.taskfile import read

        return read(path)

    @classmethod
    def from_records(cls, human: Records, *, domain: str = "") -> Task:
        """Take type and labels from human records; the domain is the name of their file unless given."""
        several = _label_lists(human)
        counts = Counter(label for label in human.labels() or () if label is not None)
        if human.datatype == "classification" and not counts:
            raise InputError(f"{human.path}: no labels to make a task of; name them with --label-field")
        names = _in_order(counts.keys() | {label for labels in several for label in labels})
        sizes = Counter(len(labels) for labels in several)
        stem = Path(human.path).name.split(".")[0].strip("<>").replace("_", " ").replace("-", " ")
        return cls(
            domain=domain or (f"{stem} text" if stem and stem != "memory" else "text"),
            labels=tuple(Label(name) for name in names),
            type=human.datatype,
            name=stem,
            multi_label=bool(several),
            most_labels=max(sizes, default=0),
            cardinality={size: count / len(several) for size, count in sorted(sizes.items())},
        )

    def to_toml(self) -> str:
        """The task as a file that `from_toml` reads and people edit."""
        from karat.generation.taskfile import text_of

        return text_of(self)


def _in_order(names: Set[str]) -> list[str]:
    """Names from A to Z; where all are numbers, from the least: they are points of a scale."""
    points = all(_NUMBER.fullmatch(name) for name in names)
    return sorted(names, key=lambda name: (float(name) if points else 0.0, name))


def _label_lists(human: Records) -> list[list[str]]:
    """The labels of each record of a multi-label file; empty where no record has a list of labels."""
    if human.datatype != "classification" or not human.has("labels"):
        return []
    found = [labels for labels in human.column("labels") if isinstance(labels, list) and labels]
    return [list(map(str, labels)) for labels in found]
