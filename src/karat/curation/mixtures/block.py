"""Takes a block of items from one source, the next block from another. Knows no score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import Mixed, several
from karat.curation.lexis import lexical_note
from karat.records import Records


@dataclass(frozen=True)
class Block:
    """Draws each block of items from one source, the sources in turn, in an order drawn by the seed.

    length: items of a block; 0 gives each source one block. field: names the source of a record;
    lineage.generator when empty. item: a field that names what a record was made for: each item is taken
    once, from its block's source, or from the first other one that has it. Without it, a block is the next
    records of the source, and it ends where a source runs out.
    """

    length: int = 0
    field: str = ""
    item: str = ""

    def __post_init__(self) -> None:
        if self.length < 0:
            raise ValueError(f"length is {self.length}, but a block has 1 item at least; 0: one a source")

    def mix(
        self,
        candidate: Records,
        reference: Records | None = None,
        *,
        size: int | None = None,
        seed: int = 0,
    ) -> Mixed:
        """Choose among the candidates; each source is taken from its best downwards."""
        found = several(candidate, "block", self.field)
        turn = np.random.default_rng([seed, 0xB10]).permutation(len(found)).tolist()
        order = [found[k].positions for k in turn]
        if self.item:
            chosen, others = self._by_item(candidate, order, size)
        else:
            chosen, others = self._in_turns(order, size), 0
        of = {p: source.name or "(no name)" for source in found for p in source.positions}
        taken = set(chosen)
        left = {p: f"not drawn: its block is another source's than {of[p]}" for p in of if p not in taken}
        names = [of[p] for p in chosen]
        shares = ", ".join(f"{name} {names.count(name):,}" for name in sorted(set(names)))
        mixed = candidate.take(chosen)
        note = f"blocks drawn from {shares}"
        if others:
            note += f"; {others:,} items that their block's source lacks from others"
        words = lexical_note(mixed.texts(), names, seed=seed)
        return Mixed(mixed, left, "; ".join(filter(None, (note, words))))

    def _in_turns(self, order: list[tuple[int, ...]], size: int | None) -> list[int]:
        least = min(len(positions) for positions in order)
        total = least * len(order) if size is None else min(size, sum(map(len, order)))
        length = self.length or max(1, -(-total // len(order)))
        left = [list(positions) for positions in order]
        chosen: list[int] = []
        turn = 0
        while any(left) and len(chosen) < total:
            part = left[turn % len(left)]
            take = min(length, total - len(chosen), len(part))
            if size is None and take < min(length, total - len(chosen)):
                break
            chosen += part[:take]
            del part[:take]
            turn += 1
        return chosen

    def _by_item(
        self, candidate: Records, order: list[tuple[int, ...]], size: int | None
    ) -> tuple[list[int], int]:
        keys = [str(value) for value in candidate.column(self.item)]
        items = list(dict.fromkeys(keys))[:size]
        first = [{keys[p]: p for p in reversed(positions)} for positions in order]  # the best of each source
        length = self.length or max(1, -(-len(items) // len(order)))
        chosen, others = [], 0
        for place, item in enumerate(items):
            turn = place // length % len(order)
            tries = [first[(turn + step) % len(order)].get(item) for step in range(len(order))]
            others += tries[0] is None
            chosen.append(next(p for p in tries if p is not None))
        return chosen, others
