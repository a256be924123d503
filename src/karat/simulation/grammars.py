"""What tasks with a grammar share: counted rules, draws from them, real data without end. Knows no task.

A text is a row of choices, each made in a place (for instance: depth 2, right of an `and`). How often each
choice was made in each place is all that an emulated model knows.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Protocol

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


class Samples(Protocol):
    """A task that makes its own real data."""

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """Return n real texts."""
        ...


@dataclass(frozen=True)
class Endless:
    """Real texts without end: every turn draws new ones."""

    task: Samples
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
