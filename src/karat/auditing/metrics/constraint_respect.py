"""Whether completions keep the constraints that their prompts set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.columns import Columns
from karat.auditing.instruction_constraints import Constraint, constraints
from karat.auditing.instructions import INSTRUCTIONS, opened
from karat.auditing.ratios import ratio, told

Told = list[list[tuple[Constraint, bool]]]


@dataclass(frozen=True)
class ConstraintRespect(Metric):
    """The share of completions that keep all constraints of their prompt, of those with one to check.

    Checked by program, in English: numbers of words, sentences, paragraphs, lines or characters, lists of N,
    first and last phrases, words to use or avoid, no commas, one case, JSON, yes or no. A limit "in 50 words"
    bears a tenth more, "about 50" a fifth either way. By kind in the details.
    """

    family: ClassVar[str] = "instruction"
    datatypes: ClassVar[tuple[str, ...]] = ("instruction",)
    misleads: ClassVar[str] = (
        "Few prompts hold such a constraint, and constraints of meaning are not checked; a list that is "
        "written as prose is left out. Keeping the form says nothing of the content."
    )
    cost: ClassVar[str] = "O(characters)"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Drop the records that break their own prompt, or ask for their completions again."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "constraints kept more often"
    source: ClassVar[str] = "Zhou et al. 2023, IFEval (verifiable instructions), prompt-level accuracy"

    def needs(self) -> tuple[Need, ...]:
        return (INSTRUCTIONS,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        columns: Columns = summary[INSTRUCTIONS]
        found = _told(columns)
        kept = np.array([bool(one) and all(held for _, held in one) for one in found], np.float64)
        return ratio(masks, columns.groups, kept, np.array([bool(one) for one in found], np.float64))

    def best(self, summary: Summary) -> float:
        return 1.0

    def used(self, summary: Summary) -> int:
        return sum(bool(one) for one in _told(summary[INSTRUCTIONS]))

    def details(self, summary: Summary) -> dict[str, float]:
        found = _told(summary[INSTRUCTIONS])
        kinds: dict[str, list[bool]] = defaultdict(list)
        for one in found:
            for constraint, held in one:
                kinds[constraint.kind].append(held)
        shares = {f"kept.{kind}": float(np.mean(held)) for kind, held in sorted(kinds.items())}
        counts = {f"count.{kind}": float(len(held)) for kind, held in sorted(kinds.items())}
        total = len(found) or 1
        return {"with_constraint": sum(bool(one) for one in found) / total} | shares | counts

    def note(self, summary: Summary) -> str:
        found = self.details(summary)
        return f"{found['with_constraint']:.1%} of the prompts set a constraint that can be checked"

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        columns: Columns = summary[INSTRUCTIONS]
        broken = [[one.quote for one, held in row if not held] for row in _told(columns)]
        amount = np.array([len(one) for one in broken], np.float64)
        return told(columns.keys, amount, lambda i: f"does not keep: {'; '.join(broken[i][:3])}", limit)


def _told(columns: Columns) -> Told:
    """For each record its constraints that can be told, and whether each is kept; worked out once."""
    if "constraints" not in columns.memo:
        rows = opened(columns)
        extra = ["" if one is None else str(one) for one in columns["constraints"]]
        found: Told = []
        for asked, more, said in zip(rows.instructions, extra, rows.completions, strict=True):
            held = [(one, one.holds(said)) for one in constraints(f"{asked}\n{more}")]
            found.append([(one, kept) for one, kept in held if kept is not None])
        columns.memo["constraints"] = found
    told_ones: Told = columns.memo["constraints"]
    return told_ones
