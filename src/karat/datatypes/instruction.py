"""A prompt and its completion; the fields of Alpaca, Dolly and Self-Instruct are read too. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Instruction:
    """A prompt and its completion.

    Read too: instruction, input, output (Alpaca); instruction, context, response (Dolly); and instruction
    with a list `instances` of input and output (Self-Instruct), of which each becomes a record.
    """

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("prompt", "completion"), ("instruction", "output"))
    optional: ClassVar[tuple[str, ...]] = ("input", "constraints", "errors", "qa_type")
    label: ClassVar[str | None] = None
    wide: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("instruction", "instances"),
        ("instruction", "response"),
        ("prompt", "response"),
    )
    unit: ClassVar[str | None] = None

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself, or one an instance."""
        instances = row.get("instances")
        if not isinstance(instances, list) or not all(isinstance(one, dict) for one in instances):
            return [row]
        kept = {key: value for key, value in row.items() if key != "instances"}
        found = [{**kept, **one} for one in instances]
        if row.get("id") is not None:
            for number, one in enumerate(found[1:], 1):
                one["id"] = f"{row['id']}/{number}"
        return found

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with `prompt` and `completion`; the input follows its instruction."""
        if row.get("completion") is None:
            said = next((row[name] for name in ("output", "response") if row.get(name) is not None), None)
            row = row if said is None else {**row, "completion": said}
        if row.get("prompt") is None and row.get("instruction") is not None:
            given = row.get("input") or row.get("context")
            prompt = f"{row['instruction']}\n\n{given}" if given else row["instruction"]
            return {**row, "prompt": prompt}
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the prompt and the completion."""
        return f"{row['prompt']}\n{row['completion']}"
