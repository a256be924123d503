"""Human texts continued from their beginning. Knows no provider.

The way in which self-consuming loops make their data (Shumailov et al. 2024), as a recipe.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from karat.errors import BadSetting, InputError
from karat.generation.base import Draft, Message, Plot, Scene, Slot, check_number
from karat.generation.pool import items_of, of_task, turns
from karat.generation.prompts import apart_line, class_line, is_plain, wishes
from karat.generation.steps import plain, refused
from karat.generation.tasks import Task

_PIECE = re.compile(r"\s*\S+")
# A script that puts no blanks between words has hardly any pieces for its length.
_LONG = 20


@dataclass(frozen=True)
class Continue:
    """Continue the beginning of a text: its first words, as a share or as a number.

    share: how much of each text is given. words: that many words in place of a share (0: the share); for
    scripts without blanks, characters. keep: whole (beginning and continuation) or continuation.
    told: say what is to be done; false sends the beginning alone, as models without instructions want it.
    """

    share: float = 0.3
    words: int = 0
    keep: Literal["whole", "continuation"] = "whole"
    told: bool = True

    uses_attributes: ClassVar[bool] = False
    source: ClassVar[str] = "as in the loops of Shumailov et al. 2024"
    cost: ClassVar[str] = "one call a record, with the beginning of a text in each prompt"

    def __post_init__(self) -> None:
        check_number("words", self.words, 0, "0 takes the share")
        if not 0 < self.share < 1:
            raise BadSetting(f"share={self.share:g} leaves nothing to continue or to begin with; try 0.3")

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """Each text once before any comes twice; its label stays."""
        if not is_plain(plot.task):
            raise InputError(
                f"recipe 'continue' continues plain texts, but the task is of type {plot.task.type}; "
                "use type text, classification or annotation"
            )
        texts = items_of(plot.items) if plot.items is not None else of_task(plot.task, plot.pool, human=True)
        begun = [(sample, self.beginning(sample.text)) for sample in texts]
        usable = {sample.id: head for sample, head in begun if head}
        if not usable:
            raise InputError(
                "recipe 'continue' has no text to continue; give human records (--human) or items of at "
                "least two words"
            )
        found = [sample for sample, head in begun if head]
        for _, sample in zip(range(plot.n), turns(found, plot.seed + plot.round, "continue")):
            head = usable[sample.id]
            yield Slot(
                self._asked(plot.task, sample.label, head),
                sample.label,
                material={"beginning": head},
                parents=(sample.id,),
            )

    def beginning(self, text: str) -> str:
        """The first words of a text as they stand; empty where it is too short to be cut."""
        pieces = _PIECE.findall(text)
        if len(text) < _LONG * max(len(pieces), 1):
            count = self.words or max(1, round(self.share * len(pieces)))
            return "".join(pieces[:count]).strip() if count < len(pieces) else ""
        count = self.words or max(1, round(self.share * len(text)))
        while count < len(text) and unicodedata.combining(text[count]):
            count += 1  # a mark is never parted from its letter
        return text[:count].strip() if count < len(text) else ""

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt without its beginning, which is chosen when the rows are planned."""
        return self._asked(task, label, "...")

    def _asked(self, task: Task, label: str | None, head: str) -> tuple[Message, ...]:
        if not self.told:
            return (Message("user", head),)
        lines = [
            f"Here is the beginning of one {task.domain}. Go on from where it stops, in the same language "
            "and manner, and bring it to its end.",
            class_line(task, label),
            apart_line(task, label),
            *wishes(task),
            "Answer with the continuation alone, without the beginning.",
            f"\n{head}",
        ]
        return (Message("user", "\n".join(filter(None, lines))),)

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """The continuation, joined to its beginning or alone; a repeated beginning is taken off."""
        text, draft = await plain(scene, scene.slot.messages)
        if draft.reason:
            return [draft]
        head = str(scene.slot.material["beginning"])
        rest = _without(head, text)
        if not rest:
            return [refused(draft, "the answer is only the beginning again")]
        whole = rest if self.keep == "continuation" else head + _between(head, rest) + rest
        return [replace(draft, fields={"text": whole})]


def _without(head: str, text: str) -> str:
    """The answer without the beginning, if it repeats it (blanks and case may differ)."""
    pattern = r"\s*".join(map(re.escape, head.split()))
    found = re.match(rf"(?i)\W*{pattern}", text) if pattern else None
    return text[found.end() :].strip() if found else text.lstrip("…").strip()


def _between(head: str, rest: str) -> str:
    """A blank, unless the script has none there or the continuation begins with a mark."""
    if not any(c.isspace() for c in head.strip()) and len(head) >= _LONG:
        return ""
    joint = unicodedata.category(rest[0])
    return "" if joint in ("Po", "Pe", "Pf") and rest[0] not in "¿¡" else " "
