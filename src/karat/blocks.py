"""What a result may show: headlines, tables, charts, examples, notes. Knows no stage and no HTML.

A stage's result gives blocks through `__report__()`; the report draws blocks. They meet only here.
Values are plain: text, numbers, booleans, None. A number that is not finite is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

Row = Mapping[str, Any]
Level = Literal["info", "good", "warning"]


@dataclass(frozen=True)
class Column:
    """One column of a table; `interval` columns hold `[low, high]`."""

    key: str
    title: str
    kind: Literal["text", "number", "percent", "interval", "id", "flag"] = "text"
    help: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under named columns. A row may carry `_help` (text) and `_flag` (bool)."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A horizontal reference line of a chart: what chance or human data gives."""

    y: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Rows drawn as lines with bands, bars with errors, points, a histogram, or a heat map of cells.

    A heat map has one row a cell; `x` and `y` may be numbers or names.
    """

    kind: Literal["line", "bar", "point", "histogram", "heat"]
    rows: tuple[Row, ...]
    x: str
    y: str
    series: str | None = None
    low: str | None = None  # keys of the interval's ends
    high: str | None = None
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    note: str = ""
    log_x: bool = False
    lines: tuple[Line, ...] = ()
    # Of a heat map alone: keys of what each cell holds.
    value: str | None = None  # a number, written into the cell; without categories it is the colour too
    category: str | None = None  # a name, told by colour and shape
    sure: str | None = (
        None  # share (0 to 1) of what was seen that agrees with the cell; below SURE it is marked
    )
    value_title: str = ""
    percent: bool = False  # the values are shares


SURE = 0.8
"""A cell of which less than this share agrees is paler and has a question mark."""


@dataclass(frozen=True)
class Example:
    """One record as shown to a reader; `group` is the side it stands on (human, synthetic, dropped ...)."""

    group: str
    text: str
    label: str = ""
    id: str = ""
    reason: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examples:
    """Records side by side, to be searched and filtered by group and label."""

    rows: tuple[Example, ...]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Note:
    """One paragraph in plain words."""

    text: str
    level: Level = "info"


@dataclass(frozen=True)
class Headline:
    """One figure that a reader takes away, with the sentence that explains it.

    The Headline of the highest rank leads the page; among equals the first one does.
    """

    value: str
    label: str
    detail: str = ""
    level: Level = "info"
    rank: int = 0


@dataclass(frozen=True)
class Commands:
    """What to type to get the same again."""

    lines: tuple[str, ...]
    note: str = ""


Block = Table | Chart | Examples | Note | Headline | Commands


@dataclass(frozen=True)
class Section:
    """Blocks under one title."""

    title: str
    blocks: tuple[Block, ...]
    id: str = ""


@runtime_checkable
class Reportable(Protocol):
    """Anything that can say what it shows."""

    def __report__(self) -> tuple[Section, ...]: ...


def grid(chart: Chart) -> Table:
    """Return a heat map as a table of its cells, for places that draw nothing: columns are x, rows are y.

    A cell reads `0.42 both`, and `0.42 both?` where it is not sure.
    """
    across, down = places(chart, chart.x), places(chart, chart.y)[::-1]
    cells: dict[tuple[Any, Any], str] = {}
    for row in chart.rows:
        cells.setdefault((row.get(chart.x), row.get(chart.y)), cell_text(chart, row, name=True))
    first = f"{chart.y_title or chart.y} \\ {chart.x_title or chart.x}"
    columns = [Column("y", first), *(Column(f"x{n}", tick(x)) for n, x in enumerate(across))]
    rows = [{"y": tick(y), **{f"x{n}": cells.get((x, y)) for n, x in enumerate(across)}} for y in down]
    return Table(tuple(columns), tuple(rows), chart.title, chart.note)


def places(chart: Chart, key: str) -> list[Any]:
    """Return the places along an axis of a heat map: numbers rise, names stay in order (y: from the top)."""
    found = list(dict.fromkeys(row.get(key) for row in chart.rows if row.get(key) not in (None, "")))
    if all(isinstance(place, int | float) for place in found):
        return sorted(found)
    return found[::-1] if key == chart.y else found


def tick(place: Any) -> str:
    """Return how a place on an axis of a heat map is written."""
    if isinstance(place, int | float) and not isinstance(place, bool):
        return f"{place:,}" if isinstance(place, int) else f"{place:,.6g}"
    return str(place)


def cell_text(chart: Chart, row: Row, *, name: bool = False) -> str:
    """Return what stands in a cell of a heat map: value, category if wanted, `?` if it is not sure."""
    value = row.get(chart.value) if chart.value else None
    category = row.get(chart.category) if chart.category else None
    words = []
    if isinstance(value, int | float) and math.isfinite(value):
        words.append(f"{value:.0%}" if chart.percent else f"{value:,.3g}")
    if name and category not in (None, ""):
        words.append(str(category))
    return " ".join(words) + ("?" if unsure(chart, row) else "")


def unsure(chart: Chart, row: Row) -> bool:
    """Return whether too little agrees with a cell of a heat map."""
    sure = row.get(chart.sure) if chart.sure else None
    return isinstance(sure, int | float) and sure < SURE
