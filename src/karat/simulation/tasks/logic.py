"""Boolean expressions that must be True: real data, a strict parser, a verdict; knows no model and no loop.

The grammar (every expression is fully parenthesised):

    expr := True | False | ( not expr ) | ( expr OP expr )        OP in and, or, xor, implies

Verification is our own parser with limits. Text that a model wrote is never executed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, ClassVar

from karat.errors import BadSetting
from karat.simulation.base import Verdict
from karat.simulation.grammars import Draws, Judging, Rules, counted, grown

if TYPE_CHECKING:
    pass

BINARY = {"and": 0b1000, "or": 0b1110, "xor": 0b0110, "implies": 0b1011}
"""Truth tables: bit (2 * left + right) is the value of `left OP right`."""

LEAVES = {"True": True, "False": False}
# A word is a maximal run of letters, digits and underscores, so "TrueFalse" is one unknown token and not
# two good ones.
TOKEN = re.compile(r"\w+|[^\w\s]")

PARENTHESES = ("(", ")")

Place = tuple[int, str, int]
"""Where a choice is made: depth, the parent's operator, left (0) or right (1)."""

ROOT: Place = (0, "", 0)
Operand = tuple[bool, str]
"""The value of a finished operand, and the choice at its top: a leaf or an operator."""

LONGEST = 64
"""Characters a token; a text that is longer than all tokens of the limit is not even cut into tokens."""

ERRORS = {
    "empty": "no token at all",
    "unknown_token": "a token outside the grammar",
    "unbalanced": "a parenthesis is missing",
    "trailing": "a complete expression, then more tokens",
    "misplaced": "a token where the grammar allows another one only",
    "too_deep": "nested deeper than the parser's limit",
    "too_long": "more tokens than the parser's limit",
}


