"""Sentences and their translations, from given texts or from texts that the model writes. Knows no provider.

Forward: the translation is made, and a student learns from it (Kim and Rush 2016). Back: the source is made,
so that what a student learns to write is human (Sennrich et al. 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from karat.errors import InputError
from karat.generation import plan
from karat.generation.base import Draft, Message, Plot, Scene, Slot
from karat.generation.pool import items_of, words_of
from karat.generation.prompts import numbered, requirements
from karat.generation.steps import plain, refused
from karat.generation.tasks import Task

_TYPES = ("translation", "text", "classification")


@dataclass(frozen=True)
class Translate:
    """Translate texts word for word as given, or texts that the model writes first where none are given.

    into: the target language (empty: that of the task). out_of: the source language, if it is to be
    named (empty: that of the task). direction: forward (items are sources) or back (items are in the
    target language, and their sources are made). Text and classification tasks get the translation as
    their text; labels stay.
    """

    into: str = ""
    out_of: str = ""
    direction: Literal["forward", "back"] = "forward"

    uses_attributes: ClassVar[bool] = True
    source: ClassVar[str] = "forward: Kim and Rush 2016; back: Sennrich et al. 2016"
    cost: ClassVar[str] = "one call an item; without items two a record (the text, its translation)"

    def calls(self, slot: Slot) -> int:
        """The most calls that a row makes."""
        return 1 if "text" in slot.material else 2

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """One row an item, at most n; without items the usual rows, whose texts are written first."""
        if plot.task.type not in _TYPES or plot.task.schema:
            raise InputError(
                f"recipe 'translate' makes records of the types {', '.join(_TYPES)} without a schema; the "
                f"task is of type {plot.task.type}"
            )
        read, written = self._languages(plot.task)
        if self.direction == "back" and not written:
            raise InputError(
                "recipe 'translate' translates back into no language; give out_of=... or source_language in "
                "the task"
            )
        if not (read if self.direction == "back" else written):
            raise InputError(
                "recipe 'translate' has no target language; give into=... or target_language in the task"
            )
        if plot.items is None:
            for slot in plan.slots(plot, self):
                yield replace(slot, messages=self._sentence(plot.task, slot.label, slot.attributes))
            return
        field = "target" if self.direction == "back" else "source"
        for _, sample in zip(range(plot.n), items_of(plot.items)):
            text = str(sample.fields.get(field) or sample.text)
            yield Slot(
                self._asked(plot.task, text),
                sample.label if plot.task.type != "translation" else None,
                material={"text": text},
                parents=(sample.id,),
            )

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt for a text that is then translated."""
        return self._sentence(task, label, attributes)

    def _languages(self, task: Task) -> tuple[str, str]:
        """The language that is read and the one that is written."""
        into = self.into or task.target_language or task.language
        out_of = self.out_of or task.source_language
        return (into, out_of) if self.direction == "back" else (out_of, into)

    def _asked(self, task: Task, text: str) -> tuple[Message, ...]:
        read, written = self._languages(task)
        lines = [
            f"Translate this {task.domain}{f' from {read}' if read else ''} into {written}.",
            task.instructions,
            "Answer with the translation alone.",
            f"\n{text}",
        ]
        return (Message("user", "\n".join(filter(None, lines))),)

    def _sentence(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        read, written = self._languages(task)
        wanted = requirements(task, label, attributes)
        what = f"Write one {task.domain} that is worth translating into {written}"
        lines = [
            what + (", which meets these requirements:" if wanted else "."),
            *numbered(wanted),
            f"Write it in {read}." if read else "Write it in English.",
            "Do not translate it. Answer with the text alone.",
        ]
        return (Message("user", "\n".join(lines)),)

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """The translation of the given text, or of one that is written first."""
        given: Any = scene.slot.material.get("text")
        before: Draft = Draft()
        if given is None:
            given, before = await plain(scene, scene.slot.messages, step="text")
            if before.reason:
                return [before]
        told = scene.slot.messages if "text" in scene.slot.material else self._asked(scene.task, given)
        text, draft = await plain(scene, told, step="translation" if before.responses else "")
        draft = replace(draft, responses=(*before.responses, *draft.responses))
        if draft.reason:
            return [draft]
        # A name or a number may be the same in both languages; a sentence is not.
        if text.strip() == str(given).strip() and len(words_of(text)) > 3:
            return [refused(draft, "the translation is the text itself")]
        return [replace(draft, fields=self._record(scene.task, str(given), text))]

    def _record(self, task: Task, given: str, made: str) -> dict[str, Any]:
        if task.type != "translation":
            return {"text": made}
        back = self.direction == "back"
        return {"source": made, "target": given} if back else {"source": given, "target": made}
