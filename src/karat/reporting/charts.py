"""Turns a `blocks.Chart` into a Vega-Lite dict, without drawing it. Knows no HTML and no stage.

Colours are written as CSS variables (`var(--ink)`), which Vega carries through into the SVG unread; one
drawing thus serves the light and the dark page. Titles and legends are HTML, where they wrap; the drawing
holds only what needs coordinates, 440 px wide so that its letters stay readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from karat import blocks
from karat.reporting import numbers
from karat.reporting.text import one_line, short_names

WIDTH = 440  # px of the whole drawing
MOST_POINTS = 600
NAME_WIDTH = 22  # columns of a name beside an axis
COLOURS = 8  # --series-1 ... --series-8 in page.css
SHAPES = ("circle", "diamond", "square", "triangle-up", "triangle-down", "cross", "circle", "diamond")
DASHES = ([1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [1, 0], [7, 3], [2, 2], [8, 3, 2, 3])
# The words of the trade keep their colour on the whole page; other series take what is left.
_FIXED = {"human": 0, "synthetic": 1, "mixed": 2}

Spec = dict[str, Any]


@dataclass
class Palette:
    """Which series has which colour, shape and dash, on the whole page; it grows as charts are drawn."""

    places: dict[str, int] = field(default_factory=lambda: dict(_FIXED))

    def place(self, series: str) -> int:
        """Return the place (0 ... 7) of a series."""
        if series not in self.places:
            taken = len(self.places) - len(_FIXED)
            self.places[series] = len(_FIXED) + taken % (COLOURS - len(_FIXED))
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
    """A chart ready to be drawn: the Vega-Lite dict (None: nothing to draw), its legend, what was left out."""

    spec: Spec | None
    legend: tuple[Key, ...]
    notes: tuple[str, ...]


def colour(place: int) -> str:
    """Return the CSS variable of a series' place."""
    return f"var(--series-{place + 1})"


def plan(chart: blocks.Chart, palette: Palette) -> Plan:
    """Plan the drawing of a chart."""
    rows, notes = _usable(chart)
    if not rows:
        return Plan(None, (), (*notes, "There is nothing to draw."))
    names = _series(chart, rows)
    places = {name: palette.place(name) for name in names} if chart.series else {"": 1}
    keys = {name: f"s{number}" for number, name in enumerate(places)}
    named = short_names((row["x"] for row in rows), NAME_WIDTH) if _named(chart) else {}
    for row in rows:  # the engine sees keys in place of series names, and short names
        row["s"] = keys[row["s"]]
        row["x"] = named.get(row["x"], row["x"])
    build = {"line": _lines, "bar": _bars, "point": _points, "histogram": _histogram}[chart.kind]
    layers, height = build(chart, rows, {keys[name]: place for name, place in places.items()})
    y_title = chart.y_title or chart.y
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
    sideways = chart.kind in ("bar", "point") and _sideways(chart, rows)
    if y_title and not sideways:
        # above the axis and level: a title that stands on its head costs width and is hard to read
        spec["title"] = {"text": one_line(y_title, 60), "anchor": "start", "frame": "bounds"}
    legend = tuple(
        Key(one_line(name, 60), place, SHAPES[place] if chart.kind != "bar" else "square", _dash(chart, place))
        for name, place in places.items()
        if chart.series
    )
    return Plan(spec, legend if len(legend) > 1 or chart.kind == "line" else (), notes)


def _dash(chart: blocks.Chart, place: int) -> str:
    return " ".join(map(str, DASHES[place])) if chart.kind == "line" else ""


