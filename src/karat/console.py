"""What a person sees in a terminal: tables, bars on standard error, one JSON object. Knows blocks only."""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karat import blocks

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[..., None]
"""Called as `progress(stage, done, total)`, and with `note=...` where there is more to tell."""

_STYLE = {"info": "", "good": "green", "warning": "yellow"}
_NARROWEST = 140  # columns where the output is not a terminal: nothing is cut off in a file
_ROWS = 60
_EVERY = 15.0  # seconds between two lines of a stage that runs where nobody looks


def console(*, stderr: bool = False) -> Console:
    """Return a console that is wide enough for a table when nobody looks at it."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, width=None if stream.isatty() else _NARROWEST, highlight=False, soft_wrap=False
    )


def write_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    data = to_json_bytes(value)
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:  # a test has replaced standard output by text
        sys.stdout.write(data.decode("utf-8"))
    else:
        sys.stdout.flush()
        stream.write(data)
    sys.stdout.flush()


def to_json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return indented JSON in UTF-8; a number that is not finite becomes null."""
    import orjson

    options = (
        orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    )
    return orjson.dumps(value, option=options, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    raise TypeError(f"{type(value).__name__} is not JSON")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def draw(sections: Iterable[blocks.Section]) -> None:
    """Print headlines, tables, notes and commands; charts and examples are for the report."""
    from rich.text import Text

    out = console()
    for section in sections:
        shown = [block for block in section.blocks if not isinstance(block, blocks.Chart | blocks.Examples)]
        if not shown:
            continue
        out.print(Text(section.title, style="bold underline"))
        for block in shown:
            _draw_block(out, block)
        out.print()


def _draw_block(out: Console, block: blocks.Block) -> None:
    from rich.text import Text

    if isinstance(block, blocks.Headline):
        line = Text.assemble((block.value, f"bold {_STYLE[block.level]}"), "  ", block.label)
        out.print(line)
        if block.detail:
            out.print(Text(block.detail, style="dim"))
    elif isinstance(block, blocks.Table):
        _draw_table(out, block)
    elif isinstance(block, blocks.Note):
        out.print(Text(block.text, style=_STYLE[block.level] or "dim"))
    elif isinstance(block, blocks.Commands):
        for command in block.lines:
            out.print(Text(f"  $ {command}"))
        if block.note:
            out.print(Text(block.note, style="dim"))


def _draw_table(out: Console, block: blocks.Table) -> None:
    rows = block.rows[:_ROWS]
    used = [c for c in block.columns if any(row.get(c.key) not in (None, "") for row in rows)] or list(
        block.columns
    )
    table(
        [(c.title, c.kind) for c in used],
        [[_marked(row, c.key, first=c is used[0]) for c in used] for row in rows],
        block.title,
        out=out,
    )
    from rich.text import Text

    if len(block.rows) > _ROWS:
        out.print(Text(f"... and {len(block.rows) - _ROWS} more rows (all of them with --json)", style="dim"))
    if block.note:
        out.print(Text(block.note, style="dim"))


def _marked(row: blocks.Row, key: str, *, first: bool) -> Any:
    """The cell of a row: a flagged row is marked at its front, and a p-value claims no more than it can."""
    value = row.get(key)
    if key == "p" and isinstance(value, float):
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    return f"{'▲' if row['_flag'] else ' '} {value}" if first and "_flag" in row else value


def table(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[Any]],
    title: str = "",
    *,
    out: Console | None = None,
) -> None:
    """Print rows under titles; a column is `(title, kind)` with the kinds of blocks.Column."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, show_header=any(name for name, _ in columns))
    drawn.pad_edge = False
    for name, kind in columns:
        justify: Any = "right" if kind in ("number", "percent", "interval") else "left"
        drawn.add_column(name, justify=justify, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(_cell(value, kind)) for value, (_, kind) in zip(row, columns, strict=True)))
    out = out or console()
    if title:  # on its own: as a part of the table it would be folded to the width of a narrow one
        out.print(Text(title, style="bold"))
    out.print(drawn)


def _cell(value: Any, kind: str) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        if kind == "interval" or (len(value) == 2 and all(isinstance(v, int | float) for v in value)):
            return "[" + ", ".join(_cell(v, "number") for v in value) + "]"
        return ", ".join(_cell(v, "text") for v in value)
    if kind == "percent" and isinstance(value, int | float):
        return f"{100 * value:.1f}%"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2g}"
    # control characters of a record would steer the terminal
    return "".join(ch if ch.isprintable() else " " for ch in str(value))


@contextmanager
def progress(*, quiet: bool, lines: bool = False) -> Iterator[Progress | None]:
    """Give a callback that draws bars on standard error when somebody looks at it.

    lines: where nobody does, print a line a stage instead of nothing.
    """
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield _Lines() if lines else None
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console(stderr=True),
            transient=True,
        )
        with bars:
            yield _Bars(bars)


class _Bars:
    """One bar for each stage that reports."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total or None, note=note)
        self._bars.update(self._tasks[stage], completed=done, total=total or None, note=note)


class _Lines:
    """A line when a stage begins and one when it ends; where it has a note, some in between."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._told = 0.0

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        now = time.perf_counter()
        if stage not in self._begun:
            self._begun[stage] = self._told = now
            sys.stderr.write(f"{stage} ...\n")
        if total and done >= total and self._begun[stage] >= 0:
            sys.stderr.write(f"{stage}: done in {now - self._begun[stage]:.1f} s\n")
            self._begun[stage] = -1.0
        elif note and now - self._told >= _EVERY:
            self._told = now
            sys.stderr.write(f"{stage}: {done:,} of {total:,} · {note}\n")
        sys.stderr.flush()
