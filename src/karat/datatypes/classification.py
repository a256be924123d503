"""Texts with one label each. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Classification:
    """A text and its label."""

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("text", "label"),)
    optional: ClassVar[tuple[str, ...]] = ()
    label: ClassVar[str | None] = "label"
    wide: ClassVar[tuple[tuple[str, ...], ...]] = ()
    unit: ClassVar[str | None] = None

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself."""
        return [row]

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row as it is."""
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the text."""
        return str(row["text"])
