"""The plain prompt: a text of the domain for a class, and nothing more. Knows no provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from karat.generation.base import Message
from karat.generation.prompts import answer_form, class_line
from karat.generation.tasks import Task
from karat.records import Records


@dataclass(frozen=True)
class Simple:
    """Ask for one text of a class, the same words for each row: the baseline of every recipe."""

    uses_attributes: ClassVar[bool] = False
    source: ClassVar[str] = "SimPrompt in Yu et al. 2023, arXiv 2306.15895"
    cost: ClassVar[str] = "one call a record"

    def enrich(self, task: Task, human: Records | None, seed: int) -> tuple[Task, Records | None]:
        """Return both as they are."""
        return task, human

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """One message that names the domain, the class and the form of the answer."""
        lines = [f"Write one {task.domain}.", class_line(task, label), *answer_form(task)]
        return (Message("user", " ".join(line for line in lines if line)),)
