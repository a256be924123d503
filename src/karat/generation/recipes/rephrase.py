"""Human records in other words, with their meaning and label. Knows no provider.

As in Rephrasing the Web (Maini et al. 2024), with a list of styles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from karat.errors import BadSetting, InputError
from karat.generation.base import Draft, Message, Plot, Sample, Scene, Slot
from karat.generation.pool import copied, items_of, of_task, text_of, turns
from karat.generation.prompts import answer_form, apart_line, class_line, is_plain, shown
from karat.generation.steps import refused
from karat.generation.tasks import Task

STYLES = (
    "in plainer words",
    "more formally",
    "as one would say it to a friend",
    "more briefly",
    "at greater length, with the same content",
    "with the parts in another order",
)


@dataclass(frozen=True)
class Rephrase:
    """Rewrite each human record (or item) in another style; meaning, label and language stay.

    styles: how texts are rewritten, separated by +; the task's attribute `style`, where it has one, and
    else six of our own take turns. copies: likeness (0 to 1, by edit distance) from which an answer counts
    as unchanged; 0 turns the guard off.
    """

    styles: tuple[str, ...] = ()
    copies: float = 0.97

    uses_attributes: ClassVar[bool] = False
    source: ClassVar[str] = "Maini et al. 2024, Rephrasing the Web"
    cost: ClassVar[str] = "one call a record, with one human record in each prompt"

    def __post_init__(self) -> None:
        if not 0 <= self.copies <= 1:
            raise BadSetting(f"copies={self.copies:g} must be from 0 (no guard) to 1 (only exact copies)")

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """Each human record once before any comes twice, then in another style."""
        given = plot.pool if plot.items is None else items_of(plot.items)
        found = of_task(plot.task, given, human=True)
        if not found:
            raise InputError(
                "recipe 'rephrase' has no record of the task's classes to rewrite; give human records "
                "(--human) or items"
            )
        place = {sample.id: number for number, sample in enumerate(found)}
        for number, sample in zip(range(plot.n), turns(found, plot.seed + plot.round, "rephrase")):
            styles = self._styles(plot.task, sample.label)
            # One further each time that all were used, so that no record meets a style twice.
            style = styles[(place[sample.id] + number // len(found)) % len(styles)]
            yield Slot(
                _asked(plot.task, sample, style),
                sample.label,
                {"style": style},
                {"text": sample.text},
                parents=(sample.id,),
            )

    def _styles(self, task: Task, label: str | None) -> tuple[str, ...]:
        own = next((a.of(label) for a in task.attributes if a.name == "style" and a.of(label)), ())
        return self.styles or own or STYLES

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt without its record, which is chosen when the rows are planned."""
        return _asked(task, Sample("", "", label), self._styles(task, label)[0])

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """The rewritten record, unless nothing was changed."""
        draft = await scene.draft()
        if draft.reason:
            return [draft]
        (parent,), before = scene.slot.parents, str(scene.slot.material["text"])
        why = copied(text_of(scene.task, draft.fields), [(parent, before)], self.copies)
        return [refused(draft, f"{why}: it was not rewritten")] if why else [draft]


def _asked(task: Task, sample: Sample, style: str) -> tuple[Message, ...]:
    lines = [
        f"Here is an example of: {task.domain}.\n",
        f"{shown(task, sample)}\n",
        f"Rewrite it: {style}. Keep the meaning, names and numbers, and add nothing.",
        class_line(task, sample.label),
        apart_line(task, sample.label),
        "" if task.language else "Keep the language.",
        "" if is_plain(task) else "Keep the fields.",
        *answer_form(task),
    ]
    return (Message("user", "\n".join(filter(None, lines))),)
