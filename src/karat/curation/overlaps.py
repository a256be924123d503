"""How alike two texts are by their character n-grams: chrF as sacreBLEU counts it. Knows no record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from karat.errors import missing_extra


def chrf(text: str, reference: str) -> float:
    """Sentence chrF2 from 0 to 100 (Popovic 2015, 6-grams of characters, beta 2), as sacreBLEU gives it.

    Raises MissingExtra without sacreBLEU.
    """
    return float(_scorer().sentence_score(text, [reference]).score)


def pairwise_chrf(texts: Sequence[str]) -> float:
    """The mean chrF of all ordered pairs of texts; NaN for fewer than two.

    Ordered, because chrF weighs recall over precision, so that no text is the reference of the other.
    """
    n = len(texts)
    if n < 2:
        return float("nan")
    known: dict[tuple[str, str], float] = {}
    total = 0.0
    for i, one in enumerate(texts):
        for j, other in enumerate(texts):
            if i != j:
                key = (one, other)
                if key not in known:
                    known[key] = 100.0 if one == other else chrf(one, other)
                total += known[key]
    return total / (n * (n - 1))


@cache
def _scorer() -> Any:
    try:
        from sacrebleu.metrics import CHRF
    except ImportError:
        raise missing_extra("sacrebleu", "mt", "chrF") from None
    return CHRF(eps_smoothing=False)
