"""A scene whose answers are given by a function of the prompt: recipes are tested without a provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from karat.generation.base import Draft, Message, Response, Sample, Slot
from karat.generation.parsing import parse
from karat.generation.tasks import Task
from karat.records import Records

Answer = Callable[[Sequence[Message]], "str | Response"]


@dataclass
class Scripted:
    """One row; `asked` keeps every call: (step, messages, schema)."""

    task: Task
    slot: Slot
    answer: Answer
    pool: Sequence[Sample] = ()
    seed: int = 0
    asked: list[tuple[str, tuple[Message, ...], Mapping[str, Any]]] = field(default_factory=list)

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str = "",
        replicate: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
        logprobs: int | None = None,
    ) -> Response:
        self.asked.append((step, tuple(messages), schema or {}))
        said = self.answer(messages)
        if isinstance(said, Response):
            return replace(said, request_id=f"r/{step}/{replicate}")
        return Response(f"r/{step}/{replicate}", said, tokens_in=7, tokens_out=5, model="scripted")

    async def draft(
        self,
        messages: Sequence[Message] | None = None,
        *,
        step: str = "",
        schema: Mapping[str, Any] | None = None,
    ) -> Draft:
        task = self.task if schema is None else replace(self.task, schema=schema)
        response = await self.ask(self.slot.messages if messages is None else messages, step=step)
        found = parse(response, task)
        return Draft(found.fields, found.reason, response.text, (response,))


def samples(records: Records) -> list[Sample]:
    """Human records as samples."""
    labels: Sequence[str | None] = records.labels() or [None] * len(records)
    return [
        Sample(row["id"], text, label, fields={k: v for k, v in row.items() if k not in ("id", "lineage")})
        for row, text, label in zip(records, records.texts(), labels)
    ]
