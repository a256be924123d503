"""Human records retrieved into the prompt as examples. Knows no provider.

In-context examples (Brown et al. 2020) retrieved for each row, as in SynthesizRR (Divekar and Durrett 2024);
here from the human records alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from karat.errors import BadSetting, InputError
from karat.generation import plan
from karat.generation.base import Draft, Message, Plot, Sample, Scene, Slot, check_number
from karat.generation.pool import Nearness, copied, of_label, text_of, turns
from karat.generation.prompts import answer_form, examples, numbered, requirements
from karat.generation.steps import refused
from karat.generation.tasks import Task


@dataclass(frozen=True)
class Exemplar:
    """Show k human records of the class in each prompt, and reject an answer that copies one of them.

    pick: random, nearest (a record and those most like it) or diverse (a record and those least like it).
    Every human record comes first once before any does twice. copies: likeness (0 to 1, by edit distance)
    from which an answer counts as a copy of an example; 0 turns the guard off.
    """

    k: int = 3
    pick: Literal["random", "nearest", "diverse"] = "random"
    copies: float = 0.9

    uses_attributes: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"human"})
    source: ClassVar[str] = "Brown et al. 2020; retrieval after SynthesizRR, Divekar and Durrett 2024"
    cost: ClassVar[str] = "one call a record, with the tokens of k examples in each prompt"

    def __post_init__(self) -> None:
        check_number("k", self.k, 1, "a prompt without examples is recipe 'simple' or 'attributed'")
        if not 0 <= self.copies <= 1:
            raise BadSetting(f"copies={self.copies:g} must be from 0 (no guard) to 1 (only exact copies)")

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """The usual rows, each with examples of its class; their ids are its parents."""
        shelves: dict[str | None, Iterator[list[Sample]]] = {}
        for slot in plan.slots(plot, self):
            if slot.label not in shelves:
                found = of_label(plot.pool, slot.label, human=True)
                if not found:
                    raise InputError(
                        f"recipe 'exemplar' has no human record of the class {slot.label!r} to show; "
                        "give some (--human), or remove the class from the task"
                    )
                shelves[slot.label] = self._picked(found, plot.seed + plot.round, str(slot.label))
            shown = next(shelves[slot.label])
            yield replace(
                slot,
                messages=self._asked(plot.task, slot.label, slot.attributes, shown),
                material={"shown": {sample.id: sample.text for sample in shown}},
                parents=tuple(sample.id for sample in shown),
            )

    def _picked(self, samples: list[Sample], seed: int, name: str) -> Iterator[list[Sample]]:
        """Sets of up to k different texts, without end."""
        near = Nearness(samples)
        rows = {sample.id: row for row, sample in enumerate(samples)}
        further = turns(samples, seed, f"{name}/further")
        for first in turns(samples, seed, name):
            if self.pick == "random":
                shown = [first]
                for other in (next(further) for _ in range(4 * self.k)):
                    if len(shown) < self.k and other.text not in {sample.text for sample in shown}:
                        shown.append(other)
            else:
                row = rows[first.id]
                found = near.nearest if self.pick == "nearest" else near.spread
                shown = [first, *(samples[i] for i in found(row, self.k - 1))]
            yield shown

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt without its examples, which are chosen when the rows are planned."""
        return self._asked(task, label, attributes, ())

    def _asked(
        self, task: Task, label: str | None, attributes: Mapping[str, str], shown: Sequence[Sample]
    ) -> tuple[Message, ...]:
        wanted = requirements(task, label, attributes)
        lines = [f"Here are {len(shown)} real examples of: {task.domain}.\n"] if len(shown) > 1 else []
        lines += [f"Here is a real example of: {task.domain}.\n"] if len(shown) == 1 else []
        lines += examples(task, shown)
        head = f"Write one new {task.domain}" + (" that could stand among them" if shown else "")
        lines.append(head + (" and meets these requirements:" if wanted else "."))
        lines += numbered(wanted)
        lines.append("Copy no sentence of the examples." if shown else "")
        return (Message("user", "\n".join([*filter(None, lines), *answer_form(task)])),)

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """The answer, unless it copies what was shown."""
        draft = await scene.draft()
        if draft.reason:
            return [draft]
        shown = list(scene.slot.material.get("shown", {}).items())
        why = copied(text_of(scene.task, draft.fields), shown, self.copies)
        return [refused(draft, f"{why}, which was shown as an example")] if why else [draft]
