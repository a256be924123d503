"""Texts with one label each, or several. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Classification:
    """A text and its label.

    A record may have several: then `labels` holds them all, and `label` is the first.
    """

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("text", "label"),)
    optional: ClassVar[tuple[str, ...]] = ("labels",)
    label: ClassVar[str | None] = "label"
    wide: ClassVar[tuple[tuple[str, ...], ...]] = ()
    unit: ClassVar[str | None] = None

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself."""
        return [row]

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row; of a row with labels alone the first is the label."""
        labels = row.get("labels")
        if row.get("label") is None and isinstance(labels, list) and labels and labels[0] is not None:
            return {**row, "label": labels[0]}
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the text."""
        return str(row["text"])
