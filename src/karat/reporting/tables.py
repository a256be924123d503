"""Turns a `blocks.Table` into cells ready for the page: formats, explanations, a strip. Knows no stage.

Any table with an `interval` column is read as a table of scores. Its columns are then known by their keys
(value, reference, difference, chance, best, interval, p), its rows share their number of decimals, and a
strip shows where the value lies between chance and best. A row's `_help`, `_signature` and `_note` unfold
under its name; `_flag` marks it in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from karat import blocks
from karat.reporting import numbers
from karat.reporting.text import cut, marked, one_line

MOST_ROWS = 200
TALLEST = 16  # rows of a plain table that stands in its full height
LONGEST_CELL = 400  # characters
_VALUE = ("value", "candidate", "score")
_REFERENCE = ("reference", "human")
_SCALE = (*_VALUE, *_REFERENCE, "difference", "chance", "best")
_WHY = "not measured, or it does not apply here"


@dataclass(frozen=True)
class Cell:
    """One cell: its HTML, its alignment and kind, and why it is empty if it is."""

    html: Markup
    kind: str
    why: str = ""


@dataclass(frozen=True)
class Detail:
    """What unfolds under the name of a row."""

    help: Markup
    signature: Markup
    note: Markup


@dataclass(frozen=True)
class RowView:
    """One row of a table on the page."""

    cells: tuple[Cell, ...]
    flag: str
    detail: Detail | None


@dataclass(frozen=True)
class Head:
    """One column's head."""

    title: str
    kind: str
    help: str


@dataclass(frozen=True)
class TableView:
    """A table as the page's template needs it."""

    title: str
    note: str
    heads: tuple[Head, ...]
    rows: tuple[RowView, ...]
    left_out: int
    long: bool  # scrolls in a box of its own height
    scores: bool  # a table of scores, with strips
    legend: dict[str, str]  # what the strips show: value, human, chance, best, each with its column's title
    flags: int
    dashes: bool


def view(table: blocks.Table) -> TableView:
    """Prepare a table for the page."""
    columns = tuple(column for column in table.columns if column.key not in ("_help", "_signature"))
    scores = any(column.kind == "interval" for column in columns) and _key(columns, _VALUE) is not None
    shown = table.rows[:MOST_ROWS]
    by_column = {column.key: _column_decimals(column, shown) for column in columns}
    rows = tuple(_row(row, columns, scores, by_column) for row in shown)
    heads = [Head(column.title, _kind(column, shown), column.help) for column in columns]
    if scores:
        heads.insert(1, Head("", "strip", ""))
    return TableView(
        table.title,
        table.note,
        tuple(heads),
        rows,
        len(table.rows) - len(shown),
        not scores and len(shown) > TALLEST,
        scores,
        _legend(columns) if scores else {},
        sum(bool(row.flag) for row in rows),
        any(cell.why for row in rows for cell in row.cells),
    )


def _column_decimals(column: blocks.Column, rows: Sequence[Mapping[str, Any]]) -> int | None:
    """The decimals that the numbers of a column share; None where each has its own."""
    values = [row.get(column.key) for row in rows]
    if column.kind == "interval":
        values = [end for ends in values if isinstance(ends, Sequence) for end in ends]
    if column.kind == "text" and _kind(column, rows) == "text":
        return None  # a list of facts: counts, dollars and words, one below the other
    if column.kind != "percent":
        return numbers.decimals_for(values)
    shares = [round(100 * float(value), 6) for value in values if numbers.is_number(value)]  # type: ignore[arg-type]
    return 0 if all(share.is_integer() for share in shares) else 1


def _legend(columns: Sequence[blocks.Column]) -> dict[str, str]:
    keys = {
        "value": _key(columns, _VALUE),
        "human": _key(columns, _REFERENCE),
        "chance": "chance",
        "best": "best",
    }
    titles = {column.key: column.title for column in columns}
    return {mark: titles[key] for mark, key in keys.items() if key in titles}


def _key(columns: Sequence[blocks.Column], wanted: Sequence[str]) -> str | None:
    return next((column.key for column in columns if column.key in wanted), None)


