"""Answers as arrays and plain values, and back: for a cell's file. Knows no file and no trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from karat.training.base import Answers, Predictions, Tagged, Weighed, Written

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Predictions, Tagged, Written, Weighed)}


def pack(found: Sequence[Answers]) -> dict[str, Any]:
    """Return answers to several tests as arrays and plain values."""
    packed: dict[str, Any] = {"kinds": [type(answers).__name__ for answers in found]}
    for number, answers in enumerate(found):
        for entry in fields(answers):
            value = getattr(answers, entry.name)
            if value is not None:
                packed[f"{number}.{entry.name}"] = value
    return packed


def unpack(packed: Mapping[str, Any]) -> tuple[Answers, ...]:
    """Return what was packed."""
    found = []
    for number, kind in enumerate(packed["kinds"]):
        values = {}
        for entry in fields(_KINDS[kind]):
            value = packed.get(f"{number}.{entry.name}")
            values[entry.name] = _tuples(value) if isinstance(value, list | tuple) else value
        found.append(_KINDS[kind](**{name: v for name, v in values.items() if v is not None}))
    return tuple(found)


def _tuples(value: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(_tuples(one) if isinstance(one, list | tuple) else one for one in value)
