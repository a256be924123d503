"""Any corpus of the user: real data and tokens, no verifier; knows no model and no loop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from karat.errors import InputError
from karat.simulation.audited import METRICS, check
from karat.simulation.base import Pool, Source
from karat.simulation.grammars import Draws, Rules, counted, grown
from karat.training.causal_codec import join_words

if TYPE_CHECKING:
    from karat.records import Records

WORD = re.compile(r"\w+|[^\w\s]")

END = ""
"""The choice that ends a text; no token is empty."""
ENDLESS = 100_000
"""Tokens after which a text that rules write is cut: a chain may run in a circle for long."""


@dataclass(frozen=True)
class Text:
    """The user's own texts; nothing says which are right, so that diversity and loss are measured alone.

    order: an emulated model knows each token's chances after the order - 1 tokens before it.
    audit: the audit's metrics that are taken of each iteration, beside held-out real texts (`a+b`; nothing:
        none).
    """

    verifies: ClassVar[bool] = False

    token: Literal["word", "character"] = "word"
    order: int = 3
    audit: tuple[str, ...] = METRICS

    def __post_init__(self) -> None:
        if self.order < 1:
            raise ValueError(
                f"order={self.order} is below 1; 1 knows how often tokens are, 3 what follows two"
            )
        if self.audit:
            check(self.audit)

    def source(self, human: Records | None = None, *, seed: int = 0) -> Source:
        """Return the user's records, a tenth of them held out."""
        if human is None:
            raise InputError("task text needs human records; name their file, or use --task logic")
        return Pool(tuple(human.texts()), seed)

    def tokens(self, text: str) -> list[str]:
        """Return words and marks, or characters."""
        return WORD.findall(text) if self.token == "word" else list(text)

    def joined(self, tokens: Sequence[str]) -> str:
        """Return tokens as a text with the same tokens; what spaces stood between words is not kept."""
        return join_words(tokens) if self.token == "word" else "".join(tokens)

    def rules(self, texts: Sequence[str]) -> Rules:
        """Count what follows the last order - 1 tokens: an n-gram grammar of the corpus."""
        return counted((self._choices(text), times) for text, times in Counter(texts).items())

    def write(self, rules: Rules, n: int, *, seed: int) -> list[str]:
        """Draw n texts token by token from n-gram counts."""
        return grown(self._chain, rules, n, seed=seed)

    def _choices(self, text: str) -> list[tuple[tuple[str, ...], str]]:
        known = self.order - 1
        row = [*[END] * known, *self.tokens(text), END]
        return [(tuple(row[at : at + known]), row[at + known]) for at in range(len(row) - known)]

    def _chain(self, choose: Draws) -> str:
        return self.joined(list(self._tokens(choose)))

    def _tokens(self, choose: Draws) -> Iterator[str]:
        place: tuple[str, ...] = (END,) * (self.order - 1)
        for _ in range(ENDLESS):
            token = choose(place)
            if token == END:
                return
            yield token
            place = (*place, token)[1:]

    def describe(self) -> dict[str, str]:
        """Return what the task is, in words."""
        return {
            "task": "the user's own texts",
            "tokens": self.token,
            "correct": "not known: the task has no verifier",
        }
