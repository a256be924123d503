"""Choices of a grammar that has knobs: drawn by weights, or read back from a text. Knows no task.

One function grows a text from choices. Given choices by weight it writes real data; given the choices that a
reader found in a text it tells in which place each was made, and whether that is the same text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from random import Random

from karat.simulation.grammars import Derivation, Place, Rules, counted

Choose = Callable[[Place], str]
"""Makes the choice of one place."""

Options = Callable[[Place], dict[str, float]]
"""The choices that a grammar has in a place, with their weights; 0 where the knobs rule one out."""


class Weighted:
    """Chooses in each place by the weights of the options."""

    def __init__(self, options: Options, random: Random) -> None:
        self.options, self.random = options, random
        self.tables: dict[Place, tuple[list[str], list[float]]] = {}

    def __call__(self, place: Place) -> str:
        """Draw one choice."""
        table = self.tables.get(place)
        if table is None:
            found = {choice: weight for choice, weight in self.options(place).items() if weight > 0}
            assert found, f"no choice is left in {place!r}"
            table = self.tables[place] = (list(found), list(found.values()))
        return self.random.choices(*table)[0]


class _Strayed(Exception):
    """A choice that the grammar does not have in this place."""


def replayed(
    grow: Callable[[Choose], str], choices: Sequence[str], options: Options
) -> tuple[str, Derivation] | None:
    """Grow a text from choices in their order: (text, choices with places); None where they do not fit."""
    made: list[tuple[Place, str]] = []

    def choose(place: Place) -> str:
        if len(made) == len(choices) or choices[len(made)] not in options(place):
            raise _Strayed
        made.append((place, choices[len(made)]))
        return made[-1][1]

    try:
        text = grow(choose)
    except _Strayed:
        return None
    return (text, made) if len(made) == len(choices) else None


def rules_of(
    texts: Sequence[str],
    valid: Callable[[str], bool],
    derivation: Callable[[str, Options], Derivation | None],
    options: Options,
) -> Rules:
    """Count each choice in each place, over the texts that are valid and of the grammar; equal ones once."""
    known = cache(options)
    found = []
    for text, times in Counter(texts).items():
        choices = derivation(text, known) if valid(text) else None
        if choices is not None:
            found.append((choices, float(times)))
    return counted(found)


def weighted(names: Sequence[str], known: Sequence[str], setting: str) -> dict[str, float]:
    """Read names with weights: `and*2` weighs 2, `and` 1; all known names are there, 0 unless named.

    Raises ValueError for an unknown name or a weight that is not above 0.
    """
    weights = dict.fromkeys(known, 0.0)
    for item in names:
        name, _, weight = item.partition("*")
        if name not in weights:
            raise ValueError(f"{setting} holds {name!r}; known are {', '.join(known)}")
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            raise ValueError(f"{setting} holds {item!r}; write a weight as {name}*2") from None
        if not 0 < weights[name] < float("inf"):
            raise ValueError(f"{setting} holds {item!r}; a weight must be above 0")
    return weights
