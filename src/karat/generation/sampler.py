"""Which attribute values go together: even, paired, without repeats. Knows no text and no task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations as pairs_of
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A space up to this size is looked at whole for each row; of a larger one, a few hundred unused members.
_WHOLE, _SOME = 4096, 192
# So many pairs can be counted; beyond, hardly any pair would meet twice anyway.
_PAIRS = 1_000_000

Array = NDArray[Any]


def combinations(
    sizes: Sequence[int], n: int, *, seed: int, shares: Sequence[Sequence[float]] | None = None
) -> Iterator[tuple[int, ...]]:
    """Yield n combinations of value numbers; none comes twice before all have come.

    sizes: how many values each attribute has. shares: the wanted share of each value (default: all alike).
    Each next combination is the unused one whose values are furthest behind their shares, and which brings
    most pairs of values that did not meet yet; ties are broken at random by `seed`.
    """
    if not sizes or min(sizes) == 0:
        yield from (() for _ in range(n))
        return
    generator = np.random.default_rng(seed)
    wanted = [
        np.full(size, 1 / size) if shares is None else np.asarray(shares[j], float) / sum(shares[j])
        for j, size in enumerate(sizes)
    ]
    counts = [np.zeros(size) for size in sizes]
    met = {
        (a, b): np.zeros((sizes[a], sizes[b]), dtype=np.int32)
        for a, b in pairs_of(range(len(sizes)), 2)
        if sizes[a] * sizes[b] <= _PAIRS
    }
    pool = _Pool(sizes, generator)
    for made in range(n):
        offered = pool.offer()
        score = generator.random(len(offered)) * 1e-3
        for j, (share, count) in enumerate(zip(wanted, counts, strict=True)):
            score += (share * (made + 1) - count)[offered[:, j]]
        for (a, b), seen in met.items():
            # A pair that was never seen is worth a quarter of a value that is one behind.
            score += 0.25 / (1 + seen[offered[:, a], offered[:, b]])
        best = int(score.argmax())
        chosen = offered[best]
        for j, value in enumerate(chosen):
            counts[j][value] += 1
        for (a, b), seen in met.items():
            seen[chosen[a], chosen[b]] += 1
        pool.use(best)
        yield tuple(int(value) for value in chosen)


class _Pool:
    """The combinations not used yet in this round; when all are used, a new round begins."""

    def __init__(self, sizes: Sequence[int], generator: np.random.Generator) -> None:
        self.sizes, self.generator = tuple(sizes), generator
        self.total = int(np.prod([float(s) for s in sizes]))
        self.used: set[int] = set()
        self.left: Array | None = np.arange(self.total) if self.total <= _WHOLE else None
        self.numbers: Array = np.zeros(0, dtype=np.int64)

    def offer(self) -> Array:
        """Unused combinations [k, attributes] to choose from."""
        if self.left is None and 2 * len(self.used) >= self.total:
            # Half of a large space is used: now guessing fails too often, and the rest fits in memory.
            self.left = np.setdiff1d(np.arange(self.total), np.fromiter(self.used, np.int64))
        if self.left is not None:
            if not len(self.left):
                self.left = np.arange(self.total)
            few = len(self.left) <= _WHOLE
            self.numbers = self.left if few else self.generator.choice(self.left, _SOME, replace=False)
        else:
            drawn = np.unique(self.generator.integers(0, self.total, size=4 * _SOME))
            fresh = [number for number in drawn.tolist() if number not in self.used]
            if not fresh:
                return self.offer()
            self.numbers = self.generator.permutation(np.array(fresh))[:_SOME]
        return np.stack(np.unravel_index(self.numbers, self.sizes), axis=1)

    def use(self, row: int) -> None:
        """Take the offered combination out of the pool."""
        number = int(self.numbers[row])
        if self.left is not None:
            self.left = self.left[self.left != number]
        else:
            self.used.add(number)


def quotas(shares: Mapping[str, float], n: int) -> dict[str, int]:
    """Whole numbers that sum to n and are nearest to the shares (largest remainder; ties by order)."""
    total = sum(shares.values())
    exact = {name: n * share / total for name, share in shares.items()}
    result = {name: int(value) for name, value in exact.items()}
    rest = sorted(exact, key=lambda name: result[name] - exact[name])
    for name in rest[: n - sum(result.values())]:
        result[name] += 1
    return result
