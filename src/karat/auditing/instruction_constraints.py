"""Constraints of a prompt that a program can check, and whether a completion keeps them. English only.

What is found: a number of words, sentences, paragraphs, lines or characters; a list of N; a first or last
phrase; words or letters to use or to avoid; no commas; one case; JSON; yes or no. A constraint that cannot be
told from a description of the input ("the two sentences below") is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_NUMBERS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()
    )
} | {"a single": 1, "single": 1, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50, "a hundred": 100}
_NUM = rf"(?:\d[\d,]*|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_AT_MOST = r"at most|no more than|not more than|up to|within|a maximum of|maximum of|maximum|max\.?"
_BELOW = r"fewer than|less than|under|below"
_AT_LEAST = r"at least|no less than|no fewer than|a minimum of|minimum of|minimum|not less than"
_ABOVE = r"more than|over"
_ABOUT = r"about|around|approximately|roughly|approx\.?|circa"
_UNIT = r"(?P<unit>words?|sentences?|paragraphs?|characters?|lines?)"
_SIZE = re.compile(
    rf"\b(?P<rel>exactly|{_AT_MOST}|{_BELOW}|{_AT_LEAST}|{_ABOVE}|{_ABOUT}|between|in|using|only)\s+"
    rf"(?:only )?(?P<n>{_NUM})(?:\s*(?:-|–|to|and)\s*(?P<m>{_NUM}))?[\s-]+{_UNIT}\b"
    r"(?!\s+(?:below|above|given|from|that (?:are|is) given))"
)
_ADJECTIVE = re.compile(
    r"\b(?:a|an|one) (?P<n>\d+|one|two|three|four|five|six|ten)-(?P<unit>word|sentence|paragraph|line)\b"
)
_LIST = re.compile(
    r"\b(?:list|name|give|provide|suggest|generate|write|come up with|brainstorm|recommend|create|propose"
    r"|offer)\s+(?:out |down |me |us )?(?:a list of |list of )?(?P<rel>exactly |at least |up to )?"
    rf"(?:the top )?(?P<n>{_NUM})\s+(?:[a-z-]+\s+){{0,3}}?"
    r"(?!(?:words|sentences|paragraphs|lines|characters)\b)(?P<what>[a-z]{3,}s|people|children)\b(?!\s+(?:below|above|given))"
)
_QUOTED = r"[\"“'‘«](?P<quote>[^\"”»\n]{1,80}?)[\"”'’»]"
_START = re.compile(
    rf"(?<!that )(?<!which )(?<!words )\b(?:start|begin)(?:ning|ing)?(?: (?:your|the|each)? ?\w+)?"
    rf"(?: off)? with (?:the (?:exact )?(?:word|phrase|sentence|line|text)s? )?{_QUOTED}"
)
_END = re.compile(
    rf"(?<!that )(?<!which )(?<!words )\b(?:end|finish|conclude)(?:ing)?(?: (?:your|the)? ?\w+)? with "
    rf"(?:the (?:exact )?(?:word|phrase|sentence|line|text)s? )?{_QUOTED}"
)
_NOT = r"(?:do not|don't|without|avoid|never|not)"
_USE = r"(?:use |using |include |including |contain |mention )"
_NO_COMMA = re.compile(rf"\b(?:{_NOT} {_USE}?(?:any )?commas?|no commas)\b")
_AVOID = re.compile(rf"\b{_NOT} {_USE}?(?:any of )?(?:the )?(?P<what>word|phrase|letter)s? {_QUOTED}")
_INCLUDE = re.compile(
    rf"(?<!not )(?<!n't )(?<!without )\b{_USE}the (?P<what>word|phrase|keyword)s? {_QUOTED}"
)
_CASE = re.compile(
    r"\b(?:in all|in|all) (?P<case>lower|upper)(?:-| )?case\b|\bin (?:all )?(?P<caps>caps|capitals)\b"
)
_JSON = re.compile(
    r"\b(?:respond|reply|answer|output|return|format(?:ted)?|give|provide|write|generate|present|wrap)\b"
    r"[^.\n]{0,60}\b(?:in|as|valid|a) (?:a )?(?:valid )?json\b"
)
_YES_NO = re.compile(
    r"\b(?:answer|respond|reply|say|output|return)(?: with| only| just| either| simply)* "
    r"[\"']?(?P<a>yes|true)[\"']?(?:/| or )[\"']?(?P<b>no|false)\b"
)
_EACH = re.compile(r"[^.:]{0,60}\b(?:each|every|per)\b")
_ITEM = re.compile(r"(?m)^\s*(?:[-*•–]|\(?\d{1,3}[.):]|[a-z][.)])\s+\S")
_SENTENCE_END = re.compile(r"(?<!\bmr)(?<!\bmrs)(?<!\bdr)(?<!\be\.g)(?<!\bi\.e)[.!?…]+[\"')\]]*(?=\s|$)")


@dataclass(frozen=True)
class Constraint:
    """One constraint: its kind, the words of the prompt that set it, and the test of a completion.

    The test gives None where it cannot tell (a list that is written as prose).
    """

    kind: str
    quote: str
    holds: Callable[[str], bool | None]


def constraints(prompt: str) -> list[Constraint]:
    """All constraints of a prompt that can be checked."""
    text = " ".join(prompt.replace("’", "'").split()).casefold()
    return [*_sizes(text), *_lists(text), *_phrases(text), *_forms(text)]


def kept(prompt: str, completion: str) -> tuple[int, tuple[Constraint, ...]]:
    """How many constraints of a prompt can be told for this completion, and those that it breaks."""
    told, broken = 0, []
    for one in constraints(prompt):
        held = one.holds(completion)
        told += held is not None
        if held is False:
            broken.append(one)
    return told, tuple(broken)


# ------------------------------------------------------------------------------------------ sizes


def number(text: str) -> int:
    """A number in digits or in words."""
    return _NUMBERS[text] if text in _NUMBERS else int(text.replace(",", ""))


def size_of(text: str, unit: str) -> int:
    """How many words, sentences, paragraphs, lines or characters a text has."""
    if unit.startswith("word"):
        return len(re.findall(r"\w+(?:['’-]\w+)*", text))
    if unit.startswith("sentence"):
        plain = " ".join(text.split()).casefold()
        return len(_SENTENCE_END.findall(plain)) + bool(plain and not _SENTENCE_END.search(plain[-3:]))
    if unit.startswith("paragraph"):
        return len([one for one in re.split(r"\n\s*\n", text.strip()) if one.strip()])
    if unit.startswith("line"):
        return len([one for one in text.splitlines() if one.strip()])
    return len(text.strip())


def _sizes(text: str) -> Iterator[Constraint]:
    found = [(m, m["rel"], m["m"]) for m in _SIZE.finditer(text)]
    found += [(m, "in", None) for m in _ADJECTIVE.finditer(text)]
    for match, rel, upper in found:
        if _EACH.match(text, match.end()):
            continue  # of each item, and not of the whole
        low, high = _range(rel, number(match["n"]), None if upper is None else number(upper), match["unit"])
        unit = match["unit"].rstrip("s")

        def holds(said: str, low: float = low, high: float = high, unit: str = unit) -> bool:
            return low <= size_of(said, unit) <= high

        yield Constraint(f"{unit}s", match[0], holds)


def _range(rel: str, n: int, m: int | None, unit: str) -> tuple[float, float]:
    """What counts: "about 50" is 40 to 60; "in 50 words" at most 55, "in 2 sentences" just 2."""
    if m is not None:
        return min(n, m), max(n, m)
    if re.fullmatch(_AT_MOST, rel):
        return 1, n
    if re.fullmatch(_BELOW, rel):
        return 1, n - 1
    if re.fullmatch(_AT_LEAST, rel):
        return n, float("inf")
    if re.fullmatch(_ABOVE, rel):
        return n + 1, float("inf")
    if re.fullmatch(_ABOUT, rel):
        return 0.8 * n, 1.2 * n
    if rel in ("exactly", "only") or not unit.startswith(("word", "character")) or n == 1:
        return n, n
    return 1, 1.1 * n


def _lists(text: str) -> Iterator[Constraint]:
    for match in _LIST.finditer(text):
        rel, n = (match["rel"] or "").strip(), number(match["n"])
        if n < 2:
            continue

        def holds(said: str, rel: str = rel, n: int = n) -> bool | None:
            items = items_of(said)
            if items is None:
                return None
            return items >= n if rel == "at least" else items <= n if rel == "up to" else items == n

        yield Constraint("list", match[0], holds)


def items_of(text: str) -> int | None:
    """The items of a list: marked lines, lines, or what stands between commas; None for prose."""
    marked = len(_ITEM.findall(text))
    if marked > 1:
        return marked
    lines = [one for one in text.splitlines() if one.strip()]
    if len(lines) > 1:
        # short lines are items; a line of several sentences is prose
        return len(lines) if all(len(one.split()) <= 12 for one in lines) else None
    plain = text.strip().rstrip(".")
    parts = [one for one in re.split(r",\s*(?:and |or )?|;\s*|\s+and\s+", plain) if one.strip()]
    if "." in plain or not parts or len(parts) < 2 or max(len(one.split()) for one in parts) > 6:
        return None
    return len(parts)


# ---------------------------------------------------------------------------- phrases and letters


def _bare(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split()).strip("\"'“”‘’ ")


def _phrases(text: str) -> Iterator[Constraint]:
    for match in _START.finditer(text):

        def begins(said: str, quote: str = _bare(match["quote"])) -> bool:
            return _bare(said).startswith(quote)

        yield Constraint("start", match[0], begins)
    for match in _END.finditer(text):

        def ends(said: str, quote: str = _bare(match["quote"]).rstrip(".!")) -> bool:
            return _bare(said).rstrip(".!\"' ").endswith(quote)

        yield Constraint("end", match[0], ends)
    for pattern, wanted in ((_AVOID, False), (_INCLUDE, True)):
        for match in pattern.finditer(text):
            what, quote = match["what"], match["quote"]

            def holds(said: str, what: str = what, quote: str = quote, wanted: bool = wanted) -> bool:
                edge = "" if what == "letter" else r"\b"
                return bool(re.search(f"{edge}{re.escape(quote)}{edge}", said.casefold())) == wanted

            yield Constraint("include" if wanted else "avoid", match[0], holds)


# ------------------------------------------------------------------------------------------ forms


def _forms(text: str) -> Iterator[Constraint]:
    if match := _NO_COMMA.search(text):
        yield Constraint("no_commas", match[0], lambda said: "," not in said)
    if match := _CASE.search(text):
        lower = match["case"] == "lower"
        yield Constraint("case", match[0], lambda said: said == (said.lower() if lower else said.upper()))
    if match := _JSON.search(text):
        yield Constraint("json", match[0], _is_json)
    if match := _YES_NO.search(text):
        options = {match["a"], match["b"]}
        yield Constraint(
            "yes_no", match[0], lambda said: bool(_bare(said)) and re.split(r"\W+", _bare(said))[0] in options
        )


def _is_json(said: str) -> bool:
    inner = re.sub(r"^\s*```(?:json)?\s*|\s*```\s*$", "", said)
    try:
        json.loads(inner)
    except ValueError:
        return False
    return True
