"""Sparse TF-IDF features of texts: word and character n-grams. Knows no side, no label and no classifier.

Features are named by 64-bit keys computed for all texts at once, so that no Python loop runs over words or
characters. Keys that collide (about n^2 / 2^65 of n features) would share a column and do no other harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.texts.tokens import pattern, tokenise

if TYPE_CHECKING:
    import scipy.sparse

Keys = NDArray[np.uint64]
Rows = NDArray[np.int64]

_MIX = np.uint64(0x9E3779B97F4A7C15)
MAX_CHARACTERS = 20_000
"""Characters read of one text; a single record of megabytes must not outweigh or outlast the rest."""


@dataclass(frozen=True)
class FeatureSpace:
    """The columns of a feature matrix: their keys, their weights, and which are words.

    keys [m] is sorted; idf [m] is the inverse document frequency; word [m] tells words from characters.
    """

    keys: Keys
    idf: NDArray[np.float32]
    word: NDArray[np.bool_]
    words: tuple[int, ...]
    chars: tuple[int, ...]

    def matrix(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Return the rows [len(texts), m] of new texts; features never seen before are left out."""
        keys, rows, _ = _entries(texts, self.words, self.chars)
        if not len(self.keys):
            return _weigh(np.empty(0, np.int64), np.empty(0, np.int64), len(texts), self)
        columns = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = self.keys[columns] == keys
        return _weigh(columns[known], rows[known], len(texts), self)

    def spell(self, texts: Sequence[str], columns: Sequence[int]) -> list[str]:
        """Return the n-gram behind each column, found again in the texts; `?` where none of them has it."""
        wanted = np.sort(self.keys[list(columns)])
        found: dict[int, str] = {}
        for kind, sizes in ((_Words, self.words), (_Chars, self.chars)):
            units = kind.of(texts)
            for size in sizes:
                keys, starts = units.grams(size)
                places = np.minimum(np.searchsorted(wanted, keys), max(0, len(wanted) - 1))
                hits = np.flatnonzero(wanted[places] == keys) if len(wanted) else np.empty(0, np.int64)
                _, first = np.unique(keys[hits], return_index=True)
                for hit in hits[first]:
                    found[int(keys[hit])] = units.spell(int(starts[hit]), size)
        return [found.get(int(self.keys[column]), "?") for column in columns]


def featurise(
    texts: Sequence[str],
    *,
    words: tuple[int, ...] = (1, 2),
    chars: tuple[int, ...] = (),
    min_documents: int = 2,
    most: int = 0,
) -> tuple[FeatureSpace, scipy.sparse.csr_matrix]:
    """Return the feature space of texts and their matrix [n, m]: log-damped TF-IDF, unit rows.

    Words and characters each have the same share of a row's length.
    A feature of fewer than `min_documents` texts is left out: it can tell nothing about any other text.
    `most` keeps the features of the most documents (0: all).
    """
    keys, rows, is_word = _entries(texts, words, chars)
    unique, first, columns = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.unique(rows * max(1, len(unique)) + columns)
    documents = np.bincount(pairs % max(1, len(unique)), minlength=len(unique))
    kept = np.flatnonzero(documents >= min_documents)
    if 0 < most < len(kept):
        kept = np.sort(kept[np.argsort(-documents[kept], kind="stable")[:most]])
    place = np.full(len(unique), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    idf = (np.log((1 + len(texts)) / (1 + documents[kept])) + 1).astype(np.float32)
    space = FeatureSpace(unique[kept], idf, is_word[first[kept]], words, chars)
    columns = place[columns]
    seen = columns >= 0
    return space, _weigh(columns[seen], rows[seen], len(texts), space)


def _weigh(columns: Rows, rows: Rows, n: int, space: FeatureSpace) -> scipy.sparse.csr_matrix:
    """Return counts as log-damped TF-IDF, each kind of feature scaled to the same share of a unit row."""
    import scipy.sparse

    ones = np.ones(len(columns), dtype=np.float32)
    matrix = scipy.sparse.csr_matrix((ones, (rows, columns)), shape=(n, len(space.keys)))
    matrix.sum_duplicates()
    matrix.data = (1 + np.log(matrix.data)) * space.idf[matrix.indices]
    row = np.repeat(np.arange(n), np.diff(matrix.indptr))
    kind = 2 * row + space.word[matrix.indices]
    norms = np.sqrt(np.bincount(kind, weights=matrix.data.astype(np.float64) ** 2, minlength=2 * n))
    kinds = bool(space.words) + bool(space.chars)
    matrix.data /= (norms[kind] * np.sqrt(max(1, kinds))).astype(np.float32)
    return matrix


@dataclass(frozen=True)
class _Words:
    """The words of all texts in one row: hash and owner of each."""

    texts: list[str]
    sequence: Keys
    owners: Rows

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Words:
        lowered = [text[:MAX_CHARACTERS].lower() for text in texts]
        found = tokenise(pa.array(lowered, pa.large_string()), "word")
        return cls(lowered, found.hashes, np.repeat(np.arange(len(texts)), found.lengths))

    def grams(self, size: int) -> tuple[Keys, Rows]:
        return _grams(self.sequence, self.owners, size, salt=size)

    def spell(self, start: int, size: int) -> str:
        import polars as pl

        owner = int(self.owners[start])
        offset = start - int(np.searchsorted(self.owners, owner))
        words = pl.Series([self.texts[owner]]).str.extract_all(pattern("word"))[0].to_list()
        return " ".join(words[offset : offset + size])


@dataclass(frozen=True)
class _Chars:
    """The characters of all texts in one row, a space before and after each text: code and owner of each."""

    sequence: Keys
    owners: Rows

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Chars:
        padded = [f" {text[:MAX_CHARACTERS]} " for text in texts]
        codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        lengths = np.array([len(text) for text in padded], dtype=np.int64)
        return cls(codes.astype(np.uint64), np.repeat(np.arange(len(texts)), lengths))

    def grams(self, size: int) -> tuple[Keys, Rows]:
        return _grams(self.sequence, self.owners, size, salt=1000 + size)

    def spell(self, start: int, size: int) -> str:
        return "".join(chr(code) for code in self.sequence[start : start + size].tolist())


def _entries(
    texts: Sequence[str], words: tuple[int, ...], chars: tuple[int, ...]
) -> tuple[Keys, Rows, NDArray[np.bool_]]:
    """Return one (key, row, is_word) for every n-gram of every text, repeats included."""
    all_keys, all_rows, is_word = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
    for kind, sizes in ((_Words, words), (_Chars, chars)):
        if not sizes:
            continue
        units = kind.of(texts)
        for size in sizes:
            keys, starts = units.grams(size)
            all_keys.append(keys)
            all_rows.append(units.owners[starts])
            is_word.append(np.full(len(keys), kind is _Words))
    return np.concatenate(all_keys), np.concatenate(all_rows), np.concatenate(is_word)


def _grams(sequence: Keys, owners: Rows, size: int, *, salt: int) -> tuple[Keys, Rows]:
    """Return the keys of all n-grams of one size that lie within one text, and where each starts."""
    n = max(0, len(sequence) - size + 1)
    keys = np.full(n, salt, dtype=np.uint64)
    for offset in range(size):
        keys = (keys ^ sequence[offset : offset + n]) * _MIX
        keys ^= keys >> np.uint64(29)
    inside = np.flatnonzero(owners[:n] == owners[size - 1 : size - 1 + n])
    return keys[inside], inside
