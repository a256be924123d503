"""What a scorer is: who says how much of an attribute each record has, and how often that is wrong.

A scorer is given both corpora at once, because one that learns (`trained`) must never score a record that it
has learnt from. Knows no scorer and no metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.auditing.base import Facts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Given:
    """What a scorer is told of one corpus: a text, the fields it asked for and a cluster for each record.

    texts is empty where the scorer reads fields alone. Rows of one cluster share a source.
    """

    texts: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]]
    clusters: NDArray[Any]

    def __len__(self) -> int:
        return len(self.clusters)


@dataclass(frozen=True)
class Scores:
    """How much of each class every record has: for each corpus an array [n, classes] between 0 and 1.

    A row of nan is a record of which nothing is known.
    """

    id: str
    """What scored, as it stands in the signature; scores of different ids cannot be compared."""
    names: tuple[str, ...]
    """The classes, in the order of the columns."""
    rows: tuple[Floats, ...]
    """One array a corpus, in the order in which the corpora were given."""
    exclusive: bool = True
    """Whether exactly one class holds for each record; else each class is a yes or no of its own."""
    confusion: NDArray[np.int64] | None = None
    """int64 [C, C]: how many held-out records of true class (row) got which class (column)."""
    exact: bool = False
    """Whether classes are known and not guessed (fields, lineage), so that there is nothing to correct."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Further figures by name, for example the accuracy on held-out records."""

    @property
    def accuracy(self) -> float:
        """The share of held-out records whose class was found; nan where nothing was held out."""
        if self.confusion is None or not self.confusion.sum():
            return float("nan")
        return float(np.trace(self.confusion) / self.confusion.sum())


class Scorer(Protocol):
    """A part on the shelf of scorers. Its setting `attribute` names what it scores."""

    reads_text: bool
    """Whether `Given.texts` must be filled."""

    def fields(self) -> tuple[str, ...]:
        """The fields of the records that it reads besides the text; `lineage.attributes` is one too."""
        ...

    def lacks(self, facts: Facts) -> str:
        """Why it cannot score records like these ("needs a field joy"); empty where it can."""
        ...

    def score(self, corpora: Sequence[Given], *, seed: int = 0, cache: Path | None = None) -> Scores:
        """Score all records of all corpora."""
        ...


def make(spec: Any, **defaults: Any) -> Scorer:
    """Return the scorer that a spec names; `defaults` fill settings that it has and the spec leaves out."""
    given = {key: value for key, value in defaults.items() if value not in ("", (), None)}
    return cast("Scorer", registry.make("scorers", spec, **given))


def one_hot(values: Iterable[Any], names: Sequence[str]) -> Floats:
    """float64 [n, C]: 1 in the column of each value; a row of nan where the value is None or not a name."""
    place = {name: i for i, name in enumerate(names)}
    values = list(values)
    rows = np.full((len(values), len(names)), np.nan)
    for row, value in enumerate(values):
        column = place.get(str(value)) if value is not None else None
        if column is not None:
            rows[row] = 0.0
            rows[row, column] = 1.0
    return rows


def known_values(columns: Mapping[str, NDArray[Any]], attribute: str) -> NDArray[Any]:
    """object [n]: the value of an attribute as the lineage has it, else as a field of that name; or None."""
    import orjson

    asked = columns.get("lineage.attributes")
    own = columns.get(attribute)
    n = len(asked) if asked is not None else len(own) if own is not None else 0
    found = np.full(n, None, dtype=object)
    read: dict[str, Any] = {}
    for row in range(n):
        text = asked[row] if asked is not None else None
        value = None
        if text:
            if text not in read:
                try:
                    read[text] = orjson.loads(text)
                except orjson.JSONDecodeError:
                    read[text] = {}
            value = read[text].get(attribute) if isinstance(read[text], dict) else None
        if value is None and own is not None:
            value = own[row]
        if value is not None and value != "":
            found[row] = str(value)
    return found
