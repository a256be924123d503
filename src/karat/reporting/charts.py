"""Turns a `blocks.Chart` into a Vega-Lite dict, without drawing it. Knows no HTML and no stage.

Colours are written as CSS variables (`var(--ink)`), which Vega carries through into the SVG unread; one
drawing thus serves the light and the dark page. Titles and legends are HTML, where they wrap; the drawing
holds only what needs coordinates, 440 px wide so that its letters stay readable on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from karat import blocks
from karat.reporting import heat, marks, numbers
from karat.reporting.marks import Spec
from karat.reporting.text import one_line, short_names

WIDTH = 440  # px of the whole drawing
MOST_POINTS = 600
NAME_WIDTH = 20  # columns of a name beside an axis
COLOURS = 8  # --series-1 ... --series-8 in page.css
# The words of the trade keep their colour on the whole page; other series take what is left.
FIXED = {"human": 0, "synthetic": 1, "mixed": 2}


@dataclass
class Palette:
    """Which series has which colour, shape and dash, on the whole page; it grows as charts are drawn."""

    places: dict[str, int] = field(default_factory=lambda: dict(FIXED))

    def place(self, series: str) -> int:
        """Return the place (0 ... 7) of a series."""
        if series not in self.places:
            taken = len(self.places) - len(FIXED)
            self.places[series] = len(FIXED) + taken % (COLOURS - len(FIXED))
        return self.places[series]


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    name: str
    place: int
    shape: str
    dash: str


@dataclass(frozen=True)
class Plan:
    """A chart ready to be drawn: its Vega-Lite dict (None: nothing to draw), its legend, what is left out."""

    spec: Spec | None
    legend: tuple[Key, ...]
    notes: tuple[str, ...]


def plan(chart: blocks.Chart, palette: Palette) -> Plan:
    """Plan the drawing of a chart."""
    if chart.kind == "heat":
        return _heat(chart, palette)
    rows, notes = _usable(chart)
    if not rows:
        return Plan(None, (), (*notes, "There is nothing to draw."))
    names = _series(chart, rows)
    places = {name: palette.place(name) for name in names} if chart.series else {"": 1}
    keys = {name: f"s{number}" for number, name in enumerate(places)}
    named = short_names((row["x"] for row in rows), NAME_WIDTH) if marks.named(chart) else {}
    for row in rows:  # the engine sees keys in place of series names, and short names
        row["s"] = keys[row["s"]]
        row["x"] = named.get(row["x"], row["x"])
    layers, height = marks.layers(chart, rows, {keys[name]: place for name, place in places.items()})
    titled = not marks.sideways(chart, rows)
    return Plan(_spec(chart, rows, layers, height, titled=titled), _legend(chart, places), notes)


def _heat(chart: blocks.Chart, palette: Palette) -> Plan:
    """Plan a heat map: one tinted cell a row, with its value as text and its category as a shape."""
    rows, notes = heat.cells(chart)
    if not rows:
        return Plan(None, (), (*notes, "There is nothing to draw."))
    names = heat.categories(rows)
    places = {name: heat.FIXED.get(name, palette.place(name)) for name in names}
    keys = {name: f"s{number}" for number, name in enumerate(places)}
    for row in rows:
        row["s"] = keys.get(row["s"], "")
    layers, height = heat.layers(chart, rows, {keys[name]: place for name, place in places.items()})
    legend = tuple(
        Key(one_line(name, 60), place, marks.SHAPES[place], "") for name, place in places.items() if name
    )
    return Plan(_spec(chart, rows, layers, height, titled=True), legend, notes)


def _spec(
    chart: blocks.Chart, rows: list[dict[str, Any]], layers: list[Spec], height: int, *, titled: bool
) -> Spec:
    spec: Spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 2, "right": 10, "top": 4, "bottom": 2},
        "data": {"values": rows},
        "layer": layers,
        "config": _CONFIG,
    }
    y_title = chart.y_title or chart.y
    if y_title and titled:
        # above the axis and level: a title that stands on its head costs width and is hard to read
        spec["title"] = {"text": marks.title_lines(y_title), "anchor": "start", "frame": "bounds"}
    return spec


def binned(chart: blocks.Chart, bins: int = 30) -> blocks.Chart:
    """Return a histogram of raw values (one with no `y`) as one of shares; any other chart as it is.

    The bins are equal and shared; each series adds up to one, so that series of unequal size compare.
    """
    if chart.kind != "histogram" or chart.y or marks.named(chart):
        return chart
    import numpy as np

    rows = [row for row in chart.rows if numbers.is_number(row.get(chart.x))]
    rows = [row for row in rows if not chart.log_x or float(row[chart.x]) > 0]
    values = np.array([float(row[chart.x]) for row in rows])
    spread = np.log10(values) if chart.log_x else values
    with np.errstate(all="raise"):  # values that no axis can hold are an error here, not a warning
        edges = np.histogram_bin_edges(spread, bins=bins)
        middles = (edges[:-1] + edges[1:]) / 2
        middles = 10.0**middles if chart.log_x else middles
    series = np.array([str(row.get(chart.series)) if chart.series else "" for row in rows])
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(series.tolist()):
        counts, _ = np.histogram(spread[series == name], bins=edges)
        shares = counts / max(1, counts.sum())
        found += [{chart.x: float(x), "share": float(y), "series": name} for x, y in zip(middles, shares)]
    left_out = len(chart.rows) - len(rows)
    note = f"{chart.note} Not drawn: {_count(left_out, 'value')}." if left_out else chart.note
    named = "series" if chart.series else None
    y_title = chart.y_title or "share"
    return replace(chart, rows=tuple(found), y="share", series=named, y_title=y_title, note=note.strip())


def _legend(chart: blocks.Chart, places: Mapping[str, int]) -> tuple[Key, ...]:
    if not chart.series or (len(places) == 1 and chart.kind != "line"):
        return ()
    keys = []
    for name, place in places.items():
        plain = place if len(places) > 1 else 0
        shape = "square" if chart.kind in ("bar", "histogram") else marks.SHAPES[plain]
        dash = " ".join(map(str, marks.DASHES[plain])) if chart.kind == "line" else ""
        keys.append(Key(one_line(name, 60), place, shape, dash))
    return tuple(keys)


_INK = {"labelColor": "var(--ink-soft)", "titleColor": "var(--ink-soft)", "domainColor": "var(--axis)"}
_CONFIG: Spec = {
    "background": "transparent",
    "aria": False,  # the whole drawing is one image with a description; its table stands below it
    "font": "sans-serif",
    "view": {"stroke": "transparent"},
    "title": {"color": "var(--ink-soft)", "fontSize": 14, "fontWeight": "normal", "offset": 10},
    "axis": {
        **_INK,
        "tickColor": "var(--axis)",
        "gridColor": "var(--grid)",
        "labelFontSize": 14,
        "titleFontSize": 14,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelPadding": 5,
        "tickSize": 4,
        "labelLimit": 0,
    },
    "axisX": {"grid": False, "tickCount": 6, "labelFlush": True},
    "axisY": {"domain": False, "ticks": False, "tickCount": 5},
    "legend": {"disable": True},
    "rule": {"color": "var(--ink-soft)"},
    "text": {"color": "var(--ink-soft)", "fontSize": 13},
}


def _usable(chart: blocks.Chart) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the rows that can be drawn, and a sentence for each kind that cannot."""
    named = marks.named(chart)
    kept: list[dict[str, Any]] = []
    empty = below = 0
    for row in chart.rows:
        x = row.get(chart.x)
        if numbers.is_missing(x) or (chart.y and not numbers.is_number(row.get(chart.y))):
            empty += 1
        elif chart.log_x and not named and float(x) <= 0:  # type: ignore[arg-type]
            below += 1
        else:
            kept.append(_plain(chart, row, str(x) if named else float(x)))  # type: ignore[arg-type]
    notes = []
    if empty:
        notes.append(f"Not drawn: {_count(empty, 'point')} without a value.")
    if below:
        notes.append(f"Not drawn on the logarithmic axis: {_count(below, 'point')} at or below zero.")
    if chart.kind == "point" and len(kept) > MOST_POINTS:
        step = len(kept) / MOST_POINTS
        notes.append(f"{MOST_POINTS:,} of {len(kept):,} points drawn, evenly picked.")
        kept = [kept[int(place * step)] for place in range(MOST_POINTS)]
    return kept, tuple(notes)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _plain(chart: blocks.Chart, row: Mapping[str, Any], x: str | float) -> dict[str, Any]:
    """Return the row under the short names x, y, s, lo, hi, with nothing that JSON cannot hold."""
    short: dict[str, Any] = {"x": x, "s": str(row.get(chart.series)) if chart.series else ""}
    if chart.y:
        short["y"] = float(row[chart.y])
    low, high = row.get(chart.low or ""), row.get(chart.high or "")
    if numbers.is_number(low) and numbers.is_number(high):
        short["lo"], short["hi"] = float(low), float(high)  # type: ignore[arg-type]
    return short


def _series(chart: blocks.Chart, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the series: those of the trade first and in their order, then as they come."""
    found = list(dict.fromkeys(row["s"] for row in rows))
    return sorted(found, key=lambda name: FIXED.get(name, len(FIXED)))
