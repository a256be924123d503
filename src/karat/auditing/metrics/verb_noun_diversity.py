"""How many different things instructions ask for: their verbs and objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.instruction_verbs import verb_noun
from karat.auditing.instructions import INSTRUCTIONS, opened
from karat.auditing.ratios import told

Pair = tuple[str, str]


@dataclass(frozen=True)
class VerbNounDiversity(Metric):
    """The entropy of the pairs of root verb and object of instructions (write story, list ways), in bits.

    Found by a lexicon and rules (karat.auditing.instruction_verbs: right on 57 of 60 hand-labelled
    instructions, English only). Instructions without a pair, such as questions, are left out; the share that
    has one is given. Both sides are compared at equal records, since entropy grows with them.
    measure: entropy (bits), or distinct (different pairs divided by records that have one)
    """

    measure: str = "entropy"

    family: ClassVar[str] = "instruction"
    datatypes: ClassVar[tuple[str, ...]] = ("instruction",)
    misleads: ClassVar[str] = (
        "A long preamble (a role, a description of tools) hides the verb that matters, and questions have "
        "none: read the share that has a pair. It grows with the number of records."
    )
    cost: ClassVar[str] = "O(tokens), in Python"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Seed with other tasks, ask for verbs that are missing, filter by likeness to what is there."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    higher: ClassVar[str] = "more different tasks"
    source: ClassVar[str] = "Wang et al. 2023, Self-Instruct, section 4.1 and Figure 3 (with a parser)"

    def __post_init__(self) -> None:
        if self.measure not in ("entropy", "distinct"):
            raise ValueError(f"measure is {self.measure!r}; choose entropy or distinct")

    def needs(self) -> tuple[Need, ...]:
        return (INSTRUCTIONS,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        rows = opened(summary[INSTRUCTIONS])
        pairs = pairs_of(summary)
        known = np.array([pair is not None for pair in pairs], np.bool_)
        codes = coded([pair for pair in pairs if pair is not None])
        groups = rows.groups[known]
        found = np.full(len(masks), np.nan)
        kinds = int(codes.max(initial=-1)) + 1
        for k, mask in enumerate(masks):  # one mask at a time: all of them would be masks x pairs numbers
            counts = np.bincount(codes[mask[groups]], minlength=kinds)
            counts = counts[counts > 0]
            if not len(counts):
                continue
            shares = counts / counts.sum()
            distinct = len(counts) / counts.sum()
            found[k] = -(shares * np.log2(shares)).sum() if self.measure == "entropy" else distinct
        return found

    def details(self, summary: Summary) -> dict[str, float]:
        pairs = pairs_of(summary)
        known = Counter(pair for pair in pairs if pair is not None)
        n = sum(known.values())
        found = {
            "with_pair": n / len(pairs) if pairs else float("nan"),
            "pairs": float(len(known)),
            "verbs": float(len({verb for verb, _ in known})),
            "nouns": float(len({noun for _, noun in known})),
        }
        return found | {f"share.{verb} {noun}": count / n for (verb, noun), count in known.most_common(20)}

    def note(self, summary: Summary) -> str:
        found = self.details(summary)
        note = f"{found['with_pair']:.0%} of the instructions have a verb and an object"
        return note + f"; {found['pairs']:.0f} different pairs"

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        """The first record of each of the commonest pairs."""
        rows = opened(summary[INSTRUCTIONS])
        pairs = pairs_of(summary)
        counts = Counter(pair for pair in pairs if pair is not None)
        amount = np.zeros(len(pairs))
        for pair, count in counts.most_common(limit):
            if count > 1:
                amount[pairs.index(pair)] = count

        def reason(i: int) -> str:
            verb, noun = pairs[i] or ("", "")
            return f"one of {counts[verb, noun]:,} that ask: {verb} {noun}"

        return told(rows.keys, amount, reason, limit)


def pairs_of(summary: Summary) -> list[Pair | None]:
    """The pair of each instruction, None where none is found; worked out once."""
    memo = summary[INSTRUCTIONS].memo
    if "verb_noun" not in memo:
        memo["verb_noun"] = [verb_noun(text) for text in opened(summary[INSTRUCTIONS]).instructions]
    found: list[Pair | None] = memo["verb_noun"]
    return found


def coded(pairs: list[Pair]) -> NDArray[np.int64]:
    """int64 [n]: a number for each pair, equal for equal pairs."""
    numbers: dict[Pair, int] = {}
    return np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs], np.int64)
