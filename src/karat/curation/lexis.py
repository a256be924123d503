"""Lexical diversity of a mixture and of its parts at equal tokens. Knows no mixture.

Whether mixing generators gains anything by a richer language can be checked only when all are counted alike:
the number of different words grows with the number of words, so each part is cut to the size of the smallest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.texts.tokens import Tokens, fold, tokenise

I64 = NDArray[np.int64]

LEAST = 50
"""Tokens below which a share of different words says nothing."""
MOST = 20_000
"""Tokens counted of each part at most."""
SHOWN = 8


def different_words(words: Tokens, rows: I64, size: int, rng: np.random.Generator) -> float:
    """The share of different words among the first `size` of these records in a random order."""
    some = words.take(rng.permutation(rows))
    return len(np.unique(some.hashes[:size])) / size


def diversity(
    texts: Sequence[str], parts: Mapping[str, Sequence[int]], *, seed: int = 0, draws: int = 5
) -> tuple[int, dict[str, tuple[float, float]]]:
    """The tokens counted, and for each part the mean and spread of its share of different words (TTR).

    `parts` holds positions of texts; the spread is the standard deviation over orders drawn at random.
    """
    words = tokenise(fold(pa.array(list(texts), pa.large_string())))
    lengths = words.lengths
    rows = {name: np.array(part, np.int64) for name, part in parts.items() if len(part)}
    size = min([MOST, *(int(lengths[part].sum()) for part in rows.values())]) if rows else 0
    if size < LEAST:
        return size, {}
    rng = np.random.default_rng([seed, 0x1E7])
    found = {}
    for name, part in rows.items():
        values = [different_words(words, part, size, rng) for _ in range(draws)]
        found[name] = (float(np.mean(values)), float(np.std(values)))
    return size, found


def lexical_note(texts: Sequence[str], names: Sequence[str], *, seed: int = 0) -> str:
    """Say how many different words the mixture and each part have at equal tokens.

    texts and names are those of the mixture: a text and the part that it is from.
    """
    parts: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        parts.setdefault(name or "(no name)", []).append(row)
    if len(parts) < 2:
        return ""
    largest = dict(sorted(parts.items(), key=lambda part: -len(part[1]))[:SHOWN])
    mix = "mixture" if "mixture" not in largest else "the mixture"
    size, found = diversity(texts, {mix: range(len(texts)), **largest}, seed=seed)
    if not found:
        return f"too few tokens ({size}) to compare the parts' words"
    shown = ", ".join(f"{name} {mean:.3f} ± {spread:.3f}" for name, (mean, spread) in found.items())
    more = f" ({len(parts) - SHOWN} smaller parts left out)" if len(parts) > SHOWN else ""
    return f"different words in {size:,} tokens: {shown}{more}"
