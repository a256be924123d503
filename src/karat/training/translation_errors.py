"""What is plainly wrong with a translation, told without a reference where possible. Knows no model.

Each check gives a flag a record, bool [n]; together with `low_chrf` these are the error rates by which
translations of a model are compared with those of people on the same sources. A flag is a sign, no proof:
people shorten, write numbers as words and keep names too, so that the rate among human translations is
what a rate is to be read against.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from karat import errors
from karat.texts.languages import code_of, language_of
from karat.texts.refusals import refusal

Flags = NDArray[np.bool_]

_WORD = re.compile(r"\w+")
# A space or an apostrophe joins thousands only.
_NUMBER = re.compile(r"\d+(?:[.,:]\d+|[\u00a0\u202f'’ ]\d{3}(?!\d))*")
_FEW = 3
"""A name or a number may be the same in both languages; more words than this are not."""


def copied(sources: Sequence[str], texts: Sequence[str], *, share: float = 0.9) -> Flags:
    """The text is (nearly) its source: of more than three words, `share` are the source's, in its order."""
    from rapidfuzz.distance import LCSseq

    found = np.zeros(len(texts), dtype=bool)
    for i, (source, text) in enumerate(_zipped(sources, texts)):
        said, given = _WORD.findall(text.casefold()), _WORD.findall(source.casefold())
        if len(given) > _FEW and len(said) > _FEW:
            longest = max(len(said), len(given))
            found[i] = LCSseq.similarity(said, given) >= share * longest
    return found


def length_outliers(
    sources: Sequence[str],
    texts: Sequence[str],
    *,
    usual: tuple[Sequence[str], Sequence[str]] | None = None,
    deviations: float = 5.0,
) -> Flags:
    """Far longer or shorter than usual for such a source; an empty text of a source that has words always.

    The logarithm of the ratio of characters (+ 8, as short texts vary more) is compared with its median
    over the pairs `usual` (human pairs, say; else these pairs themselves), in units of 1.4826 times the
    median absolute deviation.
    """
    _zipped(sources, texts)
    ratios = _log_ratios(sources, texts)
    base = _log_ratios(*usual) if usual is not None else ratios
    if not len(base) or not len(ratios):
        return np.zeros(len(texts), dtype=bool)
    centre = float(np.median(base))
    spread = max(1.4826 * float(np.median(np.abs(base - centre))), 0.05)
    blank = np.array([bool(source.strip()) and not text.strip() for source, text in zip(sources, texts)])
    far = np.abs(ratios - centre) > deviations * spread
    return np.asarray(far | blank, dtype=np.bool_)


def number_mismatch(sources: Sequence[str], texts: Sequence[str]) -> Flags:
    """The numbers written in digits are not those of the source, each as often; separators do not matter."""
    return np.array([_numbers(source) != _numbers(text) for source, text in _zipped(sources, texts)], bool)


def loops(sources: Sequence[str], texts: Sequence[str], *, times: int = 3, longest: int = 8) -> Flags:
    """One to `longest` words come `times` times in a row or more, and do not in the source.

    A text of one or two words and eight characters or more is read by characters: scripts without spaces.
    """
    return np.array(
        [
            most_in_a_row(text, longest) >= times > most_in_a_row(source, longest)
            for source, text in _zipped(sources, texts)
        ],
        dtype=bool,
    )


def wrong_language(texts: Sequence[str], language: str) -> Flags:
    """The text is clearly in another language than `language` (a code or a name); short texts seldom tell.

    Raises BadSetting for a language that is not told apart here.
    """
    wanted = code_of(language)
    if not wanted:
        raise errors.BadSetting(
            f"language={language!r} is not one that is told apart here; give one of "
            "en, de, fr, es, it, pt, nl, ru, zh, ja, ko, el, he, th, or leave the check out"
        )
    return np.array([language_of(text) not in ("", wanted) for text in texts], dtype=bool)


def refused(texts: Sequence[str]) -> Flags:
    """The text is a refusal or the boiler-plate of an assistant instead of a translation."""
    return np.array([bool(refusal(text)) for text in texts], dtype=bool)


def low_chrf(texts: Sequence[str], references: Sequence[str], *, below: float = 30.0) -> Flags:
    """The sentence's chrF against its reference is below `below` (of 100)."""
    from karat.training.written import compared, finish

    return finish("chrf", compared(texts, references)["chrf"]) < below


def checked(
    sources: Sequence[str],
    texts: Sequence[str],
    *,
    language: str = "",
    references: Sequence[str] | None = None,
    usual: tuple[Sequence[str], Sequence[str]] | None = None,
) -> dict[str, Flags]:
    """Return every check that can be made: without a known language or references, those are left out."""
    found = {
        "copied": copied(sources, texts),
        "length_outlier": length_outliers(sources, texts, usual=usual),
        "number_mismatch": number_mismatch(sources, texts),
        "loop": loops(sources, texts),
        "refused": refused(texts),
    }
    if code_of(language):
        found["wrong_language"] = wrong_language(texts, language)
    if references is not None:
        found["low_chrf"] = low_chrf(texts, references)
    return found


def most_in_a_row(text: str, longest: int = 8) -> int:
    """How often one to `longest` words follow each other unchanged, at most; 1 where nothing is repeated."""
    said = _WORD.findall(text.casefold())
    if len(said) <= 2 and len(text) >= 8:
        said = [sign for sign in text.casefold() if not sign.isspace()]
    best = min(1, len(said))
    for size in range(1, min(longest, len(said) // 2) + 1):
        run = 0  # words in a row that are the same as those `size` before them
        for here, before in zip(said[size:], said):
            run = run + 1 if here == before else 0
            best = max(best, run // size + 1)
    return best


def _numbers(text: str) -> Counter[str]:
    """The numbers of a text, each as its decimal digits without separators."""
    found = _NUMBER.findall(text)
    return Counter("".join(str(unicodedata.decimal(s)) for s in one if s.isdecimal()) for one in found)


def _log_ratios(sources: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    given = np.array([len(text) for text in sources], dtype=np.float64)
    said = np.array([len(text) for text in texts], dtype=np.float64)
    return np.log((said + 8) / (given + 8))


def _zipped(sources: Sequence[str], texts: Sequence[str]) -> list[tuple[str, str]]:
    if len(sources) != len(texts):
        raise errors.InputError(f"{len(texts)} translations cannot be checked against {len(sources)} sources")
    return list(zip(sources, texts))
