"""Completions that refuse, or in which an assistant speaks of itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Masks, Metric, Need, Summary, Telling, Values, View
from karat.auditing.instructions import INSTRUCTIONS, Rows, opened
from karat.auditing.ratios import ratio, told
from karat.texts.refusals import refusal


@dataclass(frozen=True)
class RefusalShare(Metric):
    """The share of completions that refuse or in which an assistant speaks of itself, in eleven languages.

    A refusal is an apology or a bare "I" followed by an inability to do what assistants are asked for, near
    the beginning; boiler-plate is a model that names itself, anywhere. By language in the details.
    """

    family: ClassVar[str] = "instruction"
    datatypes: ClassVar[tuple[str, ...]] = ("instruction",)
    misleads: ClassVar[str] = (
        "Refusing what must be refused is right; patterns see the wording and not the reason. A polite "
        "evasion without the usual phrases is not seen."
    )
    cost: ClassVar[str] = "O(characters)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "karat curate --filters refusals drops them; look first whether the prompts ask for harm.",
        "lower": "Keep some refusals of harmful prompts if the model is to refuse them.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more refusals"
    source: ClassVar[str] = "Röttger et al. 2024, XSTest (string matching of refusals)"

    def needs(self) -> tuple[Need, ...]:
        return (INSTRUCTIONS,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        rows = opened(summary[INSTRUCTIONS])
        flags = np.array([bool(reason) for reason in _refusals(rows, summary)], np.float64)
        return ratio(masks, rows.groups, flags, np.ones(len(rows)))

    def details(self, summary: Summary) -> dict[str, float]:
        found = [reason for reason in _refusals(opened(summary[INSTRUCTIONS]), summary) if reason]
        tongues = Counter(m[1] for reason in found if (m := re.search(r"\((\w\w)\)", reason)))
        return {"refusals": float(len(found))} | {f"count.{k}": float(n) for k, n in tongues.most_common()}

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        rows = opened(summary[INSTRUCTIONS])
        reasons = _refusals(rows, summary)
        flags = np.array([bool(reason) for reason in reasons], np.float64)
        return told(rows.keys, flags, lambda i: reasons[i], limit)


def _refusals(rows: Rows, summary: Summary) -> list[str]:
    """What makes each completion a refusal, quoted; empty for any other."""
    memo = summary[INSTRUCTIONS].memo
    if "refusals" not in memo:
        memo["refusals"] = [refusal(text) for text in rows.completions]
    found: list[str] = memo["refusals"]
    return found
