"""Value lists of several classes become one list of values with all their classes. Knows no provider."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rapidfuzz import fuzz

from karat.generation.published import unmarked


@dataclass(frozen=True)
class Merged:
    """Values with their labels, and what was taken out: value -> reason."""

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)

    @property
    def cardinality(self) -> dict[int, int]:
        """How many values have so many labels."""
        sizes = [len(labels) for labels in self.labels.values()]
        return {size: sizes.count(size) for size in sorted(set(sizes))}

    def by_label(self) -> dict[str, tuple[str, ...]]:
        """The values of each label, as an attribute holds them."""
        found: dict[str, list[str]] = {}
        for value, labels in self.labels.items():
            for label in labels:
                found.setdefault(label, []).append(value)
        return {label: tuple(values) for label, values in found.items()}


def merge_values(by_label: Mapping[str, tuple[str, ...]], *, near: float = 90.0) -> Merged:
    """Merge the values of all classes of a multi-label task, as the script of AttrPrompt does.

    Values are compared in lower case without numbers and bullets; the same value of several classes has all
    of their labels. Against the name of every other class: a value that is nearly that name (`near`: least
    rapidfuzz ratio, 0 to 100) or contains it is taken out; one that the name contains gets that label too.
    Values that are a class's name are taken out.
    """
    found: dict[str, dict[str, None]] = {}
    for label, values in by_label.items():
        for value in values:
            if text := unmarked(value).lower():
                found.setdefault(text, {})[label] = None
    names = {label: _spelt(label) for label in by_label}
    kept: dict[str, tuple[str, ...]] = {}
    removed: dict[str, str] = {}
    for value, labels in found.items():
        spelt = _spelt(value)
        added = dict(labels)
        for label, name in names.items():
            if spelt == name:
                removed[value] = f"is the name of label {label!r}"
            elif label in labels:
                continue
            elif fuzz.ratio(spelt, name) >= near:
                removed[value] = f"is nearly the name of label {label!r}"
            elif _contains(spelt, name):
                removed[value] = f"contains the name of label {label!r}"
            elif _contains(name, spelt):
                added[label] = None
            if value in removed:
                break
        else:
            kept[value] = tuple(added)
    return Merged(kept, removed)


def _spelt(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name.casefold()).strip()


def _contains(whole: str, part: str) -> bool:
    """Tell whether a text holds another as words of its own; in scripts without case anywhere in it."""
    start = whole.find(part) if part else -1
    while start >= 0:
        ends = (whole[start - 1 : start] if start else "", whole[start + len(part) : start + len(part) + 1])
        if not any(end.lower() != end.upper() for end in ends):
            return True
        start = whole.find(part, start + 1)
    return False
