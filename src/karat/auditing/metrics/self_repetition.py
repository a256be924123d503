"""How much of each record's wording comes back in other records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Telling, Values, View, everything, need
from karat.auditing.postings import Postings


@dataclass(frozen=True)
class SelfRepetition(Metric):
    """The mean over records of log(1 + how often its different 4-grams stand in other records).

    An n-gram of a record counts once for each other record that has it.

    n: the number of tokens of an n-gram
    tokens: the tokeniser, word or whitespace
    limit: the most records used (a hash sample); 0 for all of them
    """

    n: int = 4
    tokens: str = "word"
    limit: int = 20_000

    family: ClassVar[str] = "repetition"
    misleads: ClassVar[str] = (
        "It rises with the number of records and with their length; set phrases of a genre count too."
    )
    cost: ClassVar[str] = "O(tokens) of at most 20,000 records (a hash sample)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Vary the prompts (attributes, exemplars), and drop records that repeat others' wording."
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    permutations: ClassVar[int] = 20
    paper: ClassVar[Mapping[str, Setting]] = {"tokens": "whitespace", "limit": 0}
    higher: ClassVar[str] = "more repeated"
    source: ClassVar[str] = (
        "Salkar et al. 2022, Self-repetition in abstractive neural summarizers; Shaib et al. 2024"
    )

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
            if chosen.any():
                # sorted, so that the same records in another order give the same last digit
                out[row] = np.sort(np.log1p(repeats(postings, self.n, chosen)[chosen])).mean()
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
        found = repeats(postings, self.n, everything(summary.groups)[0][postings.groups])
        most = np.argsort(-found, kind="stable")[:limit]
        return tuple(
            Telling(
                int(postings.keys[i]),
                float(np.log1p(found[i])),
                f"its {self.n}-grams stand {int(found[i]):,} times in other records",
            )
            for i in most
            if found[i] > 0
        )


def repeats(postings: Postings, n: int, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 [D]: how often the different n-grams of each chosen record stand in other chosen ones."""
    gram, record, _ = postings.orders[n - 1]
    stays = chosen[record]
    gram, record = gram[stays], record[stays]
    if len(gram) == 0:
        return np.zeros(len(chosen))
    elsewhere = np.bincount(gram)[gram] - 1
    return np.bincount(record, weights=elsewhere, minlength=len(chosen)).astype(np.float64)