_INK = {"labelColor": "var(--ink-soft)", "titleColor": "var(--ink-soft)", "domainColor": "var(--axis)"}
_CONFIG: Spec = {
    "background": "transparent",
    "aria": False,  # the whole drawing is one image with a description; its table stands below it
    "font": "sans-serif",
    "view": {"stroke": "transparent"},
    "title": {"color": "var(--ink-soft)", "fontSize": 13, "fontWeight": "normal", "offset": 10},
    "axis": {
        **_INK,
        "tickColor": "var(--axis)",
        "gridColor": "var(--grid)",
        "labelFontSize": 13,
        "titleFontSize": 13,
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
    "text": {"color": "var(--ink-soft)", "fontSize": 12},
}


def _usable(chart: blocks.Chart) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the rows that can be drawn, and a sentence for each kind that cannot."""
    numeric_x = chart.kind in ("line", "histogram") and not _named(chart)
    kept: list[dict[str, Any]] = []
    empty = below = 0
    for row in chart.rows:
        if (chart.y and not numbers.is_number(row.get(chart.y))) or row.get(chart.x) is None:
            empty += 1
        elif numeric_x and not numbers.is_number(row.get(chart.x)):
            empty += 1
        elif chart.log_x and not _named(chart) and not (_float(row.get(chart.x)) > 0):
            below += 1
        else:
            kept.append(_plain(chart, row))
    notes = []
    if empty:
        notes.append(f"{_count(empty, 'point')} without a value not drawn.")
    if below:
        notes.append(f"{_count(below, 'point')} at zero not drawn on the logarithmic axis.")
    if chart.kind == "point" and len(kept) > MOST_POINTS:
        step = len(kept) / MOST_POINTS
        notes.append(f"{MOST_POINTS:,} of {len(kept):,} points drawn, evenly picked.")
        kept = [kept[int(place * step)] for place in range(MOST_POINTS)]
    return kept, tuple(notes)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun} is" if number == 1 else f"{number:,} {noun}s are"


def _float(value: Any) -> float:
    return float(value) if numbers.is_number(value) else float("nan")


def _plain(chart: blocks.Chart, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row under the short names x, y, s, lo, hi, with nothing that JSON or XML cannot hold."""
    short = {"x": row.get(chart.x), "s": str(row.get(chart.series)) if chart.series else ""}
    if chart.y:
        short["y"] = float(row[chart.y])
    low, high = row.get(chart.low or ""), row.get(chart.high or "")
    if numbers.is_number(low) and numbers.is_number(high):
        short["lo"], short["hi"] = float(low), float(high)  # type: ignore[arg-type]
    if numbers.is_number(short["x"]) and not _named(chart):
        short["x"] = float(short["x"])
    else:
        short["x"] = str(short["x"])
    return short


def _named(chart: blocks.Chart) -> bool:
    """Return whether x holds names and not numbers."""
    return any(isinstance(row.get(chart.x), str) for row in chart.rows)


def _series(chart: blocks.Chart, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the series: those of the trade first and in their order, then as they come."""
    found = list(dict.fromkeys(row["s"] for row in rows))
    return sorted(found, key=lambda name: _FIXED.get(name, len(_FIXED)))


def _sideways(chart: blocks.Chart, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the names need the room that only a horizontal drawing gives."""
    if not _named(chart):
        return False
    names = {str(row["x"]) for row in rows}
    return chart.kind == "point" or len(names) > 6 or max(map(len, names)) > 9


def _scales(places: Mapping[str, int]) -> dict[str, Spec]:
    names = list(places)
    return {
        "color": {
            "field": "s",
            "type": "nominal",
            "scale": {"domain": names, "range": [colour(place) for place in places.values()]},
        },
        "shape": {
            "field": "s",
            "type": "nominal",
            "scale": {"domain": names, "range": [SHAPES[place] for place in places.values()]},
        },
        "strokeDash": {
            "field": "s",
            "type": "nominal",
            "scale": {"domain": names, "range": [DASHES[place] for place in places.values()]},
        },
    }


def _x_axis(chart: blocks.Chart, rows: Sequence[Mapping[str, Any]]) -> Spec:
    title = one_line(chart.x_title or chart.x, 60)
    if _named(chart):
        return {"field": "x", "type": "nominal", "sort": None, "title": title, "axis": {"labelAngle": 0}}
    axis: Spec = {"labelExpr": "format(datum.value, abs(datum.value) >= 10000 ? '~s' : ',~r')"}
    values = sorted({row["x"] for row in rows})
    if all(float(value).is_integer() for value in values):
        axis["tickMinStep"] = 1
        axis["format"] = ",d"
        axis.pop("labelExpr")
        if values[-1] >= 100_000:
            axis["format"] = "~s"
    scale: Spec = {"zero": False, "nice": False}
    if chart.log_x:
        scale = {"type": "log", "nice": False}
        # sizes usually double, and then the sizes themselves are the best ticks
        axis["values"] = _thinned(values) if len(values) <= 12 else _decades(values)
    elif chart.kind == "line" and len(values) <= 8:
        axis["values"] = values
    return {"field": "x", "type": "quantitative", "title": title, "axis": axis, "scale": scale}


def _thinned(values: list[float], room: float = 0.13) -> list[float]:
    """Return those of the sorted values whose labels do not touch on a logarithmic axis, the ends kept."""
    span = math.log(values[-1] / values[0]) or 1.0
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        if math.log(kept[-1] / value) / span >= room:
            kept.append(value)
    return kept[::-1]


def _decades(values: list[float]) -> list[float]:
    low, high = math.floor(math.log10(values[0])), math.ceil(math.log10(values[-1]))
    steps = (1,) if high - low > 3 else (1, 3) if values[-1] / values[0] > 300 else (1, 2, 5)
    return [s * 10.0**p for p in range(low, high + 1) for s in steps if values[0] <= s * 10.0**p <= values[-1]]


def _y_axis(
    chart: blocks.Chart, rows: Sequence[Mapping[str, Any]], key: str = "y", *, zero: bool = False
) -> Spec:
    ends = [row[name] for row in rows for name in ("y", "lo", "hi") if name in row]
    ends += [line.y for line in chart.lines if numbers.is_number(line.y)]
    scale: Spec = {"zero": zero, "nice": True}
    if not zero and ends and min(ends) >= 0 and min(ends) < 0.35 * max(ends):
        scale["zero"] = True
    axis: Spec = {"format": ",~r"}
    if ends and max(map(abs, ends)) >= 100_000:
        axis["format"] = "~s"
    elif ends and max(map(abs, ends)) <= 1.0:
        axis["format"] = "~g"
    return {"field": key, "type": "quantitative", "title": None, "scale": scale, "axis": axis}


def _references(chart: blocks.Chart, channel: str = "y") -> list[Spec]:
    """Return the layers of the horizontal lines (vertical ones in a sideways chart), each with its label."""
    layers: list[Spec] = []
    for line in chart.lines:
        if not numbers.is_number(line.y):
            continue
        at = {"datum": float(line.y), "type": "quantitative"}
        mark: Spec = {"type": "rule", "strokeDash": [3, 3], "strokeWidth": 1.2, "color": "var(--ink-soft)"}
        layers.append({"data": {"values": [{}]}, "mark": mark, "encoding": {channel: at}})
        text: Spec = {"type": "text", "text": one_line(line.label, 40), "fontSize": 12, "color": "var(--ink-soft)"}
        if channel == "y":
            text |= {"align": "right", "baseline": "bottom", "dy": -3, "x": "width"}
        else:
            text |= {"align": "center", "baseline": "bottom", "dy": -4, "y": 0}
        halo = {**text, "stroke": "var(--paper)", "strokeWidth": 4, "color": "var(--paper)"}
        for mark in (halo, text):
            layers.append({"data": {"values": [{}]}, "mark": mark, "encoding": {channel: at}})
    return layers


def _lines(chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]) -> tuple[list[Spec], int]:
    x, y = _x_axis(chart, rows), _y_axis(chart, rows)
    scales = _scales(places)
    layers: list[Spec] = []
    if any("lo" in row for row in rows):
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.lo)"}],
                "mark": {"type": "area", "opacity": 0.16, "line": False},
                "encoding": {"x": x, "y": {**y, "field": "lo"}, "y2": {"field": "hi"}, "color": scales["color"]},
            }
        )
    line = {"x": x, "y": y, "color": scales["color"], "strokeDash": scales["strokeDash"]}
    mark = {"type": "line", "strokeWidth": 2, "strokeJoin": "round", "strokeCap": "butt"}
    layers.append({"mark": mark, "encoding": line})
    if len({row["x"] for row in rows}) <= 40:
        dots = {"x": x, "y": y, "color": scales["color"], "shape": scales["shape"]}
        mark = {"type": "point", "filled": True, "size": 42, "opacity": 1}
        layers.append({"mark": mark, "encoding": dots})
    return [*layers, *_references(chart)], 250


