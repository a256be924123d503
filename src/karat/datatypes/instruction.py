"""A prompt and its completion; Alpaca's fields are read too. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Instruction:
    """A prompt and its completion."""

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("prompt", "completion"), ("instruction", "output"))
    optional: ClassVar[tuple[str, ...]] = ("input", "errors")
    label: ClassVar[str | None] = None
    wide: ClassVar[tuple[tuple[str, ...], ...]] = ()
    unit: ClassVar[str | None] = None

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself."""
        return [row]

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with `prompt` and `completion`; Alpaca's `input` follows its `instruction`."""
        if row.get("prompt") is None and row.get("instruction") is not None:
            given = row.get("input")
            prompt = f"{row['instruction']}\n\n{given}" if given else row["instruction"]
            return {**row, "prompt": prompt, "completion": row.get("output")}
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the prompt and the completion."""
        return f"{row['prompt']}\n{row['completion']}"
