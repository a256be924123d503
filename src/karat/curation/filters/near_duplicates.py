"""Drops records that share most of their shingles with one that is kept. Knows no meaning, only words.

Up to some hundred thousand short texts all pairs are found exactly, by a prefix-filter join; beyond, MinHash
with banding finds candidates, whose true coefficient is then computed: it may miss pairs and makes none up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.curation.base import Verdicts
from karat.curation.clusters import Links, keep_of, preference, texts_of
from karat.records import Records
from karat.texts.neighbours import Sets, classes, sets_of, shingles, similar_pairs
from karat.texts.tokens import fold, tokenise


@dataclass(frozen=True)
class NearDuplicates:
    """Keeps one of each group of texts whose word n-grams overlap (Jaccard coefficient).

    threshold: the least Jaccard coefficient of two near-duplicates. n: words of a shingle; a shorter text is
    one shingle. method: exact (all pairs), minhash (128 hashes, recall 0.99 at the threshold and above) or
    auto, which is exact until there are too many candidates. keep: which one of a cluster stays: first,
    longest (characters) or best (highest `by`). by: a numeric field, for keep=best. clusters: star (each
    dropped record is alike to the kept one; no two kept ones are) or component (chains count too).
    tokens: word, whitespace or character. field: compare this field and not the whole text.
    Case, spaces and sentence marks never count.
    """

    threshold: float = 0.8
    n: int = 5
    method: Literal["auto", "exact", "minhash"] = "auto"
    keep: Literal["first", "longest", "best"] = "first"
    by: str = "order_score"
    clusters: Literal["star", "component"] = "star"
    tokens: Literal["word", "whitespace", "character"] = "word"
    field: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"threshold is {self.threshold}, but must lie above 0 and at most at 1, e.g. 0.8"
            )
        if self.n < 1:
            raise ValueError(f"n is {self.n}, but a shingle has 1 word at least; 5 is usual")

    def judge(self, records: Records, reference: Records | None = None) -> Verdicts:
        """Judge each record; the reason names the coefficient, the bound and the record that stays."""
        order = preference(records, self.keep, self.by, "filter 'near_duplicates'")
        sets, number = self._classes(records)
        # The most wanted record of each class of copies stands for the class: the last one written.
        keepers = np.empty(len(sets), np.int64)
        keepers[number[order[::-1]]] = order[::-1]
        pairs = similar_pairs(sets, self.threshold, method=self.method)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        links = Links(pairs.one, pairs.other, pairs.jaccard)
        found = keep_of(np.argsort(rank[keepers]).astype(np.int64), links, self.clusters)
        stands, likeness = keepers[found.stands[number]], found.likeness[number]
        kept = stands == np.arange(len(records))
        ids = records.ids
        reasons = {}
        for row in np.flatnonzero(~kept).tolist():
            how = "linked by a chain" if np.isnan(likeness[row]) else f"Jaccard {likeness[row]:.3f}"
            reasons[row] = f"{how} with {ids[stands[row]]}, at or over threshold={self.threshold:g}"
        way = "all pairs looked at"
        if pairs.recall < 1:
            way = f"MinHash: recall {pairs.recall:.3f} at the threshold, more above"
        if pairs.cut:
            way += "; some records had too many candidates, pairs of theirs may be missing"
        return Verdicts(kept, reasons, f"{way}; {self.clusters} clusters, {self.keep} kept")

    def _classes(self, records: Records) -> tuple[Sets, NDArray[np.int64]]:
        """The different sets of shingles, and the number of the one that each record has."""
        raw = texts_of(records, self.field)
        texts = fold(pa.array(raw, pa.large_string()))
        blank = np.array([not text for text in texts.to_pylist()], np.bool_)
        if self.tokens == "character":
            spaced = [" ".join(text.replace(" ", "")) for text in texts.to_pylist()]
            tokens = tokenise(pa.array(spaced, pa.large_string()), "whitespace")
        else:
            tokens = tokenise(texts, self.tokens)
        hashes, owner = shingles(tokens, self.n)
        # A text of nothing but marks folds to nothing; such texts are alike only where they are equal.
        filled = ~blank[owner]
        sets = sets_of(hashes[filled], owner[filled], len(records))
        number, first = classes(sets)
        if blank.any():
            known: dict[str, int] = {}
            for row in np.flatnonzero(blank).tolist():
                number[row] = len(first) + known.setdefault(" ".join(raw[row].split()), len(known))
            _, first, number = np.unique(number, return_index=True, return_inverse=True)
        return sets.take(first.astype(np.int64)), number.astype(np.int64)
