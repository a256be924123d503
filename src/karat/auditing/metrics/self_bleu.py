"""How much of each record can be read in the others: BLEU of each against all others, in linear time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Telling, Values, View, everything, need
from karat.auditing.postings import Postings

_SMALL = 0.1  # the count that stands for no match at all: smoothing method 1 of Chen and Cherry 2014


@dataclass(frozen=True)
class SelfBleu(Metric):
    """The mean BLEU of each record with all others as references: 1 if every record is read elsewhere.

    BLEU clips a count by its largest count in any other record, so the two largest counts of each
    n-gram answer for all pairs. Equal to nltk's sentence_bleu with smoothing method 1 for each record.

    n: the longest n-gram
    tokens: the tokeniser, word or whitespace
    limit: the most records used (a hash sample); 0 for all of them
    """

    n: int = 4
    tokens: str = "word"
    limit: int = 20_000

    family: ClassVar[str] = "repetition"
    misleads: ClassVar[str] = (
        "It rises with the number of records and falls with their length: the same source gives .13 "
        "at 100 records and .66 at 100,000. Compare at equal sizes only."
    )
    cost: ClassVar[str] = "O(tokens) of at most 20,000 records (a hash sample)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Vary the prompts (attributes, exemplars) and drop near-duplicates."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    permutations: ClassVar[int] = 20
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace"}
    higher: ClassVar[str] = "more repeated"
    source: ClassVar[str] = "Zhu et al. 2018 (Texygen); Papineni et al. 2002; Chen and Cherry 2014, method 1"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 token")

    def needs(self) -> tuple[Need, ...]:
        return (need("postings", n=self.n, tokens=self.tokens, limit=self.limit),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        postings: Postings = summary[self.needs()[0]]
        out = np.full(len(masks), np.nan)
        for row, mask in enumerate(masks):
            chosen = mask[postings.groups] if len(postings.groups) else np.zeros(0, np.bool_)
            if chosen.sum() > 1:  # one record alone has no others
                # sorted, so that the same records in another order give the same last digit
                out[row] = np.sort(record_bleu(postings, chosen)[chosen]).mean()
        return out

    def extra(self, summary: Summary) -> dict[str, Setting]:
        postings: Postings = summary[self.needs()[0]]
        return {"sample": f"{len(postings.keys)}-records"} if len(postings.keys) < summary.records else {}

    def used(self, summary: Summary) -> int:
        postings: Postings = summary[self.needs()[0]]
        return len(postings.keys)

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        postings: Postings = summary[self.needs()[0]]
        if len(postings.keys) < 2:
            return ()
        scores = record_bleu(postings, everything(summary.groups)[0][postings.groups])
        most = np.argsort(-scores, kind="stable")[:limit]
        return tuple(
            Telling(int(postings.keys[i]), float(scores[i]), f"BLEU {scores[i]:.2f} against all others")
            for i in most
        )


def record_bleu(postings: Postings, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 [D]: BLEU of each chosen record against all other chosen ones; 0 for the rest."""
    lengths = postings.lengths
    logs = np.zeros(len(lengths))
    every = bool(chosen.all())
    for order, (gram, record, count) in enumerate(postings.orders, start=1):
        if not every:
            stays = chosen[record]
            gram, record, count = gram[stays], record[stays], count[stays]
        matched = _clipped(gram, record, count, len(lengths))
        possible = np.maximum(lengths - order + 1, 1)
        logs += np.log(np.where(matched > 0, matched, _SMALL) / possible)
        if order == 1:
            unmatched = matched == 0  # without one common word BLEU is 0, whatever the smoothing
    scores = np.exp(logs / len(postings.orders)) * _brevity(lengths, chosen)
    return np.where(chosen & ~unmatched, scores, 0.0)


def _clipped(
    gram: NDArray[np.int32], record: NDArray[np.int32], count: NDArray[np.int32], records: int
) -> NDArray[np.float64]:
    """float64 [D]: the n-grams of each record that are matched, each clipped by its count elsewhere."""
    if len(gram) == 0:
        return np.zeros(records)
    new = np.empty(len(gram), np.bool_)
    new[0] = True
    np.not_equal(gram[1:], gram[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    holders = np.diff(np.append(starts, len(gram)))
    largest = np.maximum.reduceat(count, starts)
    top = np.repeat(largest, holders)
    is_top = count == top
    # The largest count elsewhere is the largest of all, except for its only holder.
    only = np.repeat(np.add.reduceat(is_top, starts, dtype=np.int32) == 1, holders) & is_top
    second = np.repeat(np.maximum.reduceat(np.where(is_top, 0, count), starts), holders)
    clipped = np.where(only, second, count)
    return np.bincount(record, weights=clipped, minlength=records).astype(np.float64)


def _brevity(lengths: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 [D]: the penalty for being shorter than the nearest other length (of two, the shorter)."""
    present, counts = np.unique(lengths[chosen], return_counts=True)
    at = np.searchsorted(present, lengths)
    at = np.minimum(at, len(present) - 1)
    shorter = np.where(at > 0, present[np.maximum(at - 1, 0)], -(1 << 40))
    longer = np.where(at + 1 < len(present), present[np.minimum(at + 1, len(present) - 1)], 1 << 40)
    nearest = np.where(lengths - shorter <= longer - lengths, shorter, longer)
    nearest = np.where(counts[at] > 1, lengths, nearest)
    gap = 1 - nearest / np.maximum(lengths, 1)
    return np.exp(np.minimum(gap, 0.0))
