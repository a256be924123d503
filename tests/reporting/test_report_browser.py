"""The promises of the page as a reader meets it, in a real Chromium; skipped, with a reason, without one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from karat.reporting import report

sys.path.insert(0, str(Path(__file__).parent))
import report_browser as browser
import report_stories as stories

if browser.missing():
    pytest.skip(browser.missing(), allow_module_level=True)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    story = report(*stories.whole(), out=folder / "story.html", title="A study")
    hostile = report(stories.hostile(), out=folder / "hostile.html", title=stories.BREAKOUT)
    return {"story": story.as_uri(), "hostile": hostile.as_uri()}


def opened(driver: Any, address: str, width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
    """Open a page anew, its logs empty."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    browser.emulate(driver, width, height, scheme)
    driver.get(address)
    return driver


def showing(driver: Any, box: int = 0) -> list[dict[str, str]]:
    """Return text, group, label and reason of the cards that a reader sees."""
    found: list[dict[str, str]] = driver.execute_script(
        """
        const word = (card, name) => (card.querySelector(name) || {textContent: ""}).textContent;
        return [...document.querySelectorAll(".examples")[arguments[0]].querySelectorAll(".card")]
            .filter(card => card.checkVisibility())
            .map(card => ({text: word(card, ".text"), group: word(card, ".group"),
                           label: card.dataset.label, reason: word(card, ".reason")}));
        """,
        box,
    )
    return found


def boxes(driver: Any) -> list[Any]:
    found: list[Any] = driver.find_elements("css selector", ".examples")
    return found


@pytest.mark.parametrize("name", ["story", "hostile"])
def test_the_page_opens_without_an_error_an_alert_or_a_request(
    driver: Any, pages: dict[str, str], name: str
) -> None:
    """Nothing in the console, no dialogue, and no address but the file itself and the empty icon."""
    opened(driver, pages[name])
    assert driver.execute_script("return document.readyState") == "complete"
    assert [] == driver.get_log("browser")
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {pages[name]} == {url for url in asked if not url.startswith("data:")}
    assert [] == [m for m in messages if m["method"] == "Page.javascriptDialogOpening"]


def test_the_policy_stops_what_is_smuggled_in(driver: Any, pages: dict[str, str]) -> None:
    """A script, a handler and an image put into the page later neither run nor load."""
    opened(driver, pages["story"])
    smuggle = """
        const add = tag => document.body.appendChild(document.createElement(tag));
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        document.body.append(script);
        const box = add("div");
        box.innerHTML = '<a onclick="window.ran = 2">x</a>';
        box.firstChild.click();
        add("img").src = "https://example.invalid/x.png";
        return new Promise(done => setTimeout(() => done(window.ran || 0), 100));
    """
    assert 0 == driver.execute_script(smuggle)
    refused = [entry["message"] for entry in driver.get_log("browser")]
    assert 3 == sum("Content Security Policy" in message for message in refused)


@pytest.mark.parametrize("name", ["story", "hostile"])
@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_no_page_scrolls_sideways(driver: Any, pages: dict[str, str], name: str, width: int) -> None:
    """Wide things scroll in a box of their own, from phone to desk; also with every row unfolded."""
    opened(driver, pages[name], width)
    unfold = "document.querySelectorAll('.unfold').forEach(b => b.click());"
    driver.execute_script(unfold + "document.querySelectorAll('details').forEach(d => d.open = true);")
    sizes = driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert [width, width] == sizes


def test_letters_stay_readable_on_a_phone(driver: Any, pages: dict[str, str]) -> None:
    """At 360 px no text, not even in a drawing, is smaller than 9 px."""
    opened(driver, pages["story"], 360)
    smallest = """
        const sizes = [...document.querySelectorAll("svg.drawing text")].map(text => {
            const svg = text.closest("svg");
            const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
            return parseFloat(getComputedStyle(text).fontSize) * scale;
        });
        const words = [...document.querySelectorAll("main p, main td, main th, main button")]
            .map(element => parseFloat(getComputedStyle(element).fontSize));
        return Math.min(...sizes, ...words);
    """
    assert driver.execute_script(smallest) >= 9


def test_search_and_filters_choose_records(driver: Any, pages: dict[str, str]) -> None:
    """Words, label and group narrow the records down together, and the counts are right."""
    opened(driver, pages["story"])
    box = boxes(driver)[0]
    assert 16 == len(showing(driver))  # eight of each group at first
    box.find_element("css selector", ".more").click()
    assert 48 == len(showing(driver))

    search = box.find_element("css selector", "input")
    search.send_keys("CONTINUATIONS percent")
    texts = {card["text"].split(".")[0] for card in showing(driver)}
    assert {"Split the header into a list of (value, parameters) pairs"} == texts
    assert "40 of 240 match" == box.find_element("css selector", "output").text

    box.find_element("css selector", "select[data-by=label] option:nth-child(3)").click()
    assert {"email"} == {card["label"] for card in showing(driver)}
    assert "10 of 240 match" == box.find_element("css selector", "output").text

    box.find_element("css selector", "button[data-group='0']").click()  # human off
    assert [] == showing(driver)
    assert box.find_element("css selector", ".nothing").is_displayed()

    search.clear()
    search.send_keys(" ")
    assert {"synthetic"} == {card["group"] for card in showing(driver)}
    assert 0 == driver.execute_script("return CSS.highlights.get('found').size")


