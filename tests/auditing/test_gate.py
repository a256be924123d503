"""The language of `--fail-if`."""

from __future__ import annotations

import pytest

from karat.auditing.gate import holds
from karat.errors import BadSetting

NUMBERS = {
    "distinct_n": 0.4,
    "distinct_n.difference": -0.1,
    "distinct_n:n=3": 0.7,
    "auc.p": None,
    "x.flagged": 1.0,
}


def _look(name: str) -> float | None:
    if name not in NUMBERS:
        raise BadSetting(f"no score named {name!r}")
    return NUMBERS[name]


@pytest.mark.parametrize(
    ("expected", "expression"),
    [
        (True, "distinct_n < 0.5"),
        (False, "distinct_n >= .5"),
        (True, "distinct_n == 40%"),
        (True, "distinct_n.difference < -5%"),
        (True, "distinct_n:n=3 > 0.6"),
        (False, "distinct_n < 0.1 or distinct_n > 0.9 and x.flagged"),
        (True, "(distinct_n < 0.1 or distinct_n < 0.9) and x.flagged"),
        (True, "not distinct_n > 1e3"),
        (True, "0.3 < distinct_n"),
        (True, "x.flagged"),
    ],
)
def test_expressions(expected: bool, expression: str) -> None:
    """Comparisons, and before or, brackets, percent and names with settings mean what they look like."""
    assert expected is holds(expression, _look)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "   ",
        "distinct_n <",
        "distinct_n < 0.5 0.6",
        "(distinct_n < 1",
        "0.5",
        "distinct_n < 0.5 or typo > 1",
        "__import__('os').system('true')",
        "distinct_n; 1",
        "distinct_n = 1",
    ],
)
def test_what_cannot_be_read_is_refused(expression: str) -> None:
    """Anything else is one error, also behind an `or` that is already decided; nothing is evaluated."""
    with pytest.raises(BadSetting) as caught:
        holds(expression, _look)
    assert "\n" not in str(caught.value)


def test_a_missing_number_is_no_answer() -> None:
    """A gate on a number that the audit does not have says so instead of passing."""
    with pytest.raises(BadSetting, match=r"auc\.p has no value"):
        holds("auc.p < 0.05", _look)
