"""How much longer completions are than human ones to instructions of the same type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import instructions
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Found, Metric, Need, Summary, Telling, View
from karat.auditing.columns import Columns
from karat.auditing.instruction_types import task_kind
from karat.auditing.instructions import INSTRUCTIONS
from karat.texts.overlap import Floats, words

_LEAST = 5  # records of a type on each side


@dataclass(frozen=True)
class LengthGivenType(Metric):
    """The length of completions as a multiple of human ones, between instructions of the same type.

    exp of the mean difference of log(1 + words), types weighted by n m / (n + m). Types are open and closed
    where a field qa_type says so on both sides, else ten rough kinds of task found by verb and first word
    (write, list, explain, rewrite, choose ... questions). By type: the ratio; `raw`: without any control.
    per: type, or qa_type alone or kind alone
    """

    per: str = "type"

    family: ClassVar[str] = "instruction"
    datatypes: ClassVar[tuple[str, ...]] = ("instruction",)
    misleads: ClassVar[str] = (
        "Kinds of task are rough, and within a kind tasks still differ; the control removes what the kinds "
        "explain and no more. Empty completions count as one word."
    )
    cost: ClassVar[str] = "O(tokens), in Python"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Ask for the length that people write, by type of task: judges favour length for itself.",
        "lower": "Ask for fuller answers where people give them, and look for completions that were cut.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "longer than human completions"
    source: ClassVar[str] = (
        "Cochran 1968, adjustment by subclassification; Das et al. 2024, section 7.1 (types)"
    )

    def __post_init__(self) -> None:
        if self.per not in ("type", "qa_type", "kind"):
            raise ValueError(f"per is {self.per!r}; choose one of: type, qa_type, kind")

    def needs(self) -> tuple[Need, ...]:
        return (INSTRUCTIONS,)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        columns: Columns = candidate[INSTRUCTIONS]
        others: Columns = reference[INSTRUCTIONS]
        mine, theirs, what = self._types(columns, others)
        a, b = _logs(columns), _logs(others)
        raw = float(np.exp(a.mean() - b.mean())) if len(a) and len(b) else float("nan")
        strata = [
            kind for kind in dict.fromkeys(sorted(mine)) if _enough(mine, kind) and _enough(theirs, kind)
        ]
        cells = [(a[_of(mine, kind)], b[_of(theirs, kind)]) for kind in strata]
        if not cells:
            note = f"no type has {_LEAST} records on both sides"
            return Comparison(float("nan"), chance=1.0, best=1.0, note=note, details={"raw": raw})
        gap, error, df = adjusted(cells)
        n = sum(len(one) for one, _ in cells)
        ends = _ends(gap, error, df)
        share = _explained(a, b, gap)
        return Comparison(
            float(np.exp(gap)),
            ends,
            p=stats.t_p(gap / error, df) if error > 0 else None,
            chance=1.0,
            best=1.0,
            n=n,
            note=f"within {len(strata)} {what}; {raw:.2f} times as long without that control",
            details={"raw": raw, "types": float(len(strata)), "explained": share},
            extra={"types": what.replace(" ", "_")},
            effect=_effect(cells),
            effect_name="cliffs_delta",
            warnings=_warnings(share, raw),
            by={kind: _ratio(one, other) for kind, (one, other) in zip(strata, cells)},
            telling=_telling(
                columns, mine, {k: float(other.mean()) for k, (_, other) in zip(strata, cells)}, a
            ),
        )

    def _types(self, columns: Columns, others: Columns) -> tuple[list[str], list[str], str]:
        """The type of each record of both sides, and what the types are."""
        given = [instructions.qa_types(one) for one in (columns, others)]
        known = all(any(kind is not None for kind in one) for one in given)
        if self.per == "qa_type" or (self.per == "type" and known):
            mine, theirs = ([kind or "" for kind in one] for one in given)
            return mine, theirs, "types of question"
        mine, theirs = (
            [task_kind(text) for text in instructions.opened(one).instructions] for one in (columns, others)
        )
        return mine, theirs, "kinds of task"


Cells = Sequence[tuple[Floats, Floats]]


def adjusted(cells: Cells) -> tuple[float, float, float]:
    """The difference of means within strata, its error, and degrees of freedom (Satterthwaite 1946).

    Stratum j has weight n m / (n + m), best where the variance is the same everywhere (Cochran 1954).
    """
    weights = np.array([len(one) * len(other) / (len(one) + len(other)) for one, other in cells])
    weights = weights / weights.sum()
    gap, variance, parts = 0.0, 0.0, 0.0
    for weight, (one, other) in zip(weights, cells):
        gap += weight * float(one.mean() - other.mean())
        for side in (one, other):
            share = float(weight**2 * side.var(ddof=1) / len(side))
            variance += share
            parts += share**2 / (len(side) - 1)
    return gap, float(np.sqrt(variance)), variance**2 / parts if parts > 0 else 1.0


def _ends(gap: float, error: float, df: float) -> tuple[float, float] | None:
    if not error > 0:
        return None
    reach = stats.t_quantile(0.975, df) * error
    return float(np.exp(gap - reach)), float(np.exp(gap + reach))


def _ratio(one: Floats, other: Floats) -> tuple[float, tuple[float, float] | None, int]:
    gap, error, df = adjusted([(one, other)])
    return float(np.exp(gap)), _ends(gap, error, df), len(one)


def _effect(cells: Cells) -> float:
    """Cliff's delta within strata: P(longer) - P(shorter) than a human completion of the same type."""
    weights = np.array([len(one) * len(other) / (len(one) + len(other)) for one, other in cells])
    areas = np.array([2 * stats.auc(one, other).auc - 1 for one, other in cells])
    return float((weights * areas).sum() / weights.sum())


def _explained(a: Floats, b: Floats, gap: float) -> float:
    """The share of the raw difference that the types explain; nan where there is next to none."""
    raw = float(a.mean() - b.mean())
    return 1 - gap / raw if abs(raw) > 0.02 else float("nan")


def _warnings(share: float, raw: float) -> tuple[Found, ...]:
    if not share > 0.5:
        return ()
    message = (
        f"length_given_type: {share:.0%} of the difference in length ({raw:.2f} times) comes from other "
        "types of tasks; compare metrics that feel length within types (--by), or draw like types for both"
    )
    return (Found("length_confounded", message),)


def _logs(columns: Columns) -> Floats:
    """float64 [n]: log(1 + words) of each completion."""
    return np.log1p([len(words(text)) for text in instructions.opened(columns).completions])


def _of(kinds: list[str], kind: str) -> NDArray[np.int64]:
    return np.flatnonzero(np.array([one == kind for one in kinds]))


def _enough(kinds: list[str], kind: str) -> bool:
    return bool(kind) and kinds.count(kind) >= _LEAST


def _telling(
    columns: Columns, kinds: list[str], usual: Mapping[str, float], logs: Floats
) -> tuple[Telling, ...]:
    """The completions that are longest beside what people write for their type."""
    more = np.array([log - usual[kind] if kind in usual else 0.0 for kind, log in zip(kinds, logs)])
    order = np.lexsort((columns.keys, -more))[:8]
    return tuple(
        Telling(
            int(columns.keys[i]),
            float(more[i]),
            f"{np.expm1(logs[i]):.0f} words; people write about {np.expm1(usual[kinds[i]]):.0f} ({kinds[i]})",
        )
        for i in order
        if more[i] > 0
    )
