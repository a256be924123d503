"""The cells of a heat map: tints, numbers as text, shapes for categories. Knows no page.

Colours are those of the series, thinned so far that text on them keeps its contrast on light and dark paper.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from karat import blocks
from karat.reporting import marks, numbers
from karat.reporting.marks import Spec
from karat.reporting.text import columns, one_line, short_names

TINT = 0.38  # opacity of a sure cell with a category: text on it keeps 4.5 to 1 for all series
PALE = 0.14  # ... and of one that is not sure
FAINT, STRONG = 0.04, 0.55  # opacity of the lowest and the highest value, in the colour of SCALE
SCALE = 1  # place of the colour of values without categories
FIXED = {"diversity": 3, "correctness": 5, "both": 4, "neither": 6}
"""What collapses has the same colour on all pages, and this order in legends; grey where nothing does."""

NAME_WIDTH = 14  # columns of a tick
ROOM = 400  # px that the cells have together; the ticks of y take the rest


def cells(chart: blocks.Chart) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the cells that can be drawn, under short keys, and a sentence for each thing that cannot.

    Keys: x, y (places as text), s (category), v (value or None), t (text), o (opacity).
    """
    found: dict[tuple[str, str], blocks.Row] = {}
    empty = again = 0
    for row in chart.rows:
        place = (row.get(chart.x), row.get(chart.y))
        ticks = (blocks.tick(place[0]), blocks.tick(place[1]))
        has_value = numbers.is_number(row.get(chart.value or ""))
        if any(map(numbers.is_missing, place)) or not (has_value or row.get(chart.category or "")):
            empty += 1
        elif ticks in found:
            again += 1
        else:
            found[ticks] = row
    notes = []
    if empty:
        notes.append(f"Not drawn: {empty:,} {'cell' if empty == 1 else 'cells'} without a value.")
    if again:
        notes.append(f"{again:,} more {'row has' if again == 1 else 'rows have'} the place of a drawn cell.")
    values = _values(chart, found.values())
    ends = (min(values), max(values)) if values else (0.0, 0.0)
    if values and not chart.category:
        low, high = (blocks.cell_text(chart, {chart.value or "": end}) for end in ends)
        notes.append(f"The stronger the colour, the higher the value: from {low} to {high}.")
    if any(blocks.unsure(chart, row) for row in found.values()):
        notes.append(
            f"Pale, with a question mark: less than {blocks.SURE:.0%} agrees with what the cell says."
        )
    return [_cell(chart, row, ends) for row in found.values()], tuple(notes)


def _values(chart: blocks.Chart, rows: Iterable[blocks.Row]) -> list[float]:
    found = [row.get(chart.value or "") for row in rows]
    return [float(value) for value in found if value is not None and numbers.is_number(value)]


def _cell(chart: blocks.Chart, row: blocks.Row, ends: tuple[float, float]) -> dict[str, Any]:
    value = row.get(chart.value or "")
    amount = float(value) if numbers.is_number(value) else None  # type: ignore[arg-type]
    if chart.category:
        opacity = PALE if blocks.unsure(chart, row) else TINT
    else:
        span = ends[1] - ends[0]
        share = (amount - ends[0]) / span if amount is not None and span else 0.5
        opacity = FAINT + (STRONG - FAINT) * share
    return {
        "x": blocks.tick(row[chart.x]),
        "y": blocks.tick(row[chart.y]),
        "s": str(row.get(chart.category) or "") if chart.category else "",
        "t": blocks.cell_text(chart, row),
        "o": round(opacity, 3),
    }


