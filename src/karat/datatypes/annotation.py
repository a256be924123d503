"""Labels by single annotators, several to an item. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Annotation:
    """One annotator's label of one item."""

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("item_id", "text", "label", "annotator"),)
    optional: ClassVar[tuple[str, ...]] = ("annotator_kind", "sample_id")
    label: ClassVar[str | None] = "label"
    wide: ClassVar[tuple[tuple[str, ...], ...]] = ()
    unit: ClassVar[str | None] = "item_id"

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself."""
        return [row]

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row as it is."""
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the item's text."""
        return str(row["text"])