@dataclass(frozen=True)
class Logic(Judging):
    """Fully parenthesised Boolean expressions whose value is True (Briesch et al. 2023, GenLogicExpr)."""

    verifies: ClassVar[bool] = True
    right: ClassVar[str] = "True"
    wrong: ClassVar[str] = "false"

    depth_min: int = 1
    # The defaults are what the smallest trainer learns in seconds; the paper's are
    # depth_max=5,true_share=0.5.
    depth_max: int = 3
    leaf: float = 0.5
    true_share: float = 0.75
    operators: tuple[str, ...] = ("not", "and", "or")  # `and*2` draws `and` twice as often
    depth_limit: int = 100
    length_limit: int = 5000

    def __post_init__(self) -> None:
        if not 0 <= self.depth_min <= self.depth_max:
            raise ValueError(f"depth_min={self.depth_min} must lie between 0 and depth_max={self.depth_max}")
        if self.depth_max > self.depth_limit:
            raise ValueError(
                f"depth_max={self.depth_max} is beyond depth_limit={self.depth_limit}; raise the limit"
            )
        for name in ("leaf", "true_share"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value} is not a share; give a number from 0 to 1")
        if not self.weights:
            raise ValueError("operators is empty; write for instance operators=not+and+or")

    @cached_property
    def weights(self) -> dict[str, float]:
        """The operators with their weights."""
        weights: dict[str, float] = {}
        for item in self.operators:
            name, _, weight = item.partition("*")
            if name != "not" and name not in BINARY:
                raise ValueError(f"operators holds {name!r}; known are {', '.join(('not', *BINARY))}")
            try:
                weights[name] = float(weight or 1)
            except ValueError:
                raise ValueError(f"operators holds {item!r}; write a weight as {name}*2") from None
            if weights[name] <= 0:
                raise ValueError(f"operators holds {item!r}; a weight must be above 0")
        return weights

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word tokens of the grammar."""
        return (*LEAVES, *self.weights, "(", ")")

    # --- real data --------------------------------------------------------------------------------

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """Draw n expressions whose value is True (expressions that are False are drawn again)."""
        random = Random(f"logic:{seed}")
        names, weights = list(self.weights), list(self.weights.values())
        texts: list[str] = []
        for _ in range(1000 * n + 10_000):
            if len(texts) == n:
                return texts
            text, value = self._grow(random, names, weights, 0)
            if value:
                texts.append(text)
        raise BadSetting(
            f"task logic: fewer than one expression in 1,000 is True (true_share={self.true_share}); raise it"
        )

    def _grow(self, random: Random, names: list[str], weights: list[float], depth: int) -> tuple[str, bool]:
        # Recursion is safe here: the depth is at most depth_max, a setting, and not something a model wrote.
        if depth >= self.depth_max or (depth >= self.depth_min and random.random() < self.leaf):
            value = random.random() < self.true_share
            return str(value), value
        name = random.choices(names, weights)[0]
        left, a = self._grow(random, names, weights, depth + 1)
        if name == "not":
            return f"(not {left})", not a
        right, b = self._grow(random, names, weights, depth + 1)
        return f"({left} {name} {right})", bool(BINARY[name] >> (2 * a + b) & 1)

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
        if any(
            token not in self.weights and token not in LEAVES and token not in PARENTHESES for token in tokens
        ):
            return Verdict("unknown_token"), []
        # One frame per open parenthesis: [operator or None, operands so far as (value, choice)]. A finished
        # operand is folded into its frame; its place is known when the frame closes.
        stack: list[tuple[str | None, list[Operand]]] = []
        made: list[tuple[Place, str]] = []
        deepest = 0
        for position, token in enumerate(tokens):
            if token == "(":
                if not self._wants_operand(stack):
                    return Verdict("misplaced"), []
                stack.append((None, []))
                deepest = max(deepest, len(stack))
                if deepest > self.depth_limit:
                    return Verdict("too_deep"), []
                continue
            if token in LEAVES:
                if not self._wants_operand(stack):
                    return Verdict("misplaced"), []
                done = (LEAVES[token], token)
            elif token == ")":
                if not stack:
                    return Verdict("unbalanced"), []
                operator, operands = stack[-1]
                closed = self._close(operator, operands)
                if closed is None:
                    return Verdict("misplaced"), []
                depth, name = len(stack), closed[1]
                made += [((depth, name, side), choice) for side, (_, choice) in enumerate(operands)]
                stack.pop()
                done = closed
            else:
                # `not` comes before its operand, every other operator after its first one.
                if not stack or stack[-1][0] is not None or len(stack[-1][1]) != (token != "not"):
                    return Verdict("misplaced"), []
                stack[-1] = (token, stack[-1][1])
                continue
            if stack:
                stack[-1][1].append(done)
            elif position + 1 < len(tokens):
                return Verdict("unbalanced" if set(tokens[position + 1 :]) == {")"} else "trailing"), []
            else:
                made.append((ROOT, done[1]))
                return Verdict("true" if done[0] else "false", depth=deepest), made
        return Verdict("unbalanced"), []

    @staticmethod
    def _wants_operand(stack: list[tuple[str | None, list[Operand]]]) -> bool:
        if not stack:
            return True
        operator, operands = stack[-1]
        if operator is None:
            return not operands
        return len(operands) == (operator != "not")

    @staticmethod
    def _close(operator: str | None, operands: list[Operand]) -> Operand | None:
        if operator == "not" and len(operands) == 1:
            return not operands[0][0], operator
        if operator is not None and operator != "not" and len(operands) == 2:
            return bool(BINARY[operator] >> (2 * operands[0][0] + operands[1][0]) & 1), operator
        return None

    # --- the grammar as a model: what an emulator of a learner needs ------------------------------

    def rules(self, texts: Sequence[str]) -> Rules:
        """Count how often each choice was made in each place (depth, parent, side), over the valid texts."""
        return counted((self._read(text)[1], times) for text, times in Counter(texts).items())

    def write(self, rules: Rules, n: int, *, seed: int) -> list[str]:
        """Draw n expressions from rule counts; they are valid, but need not be True."""
        return grown(self._expand, rules, n, seed=seed)

    @staticmethod
    def _expand(choose: Draws) -> str:
        made: list[str] = []
        todo: list[str | Place] = [ROOT]  # what is still to be written, the next at the end
        while todo:
            item = todo.pop()
            name = item if isinstance(item, str) else choose(item)
            if isinstance(item, str) or name in LEAVES:
                made.append(name)
                continue
            depth = item[0] + 1
            if name == "not":
                todo += [")", (depth, name, 0), "(not "]
            else:
                todo += [")", (depth, name, 1), f" {name} ", (depth, name, 0), "("]
        return "".join(made)

    def describe(self) -> dict[str, str]:
        """What the task is, in words, for the report."""
        return {
            "task": "fully parenthesised Boolean expressions whose value is True",
            "depth": f"{self.depth_min} to {self.depth_max}",
            "leaf probability": f"{self.leaf:g}",
            "share of True leaves": f"{self.true_share:g}",
            "operators": ", ".join(f"{name} ({weight:g})" for name, weight in self.weights.items()),
            "valid": "the strict grammar accepts it (Python's `True and False` without parentheses is not)",
            "correct": "valid, and its value is True",
        }
