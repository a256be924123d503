"""Several candidates with their probabilities in one call. Knows no provider.

After Verbalized Sampling (Zhang et al. 2025): asked for a distribution instead of an instance, an aligned
model names the less typical texts too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from karat.errors import BadSetting
from karat.generation import parsing, plan
from karat.generation.base import Draft, Message, Plot, Response, Scene, Slot, check_number
from karat.generation.parsing import parse, read_json
from karat.generation.prompts import candidates_form, candidates_schema, is_plain, numbered, requirements
from karat.generation.tasks import Task


@dataclass(frozen=True)
class Verbalized:
    """Ask for k candidates with probabilities in one call; each becomes a record.

    tail: ask for candidates less likely than this (0: as they come); one that says it is more likely is
    rejected. attributes: use the attributes of the task, where it has some, so that each call is for one
    cell of them. structured: ask for JSON and send a schema to servers that can hold to one; false asks for
    tags where a record is one text, which small models keep to more easily.
    """

    k: int = 5
    tail: float = 0.0
    attributes: bool = True
    structured: bool = True

    uses_attributes: ClassVar[bool] = True
    source: ClassVar[str] = "Zhang et al. 2025, Verbalized Sampling"
    cost: ClassVar[str] = "one call for k records, so the prompt is paid for once"

    def __post_init__(self) -> None:
        check_number("k", self.k, 1, "a call must bring a candidate")
        if not 0 <= self.tail <= 1:
            raise BadSetting(f"tail={self.tail:g} is no probability; give one from 0 (no tail) to 1")

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """Calls for k records each, the last one for the rest; with few records a class, for fewer each."""
        k = max(1, min(self.k, plot.n // max(1, len(plot.task.labels))))
        left = plot.n
        plot = plot if self.attributes else replace(plot, task=replace(plot.task, attributes=()))
        for slot in plan.slots(replace(plot, n=-(-plot.n // k)), self):
            wanted = min(k, left)
            left -= wanted
            yield replace(
                slot,
                messages=self._asked(plot.task, slot.label, slot.attributes, wanted),
                yields=wanted,
                schema={} if self._tagged(plot.task) else candidates_schema(plot.task, wanted),
            )

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """One message that asks for k candidates."""
        return self._asked(task, label, attributes, self.k)

    def _tagged(self, task: Task) -> bool:
        return not self.structured and is_plain(task)

    def _form(self, task: Task, k: int) -> list[str]:
        return candidates_form(task, k, tags=self._tagged(task))

    def _asked(
        self, task: Task, label: str | None, attributes: Mapping[str, str], k: int
    ) -> tuple[Message, ...]:
        wanted = requirements(task, label, attributes)
        head = f"Think of all the ways in which one {task.domain}"
        head += " that meets the requirements below could read." if wanted else " could read."
        lines = [head, *numbered(wanted)]
        if self.tail:
            lines.append(
                f"Give {k} of them that differ from each other and are far from the usual: each with a "
                f"probability below {self.tail:g}."
            )
        else:
            lines.append(
                f"Give {k} of them that differ from each other, drawn from the whole range, and for each "
                "the probability with which it would come up."
            )
        return (Message("user", "\n".join([*lines, *self._form(task, k)])),)

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """One draft for each candidate; asks once more where no candidate can be read."""
        slot, wanted = scene.slot, scene.slot.yields
        responses = [await scene.ask(slot.messages, schema=slot.schema)]
        found = self._read(responses[0], scene.task, wanted)
        if not any(draft.fields for draft in found) and responses[0].text.strip():
            again = (
                *slot.messages,
                Message("assistant", responses[0].text),
                Message("user", "This cannot be read. " + self._form(scene.task, wanted)[-1]),
            )
            responses.append(await scene.ask(again, step="repair", schema=slot.schema))
            found = self._read(responses[1], scene.task, wanted)
        return [replace(draft, responses=tuple(responses)) for draft in found]

    def _read(self, response: Response, task: Task, k: int) -> list[Draft]:
        """The candidates of an answer, each read by the task's type; at least one draft, with a reason."""
        given = parsing.parse_candidates(response.text, k) if is_plain(task) else _objects(response.text, k)
        if not given:
            # An answer that is cut, empty or a refusal says so itself; any other lacks the candidates.
            why = (
                parse(response, replace(task, type="text", schema={})).reason or "no candidates in the answer"
            )
            return [Draft(reason=why, text=response.text)]
        drafts = []
        cut = response.finish_reason in ("length", "max_tokens")
        for number, (text, probability) in enumerate(given, 1):
            # Of an answer that was cut only the last candidate is broken.
            ended = response.finish_reason if cut and number == len(given) else "stop"
            parsed = parse(replace(response, text=text, finish_reason=ended), task)
            reason = parsed.reason
            if not reason and self.tail and probability is not None and probability >= self.tail:
                reason = "more likely than asked: a candidate's probability is not below the tail"
            fields: dict[str, Any] = {} if reason else {**parsed.fields, "probability": probability}
            drafts.append(Draft(fields=fields, reason=reason, text=text))
        return drafts


def _objects(text: str, k: int) -> list[tuple[str, float | None]]:
    """Candidates that are objects with several fields, as JSON texts without their probability."""
    import json

    found = read_json(text)
    listed = found.get("candidates") if isinstance(found, dict) else found
    pairs: list[tuple[str, float | None]] = []
    for one in (listed if isinstance(listed, list) else [])[:k]:
        if isinstance(one, dict):
            said = one.pop("probability", None)
            sure = float(said) if isinstance(said, int | float) and 0 <= said <= 1 else None
            pairs.append((json.dumps(one, ensure_ascii=False), sure))
    return pairs
