"""The model writes the instruction first and is then prompted with it. Knows no provider.

After MetaPrompt, a baseline of Yu et al. 2023 (arXiv 2306.15895), whose code was not published: the words
of the prompts are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from karat.generation import plan
from karat.generation.base import AskAll, Message, Plot, Request, Slot
from karat.generation.prompts import answer_form, apart_line, class_line, listed, quoted
from karat.generation.steps import read_plain
from karat.generation.tasks import Task
from karat.records import Records

PLACEHOLDER = "[here stands the instruction for one {domain} that the model writes before the first row]"


@dataclass(frozen=True)
class Instructed(Task):
    """A task with the instructions that a model wrote, by label ("" for all), and why some are missing."""

    told: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Meta:
    """Let the model write the instruction, once, and prompt it with that for each row.

    per: task (one instruction for all classes) or label (one for each). instruction_tokens: the most tokens
    of an instruction. Where the model writes none, the rows of `simple` are asked for instead.
    """

    per: Literal["task", "label"] = "task"
    instruction_tokens: int = 400

    uses_attributes: ClassVar[bool] = False
    source: ClassVar[str] = "MetaPrompt, a baseline in Yu et al. 2023, arXiv 2306.15895"
    cost: ClassVar[str] = (
        "one call a record, and one a task (or label) before; the instruction is sent each time"
    )

    def prepare(self, task: Task, human: Records | None, ask: AskAll | None, seed: int) -> Task:
        """The task with its instructions. Without `ask` (a dry run) a placeholder stands for them."""
        labels: tuple[str, ...] = (task.label_names if self.per == "label" else ()) or ("",)
        given: dict[str, Any] = {f.name: getattr(task, f.name) for f in fields(Task)}
        if ask is None:
            return Instructed(**given, told=dict.fromkeys(labels, PLACEHOLDER.format(domain=task.domain)))
        requests = [
            Request(
                f"instruction-{number}",
                self._wanted(task, label),
                temperature=0.7,
                max_tokens=self.instruction_tokens,
                seed=plan.row_seed(seed, f"instruction {label}"),
            )
            for number, label in enumerate(labels)
        ]
        answers = ask(requests)
        told: dict[str, str] = {}
        missing: dict[str, str] = {}
        for request, label in zip(requests, labels):
            answer = answers.get(request.id)
            text, reason = ("", "no answer") if answer is None else read_plain(answer, task)
            if reason:
                missing[label] = f"no instruction was written ({reason}), so the plain prompt is used"
            else:
                told[label] = text
        return Instructed(**given, told=told, missing=missing)

    def _wanted(self, task: Task, label: str) -> tuple[Message, ...]:
        """The prompt that asks for the instruction."""
        classes = [
            quoted(found.name) + (f" ({found.definition.rstrip('.')})" if found.definition else "")
            for found in task.labels
        ]
        about = [class_line(task, label)] if label else []
        if not label and classes:
            about = [
                f"The classes are {listed(classes)}; which of them is wanted is said after your instruction."
            ]
        lines = [
            f"I want a language model to write many different examples of this kind: {task.domain}.",
            *about,
            f"They are to be in {task.language}." if task.language else "",
            f"What must be heeded: {task.instructions}" if task.instructions else "",
            "Write the instruction that I should give to the model, so that its examples are realistic, "
            "precise and differ from each other.",
            "The instruction must ask for one example only. Answer with the instruction alone.",
        ]
        return (Message("user", " ".join(line for line in lines if line)),)

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """The usual rows; one without an instruction says why in its material."""
        missing = getattr(plot.task, "missing", {})
        for slot in plan.slots(plot, self):
            reason = missing.get(slot.label or "") or missing.get("")
            yield replace(slot, material={"fallback": reason}) if reason else slot

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The written instruction, the class and the form of the answer; the plain prompt where none is."""
        told = getattr(task, "told", {})
        instruction = told.get(label or "") or told.get("")
        if instruction:
            lines = [instruction, "", class_line(task, label), apart_line(task, label), *answer_form(task)]
            return (Message("user", "\n".join(line for i, line in enumerate(lines) if line or i == 1)),)
        lines = [f"Write one {task.domain}.", class_line(task, label), *answer_form(task)]
        return (Message("user", " ".join(line for line in lines if line)),)
