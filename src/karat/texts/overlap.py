"""How much two texts share: ROUGE-L of many pairs at once, content words, longest common runs of words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WORD = re.compile(r"\w+")
_ROUGE = re.compile(r"[a-z0-9]+")
_FIRST = 0x10000  # code points of words begin here, beyond the surrogates

# Words that tell nothing of what a text is about.
_STOPWORDS = frozenset(
    """
    a about above after again all also am an and any are as at be because been before being below
    between both but by can could did do does doing down during each few for from further had has
    have having he her here hers him his how i if in into is it its itself just me more most my no
    nor not now of off on once only or other our out over own same she should so some such than that
    the their them then there these they this those through to too under until up very was we were
    what when where which while who whom why will with would you your
    """.split()
)


def words(text: str, tokens: str = "word") -> list[str]:
    """The words of a text in lower case; tokens=rouge keeps a to z and digits only, as rouge_score does."""
    pattern = _ROUGE if tokens == "rouge" else _WORD
    return pattern.findall(text.casefold() if tokens != "rouge" else text.lower())


def content_words(text: str) -> list[str]:
    """The words of a text that say what it is about, in order."""
    return [word for word in words(text) if word not in _STOPWORDS]


def rouge_l(rows: Sequence[Sequence[str]], columns: Sequence[Sequence[str]]) -> Floats:
    """float64 [n, m]: the ROUGE-L F of every row with every column, each a list of words.

    2 LCS / (a + b), LCS the longest common subsequence of words (Lin 2004, equations 2 to 4 with beta = 1);
    two empty texts have 0. Words are mapped to characters, so that the comparison is one of strings, in C.
    """
    from rapidfuzz.distance import Indel
    from rapidfuzz.process import cdist

    code: dict[str, str] = {}

    def drawn(text: Sequence[str]) -> str:
        return "".join(code.setdefault(word, chr(_FIRST + len(code))) for word in text)

    left, right = [drawn(text) for text in rows], [drawn(text) for text in columns]
    if not left or not right:
        return np.zeros((len(left), len(right)))
    # 1 - (a + b - 2 LCS) / (a + b) is the normalised similarity of insertions and deletions
    found = np.asarray(cdist(left, right, scorer=Indel.normalized_similarity, dtype=np.float64))
    blank = np.array([not text for text in left])[:, None] & np.array([not text for text in right])[None]
    return np.where(blank, 0.0, found)


def longest_run(one: Sequence[str], other: Sequence[str]) -> int:
    """The most words in a row that both texts have."""
    matcher = SequenceMatcher(None, list(one), list(other), autojunk=False)
    return matcher.find_longest_match(0, len(one), 0, len(other)).size


def recalled(given: str, said: str) -> float:
    """The share of different content words of `given` that `said` has too; nan where it has none."""
    wanted = set(content_words(given))
    return len(wanted & set(words(said))) / len(wanted) if wanted else float("nan")
