"""Copies of human texts are seen in every script."""

from __future__ import annotations

import pytest

from karat.records import Records, from_rows
from karat.valuation.saw import seen

WRITTEN = {
    "zh": "我们今天去公园看到很多花第{}次",
    "ja": "きょうは公園でたくさんの花を{}かい見ました",
    "th": "วันนี้เราไปดูดอกไม้ที่สวน{}ครั้ง",
    "en": "today we went to the park and saw {} flowers there",
}


def _texts(language: str, numbers: range) -> Records:
    return from_rows([{"text": WRITTEN[language].format(i), "label": "ab"[i % 2]} for i in numbers])


@pytest.mark.parametrize("language", WRITTEN)
def test_copies_tell_what_a_generator_saw_also_without_spaces(language: str) -> None:
    """Half of the human texts stand among the synthetic ones: so they were seen. Others say nothing."""
    human = _texts(language, range(100, 140))
    copied = _texts(language, range(120, 160)).with_lineage(source="synthetic")
    found = seen(copied, (human,))
    assert ("yes", 0.5) == (found.verdict, found.share)
    assert "unknown" == seen(_texts(language, range(200, 240)), (human,)).verdict


def test_short_texts_may_be_copies_by_chance() -> None:
    """Three characters, or three words, are no evidence."""
    for text in ("好{}好", "yes {} ok"):
        rows = from_rows([{"text": text.format(i), "label": "ab"[i % 2]} for i in range(30)])
        assert "unknown" == seen(rows, (rows.with_column("label", ["a", "c"] * 15),)).verdict
