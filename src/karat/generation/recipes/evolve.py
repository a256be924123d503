"""Records made harder or rarer, round by round. Knows no provider.

After Evol-Instruct (Xu et al. 2023, WizardLM): operators in depth and in breadth, and rules by which an
evolution is eliminated. The words of the operators are ours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from karat.errors import BadSetting, InputError
from karat.generation import plan
from karat.generation.base import Draft, Message, Plot, Sample, Scene, Slot, check_number
from karat.generation.pool import copied, longest_idle, of_label, text_of, words_of
from karat.generation.prompts import answer_form, apart_line, class_line, is_plain, shown, wishes
from karat.generation.steps import answered, plain, refused
from karat.generation.tasks import Task

INSTRUCTIONS = {
    "constraint": "Add one more condition that the answer must meet.",
    "deepen": "Ask for more depth: where it wants an overview, let it want causes, limits or consequences.",
    "concrete": "Replace what is general in it by something particular.",
    "steps": "Change it so that several steps of thought are needed where one was enough.",
    "material": "Add material to work on, such as a table, a list of facts, a short text or a piece of code.",
}
TEXTS = {
    "constraint": "Let one more circumstance matter in it.",
    "deepen": "Go deeper into what it is about.",
    "concrete": "Replace what is general in it by something particular.",
    "subtle": "Say what makes it what it is less openly, so that a reader must look twice.",
    "unusual": "Put it in a way that is seldom met but true to life.",
}
BREADTH = "breadth"
_HEADS = re.compile(r"(?i)^\W*(?:(?:the )?(?:new|evolved|rewritten|given|changed)\b[^\n:]{0,40}:)")


@dataclass(frozen=True)
class Evolve:
    """Evolve records of the pool, in depth (harder, more particular) or breadth (a new, rarer one).

    generations: rounds in which what was made is evolved further. breadth: share of rows that ask for a new
    record in place of a harder one. copies: likeness (0 to 1, by edit distance) from which nothing was
    evolved. shortest: words that it must have. Both are reasons to eliminate a record, as is a refusal, an
    answer that speaks of the prompt, and one that is marks only.
    """

    generations: int = 4
    breadth: float = 0.2
    copies: float = 0.95
    shortest: int = 3

    uses_attributes: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"human"})
    source: ClassVar[str] = "Evol-Instruct in Xu et al. 2023, WizardLM"
    cost: ClassVar[str] = "instructions: two calls a record (the instruction, its answer); else one"

    def __post_init__(self) -> None:
        check_number("generations", self.generations, 1, "1 evolves human records only")
        check_number("shortest", self.shortest, 0, "0 allows any length")
        for name in ("breadth", "copies"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadSetting(f"{name}={getattr(self, name):g} must be from 0 to 1")

    def rounds(self, n: int) -> tuple[int, ...]:
        """As many records in each generation, none of them empty."""
        count = min(self.generations, n)
        return tuple(n // count + (number < n % count) for number in range(count))

    def calls(self, slot: Slot) -> int:
        """The most calls that a row makes."""
        return 2 if slot.material.get("apart") else 1

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """The usual labels; each row evolves the sample of its class from which the least was made."""
        seed = plot.seed + plot.round
        queues: dict[str | None, list[Sample]] = {}
        taken: dict[str | None, int] = {}
        for number, slot in enumerate(plan.slots(plot, self)):
            if slot.label not in queues:
                found = of_label(plot.pool, slot.label)
                if not found:
                    raise InputError(
                        f"recipe 'evolve' has no human record of the class {slot.label!r} to begin with; "
                        "give some (--human), or remove the class from the task"
                    )
                queues[slot.label] = longest_idle(plot.pool, found, seed, f"evolve {slot.label}")
            turn = taken.get(slot.label, 0)
            taken[slot.label] = turn + 1
            queue = queues[slot.label]
            parent = queue[turn % len(queue)]
            drawn = random.Random(f"{seed}/operator/{number}")
            depth = list(INSTRUCTIONS if _apart(plot.task) else TEXTS)
            operator = BREADTH if drawn.random() < self.breadth else drawn.choice(depth)
            yield replace(
                slot,
                messages=_asked(plot.task, slot.label, parent, operator),
                material={
                    "operator": operator,
                    "text": _evolved_text(plot.task, parent),
                    "apart": _apart(plot.task),
                },
                attributes={"operator": operator},
                parents=(parent.id,),
            )

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt without its parent, which is chosen when the rows are planned."""
        return _asked(task, label, Sample("", "", label), attributes.get("operator", "deepen"))

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """The evolved record, or the rule by which it was eliminated."""
        if not _apart(scene.task):
            draft = await scene.draft()
            why = draft.reason or self._eliminated(scene, text_of(scene.task, draft.fields))
            return [refused(draft, why) if why else draft]
        prompt, draft = await plain(scene, scene.slot.messages, step="evolved")
        why = draft.reason or self._eliminated(scene, prompt)
        return [refused(draft, why) if why else await answered(scene, prompt, draft)]

    def _eliminated(self, scene: Scene, text: str) -> str:
        """Why an evolution does not count; empty when it does."""
        words = len(words_of(text))
        if words < self.shortest:
            return f"too short: fewer than {self.shortest} words"
        if _HEADS.match(text):
            return "the answer speaks of the prompt"
        (parent,) = scene.slot.parents
        why = copied(text, [(parent, str(scene.slot.material["text"]))], self.copies)
        return f"{why}: nothing was evolved" if why else ""


def _apart(task: Task) -> bool:
    """True where the instruction and its answer are asked for apart, in plain text."""
    return task.type == "instruction" and not task.schema


def _evolved_text(task: Task, sample: Sample) -> str:
    """What is evolved: an instruction without its answer, else the whole text."""
    return str(sample.fields.get("prompt", sample.text)) if _apart(task) else sample.text


def _asked(task: Task, label: str | None, parent: Sample, operator: str) -> tuple[Message, ...]:
    apart = _apart(task)
    what = "instruction for an assistant" if apart else task.domain
    given = _evolved_text(task, parent) if apart else shown(task, parent)
    lines = [f"Here is an example of: {what}.\n", f"{given}\n"]
    if operator == BREADTH:
        lines.append(
            f"Write a new one: {what}, of the same field and as hard, but about something less common."
        )
    else:
        how = (INSTRUCTIONS if apart else TEXTS).get(operator, "")
        lines.append(f"Rewrite it so that it becomes somewhat harder. {how}")
        lines.append("It must stay reasonable and clear, and become only a little longer.")
    lines += [class_line(task, label), apart_line(task, label)]
    if apart:
        lines += [*wishes(task), "Answer with the instruction alone; do not carry it out."]
    else:
        lines += ["" if is_plain(task) else "Keep the fields.", *answer_form(task)]
    return (Message("user", "\n".join(filter(None, lines))),)
