"""Messages between roles. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Dialogue:
    """A list of messages, each with a role and its content."""

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("messages",),)
    optional: ClassVar[tuple[str, ...]] = ("task", "outcome")
    label: ClassVar[str | None] = None
    wide: ClassVar[tuple[tuple[str, ...], ...]] = ()
    unit: ClassVar[str | None] = None

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself."""
        return [row]

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row as it is."""
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the contents of all messages, one a line."""
        return "\n".join(str(message["content"]) for message in row["messages"])
