"""What a result may show: headlines, tables, charts, examples, notes. Knows no stage and no HTML.

A stage's result gives blocks through `__report__()`; the report draws blocks. They meet only here.
Values are plain: text, numbers, booleans, None. A number that is not finite is None.
"""

from __future__ import annotations

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
    """Rows drawn as lines with bands, bars with errors, points or a histogram."""

    kind: Literal["line", "bar", "point", "histogram"]
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
