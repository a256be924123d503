"""Drops training records that hold items of a test set, word by word or rephrased. Knows no test set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karat.curation.base import Verdicts, normalised
from karat.curation.clusters import texts_of
from karat.curation.embedding import embed
from karat.curation.overlap import Overlap, near_overlap, ngram_overlap, semantic_overlap, words_of
from karat.errors import InputError, NotEnoughData
from karat.records import Records, read

KINDS = ("exact", "ngram", "near", "semantic")
LEAST = 30
"""Test items below which their own nearest neighbours say too little about false alarms."""


@dataclass(frozen=True)
class Decontaminate:
    """Drops records that contain an item of a test file, or are one in other words.

    against: the file of test records. kinds: joined by +: exact (the same text up to case, spaces, stops),
    ngram (at least `overlap` of an item's n-grams), near (rare words shared, weighted Jaccard), semantic
    (cosine of embeddings). n: words of an n-gram, 8 or 13 are usual; shorter items, from 5 words on,
    are sought whole. overlap: the share of an item's n-grams. rate: false alarms of near and of semantic in
    records of the test set's domain; the bounds are what that share of test items exceeds toward another.
    encoder: for semantic. field, test_field: compare these fields and not the whole text.
    Source: Brown et al. 2020, appendix C (n-grams); Yang et al. 2023 (rephrased items).
    """

    against: str
    kinds: tuple[str, ...] = KINDS
    n: int = 13
    overlap: float = 0.5
    rate: float = 0.01
    encoder: str = "lsa"
    field: str = ""
    test_field: str = ""

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise ValueError(f"kinds has {(unknown or ['nothing'])[0]!r}; choose some of: {'+'.join(KINDS)}")
        if self.n < 2:
            raise ValueError(
                f"n is {self.n}, but an n-gram of fewer than 2 words is in every text; 13 is usual"
            )
        for name in ("overlap", "rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but is a share above 0 and at most 1")

    def judge(
        self, records: Records, reference: Records | None = None, *, cache: Path | None = None, seed: int = 0
    ) -> Verdicts:
        """Judge each record; the reason names the kind, the number, the bound and the test item."""
        test = self._test()
        items = test.texts()
        filled = [row for row, text in enumerate(items) if text.strip()]
        if not filled:
            raise NotEnoughData(f"{self.against}: no test record holds a text; nothing can be looked for")
        names = [test.ids[row] for row in filled]
        items = [items[row] for row in filled]
        reasons: dict[int, str] = {}
        notes = []
        for kind, found, bound, what in self._found(texts_of(records, self.field), items, cache, seed):
            rows = np.flatnonzero((found.value >= bound) & (found.item >= 0)).tolist()
            for row in rows:
                why = f"{kind}: {what} {found.value[row]:.3f} with test item {names[found.item[row]]}"
                reasons.setdefault(row, why if kind == "exact" else f"{why}, at or over {bound:.3f}")
            notes.append(f"{kind} {len(rows):,}" + ("" if kind == "exact" else f" (bound {bound:.3f})"))
        kept = np.ones(len(records), np.bool_)
        kept[list(reasons)] = False
        rate = ""
        if {"near", "semantic"} & set(self.kinds):
            rate = f"; near and semantic: {self.rate:.1%} false alarms each in texts of the test set's domain"
        note = f"against {len(items):,} test items: {', '.join(notes)}{rate}"
        return Verdicts(kept, reasons, note)

    def _test(self) -> Records:
        if self.test_field:
            return read(self.against, datatype="text", fields={"text": self.test_field})
        try:
            return read(self.against)
        except InputError as error:
            # the flags of the command name fields of its own files, not of this one
            raise InputError(re.sub(r"--[a-z-]+-field (?=\S)", "test_field=", str(error))) from None

    def _found(
        self, texts: list[str], items: list[str], cache: Path | None, seed: int
    ) -> Iterator[tuple[str, Overlap, float, str]]:
        """Yield kind, overlap, bound and what the number is, from the surest kind on."""
        calibrated = len(items) >= LEAST
        if not calibrated and set(self.kinds) <= {"near", "semantic"}:
            raise NotEnoughData(
                f"filter 'decontaminate': {self.against} has {len(items)} items, too few to tell how alike "
                f"different ones are (at least {LEAST}); use kinds=exact+ngram"
            )
        if "exact" in self.kinds:
            first: dict[str, int] = {}
            for row, item in enumerate(items):
                first.setdefault(normalised(item), row)
            place = np.array([first.get(normalised(text), -1) for text in texts], np.int64)
            yield "exact", Overlap((place >= 0).astype(np.float64), place), 1.0, "overlap"
        train, test = words_of(texts), words_of(items)
        if "ngram" in self.kinds:
            found = ngram_overlap(train, test, self.n, 5)
            yield "ngram", found, self.overlap, f"share of {self.n}-grams"
        if "near" in self.kinds and calibrated:
            alike, bound = near_overlap(train, test, self.rate)
            yield "near", alike, bound, "weighted Jaccard"
        if "semantic" in self.kinds and calibrated:
            rows = embed([*texts, *items], self.encoder, cache=cache, seed=seed)
            alike, bound = semantic_overlap(rows[: len(texts)], rows[len(texts) :], self.rate)
            yield "semantic", alike, bound, "cosine"
