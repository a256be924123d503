"""Instructions grown from seeds, with a gate for novelty. Knows no provider.

After Self-Instruct (Wang et al. 2023): eight examples in each prompt, six human and two made earlier; what is
too like something kept (ROUGE-L 0.7 or more) is left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from karat.errors import BadSetting, InputError
from karat.generation import plan
from karat.generation.base import Draft, Message, Plot, Sample, Scene, Slot, check_number
from karat.generation.pool import Novelty, compared, novelty, of_label, several, text_of, turns
from karat.generation.prompts import answer_form, examples, numbered, requirements, wishes
from karat.generation.steps import answered, plain, refused
from karat.generation.tasks import Task


@dataclass(frozen=True)
class SelfInstruct:
    """Grow data from seeds: show some human records and some made ones, ask for a new one, keep the novel.

    human: human records in each prompt. made: records of earlier rounds in each prompt (while there are
    none, human ones stand in). likeness: ROUGE-L from which a record is too like one that is there. choices:
    share of instructions whose answer is one of a few choices, where the right one is drawn beforehand, so
    that the first choice is not always right. size: the most records of a round. tries: calls for a novel
    instruction.
    """

    human: int = 6
    made: int = 2
    likeness: float = 0.7
    choices: float = 0.25
    size: int = 200
    tries: int = 2

    uses_attributes: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"human"})
    source: ClassVar[str] = "Wang et al. 2023, Self-Instruct"
    cost: ClassVar[str] = "instructions: two calls a record (the instruction, its answer); else one"

    def __post_init__(self) -> None:
        check_number("human", self.human, 1, "nothing grows without a seed")
        check_number("made", self.made, 0, "0 shows human records only")
        check_number("size", self.size, 1, "a round must bring a record")
        check_number("tries", self.tries, 1, "a record needs a call")
        for name in ("likeness", "choices"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadSetting(f"{name}={getattr(self, name):g} must be from 0 to 1")

    def rounds(self, n: int) -> tuple[int, ...]:
        """Rounds of at most `size`, and four at least, so that what is made is soon shown too."""
        size = min(self.size, -(-n // 4))
        return (size,) * (n // size) + ((n % size,) if n % size else ())

    def calls(self, slot: Slot) -> int:
        """The most calls that a row makes."""
        return self.tries + 1 if slot.material.get("apart") else 1

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """The usual labels and attributes; each row with examples of its class, in a drawn order."""
        seed = plot.seed + plot.round
        shelves: dict[str | None, tuple[int, int, Iterator[Sample], Iterator[Sample]]] = {}
        for number, slot in enumerate(plan.slots(plot, self)):
            if slot.label not in shelves:
                people = of_label(plot.pool, slot.label, human=True)
                grown = [s for s in of_label(plot.pool, slot.label) if not s.human]
                if not people:
                    raise InputError(
                        f"recipe 'self_instruct' has no human record of the class {slot.label!r} to grow "
                        "from; give some (--human), or remove the class from the task"
                    )
                count = min(self.made, len(grown))
                shelves[slot.label] = (
                    count,
                    len(people),
                    turns(people, seed, f"human {slot.label}"),
                    turns(grown, seed, f"made {slot.label}"),
                )
            count, there, humans, made = shelves[slot.label]
            told = several(made, count, count) + several(humans, self.human + self.made - count, there)
            drawn = random.Random(f"{seed}/self_instruct/{number}")
            drawn.shuffle(told)
            choice = drawn.randint(1, 3) if self._asks(plot.task) and drawn.random() < self.choices else 0
            yield replace(
                slot,
                messages=self._asked(plot.task, slot.label, slot.attributes, told, choice),
                material={"apart": self._asks(plot.task), "choice": choice},
                parents=tuple(sample.id for sample in told),
            )

    @staticmethod
    def _asks(task: Task) -> bool:
        """True where the instruction and its answer are asked for apart, in plain text."""
        return task.type == "instruction" and not task.schema

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt without its examples, which are chosen when the rows are planned."""
        return self._asked(task, label, attributes, (), 0)

    def _asked(
        self,
        task: Task,
        label: str | None,
        attributes: Mapping[str, str],
        given: Sequence[Sample],
        choice: int,
    ) -> tuple[Message, ...]:
        apart = self._asks(task)
        if apart:
            given = [replace(s, text=str(s.fields.get("prompt", s.text)), fields={}) for s in given]
        lines = [f"Here are examples of: {task.domain}.\n", *examples(task, given)] if given else []
        wanted = requirements(task, label, attributes)
        if apart:
            lines.append(
                "Write one new instruction for an assistant"
                + (", on another subject and of another kind than these." if given else ".")
            )
            wanted.append("It can be carried out in text alone, and holds all that is needed for it.")
            if choice:
                wanted.append(
                    "Its answer is one of three or more choices, which it names. Make up its content so that "
                    f"choice number {choice} is the right one, but do not say so."
                )
            form = [*wishes(task), "Answer with the instruction alone; do not carry it out."]
        else:
            lines.append(f"Write one new {task.domain}" + (", unlike these in content." if given else "."))
            form = answer_form(task)
        return (Message("user", "\n".join([*lines, *numbered(wanted), *form])),)

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """A record that is novel against the pool; the instruction first, where the data are instructions."""
        apart = self._asks(scene.task)
        kept = novelty(scene.pool)
        draft = Draft()
        spent = draft.responses
        for turn in range(self.tries):
            if apart:
                text, draft = await plain(scene, scene.slot.messages, step="instruction", replicate=turn)
            elif turn:
                break  # a draft asks with its own replicates; the row is asked for again as a whole
            else:
                draft = await scene.draft()
                text = "" if draft.reason else text_of(scene.task, draft.fields)
                text = compared(Sample("", text, fields=draft.fields))
            draft = replace(draft, responses=(*spent, *draft.responses))
            spent = draft.responses
            why = draft.reason or self._known(kept, text, scene.pool)
            if not why:
                return [await answered(scene, text, draft) if apart else draft]
            draft = refused(draft, why)
        return [draft]

    def sift(self, made: Sequence[Sample], pool: Sequence[Sample]) -> dict[str, str]:
        """Why records of one round are dropped, by id: of those that are alike only the first stays."""
        kept = Novelty([compared(sample) for sample in pool])
        known = list(pool)
        dropped: dict[str, str] = {}
        for sample in made:
            text = compared(sample)
            why = self._known(kept, text, known)
            if why:
                dropped[sample.id] = why
            else:
                kept.keep(text)
                known.append(sample)
        return dropped

    def _known(self, kept: Novelty, text: str, pool: Sequence[Sample]) -> str:
        """Why a text is not novel; empty when it is."""
        alike, which = kept.likeness(text, self.likeness)
        return f"not novel: ROUGE-L {alike:.2f} with {pool[which].id}" if which >= 0 else ""
