"""The longest run of words that a candidate record shares with the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Comparison, Context, Metric, Need, Setting, Summary, Telling, View, need
from karat.auditing.folded import LIMIT, Words, beside_humans, quote, words_need
from karat.auditing.suffixes import Longest, Suffixes
from karat.auditing.summaries import Sample

_LOOK = 20_000
_SHOWN = 8


@dataclass(frozen=True)
class LongestCopy(Metric):
    """The longest run of words that a record shares with any reference record: its mean over the candidate.

    Case, sentence marks and spaces are folded. Chance is the mean of what human records share with other
    human records. p is one-sided: longer runs are shared with the reference than human records share.
    tokens: the tokeniser, word or whitespace
    records: the most records of each side, the first by hash
    words: the most words of each side, likewise
    """

    tokens: str = "word"
    records: int = 50_000
    words: int = 1_000_000

    family: ClassVar[str] = "contamination"
    misleads: ClassVar[str] = (
        "It grows with the reference and with the length of the records; set phrases of a domain are "
        "long runs "
        "too, which chance shows. One record copied whole hardly moves the mean: read the maximum."
    )
    cost: ClassVar[str] = "O(words log(length)) of a hash sample of at most 1,000,000 words a side"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Read the records with the longest runs; drop those that recite the reference."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "longer copies"
    source: ClassVar[str] = (
        "Manber and Myers 1993, Suffix arrays; Lee et al. 2022, Deduplicating training data"
    )

    def __post_init__(self) -> None:
        for name in ("records", "words"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 1 or more")

    def needs(self) -> tuple[Need, ...]:
        return (words_need(self.tokens, LIMIT), need("sample", limit=_LOOK))

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        mine = candidate[self.needs()[0]].words.first(self.records, self.words)
        theirs = reference[self.needs()[0]].words.first(self.records, self.words)
        groups = candidate.groups
        suffixes = Suffixes(mine.turned(groups), theirs)
        found = suffixes.longest(humans=False, other_groups=False)
        other = suffixes.longest(humans=False, other_groups=True)
        human = suffixes.longest(humans=True, other_groups=True)
        beside = beside_humans(
            _by_group(found, mine, groups), _by_group(other, mine, groups), _by_group(human, theirs, groups)
        )
        chance = beside.human.value if groups > 1 else None
        extra: dict[str, Setting] = {}
        if len(mine) < candidate.records:
            extra["sample"] = len(mine)
        if len(theirs) < reference.records:
            extra["reference_sample"] = len(theirs)
        return Comparison(
            value=beside.value.value,
            interval=beside.value.interval(bounds=self.bounds),
            p=beside.p,
            chance=chance,
            best=chance,
            reference=chance,
            reference_interval=beside.human.interval(bounds=self.bounds),
            difference=beside.gap.value if chance is not None else None,
            difference_interval=beside.gap.interval,
            effect=beside.gap.value / chance + 1 if chance else None,
            effect_name="ratio" if chance else "",
            n=len(mine),
            note=f"the longest run has {int(found.length.max(initial=0)):,} words",
            details=_details(found, mine, "") | _details(human, theirs, "reference."),
            extra=extra,
            telling=self._telling(found, mine, candidate[self.needs()[1]]),
        )

    def _telling(self, found: Longest, mine: Words, sample: Sample) -> tuple[Telling, ...]:
        texts = dict(zip(sample.keys.tolist(), sample.texts, strict=True))
        score = np.where(np.isin(mine.keys, sample.keys), found.length, 0)
        rows = np.lexsort((mine.keys, -score))[:_SHOWN]
        lengths = mine.tokens.lengths
        return tuple(
            Telling(
                int(mine.keys[row]),
                float(score[row]),
                f"{score[row]:,} of its {lengths[row]:,} words stand in one reference record in a row: "
                + quote(texts[int(mine.keys[row])], self.tokens, int(found.start[row]), int(score[row])),
            )
            for row in rows
            if score[row] > 0
        )


def _by_group(found: Longest, words: Words, groups: int) -> tuple[NDArray[Any], NDArray[Any]]:
    sums = np.bincount(words.groups, weights=found.length, minlength=groups)
    return sums, np.bincount(words.groups, minlength=groups)


def _details(found: Longest, words: Words, prefix: str) -> dict[str, float]:
    if len(words) == 0:
        return {}
    details = {f"{prefix}max": float(found.length.max())}
    for share in (0.5, 0.9, 0.99):
        quantile = np.quantile(found.length, share, method="inverted_cdf")
        details[f"{prefix}p{round(100 * share)}"] = float(quantile)
    whole = (found.length == words.tokens.lengths) & words.filled
    details[f"{prefix}whole_records"] = float(whole.mean())
    return details
