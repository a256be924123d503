"""The language of a text, where its signs and small words say it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from karat.texts.languages import language_of, script_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The film is good and I liked it.", "en"),
        ("Der Film ist gut und ich mochte ihn.", "de"),
        ("Le film est très bon et je l'ai aimé.", "fr"),
        ("La película es muy buena y me gustó.", "es"),
        ("Il film è molto bello e mi è piaciuto.", "it"),
        ("O filme é muito bom e eu gostei.", "pt"),
        ("De film is erg goed en ik vond hem leuk.", "nl"),
        ("Фильм хороший.", "ru"),
        ("这部电影很好。", "zh"),
        ("とても良い映画でした。", "ja"),
        ("영화가 좋다.", "ko"),
        ("Фільм їхній.", ""),
        ("Nie ma mnie w domu i to jest w porządku.", ""),
        ("OK 12", ""),
        ("", ""),
    ],
)
def test_languages_are_told_apart(text: str, language: str) -> None:
    """Large languages by their small words and scripts; nothing is said of others or of too little."""
    assert language == language_of(text)


def test_the_script_of_most_letters_counts() -> None:
    """A name in another script does not make a text of that script."""
    assert "cyrillic" == script_of("Фильм хороший, говорит Tom")
    assert "" == script_of("12 :-)")


def test_sentences_of_people_are_rarely_taken_for_another_language(data_dir: Path) -> None:
    """Of 60,000 English and German sentences hardly one is taken for another language."""
    with gzip.open(data_dir / "tatoeba_deu_eng/tatoeba_deu_eng.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for language in ("en", "de"):
        found = [language_of(row[language]) for row in rows]
        assert 0.7 < found.count(language) / len(found)
        assert sum(one not in (language, "") for one in found) / len(found) < 0.003
        long = [one for one, row in zip(found, rows, strict=True) if len(row[language].split()) >= 12]
        assert 0.97 < long.count(language) / len(long)
