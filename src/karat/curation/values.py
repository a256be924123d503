"""A number for each record, from a field or from an ordering. Knows no ordering by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from karat import registry
from karat.curation.clusters import Floats, numbers
from karat.records import Records


def told(verb: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the offered keywords that a part's verb names."""
    named = inspect.signature(verb).parameters
    return {key: value for key, value in offered.items() if key in named}


def values_of(
    records: Records, by: str, where: str, reference: Records | None = None, **offered: Any
) -> tuple[Floats, str]:
    """Return float64 [n] and a note: the field `by` where there is one, else the ordering of that spec.

    A value that is missing is nan. `offered` (seed, cache, ask) goes to an ordering that names it.
    Raises UnknownPart where there is neither field nor ordering, BadSetting for a field without numbers.
    """
    name = by.partition(":")[0]
    if records.has(by):
        return numbers(records, by, where), ""
    if name.replace("-", "_") not in registry.names("orderings"):
        return numbers(records, by, where), ""  # whose error names the fields there are
    orderer = registry.make("orderings", by)
    found = orderer.order(records, reference, **told(orderer.order, offered))
    return found.scores, found.note