def _bars(chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]) -> tuple[list[Spec], int]:
    sideways = _sideways(chart, rows)
    return _categorical(chart, rows, places, sideways, zero=True)


def _points(chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]) -> tuple[list[Spec], int]:
    if _named(chart):
        return _categorical(chart, rows, places, True, zero=False)
    x, y, scales = _x_axis(chart, rows), _y_axis(chart, rows), _scales(places)
    x["scale"] = {**x["scale"], "nice": not chart.log_x, "zero": False} if not chart.log_x else x["scale"]
    many = len(rows) > 150
    layers = _errors(rows, x, "y", scales)
    mark: Spec = {"type": "point", "filled": True, "size": 18 if many else 46, "opacity": 0.6 if many else 1}
    layers.append({"mark": mark, "encoding": {"x": x, "y": y, "color": scales["color"], "shape": scales["shape"]}})
    return [*layers, *_references(chart)], 250


def _errors(
    rows: Sequence[Mapping[str, Any]], place: Spec, value: str, scales: Mapping[str, Spec], offset: Spec | None = None
) -> list[Spec]:
    """Return the layer of interval rules, along the channel `value`; nothing if no row has an interval."""
    if not any("lo" in row for row in rows):
        return []
    other = "x" if value == "y" else "y"
    encoding: Spec = {
        other: place,
        value: {"field": "lo", "type": "quantitative"},
        f"{value}2": {"field": "hi"},
    }
    if offset:
        encoding[f"{other}Offset"] = offset
    encoding["color"] = scales["color"]
    return [
        {"transform": [{"filter": "isValid(datum.lo)"}], "mark": {"type": "rule", "strokeWidth": 2}, "encoding": encoding}
    ]


