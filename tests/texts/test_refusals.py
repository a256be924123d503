"""Refusals of assistants are told from people who are sorry, or who cannot do something."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from karat.texts import refusals
from karat.texts.refusals import LANGUAGES, refusal


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I cannot provide medical advice. Please see a doctor.",
        "Unfortunately, I can't give you advice on how to deceive others.",
        "I'm sorry, but it is not ethical to deceive others.",
        "I'm sorry, but I don't have access to the content of that book.",
        "As an artificial intelligence, I don't have feelings.",
        "I'm just an AI, I don't have a body.",
        "As of my last update, the shop was closed.",
        "Lo siento, pero no puedo ayudar con eso.",
        "Je suis désolé, mais je ne peux pas vous aider avec cela.",
        "Извините, но я не могу помочь с этим.",
        "抱歉，我无法提供该内容。",
        "申し訳ありませんが、そのご依頼にはお応えできません。",
        "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    ],
)
def test_refusals_are_seen(text: str) -> None:
    """Declining, a lack of access that only models have, a model that speaks of itself."""
    assert refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear about your friend's loss.",
        "I cannot help but feel a sense of loss.",
        "I can't access my account.",
        "I am unable to provide proof of address, is that a problem?",
        "Sorry, but it is not my card.",
        "I'm an AI researcher from Lyon.",
        "Hosting a large language model at home is dear.",
        "I don't have access to the app on my phone.",
    ],
)
def test_people_are_left_alone(text: str) -> None:
    """What customers, friends and engineers say is no refusal."""
    assert "" == refusal(text)


def strings(value: Any) -> Iterator[str]:
    """All texts in a record."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


@pytest.mark.parametrize(
    "name", ["banking77", "nltk_sentence_polarity", "topical_chat", "sgd_dialogues", "ag_news_test"]
)
def test_human_texts_hold_no_refusal(name: str, data_dir: Path) -> None:
    """Not one false alarm in what people wrote."""
    found = []
    for file in sorted((data_dir / name).glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            found += [refusal(text) for line in lines for text in strings(json.loads(line))]
    assert len(found) > 5_000
    assert [] == [reason for reason in found if reason]


def test_answers_of_models_hold_some(data_dir: Path) -> None:
    """Of the answers of eight models three in a hundred refuse or name themselves."""
    with gzip.open(data_dir / "alpaca_eval_outputs/outputs.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = sorted({json.loads(line)["output"] or "" for line in lines})
    assert 0.025 < sum(bool(refusal(text)) for text in texts) / len(texts) < 0.045


@pytest.mark.parametrize("side", [0, 1], ids=["itself", "refuses"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_quick_look_misses_nothing(language: str, side: int) -> None:
    """Whatever a pattern matches passes the quick look: texts are drawn from the patterns themselves."""
    pattern = re.compile(refusals._folded(refusals._PATTERNS[language][side]))

    @settings(
        max_examples=100,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(some.from_regex(pattern))
    def holds(text: str) -> None:
        folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'").replace("\u2018", "'")
        if pattern.search(folded):
            assert refusals.suspicious(folded)

    holds()