def _kind(column: blocks.Column, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the kind of a column; a text column that holds only numbers is one of numbers."""
    if column.kind != "text":
        return column.kind
    values = [row.get(column.key) for row in rows if not numbers.is_missing(row.get(column.key))]
    return "number" if values and all(numbers.is_number(value) for value in values) else "text"


def _row(
    row: Mapping[str, Any],
    columns: Sequence[blocks.Column],
    scores: bool,
    by_column: Mapping[str, int | None],
) -> RowView:
    decimals = _row_decimals(row, columns) if scores else None
    cells = []
    for column in columns:
        kind = _kind(column, (row,))
        own = by_column[column.key]
        if decimals is not None and (
            column.kind == "interval" or column.key in _SCALE or _broken(row, column)
        ):
            own = decimals
        cells.append(_cell(row.get(column.key), column, kind, own))
    if scores:
        cells.insert(1, Cell(strip(row, columns), "strip"))
    flag = row.get("_flag")
    words = one_line(flag, 40) if isinstance(flag, str) else "flagged" if flag else ""
    parts = [marked(cut(str(row.get(key) or ""), 2_000)[0]) for key in ("_help", "_signature", "_note")]
    return RowView(tuple(cells), words, Detail(*parts) if any(parts) else None)


def _broken(row: Mapping[str, Any], column: blocks.Column) -> bool:
    """Return whether the cell holds a number with a fraction, which then belongs to the row's own scale."""
    value = row.get(column.key)
    return (
        column.kind == "number" and isinstance(value, float) and numbers.is_number(value) and value % 1 != 0
    )


def _row_decimals(row: Mapping[str, Any], columns: Sequence[blocks.Column]) -> int:
    """Return the decimals shared by a row of scores; the interval's width says which digits mean much."""
    ends = _ends(row, columns)
    width = ends[1] - ends[0] if ends else None
    values = [row.get(key) for key in _SCALE if key in row]
    if ends and all(float(end).is_integer() for end in ends):
        values += list(ends)
    elif ends:
        values.append(ends[0])
    return numbers.decimals_for(values, width)


def _ends(row: Mapping[str, Any], columns: Sequence[blocks.Column]) -> tuple[float, float] | None:
    for column in columns:
        found = row.get(column.key)
        if column.kind == "interval" and isinstance(found, Sequence) and len(found) == 2:
            low, high = found
            if numbers.is_number(low) and numbers.is_number(high):
                return float(low), float(high)
    return None


def _cell(value: Any, column: blocks.Column, kind: str, decimals: int | None) -> Cell:
    if kind == "flag":
        if isinstance(value, str) and value:
            return Cell(marked(one_line(value, 60)), "flag")
        return Cell(Markup("▲ flagged") if value else Markup(""), "flag")
    if kind == "text" and value == "":
        return Cell(Markup(""), kind)  # nothing to say is no gap
    if numbers.is_missing(value) or (kind == "interval" and numbers.interval(value) == numbers.MISSING):
        infinite = isinstance(value, float)
        return Cell(Markup(numbers.MISSING), kind, "not a finite number" if infinite else _WHY)
    if kind == "interval":
        return Cell(Markup(numbers.interval(value, decimals)), kind)
    if column.key in ("p", "p_value") and numbers.is_number(value):
        return Cell(Markup("{}").format(numbers.p_value(value)), "number")
    if kind == "percent" and numbers.is_number(value):
        return Cell(Markup("{}").format(numbers.percent(value, decimals)), kind)
    if numbers.is_number(value) and kind != "id":
        whole = isinstance(value, int) and decimals == 0
        text = numbers.number(value, None if whole else decimals, signed=column.key == "difference")
        return Cell(Markup("{}").format(text), "number" if kind == "text" else kind)
    if isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    kept, left_out = cut(str(value), LONGEST_CELL)
    more = (
        Markup(' <span class="cut">… {} more characters</span>').format(f"{left_out:,}") if left_out else ""
    )
    return Cell(marked(kept) + more, kind if kind in ("text", "id") else "text")


def strip(row: Mapping[str, Any], columns: Sequence[blocks.Column]) -> Markup:
    """Return a tiny drawing of one score: its interval and value, the human value, chance and best.

    The scale is the row's own. Chance or best far outside of the rest would squeeze it to a dot, so they
    are then shown as an arrow at the edge.
    """
    value, human = (row.get(_key(columns, keys) or "") for keys in (_VALUE, _REFERENCE))
    if not numbers.is_number(value):
        return Markup("")
    ends = _ends(row, columns) or (float(value), float(value))  # type: ignore[arg-type]
    inner = [float(value), *ends, *([float(human)] if numbers.is_number(human) else [])]  # type: ignore[arg-type]
    marks = {key: float(row[key]) for key in ("chance", "best") if numbers.is_number(row.get(key))}
    inner_low, inner_high = low, high = min(inner), max(inner)
    room = max(high - low, abs(high) * 1e-3, 1e-9)
    # with no human value, chance and best are all there is to compare with
    reach = 6 * room if numbers.is_number(human) else math.inf
    for mark in marks.values():
        if inner_low - reach <= mark <= inner_high + reach:
            low, high = min(low, mark), max(high, mark)
    span = max(high - low, room)
    middle = (high + low) / 2

    def at(point: float) -> float:
        return round(60 + (point - middle) / span * 96, 1)  # 12 to 108 of 120 px

    parts = [Markup('<line class="s-axis" x1="2" x2="118" y1="11" y2="11"/>')]
    for key, mark in marks.items():
        x = at(mark)
        if x < 10 or x > 110:
            points = "7,6 2,11 7,16" if x < 10 else "113,6 118,11 113,16"
            parts.append(Markup('<polyline class="s-{}" points="{}"/>').format(key, points))
        else:
            parts.append(Markup('<line class="s-{0}" x1="{1}" x2="{1}" y1="3" y2="19"/>').format(key, x))
    if ends[0] != ends[1]:
        parts.append(
            Markup('<line class="s-interval" x1="{}" x2="{}" y1="11" y2="11"/>').format(*map(at, ends))
        )
    if numbers.is_number(human):
        x = at(float(human))  # type: ignore[arg-type]
        corners = f"{x},5.5 {round(x + 5.5, 1)},11 {x},16.5 {round(x - 5.5, 1)},11"
        parts.append(Markup('<polygon class="s-human" points="{}"/>').format(corners))
    parts.append(Markup('<circle class="s-value" cx="{}" cy="11" r="4"/>').format(at(float(value))))  # type: ignore[arg-type]
    body = Markup("").join(parts)
    return Markup('<svg class="strip" viewBox="0 0 120 22" aria-hidden="true">{}</svg>').format(body)


def of_chart(chart: blocks.Chart) -> blocks.Table:
    """Return the numbers of a chart as a table, to stand under it."""
    keys = [
        (chart.series, "series"),
        (chart.x, chart.x_title or chart.x),
        (chart.y, chart.y_title or chart.y),
    ]
    keys += [(chart.value, chart.value_title or chart.value or ""), (chart.category, chart.category or "")]
    keys += [(chart.sure, "share that agrees"), (chart.low, "low"), (chart.high, "high")]
    columns = tuple(blocks.Column(key, title) for key, title in keys if key)
    return blocks.Table(columns, chart.rows)
