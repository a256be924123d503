"""The share of the candidate's n-grams that stand in the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, Telling, View, need
from karat.auditing.folded import (
    LIMIT,
    Words,
    beside_humans,
    elsewhere,
    grams,
    holders,
    longest_run,
    quote,
    words_need,
)
from karat.auditing.summaries import Sample

_LOOK = 20_000
_SHOWN = 8


@dataclass(frozen=True)
class CopiedShare(Metric):
    """The share of the candidate's n-grams that stand somewhere in the reference, repeats counted.

    Case, sentence marks and spaces are folded. Chance is the share of a human record's n-grams that stand in
    other human records: common phrases are no copies. p is one-sided: the candidate takes more from the
    reference than human records take from each other, both held against the same records.
    n: the number of words of an n-gram
    tokens: the tokeniser, word or whitespace
    limit: records of each side that are looked at, the first by hash; 0: all
    """

    n: int = 8
    tokens: str = "word"
    limit: int = LIMIT

    family: ClassVar[str] = "contamination"
    misleads: ClassVar[str] = (
        "It grows with the reference, and with boiler-plate that both sides share; a paraphrase "
        "shares no long "
        "n-grams. What was copied from text outside the reference is not seen."
    )
    cost: ClassVar[str] = "O(tokens) of at most 500,000 records a side, 8 bytes a word"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Drop the records that copy most, and show the generator fewer or other examples: "
            "what stands in the reference already adds nothing to it."
        )
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "more copied"
    source: ClassVar[str] = "McCoy et al. 2023, How much do language models copy (1 - n-gram novelty)"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 word")
        if self.limit < 0:
            raise ValueError(f"limit is {self.limit}, but must be 0 (all) or more")

    def needs(self) -> tuple[Need, ...]:
        return (words_need(self.tokens, self.limit), need("sample", limit=_LOOK))

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        mine, theirs = candidate[self.needs()[0]].words, reference[self.needs()[0]].words
        groups = candidate.groups
        copied, other, total = self._counts(mine.turned(groups), theirs)
        _, repeated, known = self._counts(theirs, theirs)
        beside = beside_humans(
            (_by_group(copied, mine, groups), _by_group(total, mine, groups)),
            (_by_group(other, mine, groups), _by_group(total, mine, groups)),
            (_by_group(repeated, theirs, groups), _by_group(known, theirs, groups)),
        )
        value, able = beside.value.value, int((total > 0).sum())
        interval = beside.value.interval(bounds=self.bounds)
        if value in (0.0, 1.0) and beside.value.error == 0:
            interval = stats.wilson(round(value) * able, able)
        human = beside.human.value if np.isfinite(beside.human.value) else None
        return Comparison(
            value=value,
            interval=interval,
            p=beside.p,
            chance=human,
            best=human,
            reference=human,
            reference_interval=beside.human.interval(bounds=self.bounds),
            difference=beside.gap.value if human is not None else None,
            difference_interval=beside.gap.interval,
            n=len(mine),
            note=_note(able, mine, self.n),
            details={
                "records_with_copies": float((copied > 0).sum() / max(1, able)),
                "records_all_copied": float(((copied == total) & (total > 0)).sum() / max(1, able)),
                "copied_ngrams": float(copied.sum()),
                "ngrams": float(total.sum()),
            },
            extra=_sampled(mine, theirs, candidate, reference),
            telling=self._telling(mine, theirs, copied, candidate[self.needs()[1]]),
        )

    def _counts(self, words: Words, corpus: Words) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """For each record: n-grams in the corpus, in groups of it other than its own, and in all."""
        hashes, owner = grams(words, self.n)
        sets = holders(hashes, corpus, self.n)
        away = elsewhere(sets, words.groups[owner])
        n = len(words)
        return (
            np.bincount(owner[sets != 0], minlength=n),
            np.bincount(owner[away], minlength=n),
            np.bincount(owner, minlength=n),
        )

    def _telling(
        self, mine: Words, theirs: Words, copied: NDArray[Any], sample: Sample
    ) -> tuple[Telling, ...]:
        """The records with the most copied n-grams, with the first words of the longest run of them."""
        texts = dict(zip(sample.keys.tolist(), sample.texts, strict=True))
        score = np.where(np.isin(mine.keys, sample.keys), copied, 0)
        rows = np.argsort(-score, kind="stable")[:_SHOWN]
        few = mine.take(rows[score[rows] > 0])
        hashes, owner = grams(few, self.n)
        held = holders(hashes, theirs, self.n) != 0
        found = []
        for row in range(len(few)):
            flags = held[owner == row]
            start, length = longest_run(flags)
            text = quote(texts[int(few.keys[row])], self.tokens, start, length + self.n - 1)
            reason = f"{flags.sum():,} of {len(flags):,} {self.n}-grams stand in the reference: {text}"
            found.append(Telling(int(few.keys[row]), float(flags.sum()), reason))
        return tuple(found)


def _by_group(counts: NDArray[Any], words: Words, groups: int) -> NDArray[np.float64]:
    sums = np.bincount(words.groups, weights=counts, minlength=groups).astype(np.float64)
    return sums


def _note(able: int, words: Words, n: int) -> str:
    short = int(words.filled.sum()) - able
    return f"{short:,} records of fewer than {n} words have no {n}-gram" if short else ""


def _sampled(mine: Words, theirs: Words, candidate: Summary, reference: Summary) -> dict[str, int]:
    """The sizes of the samples, where a side is larger than what is looked at."""
    found = {}
    if len(mine) < candidate.records:
        found["sample"] = len(mine)
    if len(theirs) < reference.records:
        found["reference_sample"] = len(theirs)
    return found
