"""Python expressions that must be True: real data, a safe evaluator's verdict; knows no model and no loop.

The grammar (an operation inside another one stands in parentheses):

    text   := number == value | number < value | number > value
    number := digit | number OP number | abs(number) | max(number, number) | min(number, number)
            | sum(list) | len(list) | number if number < number else number            OP in + - * // %
    list   := [number, ...]

What is valid is wider than that: `karat.simulation.evaluator` says what, and executes nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, ClassVar

from karat.errors import BadSetting
from karat.simulation import evaluator
from karat.simulation.base import Verdict, check_share
from karat.simulation.derivations import Choose, Options, Weighted, replayed, rules_of, weighted
from karat.simulation.evaluator import Evaluator, Limits, Rejected, parsed, tokens_of
from karat.simulation.grammars import Derivation, Judging, Place, Rules, grown

if TYPE_CHECKING:
    pass

INFIX = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult, "//": ast.FloorDiv, "%": ast.Mod}
PAIRS, LISTS = ("max", "min"), ("sum", "len")
NAMES = {"plus": "+", "minus": "-", "times": "*", "divided": "//", "modulo": "%"}
"""Words for the signs, since settings are joined by `+`."""
OPERATORS = (*NAMES, *PAIRS, *LISTS, "abs", "if")
COMPARE = {"==": ast.Eq, "<": ast.Lt, ">": ast.Gt}

ERRORS = evaluator.ERRORS


@dataclass(frozen=True)
class Code(Judging):
    """Python expressions with a stated value, such as `max(3, len([1, 2])) == 3`, that are True."""

    verifies: ClassVar[bool] = True
    right: ClassVar[str] = "True"
    wrong: ClassVar[str] = "false"

    depth_max: int = 2
    leaf: float = 0.6  # how often an operand is a digit
    # `max*2` draws `max` twice as often; `divided` is // and `modulo` is %.
    operators: tuple[str, ...] = ("plus", "minus", "times", "max", "min", "sum", "len")
    equal: float = 0.8  # the share that states the value; the others say that it is less or more
    items_max: int = 3
    number_max: int = 9
    value_max: int = 20
    depth_limit: int = 30
    length_limit: int = 200
    bits_limit: int = 64
    items_limit: int = 200

    def __post_init__(self) -> None:
        for name in ("leaf", "equal"):
            check_share(name, getattr(self, name))
        for name, least, most in (
            ("depth_max", 1, 12),
            ("items_max", 1, 20),
            ("number_max", 1, 999),
            ("value_max", 0, 999),
            ("depth_limit", 15, 60),
            ("length_limit", 1, 500),
            ("bits_limit", 16, 4096),
            ("items_limit", 1, 10_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}={getattr(self, name)} must lie between {least} and {most}")
        if not any(self.weights.values()):
            raise ValueError("operators is empty; write for instance operators=plus+max+len")

    @cached_property
    def weights(self) -> dict[str, float]:
        """All operators with their weights."""
        named = weighted(self.operators, OPERATORS, "operators")
        return {NAMES.get(name, name): weight for name, weight in named.items()}

    @cached_property
    def limits(self) -> Limits:
        """What an expression may take."""
        return Limits(self.length_limit, self.depth_limit, self.bits_limit, self.items_limit)

    # --- real data --------------------------------------------------------------------------------

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """Draw n expressions that are True; what has no value in the range is drawn again."""
        draw = Weighted(self._options, Random(f"code:{seed}"))
        texts: list[str] = []
        sign = draw("sign")

        def choose(place: Place) -> str:
            return sign if place == "sign" else draw(place)

        for _ in range(200 * n + 1000):
            if len(texts) == n:
                return texts
            text = self._grow(choose, self._stated)
            if self.parse(text).correct:
                texts.append(text)
                # The sign outlives texts that are not True: `<` seldom is, and would lose its share.
                sign = draw("sign")
        raise BadSetting(
            "task code: fewer than one expression in 200 has a value from 0 to "
            f"value_max={self.value_max}; raise it or name other operators"
        )

    def _stated(self, text: str) -> str:
        """Return the value of an expression as the text that states it; "" outside of the range."""
        try:
            value = Evaluator(self.limits).value(parsed(text, self.limits)[1])
        except Rejected:
            return ""
        return str(value) if isinstance(value, int) and 0 <= value <= self.value_max else ""

    def _grow(self, choose: Choose, stated: Callable[[str], str] | None = None) -> str:
        """Grow a text; `stated` gives the value that is stated, else it is chosen as all the rest."""
        sign = choose("sign")
        text, kind = self._number(choose, 0, sign, 0)
        value = stated(text) if stated is not None and sign == "==" else choose(("value", sign, kind))
        return f"{text} {sign} {value}"

    def _number(self, choose: Choose, depth: int, parent: str, side: int) -> tuple[str, str]:
        kind = choose(("number", depth, parent, side))
        if kind == "digit":
            return choose(("digit", depth, parent, side)), kind

        def inner(side: int) -> str:
            return self._number(choose, depth + 1, kind, side)[0]

        if kind in PAIRS:
            return f"{kind}({inner(0)}, {inner(1)})", kind
        if kind == "abs":
            return f"abs({inner(0)})", kind
        if kind in LISTS:
            items = int(choose(("items", depth, kind)))
            return f"{kind}([{', '.join(inner(min(i, 1)) for i in range(items))}])", kind
        if kind == "if":
            text = f"{inner(0)} if {inner(1)} {choose('test')} {inner(2)} else {inner(3)}"
        else:
            text = f"{inner(0)} {kind} {inner(1)}"
        # A condition binds less than the comparison that follows it, so that it is never bare.
        return (text if depth == 0 and kind != "if" else f"({text})"), kind

    def _options(self, place: Place) -> dict[str, float]:
        """Return the choices of the grammar in a place; their weights are the knobs."""
        if place == "sign":
            return {"==": self.equal, "<": (1 - self.equal) / 2, ">": (1 - self.equal) / 2}
        if place == "test":
            return {"<": 1.0, ">": 1.0}
        assert isinstance(place, tuple)
        if place[0] == "number":
            depth = place[1]
            leaf = 0.0 if depth == 0 else 1.0 if depth >= self.depth_max else self.leaf
            total = sum(self.weights.values())
            return {"digit": leaf, **{k: (1 - leaf) * weight / total for k, weight in self.weights.items()}}
        if place[0] == "items":
            return {str(i): float(i <= self.items_max) for i in range(1, max(self.items_max, 20) + 1)}
        known = range(max(self.number_max, self.value_max) + 1)
        most = self.number_max if place[0] == "digit" else self.value_max
        return {str(number): float(number <= most) for number in known}

    # --- verification -----------------------------------------------------------------------------

    def tokens(self, text: str) -> list[str]:
        """Return names, numbers and marks; whatever is no token of Python is a token all the same."""
        return tokens_of(text)

    def parse(self, text: str) -> Verdict:
        """Judge one text: it is valid where it has a value, and `true` where that is True itself."""
        try:
            tree = parsed(text, self.limits)[1]
            value = Evaluator(self.limits).value(tree)
        except Rejected as why:
            return Verdict(str(why))
        return Verdict("true" if value is True else "false", depth=evaluator.depth_of(tree))

    # --- the grammar as a model: what the emulator of the forecast needs -----------------------------------

    def derivation(self, text: str, options: Options | None = None) -> Derivation | None:
        """Return the choices that make a text; None where the grammar does not write it."""
        try:
            tokens, tree = parsed(text, self.limits)
            choices = _text_choices(tree)
        except (Rejected, _Outside):
            return None
        found = replayed(self._grow, choices, options or self._options)
        # The tree has lost its parentheses; only the same tokens are the same text.
        return found[1] if found is not None and tokens_of(found[0]) == tokens else None

    def rules(self, texts: Sequence[str]) -> Rules:
        """Count each choice in each place; texts that are not valid or outside the grammar are skipped."""
        return rules_of(texts, lambda text: self.parse(text).valid, self.derivation, self._options)

    def write(self, rules: Rules, n: int, *, seed: int) -> list[str]:
        """Draw n expressions from rule counts; the stated value is drawn too, so that few are True."""
        return grown(self._grow, rules, n, seed=seed)

    def describe(self) -> dict[str, str]:
        """Return what the task is, in words, for the report."""
        used = {name: weight for name, weight in self.weights.items() if weight}
        return {
            "task": "Python expressions over whole numbers and lists that are True",
            "depth": f"1 to {self.depth_max}",
            "digit probability": f"{self.leaf:g}",
            "operators": ", ".join(f"{name} ({weight:g})" for name, weight in used.items()),
            "share that states the value": f"{self.equal:g}",
            "numbers": f"0 to {self.number_max}; values 0 to {self.value_max}",
            "valid": "our evaluator, which knows few kinds of expressions, finds a value within its limits",
            "correct": "valid, and its value is True",
        }


class _Outside(Exception):
    """A tree that the grammar does not write."""


def _text_choices(tree: ast.expr) -> list[str]:
    """Return the choices of a text in the order in which the grammar makes them. Raises _Outside."""
    sign, left, right = _comparison(tree, COMPARE)
    return [sign, *_number_choices(left), _digit(right)]


def _comparison(node: ast.expr, known: dict[str, type[ast.cmpop]]) -> tuple[str, ast.expr, ast.expr]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for sign, kind in known.items():
            if isinstance(node.ops[0], kind):
                return sign, node.left, node.comparators[0]
    raise _Outside


def _digit(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return str(node.value)
    raise _Outside


def _number_choices(node: ast.expr) -> list[str]:
    if isinstance(node, ast.BinOp):
        for sign, kind in INFIX.items():
            if isinstance(node.op, kind):
                return [sign, *_number_choices(node.left), *_number_choices(node.right)]
    if isinstance(node, ast.IfExp):
        sign, left, right = _comparison(node.test, {"<": ast.Lt, ">": ast.Gt})
        test = [*_number_choices(left), sign, *_number_choices(right)]
        return ["if", *_number_choices(node.body), *test, *_number_choices(node.orelse)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name, given = node.func.id, node.args
        if (name in PAIRS and len(given) == 2) or (name == "abs" and len(given) == 1):
            return [name, *(choice for item in given for choice in _number_choices(item))]
        if name in LISTS and len(given) == 1 and isinstance(given[0], ast.List):
            items = given[0].elts
            inside = (choice for item in items for choice in _number_choices(item))
            return [name, str(len(items)), *inside]
        raise _Outside
    return ["digit", _digit(node)]
