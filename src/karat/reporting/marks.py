"""The layers of a drawing: axes, lines with bands, bars, points, stairs, reference lines. Knows no page.

Rows come in with the short keys x, y, s (series), lo and hi; see `charts.plan`.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from karat import blocks
from karat.reporting import numbers
from karat.reporting.text import columns, one_line

SHAPES = ("circle", "diamond", "square", "triangle-up", "triangle-down", "cross", "circle", "diamond")
DASHES = ([1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [1, 0], [7, 3], [2, 2], [8, 3, 2, 3])

Spec = dict[str, Any]


def layers(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]
) -> tuple[list[Spec], int]:
    """Return the layers of a chart and its height in px; may replace the rows by those to be drawn."""
    if chart.kind == "histogram" and named(chart):
        return _categorical(chart, rows, places, sideways(chart, rows), zero=True)
    build = {"line": _lines, "bar": _bars, "point": _points, "histogram": _histogram}[chart.kind]
    return build(chart, rows, places)


def title_lines(text: str, width: int = 54) -> list[str]:
    """Return a title in at most two lines; the drawing does not wrap."""
    return textwrap.wrap(one_line(text, 2 * width - 8), width)[:2]


def colour(place: int) -> str:
    """Return the CSS variable of a series' place."""
    return f"var(--series-{place + 1})"


def named(chart: blocks.Chart) -> bool:
    """Return whether x holds names and not numbers."""
    values = (row.get(chart.x) for row in chart.rows)
    return any(not numbers.is_missing(value) and not numbers.is_number(value) for value in values)


