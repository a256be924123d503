"""What an answer in words comes to."""

from __future__ import annotations

import pytest

from karat.texts.answers import extractions, read_answer, read_label


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"),
        ("**Yes**.", "yes"),
        ("NO!", "no"),
        ("Yes, because nobody would say no.", "yes"),
        ("There is a passage off the subject.\nAnswer: no", "no"),
        ("Answer: **Yes**", "yes"),
        ("Final answer: no.", "no"),
        ("No doubt. The answer is: yes", "yes"),
        ("I know nothing.", None),
        ("", None),
        ("maybe", None),
    ],
)
def test_yes_or_no(text: str, expected: str | None) -> None:
    """The word after "Answer:" counts, else the first allowed one; others are no answer."""
    assert expected == read_answer(text, ("yes", "no"))


def test_several_answers() -> None:
    """Longer names win over parts of them, numbers stand for numbered answers, letters stand alone."""
    kinds = ("none", "incorrect output", "inconsistent output", "inconsistent input")
    assert "inconsistent output" == read_answer("Inconsistent_Output", kinds)
    assert "incorrect output" == read_answer("(2)", kinds)
    assert "inconsistent input" == read_answer("4. inconsistent input", kinds)
    assert "B" == read_answer("A good answer is worth more. Answer: B", ("A", "B"))
    assert "A" == read_answer("a", ("A", "B"))
    assert "no" == read_answer("Some say yes, but no", ("yes", "no"), last=True)


def test_two_parsers() -> None:
    """First and last allowed word are told apart where an answer names both."""
    assert ("yes", "no") == extractions("yes and no", ("yes", "no"))
    assert ("yes", "yes") == extractions("Yes.", ("yes", "no"))
    assert (None, None) == extractions("?", ("yes", "no"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Card lost", "card_lost"),
        ("**top_up**.", "top_up"),
        ('```json\n{"label": "top_up"}\n```', "top_up"),
        ("It is no transfer, though it looks like one.\nLabel: card_lost", "card_lost"),
        ("Answer: I am not sure. The class is: transfer", "transfer"),
        ("The customer asks for a transfer.", "transfer"),
        ("card_lost or top_up", None),
        ("transfers", None),
        ("", None),
    ],
)
def test_a_label_is_read_only_where_it_is_plain(text: str, expected: str | None) -> None:
    """Alone, in JSON, behind "Label:", or as the only one named; two labels are none, nor is half a word."""
    assert expected == read_label(text, ("card_lost", "top_up", "transfer"))


def test_labels_of_scripts_without_blanks() -> None:
    """A Chinese label stands within a sentence without blanks around it; marks are a part of a name."""
    assert "正面" == read_label("这段评论的情感是正面的。", ("正面", "负面"))
    assert "C++" == read_label("The language is C++, not C.", ("C++", "Java"))
    assert "very good" == read_label("very good", ("good", "very good"))
