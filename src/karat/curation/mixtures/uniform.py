"""Draws equally from several generators at a fixed total, item by item. Knows no score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import Mixed, several, sources
from karat.curation.lexis import lexical_note
from karat.records import Records


@dataclass(frozen=True)
class Uniform:
    """Draws from each source equally often, in random turns, at a fixed total size.

    field: the field that names the source of a record; lineage.generator when empty. item: a field that
    names what a record was made for (a prompt, a seed text): then each item is taken once, from a source
    drawn at random among those that have it, which is the mixture of several LLMs over the same inputs.
    Without a total, it ends where the first source runs out, so that the shares stay equal.
    """

    field: str = ""
    item: str = ""

    def mix(
        self,
        candidate: Records,
        reference: Records | None = None,
        *,
        size: int | None = None,
        seed: int = 0,
    ) -> Mixed:
        """Choose among the candidates; each source is taken from its best downwards."""
        found = several(candidate, "uniform", self.field)
        rng = np.random.default_rng([seed, 0x313E])
        if self.item:
            chosen = self._by_item(candidate, rng)
        else:
            chosen = _in_turns([source.positions for source in found], size, rng)
        if size is not None:
            chosen = chosen[:size]
        taken = set(chosen)
        of = {p: source.name or "(no name)" for source in found for p in source.positions}
        counts = {source.name or "(no name)": 0 for source in found}
        for position in chosen:
            counts[of[position]] += 1
        shares = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        left = {
            p: f"not drawn: {counts[of[p]]:,} of {of[p]} fill its share of {len(chosen):,}"
            for p in range(len(candidate))
            if p not in taken
        }
        mixed = candidate.take(chosen)
        words = lexical_note(mixed.texts(), [of[p] for p in chosen], seed=seed)
        return Mixed(mixed, left, "; ".join(filter(None, (f"drawn from {shares}", words))))

    def _by_item(self, candidate: Records, rng: np.random.Generator) -> list[int]:
        items: dict[str, list[int]] = {}
        for position, item in enumerate(candidate.column(self.item)):
            items.setdefault(str(item), []).append(position)
        source = {p: s.name for s in sources(candidate, self.field) for p in s.positions}
        chosen = []
        for positions in items.values():
            first = {source[p]: p for p in reversed(positions)}  # the best of each source
            names = sorted(first)
            chosen.append(first[names[int(rng.integers(len(names)))]])
        return chosen


def _in_turns(positions: list[tuple[int, ...]], size: int | None, rng: np.random.Generator) -> list[int]:
    """Return positions in rounds: each round takes one of every source that has any left, in random order."""
    left = [list(reversed(p)) for p in positions]
    chosen: list[int] = []
    while any(left) and (size is None or len(chosen) < size):
        if size is None and not all(left):
            break
        for k in rng.permutation(len(left)).tolist():
            if left[k] and (size is None or len(chosen) < size):
                chosen.append(left[k].pop())
    return chosen