def sideways(chart: blocks.Chart, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the names need the room that only a horizontal drawing gives."""
    if chart.kind == "line" or not named(chart):
        return False
    names = {str(row["x"]) for row in rows}
    return chart.kind == "point" or len(names) > 6 or max(map(len, names)) > 9


def _scales(places: Mapping[str, int]) -> dict[str, Spec]:
    names = list(places)
    several = len(names) > 1  # one series alone is drawn plainly
    return {
        "color": {
            "field": "s",
            "type": "nominal",
            "scale": {"domain": names, "range": [colour(place) for place in places.values()]},
        },
        "shape": {
            "field": "s",
            "type": "nominal",
            "scale": {
                "domain": names,
                "range": [SHAPES[place if several else 0] for place in places.values()],
            },
        },
        "strokeDash": {
            "field": "s",
            "type": "nominal",
            "scale": {
                "domain": names,
                "range": [DASHES[place if several else 0] for place in places.values()],
            },
        },
    }


def _x_axis(chart: blocks.Chart, rows: Sequence[Mapping[str, Any]]) -> Spec:
    title = title_lines(chart.x_title or chart.x)
    if named(chart):
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
    """Return those of the sorted values whose labels do not touch on a logarithmic axis, and the last."""
    span = math.log(values[-1] / values[0]) or 1.0
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        # the label of the last one ends at its value, those of others have their middle there
        if math.log(kept[-1] / value) / span >= (room if len(kept) > 1 else 1.4 * room):
            kept.append(value)
    return kept[::-1]


def _decades(values: list[float]) -> list[float]:
    low, high = math.floor(math.log10(values[0])), math.ceil(math.log10(values[-1]))
    steps = (1,) if high - low > 3 else (1, 3) if values[-1] / values[0] > 300 else (1, 2, 5)
    return [
        s * 10.0**p for p in range(low, high + 1) for s in steps if values[0] <= s * 10.0**p <= values[-1]
    ]


def _y_axis(
    chart: blocks.Chart, rows: Sequence[Mapping[str, Any]], key: str = "y", *, zero: bool = False
) -> Spec:
    ends = [row[name] for row in rows for name in ("y", "lo", "hi") if name in row]
    ends += [line.y for line in chart.lines if numbers.is_number(line.y)]
    scale: Spec = {"zero": zero, "nice": True}
    if not zero and ends and min(ends) >= 0 and min(ends) < 0.35 * max(ends):
        scale["zero"] = True
    axis: Spec = {"format": "~s"} if ends and max(map(abs, ends)) >= 100_000 else {}
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
        text: Spec = {
            "type": "text",
            "text": one_line(line.label, 40),
            "fontSize": 13,
            "color": "var(--ink-soft)",
        }
        if channel == "y":
            text |= {"align": "right", "baseline": "bottom", "dy": -3, "x": "width"}
        else:
            text |= {"align": "center", "baseline": "bottom", "dy": -4, "y": 0}
        halo = {**text, "stroke": "var(--paper)", "strokeWidth": 4, "color": "var(--paper)"}
        for mark in (halo, text):
            layers.append({"data": {"values": [{}]}, "mark": mark, "encoding": {channel: at}})
    return layers


def _lines(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]
) -> tuple[list[Spec], int]:
    x, y = _x_axis(chart, rows), _y_axis(chart, rows)
    scales = _scales(places)
    layers: list[Spec] = []
    if any("lo" in row for row in rows):
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.lo)"}],
                "mark": {"type": "area", "opacity": 0.16, "line": False},
                "encoding": {
                    "x": x,
                    "y": {**y, "field": "lo"},
                    "y2": {"field": "hi"},
                    "color": scales["color"],
                },
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


def _bars(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]
) -> tuple[list[Spec], int]:
    return _categorical(chart, rows, places, sideways(chart, rows), zero=True)


def _points(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]
) -> tuple[list[Spec], int]:
    if named(chart):
        return _categorical(chart, rows, places, True, zero=False)
    x, y, scales = _x_axis(chart, rows), _y_axis(chart, rows), _scales(places)
    x["scale"] = {**x["scale"], "nice": not chart.log_x, "zero": False} if not chart.log_x else x["scale"]
    many = len(rows) > 150
    layers = _errors(rows, x, "y", scales)
    mark: Spec = {"type": "point", "filled": True, "size": 18 if many else 46, "opacity": 0.6 if many else 1}
    layers.append(
        {"mark": mark, "encoding": {"x": x, "y": y, "color": scales["color"], "shape": scales["shape"]}}
    )
    return [*layers, *_references(chart)], 250


def _errors(
    rows: Sequence[Mapping[str, Any]],
    place: Spec,
    value: str,
    scales: Mapping[str, Spec],
    offset: Spec | None = None,
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
        {
            "transform": [{"filter": "isValid(datum.lo)"}],
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": encoding,
        }
    ]


def _categorical(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int], lying: bool, *, zero: bool
) -> tuple[list[Spec], int]:
    """Bars, or points with intervals, over names."""
    value, name = ("x", "y") if lying else ("y", "x")
    scales = _scales(places)
    several = len(places) > 1
    names: Spec = {"field": "x", "type": "nominal", "sort": None, "title": None, "axis": {"labelAngle": 0}}
    if not lying:
        names["title"] = title_lines(chart.x_title) if chart.x_title else None
    else:
        # the reader's letters may be wider than those that the engine measures with
        room = 7.8 * max(columns(row["x"]) for row in rows) + 8
        names["axis"] |= {"grid": chart.kind == "point", "gridDash": [1, 3], "minExtent": round(room)}
    along = _y_axis(chart, rows, zero=zero)
    if lying:
        along["title"] = title_lines(chart.y_title or chart.y)
        along["axis"] |= {"grid": True, "domain": False, "ticks": False, "labelFlush": False, "tickCount": 5}
    offset: Spec | None = None
    if several:
        offset = {"field": "s", "type": "nominal", "scale": {"domain": list(places)}}
    encoding: Spec = {name: names, value: along, "color": scales["color"]}
    if offset:
        encoding[f"{name}Offset"] = offset
    layers: list[Spec]
    if chart.kind != "point":
        mark: Spec = {"type": "bar", "opacity": 0.85, "cornerRadiusEnd": 1.5}
        names["scale"] = {"paddingInner": 0.3 if several or lying else 0.5, "paddingOuter": 0.2}
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
    height = max(80, count * (12 + 13 * len(places))) if lying else 240
    return [*layers, *_references(chart, value)], min(height, 1400)


def _histogram(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]
) -> tuple[list[Spec], int]:
    """Stairs over bins: their middles are in x and their heights in y."""
    scales = _scales(places)
    stairs = [step for name in places for step in _stairs([r for r in rows if r["s"] == name], chart.log_x)]
    rows[:] = stairs
    x = _x_axis(chart, stairs)
    x["axis"] = {"format": ",~r", "labelFlush": True}
    if chart.log_x:
        x["axis"]["values"] = _decades(sorted({row["x"] for row in stairs}))
    y = _y_axis(chart, stairs, zero=True)
    both = {"x": x, "y": y, "color": scales["color"]}
    return [
        {
            "mark": {"type": "area", "interpolate": "step-after", "opacity": 0.2},
            "encoding": {**both, "y": {**y, "stack": None}},
        },
        {"mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.6}, "encoding": both},
        *_references(chart),
    ], 220


def _stairs(rows: Sequence[Mapping[str, Any]], log: bool) -> list[dict[str, Any]]:
    """Return the corners of the stairs of one series, from the middles of its bins."""
    ordered = sorted(rows, key=lambda row: row["x"])
    places = [row["x"] for row in ordered]
    steps = [(a, b) for a, b in itertools.pairwise(places) if b > a]
    if log:
        factor = min((b / a for a, b in steps), default=1.5) ** 0.5
        corners = [{**row, "x": row["x"] / factor} for row in ordered]
        last = places[-1] * factor
    else:
        half = min((b - a for a, b in steps), default=1.0) / 2
        corners = [{**row, "x": row["x"] - half} for row in ordered]
        last = places[-1] + half
    return [
        {**corners[0], "y": 0.0},
        *corners,
        {**corners[-1], "x": last},
        {**corners[-1], "x": last, "y": 0.0},
    ]
