"""Steps that several recipes take with one row: an answer in plain text, the answer to a made prompt.

Knows no recipe and no provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from karat.generation.base import Draft, Message, Response, Scene
from karat.generation.parsing import parse
from karat.generation.tasks import Task


def read_plain(response: Response, task: Task) -> tuple[str, str]:
    """The text of an answer and why it cannot be used (empty when it can), whatever the task's type."""
    parsed = parse(response, replace(task, type="text", schema={}))
    return str(parsed.fields.get("text", "")), parsed.reason


async def plain(
    scene: Scene, messages: Sequence[Message], *, step: str = "", replicate: int = 0
) -> tuple[str, Draft]:
    """Ask for a text, whatever the task's type; the draft says why there is none."""
    response = await scene.ask(messages, step=step, replicate=replicate, schema={})
    text, reason = read_plain(response, scene.task)
    return text, Draft(reason=reason, text=response.text, responses=(response,))


async def answered(scene: Scene, prompt: str, before: Draft) -> Draft:
    """An instruction record: the prompt, and the model's own answer to it in a second call."""
    completion, draft = await plain(scene, (Message("user", prompt),), step="answer")
    fields = {} if draft.reason else {"prompt": prompt, "completion": completion}
    reason = f"the answer: {draft.reason}" if draft.reason else ""
    return replace(draft, fields=fields, reason=reason, responses=(*before.responses, *draft.responses))


def refused(draft: Draft, reason: str) -> Draft:
    """The draft as none, for a reason of the recipe's own."""
    return replace(draft, fields={}, reason=reason)
