"""The page of a pilot in a real Chromium; skipped, with a reason, without one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import karat
from karat.reporting.stage import report

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "reporting"))
import pilot_worlds as worlds
import report_browser as browser

if browser.missing():
    pytest.skip(browser.missing(), allow_module_level=True)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    providers = worlds.Scripted("cheap-<b>model</b>", noise=0.6), worlds.Scripted("good", 0.003)
    found = karat.pilot(
        worlds.TASK,
        worlds.corpus(120, 3),
        None,
        worlds.corpus(150, 500, tag="t"),
        providers=providers,
        recipes=("simple", "attributed"),
        n=60,
        trainer="linear:characters=0",
        metrics=("distinct_n", "vocabulary"),
        refits=15,
    )
    return report(found, out=tmp_path_factory.mktemp("page") / "report.html", title="A pilot").as_uri()


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_shows_the_advice_and_all_arms(driver: Any, page: str, width: int) -> None:
    """No error in the console, the arm to take at the top, a row an arm, nothing beyond the edge."""
    driver.get_log("browser")
    browser.emulate(driver, width, 1000)
    driver.get(page)
    assert [] == driver.get_log("browser")
    text = driver.find_element("css selector", "body").text
    assert "Take good · " in text and "shown to be better than the cheapest arm" in text
    for name in ("cheap-<b>model</b> · simple", "good · attributed", "human, 60 records", "chance"):
        assert name in text
    for title in ("The arms", "Score of each arm", "All differences in score", "What the whole would cost"):
        assert title in text
    assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert 2 <= len(driver.find_elements("css selector", "figure svg, .chart svg"))
