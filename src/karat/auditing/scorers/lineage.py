"""The value of an attribute that the recipe asked for: known of every record without any classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from karat.auditing.base import Facts
from karat.auditing.scorers.base import Given, Scores, known_values, one_hot
from karat.errors import BadSetting


@dataclass(frozen=True)
class Lineage:
    """The attribute as it stands in the lineage of a record; else a field of the same name.

    It says what was asked for, not what was written: a generator may not have obeyed.
    attribute: its name, for example location
    """

    attribute: str = ""

    reads_text: ClassVar[bool] = False

    def fields(self) -> tuple[str, ...]:
        """The attributes of the lineage, and a field of that name."""
        return ("lineage.attributes", *filter(None, [self.attribute]))

    def lacks(self, facts: Facts) -> str:
        """Why these records cannot be scored."""
        return "" if self.attribute else "needs the name of an attribute: attribute=location"

    def score(self, corpora: Sequence[Given], *, seed: int = 0, cache: Path | None = None) -> Scores:
        """Read the attribute of all records."""
        if not self.attribute:
            raise BadSetting("scorer 'lineage' needs the setting 'attribute': write attribute=location")
        values = [known_values(one.columns, self.attribute) for one in corpora]
        classes = tuple(sorted({value for side in values for value in side if value is not None}))
        return Scores(
            f"lineage:{self.attribute}", classes, tuple(one_hot(side, classes) for side in values), exact=True
        )
