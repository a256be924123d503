"""A dialogue as it grows: what a turn becomes, and why it ends there. Knows no prompt and no provider."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from karat.generation.parsing import clean
from karat.generation.pool import words_of
from karat.texts.closings import closes, parts
from karat.texts.refusals import refusal

Form = Literal["chat", "instruct"]
INSTRUCTION, SOLUTION = "Instruction:", "Solution:"
"""What turns of user and assistant begin with in the form `instruct`; those of CAMEL."""
ROLES = ("user", "assistant")
SUCCESS = {"done": "success"}
# Words: a turn of fewer says nothing of its own; a question of more is no greeting; one of many no formula.
_SHORT, _GREETING, _LONG = 4, 5, 12
_NUMBERS = re.compile(r"\d+")
_FAILED = ("role_flip", "repetition", "empty", "refused", "filtered", "cut", "no_answer")

# What only an assistant says; a user who does has changed sides.
_SERVES = re.compile(
    r"\bhow (?:can|may) i (?:help|assist)\b|\b(?:is there )?anything else i can (?:help|assist)\b"
    r"|\bi(?:'m| am) here to (?:help|assist)\b|\bas (?:your|an ai|a helpful) assistant\b"
    r"|\bwie kann ich (?:ihnen|dir|euch) (?:\w+ )?helfen\b|\bcomment puis-je vous aider\b"
    r"|\ben qué (?:puedo|te puedo|le puedo) ayudar|\bcome posso (?:aiutarti|aiutarla)\b"
    r"|\bcomo posso (?:ajudar|ajudá-l[oa])\b|\bwaarmee kan ik (?:u|je) helpen\b"
)


@dataclass(frozen=True)
class Rules:
    """When a dialogue ends.

    done: the words that say that the task is done. form: chat, or instruct (turns begin with markers).
    names: what user and assistant are called in the play. farewells: closing turns in a row. alike: from
    which likeness (0 to 1) with an earlier turn a turn is a repetition. flips: whether a turn in the other's
    role ends the dialogue. cut: what becomes of a turn that was cut at the most tokens.
    """

    done: str
    form: Form
    names: tuple[str, str]
    farewells: int = 2
    alike: float = 0.95
    flips: bool = True
    cut: Literal["trim", "stop", "keep"] = "trim"


@dataclass(frozen=True)
class Heard:
    """What an answer became: the text of the turn (empty: there is none), and why the dialogue ends."""

    text: str = ""
    ends: str = ""


def heard(text: str, finish_reason: str, said: Sequence[str], rules: Rules) -> Heard:
    """Read the next turn of a dialogue in which so much was said, user and assistant in turns."""
    place = len(said) % 2
    if finish_reason == "content_filter":
        return Heard(ends="filtered")
    text, both = _alone(clean(text), place, rules)
    if both and not text:
        return Heard(ends="role_flip") if rules.flips else Heard(clean(both), "")
    # What comes after a turn of the other was never reached by the limit of tokens.
    if finish_reason in ("length", "max_tokens") and not both:
        text = _trimmed(text, rules)
        if not text:
            return Heard(ends="cut")
    done = bool(rules.done) and rules.done in text
    kept = text if rules.form == "instruct" else " ".join(text.split(rules.done)).strip() if done else text
    if done:
        return Heard("" if kept.strip(" .!\n") in ("", rules.done) else kept, "done")
    if not kept:
        return Heard(ends="empty")
    if rules.flips and flipped(kept, said, rules):
        return Heard(ends="role_flip")
    if refusal(kept):
        return Heard(ends="refused")
    if _closing(kept, said, rules):
        return Heard(kept, "farewell")
    if not closes(kept) and _repeats(kept, said, rules.alike):
        return Heard(ends="repetition")
    return Heard(kept)


def outcome(reason: str) -> str | None:
    """Success where the user said that the task is done, failure where a rule was broken, else None."""
    return SUCCESS.get(reason, "failure" if reason in _FAILED else None)


def flipped(text: str, said: Sequence[str], rules: Rules) -> bool:
    """Whether a turn is in the role of the other: by marker, by what only the other says, or as an echo."""
    place = len(said) % 2
    if rules.form == "instruct":
        return (INSTRUCTION if place else SOLUTION) in text
    folded = text.casefold().replace("’", "'")
    other = rf"(?:{ROLES[1 - place]}|{re.escape(rules.names[1 - place].casefold())})"
    # "as the user clicks" is about users; "as the user, I" is one speaking
    if re.search(rf"\b(?:as the {other},|(?:speaking as|i am|i'm) the {other}\b)", folded):
        return True
    if place == 0:
        return bool(_SERVES.search(folded))
    # an assistant who asks what it was asked; an answer may well be worded like the question
    both_ask = bool(said) and all(one.rstrip().endswith(("?", "？", "؟")) for one in (text, said[-1]))
    # "hello, how are you?" is answered by the same words
    return both_ask and len(words_of(text)) > _GREETING and _like(text, said[-1]) >= rules.alike


def _alone(text: str, place: int, rules: Rules) -> tuple[str, str]:
    """A turn without its speaker's name before it and the other's turns behind it, and those turns."""

    def named(who: int) -> str:
        names = {ROLES[who], rules.names[who]} - {ROLES[1 - who], rules.names[1 - who]}
        return "|".join(re.escape(name) for name in names)

    begins = re.match(rf"(?i)[*_]*(?:{named(place)})[*_]*\s*:[*_]*\s*", text)
    text = text[begins.end() :] if begins else text
    other = re.search(rf"(?im)^[*_]*(?:{named(1 - place)})[*_]*\s*:[*_]*", text)
    return (text[: other.start()].strip(), text[other.start() :]) if other else (text.strip(), "")


def _trimmed(text: str, rules: Rules) -> str:
    """A turn that was cut, up to the end of its last sentence; empty where that is none of it."""
    if rules.cut == "keep":
        return text
    ends = [m.end() for m in re.finditer(r"[.!?…。！？؟।](?=[\s\"”»]|$)|[。！？]", text)]
    return text[: ends[-1]].strip() if ends and rules.cut == "trim" else ""


def _closing(text: str, said: Sequence[str], rules: Rules) -> bool:
    """Whether this turn is the last of so many closing turns in a row, with a good-bye among them.

    Thanks are given in the middle of a dialogue too: without a good-bye it takes twice as many.
    """
    run = 0
    for turn in (text, *reversed(said)):
        if not closes(turn):
            break
        run += 1
    last = (text, *said[len(said) - run + 1 :])
    return run >= rules.farewells > 0 and (run >= 2 * rules.farewells or any(map(parts, last)))


def _repeats(text: str, said: Sequence[str], alike: float) -> bool:
    """Whether a turn is like an earlier one of its speaker, or like the last one of the other.

    Short turns (yes, go on) may come again; only the third time in a row is too much. What comes again later
    (can I help you with anything else?) or from the other side must be longer to be a repetition.
    """
    own = said[len(said) % 2 :: 2]
    if alike > 1:
        return False
    if len(words_of(text)) < _SHORT:
        return len(own) > 1 and all(words_of(one) == words_of(text) for one in own[-2:])
    others = (*own[:-1], *said[-1:]) if len(words_of(text)) >= _LONG else ()
    return any(_like(text, earlier) >= alike for earlier in (*own[-1:], *others))


def _like(one: str, other: str) -> float:
    """1 - edit distance (insertions and deletions) / both lengths, of their words; 0 where numbers differ.

    "Sum the rows 1 to 9" and "Sum the rows 10 to 19" are two matters.
    """
    from rapidfuzz.fuzz import ratio

    if _NUMBERS.findall(one) != _NUMBERS.findall(other):
        return 0.0
    return ratio(" ".join(words_of(one)), " ".join(words_of(other))) / 100
