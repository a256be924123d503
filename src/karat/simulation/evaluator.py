"""The value of a Python expression over whole numbers, truth values and lists, without running it.

The text was written by a model: it is read into tokens, then into Python's syntax tree, and our own evaluator
walks the tree. Nothing is compiled or executed. What may stand in a tree is a short list, and every value
has a limit before it is made. Knows no grammar and no loop.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

TOKEN = re.compile(r"[=!<>]\s*=|\*\s*\*|/\s*/|\w+|\S", re.ASCII)
KNOWN = re.compile(r"[=!<>]=|\*\*|//|[A-Za-z_]\w*|[0-9]+|[()\[\],=+\-*/<>%]", re.ASCII)
KEYWORDS = frozenset(("True", "False", "and", "or", "not", "in", "if", "else"))
FUNCTIONS = ("abs", "len", "max", "min", "sorted", "sum")
STATEMENTS = frozenset("assert async await def del for from import is lambda None while with yield".split())

ERRORS = {
    "empty": "no token at all",
    "too_long": "more characters or tokens than the limit",
    "too_deep": "nested deeper than the limit",
    "unknown_token": "a sign or a number that the language does not have: a dot, a quote, a line end",
    "forbidden_name": "a name other than abs, len, max, min, sorted and sum",
    "forbidden_node": "Python that is more than an expression over whole numbers, truth values and lists",
    "unbalanced": "a parenthesis or bracket is missing",
    "syntax": "Python cannot parse it",
    "type": "a value of a kind that an operator or function does not take",
    "arguments": "a function with a wrong number of arguments, or the greatest of nothing",
    "zero": "a division by zero",
    "index": "a place that a list does not have",
    "too_large": "a number or a list beyond the limit",
}

INFIX: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

Value = int | list[Any]
"""What an expression may be worth; a truth value is a whole number, as in Python."""


@dataclass(frozen=True)
class Limits:
    """What one expression may take: tokens, nesting, bits of a number, items of a list with those inside."""

    tokens: int
    depth: int
    bits: int
    items: int


class Rejected(Exception):
    """Why a text has no value; the argument is the class of the error."""


def tokens_of(text: str) -> list[str]:
    """Return the tokens; white space does not count, not even in `= =`: a model of words cannot tell it."""
    return [re.sub(r"\s", "", token) for token in TOKEN.findall(text)]


def parsed(text: str, limits: Limits) -> tuple[list[str], ast.expr]:
    """Return the tokens and the tree of a text. Raises Rejected.

    Length and nesting are known before Python's parser sees the text, since those can exhaust its stack.
    """
    if len(text) > 20 * limits.tokens:
        raise Rejected("too_long")
    if re.search(r"[^ -~]", text):
        raise Rejected("unknown_token")
    tokens = tokens_of(text)
    if not tokens:
        raise Rejected("empty")
    if len(tokens) > limits.tokens:
        raise Rejected("too_long")
    for token in tokens:
        if not KNOWN.fullmatch(token):
            raise Rejected("unknown_token")
        if token in STATEMENTS:
            raise Rejected("forbidden_node")
        if (token[0].isalpha() or token[0] == "_") and token not in KEYWORDS and token not in FUNCTIONS:
            raise Rejected("forbidden_name")
        # A longer number is refused before Python reads it: reading takes time that grows with its square.
        if token.isdecimal() and len(token) > limits.bits // 3 + 1:
            raise Rejected("too_large")
    if _nesting(tokens) > limits.depth:
        raise Rejected("too_deep")
    try:
        tree = ast.parse(" ".join(tokens), mode="eval").body
    except SyntaxError:
        raise Rejected("syntax") from None
    except (RecursionError, MemoryError):
        raise Rejected("too_deep") from None
    except ValueError:
        raise Rejected("syntax") from None
    _whitelisted(tree, limits.depth)
    return tokens, tree


def _nesting(tokens: Sequence[str]) -> int:
    """Return how deep brackets are nested. Raises Rejected where they do not match."""
    open_: list[str] = []
    deepest = 0
    for token in tokens:
        if token in ("(", "["):
            open_.append(token)
            deepest = max(deepest, len(open_))
        elif token in (")", "]") and (not open_ or open_.pop() + token not in ("()", "[]")):
            raise Rejected("unbalanced")
    if open_:
        raise Rejected("unbalanced")
    return deepest


_NODES = (ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.IfExp, ast.List, ast.Subscript)


def _whitelisted(tree: ast.expr, depth: int) -> None:
    """Raise Rejected for a node that is not on the list, or a tree that is deeper than the limit."""
    # Levels instead of recursion: `not not not ...` nests without brackets.
    level: list[ast.expr] = [tree]
    for _ in range(2 * depth):
        if not level:
            return
        level = [child for node in level for child in _children(node)]
    if level:
        raise Rejected("too_deep")


def _children(node: ast.expr) -> list[ast.expr]:
    """Return the expressions inside an expression. Raises Rejected unless the evaluator knows it."""
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        if not named or node.keywords:
            raise Rejected("forbidden_node")
        return node.args
    known = isinstance(node, _NODES)
    if isinstance(node, ast.UnaryOp):
        known = isinstance(node.op, (ast.Not, ast.USub, ast.UAdd))
    elif isinstance(node, ast.BinOp):
        known = type(node.op) in INFIX
    elif isinstance(node, ast.Compare):
        known = all(type(op) in COMPARE or isinstance(op, (ast.In, ast.NotIn)) for op in node.ops)
    elif isinstance(node, ast.Constant):
        known = type(node.value) in (int, bool)
    if not known:
        raise Rejected("forbidden_node")
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def depth_of(node: ast.expr) -> int:
    """Return how deep expressions are nested; a constant has depth 0."""
    inner = _children(node)
    return 1 + max(map(depth_of, inner)) if inner else 0


class Evaluator:
    """Walks a tree that was parsed here; recursion is safe, since its depth is below the limit."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def value(self, node: ast.expr) -> Value:
        """Return what an expression is worth, as Python would. Raises Rejected."""
        if isinstance(node, ast.Constant):
            return self._checked(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.List):
            return self._checked([self.value(item) for item in node.elts])
        if isinstance(node, ast.UnaryOp):
            return self._prefixed(node.op, self.value(node.operand))
        if isinstance(node, ast.BinOp):
            return self._infixed(type(node.op), self.value(node.left), self.value(node.right))
        if isinstance(node, ast.BoolOp):
            stops = isinstance(node.op, ast.Or)
            for item in node.values[:-1]:
                value = self.value(item)
                if bool(value) is stops:
                    return value
            return self.value(node.values[-1])
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.IfExp):
            return self.value(node.body if self.value(node.test) else node.orelse)
        if isinstance(node, ast.Subscript):
            return self._item(self.value(node.value), self.value(node.slice))
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name), "checked when it was parsed"
        return self._called(node.func.id, [self.value(item) for item in node.args])

    def _checked(self, value: Value) -> Value:
        if isinstance(value, list):
            if self._size(value) > self.limits.items:
                raise Rejected("too_large")
        elif value.bit_length() > self.limits.bits:
            raise Rejected("too_large")
        return value

    def _size(self, value: Value) -> int:
        # A list of lists counts with all that is inside, for that is what comparing it takes.
        return 1 + sum(map(self._size, value)) if isinstance(value, list) else 1

    @staticmethod
    def _prefixed(op: ast.unaryop, value: Value) -> Value:
        if isinstance(op, ast.Not):
            return not value
        if isinstance(value, list):
            raise Rejected("type")
        return -value if isinstance(op, ast.USub) else +value

    def _infixed(self, op: type[ast.operator], left: Value, right: Value) -> Value:
        if isinstance(left, list) or isinstance(right, list):
            return self._joined(op, left, right)
        if op in (ast.FloorDiv, ast.Mod) and right == 0:
            raise Rejected("zero")
        if op is ast.Pow:
            if right < 0:
                # Python answers with a fraction, which the language does not have.
                raise Rejected("zero" if left == 0 else "type")
            if left.bit_length() * right > self.limits.bits + right:
                raise Rejected("too_large")
        if op is ast.Mult and left.bit_length() + right.bit_length() > self.limits.bits + 1:
            raise Rejected("too_large")
        return self._checked(INFIX[op](left, right))

    def _joined(self, op: type[ast.operator], left: Value, right: Value) -> Value:
        if op is ast.Add and isinstance(left, list) and isinstance(right, list):
            return self._checked(left + right)
        if op is ast.Mult and not (isinstance(left, list) and isinstance(right, list)):
            many, times = (left, right) if isinstance(left, list) else (right, left)
            assert isinstance(many, list) and isinstance(times, int)
            if self._size(many) * max(times, 0) > self.limits.items:
                raise Rejected("too_large")
            return self._checked(many * times)
        raise Rejected("type")

    def _compared(self, node: ast.Compare) -> Value:
        left = self.value(node.left)
        found: Value = True
        for op, item in zip(node.ops, node.comparators, strict=True):
            right = self.value(item)
            try:
                if isinstance(op, (ast.In, ast.NotIn)):
                    found = (left in right) is isinstance(op, ast.In)  # type: ignore[operator]
                else:
                    found = COMPARE[type(op)](left, right)
            except TypeError:
                raise Rejected("type") from None
            if not found:
                return found
            left = right
        return found

    @staticmethod
    def _item(of: Value, at: Value) -> Value:
        if not isinstance(of, list) or isinstance(at, list):
            raise Rejected("type")
        if not -len(of) <= at < len(of):
            raise Rejected("index")
        item: Value = of[at]
        return item

    def _called(self, name: str, given: list[Value]) -> Value:
        several = name in ("max", "min") and len(given) > 1
        if not several and len(given) != 1:
            raise Rejected("arguments")
        values = given if several else given[0]
        if name == "abs":
            if isinstance(values, list):
                raise Rejected("type")
            return abs(values)
        if not isinstance(values, list):
            raise Rejected("type")
        if name == "len":
            return len(values)
        try:
            if name == "sorted":
                return sorted(values)
            if name == "sum":
                return self._checked(sum(values))
            if not values:
                raise Rejected("arguments")
            return max(values) if name == "max" else min(values)
        except TypeError:
            raise Rejected("type") from None
