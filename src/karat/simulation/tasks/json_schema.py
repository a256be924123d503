"""Orders as JSON documents under a schema: real data, a strict parser, a verdict; knows no model, no loop.

A document is valid where it is strict JSON (no NaN, no key twice, within limits) and obeys
`JsonSchema.schema`, a JSON Schema (draft 2020-12) that the library jsonschema checks. It is correct where it
also obeys two rules between fields that no schema can say: `count` is the number of items, and nothing is
sent before it is ordered.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from karat.simulation.base import Verdict, check_share
from karat.simulation.grammars import Derivation, Draws, Judging, Rules, counted, grown
from karat.training.causal_codec import join_words

if TYPE_CHECKING:
    pass

STATUS = ("open", "paid", "sent", "lost")
ITEMS = ("pen", "cup", "lamp", "book", "chair", "rope", "sock", "bell", "coin", "vase", "drum", "kite")

# A string (also one that never ends), a run of anything else, or one mark.
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[^\s\[\]{}:,"]+|\S', re.DOTALL)
BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
DIGITS = 15
"""Digits of a number that is read; all of these are exact in a float, too."""

Place = tuple[Any, ...]
"""Where a choice is made: `keys` and those before, `items` and those before, a field and what it must fit."""

CLOSE, CLOSE_LIST = "}", "]"
"""The choices that end an object and a list."""

ERRORS = {
    "empty": "nothing but white space",
    "too_long": "more characters than the parser's limit",
    "too_deep": "nested deeper than the parser's limit",
    "syntax": "no JSON",
    "twice": "an object has a key twice",
    "bad_number": "NaN, an infinity, or a number of more than 15 digits",
    "wrong_type": "a value of another type than the schema's",
    "unknown_key": "a key that the schema does not know",
    "missing_key": "a key that the schema requires is not there",
    "unknown_word": "a text that is none of the schema's words",
    "out_of_range": "a number or a list beyond the schema's limits",
    "repeated": "an item that stands in the list twice",
}
# From the shape of a document to its details: where several things are wrong, the first of these is told.
BROKEN = {
    "type": "wrong_type",
    "additionalProperties": "unknown_key",
    "required": "missing_key",
    "enum": "unknown_word",
    "minimum": "out_of_range",
    "maximum": "out_of_range",
    "minItems": "out_of_range",
    "maxItems": "out_of_range",
    "uniqueItems": "repeated",
}
_RANK = {keyword: rank for rank, keyword in enumerate(BROKEN)}


class _Refused(ValueError):
    """Something that JSON readers take, and this one does not."""


@dataclass(frozen=True)
class JsonSchema(Judging):
    """Orders as JSON documents: shape, types and ranges make them valid, rules between fields correct.

    ids: orders are numbered from 1 to this number.
    days: the last day of the calendar; days are whole numbers from 1.
    items_max: most items of an order; they are all different.
    words: how many different items there are.
    gift: share of orders with the field `gift`, which may be left out.
    """

    verifies: ClassVar[bool] = True

    # The defaults are what the smallest trainer learns in seconds.
    ids: int = 99
    days: int = 9
    items_max: int = 3
    words: int = 12
    gift: float = 0.5
    depth_limit: int = 20
    length_limit: int = 5000

    def __post_init__(self) -> None:
        check_share("gift", self.gift)
        if not 1 <= self.words <= len(ITEMS):
            raise ValueError(f"words={self.words} must lie between 1 and {len(ITEMS)}")
        if not 1 <= self.items_max <= self.words:
            raise ValueError(f"items_max={self.items_max} must lie between 1 and words={self.words}")
        # Deeper than a few hundred, Python's own JSON reader runs out of stack.
        for name, most in {"ids": 10**9, "days": 10**9, "depth_limit": 200, "length_limit": 10**9}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}={getattr(self, name)} must lie between 1 and {most}")

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of a valid document."""
        day = {"type": "integer", "minimum": 1, "maximum": self.days}
        days = {"ordered": day, "sent": day}
        fields = {
            "id": {"type": "integer", "minimum": 1, "maximum": self.ids},
            "status": {"type": "string", "enum": list(STATUS)},
            "days": _object(days, list(days)),
            "gift": {"type": "boolean"},
            "items": {
                "type": "array",
                "items": {"type": "string", "enum": list(ITEMS[: self.words])},
                "minItems": 1,
                "maxItems": self.items_max,
                "uniqueItems": True,
            },
            "count": {"type": "integer", "minimum": 1, "maximum": self.items_max},
        }
        required = [name for name in fields if name != "gift"]
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_object(fields, required)}

    @cached_property
    def _checker(self) -> Any:
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

        return Draft202012Validator(self.schema)

    # --- real data --------------------------------------------------------------------------------

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """Draw n documents that are valid and correct."""
        random = Random(f"json_schema:{seed}")
        return [json.dumps(self._order(random)) for _ in range(n)]

    def _order(self, random: Random) -> dict[str, Any]:
        first = random.randint(1, self.days)
        sizes = range(1, self.items_max + 1)
        # Short lists are more frequent: a weak learner puts an item twice into long ones.
        size = random.choices(sizes, [self.items_max + 1 - k for k in sizes])[0]
        items = random.sample(ITEMS[: self.words], size)
        order: dict[str, Any] = {
            "id": random.randint(1, self.ids),
            "status": random.choice(STATUS),
            "days": {"ordered": first, "sent": random.randint(first, self.days)},
        }
        if random.random() < self.gift:
            order["gift"] = random.random() < 0.5
        return {**order, "items": items, "count": len(items)}

    # --- verification -----------------------------------------------------------------------------

    def tokens(self, text: str) -> list[str]:
        """The tokens of JSON: marks, numbers, words, and strings with their quotes."""
        return TOKEN.findall(text)

    def joined(self, tokens: Sequence[str]) -> str:
        """Return tokens as a text with the same tokens."""
        return join_words(tokens)

    def parse(self, text: str) -> Verdict:
        """Judge one text; length and depth are checked before the JSON reader sees it."""
        return self._read(text)[0]

    def _read(self, text: str) -> tuple[Verdict, Any]:
        """Judge one text; return the document, too, where it is valid."""
        return (Verdict("too_long"), None) if len(text) > self.length_limit else _judged(self, text)

    def _judge(self, text: str) -> tuple[Verdict, Any]:
        if not text.strip():
            return Verdict("empty"), None
        depth = _depth(text)
        if depth > self.depth_limit:
            return Verdict("too_deep"), None
        try:
            found = json.loads(
                text, object_pairs_hook=_once, parse_constant=_number, parse_int=_number, parse_float=_number
            )
        except _Refused as refused:
            return Verdict(str(refused)), None
        except ValueError:
            return Verdict("syntax"), None
        broken = min((_RANK[error.validator] for error in self._checker.iter_errors(found)), default=None)
        if broken is not None:
            return Verdict(list(BROKEN.values())[broken]), None
        right = found["count"] == len(found["items"]) and found["days"]["ordered"] <= found["days"]["sent"]
        return Verdict("true" if right else "false", depth=depth), found

    # --- the grammar as a model: what an emulator of a learner needs ------------------------------

    def rules(self, texts: Sequence[str]) -> Rules:
        """Count the choices of the valid texts in each place: which key, which value, which item comes next.

        An emulated learner knows what a value must fit: the number of items, the day of the order.
        """
        read = ((self._read(text)[1], times) for text, times in Counter(texts).items())
        return counted((self._choices(found), times) for found, times in read if found is not None)

    @staticmethod
    def _choices(order: dict[str, Any]) -> Derivation:
        made: list[tuple[Place, str]] = []
        keys: tuple[str, ...] = ()
        told: dict[str, str] = {}
        for key, value in order.items():
            made.append((("keys", keys), key))
            keys = tuple(sorted((*keys, key)))
            if key == "items":
                taken: tuple[str, ...] = ()
                for item in value:
                    made.append((("items", told.get("count"), taken), json.dumps(item)))
                    taken = tuple(sorted((*taken, json.dumps(item))))
                made.append((("items", told.get("count"), taken), CLOSE_LIST))
                told[key] = str(len(value))
            elif key == "days":
                for name, other in zip(value, (None, *value)):
                    known = None if other is None else json.dumps(value[other])
                    made.append((("days", other), name))
                    made.append(((name, known), json.dumps(value[name])))
            else:
                told[key] = json.dumps(value)
                made.append(((key, told.get("items") if key == "count" else None), told[key]))
        made.append((("keys", keys), CLOSE))
        return made

    def write(self, rules: Rules, n: int, *, seed: int) -> list[str]:
        """Draw n documents from rule counts; they are valid, but need not be correct."""
        return grown(self._grow, rules, n, seed=seed)

    @staticmethod
    def _grow(choose: Draws) -> str:
        # Each place is a state that some valid document was in, so that every row of choices ends in a valid
        # one: keys and items know what stands before them, whatever its order.
        made: list[str] = []
        keys: tuple[str, ...] = ()
        told: dict[str, str] = {}
        while (key := choose(("keys", keys))) != CLOSE:
            keys = tuple(sorted((*keys, key)))
            if key == "items":
                taken: tuple[str, ...] = ()
                items: list[str] = []
                while (item := choose(("items", told.get("count"), taken))) != CLOSE_LIST:
                    items.append(item)
                    taken = tuple(sorted(items))
                told[key] = str(len(items))
                value = f"[{', '.join(items)}]"
            elif key == "days":
                first = choose(("days", None))
                second = choose(("days", first))
                a = choose((first, None))
                value = f'{{"{first}": {a}, "{second}": {choose((second, a))}}}'
            else:
                value = told[key] = choose((key, told.get("items") if key == "count" else None))
            made.append(f'"{key}": {value}')
        return f"{{{', '.join(made)}}}"

    def describe(self) -> dict[str, str]:
        """What the task is, in words, for the report."""
        return {
            "task": f"orders as JSON documents, such as {self.sample(1)[0]}",
            "ids": f"1 to {self.ids}",
            "days": f"1 to {self.days}",
            "items": f"1 to {self.items_max} of {self.words}",
            "share with `gift`": f"{self.gift:g}",
            "valid": "strict JSON that obeys the schema: keys, types, words, ranges, no item twice",
            "correct": "valid, `count` is the number of items, and nothing is sent before it is ordered",
        }


@lru_cache(maxsize=8192)
def _judged(task: JsonSchema, text: str) -> tuple[Verdict, Any]:
    # A loop reads each text several times: to judge it, to count its choices, to weigh it.
    return task._judge(text)


def _object(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, unless a key stands in it twice: readers differ in which of both they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Refused("twice")
    return found


def _number(text: str) -> int | float:
    """Read a number; long ones are refused before they are converted."""
    digits = text.removeprefix("-")
    if digits.isdigit() and len(digits) <= DIGITS:
        return int(text)
    if len(text) <= 2 * DIGITS and not digits.isdigit() and math.isfinite(value := float(text)):
        return value
    raise _Refused("bad_number")


def _depth(text: str) -> int:
    """Return how deep brackets are nested, strings left out."""
    depth = deepest = 0
    for mark in BRACKET.findall(text):
        if mark in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "}]":
            depth -= 1
    return deepest
