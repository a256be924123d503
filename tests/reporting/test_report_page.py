"""The promises of the page as a file: self-contained, escaped, small, readable by every eye."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from karat import blocks
from karat.errors import BadSetting, InputError
from karat.reporting import charts, marks, report, stage, tables

sys.path.insert(0, str(Path(__file__).parent))
import report_stories as stories


class Reader(HTMLParser):
    """Collects the tags, the ids and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


@pytest.fixture(scope="module")
def page() -> str:
    return stage.render(stage._sections(stories.whole()), title="A study")


@pytest.fixture(scope="module")
def hostile() -> str:
    return stage.render(stories.hostile().__report__(), title=stories.BREAKOUT, subtitle=stories.ALERT)


@pytest.mark.parametrize("which", ["page", "hostile"])
def test_the_page_refers_to_nothing_outside_of_itself(which: str, request: pytest.FixtureRequest) -> None:
    """No address but anchors and the empty icon; no style attribute and no handler in any tag."""
    reader = Reader(request.getfixturevalue(which))
    places = [
        value
        for _, attributes in reader.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "srcset")
    ]
    assert [] == [place for place in places if not (place or "").startswith("#") and place != "data:,"]
    assert [] == [
        name for _, found in reader.tags for name in found if name == "style" or name.startswith("on")
    ]
    assert 1 == sum(tag == "script" for tag, _ in reader.tags)
    assert [] == [tag for tag, _ in reader.tags if tag in ("img", "iframe", "object", "embed", "b")]


@pytest.mark.parametrize("which", ["page", "hostile"])
def test_every_id_is_unique_and_every_anchor_has_its_goal(which: str, request: pytest.FixtureRequest) -> None:
    """Two results of one stage, or two charts, do not fight for a name."""
    reader = Reader(request.getfixturevalue(which))
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    goals = {found["href"][1:] for _, found in reader.tags if (found.get("href") or "").startswith("#")}
    assert set() == goals - set(ids)


