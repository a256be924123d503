"""Prompts with numbered requirements, one for each attribute of the row. Knows no provider.

After AttrPrompt (Yu et al. 2023, arXiv 2306.15895); attributes are measured on human data if given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from karat.errors import InputError
from karat.generation import attributes as finding
from karat.generation.base import Message, check_number
from karat.generation.prompts import answer_form, numbered, requirements
from karat.generation.tasks import Task
from karat.records import Records


@dataclass(frozen=True)
class Attributed:
    """Sweep length, style and topic of each class, so that the same prompt is never asked twice in vain.

    buckets: how many length ranges. topics: how many topics a class has at most (0: none).
    marginals: human (attribute values as often as in the human data) or even (all alike).
    """

    buckets: int = 4
    topics: int = 5
    marginals: Literal["human", "even"] = "human"

    uses_attributes: ClassVar[bool] = True
    source: ClassVar[str] = "AttrPrompt, Yu et al. 2023, arXiv 2306.15895"
    cost: ClassVar[str] = "one call a record, about 60 tokens in more than `simple`"

    def __post_init__(self) -> None:
        check_number("buckets", self.buckets, 2, "lengths need two ranges to differ")
        check_number("topics", self.topics, 0, "0 leaves topics out")

    def enrich(self, task: Task, human: Records | None, seed: int) -> tuple[Task, Records | None]:
        """Find length, style and topic in human records; the task's own attributes are kept."""
        if human is None:
            if not task.attributes:
                raise InputError(
                    "recipe 'attributed' has no attributes; give [attributes] in the task file, or human "
                    "records to find some in (--human FILE)"
                )
            return task, None
        return finding.enrich(
            task,
            human,
            seed=seed,
            buckets=self.buckets,
            topics=self.topics,
            even=self.marginals == "even",
        )

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """One message with a numbered list; the last keeps the class apart from its neighbours, if known."""
        head = f"Write one {task.domain} that meets all of these requirements:"
        wanted = numbered(requirements(task, label, attributes))
        return (Message("user", "\n".join([head, *wanted, *answer_form(task)])),)
