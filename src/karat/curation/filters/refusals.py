"""Drops texts in which an assistant refuses or speaks of itself, in eleven languages. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import Verdicts
from karat.records import Records
from karat.texts.refusals import LANGUAGES
from karat.texts.refusals import refusal as refusal


@dataclass(frozen=True)
class Refusals:
    """Drops refusals and assistants' boiler-plate, in English and ten more languages.

    languages: which patterns are used, joined by +: en+de+fr+es+it+pt+nl+ru+zh+ja+ko.
    """

    languages: tuple[str, ...] = LANGUAGES

    def __post_init__(self) -> None:
        unknown = [name for name in self.languages if name not in LANGUAGES]
        if unknown:
            raise ValueError(f"languages has {unknown[0]!r}, but there are only: {'+'.join(LANGUAGES)}")

    def judge(self, records: Records, reference: Records | None = None) -> Verdicts:
        """Judge each record; the reason quotes what was found."""
        reasons: dict[int, str] = {}
        for position, text in enumerate(records.texts()):
            found = refusal(text, self.languages)
            if found:
                reasons[position] = found
        kept = np.ones(len(records), np.bool_)
        kept[list(reasons)] = False
        return Verdicts(kept, reasons)
