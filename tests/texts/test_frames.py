"""What an assistant says around a text comes off; what people write stays, whole."""

# ruff: noqa: E501 - an answer of a model stands on one line

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from karat.texts.frames import unframed


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Certainly!\n\nHere is a positive review:\n---\nIt shines.\n---\nLet me know if you'd like any changes!", "It shines."),
        ("Sure! Here's a text: The cat sat.", "The cat sat."),
        ("Of course! I'd be happy to help. Here's an example sentence:\nThe cat sat.", "The cat sat."),
        ("**Here is a short product review:**\n\nIt broke.", "It broke."),
        ("It broke.\n\n(Note: This is a fictional review.)", "It broke."),
        ("It broke.\n\n*Disclaimer: any resemblance is accidental, this text was AI-generated.*", "It broke."),
        ("It broke.\n\nWould you like me to revise it?", "It broke."),
        ("<think>They want a review.\nShort.</think>\n\nIt broke.", "It broke."),
        ("Natürlich! Hier ist ein Beispiel:\nDas Essen war gut.\n\nHinweis: Dieser Text ist fiktiv.", "Das Essen war gut."),
        ("Bien sûr ! Voici un exemple :\nLe film est nul.", "Le film est nul."),
        ("¡Claro! Aquí tienes un ejemplo:\nMe gustó.\n\nEspero que te sirva.", "Me gustó."),
        ("Certo! Ecco un esempio di recensione:\nBello.", "Bello."),
        ("Claro! Aqui está um exemplo:\nBom.", "Bom."),
        ("Natuurlijk! Hier is een voorbeeld:\nGoed.", "Goed."),
        ("Конечно! Вот пример отзыва:\nХороший фильм.", "Хороший фильм."),
        ("当然可以！以下是一段评论：\n这部电影很好。", "这部电影很好。"),
        ("もちろんです。以下はレビューの例です。\nとても良い映画でした。", "とても良い映画でした。"),
        ("물론입니다! 다음은 예시입니다:\n좋은 영화.", "좋은 영화."),
    ],
)  # fmt: skip
def test_frames_come_off(said: str, text: str) -> None:
    """Announcements, thoughts and remarks on the text itself, in eleven languages."""
    assert text == unframed(said)[0]


@pytest.mark.parametrize(
    "text",
    [
        "Here is the thing: I hate it.",
        "Sure, I liked it. Here is why: the cast.",
        "Great!\nI loved it.",
        "Okay.\n\nSo I went.",
        "Note: the shop is closed on Mondays.",
        "We mended the pump.\nI hope this helps!",
        "Thanks for the order.\n\nLet me know if you need anything else.",
        "Here's an example:",
        "Certainly!",
        "I hope this helps.",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    """Words that assistants use too are no frame where people use them, and no text becomes empty."""
    assert (text, ()) == unframed(text)


def strings(value: Any) -> Iterator[str]:
    """All texts in a record."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


@pytest.mark.parametrize(
    "name", ["banking77", "nltk_sentence_polarity", "topical_chat", "us_speeches", "sgd_dialogues"]
)
def test_human_texts_have_no_frames(name: str, data_dir: Path) -> None:
    """Not one of the texts that people wrote loses a character."""
    for file in sorted((data_dir / name).glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            found = [unframed(text)[1] for line in lines for text in strings(json.loads(line))]
    assert [] == [taken for taken in found if taken]


def test_answers_of_models_have_some(data_dir: Path) -> None:
    """Of the answers of eight models those that begin with "Sure, here is ..:" are found."""
    with gzip.open(data_dir / "alpaca_eval_outputs/outputs.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["output"] or "" for line in lines]
    sure = [
        text for text in texts if text.lower().startswith(("sure, here", "sure! here", "certainly! here"))
    ]
    announced = [text for text in sure if text.partition("\n")[0].rstrip().endswith(":") and "\n" in text]
    assert len(announced) > 100
    assert 0.95 <= sum(bool(unframed(text)[1]) for text in announced) / len(announced)
