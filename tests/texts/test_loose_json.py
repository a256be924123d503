"""JSON as models write it comes out as it was meant; JSON as it should be, as the standard reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.texts import loose_json
from karat.texts.loose_json import values

PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | PLAIN
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN, inner, max_size=4),
    max_leaves=12,
)


def first(text: str) -> Any:
    """The first value of a text."""
    return next((value for value, _ in values(text)), None)


@given(DOCUMENTS.filter(lambda one: isinstance(one, dict | list)), st.sampled_from([None, 2]), st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_right_json_is_read_as_it_is(document: Any, indent: int | None, ascii: bool) -> None:
    """The standard library's own output is read back, and is not said to be mended."""
    assert [(document, False)] == list(values(json.dumps(document, indent=indent, ensure_ascii=ascii)))


@given(st.dictionaries(PLAIN, PLAIN | st.integers(0, 99), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_comma_too_many_changes_nothing(document: dict[str, Any]) -> None:
    """The mending reader finds what the standard one finds, for texts of any characters."""
    assert [(document, True)] == list(values(json.dumps(document)[:-1] + ",}"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{'a': 'it\\'s', 'b': None, 'c': True}", {"a": "it's", "b": None, "c": True}),
        ("{'a': 'it's fine', 'b': 'x'}", {"a": "it's fine", "b": "x"}),
        ('{"a": "He said "hi", then left.", "b": 1}', {"a": 'He said "hi", then left.', "b": 1}),
        ('{"a": "two\nlines\tand a tab"}', {"a": "two\nlines\tand a tab"}),
        ('{"a": "x" // a remark\n}', {"a": "x"}),
        ('{"a": "x"\n"b": "y"}', {"a": "x", "b": "y"}),
        ("{“a”: “x”}", {"a": "x"}),
        ("{a: 1, b_2: .5}", None),
        ("{a: 1, b_2: 0.5}", {"a": 1, "b_2": 0.5}),
        ('{"a": NaN, "b": -Infinity}', {"a": None, "b": None}),
        ('{"a": "\\ud83d\\ude00 \\ud83d \\u00e9 \\q", }', {"a": "😀 \ufffd é \\q"}),
        ('{"a": "b\\u0000c"}', {"a": "bc"}),
        ('I like {curly} things and [this], not {"a"} alone. {"a": 1}', {"a": 1}),
        ('[{"a": 1}, {"a": 2}, {"a": "cut o', [{"a": 1}, {"a": 2}]),
        ('{"a": {"b": [1, 2', {"a": {"b": [1, 2]}}),
        ('{"a": "cut off', None),
        ("an open bracket [ and {", None),
        ("", None),
    ],
)
def test_what_models_write(said: str, expected: Any) -> None:
    """Each way in which models miss the form, with what they meant; what is no JSON gives nothing."""
    assert expected == first(said)


HOSTILE = {
    "braces": "{",
    "brackets": "[",
    "open objects": '{"a":',
    "open keys": '{"a',
    "open values": '{"a": "x ',
    "mixed": '{"a" [ " ',
    "open lists": "[1,",
    "commas": "[,",
    "remarks": "[//",
    "blanks": "[" + " " * 500,
    "quotes": "[\"' ",
    "escapes": '["\\"',
    "braces in prose": "lorem { ipsum ",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [200_000, 10_000_000])
def test_work_grows_with_the_length_alone(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However hostile a text is, the characters looked at are at most a few times its own."""
    looked = 0
    own = loose_json._Reader

    class Counting(own):  # type: ignore[misc, valid-type]
        def __init__(self, text: str, at: int) -> None:
            self.start = at
            super().__init__(text, at)

        def value(self, depth: int) -> Any:
            nonlocal looked
            try:
                return super().value(depth)
            finally:
                if depth == 0:
                    looked += self.at - self.start

    monkeypatch.setattr(loose_json, "_Reader", Counting)
    text = HOSTILE[name] * (size // len(HOSTILE[name]))
    list(values(text))
    assert looked <= 5 * len(text) + 2000
    if len(text) > loose_json.LONGEST:
        assert 0 == looked
