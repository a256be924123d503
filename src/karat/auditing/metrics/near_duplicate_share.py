"""The share of records that say again, nearly word for word, what another one says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Telling, Values, View, need
from karat.auditing.near_duplicates import Alike


@dataclass(frozen=True)
class NearDuplicateShare(Metric):
    """The share of records that are a near-duplicate of an earlier one, in hash order.

    Two records are if the Jaccard coefficient of their sets of word 5-grams is at least 0.8; a record of
    fewer words is one shingle as a whole. All pairs are found, by an exact join. Case, sentence marks and
    spaces are folded first.

    threshold: the Jaccard coefficient from which two records are near-duplicates
    n: words a shingle
    method: exact, minhash (which misses a few pairs, and says how many), or auto: exact unless too dear
    fold: leave case, sentence marks and spaces aside
    limit: the most records used (a hash sample); 0 for all of them
    tokens: the tokeniser, word or whitespace
    """

    threshold: float = 0.8
    n: int = 5
    method: Literal["auto", "exact", "minhash"] = "auto"
    fold: bool = True
    limit: int = 200_000
    tokens: str = "word"

    family: ClassVar[str] = "repetition"
    misleads: ClassVar[str] = (
        "It rises with the number of records; one word changed in a short record breaks most shingles, "
        "so rewordings are not seen."
    )
    cost: ClassVar[str] = "O(shingles) and the candidates of a prefix-filter join, of at most 200,000 records"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Drop near-duplicates before training, and vary the prompts that they come from."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    permutations: ClassVar[int] = 20
    higher: ClassVar[str] = "more repeated"
    source: ClassVar[str] = (
        "Broder 1997; Bayardo, Ma and Srikant 2007, Scaling up all pairs similarity search"
    )

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; give a share above 0, up to 1")
        if self.n < 1:
            raise ValueError(f"n is {self.n}; a shingle has at least 1 word")

    def needs(self) -> tuple[Need, ...]:
        settings: dict[str, Setting] = {"n": self.n, "tokens": self.tokens, "fold": self.fold}
        most = 40 * self.limit
        settings |= {"limit": self.limit, "most": most, "threshold": self.threshold, "method": self.method}
        return (need("neighbours", **settings),)

    def values(self, summary: Summary, masks: Masks) -> Values:
        alike: Alike = summary[self.needs()[0]]
        return alike.shares(masks)

    def extra(self, summary: Summary) -> dict[str, Setting]:
        alike: Alike = summary[self.needs()[0]]
        found: dict[str, Setting] = {"recall": round(alike.recall, 4)} if alike.recall < 1 else {}
        return found | ({"sample": f"{len(alike)}-records"} if len(alike) < summary.records else {})

    def used(self, summary: Summary) -> int:
        return len(summary[self.needs()[0]])

    def note(self, summary: Summary) -> str:
        alike: Alike = summary[self.needs()[0]]
        parts = []
        if alike.recall < 1:
            parts.append(f"by MinHash, which finds {alike.recall:.1%} of the pairs at the threshold")
        if alike.cut:
            parts.append(
                "some records had too many candidates to look at all, so the share may be a little higher"
            )
        return "; ".join(parts)

    def details(self, summary: Summary) -> dict[str, float]:
        alike: Alike = summary[self.needs()[0]]
        return {
            "classes": float(alike.classes.max(initial=-1) + 1),
            "pairs_of_classes": float(len(alike.one)),
        }

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        alike: Alike = summary[self.needs()[0]]
        return tuple(
            Telling(
                int(alike.keys[row]),
                float(many),
                f"{many:,} near-duplicates, among them {name} (Jaccard {how:.2f})",
            )
            for row, many, name, how in alike.crowded(limit)
        )
