"""Scores that stand in the records already: one field a class, or one field that names the class."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Facts
from karat.auditing.scorers.base import Given, Scores, one_hot
from karat.errors import BadSetting, InputError


@dataclass(frozen=True)
class Field:
    """The fields of the records themselves: numbers between 0 and 1 are scores, anything else names a class.

    A list of tokens with `entity`, as taggers of metaphors give, is read as the share of tokens that are
    marked LABEL_1.
    attribute: one field, or several joined by + (anger+joy+sadness), each of which is a class
    """

    attribute: str = ""

    reads_text: ClassVar[bool] = False

    def fields(self) -> tuple[str, ...]:
        """The fields that hold the scores."""
        return tuple(filter(None, self.attribute.split("+")))

    def lacks(self, facts: Facts) -> str:
        """Why these records cannot be scored."""
        if not self.fields():
            return "needs the names of the fields that hold scores: attribute=anger+joy"
        missing = [name for name in self.fields() if name not in facts.fields]
        return f"needs a field {missing[0]}" if missing else ""

    def score(self, corpora: Sequence[Given], *, seed: int = 0, cache: Path | None = None) -> Scores:
        """Read the fields of all records."""
        names = self.fields()
        if not names:
            raise BadSetting("scorer 'field' needs the setting 'attribute': write attribute=anger+joy")
        read = [[_numbers(one.columns[name], name) for name in names] for one in corpora]
        numeric = [all(side[i] is not None for side in read) for i in range(len(names))]
        if all(numeric):
            rows = tuple(np.stack([c for c in side if c is not None], axis=1) for side in read)
            # the probabilities of one classifier over all its classes make 1 in each record
            totals = np.concatenate([one.sum(axis=1) for one in rows])
            known = totals[np.isfinite(totals)]
            whole = len(names) > 1 and len(known) > 0 and bool(np.all(np.abs(known - 1) < 1e-3))
            return Scores(f"field:{self.attribute}", names, rows, exclusive=whole)
        if len(names) > 1:
            wrong = names[numeric.index(False)]
            raise InputError(
                f"field {wrong!r} holds no numbers; several attributes at once must be fields of scores"
            )
        values = [[_word(value) for value in one.columns[names[0]]] for one in corpora]
        classes = tuple(sorted({v for side in values for v in side if v is not None}))
        rows = tuple(one_hot(side, classes) for side in values)
        return Scores(f"field:{self.attribute}", classes, rows, exact=True)


def _word(value: Any) -> str | None:
    if value is None or value == "":
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _numbers(values: NDArray[Any], name: str) -> NDArray[np.float64] | None:
    """float64 [n], nan where there is none; None where the field holds something else than scores.

    Whole numbers beyond 0 and 1 are classes, and so are those of a field without any fraction.
    """
    known = [value for value in values if value is not None and value != ""]
    if not known or isinstance(known[0], bool):
        return None
    if isinstance(known[0], list) or (isinstance(known[0], str) and known[0].lstrip().startswith("[")):
        return np.array([_marked(value, name) for value in values], dtype=np.float64)
    try:
        found = np.array([np.nan if v is None or v == "" else float(v) for v in values], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    finite = found[np.isfinite(found)]
    if not len(finite):
        return None
    if finite.min() < 0 or finite.max() > 1:
        if np.all(finite == np.round(finite)):
            return None
        raise InputError(
            f"field {name!r} holds {finite.min():g} to {finite.max():g}; scores lie between 0 and 1, "
            "so scale them or name another field"
        )
    whole = all(isinstance(v, int) or (isinstance(v, str) and v.strip() in ("0", "1")) for v in known)
    return None if whole and len(set(known)) > 2 else found


def _marked(value: Any, name: str) -> float:
    """The share of tokens that are marked LABEL_1; nan for a text without tokens."""
    if value is None or value == "":
        return float("nan")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                raise InputError(f"field {name!r} holds a list that cannot be read: {value[:60]}") from None
    if not all(isinstance(token, dict) and "entity" in token for token in value):
        raise InputError(f"field {name!r} holds a list; give one number a record, or tokens with `entity`")
    return sum(token["entity"] == "LABEL_1" for token in value) / len(value) if value else float("nan")
