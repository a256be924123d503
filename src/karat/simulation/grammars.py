"""What tasks with a grammar and a verifier share: counted rules, draws, real data, verdicts. Knows no task.

A text is a row of choices, each made in a place (for instance: depth 2, right of an `and`). How often each
choice was made in each place is all that an emulated model knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, ClassVar

from karat.errors import InputError
from karat.simulation.base import Pool, Source, Verdict

if TYPE_CHECKING:
    from karat.records import Records

Place = Hashable
Rules = dict[Place, dict[str, float]]
"""How often (or with which weight) each choice is made in each place."""

Derivation = Sequence[tuple[Place, str]]
"""The choices that make one text, from left to right."""


def counted(derivations: Iterable[tuple[Derivation, float]]) -> Rules:
    """Count choices over derivations, each with how many texts it stands for."""
    found: Rules = {}
    for derivation, times in derivations:
        for place, choice in derivation:
            uses = found.setdefault(place, {})
            uses[choice] = uses.get(choice, 0.0) + times
    return found


class Draws:
    """Chooses in each place as often as rules say; `choose(place)` is all a grammar needs to grow a text."""

    def __init__(self, rules: Rules, random: Random) -> None:
        self.random = random
        self.tables = {place: (list(uses), list(accumulate(uses.values()))) for place, uses in rules.items()}

    def __call__(self, place: Place) -> str:
        """Draw one choice. Raises KeyError for a place that no text ever reached."""
        names, cumulative = self.tables[place]
        # As random.choices draws, without the cost of its call; a single choice takes its number, too, so
        # that what a seed writes does not depend on how a place came to have one choice.
        return names[bisect(cumulative, self.random.random() * cumulative[-1], 0, len(names) - 1)]


def grown(grow: Callable[[Draws], str], rules: Rules, n: int, *, seed: int) -> list[str]:
    """Let a grammar grow n texts by rules."""
    draws = Draws(rules, Random(f"rules:{seed}"))
    return [grow(draws) for _ in range(n)]


class Judging(ABC):
    """What tasks with a verifier share: where real texts come from, and equal texts judged once."""

    right: ClassVar[str] = "right"  # what a text that is valid and correct is called
    wrong: ClassVar[str] = "wrong"

    @abstractmethod
    def sample(self, n: int, seed: int = 0) -> list[str]:
        """Return n real texts, all of them correct."""

    @abstractmethod
    def parse(self, text: str) -> Verdict:
        """Judge one text."""

    def verify(self, texts: Sequence[str]) -> list[Verdict]:
        """Judge each text: right, wrong, or the class of its error; equal texts are judged once."""
        seen = {text: self.parse(text) for text in dict.fromkeys(texts)}
        return [seen[text] for text in texts]

    def source(self, human: Records | None = None, *, seed: int = 0) -> Source:
        """Where real texts come from: new ones without end, or the user's own file, all of it correct."""
        if human is None:
            return Endless(self, seed)
        texts = human.texts()
        for identity, verdict in zip(human.ids, self.verify(texts), strict=True):
            if not verdict.correct:
                found = self.wrong if verdict.valid else verdict.kind
                raise InputError(
                    f"{human.path}: record {identity} is {found}, not {self.right}; drop it "
                    "or use --task text"
                )
        return Pool(tuple(texts), seed)


@dataclass(frozen=True)
class Endless:
    """Real texts without end: every turn draws new ones."""

    task: Judging
    seed: int

    @property
    def size(self) -> int | None:
        """Without end."""
        return None

    def draw(self, n: int, *, turn: int, first: int = 0) -> list[str]:
        """Draw n new real texts; the same turn draws the same texts."""
        return self.task.sample(n, seed=self.seed * 1_000_003 + turn)

    def held_out(self, n: int) -> list[str]:
        """Draw n real texts that no turn draws."""
        return self.task.sample(n, seed=self.seed * 1_000_003 - 1)
