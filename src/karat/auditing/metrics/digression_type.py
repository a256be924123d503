"""Of which kind digressions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import judged_dialogues, judged_tables
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Found, Metric, Need, Setting, Summary, Telling, View
from karat.auditing.columns import Columns
from karat.auditing.dialogues import DIALOGUES
from karat.auditing.judged_questions import KINDS_OF_DIGRESSION, digression_type
from karat.auditing.judging import VERSION, read_given

_KINDS = tuple(KINDS_OF_DIGRESSION)


@dataclass(frozen=True)
class DigressionType(Metric):
    """The share of one kind among all digressions: procedural, repetitive, transitional, irrelevant ...

    A judge is asked which kind the main digression of each digressing dialogue is of; a field
    `digression_type` makes it needless. By kind: its share. With human data p tests the share, and mix_p
    the whole mix.
    kind: procedural, repetitive, transitional, irrelevant, misleading, closing or constructive
    records: the most dialogues of each side that are judged; 0: by budget (50, 200, 1000)
    """

    kind: str = "irrelevant"
    records: int = 0

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    judged: ClassVar[bool] = True
    judged_fields: ClassVar[tuple[str, ...]] = ("digression_type",)
    misleads: ClassVar[str] = (
        "Seven kinds are hard to tell apart for people too; nothing corrects the judge here. Shares are of "
        "digressions and not of dialogues."
    )
    cost: ClassVar[str] = "the calls of digression, and one more a digressing dialogue"
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "more digressions of this kind"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, section 8.1 and Figure 19"

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind is {self.kind!r}; choose one of: {', '.join(_KINDS)}")
        if self.records < 0:
            raise ValueError(f"records is {self.records}, but must be 0 (by budget) or more")

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        columns: Columns = candidate[DIALOGUES]
        rows, kinds, by_field = self._kinds(columns, context)
        counts = np.array([kinds.count(kind) for kind in _KINDS], np.int64)
        n = int(counts.sum())
        at = _KINDS.index(self.kind)
        told = [(row, kind) for row, kind in zip(rows, kinds) if kind == self.kind]
        extra: dict[str, Setting] = {"sample": n, "prompts": VERSION}
        extra["judge"] = "field" if by_field or context.judge is None else context.judge.id
        theirs = np.zeros(len(_KINDS), np.int64)
        if reference is not None:
            _, others, _ = self._kinds(reference[DIALOGUES], context)
            theirs = np.array([others.count(kind) for kind in _KINDS], np.int64)
        m = int(theirs.sum())
        table = (int(counts[at]), n, int(theirs[at]), m)
        share, other = (int(c[at]) / max(1, int(c.sum())) for c in (counts, theirs))
        details = {f"count.{kind}": float(count) for kind, count in zip(_KINDS, counts)}
        if n and m:
            details["mix_p"] = mix_p(counts, theirs, context.seed)
        return Comparison(
            share if n else float("nan"),
            stats.wilson(int(counts[at]), n),
            p=judged_tables.fisher_p(table) if n and m else None,
            chance=(table[0] + table[2]) / (n + m) if n and m else None,
            reference=other if m else None,
            reference_interval=stats.wilson(table[2], m),
            difference=share - other if n and m else None,
            difference_interval=judged_tables.share_difference(table) if n and m else None,
            n=n,
            note=f"of {n} digressions" + ("" if by_field else ", uncorrected"),
            details=details,
            extra=extra,
            by={k: (int(c) / n, stats.wilson(int(c), n), int(c)) for k, c in zip(_KINDS, counts) if n},
            warnings=() if by_field or not n else (_unvalidated(),),
            telling=tuple(
                Telling(int(columns.keys[row]), 1.0, f"digresses: {KINDS_OF_DIGRESSION[kind]}")
                for row, kind in told
            ),
        )

    def _kinds(self, columns: Columns, context: Context) -> tuple[list[int], list[str], bool]:
        """Rows of digressing dialogues, the kind of each, and whether a field said so."""
        given = [read_given(value, _KINDS) for value in columns["digression_type"]]
        if any(kind is not None for kind in given):
            pairs = [(i, kind) for i, kind in enumerate(given) if kind is not None]
            return [i for i, _ in pairs], [kind for _, kind in pairs], True
        if context.judge is None:
            return [], [], False
        rows, flags, _ = judged_dialogues.digressing(columns, context, self.records)
        rows = [row for row, flag in zip(rows, flags) if flag]
        side = judged_dialogues.side(columns, "digression_type", _KINDS)
        found = digression_type(context.judge, [(side.ids[i], side.shown(i)) for i in rows])
        pairs = [(i, one.answer) for i, one in zip(rows, found) if one.answer is not None]
        return [i for i, _ in pairs], [kind for _, kind in pairs], False


def mix_p(counts: np.ndarray, theirs: np.ndarray, seed: int, trials: int = 2000) -> float:
    """The p-value of "one mix of kinds on both sides": chi-square, its null by permutation of the sides."""
    both = np.repeat(np.arange(len(counts)), counts + theirs)
    n, total = int(counts.sum()), counts + theirs
    expected = total * n / max(1, len(both))
    known = expected > 0

    def distance(found: np.ndarray) -> float:
        return float((((found - expected) ** 2)[known] / expected[known]).sum())

    rng = np.random.default_rng(seed)
    observed = distance(counts)
    drawn = rng.multivariate_hypergeometric(total, n, size=trials)
    return float((1 + sum(distance(one) >= observed * (1 - 1e-9) for one in drawn)) / (1 + trials))


def _unvalidated() -> Found:
    message = "digression_type: nobody has checked this judge's kinds of digression; read some of its records"
    return Found("judge_unvalidated", message)
