"""Heat maps: every cell says its number and its category without colour, on light and dark paper."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
from test_report_page import BLIND, contrast, linear, oklab, themes

from karat import blocks, console
from karat.reporting import charts, heat, stage

PHASES = tuple(
    {"temperature": t, "share": f, "kept": kept, "what": what, "sure": sure}
    for t, f, kept, what, sure in (
        (0.8, 0.0, 0.41, "diversity", 1.0),
        (0.8, 0.25, 0.93, "neither", 1.0),
        (1.0, 0.25, 0.88, "correctness", 0.67),
        (1.0, 0.0, 0.7, "both", 1.0),
    )
)


def phases(**more: Any) -> blocks.Chart:
    given: dict[str, Any] = {"value": "kept", "category": "what", "sure": "sure", "percent": True}
    return blocks.Chart("heat", PHASES, "temperature", "share", title="What collapses", **{**given, **more})


def page_of(chart: blocks.Chart) -> str:
    return stage.render([blocks.Section("phases", (chart,))], title="phases")


def drawing_of(chart: blocks.Chart) -> str:
    found = re.search(r'<svg viewBox="[^"]*" class="drawing".*?</svg>', page_of(chart), re.S)
    assert found
    return found.group()


def texts(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def test_each_cell_has_its_number_and_its_doubt_as_text() -> None:
    """Who sees no colour reads the numbers, and a question mark where less than 80% of the runs agree."""
    shown = texts(drawing_of(phases()))
    assert ["41%", "93%", "88%?", "70%"] == [text for text in shown if "%" in text]
    assert "less than 80% agrees" in page_of(phases())
    assert "less than 80%" not in page_of(phases(sure=None))


def test_places_are_ordered_as_numbers_and_all_of_them_are_named() -> None:
    """Temperatures rise to the right and shares rise upwards, whatever order the rows come in."""
    at = {
        text: (float(x), float(y))
        for x, y, text in re.findall(
            r'<text[^>]*translate\(([-.0-9]+),([-.0-9]+)\)"[^>]*>([^<]*)</text>', drawing_of(phases())
        )
    }
    assert at["0.8"][0] < at["1"][0]
    assert at["0.25"][1] < at["0"][1]  # y grows downwards in a drawing
    assert [0.8, 1.0] == blocks.places(phases(), "temperature")
    many = blocks.Chart("heat", tuple({"x": n, "y": 1, "v": n} for n in range(7)), "x", "y", value="v")
    plan = charts.plan(many, charts.Palette())
    assert plan.spec is not None
    assert [str(n) for n in range(7)] == plan.spec["layer"][0]["encoding"]["x"]["axis"]["values"]


def test_categories_have_a_shape_each_and_keep_their_colour_on_the_page() -> None:
    """The legend names what collapses in one order; no two of the four share a shape or a colour."""
    legend = charts.plan(phases(), charts.Palette()).legend
    assert ["diversity", "correctness", "both", "neither"] == [key.name for key in legend]
    assert 4 == len({key.shape for key in legend}) == len({key.place for key in legend})
    alone = charts.plan(
        blocks.Chart("heat", PHASES[1:2], "temperature", "share", category="what"), charts.Palette()
    )
    assert [key for key in legend if key.name == "neither"] == list(alone.legend)


def test_values_alone_are_told_by_the_strength_of_one_colour() -> None:
    """The highest value has the strongest tint, the lowest the faintest, and a sentence says so."""
    plan = charts.plan(phases(category=None, sure=None), charts.Palette())
    assert plan.spec is not None
    tints = {row["t"]: row["o"] for row in plan.spec["data"]["values"]}
    assert (heat.FAINT, heat.STRONG) == (tints["41%"], tints["93%"])
    assert ("The stronger the colour, the higher the value: from 41% to 93%.",) == plan.notes
    assert () == plan.legend


def test_words_say_what_the_drawing_shows() -> None:
    """A screen reader hears the axes, how many cells each category has, and that the table is below."""
    described = re.search(r"<desc[^>]*>([^<]*)</desc>", drawing_of(phases()))
    assert described
    assert "over temperature (across) and share (upwards)" in described[1]
    assert "diversity 1, neither 1, correctness 1, both 1" in described[1]
    assert "Not sure: 1 cells." in described[1]
    table = page_of(phases()).partition("Numbers of this chart")[2]
    assert all(f">{name}<" in table for name in ("diversity", "correctness", "both", "neither"))


def test_a_place_given_twice_and_an_empty_cell_are_said() -> None:
    """Nothing is painted over in silence."""
    rows = (*PHASES, {**PHASES[0], "kept": 0.9}, {"temperature": 1.0, "share": 0.5, "kept": None, "what": ""})
    plan = charts.plan(blocks.Chart("heat", rows, "temperature", "share", value="kept"), charts.Palette())
    assert plan.notes[:2] == (
        "Not drawn: 1 cell without a value.",
        "1 more row has the place of a drawn cell.",
    )
    assert plan.spec is not None and 4 == len(plan.spec["data"]["values"])


def test_a_terminal_gets_the_cells_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are temperatures, rows are shares with the highest on top; a place without a row is empty."""
    table = blocks.grid(phases())
    assert ["share \\ temperature", "0.8", "1"] == [column.title for column in table.columns]
    assert {"y": "0.25", "x0": "93% neither", "x1": "88% correctness?"} == table.rows[0]
    assert {"y": "0", "x0": "41% diversity", "x1": "70% both"} == table.rows[1]
    assert (
        None
        is blocks.grid(blocks.Chart("heat", PHASES[1:], "temperature", "share", value="kept")).rows[1]["x0"]
    )
    console.draw([blocks.Section("phases", (table,))])
    assert "41% diversity" in capsys.readouterr().out


def over(colour: str, paper: str, opacity: float) -> str:
    """The colour that is seen where one lies thinned on another."""
    pairs = [(int(colour[p : p + 2], 16), int(paper[p : p + 2], 16)) for p in (1, 3, 5)]
    return "#" + "".join(f"{round(opacity * top + (1 - opacity) * below):02x}" for top, below in pairs)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_on_every_tint_keeps_its_contrast(theme: str) -> None:
    """WCAG 2.2: 4.5 to 1 for text on any category's cell and on the strongest value."""
    colours = themes()[theme]
    for number in range(1, 9):
        tint = over(colours[f"series-{number}"], colours["paper"], heat.TINT)
        assert contrast(colours["ink"], tint) >= 4.5, number
    strongest = over(colours[f"series-{heat.SCALE + 1}"], colours["paper"], heat.STRONG)
    assert contrast(colours["ink"], strongest) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eye", sorted(BLIND))
def test_tints_of_the_phases_stay_apart_for_colour_blind_readers(theme: str, eye: str) -> None:
    """Areas side by side differ by more than is just seen (0.02 in OKLab); shapes differ too."""
    colours = themes()[theme]
    seen = []
    for place in heat.FIXED.values():
        rgb = linear(over(colours[f"series-{place + 1}"], colours["paper"], heat.TINT))
        seen.append(oklab(tuple(sum(w * c for w, c in zip(row, rgb)) for row in BLIND[eye])))
    assert min(math.dist(*pair) for pair in itertools.combinations(seen, 2)) > 0.02
