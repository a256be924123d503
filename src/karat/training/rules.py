"""Arithmetic on counted rules: sharpen, smooth. Knows no grammar, no text and no model.

Rules say how often each choice was made in each place (for instance: depth 2, right of an `and`). They are
weights: what counts is the share of a choice in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rules = dict[Any, dict[str, float]]
"""Place -> choice -> how often, or with which weight; weights are above zero."""


def sharpened(rules: Mapping[Any, Mapping[str, float]], temperature: float) -> Rules:
    """Return the shares p^(1/temperature) / sum p^(1/temperature) in each place; 1 only normalises.

    It is what sampling at a temperature does to a model that gives the choices as its tokens.
    """
    power = 1.0 / temperature
    found: Rules = {}
    for place, uses in rules.items():
        if len(uses) == 1:
            found[place] = dict.fromkeys(uses, 1.0)
            continue
        # Divided by the largest first: 10,000^(1/0.1) has no place in a float.
        top = max(uses.values())
        powers = {choice: (weight / top) ** power for choice, weight in uses.items()}
        total = sum(powers.values())
        found[place] = {choice: value / total for choice, value in powers.items()}
    return found


def smoothed(rules: Mapping[Any, Mapping[str, float]], share: float) -> Rules:
    """Return (1 - share) p + share / k, for a place with k known choices.

    A stand-in for a learner that learns imperfectly: what is rare becomes too frequent. Choices that a place
    never saw stay out, so that texts stay valid. Raises ValueError where share is none.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"smoothing={share} is not a share; give a number from 0 to 1")
    found: Rules = {}
    for place, uses in rules.items():
        total, even = sum(uses.values()), share / len(uses)
        found[place] = {choice: (1.0 - share) * weight / total + even for choice, weight in uses.items()}
    return found


def nucleus(rules: Mapping[Any, Mapping[str, float]], top_p: float) -> Rules:
    """Keep in each place the most likely choices until their shares reach top_p (Holtzman et al. 2020)."""
    found: Rules = {}
    for place, uses in rules.items():
        total, reached = sum(uses.values()), 0.0
        found[place] = {}
        for choice in sorted(uses, key=uses.__getitem__, reverse=True):
            found[place][choice] = uses[choice] / total
            reached += uses[choice] / total
            if reached >= top_p:
                break
    return found