def categories(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the categories in the order of a legend: the fixed ones in theirs, others before them."""
    found = list(dict.fromkeys(row["s"] for row in rows if row["s"]))
    return sorted(found, key=lambda name: list(FIXED).index(name) if name in FIXED else -1)


def layers(
    chart: blocks.Chart, rows: list[dict[str, Any]], places: Mapping[str, int]
) -> tuple[list[Spec], int]:
    """Return the layers of a heat map and its height in px."""
    across = [blocks.tick(place) for place in blocks.places(chart, chart.x)]
    down = [blocks.tick(place) for place in blocks.places(chart, chart.y)[::-1]]
    drawn = ({row["x"] for row in rows}, {row["y"] for row in rows})
    names = short_names((place for place in across if place in drawn[0]), NAME_WIDTH)
    sides = short_names((place for place in down if place in drawn[1]), NAME_WIDTH)
    for row in rows:
        row["x"], row["y"] = names[row["x"]], sides[row["y"]]
    wide = ROOM / len(names)
    tall = 38 if places and wide >= 22 else max(8.0, min(32.0, 400 / len(sides)))
    x = _axis("x", list(names.values()), marks.title_lines(chart.x_title or chart.x), room=wide)
    y = _axis("y", list(sides.values()), None, tall=tall)
    at = {"x": x, "y": y}
    colour: Spec = {"value": marks.colour(SCALE)}
    if places:
        span = [marks.colour(place) for place in places.values()]
        colour = {"field": "s", "type": "nominal", "scale": {"domain": list(places), "range": span}}
    opacity = {"field": "o", "type": "quantitative", "scale": None}
    edge = {"value": "var(--axis)"}
    found: list[Spec] = [
        {
            "mark": {"type": "rect", "strokeWidth": 0.5},
            "encoding": {**at, "fill": colour, "fillOpacity": opacity, "stroke": edge},
        }
    ]
    written = [row for row in rows if row["t"]]
    fits = bool(written) and wide >= 7.6 * max(columns(row["t"]) for row in written) + 4 and tall >= 18
    if places and wide >= 11 and tall >= 11:
        shapes = [marks.SHAPES[place] for place in places.values()]
        shape = {"field": "s", "type": "nominal", "scale": {"domain": list(places), "range": shapes}}
        mark: Spec = {"type": "point", "filled": True, "size": 40 if wide >= 22 else 24, "opacity": 1}
        if fits:
            mark["yOffset"] = -9
        found.append({"mark": mark, "encoding": {**at, "color": colour, "shape": shape}})
    if fits:
        text: Spec = {"type": "text", "fontSize": 13, "color": "var(--ink)", "baseline": "middle"}
        if places:
            text["yOffset"] = 8
        found.append({"mark": text, "encoding": {**at, "text": {"field": "t", "type": "nominal"}}})
    return found, min(1400, round(max(60.0, tall * len(sides))))


def _axis(
    channel: str, names: list[str], title: list[str] | None, *, room: float | None = None, tall: float = 0.0
) -> Spec:
    axis: Spec = {"labelAngle": 0, "ticks": False, "domain": False, "grid": False, "labelFlush": False}
    if room is not None:  # labels that would touch are left out, evenly
        axis["values"] = names[:: math.ceil((7.8 * max(map(columns, names)) + 6) / room)]
    else:
        axis["values"] = names[::-1][:: math.ceil(18 / tall)]
        axis["minExtent"] = round(7.8 * max(map(columns, names)) + 8)
    axis["tickCount"] = len(names)  # the engine thins names too
    scale = {"paddingInner": 0.0, "paddingOuter": 0.0}
    return {"field": channel, "type": "ordinal", "sort": names, "title": title, "axis": axis, "scale": scale}


def described(chart: blocks.Chart) -> str:
    """Return a heat map in words: what its axes are, and how many cells each category has."""
    what = chart.value_title or chart.value or chart.category or "cells"
    x, y = chart.x_title or chart.x, chart.y_title or chart.y
    words = [f"Heat map of {what} over {x} (across) and {y} (upwards)."]
    if chart.category:
        counted = Counter(str(row.get(chart.category)) for row in chart.rows if row.get(chart.category))
        words.append("Cells: " + ", ".join(f"{name} {n:,}" for name, n in counted.items()) + ".")
    values = _values(chart, chart.rows)
    if values:
        words.append(f"Values from {min(values):.3g} to {max(values):.3g}.")
    doubtful = sum(blocks.unsure(chart, row) for row in chart.rows)
    if doubtful:
        words.append(f"Not sure: {doubtful:,} cells.")
    words.append("The numbers stand in the table below the chart.")
    return one_line(" ".join(words), 600)
