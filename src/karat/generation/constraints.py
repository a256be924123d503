"""Which attribute values may not go together, and what goes with what. Knows no file and draws nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LABEL = "label"
"""the name under which a constraint speaks of the class"""

Values = Mapping[str, tuple[str, ...]]
"""attribute (or `label`) -> any of these values"""


@dataclass(frozen=True)
class Constraint:
    """A combination that may not come (`forbid`), or one (`given`) of which something must follow (`then`).

    Several names hold together; several values of one name are alternatives.
    """

    forbid: Values = field(default_factory=dict)
    given: Values = field(default_factory=dict)
    then: Values = field(default_factory=dict)

    def names(self) -> set[str]:
        """The attributes (and `label`) that it speaks of."""
        return {*self.forbid, *self.given, *self.then}

    def holds(self, label: str | None, attributes: Mapping[str, str]) -> bool:
        """True when a row keeps to it; an attribute that the row does not have never breaks it."""
        row = {**attributes, LABEL: label or ""}
        if self.forbid:
            return not _all_in(row, self.forbid)
        return not _all_in(row, self.given) or all(
            row[name] in values for name, values in self.then.items() if name in row
        )

    def forbidden(self) -> list[Values | tuple[Values, str]]:
        """What it forbids: a combination, or the given with each name whose other values are meant."""
        return [self.forbid] if self.forbid else [(self.given, name) for name in self.then]


@dataclass(frozen=True)
class Joint:
    """The wanted shares of pairs of two attributes' values; pairs that are not listed never come.

    label: for this class alone; empty: for all.
    """

    attributes: tuple[str, str]
    shares: tuple[tuple[str, str, float], ...]
    label: str = ""


def _all_in(row: Mapping[str, str], wanted: Values) -> bool:
    return all(row.get(name) in values for name, values in wanted.items())


def clauses(
    constraints: Sequence[Constraint],
    label: str | None,
    names: Sequence[str],
    values: Sequence[Sequence[str]],
) -> list[dict[int, set[int]]]:
    """The constraints on rows of one class, as numbers of attributes and of their values.

    Each clause is a combination that may not come. An empty one forbids the class altogether.
    """
    found: list[dict[int, set[int]]] = []
    for constraint in constraints:
        for combination in constraint.forbidden():
            if isinstance(combination, tuple):
                given, name = combination
                wanted: dict[str, set[str]] = {n: set(v) for n, v in given.items()}
                other = [label or ""] if name == LABEL else values[names.index(name)] if name in names else []
                wanted[name] = set(other) - set(constraint.then[name])
            else:
                wanted = {n: set(v) for n, v in combination.items()}
            of_label = wanted.pop(LABEL, None)
            if of_label is not None and (label or "") not in of_label:
                continue
            if any(n not in names for n in wanted):
                continue
            numbers = {
                names.index(n): {i for i, value in enumerate(values[names.index(n)]) if value in v}
                for n, v in wanted.items()
            }
            if all(numbers.values()):
                found.append(numbers)
    return found
