"""JSON as models write it: with text around it, commas too many, quotes of other kinds, a lost tail.

Knows no schema. Work is bounded by a fixed multiple of the length of a text, whatever stands in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

LONGEST = 1_000_000
"""Characters of a text that is mended; in a longer one JSON must be right as it stands."""
_DEEPEST = 64  # levels; an answer that is nested deeper is no answer
_PASSES = 4  # times the length of a text that is looked at, over all places at which JSON could begin
_STRICT = 4  # places at which the quick reader is tried

_BEGINS = re.compile(r"[{\[]")
_BLANK = re.compile(r"(?:\s+|//[^\n]*)*")
_NUMBER = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3})?(?![\w.])")
_WORD = re.compile(r"[A-Za-z_]\w{0,63}")
_KEYWORDS: dict[str, Any] = {
    **dict.fromkeys(("true", "True"), True),
    **dict.fromkeys(("false", "False"), False),
    **dict.fromkeys(("null", "None", "NaN", "nan", "Infinity", "undefined"), None),
}
_CLOSING = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "「": "」"}
_STOPS = {close: re.compile(rf"[\\{close}]") for close in _CLOSING.values()}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_HEX = re.compile(r"[0-9a-fA-F]{4}")
# What stands behind a quote that ends a value; any other quote is a part of the text: models forget to escape
# those. In a key none is.
_KEY_ENDS = re.compile("")
_VALUE_ENDS = re.compile(
    r"\s*(?:[}\]]|$|//|,\s*(?:[\"'“„«「{\[}\]\d-]|$|//|true\b|false\b|null\b|None\b|True\b|False\b|NaN\b|\w+\s*:)"
    r"|\n\s*[\"'“„]\w+[\"'”“]\s*:)"
)
_LONE = re.compile("[\ud800-\udfff]")


def values(text: str) -> Iterator[tuple[Any, bool]]:
    """Each JSON object or list in a text, in order, and whether it had to be mended.

    A number that JSON does not know (NaN) is null; half a surrogate pair is U+FFFD, and NUL is left out. A
    string that the text ends in is left out with its key: it would be half of what was meant.
    """
    decoder = json.JSONDecoder(strict=False, parse_constant=lambda _: None)
    budget = _PASSES * len(text) + 1000
    at = tried = 0
    while (found := _BEGINS.search(text, at)) and budget > 0:
        start = found.start()
        if tried < _STRICT:
            tried += 1
            try:
                value, at = decoder.raw_decode(text, start)
                yield _sound(value), False
                continue
            except RecursionError:
                return
            except ValueError:
                pass
        if len(text) > LONGEST:
            if tried == _STRICT:
                return
            at = start + 1
            continue
        reader = _Reader(text, start)
        try:
            value = reader.value(0)
            at = reader.at
            yield _sound(value), True
        except _NotJson:
            at = start + 1
        except _TooDeep:
            return
        budget -= reader.at - start + 1


class _NotJson(Exception):
    """What stands here is no JSON, however it is read."""


class _TooDeep(Exception):
    """More levels than an answer has."""


_CUT = object()  # a value that the text ends in


class _Reader:
    """Reads one value; `at` is where it has come to."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at

    def value(self, depth: int) -> Any:
        """The value that begins here; _CUT where the text ends in it."""
        if depth > _DEEPEST:
            raise _TooDeep
        sign = self._sign()
        if sign == "{":
            return self._object(depth)
        if sign == "[":
            return self._list(depth)
        if sign in _CLOSING:
            return self._string(_VALUE_ENDS)
        if not sign:
            return _CUT
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            told = number[0]
            return int(told) if told.lstrip("-").isdigit() else float(told)
        word = _WORD.match(self.text, self.at)
        if word and word[0] in _KEYWORDS:
            self.at = word.end()
            return _KEYWORDS[word[0]]
        raise _NotJson

    def _sign(self) -> str:
        """The next visible character; empty at the end."""
        blank = _BLANK.match(self.text, self.at)
        assert blank is not None
        self.at = blank.end()
        return self.text[self.at : self.at + 1]

    def _object(self, depth: int) -> Any:
        found: dict[str, Any] = {}
        self.at += 1
        while True:
            sign = self._sign()
            if sign == "}":
                self.at += 1
                return found
            if sign == "," and found:
                self.at += 1
                continue
            if not sign:
                return self._ended(found, depth)
            key = self._key(sign)
            if key is _CUT or (self._sign() == "" and found):
                return self._ended(found, depth)
            if self._sign() != ":":
                raise _NotJson
            self.at += 1
            value = self.value(depth + 1)
            if value is _CUT:
                return self._ended(found, depth)
            found[str(key)] = value

    def _key(self, sign: str) -> Any:
        if sign in _CLOSING:
            return self._string(_KEY_ENDS)
        word = _WORD.match(self.text, self.at)
        if not word:
            raise _NotJson
        self.at = word.end()
        return word[0]

    def _list(self, depth: int) -> Any:
        found: list[Any] = []
        self.at += 1
        while True:
            sign = self._sign()
            if sign == "]":
                self.at += 1
                return found
            if sign == "," and found:
                self.at += 1
                continue
            value = self.value(depth + 1) if sign else _CUT
            if value is _CUT:
                return self._ended(found, depth)
            found.append(value)

    def _ended(self, found: Any, depth: int) -> Any:
        # a bracket at which a text ends is none that JSON began with
        if not found and depth == 0:
            raise _NotJson
        return found or _CUT

    def _string(self, ends: re.Pattern[str]) -> Any:
        text, close = self.text, _CLOSING[self.text[self.at]]
        stops, pieces = _STOPS[close], []
        begin = self.at + 1
        at = begin
        while stop := stops.search(text, at):
            at = stop.start()
            if text[at] == "\\":
                pieces.append(text[begin:at])
                told, at = _escaped(text, at + 1)
                pieces.append(told)
                begin = at
            elif ends.match(text, at + 1):
                self.at = at + 1
                pieces.append(text[begin:at])
                return "".join(pieces)
            else:
                at += 1
        self.at = len(text)
        return _CUT


def _escaped(text: str, at: int) -> tuple[str, int]:
    """What an escape stands for, and where the text goes on; `at` is behind the backslash."""
    sign = text[at : at + 1]
    if sign == "u" and (code := _HEX.match(text, at + 1)):
        first = int(code[0], 16)
        if 0xD800 <= first < 0xDC00 and text[at + 5 : at + 7] == "\\u" and (low := _HEX.match(text, at + 7)):
            second = int(low[0], 16)
            if 0xDC00 <= second < 0xE000:
                return chr(0x10000 + ((first - 0xD800) << 10) + second - 0xDC00), at + 11
        return chr(first), at + 5
    return _ESCAPES.get(sign, "\\" + sign), at + 1


def _sound(value: Any) -> Any:
    """A value whose texts can be written as UTF-8."""
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value.replace("\x00", ""))
    if isinstance(value, list):
        return [_sound(one) for one in value]
    if isinstance(value, dict):
        return {_sound(key): _sound(one) for key, one in value.items()}
    return value