def _categorical(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int], sideways: bool, *, zero: bool
) -> tuple[list[Spec], int]:
    """Bars, or points with intervals, over names."""
    value, name = ("x", "y") if sideways else ("y", "x")
    scales = _scales(places)
    several = len(places) > 1
    names: Spec = {"field": "x", "type": "nominal", "sort": None, "title": None, "axis": {"labelAngle": 0}}
    if not sideways:
        names["title"] = one_line(chart.x_title, 60) if chart.x_title else None
    else:
        names["axis"] |= {"grid": chart.kind == "point", "gridDash": [1, 3]}
    along = _y_axis(chart, rows, zero=zero)
    if sideways:
        along["title"] = one_line(chart.y_title or chart.y, 60)
        along["axis"] |= {"grid": True, "domain": False, "ticks": False, "labelFlush": False, "tickCount": 5}
    offset: Spec | None = None
    if several:
        offset = {"field": "s", "type": "nominal", "scale": {"domain": list(places)}}
    encoding: Spec = {name: names, value: along, "color": scales["color"]}
    if offset:
        encoding[f"{name}Offset"] = offset
    layers: list[Spec]
    if chart.kind == "bar":
        mark: Spec = {"type": "bar", "opacity": 0.85, "cornerRadiusEnd": 1.5}
        names["scale"] = {"paddingInner": 0.3 if several or sideways else 0.5, "paddingOuter": 0.2}
        layers = [{"mark": mark, "encoding": encoding}]
        whiskers = _errors(rows, names, value, {"color": {"value": "var(--ink)"}}, offset)
        for layer in whiskers:
            layer["mark"] = {"type": "rule", "strokeWidth": 1.4}
        layers += whiskers
    else:
        layers = _errors(rows, names, value, scales, offset)
        mark = {"type": "point", "filled": True, "size": 60, "opacity": 1}
        layers.append({"mark": mark, "encoding": {**encoding, "shape": scales["shape"]}})
    count = len({row["x"] for row in rows})
    height = max(80, count * (12 + 13 * len(places))) if sideways else 240
    return [*layers, *_references(chart, value)], min(height, 1400)


