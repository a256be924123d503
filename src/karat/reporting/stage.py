"""The stage `report`: gathers the blocks of results into one HTML file. Knows blocks, and no other stage.

The page loads nothing: style and script are in it, named by their hashes in a Content-Security-Policy that
forbids everything else, so that not even a hostile record that got past the escaping could run or call home.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from karat import blocks
from karat.errors import BadSetting, InputError
from karat.reporting import charts, drawing, examples, heat, tables
from karat.reporting.text import marked, one_line, visible
from karat.version import __version__

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Figure:
    """A chart as the page shows it: its drawing, its legend and its numbers."""

    title: str
    note: str
    notes: tuple[str, ...]
    legend: tuple[charts.Key, ...]
    drawing: Markup | None
    data: tables.TableView


@dataclass(frozen=True)
class Item:
    """One block, prepared; `kind` says which macro of the template draws it."""

    kind: str
    view: Any


@dataclass(frozen=True)
class Part:
    """One section of the page."""

    id: str
    title: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Lead:
    """A headline, a short form of its detail, and the section that it came from."""

    headline: blocks.Headline
    short: str
    section: str


def report(
    *results: Any,
    out: str | Path,
    title: str = "karat report",
    subtitle: str = "",
    progress: Progress | None = None,
) -> Path:
    """Write one self-contained HTML page that shows the results.

    `results` are results of stages (anything with `__report__()`) or bare sections, in reading order.
    Returns the path of the page. The page is written under another name first, so that a reader never
    sees half of it.
    """
    sections = _sections(results)
    if not sections:
        raise BadSetting("report: nothing to show; pass at least one result")
    path = Path(out)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file, for example {path / 'report.html'}")
    page = render(sections, title=title, subtitle=subtitle, progress=progress)
    _write(path, page)
    return path


def render(
    sections: Sequence[blocks.Section], *, title: str, subtitle: str = "", progress: Progress | None = None
) -> str:
    """Return the page of these sections as text."""
    parts = _parts(sections, progress)
    style, script = _asset("page.css"), _asset("page.js")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"page": _asset("page.html.j2")}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters["show"] = marked
    return environment.get_template("page").render(
        title=one_line(title, 120),
        subtitle=visible(subtitle),
        version=__version__,
        leads=_leads(sections, [part.id for part in parts]),
        parts=parts,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
    )


def _finalize(value: Any) -> Any:
    """Make every text that the template writes visible; markup has been through `marked` already."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _sections(results: Iterable[Any]) -> list[blocks.Section]:
    found: list[blocks.Section] = []
    for result in results:
        if isinstance(result, blocks.Section):
            found.append(result)
        elif isinstance(result, blocks.Reportable) and not isinstance(result, type):
            found.extend(result.__report__())
        else:
            raise BadSetting(
                f"report: cannot show a {type(result).__name__!r}; pass results of stages (audit, curate, "
                "train, value, simulate) or sections of karat.blocks"
            )
    return found


def _parts(sections: Sequence[blocks.Section], progress: Progress | None) -> list[Part]:
    palette = charts.Palette()
    shelf = [block for section in sections for block in section.blocks if isinstance(block, blocks.Examples)]
    allowance = examples.PAGE_BYTES // max(1, len(shelf))
    total = sum(isinstance(block, blocks.Chart) for section in sections for block in section.blocks)
    done = 0
    parts: list[Part] = []
    for section in sections:
        items: list[Item] = []
        for block in section.blocks:
            if isinstance(block, blocks.Chart):
                figure = _figure(block, palette, f"chart-{done + 1}")
                done += 1
                if progress:
                    progress("report", done, total)
                if items and items[-1].kind == "charts":
                    items[-1].view.append(figure)  # neighbours share a row where the page is wide
                else:
                    items.append(Item("charts", [figure]))
            else:
                items.append(_item(block, allowance))
        parts.append(Part(_anchor(section, parts), one_line(section.title, 120), tuple(items)))
    return parts


def _item(block: blocks.Block, allowance: int) -> Item:
    if isinstance(block, blocks.Table):
        return Item("table", tables.view(block))
    if isinstance(block, blocks.Examples):
        return Item("examples", examples.view(block, allowance))
    kinds = {blocks.Note: "note", blocks.Headline: "headline", blocks.Commands: "commands"}
    kind = kinds.get(type(block))
    if kind is None:
        raise BadSetting(f"report: no block of the kind {type(block).__name__!r} (see karat.blocks)")
    return Item(kind, block)


def _figure(chart: blocks.Chart, palette: charts.Palette, prefix: str) -> Figure:
    title = one_line(chart.title or f"{chart.y_title or chart.y} by {chart.x_title or chart.x}", 120)
    drawn: Markup | None = None
    notes: tuple[str, ...] = ()
    legend: tuple[charts.Key, ...] = ()
    try:
        chart = charts.binned(chart)
        plan = charts.plan(chart, palette)
        notes, legend = plan.notes, plan.legend
        if plan.spec is not None:
            drawn = drawing.draw(plan.spec, prefix=prefix, title=title, description=_described(chart, plan))
    except (ValueError, ArithmeticError):
        # 1e308 or 5e-324 must not cost the reader the rest of the page
        notes = ("This chart could not be drawn: its values do not fit on an axis. Its numbers are below.",)
    return Figure(title, chart.note, notes, legend, drawn, tables.view(tables.of_chart(chart)))


def _described(chart: blocks.Chart, plan: charts.Plan) -> str:
    if chart.kind == "heat":
        return one_line(heat.described(chart), 600)
    words = [
        f"{chart.kind} chart of {chart.y_title or chart.y or 'share'} against {chart.x_title or chart.x}."
    ]
    if plan.legend:
        words.append("Series: " + ", ".join(key.name for key in plan.legend) + ".")
    words += [f"Reference line: {line.label} at {line.y:.3g}." for line in chart.lines if line.y is not None]
    words.append("The numbers stand in the table below the chart.")
    return one_line(" ".join(words), 600)


def _anchor(section: blocks.Section, parts: Sequence[Part]) -> str:
    """Return an id for the section that no other section of the page has."""
    plain = re.sub(r"[^a-z0-9]+", "-", (section.id or section.title).lower()).strip("-")[:60] or "section"
    taken = {part.id for part in parts} | {"top", "contents", "main"}
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    return name


def _leads(sections: Sequence[blocks.Section], anchors: Sequence[str]) -> list[Lead]:
    """Return all headlines, the one with the highest rank first."""
    found = [
        Lead(block, _short(block.detail), anchor)
        for section, anchor in zip(sections, anchors)
        for block in section.blocks
        if isinstance(block, blocks.Headline)
    ]
    return sorted(found, key=lambda lead: -lead.headline.rank)


def _short(text: str, limit: int = 170) -> str:
    """Return the beginning of a detail, cut between words; the section holds the whole of it."""
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0].rstrip(",;:. ") + " …"


def _asset(name: str) -> str:
    return resources.files("karat.reporting").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy that allows this style and this script, and nothing else."""

    def hashed(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() + "'"

    return (
        f"default-src 'none'; style-src {hashed(style)}; script-src {hashed(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _write(path: Path, page: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another place with --out"
        ) from None
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(page)
    os.chmod(name, 0o644)
    os.replace(name, path)
