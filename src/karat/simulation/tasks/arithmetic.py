"""Sums with their result, which may be wrong: real data, a strict parser, a verdict; knows no model, no loop.

The grammar (inner operations are parenthesised, so that no rule of precedence is needed):

    line    := side = number
    side    := number | operand OP operand                   OP in +, -, *
    operand := number | ( operand OP operand )

Numbers are written without leading zeros; without a modulus the result may have a minus. Verification is our
own parser with limits. Text that a model wrote is never executed.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, ClassVar

from karat.simulation.base import Verdict, check_share
from karat.simulation.grammars import Draws, Judging, Rules, counted, grown

if TYPE_CHECKING:
    pass

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
NAMES = {"plus": "+", "minus": "-", "times": "*"}

TOKEN = re.compile(r"\w+|[^\w\s]")

Place = tuple[int | str, str | int | None, int]
"""Where a choice is made: depth, the operator above, left (0) or right (1); or `result`, true value, 0."""

ROOT: Place = (0, "", 0)
Operand = tuple[int, str]
"""The value of a finished operand, and the choice at its top: a number or an operator."""

ANY_RESULT: Place = ("result", None, 0)
"""Where a result is drawn for a value that no training text had."""

LONGEST = 64
"""Characters a token; a text that is longer than all tokens of the limit is not even cut into tokens."""

ERRORS = {
    "empty": "no token at all",
    "unknown_token": "a token outside the grammar",
    "bad_number": "a number with a leading zero, too many digits, or not below the modulus",
    "no_result": "no equals sign, or nothing behind it",
    "unbalanced": "a parenthesis is missing",
    "trailing": "a complete line, then more tokens",
    "misplaced": "a token where the grammar allows another one only",
    "too_deep": "nested deeper than the parser's limit",
    "too_long": "more tokens than the parser's limit",
}


@dataclass(frozen=True)
class Arithmetic(Judging):
    """Calculations with their result, such as `(3 + 4) * 2 = 4`; right or wrong can be checked.

    depth_min, depth_max: operations inside each other; 0 is a number alone.
    leaf: chance that an operand is a number where it could be an operation, too.
    digits: digits of the largest operand.
    modulus: results (and operands) are taken modulo this number; 0 calculates with whole numbers.
    operators: `plus*2` draws + twice as often.
    """

    verifies: ClassVar[bool] = True

    depth_min: int = 1
    # The defaults are what the smallest trainer learns in seconds.
    depth_max: int = 2
    leaf: float = 0.75
    digits: int = 1
    modulus: int = 5
    operators: tuple[str, ...] = ("plus", "minus", "times")
    depth_limit: int = 100
    length_limit: int = 2000

    def __post_init__(self) -> None:
        if not 0 <= self.depth_min <= self.depth_max:
            raise ValueError(f"depth_min={self.depth_min} must lie between 0 and depth_max={self.depth_max}")
        if self.depth_max > min(self.depth_limit, 100):
            raise ValueError(f"depth_max={self.depth_max} is beyond depth_limit={self.depth_limit} or 100")
        check_share("leaf", self.leaf)
        if not 1 <= self.digits <= 9:
            raise ValueError(f"digits={self.digits} must lie between 1 and 9")
        if self.modulus < 0 or self.modulus == 1:
            raise ValueError(f"modulus={self.modulus} is no modulus; take 2 or more, or 0 for whole numbers")
        if not self.weights:
            raise ValueError("operators is empty; write for instance operators=plus+minus")

    @cached_property
    def weights(self) -> dict[str, float]:
        """The marks of the operators with their weights."""
        weights: dict[str, float] = {}
        for item in self.operators:
            name, _, weight = item.partition("*")
            if name not in NAMES:
                raise ValueError(f"operators holds {name!r}; known are {', '.join(NAMES)}")
            try:
                found = float(weight or 1)
            except ValueError:
                raise ValueError(f"operators holds {item!r}; write a weight as {name}*2") from None
            if not 0 < found < float("inf"):
                raise ValueError(f"operators holds {item!r}; a weight must be above 0")
            weights[NAMES[name]] = found
        return weights

    @property
    def largest(self) -> int:
        """The largest operand."""
        most = int(10**self.digits) - 1
        return min(most, self.modulus - 1) if self.modulus else most

    # --- real data --------------------------------------------------------------------------------

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """Draw n calculations with their right result."""
        random = Random(f"arithmetic:{seed}")
        names, weights = list(self.weights), list(self.weights.values())
        made = []
        for _ in range(n):
            text, value = self._grow(random, names, weights, 0)
            made.append(f"{text} = {value}")
        return made

    def _grow(self, random: Random, names: list[str], weights: list[float], depth: int) -> tuple[str, int]:
        # Recursion is safe here: the depth is at most depth_max, a setting, and not something a model wrote.
        if depth >= self.depth_max or (depth >= self.depth_min and random.random() < self.leaf):
            value = random.randint(0, self.largest)
            return str(value), value
        name = random.choices(names, weights)[0]
        left, a = self._grow(random, names, weights, depth + 1)
        right, b = self._grow(random, names, weights, depth + 1)
        text = f"{left} {name} {right}"
        return f"({text})" if depth else text, self._calculated(name, a, b)

    def _calculated(self, name: str, a: int, b: int) -> int:
        value: int = OPERATORS[name](a, b)
        return value % self.modulus if self.modulus else value

    # --- verification -----------------------------------------------------------------------------

    def tokens(self, text: str) -> list[str]:
        """The word tokens of a text; whatever is no token of the grammar is a token all the same."""
        return TOKEN.findall(text)

    def parse(self, text: str) -> Verdict:
        """Judge one text with an explicit stack, so that no input can exhaust Python's own."""
        return self._read(text)[0]

    def _read(self, text: str) -> tuple[Verdict, list[tuple[Place, str]]]:
        """Judge one text; return the choices that make it, too, where it is valid."""
        if len(text) > self.length_limit * LONGEST:
            return Verdict("too_long"), []
        tokens = TOKEN.findall(text)
        if not tokens or len(tokens) > self.length_limit:
            return Verdict("too_long" if tokens else "empty"), []
        for token in tokens:
            if token[0] in "0123456789" and token.isascii() and token.isdigit():
                if not self._is_number(token):
                    return Verdict("bad_number"), []
            elif token not in self.weights and token not in "()=-":
                return Verdict("unknown_token"), []
        if "=" not in tokens:
            return Verdict("no_result"), []
        at = tokens.index("=")
        made: list[tuple[Place, str]] = []
        side = self._side(tokens[:at], made)
        if isinstance(side, str):
            return Verdict(side), []
        stated = tokens[at + 1 :]
        minus = not self.modulus and stated[:1] == ["-"]
        if len(stated) == minus:
            return Verdict("no_result"), []
        if not stated[minus].isdigit() or (minus and stated[1] == "0"):
            return Verdict("misplaced"), []
        if len(stated) > 1 + minus:
            return Verdict("trailing"), []
        value, depth = side
        result = int(stated[minus]) * (-1 if minus else 1)
        made.append((("result", value, 0), str(result)))
        return Verdict("true" if result == value else "false", depth=depth), made

    def _is_number(self, token: str) -> bool:
        """Whether digits are a number of the grammar; long ones are never converted."""
        if len(token) > LONGEST or (token[0] == "0" and token != "0"):
            return False
        return not self.modulus or int(token) < self.modulus

    def _side(self, tokens: list[str], made: list[tuple[Place, str]]) -> tuple[int, int] | str:
        """Return (value, depth) of the left side, or its error; note the choices that make it."""
        # One frame per open parenthesis, the first for the line itself: [operator or None, operands so far].
        stack: list[tuple[str | None, list[Operand]]] = [(None, [])]
        deepest = 0
        for token in tokens:
            above, operands = stack[-1]
            wants = len(operands) == (above is not None)
            if token == "(":
                if not wants:
                    return "misplaced"
                stack.append((None, []))
                deepest = max(deepest, len(stack))
                if deepest > self.depth_limit:
                    return "too_deep"
            elif token.isdigit():
                if not wants:
                    return "misplaced"
                operands.append((int(token), token))
            elif token == ")":
                if len(stack) == 1:
                    return "unbalanced"
                if above is None or len(operands) < 2:
                    return "misplaced"
                closed = self._close(len(stack), above, operands, made)
                stack.pop()
                stack[-1][1].append(closed)
            elif token not in self.weights or above is not None or len(operands) != 1:
                return "misplaced"
            else:
                stack[-1] = (token, operands)
        above, operands = stack[0]
        if len(stack) > 1:
            return "unbalanced"
        if len(operands) != 1 + (above is not None):
            return "misplaced"
        if above is None:
            made.append((ROOT, operands[0][1]))
            # A parenthesis around the whole side is no text of the grammar.
            return "misplaced" if deepest else (self._reduced(operands[0][0]), 0)
        value, name = self._close(1, above, operands, made)
        made.append((ROOT, name))
        return value, max(1, deepest)

    def _close(
        self, depth: int, name: str, operands: list[Operand], made: list[tuple[Place, str]]
    ) -> Operand:
        made += [((depth, name, side), choice) for side, (_, choice) in enumerate(operands)]
        return self._calculated(name, operands[0][0], operands[1][0]), name

    def _reduced(self, value: int) -> int:
        return value % self.modulus if self.modulus else value

    # --- the grammar as a model: what an emulator of a learner needs ------------------------------

    def rules(self, texts: Sequence[str]) -> Rules:
        """Count the choices of the valid texts in each place; a result's place is the true value.

        So an emulated learner can calculate, and states a wrong result as often as its training texts did.
        """
        return counted((self._read(text)[1], times) for text, times in Counter(texts).items())

    def write(self, rules: Rules, n: int, *, seed: int) -> list[str]:
        """Draw n calculations from rule counts; they are valid, but need not be right."""
        results: dict[str, float] = {}
        for place, uses in rules.items():
            if isinstance(place, tuple) and place[0] == "result":
                for choice, weight in uses.items():
                    results[choice] = results.get(choice, 0.0) + weight
        return grown(self._line, {**rules, ANY_RESULT: results}, n, seed=seed)

    def _line(self, choose: Draws) -> str:
        text, value = self._expand(choose, ROOT)
        place: Place = ("result", value, 0)
        stated = choose(place if place in choose.tables else ANY_RESULT)
        return f"{text} = {stated}"

    def _expand(self, choose: Draws, place: Place) -> tuple[str, int]:
        """Grow one operand with an explicit stack; return it with its value."""
        todo: list[Place | tuple[str]] = [place]  # places to grow, and operators to apply to what has grown
        grown_: list[tuple[str, int]] = []
        while todo:
            item = todo.pop()
            if len(item) == 1:
                (b, b_value), (a, a_value) = grown_.pop(), grown_.pop()
                text = f"{a} {item[0]} {b}"
                grown_.append((f"({text})" if todo else text, self._calculated(item[0], a_value, b_value)))
                continue
            name = choose(item)
            if name not in OPERATORS:
                grown_.append((name, self._reduced(int(name))))
                continue
            depth = int(item[0]) + 1
            todo += [(name,), (depth, name, 1), (depth, name, 0)]
        return grown_[0]

    def describe(self) -> dict[str, str]:
        """What the task is, in words, for the report."""
        ring = f" modulo {self.modulus}" if self.modulus else ""
        return {
            "task": f"calculations with their result{ring}, such as {self.sample(1)[0]!r}",
            "depth": f"{self.depth_min} to {self.depth_max}",
            "leaf probability": f"{self.leaf:g}",
            "numbers": f"0 to {self.largest}",
            "operators": ", ".join(f"{name} ({weight:g})" for name, weight in self.weights.items()),
            "valid": "the strict grammar accepts it; inner operations are parenthesised",
            "correct": "valid, and the result is right"
            + (f"; a guess is right in one of {self.modulus} lines" if self.modulus else ""),
        }
