"""Two responses to a prompt and which of them was preferred. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Preference:
    """A prompt with a chosen and a rejected response, or with two responses and a rater's choice."""

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("prompt", "chosen", "rejected"),
        ("prompt", "response_a", "response_b", "choice", "rater"),
    )
    optional: ClassVar[tuple[str, ...]] = ("shown_first",)
    label: ClassVar[str | None] = "choice"
    wide: ClassVar[tuple[tuple[str, ...], ...]] = ()
    unit: ClassVar[str | None] = "prompt"

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself."""
        return [row]

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row as it is; the two forms stay apart, since ties exist only in the second."""
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return both responses, one after the other."""
        pair = ("chosen", "rejected") if row.get("chosen") is not None else ("response_a", "response_b")
        return "\n".join(str(row[name]) for name in pair)
