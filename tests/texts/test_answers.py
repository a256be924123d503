"""What an answer in words comes to."""

from __future__ import annotations

import pytest

from karat.texts.answers import extractions, read_answer


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
