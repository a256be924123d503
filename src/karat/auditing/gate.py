"""A tiny language for gates: `distinct_n < 0.3 or two_sample_auc > 0.9`. Knows only how to look names up.

    expression  = conjunction { "or" conjunction }
    conjunction = condition { "and" condition }
    condition   = "not" condition | "(" expression ")" | operand COMPARISON operand | name
    operand     = number | name
    name        = metric[:key=value,...][.field]      field: value (default), difference, p, ...

Nothing is evaluated as Python. A name without a comparison asks whether it is true (metric.flagged).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from karat.errors import BadSetting

Look = Callable[[str], float | None]
"""Gives the number behind a name, None where there is none; raises BadSetting for an unknown name."""

_PIECES = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?%?)"
    r"|(?P<name>[A-Za-z_][\w-]*(?::[\w-]+=[\w.-]+(?:,[\w-]+=[\w.-]+)*)?(?:\.[A-Za-z_]\w*)?)"
    r"|(?P<sign><=|>=|==|!=|<|>)"
    r"|(?P<bracket>[()]))"
)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_WORDS = ("and", "or", "not")


@dataclass(frozen=True)
class _Piece:
    kind: str
    text: str


def holds(expression: str, look: Look) -> bool:
    """Tell whether an expression is true. Raises BadSetting naming the place that cannot be read."""
    reader = _Reader(expression, _split(expression), look)
    answer = reader.either()
    if reader.rest:
        raise reader.trouble(f"unexpected {reader.rest[0].text!r}")
    return answer


def _split(expression: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    at = 0
    text = expression.rstrip()
    while at < len(text):
        found = _PIECES.match(text, at)
        if found is None:
            raise BadSetting(f"--fail-if {expression!r}: cannot read {text[at:].strip()!r}; {_EXAMPLE}")
        kind = str(found.lastgroup)
        piece = found.group(kind)
        pieces.append(_Piece("word" if kind == "name" and piece in _WORDS else kind, piece))
        at = found.end()
    if not pieces:
        raise BadSetting(f"--fail-if is empty; {_EXAMPLE}")
    return pieces


_EXAMPLE = "write for example 'distinct_n < 0.3 or duplicate_share.difference > 0.05'"


class _Reader:
    """Reads pieces from left to right, one function a rule of the grammar."""

    def __init__(self, expression: str, pieces: list[_Piece], look: Look) -> None:
        self.expression = expression
        self.rest = pieces
        self.look = look

    def trouble(self, what: str) -> BadSetting:
        return BadSetting(f"--fail-if {self.expression!r}: {what}; {_EXAMPLE}")

    def either(self) -> bool:
        answer = self.both()
        while self._take("word", "or"):
            # both sides are read even when the first one decides: a typo must not hide
            right = self.both()
            answer = answer or right
        return answer

    def both(self) -> bool:
        answer = self.condition()
        while self._take("word", "and"):
            right = self.condition()
            answer = answer and right
        return answer

    def condition(self) -> bool:
        if self._take("word", "not"):
            return not self.condition()
        if self._take("bracket", "("):
            answer = self.either()
            if not self._take("bracket", ")"):
                raise self.trouble("a bracket is not closed")
            return answer
        left, name = self.operand()
        if not self.rest or self.rest[0].kind != "sign":
            if name is None:
                raise self.trouble("a number alone is no condition")
            return bool(left)
        sign = self.rest.pop(0).text
        right, _ = self.operand()
        return _SIGNS[sign](left, right)

    def operand(self) -> tuple[float, str | None]:
        if not self.rest or self.rest[0].kind not in ("number", "name"):
            found = repr(self.rest[0].text) if self.rest else "the end"
            raise self.trouble(f"expected a metric or a number, found {found}")
        piece = self.rest.pop(0)
        if piece.kind == "number":
            number = float(piece.text.rstrip("%"))
            return (number / 100 if piece.text.endswith("%") else number), None
        value = self.look(piece.text)
        if value is None:
            raise BadSetting(
                f"--fail-if {self.expression!r}: {piece.text} has no value in this audit; "
                "a gate needs a number (is a reference missing?)"
            )
        return value, piece.text

    def _take(self, kind: str, text: str) -> bool:
        if self.rest and self.rest[0] == _Piece(kind, text):
            self.rest.pop(0)
            return True
        return False
