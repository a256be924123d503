"""What a filter, an ordering and a mixture are, and when two texts count as the same. Knows none by name.

A filter gives a verdict for each record, kept or dropped with the reason. An ordering gives a score
for each record, the highest first. A mixture chooses among the records of several sources.

A part's verb may take more keywords than its protocol says; the stage hands over those that it names:
`ask` (answers requests through the journal, under the caps; None without a provider), `cache` (a folder for
vectors; None without one) and `seed`.
"""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from karat.errors import BadSetting, NotEnoughData
from karat.generation.base import Request, Response
from karat.records import Records

Mask = NDArray[np.bool_]
Ask = Callable[[Sequence[Request]], Mapping[str, Response]]
"""Answers requests by their id, through the journal and under the caps; requests that failed are left out."""


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Which records are kept, and for each dropped one the reason, which names the number and the bound."""

    kept: Mask
    reasons: Mapping[int, str]
    """position -> reason; exactly the positions where `kept` is False"""
    note: str = ""

    def __post_init__(self) -> None:
        dropped = set(np.flatnonzero(~self.kept).tolist())
        assert dropped == set(self.reasons), (
            "a filter must give a reason for each dropped record and no other"
        )


class Filter(Protocol):
    """Says of each record whether it is kept."""

    def judge(self, records: Records, reference: Records | None = None) -> Verdicts:
        """Judge all records; `reference` is human data to measure them against."""


@dataclass(frozen=True, eq=False)
class Ordered:
    """A score for each record (the highest comes first) and how much the scores can be trusted."""

    scores: NDArray[np.float64]
    """[n]; NaN where a record has no score: it comes last"""
    note: str = ""
    informative: bool = True
    """False where the order is no better than chance, or where its scores say only one thing."""
    figures: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[tuple[str, str], ...] = ()
    """what a user should know of the scores: a stable code and a sentence"""


class Ordering(Protocol):
    """Scores each record; the best come first."""

    def order(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Ordered:
        """Score all records; `reference` is human data to measure them against."""


WRITTEN = {
    "text": "text",
    "classification": "text",
    "annotation": "text",
    "translation": "target",
    "instruction": "completion",
}
"""data type -> the field that a generator wrote"""
ASKED = {"translation": "source", "instruction": "prompt"}
"""data type -> the field that it was given"""


def written(records: Records) -> list[str]:
    """Return what a generator wrote: the target, the completion, else the text of each record."""
    name = WRITTEN.get(records.datatype)
    if name is None or not records.has(name):
        return records.texts()
    return ["" if text is None else str(text) for text in records.column(name)]


def asked(records: Records, what: str) -> list[str]:
    """Return what a generator was given: sources or prompts. Raises BadSetting where there are none."""
    name = ASKED.get(records.datatype)
    if name is None:
        raise BadSetting(f"{what} needs translation or instruction records, not {records.datatype} ones")
    return ["" if text is None else str(text) for text in records.column(name)]


def few(n: int, limit: int, *, seed: int) -> NDArray[np.int64]:
    """Return the sorted positions of at most `limit` of n records, drawn by seed; all of them for 0."""
    if limit <= 0 or limit >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng([seed, 0xFE3]).choice(n, limit, replace=False))


def offered(verb: Callable[..., Any], **known: Any) -> dict[str, Any]:
    """Return those of the known keywords that a part's verb names."""
    named = inspect.signature(verb).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in named.values()):
        return known
    return {key: value for key, value in known.items() if key in named}


def need_ask(ask: Ask | None, what: str) -> Ask:
    """Return who answers. Raises BadSetting where no provider was named."""
    if ask is None:
        raise BadSetting(
            f"{what} asks a language model; name one, for example --provider openai_compatible:model=NAME"
        )
    return ask


def need_reference(reference: Records | None, what: str) -> Records:
    """Return the human records. Raises BadSetting where none were given."""
    if reference is None or not len(reference):
        raise BadSetting(f"{what} compares with human records; give --reference HUMAN")
    return reference


@dataclass(frozen=True)
class Source:
    """Records of one origin that a mixture may draw from, best first."""

    name: str
    positions: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Mixed:
    """The records that a mixture chose, in their order, and why each other one was left out."""

    records: Records
    left_out: Mapping[int, str]
    """position among the candidates -> reason"""
    note: str = ""


class Mixture(Protocol):
    """Chooses among the records of several sources."""

    def mix(
        self, candidate: Records, reference: Records | None = None, *, size: int | None = None, seed: int = 0
    ) -> Mixed:
        """Choose `size` records (all that fit when None); candidates come best first."""


def sources(records: Records, field_name: str = "") -> tuple[Source, ...]:
    """Return the origins of records, by a field or else by `lineage.generator`; order is kept within each."""
    if field_name:
        names = ["" if name is None else str(name) for name in records.column(field_name)]
    else:
        names = [name or "" for name in records.lineage("generator")]
        if not any(names) and records.has("generator"):
            names = ["" if name is None else str(name) for name in records.column("generator")]
    found: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        found.setdefault(name, []).append(position)
    return tuple(Source(name, tuple(found[name])) for name in sorted(found))


def several(records: Records, mixture: str, field_name: str = "") -> tuple[Source, ...]:
    """Return the origins of records for a mixture. Raises NotEnoughData where there is only one."""
    found = sources(records, field_name)
    if len(found) < 2:
        only = repr(found[0].name) if found and found[0].name else "no name"
        raise NotEnoughData(
            f"mixture {mixture!r} needs two sources at least, but {field_name or 'lineage.generator'} has "
            f"{only} for all {len(records):,} records; name another field with {mixture}:field=..."
        )
    return found


class _Squeeze(dict[int, str | None]):
    """A translation table that is filled as characters are met."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Pi", "Pf") or character in "'\"`´":
            value: str | None = ""  # quotes and apostrophes: "don't" is "dont"
        elif category in ("Pd", "Zs", "Zl", "Zp", "Cc", "Cf") or character in ".,;:!?…。、・¡¿_·":
            value = " "
        else:
            value = character  # brackets, operators and signs may carry the meaning: (a&b)|c
        self[code] = value
        return value


_SQUEEZE = _Squeeze()


def normalised(text: str) -> str:
    """Return the text by which copies are found: NFKC, case, spaces, quotes and stops squeezed.

    Operators, brackets and digits stay, so that "5 + 3" and "5 * 3" are two texts. A text of nothing but
    punctuation is compared as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_SQUEEZE).split()) or " ".join(text.split())


def rows_by_text(texts: Sequence[str]) -> dict[str, list[int]]:
    """Return the positions of each text, in order."""
    found: dict[str, list[int]] = {}
    for position, text in enumerate(texts):
        found.setdefault(text, []).append(position)
    return found
