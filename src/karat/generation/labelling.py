"""Questions with a fixed set of answers: options as shown, read, and how likely each is. Knows no recipe."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from karat.errors import InputError
from karat.texts.answers import extractions, plain, read_answer
from karat.texts.refusals import refusal

_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?!\w|\.\d)")
_MARKED = re.compile(r"(?i)\banswer(?:\W+is)?[\s*_]*[:=][\s*_]*([^\n]+)")
# In English, German, French, Dutch, Italian and Portuguese; "not only" denies nothing. Up to four words may
# stand between (cannot label this text as ...): an answer is better lost than turned round.
_NO = r"(?:not|cannot|never|nor|\w+n['’]t|non|nicht|keine?[rnms]?|pas|niet|geen|não)"
_NOT = rf"{_NO}[\s-]+(?!only\b|nur\b)(?:\w+\s+){{0,4}}"
# What tokenisers put before a token, and models around an answer.
_AROUND = " \t\r\n▁Ġ\"'`*([{)]}.:,-_"
_COLLIDE = 0.01
NONE = "none"
"""What stands for no label at all where several may be given."""


@dataclass(frozen=True)
class Options:
    """The allowed answers in the order shown: what is recorded (names) and what is to be said (codes)."""

    names: tuple[str, ...]
    codes: tuple[str, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)

    @property
    def coded(self) -> bool:
        """Whether codes stand for the names."""
        return bool(self.codes) and self.codes != self.names

    @property
    def said(self) -> tuple[str, ...]:
        """What is to be answered, in the order shown."""
        return self.codes or self.names

    @property
    def numeric(self) -> bool:
        """Whether the answers are whole numbers: points of a scale."""
        return not self.coded and all(re.fullmatch(r"[+-]?\d+", name) for name in self.names)

    def lines(self) -> list[str]:
        """One line an option: code, name, definition."""
        found = []
        for name, code in zip(self.names, self.said):
            told = self.definitions.get(name, "")
            head = f"({code}) {name}" if self.coded else f"- {name}"
            found.append(f"{head}: {told}" if told else head)
        return found


def letters(names: Sequence[str]) -> tuple[str, ...]:
    """A, B, C ... for as many options. Raises InputError when the alphabet has no more."""
    if len(names) > 26:
        raise InputError(f"{len(names)} labels are more than the 26 letters; use codes=names")
    return tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(names)])


def ordered(names: Sequence[str], turn: int, seed: int, *, scale: bool) -> tuple[str, ...]:
    """The labels as one sample shows them: over all samples each stands in each place equally often.

    A permutation drawn by the seed is turned by one place a sample; a scale is shown upwards or downwards.
    """
    drawn = list(names)
    chance = random.Random(seed)
    if scale:
        return tuple(drawn if (turn + chance.randrange(2)) % 2 == 0 else drawn[::-1])
    chance.shuffle(drawn)
    turn %= max(len(drawn), 1)
    return tuple(drawn[turn:] + drawn[:turn])


def read(text: str, options: Options, *, last: bool = False, cut: bool = False) -> str:
    """The name of the option that an answer gives; empty where it gives none, or several.

    last: reasons come first, so that the last option named is the answer. cut: the answer was cut off, so
    that only what is marked as the answer counts.
    """
    marked = _MARKED.findall(text)
    if marked:
        found = _read(marked[-1], options, last=False)
        if found:
            return found
    if (cut and last) or refusal(re.split(r"[.\n]", text.strip(), maxsplit=1)[0]):
        return ""
    return _read(text, options, last=last)


def _read(text: str, options: Options, *, last: bool) -> str:
    alone = plain(text).strip(_AROUND)
    names = {plain(name): name for name in options.names}
    if options.coded:
        codes = {code.casefold(): name for code, name in zip(options.codes, options.names)}
        found = codes.get(alone) or _coded(text, options, last=last)
        if found:
            return found
    if alone in names:
        return names[alone]
    if options.numeric:
        return _numbered(text, options, last=last)
    # A name of one letter beside codes is a code itself, and was looked for with the signs of one.
    words = [name for name in options.names if len(name) > 1 or not options.coded]
    return _named(text, words, last=last) if words else ""


def _coded(text: str, options: Options, *, last: bool) -> str:
    """The option whose code stands in brackets, at the beginning, or behind a word like `option`."""
    of = dict(zip(options.codes, options.names))
    code = "|".join(re.escape(one) for one in sorted(of, key=len, reverse=True))
    # A letter alone may be a word ("A good text"), so that it needs a sign of what it is.
    signs = (
        rf"^[\W_]*({code})(?=[).:,\]\-]|\s*$|\s*\n)",
        rf"[(\[]({code})[)\]]",
        rf"\b(?i:option|response|answer|choice|label)\s+({code})\b",
        rf"\b({code})\s+(?:is|wins)\b",
    )
    for sign in signs:
        found = list(dict.fromkeys(re.findall(sign, text)))
        if len(found) == 1 or (found and last):
            return of[found[-1]]
        if found:
            return ""
    return ""


def _numbered(text: str, options: Options, *, last: bool) -> str:
    """The point of a scale: the number at the beginning, or the only one; a definition said in full."""
    told = {plain(words): name for name, words in options.definitions.items() if words}
    found = told.get(plain(text).strip(_AROUND))
    if found:
        return found
    text = re.sub(r"(?i)(\d)\s*(?:/|out of)\s*\d+", r"\1", text)  # 4/5
    numbers = [one.lstrip("+") for one in _NUMBER.findall(text)]
    allowed = {name.lstrip("+"): name for name in options.names}
    if not numbers or any(one not in allowed for one in numbers[-1:] if last):
        return ""
    start = _NUMBER.match(text.lstrip(_AROUND.replace("-", "")))
    chosen = numbers[-1] if last else numbers[0] if start or len(set(numbers)) == 1 else ""
    return allowed.get(chosen, "")


def _named(text: str, names: Sequence[str], *, last: bool) -> str:
    """The option that is named and not denied; where several are, the one that the answer begins with."""
    text = _affirmed(text, names)
    if last:
        return read_answer(text, names, last=True) or ""
    first, final = extractions(text, names)
    if first is None or first == final:
        return first or ""
    begins = plain(text).lstrip(_AROUND)
    return first if re.match(rf"{re.escape(plain(first))}\b", begins) else ""


def _affirmed(text: str, names: Sequence[str]) -> str:
    """A text without the options that it denies, unless what denies one is another option (not rude)."""
    known = [plain(name) for name in names]
    for name in names:
        for found in list(re.finditer(rf"(?i)\b{_NOT}{re.escape(name)}\b", text))[::-1]:
            if not any(plain(found[0]).endswith(one) for one in known if one != plain(name)):
                text = text[: found.start()] + "…" + text[found.end() :]
    return text


def read_several(text: str, options: Options) -> tuple[str, ...] | None:
    """All options that an answer names, in the order of the options; () for none of them, None unreadable."""
    marked = _MARKED.findall(text)
    body = marked[-1] if marked else text
    if plain(body).strip(_AROUND) in (NONE, "none of them", "none of these", "no label"):
        return ()
    found = set()
    for piece in re.split(r"[,;\n|]|\band\b", body):
        if piece.strip(_AROUND):
            one = _read(piece, options, last=False)
            if not one:
                return None
            found.add(one)
    return tuple(name for name in options.names if name in found) if found else None


# ------------------------------------------------------------------------------------- probabilities


@dataclass(frozen=True)
class Spread:
    """How likely each option is: shares that add up to 1, from `mass` of the first token's probability.

    reason: why the first token does not tell; empty where it does.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    mass: float = 0.0
    reason: str = ""

    @property
    def likeliest(self) -> str:
        """The option with the largest share; the first of equal ones."""
        return max(self.shares, key=lambda name: self.shares[name])


