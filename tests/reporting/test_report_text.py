"""The promises of `karat.reporting.text` and `karat.reporting.numbers`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from karat.reporting import numbers, text


@pytest.mark.parametrize(
    ("expected", "record"),
    [
        ("a␀b", "a\x00b"),
        ("tab\tand\nline", "tab\tand\r\nline"),
        ("␍", "\r"),
        ("⟨U+202E RLO⟩gnp", "\u202egnp"),
        ("⟨U+FEFF BOM⟩⟨U+FFFE⟩", "\ufeff\ufffe"),
        ("⟨U+D800⟩", "\ud800"),
        ("⟨U+2028⟩", "\u2028"),
        ("⟨U+E0041⟩", "\U000e0041"),
        ("नमस्ते می‌خواهم 👩‍👩‍👧", "नमस्ते می‌خواهم 👩‍👩‍👧"),
    ],
)
def test_hidden_characters_are_shown_and_scripts_are_kept(expected: str, record: str) -> None:
    """What cannot be seen is written out; what a script needs (joiners) stays."""
    assert expected == text.visible(record)


def test_visible_text_of_any_character_fits_into_xml_and_json() -> None:
    """Every code point there is passes through XML and UTF-8; the chart library dies of some that do not."""
    everything = text.visible("".join(map(chr, range(0x110000))))
    ElementTree.fromstring(f"<x>{text.escape(everything)}</x>")
    assert everything == json.loads(json.dumps(everything).encode("utf-8"))


def test_marked_text_is_escaped_around_and_inside_its_marks() -> None:
    """Only the mark's own tag is HTML."""
    expected = '&lt;b&gt;<span class="hidden-char">␀</span>&#34;&amp;'
    assert expected == str(text.marked('<b>\x00"&'))


def test_a_cut_keeps_an_accent_with_its_letter_and_counts_the_rest() -> None:
    """An accent that would fall behind the cut takes its letter's place count with it."""
    assert ("abc", 0) == text.cut("abc", 3)
    kept, left_out = text.cut("ab\u0301cd", 2)
    assert ("a", 4) == (kept, left_out) or ("ab", 3) == (kept, left_out)
    assert not text.unicodedata.combining("ab\u0301cd"[len(kept)]) or kept == "ab"


def test_short_names_are_distinct_and_never_wider_than_asked() -> None:
    """Names that begin alike stay apart; wide characters count two columns."""
    names = ["a name that is very long: one", "a name that is very long: two", "", "日本語の名前です"]
    found = text.short_names(names, 10)
    assert 4 == len(set(found.values()))
    assert "(empty)" == found[""]
    assert "日本語の…" == found["日本語の名前です"]


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("0.412", 0.412),
        ("12.3", 12.345),
        ("1,234,567", 1234567),
        ("−0.100", -0.1),
        ("1.0 × 10⁻⁵", 1e-5),
        ("0", 0.0),
        ("–", float("nan")),
        ("–", float("inf")),
        ("–", None),
        ("–", "text"),
    ],
)
def test_numbers_have_three_digits_and_are_never_nan(expected: str, value: object) -> None:
    """Three significant digits, thousands apart, a true minus, a dash for what is no number."""
    assert expected == numbers.number(value)


def test_intervals_shares_and_p_values() -> None:
    """Each has one way to be written on the whole page."""
    assert "[0.405, 0.419]" == numbers.interval((0.4051, 0.4189))
    assert "[640, 1,015]" == numbers.interval([640, 1015])
    assert "[–, 3]" == numbers.interval([None, 3])
    assert "–" == numbers.interval([None, float("nan")])
    assert ("12.3%", "100%", "7%", "<0.1%", "0%") == tuple(map(numbers.percent, (0.123, 1, 0.07, 0.0001, 0)))
    assert ("<0.001", "0.040", "0.34") == tuple(map(numbers.p_value, (0, 0.04, 0.336)))


def test_the_width_of_an_interval_says_how_many_decimals_mean_something() -> None:
    """Two digits of the width are kept: 0.412 ± 0.007 has three decimals, 812 ± 190 none."""
    assert 3 == numbers.decimals_for([0.4123], width=0.0144)
    assert 0 == numbers.decimals_for([812.4], width=375.0)