def test_the_policy_allows_this_script_and_this_style_only(page: str) -> None:
    """The hashes in the policy are those of what stands between the tags."""
    policy = next(found["content"] for tag, found in Reader(page).tags if found.get("http-equiv"))
    assert policy and "default-src 'none'" in policy
    for tag in ("script", "style"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert body
        digest = base64.b64encode(hashlib.sha256(body.group(1).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_text_is_shown_as_the_text_it_is(hostile: str) -> None:
    """Markup from records is read back as text, hidden characters by name, and nothing is evaluated."""
    reader = Reader(hostile)
    assert stories.ALERT in reader.text
    assert "</script><!--\"'><img src=x onerror=alert(2)>" in reader.text
    assert "{{ 7*7 }}" in reader.text
    assert "turned ⟨U+202E RLO⟩gnp.exe" in reader.text
    assert stories.SCRIPTS in reader.text
    assert "1,037,500 more characters are not shown" in reader.text
    assert len(hostile) < 200_000
    assert [] == [
        tag for tag, found in reader.tags if None in found.values() and tag not in ("div", "p", "button")
    ]


def test_no_cell_says_nan(page: str, hostile: str) -> None:
    """A number that is none is a dash with a reason."""
    for text in (page, hostile):
        assert not re.search(
            r"\b(nan|NaN|inf|None)\b", Reader(text.partition("<body")[2]).text.partition('"use strict"')[0]
        )
    assert "not a finite number" in hostile


def test_thousands_of_records_make_a_small_page_that_says_what_is_left_out() -> None:
    """10,000 examples: under 3 MB, and the count of those left out stands on the page."""
    text = "word " * 200
    rows = tuple(
        blocks.Example(side, text, "l", f"{n}") for n in range(5000) for side in ("human", "synthetic")
    )
    sections = [blocks.Section("many", (blocks.Examples(rows), blocks.Examples(rows))) for _ in range(10)]
    page = stage.render(sections, title="many")
    assert len(page.encode()) < 3_000_000
    shown = page.count('<article class="card')
    assert 100 < shown < 10_000
    assert re.search(r"This page holds [\d,]+ of 10,000 records \(human: [\d,]+ of 5,000, synthetic", page)
    assert "were left out" in page


def test_scores_share_decimals_flags_have_words_and_rows_explain_themselves(page: str) -> None:
    """One row of the audit, as a reader sees it."""
    text = re.sub(r"\s+", " ", Reader(page).text)
    assert "distinct_n ▲ differs 0.412 0.538 −0.126 0.538 0.538 [0.405, 0.419] <0.001" in text
    assert "Share of distinct bigrams." in text
    assert "distinct_n|tokens:word|groups:20|version:0.1.0|ref:6c1c5162" in text
    assert "▲ 8 of 13 flagged" in text


def test_the_headline_of_the_highest_rank_leads(page: str) -> None:
    """What the data is worth stands first although its section comes late."""
    values = re.findall(r'<p class="value">([^<]+)</p>', page)
    assert ["812", "9 of 13", "2.8"] == values


def test_charts_are_images_with_a_description_a_table_and_the_colours_of_the_page(page: str) -> None:
    """No colour is fixed, so that one drawing serves light and dark; the words serve who cannot see it."""
    drawings = re.findall(r'<svg viewBox="[^"]*" class="drawing".*?</svg>', page, re.S)
    assert 7 == len(drawings)
    for drawing in drawings:
        assert 'role="img"' in drawing and "<title" in drawing and "<desc" in drawing
        colours = set(re.findall(r'(?:fill|stroke)="([^"]*)"', drawing))
        assert set() == {
            c for c in colours if c not in ("none", "transparent") and not c.startswith("var(--")
        }
    assert 7 == page.count("Numbers of this chart")
    assert "all human data" in drawings[3] and "chance" in drawings[3]


def test_a_series_keeps_its_colour_on_the_whole_page() -> None:
    """human, synthetic and mixed have places of their own, whoever comes first."""
    palette = charts.Palette()
    assert [3, 1, 0, 3, 4] == [
        palette.place(name) for name in ("full", "synthetic", "human", "full", "expanding")
    ]


def test_the_last_label_of_a_logarithmic_axis_touches_no_other() -> None:
    """The label of the last value ends there, so that the one before it needs more room than others."""
    sizes = [10, 30, 100, 300, 1000, 1223, 1500, 2447, 3000]
    rows = tuple({"x": size, "y": 0.5} for size in sizes)
    shown = marks._x_axis(blocks.Chart("line", rows, "x", "y", log_x=True), rows)["axis"]["values"]
    assert [10, 30, 100, 300, 1000, 3000] == shown


HOSTILE_CHARTS = [
    blocks.Chart(kind, rows, "x", "y", **more)  # type: ignore[arg-type]
    for kind in ("line", "bar", "point", "histogram")
    for more in ({}, {"log_x": True}, {"series": "s", "low": "l", "high": "h"})
    for rows in (
        (),
        ({"x": 0, "y": 0},),
        ({"x": -1, "y": -5}, {"x": 3, "y": 2}),
        ({"x": 1e308, "y": 1e308}, {"x": -1e308, "y": -1e308}),
        ({"x": 5e-324, "y": 5e-324}, {"x": 1, "y": 1}),
        ({"x": 10**400, "y": 1}, {"x": 1, "y": 10**400}),
        ({"x": "a", "y": 1}, {"x": 2, "y": 3}, {"x": "", "y": 1}),
        ({"x": "👩‍👩‍👧" * 30, "y": 1, "s": "\x01\ud800\ufffe"}, {"x": "日本語" * 30, "y": 2, "s": "\u202e"}),
        ({"x": 1, "y": 1, "s": "a", "l": None, "h": float("inf")}, {"x": 2, "y": 1, "l": 0, "h": 2}),
    )
]
HOSTILE_CHARTS += [
    blocks.Chart("heat", rows, "x", "y", **more)  # type: ignore[arg-type]
    for more in ({}, {"value": "v"}, {"category": "c"}, {"value": "v", "category": "c", "sure": "s"})
    for rows in (
        (),
        ({"x": 0, "y": 0, "v": 0, "c": "", "s": None},),
        ({"x": 1e308, "y": -1e308, "v": 1e308, "c": "a"}, {"x": 1, "y": 5e-324, "v": -1e308, "s": 0}),
        (
            {"x": 10**400, "y": 1, "v": 1},
            {"x": 1, "y": float("nan"), "v": 1},
            {"x": 1, "y": 1, "v": float("inf")},
        ),
        (
            {"x": "a", "y": 1, "v": 2, "c": 3},
            {"x": 2, "y": "👩‍👩‍👧" * 30, "v": True, "c": "\x01\ud800\ufffe" * 9},
        ),
        tuple({"x": n % 97, "y": n // 97, "v": n, "c": f"c{n % 11}"} for n in range(97 * 60)),
    )
]


def test_no_chart_however_odd_costs_the_page() -> None:
    """Empty, one point, huge, tiny, mixed, hostile values: the page is made, and says what is missing."""
    sections = [blocks.Section("odd", tuple(HOSTILE_CHARTS))]
    page = stage.render(sections, title="odd")
    assert len(HOSTILE_CHARTS) == page.count("<figure>")
    drawn = page.count('class="drawing"')
    unsaid = (
        len(HOSTILE_CHARTS)
        - drawn
        - page.count("There is nothing to draw.")
        - page.count("could not be drawn")
    )
    assert 0 == unsaid
    assert drawn > len(HOSTILE_CHARTS) / 2


def test_an_existing_page_is_replaced_as_a_whole_and_bad_places_are_named(tmp_path: Path) -> None:
    """No half-written page is ever left; a folder or a stranger is refused in one line."""
    out = tmp_path / "new" / "report.html"
    assert out == report(stories.reproduce(), out=out)
    assert out == report(stories.value(), out=str(out))
    assert ["report.html"] == [path.name for path in out.parent.iterdir()]
    with pytest.raises(InputError, match="is a folder"):
        report(stories.value(), out=tmp_path)
    with pytest.raises(BadSetting, match="cannot show a 'int'"):
        report(3, out=out)
    with pytest.raises(BadSetting, match="nothing to show"):
        report(out=out)


def test_progress_counts_the_charts(tmp_path: Path) -> None:
    """The caller hears of each chart."""
    heard: list[tuple[str, int, int]] = []
    report(stories.value(), out=tmp_path / "r.html", progress=lambda *news: heard.append(news))
    assert [("report", 1, 2), ("report", 2, 2)] == heard


def test_a_table_longer_than_the_page_allows_says_so() -> None:
    """Rows are cut at a stated number."""
    table = blocks.Table((blocks.Column("n", "n", "number"),), tuple({"n": n} for n in range(1000)))
    assert 800 == tables.view(table).left_out


STYLE = (Path(stage.__file__).parent / "page.css").read_text(encoding="utf-8")


def themes() -> dict[str, dict[str, str]]:
    light = re.search(r":root \{(.*?)\}", STYLE, re.S)
    dark = re.search(r':root\[data-theme="dark"\] \{(.*?)\}', STYLE, re.S)
    assert light and dark
    return {
        name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", found.group(1)))
        for name, found in (("light", light), ("dark", dark))
    }


def linear(colour: str) -> tuple[float, float, float]:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return red, green, blue


def contrast(one: str, other: str) -> float:
    low, high = sorted(sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(x))) for x in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out_from_the_paper(theme: str) -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for marks."""
    colours = themes()[theme]
    for name in ("ink", "ink-soft", "accent", "warning", "good"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for number in range(1, 9):
        assert contrast(colours[f"series-{number}"], colours["paper"]) >= 3, number


# Machado, Oliveira and Fernandes 2009, severity 1.0, in linear RGB
BLIND = {
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def oklab(rgb: tuple[float, ...]) -> tuple[float, ...]:
    r, g, b = (max(0.0, c) for c in rgb)
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eye", sorted(BLIND))
def test_series_stay_apart_for_colour_blind_readers(theme: str, eye: str) -> None:
    """Series that share a chart differ by 0.1 in OKLab (0.02 is just seen); shape and dash differ too."""
    colours = themes()[theme]
    for together in ((1, 2, 3), (4, 5, 6)):
        seen = []
        for number in together:
            rgb = linear(colours[f"series-{number}"])
            seen.append(oklab(tuple(sum(w * c for w, c in zip(row, rgb)) for row in BLIND[eye])))
        pairs = itertools.combinations(seen, 2)
        assert min(math.dist(*pair) for pair in pairs) >= 0.1, together


def test_the_dark_colours_of_the_system_and_of_the_button_are_the_same() -> None:
    """The dark variables are written twice, because CSS has no other way; they must not drift apart."""
    blocks_found = re.findall(r"--paper: #16171a;.*?color-scheme: dark;", STYLE, re.S)
    assert 2 == len(blocks_found)
    assert re.sub(r"\s+", " ", blocks_found[0]) == re.sub(r"\s+", " ", blocks_found[1])


def test_numbers_of_one_column_do_not_round_each_other_away() -> None:
    """A list of facts keeps counts whole and shares exact; both ends of an interval have their digits."""
    facts = (
        {"name": "rows", "value": 40},
        {"name": "model", "value": "m"},
        {"name": "share", "value": 0.354},
    )
    one = tables.view(blocks.Table((blocks.Column("name", ""), blocks.Column("value", "")), facts))
    assert ["40", "m", "0.354"] == [str(row.cells[1].html) for row in one.rows]
    columns = (blocks.Column("name", "name"), blocks.Column("interval", "95% interval", "interval"))
    rows = ({"name": "length", "interval": [0.221, 0.505]}, {"name": "mood", "interval": (0.9, 1.0)})
    other = tables.view(blocks.Table(columns, rows))
    assert ["[0.221, 0.505]", "[0.900, 1.000]"] == [str(row.cells[1].html) for row in other.rows]


def test_a_table_without_titles_has_no_row_of_them() -> None:
    """An empty head would be an empty line on the page, and an empty cell to those who hear it."""
    rows = ({"name": "rows", "value": 40},)
    for title, heads in (("", 0), ("what", 1)):
        columns = (blocks.Column("name", title), blocks.Column("value", title))
        section = blocks.Section("S", (blocks.Table(columns, rows),))
        found = Reader(stage.render([section], title="T"))
        assert heads == sum(tag == "thead" for tag, _ in found.tags)
