"""One row at work: asks in its name, reads answers, has unreadable ones repaired. Knows no recipe by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from karat.generation import parsing
from karat.generation.base import Draft, Message, Request, Response, Sample, Slot
from karat.generation.engine import Engine
from karat.generation.gathering import NoAnswer
from karat.generation.parsing import fields_of, parse, schema_of
from karat.generation.plan import PlanRow
from karat.generation.tasks import Task

# Redrawn rows ask under other numbers than any sample that a recipe draws itself.
_DRAWS = 1000
_SHOWN = 4000  # characters of a bad answer that are shown to the model that is to mend it


@dataclass(frozen=True)
class Outcome:
    """What one row came to: its drafts, kept or with the reason why not, and all calls made for it."""

    row: PlanRow
    drafts: tuple[Draft, ...]
    responses: tuple[Response, ...] = ()


class RowScene:
    """The scene of one row; `attempt` counts how often the whole row was drawn before."""

    def __init__(
        self,
        engine: Engine,
        task: Task,
        row: PlanRow,
        *,
        index: int = 0,
        attempt: int = 0,
        repairs: int = 1,
        pool: Sequence[Sample] = (),
    ) -> None:
        self.task, self.row, self.pool = task, row, pool
        self.slot: Slot = row.slot
        self.seed = row.seed + attempt
        self.responses: list[Response] = []
        self._engine, self._index, self._attempt, self._repairs = engine, index, attempt, repairs

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
        """One call in the name of the row. Raises NoAnswer, or Halted when no more calls are made."""
        row = self.row
        response = await self._engine.ask(
            Request(
                id=f"{row.id}/{step}" if step else row.id,
                messages=tuple(messages),
                label=row.label,
                attributes=row.attributes,
                temperature=row.temperature if temperature is None else temperature,
                top_p=row.top_p,
                max_tokens=row.max_tokens if max_tokens is None else max_tokens,
                seed=row.seed,
                replicate=self._attempt + _DRAWS * replicate,
                index=self._index,
                schema=schema or {},
                logprobs=row.logprobs if logprobs is None else logprobs,
            )
        )
        self.responses.append(response)
        return response

    async def draft(
        self,
        messages: Sequence[Message] | None = None,
        *,
        step: str = "",
        schema: Mapping[str, Any] | None = None,
    ) -> Draft:
        """Ask (for the slot's messages) and read the answer; one that cannot be read is repaired."""
        task = self.task if schema is None else replace(self.task, schema=schema)
        form = self.row.schema or wanted_schema(task)
        asked = tuple(self.row.prompt if messages is None else messages)
        begun = len(self.responses)
        response = await self.ask(asked, step=step, schema=form)
        parsed = parse(response, task)
        for turn in range(1, self._repairs + 1):
            if not parsed.reason or not form or response.finish_reason in _FINAL:
                break
            told = parsing.repair_message(parsed.reason, form)
            asked = (*asked, Message("assistant", response.text[:_SHOWN]), Message("user", told))
            response = await self.ask(asked, step=f"{step}repair{turn}", schema=form)
            parsed = parse(response, task)
        responses = tuple(self.responses[begun:])
        return Draft(parsed.fields, parsed.reason, response.text, responses)


_FINAL = ("content_filter", "refusal")


def wanted_schema(task: Task) -> Mapping[str, Any]:
    """The JSON schema that an answer must have; empty where the answer is the text itself."""
    fields = fields_of(task)
    return task.schema or ({} if fields == ("text",) else schema_of(fields))


async def play(recipe: Any, scene: RowScene) -> Outcome:
    """Let a recipe write a row. A call that got no answer is a reason, not an error; Halted passes."""
    writer = getattr(recipe, "write", None)
    try:
        drafts = [await scene.draft()] if writer is None else list(await writer(scene))
        drafts = drafts or [Draft(reason="the recipe made nothing of the answer")]
    except NoAnswer as error:
        drafts = [Draft(reason=str(error))]
    return Outcome(scene.row, tuple(drafts), tuple(scene.responses))