def test_dropped_records_are_found_by_reason(driver: Any, pages: dict[str, str]) -> None:
    """The reasons are a list to choose from, and each card names its own."""
    opened(driver, pages["story"])
    box = boxes(driver)[1]
    box.find_element("css selector", "select[data-by=reason] option:nth-child(3)").click()
    found = {card["reason"] for card in showing(driver, 1)}
    assert {"shorter than 5 tokens"} == found
    assert 16 == len(showing(driver, 0))  # the other box is its own


def test_hostile_records_are_searched_as_text(driver: Any, pages: dict[str, str]) -> None:
    """Markup can be searched for like any word, and is shown letter by letter."""
    opened(driver, pages["hostile"])
    boxes(driver)[0].find_element("css selector", "input").send_keys("<script>alert(1)</script>")
    texts = [card["text"] for card in showing(driver)]
    assert [stories.ALERT] == texts
    assert 0 == driver.execute_script(
        "return document.querySelectorAll('main script, main img, main b').length"
    )


def test_rows_unfold(driver: Any, pages: dict[str, str]) -> None:
    """The explanation of a metric opens and closes under its row."""
    opened(driver, pages["story"])
    button = driver.find_elements("css selector", ".unfold")[4]
    detail = driver.find_elements("css selector", "tr.detail")[4]
    assert ("false", False) == (button.get_attribute("aria-expanded"), detail.is_displayed())
    button.click()
    assert ("true", True) == (button.get_attribute("aria-expanded"), detail.is_displayed())
    assert "Share of distinct bigrams." in detail.text


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_is_dark_where_the_reader_wants_it_so(
    driver: Any, pages: dict[str, str], scheme: str, dark: bool
) -> None:
    """It follows the system; the button overrides it and comes back; drawings follow too."""
    opened(driver, pages["story"], scheme=scheme)

    def is_dark() -> bool:
        colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        line = driver.execute_script("return getComputedStyle(document.querySelector('.drawing text')).fill")
        paper, ink = (sum(map(int, c[4:-1].split(","))) for c in (colour, line))
        assert abs(paper - ink) > 200  # a drawing's letters stand out from the paper in either theme
        return bool(paper < 380)

    button = driver.find_element("css selector", ".theme")
    seen = [is_dark()]
    for _ in range(3):
        button.click()
        seen.append(is_dark())
    assert [dark, False, True, dark] == seen
    assert "Theme: system" == button.text


def test_commands_are_copied_without_their_prompt(driver: Any, pages: dict[str, str]) -> None:
    """What lands on the clipboard can be pasted into a shell."""
    opened(driver, pages["story"])
    driver.execute_script(
        "const writeText = text => { window.copied = text; return Promise.resolve(); };"
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText}});"
    )
    button = driver.find_element("css selector", ".copy")
    driver.execute_script("arguments[0].click()", button)
    copied = driver.execute_script("return window.copied").splitlines()
    assert ["# in an empty folder", "pip install karat", "karat demo --out demo --seed 0"] == copied[:3]
    assert "Copied" == button.text


def test_without_a_script_everything_is_there(driver: Any, pages: dict[str, str]) -> None:
    """A reader whose browser runs no script sees every record and every explanation."""
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(driver, pages["story"])
        cards = boxes(driver)[1].find_elements("css selector", ".card")
        assert 60 == sum(card.is_displayed() for card in cards)
        assert driver.find_elements("css selector", "tr.detail")[0].is_displayed()
        assert not driver.find_element("css selector", ".theme").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_printed_page_has_no_tools_and_light_paper(driver: Any, pages: dict[str, str]) -> None:
    """Print is light even for a reader of the dark page, and without what cannot be clicked on paper."""
    opened(driver, pages["story"])
    browser.emulate(driver, 800, 1000, "dark", media="print")
    paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert "rgb(255, 255, 255)" == paper
    for tool in (".theme", ".tools", ".copy", "nav", "details.data"):
        assert not driver.find_element("css selector", tool).is_displayed()
    printed = driver.execute_cdp_cmd("Page.printToPDF", {})
    assert len(printed["data"]) > 10_000
    browser.emulate(driver, 1280, 900)
