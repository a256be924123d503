"""How numbers are written: significant digits, thousands separators, intervals. Knows no table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

MISSING = "–"
_MINUS = "\u2212"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def is_number(value: object) -> bool:
    """Return whether the value is a finite number (a bool is not)."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return False
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def is_missing(value: object) -> bool:
    """Return whether there is nothing to show: None, an empty text, or a number that is not finite."""
    if value is None or value == "":
        return True
    return not isinstance(value, (str, bool, list, tuple, dict)) and not is_number(value)


def number(value: Any, decimals: int | None = None, *, signed: bool = False) -> str:
    """Write a number with three significant digits, or with the decimals given."""
    if not is_number(value):
        return MISSING
    amount = float(value)
    if isinstance(value, int) and decimals is None:
        text = f"{value:,}" if abs(value) < 10**15 else _scientific(amount)
    elif abs(amount) >= 1e15 or 0 < abs(amount) < 1e-4:
        text = _scientific(amount)
    else:
        places = _places(amount) if decimals is None else decimals
        if amount != 0 and float(f"{amount:.{places}f}") == 0:
            places = _places(amount)  # too small for its column: rather uneven than wrong
        text = f"{amount:,.{places}f}"
    if signed and not text.startswith("-") and amount > 0:
        text = "+" + text
    return text.replace("-", _MINUS)


def _places(amount: float, digits: int = 3) -> int:
    if amount == 0 or float(amount).is_integer():
        return 0
    return max(0, min(6, digits - 1 - math.floor(math.log10(abs(amount)))))


def _scientific(amount: float) -> str:
    mantissa, _, exponent = f"{amount:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def percent(value: Any, decimals: int | None = None) -> str:
    """Write a share (0.123) in percent (12.3%)."""
    if not is_number(value):
        return MISSING
    amount = round(float(value) * 100, 6)
    places = decimals if decimals is not None else (1 if abs(amount) < 99.95 and amount % 1 else 0)
    if amount != 0 and abs(amount) < 0.05:
        return ("<" if amount > 0 else f">{_MINUS}") + "0.1%"
    return f"{amount:,.{places}f}%".replace("-", _MINUS)


def interval(ends: Any, decimals: int | None = None) -> str:
    """Write an interval as [low, high]; an open end is the dash."""
    if not isinstance(ends, Sequence) or isinstance(ends, str) or len(ends) != 2:
        return MISSING
    if all(is_missing(end) for end in ends):
        return MISSING
    places = decimals if decimals is not None else decimals_for([end for end in ends if is_number(end)])
    return f"[{number(ends[0], places)}, {number(ends[1], places)}]"


def p_value(value: Any) -> str:
    """Write a p value: two significant digits, and never less than "<0.001"."""
    if not is_number(value):
        return MISSING
    amount = float(value)
    if amount < 0.001:
        return "<0.001"
    return f"{amount:.3f}" if amount < 0.1 else f"{amount:.2f}"


def decimals_for(values: Iterable[Any], width: float | None = None) -> int:
    """Return one number of decimals for values shown together.

    `width` is the width of an interval around them: digits far below it say nothing, so it gets two.
    """
    finite = [float(value) for value in values if is_number(value)]
    if not finite or all(value.is_integer() for value in finite):
        return 0
    if width:
        return max(0, min(6, 1 - math.floor(math.log10(abs(width)))))
    magnitudes = sorted(abs(value) for value in finite if value != 0)
    middle = magnitudes[len(magnitudes) // 2]
    return max(0, min(4, 2 - math.floor(math.log10(middle))))
