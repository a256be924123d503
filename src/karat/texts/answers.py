"""Which of some allowed answers a text gives. Knows no question and no model."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNPARTED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_FIELD = re.compile(
    r"(?i)[\"']?\b(?:label|answer|class|category|klasse|kategorie|étiquette|etiqueta|etichetta|метка|标签|標籤|ラベル|레이블)"
    r"(?:\W{1,3}is)?[\"'*_ ]*[:=：]([^\n]*)"
)


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that an answer gives: alone, behind "label:", or as the only one that it names.

    None where it names none, or several and does not say which one is meant.
    """
    for told in (*reversed(_FIELD.findall(text)), text):
        found = set(_named(told, labels))
        if len(found) == 1:
            return found.pop()
    return None


def read_answer(text: str, answers: Sequence[str], *, last: bool = False) -> str | None:
    """The allowed answer that a text gives: what follows "Answer:", else the first (or last) one named."""
    marked = re.findall(r"(?i)\banswer(?:\W+is)?[\s*_]*[:=][\s*_]*([^\n]+)", text)
    if marked:
        found = _named(marked[-1], answers)
        if found:
            return found[0]
    found = _named(text, answers)
    return (found[-1] if last else found[0]) if found else None


def extractions(text: str, answers: Sequence[str]) -> tuple[str | None, str | None]:
    """What two parsers make of a text: the first allowed answer that it names, and the last."""
    found = _named(text, answers)
    return (found[0], found[-1]) if found else (None, None)


def _named(text: str, answers: Sequence[str]) -> list[str]:
    """All allowed answers in a text, in order; a number counts where the answers were numbered."""
    folded = " ".join(text.casefold().replace("_", " ").split())
    alone = folded.strip(" .,:;!?*()[]\"'`")
    names = {plain(answer): answer for answer in answers}
    if alone in names:
        return [names[alone]]
    if len(answers) > 3:
        number = re.match(r"\(?(\d{1,2})\b", alone)
        if number and 1 <= int(number[1]) <= len(answers):
            return [answers[int(number[1]) - 1]]
    # the longest first, so that "very good" is not read as "good"; letters stand alone and large
    pattern = "|".join(_apart(name) for name in sorted(names, key=len, reverse=True) if len(name) > 1)
    found = [(m.start(), names[m[0]]) for m in re.finditer(pattern, folded)] if pattern else []
    for answer in answers:
        if len(answer) == 1:
            found += [(m.start(), answer) for m in re.finditer(rf"\b{re.escape(answer.upper())}\b", text)]
    return [answer for _, answer in sorted(found)]


def _apart(name: str) -> str:
    """The pattern of a name that is no part of a longer word, in scripts that part words by blanks."""
    left = r"(?<!\w)" if name[0].isalnum() and not _UNPARTED.match(name[0]) else ""
    right = r"(?!\w)" if name[-1].isalnum() and not _UNPARTED.match(name[-1]) else ""
    return left + re.escape(name) + right


def plain(answer: str) -> str:
    """An answer without case, underscores and runs of blanks."""
    return " ".join(answer.casefold().replace("_", " ").split())
