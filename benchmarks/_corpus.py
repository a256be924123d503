"""Made texts for the benchmarks: topics, collocations, copies. Knows no karat.

Words are Zipf-distributed, half of them follow from the word before, so that n-grams recur as they do in
docstrings, and no record is a copy by construction. The language is the same for every seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

WORDS, TOPICS, LABELS = 60_000, 40, 8
_BLOCK = 50_000  # records made at a time


@cache
def _world() -> tuple[Any, ...]:
    draw = np.random.default_rng(20_260)
    onsets = [*"bcdfghklmnprstvwz", "st", "tr", "pl", "ch", ""]
    parts = [onset + vowel for onset in onsets for vowel in ("a", "e", "i", "o", "u", "ea", "io")]
    sizes = 1 + draw.binomial(4, 0.35, WORDS)
    words = np.array(["".join(draw.choice(parts, size)) for size in sizes], dtype=object)
    weights = 1 / (np.arange(WORDS) + 2.7) ** 1.05
    weights /= weights.sum()
    orders = np.tile(np.arange(WORDS), (TOPICS, 1))
    for order in orders:  # function words are shared; each topic has its own order of the rest
        order[150:] = draw.permutation(order[150:])
    follows = draw.choice(WORDS, (WORDS, 4), p=weights)
    marked = pa.array(np.concatenate([words, words + ".", words + ","]))
    return marked, np.cumsum(weights), orders, follows


def blocks(n: int, *, seed: int, mean: int) -> Iterator[pl.DataFrame]:
    """Yield n records with `text` and `label`, of about `mean` tokens each, 50,000 at a time."""
    for at in range(0, n, _BLOCK):
        yield _block(min(_BLOCK, n - at), 1000 * seed + at // _BLOCK, mean)


def texts(n: int, *, seed: int, mean: int = 60) -> list[str]:
    """Return n texts of about `mean` tokens."""
    return [text for block in blocks(n, seed=seed, mean=mean) for text in block["text"].to_list()]


def with_copies(n: int, *, seed: int, mean: int = 60, share: float = 0.2) -> list[str]:
    """Return n texts, a share of which are earlier ones with one word changed."""
    found = texts(n, seed=seed, mean=mean)
    draw = np.random.default_rng(seed)
    for i in np.flatnonzero(draw.random(n) < share):
        if i:
            words = found[int(draw.integers(0, i))].split(" ")
            words[int(draw.integers(0, len(words)))] = "changed"
            found[i] = " ".join(words)
    return found


def write(path: Path, n: int, *, seed: int, mean: int) -> Path:
    """Write n records as JSONL."""
    with path.open("wb") as file:
        for block in blocks(n, seed=seed, mean=mean):
            block.write_ndjson(file)
    return path


def _block(n: int, seed: int, mean: int) -> pl.DataFrame:
    marked, cumulative, orders, follows = _world()
    draw = np.random.default_rng(seed)
    topic = draw.integers(0, TOPICS, n)
    lengths = np.clip(draw.lognormal(np.log(0.93 * mean), 0.38, n), 3, 6 * mean).astype(int)
    longest = int(lengths.max())
    tokens, previous = np.zeros((n, longest), np.int64), np.zeros(n, np.int64)
    for place in range(longest):
        fresh = orders[topic, np.searchsorted(cumulative, draw.random(n)).clip(max=WORDS - 1)]
        tied = follows[previous, np.minimum(draw.geometric(0.6, n) - 1, 3)]
        previous = np.where(draw.random(n) < 0.5, tied, fresh)
        tokens[:, place] = previous
    marks = draw.random((n, longest))
    kind = np.where(marks < 0.06, 1, np.where(marks < 0.13, 2, 0))
    words = marked.take(pa.array((tokens + kind * WORDS)[np.arange(longest) < lengths[:, None]]))
    offsets = pa.array(np.r_[0, np.cumsum(lengths)].astype(np.int32))
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, words), " ")
    return pl.DataFrame({"text": pl.from_arrow(joined), "label": [f"topic {t % LABELS}" for t in topic]})
