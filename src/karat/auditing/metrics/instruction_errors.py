"""How many instruction records are spoilt by an error, and by which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from karat.auditing import instructions, judged_questions, judged_rates
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, View
from karat.auditing.columns import Columns
from karat.auditing.instructions import INSTRUCTIONS, NO_ERROR
from karat.auditing.judged_questions import ERRORS
from karat.auditing.judged_rates import By, Panel, Query, Side


@dataclass(frozen=True)
class InstructionErrors(Metric):
    """The share of instruction records with an error, annotated by people or found by a judge.

    Four types: incomprehensible instruction, inconsistent input, inconsistent output, incorrect output.
    People's annotations are read from `errors`, or from error, second_error and third_error (up to three a
    record, as in a sheet of karat.auditing.instructions.annotation_sheet); a judge names the worst one. By
    source, by open and closed questions (field qa_type, or the judge), and by type of error.
    records: the most records of each side that are judged; 0: by budget (50, 200, 1000)
    sampled: how the records that people judged were drawn: random, chosen, or auto (as they look)
    """

    records: int = 0
    sampled: str = "auto"

    family: ClassVar[str] = "instruction"
    datatypes: ClassVar[tuple[str, ...]] = ("instruction",)
    judged: ClassVar[bool] = True
    judged_fields: ClassVar[tuple[str, ...]] = ("errors", "error", "second_error", "third_error")
    misleads: ClassVar[str] = (
        "Annotators differ in what they call an error, and so do judges; rates of two sources compare only "
        "if the same people or the same judge looked at both without knowing which is which."
    )
    cost: ClassVar[str] = "nothing where people annotated; else one or two calls of the judge a record"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Drop the records with errors, and look at the commonest type first; ask again for those."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "more spoilt records"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, section 7.1 and Figure 13"

    def __post_init__(self) -> None:
        judged_rates.check(self.records, self.sampled)

    def needs(self) -> tuple[Need, ...]:
        return (INSTRUCTIONS,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        columns: Columns = candidate[INSTRUCTIONS]
        mine = _side(columns)
        theirs = None if reference is None else _side(reference[INSTRUCTIONS])
        answers = {name for side in (mine, theirs) if side for name in side.given if name is not None}
        query = Query(
            "instruction_errors",
            (*ERRORS, *sorted(answers - ERRORS.keys())),
            frozenset(answers | ERRORS.keys()) - {NO_ERROR},
            judged_questions.instruction_error,
            sampled=self.sampled,
            records=self.records,
        )
        found = judged_rates.judged_rate(
            mine, theirs, query, context, parts=lambda panel: _parts(panel, columns, mine, context)
        )
        told = tuple(
            replace(one, reason=_reason(columns, int(one.key)) or one.reason) for one in found.telling
        )
        return replace(found, telling=told)


def _side(columns: Columns) -> Side:
    """The records of one corpus; `given` is the first error that people found, or none."""
    rows = instructions.opened(columns)
    found = instructions.errors_of(columns)
    known = any(one is not None for one in found)
    given = [None if one is None else (one[0] if one else NO_ERROR) for one in found] if known else []
    return Side([str(one) for one in columns["id"]], columns.keys, rows.shown, given)


def _parts(panel: Panel, columns: Columns, side: Side, context: Context) -> By:
    """Error rates by source and type of question, and the share of records with each type of error."""
    if not len(panel.rows):
        return {}
    rows = [int(row) for row in panel.rows]
    if panel.field:
        all_errors = instructions.errors_of(columns)
        errors = [all_errors[row] or () for row in rows]
    else:
        said = [panel.opinions[row].answer for row in rows]
        errors = [() if one in (None, NO_ERROR) else (str(one),) for one in said]
    sources = instructions.sources_of(columns)
    types = _types(rows, columns, side, context, panel.field)
    found: dict[str, tuple[float, tuple[float, float] | None, int]] = {}
    names = sorted({sources[row] for row in rows})
    for name in names:
        inside = [i for i, row in enumerate(rows) if sources[row] == name]
        head = name or "all"
        if name:
            found[head] = _share(panel.flags[inside])
        for kind in ("open", "closed"):
            part = [i for i in inside if types[i] == kind]
            if part:
                found[f"{head} / {kind}"] = _share(panel.flags[part])
    for error in dict.fromkeys([*list(ERRORS)[1:], *(one for row in errors for one in row)]):
        found[f"error: {error}"] = _share(np.array([error in row for row in errors]))
    return found


def _types(
    rows: Sequence[int], columns: Columns, side: Side, context: Context, by_field: bool
) -> list[str | None]:
    """open or closed for each row: from the field, else by the judge where it judges the errors too."""
    given = instructions.qa_types(columns)
    if any(one is not None for one in given) or by_field or context.judge is None:
        return [given[row] for row in rows]
    found = judged_questions.qa_type(context.judge, [(side.ids[row], side.shown(row)) for row in rows])
    return [one.answer for one in found]


def _share(flags: np.ndarray) -> tuple[float, tuple[float, float] | None, int]:
    hits, n = int(flags.sum()), len(flags)
    return hits / n, stats.wilson(hits, n), n


def _reason(columns: Columns, key: int) -> str:
    """The errors that people found in a record, in words."""
    row = int(np.flatnonzero(columns.keys == np.uint64(key))[0])
    return ", ".join(instructions.errors_of(columns)[row] or ())
