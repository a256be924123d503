"""A number for each record, from a field or from an ordering. Knows no ordering by name."""

from __future__ import annotations

from typing import Any

from karat import registry
from karat.curation.base import offered
from karat.curation.clusters import Floats, numbers
from karat.records import Records


def values_of(
    records: Records, by: str, where: str, reference: Records | None = None, **known: Any
) -> tuple[Floats, str]:
    """Return float64 [n] and a note: the field `by` where there is one, else the ordering of that spec.

    A value that is missing is nan. `known` (seed, cache, ask) goes to an ordering that names it.
    Settings of the ordering are parted by semicolons, because commas part those of whoever asks.
    Raises InputError where there is neither field nor ordering, BadSetting for a field without numbers.
    """
    name = by.partition(":")[0]
    if records.has(by):
        return numbers(records, by, where), ""
    if name.replace("-", "_") not in registry.names("orderings"):
        return numbers(records, by, where), ""  # whose error names the fields there are
    orderer = registry.make("orderings", by.replace(";", ","))
    found = orderer.order(records, reference, **offered(orderer.order, **known))
    return found.scores, found.note
