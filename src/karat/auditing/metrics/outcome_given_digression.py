"""Whether tasks fail more often in dialogues that digress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import judged_dialogues, judged_tables
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Found, Metric, Need, Summary, Telling, View, need
from karat.auditing.columns import Columns
from karat.auditing.dialogues import DIALOGUES, opened
from karat.auditing.judged_tables import Table

_BANDS = 4


@dataclass(frozen=True)
class OutcomeGivenDigression(Metric):
    """The success rate of dialogues with a digression minus that of dialogues without; 0 is no connection.

    p is Fisher's exact test. Beside it the odds ratio with its exact interval, and both within strata: within
    equal lengths always, and within the values of a field if one is named.
    good: outcomes that count as success, besides 1 and true
    within: a field whose values are kept apart, for example human_like or model
    records: the most dialogues that are judged where no field `digression` says it; 0: by budget
    """

    good: tuple[str, ...] = ("true", "yes", "correct", "right", "success", "solved", "pass", "passed")
    within: str = ""
    records: int = 0

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    judged: ClassVar[bool] = True
    judged_fields: ClassVar[tuple[str, ...]] = ("digression",)
    misleads: ClassVar[str] = (
        "A connection, not a cause: hard tasks make long dialogues, which digress and fail. Errors of the "
        "judge pull it towards 0."
    )
    cost: ClassVar[str] = "the calls of digression, unless a field holds the answers"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Filter by outcome rather than by digression, and look at the failed ones that wander."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    higher: ClassVar[str] = "digressing dialogues succeed more often"
    source: ClassVar[str] = (
        "Das et al. 2024, section 8.1; Fisher 1922; Newcombe 1998, method 10; Mantel and Haenszel 1959"
    )

    def __post_init__(self) -> None:
        if self.records < 0:
            raise ValueError(f"records is {self.records}, but must be 0 (by budget) or more")

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if "outcome" not in candidate.fields:
            return "needs a field outcome (whether the task of each dialogue was solved)"
        if self.within and self.within.partition(".")[0] not in {*candidate.fields, "lineage"}:
            return f"needs the field {self.within} that `within` names"
        return ""

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES, *((need("columns", fields=self.within),) if self.within else ()))

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        columns: Columns = candidate[DIALOGUES]
        rows, flags, by_field = judged_dialogues.digressing(columns, context, self.records)
        outcome = judged_dialogues.outcomes(columns, self.good)
        pairs = [(row, flag) for row, flag in zip(rows, flags) if np.isfinite(outcome[row])]
        chosen = np.array([row for row, _ in pairs], np.int64)
        digresses = np.array([flag for _, flag in pairs], np.bool_)
        good = outcome[chosen] > 0
        table = tabled(good, digresses)
        if not (table[1] and table[3]):
            note = f"{table[1]} dialogues with a digression and {table[3]} without: both are needed"
            return Comparison(float("nan"), chance=0.0, best=0.0, n=len(chosen), note=note)
        lengths = opened(columns).lengths[chosen]
        edges = np.unique(np.quantile(lengths, np.linspace(0, 1, _BANDS + 1)[1:-1]))
        by = {
            "with digression": (table[0] / table[1], stats.wilson(table[0], table[1]), table[1]),
            "without digression": (table[2] / table[3], stats.wilson(table[2], table[3]), table[3]),
        }
        details = _odds(table)
        details |= _stratified("equal_lengths", good, digresses, np.searchsorted(edges, lengths))
        if self.within:
            names, codes = candidate[self.needs()[1]].numbered(self.within)
            details |= _stratified(self.within, good, digresses, codes[chosen])
            for code, name in enumerate(names):
                part = tabled(good[codes[chosen] == code], digresses[codes[chosen] == code])
                if part[1] and part[3]:
                    value = part[0] / part[1] - part[2] / part[3]
                    size = part[1] + part[3]
                    by[f"{self.within} {name}"] = (value, judged_tables.share_difference(part), size)
                    details[f"p.{self.within} {name}"] = judged_tables.fisher_p(part)
        odds = judged_tables.odds_ratio(table)
        return Comparison(
            table[0] / table[1] - table[2] / table[3],
            judged_tables.share_difference(table),
            p=judged_tables.fisher_p(table),
            chance=0.0,
            best=0.0,
            n=len(chosen),
            note=_note(table, details, by_field),
            details=details,
            extra={} if by_field or context.judge is None else {"judge": context.judge.id},
            effect=odds.value,
            effect_name="odds_ratio",
            by=by,
            warnings=() if by_field else (_unvalidated(),),
            telling=tuple(
                Telling(int(columns.keys[row]), 1.0, "digresses and fails")
                for row in chosen[digresses & ~good][:8]
            ),
        )


def tabled(good: np.ndarray, digresses: np.ndarray) -> Table:
    """Successes and dialogues with a digression, then those without."""
    return (
        int((good & digresses).sum()),
        int(digresses.sum()),
        int((good & ~digresses).sum()),
        int((~digresses).sum()),
    )


def _odds(table: Table) -> dict[str, float]:
    odds = judged_tables.odds_ratio(table)
    found = {"odds_ratio": odds.value}
    if odds.interval is not None:
        found |= {"odds_ratio_low": odds.interval[0], "odds_ratio_high": odds.interval[1]}
    return found


def _stratified(name: str, good: np.ndarray, digresses: np.ndarray, strata: np.ndarray) -> dict[str, float]:
    tables = [tabled(good[strata == one], digresses[strata == one]) for one in np.unique(strata)]
    return {
        f"p_within_{name}": judged_tables.stratified_p(tables),
        f"odds_ratio_within_{name}": judged_tables.common_odds_ratio(tables).value,
    }


def _note(table: Table, details: Mapping[str, float], by_field: bool) -> str:
    note = f"{table[0]}/{table[1]} succeed with a digression, {table[2]}/{table[3]} without"
    note += f"; at equal lengths p = {details['p_within_equal_lengths']:.3g}"
    return note if by_field else note + "; digressions uncorrected"


def _unvalidated() -> Found:
    message = "outcome_given_digression: the judge's digressions are taken as they are; validate `digression`"
    return Found("judge_unvalidated", message)
