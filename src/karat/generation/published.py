"""Attribute trees as published with AttrPrompt: value lists, neighbours, labels. Knows no provider.

The layout (Yu et al. 2023, arXiv 2306.15895): `NAME/label.txt` and, somewhere below, one folder an attribute
with `ATTRIBUTE.txt` for all classes, `CLASS.jsonl` (lines of text) for each, or a JSON of value -> labels.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz, process

from karat.errors import InputError
from karat.generation.tasks import Attribute, Label, Task

_MARK = re.compile(r"^\s*(?:[-*•‣–]\s+|\(?\d{1,3}[.):]\s*(?=\D)|\(?\d{1,3}[.)]\s+)")
_OTHERS = re.compile(r"(?i)^others \S.* for .*")
_SIMILAR, _FILTERED = "similar", "_filter"
_DOMAINS = {
    "agnews": "news article",
    "amazon": "product review",
    "arxiv": "abstract of a paper in arXiv",
    "nyt": "news article",
    "reddit": "Reddit post",
    "sst-2": "movie review",
    "stackexchange": "question on Stack Exchange",
    "yelp": "restaurant review",
}


@dataclass(frozen=True)
class Published:
    """One data set's attributes as a task, and what was found on the way.

    files: how many were read. lines: attribute -> file -> values as listed, before anything was mended.
    warnings: what is broken, and was left out. variants: lists beside an attribute's own, by file name.
    labelled: value -> labels, and declared: how many labels the file says that it has (multi-label sets).
    """

    task: Task
    files: int = 0
    lines: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labelled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    declared: Mapping[str, int] = field(default_factory=dict)


def read_published(folder: str | os.PathLike[str], *, catch_all: bool = True, domain: str = "") -> Task:
    """Read the folder of one data set as a task; `survey` tells what was broken, too."""
    return survey(folder, catch_all=catch_all, domain=domain).task


def survey(
    folder: str | os.PathLike[str], *, catch_all: bool = True, domain: str = "", neighbours: int = 5
) -> Published:
    """Read the folder of one data set, with all that was noticed.

    catch_all: end each list of a class with "Others ...", as the paper's program does; else none has it.
    domain: what is written (default: known for the eight published sets). neighbours: the most of a class.
    Raises InputError where there is no label.txt or no attribute below it.
    """
    place = Path(folder)
    if not (place / "label.txt").is_file():
        raise InputError(f"{place}: no label.txt in it; name the folder of one data set")
    reader = _Reader(place, catch_all, neighbours)
    folders = sorted({path.parent for path in place.rglob("*") if path.is_file()} - {place})
    names = {path.name.strip(): path for path in folders}
    for name, path in names.items():
        if name == _SIMILAR:
            reader.read_neighbours(path)
        elif name.endswith(_FILTERED):
            reader.read_attribute(name.removesuffix(_FILTERED), path, names.get(name.removesuffix(_FILTERED)))
        elif name + _FILTERED not in names:
            reader.read_attribute(name, path, None)
    if not reader.attributes:
        raise InputError(f"{place}: no folder with lists of values below it; name the folder of one data set")
    return reader.found(domain or _DOMAINS.get(place.name, f"{place.name} text"))


def read_tree(folder: str | os.PathLike[str], *, catch_all: bool = True) -> dict[str, Published]:
    """Read all data sets below a folder, by name. Raises InputError where there is none."""
    found = sorted(path.parent for path in Path(folder).rglob("label.txt"))
    if not found:
        raise InputError(f"{folder}: no label.txt below it; name a folder with published attributes")
    return {path.name: survey(path, catch_all=catch_all) for path in found}


class _Reader:
    """Collects what the files of one data set say."""

    def __init__(self, place: Path, catch_all: bool, neighbours: int) -> None:
        self.place, self.catch_all, self.most = place, catch_all, neighbours
        self.files = 0
        self.warnings: list[str] = []
        self.labels = self._values(place / "label.txt")
        self.by_name = {_plain(label): label for label in self.labels}
        self.attributes: list[Attribute] = []
        self.lines: dict[str, dict[str, int]] = {}
        self.variants: dict[str, tuple[str, ...]] = {}
        self.near: dict[str, tuple[str, ...]] = {}
        self.labelled: dict[str, tuple[str, ...]] = {}
        self.declared: dict[str, int] = {}

    def found(self, domain: str) -> Published:
        """The task, with what was noticed."""
        sizes = Counter(len(labels) for labels in self.labelled.values())
        task = Task(
            domain,
            tuple(map(Label, self.labels)),
            name=self.place.name,
            attributes=tuple(self.attributes),
            neighbours={label: self.near[label] for label in self.labels if self.near.get(label)},
            multi_label=bool(sizes),
            most_labels=max(sizes, default=0),
            cardinality={size: count / sizes.total() for size, count in sorted(sizes.items())},
        )
        return Published(
            task,
            self.files,
            self.lines,
            tuple(self.warnings),
            self.variants,
            self.labelled,
            self.declared,
        )

    def read_attribute(self, name: str, path: Path, unfiltered: Path | None) -> None:
        """A list for all classes, one for each, or a JSON of values with their labels."""
        files = sorted(file for file in path.iterdir() if file.is_file())
        if tables := [file for file in files if file.suffix == ".json"]:
            self._read_labelled(name, tables[0])
            return
        of_class = [file for file in files if file.suffix == ".jsonl"]
        for file in files:
            if file.suffix == ".txt":
                values = self._values(file)
                self.lines.setdefault(name, {})[file.stem] = len(values)
                if name == "length" and all(value.isdigit() for value in values):
                    # The paper's prompt asks for L to L + 50 words.
                    values = [f"{value} to {int(value) + 50} words" for value in values]
                if file.stem.strip() == name or len(files) == 1:
                    self.attributes.append(Attribute(name, tuple(values)))
                else:
                    self.variants[file.stem.strip()] = tuple(values)
        if not of_class:
            return
        by_label: dict[str, tuple[str, ...]] = {}
        removed: dict[str, dict[str, str]] = {}
        for file in of_class:
            values = self._values(file)
            self.lines.setdefault(name, {})[file.stem] = len(values)
            label = self._label(file, name)
            if label is None:
                continue
            by_label[label] = self._ended(values, name, label)
            before = self._values(unfiltered / file.name) if unfiltered is not None else []
            gone = {v: "relevant to a neighbouring class" for v in before if v not in values}
            if gone:
                removed[label] = gone
        self._missing(name, by_label)
        ordered = {label: by_label[label] for label in self.labels if by_label.get(label)}
        self.attributes.append(Attribute(name, by_label=ordered, removed_by_label=removed))

    def read_neighbours(self, path: Path) -> None:
        """For each class the classes that are like it; broken lists are told of and left out."""
        unknown: Counter[str] = Counter()
        for file in sorted(file for file in path.iterdir() if file.is_file()):
            near = self._values(file)
            self.lines.setdefault(_SIMILAR, {})[file.stem] = len(near)
            label = self._label(file, _SIMILAR)
            if label is None:
                continue
            if not near or len(near) > max(10, len(self.labels) // 2):
                self._warn(
                    f"{_SIMILAR}/{file.name}", f"lists {len(near)} classes; the neighbours are left out"
                )
                continue
            named = {name: self._named(name) for name in near}
            unknown.update(name for name, other in named.items() if other is None)
            others = dict.fromkeys(other for other in named.values() if other not in (None, label))
            self.near[label] = tuple(filter(None, others))[: self.most]
        if unknown:
            told = ", ".join(repr(name) for name, _ in unknown.most_common(3))
            self._warn(
                _SIMILAR, f"{unknown.total()} neighbours are no label of the set ({told}, ...); left out"
            )
        self._missing(_SIMILAR, self.near)

    def _read_labelled(self, name: str, file: Path) -> None:
        found: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
        self.files += 1
        by_label: dict[str, list[str]] = {label: [] for label in self.labels}
        differ = 0
        for value, told in found.items():
            labels = [label for label in map(self._named, told["lbl"]) if label is not None]
            self.labelled[value] = tuple(dict.fromkeys(labels))
            self.declared[value] = int(told.get("n_lbl", len(labels)))
            differ += self.declared[value] != len(self.labelled[value])
            for label in self.labelled[value]:
                by_label[label].append(value)
        self.lines[name] = {label: len(values) for label, values in by_label.items()}
        if differ:
            self._warn(
                f"{name}/{file.name}", f"{differ} values have another number of labels than n_lbl says"
            )
        self._missing(name, {label: values for label, values in by_label.items() if values})
        ended = {label: self._ended(values, name, label) for label, values in by_label.items() if values}
        self.attributes.append(Attribute(name, by_label=ended))

    def _values(self, file: Path) -> list[str]:
        """The lines of a file without numbers, bullets and quotes around; each once."""
        self.files += 1
        lines = file.read_text("utf-8-sig").splitlines()
        return list(dict.fromkeys(value for line in lines if (value := unmarked(line))))

    def _ended(self, values: Sequence[str], name: str, label: str) -> tuple[str, ...]:
        own = [value for value in values if not _OTHERS.match(value)]
        return (*own, f"Others {name} for {label}.") if self.catch_all else tuple(own)

    def _label(self, file: Path, folder: str) -> str | None:
        label = self.by_name.get(_plain(file.stem))
        if label is None:
            self._warn(f"{folder}/{file.name}", "belongs to no label of label.txt; left out")
        return label

    def _named(self, name: str) -> str | None:
        """The label that a list means: the same but for case and signs, or nearly the same."""
        plain = _plain(name)
        if plain in self.by_name:
            return self.by_name[plain]
        near = process.extractOne(plain, list(self.by_name), scorer=fuzz.ratio, score_cutoff=90)
        return self.by_name[near[0]] if near else None

    def _missing(self, name: str, found: Mapping[str, Any]) -> None:
        if left := [label for label in self.labels if label not in found]:
            told = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
            self._warn(name, f"nothing for {len(left)} of {len(self.labels)} labels ({told})")

    def _warn(self, where: str, what: str) -> None:
        self.warnings.append(f"{self.place.name}/{where}: {what}")


def unmarked(line: str) -> str:
    """A line of a list without its number or bullet and without quotes around it."""
    text = _MARK.sub("", line.replace("\ufeff", ""), count=1).strip()
    inner = text[1:-1]
    for left, right in (('"', '"'), ("“", "”"), ("«", "»"), ("「", "」")):
        if len(text) > 2 and text[0] == left and text[-1] == right and not {left, right} & set(inner):
            return inner.strip()
    return text


def _plain(name: str) -> str:
    """A name without case, signs and the word and: `Camera & photo` is `camera_photo`."""
    words = re.split(r"[\W_]+", name.casefold())
    return "_".join(word for word in words if word and word != "and")
