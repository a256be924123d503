"""Takes secrets out of texts before they are written: those that are known, and what looks like one.

It knows no provider and no file. What looks like a secret is what well-known services give out as keys, a
bearer token, a private key, and a user and password within a URL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import AnyStr, Generic
from urllib.parse import quote

MASK = "***"

# Shorter than this a known value is not masked where it stands alone: a password such as `test` would take
# half the words out of the data.
SHORTEST = 8

# Each shape with the sign it begins with. A key must hold a digit, so that `task-oriented-dialogue` and
# `Bearer Certificates` stay what they are. What must not stand before comes after the sign, as a pattern
# that begins with plain letters is searched ten times as fast.
_SHAPES = (
    ("sk-", r"sk-(?<![A-Za-z0-9]sk-)(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}"),  # OpenAI, Anthropic, OpenRouter
    ("hf_", r"hf_(?<![A-Za-z0-9]hf_)[A-Za-z0-9]{20,}"),  # Hugging Face
    ("gsk_", r"gsk_(?<![A-Za-z0-9]gsk_)[A-Za-z0-9]{20,}"),  # Groq
    ("xai-", r"xai-(?<![A-Za-z0-9]xai-)[A-Za-z0-9]{20,}"),  # xAI
    ("gh", r"gh[oprsu]_(?<![A-Za-z0-9]gh._)[A-Za-z0-9]{30,}"),  # GitHub
    ("github_pat_", r"github_pat_[A-Za-z0-9_]{30,}"),
    ("AKIA", r"AKIA(?<![A-Za-z0-9]AKIA)[0-9A-Z]{16}(?![0-9A-Za-z])"),  # AWS
    ("ASIA", r"ASIA(?<![A-Za-z0-9]ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"),
    ("AIza", r"AIza(?<![A-Za-z0-9]AIza)[0-9A-Za-z_-]{35}"),  # Google
    ("xox", r"xox[abeoprs]-(?<![A-Za-z0-9]xox.-)[A-Za-z0-9-]{10,}"),  # Slack
    # a JSON web token
    ("eyJ", r"eyJ(?<![A-Za-z0-9]eyJ)[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),
    ("earer ", r"earer (?=[A-Za-z._~+/=-]*[0-9])[A-Za-z0-9._~+/=-]{12,}"),
    (
        "PRIVATE KEY",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|[A-Za-z0-9+/=\\\s]*)",
    ),
    ("://", r"://[^\s/:@\"'<>]*:[^\s/@\"'<>]+(?=@)"),
)
# What stays of a shape, so that the text still says what was there.
_STAYS = {"earer ": "earer ", "://": "://"}
# Nearly all clean texts are settled by looking at what stands before each `_` and `-`, and for rare letters:
# a single character is found far faster than a word.
_BEFORE = {
    "_": ("hf", "sk", "hp", "ho", "hu", "hs", "hr", "at"),
    "-": ("sk", "ai", "xa", "xb", "xe", "xo", "xp", "xr", "xs"),
}
_RARE = (("J", "eyJ"), ("K", "AKIA"), ("K", "PRIVATE KEY"), ("S", "ASIA"), ("z", "AIza"), ("@", "://"))


class _Shapes(Generic[AnyStr]):
    """The shapes for one kind of text, which `kind` makes of a text."""

    def __init__(self, kind: Callable[[str], AnyStr]) -> None:
        self.shapes: tuple[tuple[AnyStr, re.Pattern[AnyStr], AnyStr], ...] = tuple(
            (kind(sign), re.compile(kind(pattern), re.DOTALL), kind(_STAYS.get(sign, "") + MASK))
            for sign, pattern in _SHAPES
        )
        self.before: tuple[tuple[AnyStr, frozenset[AnyStr]], ...] = tuple(
            (kind(mark), frozenset(map(kind, heads))) for mark, heads in _BEFORE.items()
        )
        self.rare: tuple[tuple[AnyStr, AnyStr], ...] = tuple(
            (kind(letter), kind(sign)) for letter, sign in _RARE
        )
        self.bearer: AnyStr = kind("earer ")

    def may_hold(self, text: AnyStr) -> bool:
        """False where no shape can be."""
        for mark, heads in self.before:
            at = text.find(mark, 2)
            while at > 0:
                if text[at - 2 : at] in heads:
                    return True
                at = text.find(mark, at + 1)
        for letter, sign in self.rare:
            if letter in text and sign in text:
                return True
        return self.bearer in text

    def hide(self, text: AnyStr) -> AnyStr:
        """The text without what looks like a secret."""
        if self.may_hold(text):
            for sign, pattern, mask in self.shapes:
                if sign in text:
                    text = pattern.sub(mask, text)
        return text


_TEXT, _BYTES = _Shapes(str), _Shapes(str.encode)


class Redactor:
    """Masks known secrets, also where JSON or a URL has escaped them, and what looks like a secret."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= SHORTEST:
                forms |= _forms(secret)
        # The longest first: one secret may be the beginning of another.
        self._text = sorted(forms, key=lambda form: (-len(form), form))
        self._bytes = [form.encode("utf-8", "surrogatepass") for form in self._text]

    def text(self, text: str) -> str:
        """The text with every secret replaced by `***`."""
        for secret in self._text:
            if secret in text:
                text = text.replace(secret, MASK)
        return _TEXT.hide(text)

    def bytes(self, data: bytes) -> bytes:
        """The same for UTF-8 bytes, such as a line of JSON, which stays JSON."""
        for secret in self._bytes:
            if secret in data:
                data = data.replace(secret, MASK.encode())
        return _BYTES.hide(data)


def _forms(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, within JSON (once and twice), and within a URL."""
    once = {json.dumps(secret, ensure_ascii=ascii)[1:-1] for ascii in (False, True)}
    twice = {json.dumps(form)[1:-1] for form in once}
    return {secret, *once, *twice, quote(secret, safe="", errors="replace")}
