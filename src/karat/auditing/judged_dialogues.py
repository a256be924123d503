"""Dialogues as judges and fields see them: one side of a judged rate. Knows no metric."""

from __future__ import annotations

import numpy as np

from karat.auditing.base import Context
from karat.auditing.columns import Columns
from karat.auditing.dialogues import DIALOGUES, opened
from karat.auditing.judged_questions import YES_NO, digression
from karat.auditing.judged_rates import Query, Side, sampled_rows
from karat.auditing.judging import read_given

DIGRESSION = Query("digression", YES_NO, frozenset({"yes"}), digression)


def side(columns: Columns, field: str, answers: tuple[str, ...]) -> Side:
    """The dialogues of one corpus; `given` are the answers that a field of the records holds, if it does."""
    talk = opened(columns)
    tasks = columns["task"]
    given = [read_given(value, answers) for value in columns[field]] if columns.has(field) else []
    ids = [str(one) for one in columns["id"]]
    return Side(ids, columns.keys, lambda i: talk.shown(i, tasks[i]), given)


def digressing(columns: Columns, context: Context, records: int) -> tuple[list[int], list[bool], bool]:
    """Rows, whether each digresses, and whether a field said so; without it a sample is judged.

    Rows without a valid answer are left out.
    """
    one = side(columns, "digression", YES_NO)
    if any(answer is not None for answer in one.given):
        rows = [i for i, answer in enumerate(one.given) if answer is not None]
        return rows, [one.given[i] == "yes" for i in rows], True
    if context.judge is None:
        return [], [], False
    rows = sampled_rows(one, records, context)
    found = digression(context.judge, [(one.ids[i], one.shown(i)) for i in rows])
    valid = [(i, opinion.answer == "yes") for i, opinion in zip(rows, found) if opinion.answer is not None]
    return [i for i, _ in valid], [flag for _, flag in valid], False


def outcomes(columns: Columns, good: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """float64 [n]: 1 where the task of a dialogue succeeded, 0 where it failed, nan where nothing is said."""
    wanted = {name.casefold() for name in good}
    found = np.full(len(columns), np.nan)
    for i, value in enumerate(columns["outcome"]):
        if value is None or str(value).strip() == "":
            continue
        if isinstance(value, bool | int | float) and value in (0, 1):
            found[i] = float(value)
        else:
            found[i] = float(str(value).strip().casefold() in wanted)
    return found


__all__ = ["DIALOGUES", "DIGRESSION", "digressing", "outcomes", "side"]