def _histogram(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]
) -> tuple[list[Spec], int]:
    """Stairs over bins: their middles are in x and their heights in y, or x holds raw values to be counted."""
    scales = _scales(places)
    if not chart.y:
        rows[:] = _counted(rows, chart.log_x)
    stairs = [step for name in places for step in _stairs([r for r in rows if r["s"] == name], chart.log_x)]
    if not stairs:
        stairs = [{"x": row["x"], "y": row["y"], "s": row["s"]} for row in rows]
    rows[:] = stairs
    x = _x_axis(chart, stairs)
    x["axis"] = {"format": ",~r", "labelFlush": True}
    if chart.log_x:
        x["axis"]["values"] = _decades(sorted({row["x"] for row in stairs}))
    y = _y_axis(chart, stairs, zero=True)
    both = {"x": x, "y": y, "color": scales["color"]}
    return [
        {"mark": {"type": "area", "interpolate": "step-after", "opacity": 0.2}, "encoding": {**both, "y": {**y, "stack": None}}},
        {"mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.6}, "encoding": both},
        *_references(chart),
    ], 220


def _stairs(rows: Sequence[Mapping[str, Any]], log: bool) -> list[dict[str, Any]]:
    """Return the corners of the stairs of one series, from the middles of its bins."""
    ordered = sorted(rows, key=lambda row: row["x"])
    if len(ordered) < 2:
        return [dict(row) for row in ordered]
    places = [row["x"] for row in ordered]
    if log:
        step = min(b / a for a, b in zip(places, places[1:]) if b > a) ** 0.5
        left, right = 1 / step, step
        corners = [{"x": row["x"] * left, "y": row["y"], "s": row["s"]} for row in ordered]
        last = places[-1] * right
    else:
        half = min((b - a for a, b in zip(places, places[1:]) if b > a), default=1.0) / 2
        corners = [{"x": row["x"] - half, "y": row["y"], "s": row["s"]} for row in ordered]
        last = places[-1] + half
    return [{**corners[0], "y": 0.0}, *corners, {**corners[-1], "x": last}, {**corners[-1], "x": last, "y": 0.0}]


def _counted(rows: Sequence[Mapping[str, Any]], log: bool, bins: int = 30) -> list[dict[str, Any]]:
    """Count raw values in equal bins; each series is scaled to shares, so that unequal sizes compare."""
    import numpy as np

    values = np.array([row["x"] for row in rows], dtype=float)
    spread = np.log10(values) if log else values
    edges = np.histogram_bin_edges(spread, bins=bins)
    middles = (edges[:-1] + edges[1:]) / 2
    if log:
        middles = 10.0**middles
    series = np.array([row["s"] for row in rows])
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(series.tolist()):
        counts, _ = np.histogram(spread[series == name], bins=edges)
        shares = counts / max(1, counts.sum())
        found += [{"x": float(x), "y": float(y), "s": name} for x, y in zip(middles, shares)]
    return found