def spread(alternatives: Sequence[tuple[str, float]], options: Options, *, least: float = 0.5) -> Spread:
    """The distribution over options from the alternatives of the first token, renormalised.

    A token counts for the only option that begins with it. An option that no alternative begins has the
    share 0: it is less likely than all that the server told of. least: the share of the first token's
    probability that must stand for options.
    """
    if not alternatives:
        return Spread(reason="the server offers no alternatives to the first token")
    shares = dict.fromkeys(options.names, 0.0)
    shared: dict[str, float] = {}
    for token, logprob in alternatives:
        chosen = _begun(token, options)
        if len(chosen) == 1:
            shares[chosen[0]] += math.exp(logprob)
        elif chosen:
            shared[f"{token.strip(_AROUND)!r} begins {' and '.join(chosen)}"] = math.exp(logprob)
    mass, doubtful = sum(shares.values()), sum(shared.values())
    if doubtful > _COLLIDE * (mass + doubtful):
        return Spread(reason=f"first tokens collide: {max(shared, key=lambda said: shared[said])}")
    if mass < least:
        return Spread(mass=mass, reason=f"only {mass:.0%} of the first token stands for a label")
    return Spread({name: share / mass for name, share in shares.items()}, mass)


def _begun(token: str, options: Options) -> list[str]:
    """The options that a first token may begin."""
    said = token.strip(_AROUND)
    if not said:
        return []
    if options.coded:  # letters are large: a small one begins a sentence
        return [name for code, name in zip(options.codes, options.names) if code.startswith(said)]
    folded = plain(said)
    return [name for name in options.names if plain(name).startswith(folded)]


def mean(spreads: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of several distributions over the same options."""
    return {name: sum(one[name] for one in spreads) / len(spreads) for name in spreads[0]}


def rounded(shares: Mapping[str, Any]) -> dict[str, float]:
    """Shares with six digits, to be written."""
    return {name: round(float(share), 6) for name, share in shares.items()}
