"""Any corpus of the user: real data and tokens, no verifier; knows no model and no loop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from karat.errors import InputError
from karat.simulation.base import Pool, Source

if TYPE_CHECKING:
    from karat.records import Records

WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Text:
    """The user's own texts; nothing says which are right, so that diversity and loss are measured alone."""

    verifies: ClassVar[bool] = False

    token: Literal["word", "character"] = "word"

    def source(self, human: Records | None = None, *, seed: int = 0) -> Source:
        """Return the user's records, a tenth of them held out."""
        if human is None:
            raise InputError("task text needs human records; name their file, or use --task logic")
        return Pool(tuple(human.texts()), seed)

    def tokens(self, text: str) -> list[str]:
        """Return words and marks, or characters."""
        return WORD.findall(text) if self.token == "word" else list(text)

    def describe(self) -> dict[str, str]:
        """Return what the task is, in words."""
        return {
            "task": "the user's own texts",
            "tokens": self.token,
            "correct": "not known: the task has no verifier",
        }
