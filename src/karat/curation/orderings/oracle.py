"""Orders records by how good they are known to be, for upper bounds. Knows gold, and nothing without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import ASKED, Ordered, written
from karat.curation.overlaps import chrfs
from karat.errors import BadSetting, InputError
from karat.records import Records

GOLD = ("gold", "gold_label", "true_label")
_UPPER = "not available in production: an upper bound for other orderings"


@dataclass(frozen=True)
class Oracle:
    """The best first by gold: chrF against a reference, equality with a gold label, or a number.

    field: where the gold is; without one, `reference` (a text) for translations and instructions, else the
    first of gold, gold_label and true_label. lower: a lower number is better (error counts).
    """

    field: str = ""
    lower: bool = False

    def order(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Ordered:
        """Score each record by its gold; a record without gold has no score."""
        name = self._field(records)
        values = records.column(name)
        known = [value for value in values if value is not None]
        if not known:
            raise BadSetting(f"ordering 'oracle': field {name!r} is empty in all records; name another field")
        if all(isinstance(value, int | float) for value in known):
            numbers = np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)
            return Ordered(-numbers if self.lower else numbers, f"field {name}; {_UPPER}")
        if records.datatype in ASKED:
            held = np.array([gold is not None for gold in values])
            scores = chrfs(written(records), ["" if gold is None else str(gold) for gold in values])
            return Ordered(np.where(held, scores, np.nan), f"sentence chrF against {name}; {_UPPER}")
        labels = records.labels()
        if labels is None:
            raise InputError(
                f"{records.path}: field {name!r} holds texts, but {records.datatype} records have no "
                "label to compare with it; name a field of numbers"
            )
        equal = [np.nan if gold is None else float(str(gold) == label) for label, gold in zip(labels, values)]
        return Ordered(np.array(equal), f"label equal to {name}; {_UPPER}")

    def _field(self, records: Records) -> str:
        if self.field:
            records.column(self.field)  # raises where there is none
            return self.field
        names = ("reference", *GOLD) if records.datatype in ASKED else GOLD
        found = next((name for name in names if records.has(name)), None)
        if found is None:
            raise BadSetting(f"there is no gold ({', '.join(names)}); name its field with oracle:field=NAME")
        return found
