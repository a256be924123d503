"""Makes text from records fit to be shown: cut, with nothing invisible left invisible. Knows no HTML page.

A record may hold anything. Control characters, characters that turn the writing direction, zero-width
characters and lone surrogates are shown by name, because a reader must see what a model was fed, and
because some of them (U+0001, U+FFFE) are forbidden in XML, which the chart library would not survive.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from markupsafe import Markup, escape

# Kept as they are: tab and line feed; U+200C and U+200D, without which Persian, Hindi and many emoji break.
_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef"
    "\ufffe\uffff\U0001fffe\U0001ffff\U000e0000-\U000e0fff\U000ffffe-\U000fffff\U0010fffe\U0010ffff"
    "]"
)
_NAMES = {
    "\x7f": "␡",
    "\x85": "NEL",
    "\u061c": "ALM",
    "\u200b": "ZWSP",
    "\u200e": "LRM",
    "\u200f": "RLM",
    "\u202a": "LRE",
    "\u202b": "RLE",
    "\u202c": "PDF",
    "\u202d": "LRO",
    "\u202e": "RLO",
    "\u2060": "WJ",
    "\u2066": "LRI",
    "\u2067": "RLI",
    "\u2068": "FSI",
    "\u2069": "PDI",
    "\ufeff": "BOM",
}


def _mark(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the "control pictures": U+0000 is shown as ␀
    name = _NAMES.get(character, "")
    if name == "␡":
        return name
    return f"⟨U+{code:04X}{' ' + name if name else ''}⟩"


def visible(text: object) -> str:
    """Return the text with every hidden character written out, fit for XML and for a JSON string."""
    plain = str(text).replace("\r\n", "\n")
    return _HIDDEN.sub(lambda found: _mark(found.group()), plain)


def marked(text: object) -> Markup:
    """Return escaped HTML in which every hidden character stands in a `<span class="hidden-char">`."""
    plain = str(text).replace("\r\n", "\n")
    pieces: list[Markup] = []
    last = 0
    for found in _HIDDEN.finditer(plain):
        pieces.append(escape(plain[last : found.start()]))
        pieces.append(Markup('<span class="hidden-char">{}</span>').format(_mark(found.group())))
        last = found.end()
    pieces.append(escape(plain[last:]))
    return Markup("").join(pieces)


def cut(text: str, limit: int) -> tuple[str, int]:
    """Return the first `limit` characters and how many were left out; no accent is torn from its letter."""
    if len(text) <= limit:
        return text, 0
    end = limit
    while end > limit - 32 and end > 0 and (unicodedata.combining(text[end]) or text[end] in "\u200d\ufe0f"):
        end -= 1
    return text[:end], len(text) - end


def one_line(text: object, limit: int = 80) -> str:
    """Return the text visible, on one line and at most `limit` characters long."""
    start, _ = cut(str(text), 40 * limit + 400)  # a record of 1 MB must not be cleaned for 80 letters of it
    kept, left_out = cut(" ".join(visible(start).split()), limit)
    return kept + "…" if left_out else kept


def short_names(names: Iterable[str], width: int) -> dict[str, str]:
    """Return a short, visible and distinct form of each name, at most `width` columns wide.

    Wide characters (Chinese, Japanese, Korean, emoji) count two columns. The chart library must never have
    to shorten a name itself: it cuts between the halves of an emoji and then fails.
    """
    short: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        plain = one_line(name, width) or "(empty)"
        while columns(plain) > width:
            plain = cut(plain.rstrip("…"), max(1, len(plain.rstrip("…")) - 1))[0] + "…"
        form, number = plain, 1
        while form in taken:
            number += 1
            form = f"{plain} ({number})"
        taken.add(form)
        short[name] = form
    return short


def columns(text: str) -> int:
    """Return how many columns wide the text is; wide characters count two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
