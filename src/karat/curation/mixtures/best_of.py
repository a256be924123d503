"""Takes for each item the record that scores best among its sources. Knows no score by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karat.curation.base import Mixed, several
from karat.curation.lexis import lexical_note
from karat.curation.values import values_of
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records


@dataclass(frozen=True)
class BestOf:
    """Keeps for each item its best record, whichever source it is from.

    item: the field that names what a record was made for (a prompt, a seed text). by: a numeric field, or an
    ordering such as human_likeness, whose highest score wins; equal scores go to the first record, and a
    record without a score never wins over one with it. field: names the source; lineage.generator when empty.
    """

    item: str = ""
    by: str = "order_score"
    field: str = ""

    def mix(
        self,
        candidate: Records,
        reference: Records | None = None,
        *,
        size: int | None = None,
        seed: int = 0,
        cache: Path | None = None,
        ask: Any = None,
    ) -> Mixed:
        """Choose one record of each item, the items in the order of the candidates."""
        if not self.item:
            raise BadSetting(
                "mixture 'best_of' needs the field that records of one item share: write best_of:item=FIELD"
            )
        found = several(candidate, "best_of", self.field)
        values, _ = values_of(
            candidate, self.by, "mixture 'best_of'", reference, cache=cache, ask=ask, seed=seed
        )
        if np.isnan(values).all():
            raise NotEnoughData(f"mixture 'best_of': no record has a number in {self.by!r}; order first")
        items: dict[str, list[int]] = {}
        for position, item in enumerate(candidate.column(self.item)):
            items.setdefault(str(item), []).append(position)
        sort = np.where(np.isnan(values), -np.inf, values)
        winners = [max(rows, key=lambda row: (sort[row], -row)) for rows in items.values()]
        chosen = winners[:size]
        left = {}
        for rows, best in zip(items.values(), winners):
            for row in rows:
                if row != best:
                    other = f"{values[best]:.4g} of {candidate.ids[best]}"
                    left[row] = f"{self.by} {values[row]:.4g}, not over {other}"
        for best in winners[len(chosen) :]:
            left[best] = f"its item comes after the first {len(chosen):,}"
        of = {p: source.name or "(no name)" for source in found for p in source.positions}
        names = [of[p] for p in chosen]
        shares = ", ".join(f"{name} {names.count(name):,}" for name in sorted(set(names)))
        mixed = candidate.take(chosen)
        unscored = int(np.isnan(values[chosen]).sum())
        parts = [f"best of {len(items):,} items by {self.by}: {shares}"]
        if unscored:
            parts.append(f"{unscored:,} items without any score")
        parts.append(lexical_note(mixed.texts(), names, seed=seed))
        return Mixed(mixed, left, "; ".join(filter(None, parts)))
