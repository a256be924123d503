"""Texts into hashed tokens and n-grams, whole columns at a time. Knows no corpus, no group and no metric.

A token is only ever seen as a 64-bit hash, which is the same in every run, on every platform and
for every version of the libraries. At ten million different n-grams of 58 kept bits the expected
number of colliding pairs is below 0.001.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from karat.errors import BadSetting, did_you_mean

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_OWN = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_PATTERNS = {
    # Scripts written without spaces give one token a character (with its marks); elsewhere a token
    # is a run of letters, marks and digits; every other visible character is a token of its own.
    "word": rf"[{_OWN}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}\x{{200C}}\x{{200D}}]--[{_OWN}]]+|[^\s\p{{C}}]",
    # What str.split() gives, which also splits at the four ASCII separators that Unicode does not.
    "whitespace": r"[^\s\x1c-\x1f]+",
}
TOKENISERS = tuple(_PATTERNS)
_APOSTROPHE = r"(\p{L})['\x{2019}](\p{L})"
_HYPHEN = r"(\p{L})[-\x{2010}\x{2011}](\p{L})"

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
_STEP = np.uint64(0xD6E8FEB86659FD93)
_BLOCK = 1 << 20  # bytes hashed at a time: bounds the memory of one 1 GB column


@dataclass(frozen=True)
class Tokens:
    """The hashed tokens of a column of texts: hashes uint64 [T], offsets int64 [n + 1]."""

    hashes: U64
    offsets: I64

    @property
    def lengths(self) -> I64:
        """int64 [n]: the number of tokens of each text."""
        return np.diff(self.offsets)

    def take(self, rows: I64) -> Tokens:
        """The tokens of these texts, in this order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        moved = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Tokens(self.hashes[moved], offsets)


def pattern(tokeniser: str) -> str:
    """Return the regular expression of a tokeniser. Raises BadSetting for an unknown name."""
    if tokeniser not in _PATTERNS:
        hint = did_you_mean(tokeniser, TOKENISERS)
        raise BadSetting(f"no tokeniser named {tokeniser!r}{hint} (choose one of: {', '.join(TOKENISERS)})")
    return _PATTERNS[tokeniser]


def tokenise(texts: pa.Array, tokeniser: str = "word") -> Tokens:
    """Split and hash each text; nulls count as empty."""
    series = _series(texts)
    if len(series) == 0:
        return Tokens(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    split = series.str.extract_all(pattern(tokeniser))
    counts = split.list.len().fill_null(0).to_numpy().astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    flat = split.explode().drop_nulls().to_arrow()  # an empty list explodes into a null
    hashes = hash_strings(flat)
    assert len(hashes) == offsets[-1]
    return Tokens(hashes, offsets)


def count_tokens(texts: pa.Array, tokeniser: str = "word") -> I64:
    """int64 [n]: the number of tokens of each text, without hashing them."""
    counted = _series(texts).str.count_matches(pattern(tokeniser)).fill_null(0)
    return counted.to_numpy().astype(np.int64)


def normalise(texts: pa.Array) -> pa.Array:
    """Fold what does not make a text another text: Unicode form, case, sentence marks, runs of spaces.

    Signs that carry meaning of their own (+ * / = % # & @ brackets, dashes) stay.
    """
    folded = _series(texts).str.normalize("NFKC").str.to_lowercase()
    folded = folded.str.replace_all(r"[[\p{Po}\p{Pi}\p{Pf}\p{C}\s]--[*&@#%/\\]]+", " ").str.strip_chars()
    return folded.to_arrow().cast(pa.large_string())


def fold(texts: pa.Array) -> pa.Array:
    """Texts without what does not make another text of them: can't is cant, and top-up is top up."""
    joined = pc.replace_substring_regex(texts.cast(pa.large_string()), _APOSTROPHE, r"\1\2")
    return pc.replace_substring_regex(normalise(joined), _HYPHEN, r"\1 \2")


def hash_strings(strings: pa.Array) -> U64:
    """uint64 [n]: a stable hash of the UTF-8 bytes of each string; nulls hash like empty strings.

    A polynomial over the bytes modulo 2**64, had for all strings at once from one running sum, then
    mixed with the length. The same bytes give the same hash everywhere.
    """
    strings = strings.cast(pa.large_string())
    if strings.null_count:
        strings = strings.fill_null("")
    _, starts, data = strings.buffers()
    if len(strings) == 0:
        return np.zeros(0, np.uint64)
    bounds = np.frombuffer(starts, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    out = np.empty(len(strings), np.uint64)
    first = 0
    while first < len(strings):
        # As many whole strings as fit a block; a longer string is a block of its own.
        last = int(np.searchsorted(bounds, bounds[first] + _BLOCK, side="right")) - 1
        last = min(max(last, first + 1), len(strings))
        low, high = int(bounds[first]), int(bounds[last])
        out[first:last] = _hash_block(content[low:high], bounds[first : last + 1] - low)
        first = last
    return out


def mix(values: U64) -> U64:
    """Scatter the bits of each number (the finaliser of splitmix64, Steele et al. 2014)."""
    out = values + np.uint64(0x9E3779B97F4A7C15)
    out = (out ^ (out >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return out ^ (out >> np.uint64(31))


def ngrams(tokens: Tokens, n: int) -> tuple[U64, I64]:
    """All n-grams of each text: hashes uint64 [M] and the text that each is in, int64 [M]."""
    total = len(tokens.hashes)
    owner = np.repeat(np.arange(len(tokens.offsets) - 1, dtype=np.int64), tokens.lengths)
    if n == 1:
        return tokens.hashes, owner
    if total < n:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    inside = owner[: total - n + 1] == owner[n - 1 :]
    joined = tokens.hashes[: total - n + 1].copy()
    for step in range(1, n):
        joined *= _STEP
        joined += tokens.hashes[step : total - n + 1 + step]
    return mix(joined[inside]), owner[: total - n + 1][inside]


def cut(tokens: Tokens, keep: dict[int, int]) -> Tokens:
    """The same tokens with text i shortened to its first keep[i] tokens."""
    if not keep:
        return tokens
    lengths = tokens.lengths.copy()
    chosen = np.ones(len(tokens.hashes), np.bool_)
    for text, length in keep.items():
        chosen[tokens.offsets[text] + length : tokens.offsets[text + 1]] = False
        lengths[text] = min(int(lengths[text]), length)
    return Tokens(tokens.hashes[chosen], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))


def _series(texts: Any) -> pl.Series:
    series = pl.Series("text", texts)
    return series if series.dtype == pl.String else series.cast(pl.String)


def _hash_block(content: NDArray[np.uint8], bounds: I64) -> U64:
    size = len(content)
    powers, inverses = _powers(1 << max(10, (size + 1).bit_length()))
    running = np.zeros(size + 1, np.uint64)
    # bytes are shifted by one, so that "\x00" and "" differ
    np.cumsum((content.astype(np.uint64) + np.uint64(1)) * powers[:size], out=running[1:])
    hashes = (running[bounds[1:]] - running[bounds[:-1]]) * inverses[bounds[:-1]]
    return mix(hashes ^ (np.diff(bounds).astype(np.uint64) * _STEP))


@lru_cache(maxsize=2)
def _powers(size: int) -> tuple[U64, U64]:
    inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
    up, down = np.full(size, _BASE, np.uint64), np.full(size, inverse, np.uint64)
    up[0] = down[0] = np.uint64(1)
    return np.cumprod(up), np.cumprod(down)
