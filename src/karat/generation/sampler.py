"""Which attribute values go together: even, paired, without repeats. Knows no text and no task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from itertools import combinations as pairs_of
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from karat.errors import BadSetting
from karat.generation.quotas import LARGEST, after_all
from karat.generation.spaces import Clause, Space, Unused

Array = NDArray[Any]
Mode = Literal["covering", "independent"]

# So many rows are built at a time, of which the best is taken; and so many unused ones are looked at.
_BUILT, _LOOKED = 8, 384
# So many of the last rows are held back, to be mended where a quota was missed; and after so many exchanges
# that did not help they are let go.
_HELD, _TRIES = 512, 1500
# So many cells of pair tables are kept; of larger pairs only those that met are known.
_CELLS = 4_000_000
# What a pair is worth that never met, and one that met once (twice: half of that), beside a value that is one
# row behind its share; and what it costs to be a row ahead of it, or beyond the quota.
_NEW, _AGAIN, _AHEAD, _FULL = 1.0, 0.25, 2.0, 8.0


def combinations(
    sizes: Sequence[int],
    n: int,
    *,
    seed: int,
    shares: Sequence[Sequence[float]] | None = None,
    mode: Mode = "covering",
    forbidden: Sequence[Clause] = (),
    joint: Mapping[tuple[int, int], Sequence[Sequence[float]]] | None = None,
) -> Iterator[tuple[int, ...]]:
    """Yield n combinations of value numbers, one a row, as they are asked for.

    covering: none comes twice before all that are permitted have come; each row takes the values that are
    furthest behind their shares and brings most pairs that did not meet yet. Quotas of values are met to
    the row where this leaves room for it; when all have come, shares decide how often each comes again.
    independent: draws with replacement, as in AttrPrompt.

    sizes: how many values each attribute has. shares: the wanted share of each value (default: all alike;
    0: never). forbidden: clauses (attribute number -> value numbers) that may not hold together.
    joint: wanted shares of the pairs of two attributes (a < b), [size a, size b]; covering only.
    Raises BadSetting where no combination is permitted.
    """
    if mode not in ("covering", "independent"):
        raise BadSetting(f"mode={mode!r} is not a way to sample; name covering or independent")
    if not sizes or min(sizes) == 0:
        return iter([() for _ in range(n)])
    wanted = [np.full(size, 1 / size) for size in sizes] if shares is None else list(map(_share, shares))
    space = Space(sizes, forbidden, [share > 0 for share in wanted])
    if space.empty():
        raise BadSetting(
            f"no combination of the attribute values is permitted by {len(forbidden)} constraints; remove one"
        )
    generator = np.random.default_rng(seed)
    if mode == "independent":
        return _independent(space, n, wanted, generator)
    if shares is not None and not joint and any(np.ptp(share[share > 0]) > 1e-12 for share in wanted):
        codes = space.codes(LARGEST)
        if codes is not None and len(codes) < n and len(codes) <= LARGEST:
            once = _covering(space, len(codes), _Ledger(space, len(codes), wanted, {}), generator)
            return chain(once, after_all(space.rows(codes), n, wanted, generator))
    return _covering(space, n, _Ledger(space, n, wanted, joint or {}), generator)


def _share(given: Sequence[float]) -> Array:
    found = np.asarray(given, float)
    if not found.sum() > 0 or found.min() < 0 or not np.isfinite(found).all():
        raise BadSetting(f"shares {list(given)} must be numbers of 0 or more, one of them above 0")
    return np.asarray(found / found.sum())


def _independent(
    space: Space, n: int, wanted: list[Array], generator: np.random.Generator
) -> Iterator[tuple[int, ...]]:
    """Draws with replacement, of which those are kept that are permitted."""
    steps = [np.cumsum(share) for share in wanted]
    left, tried, known = n, 0, None
    while left:
        size = min(max(left, 64), 1024)
        if known is None:
            drawn = [np.searchsorted(s[:-1], generator.random(size), side="right") for s in steps]
            rows = np.stack(drawn, axis=1)
            tried += size
        else:
            rows = space.rows(known[0][np.searchsorted(known[1][:-1], generator.random(size), side="right")])
        rows = rows[space.permitted(rows)][:left]
        left -= len(rows)
        yield from map(tuple, rows.tolist())
        if known is None and tried > 200 * (n - left + 1) and (codes := space.codes()) is not None:
            # Hardly any draw is permitted: draw from the list of those that are, by their product of shares.
            listed = space.rows(codes)
            weight = np.prod([share[listed[:, j]] for j, share in enumerate(wanted)], axis=0)
            known = codes, np.cumsum(weight / weight.sum())


def _covering(
    space: Space, n: int, ledger: _Ledger, generator: np.random.Generator
) -> Iterator[tuple[int, ...]]:
    """One row after another; the last ones are held back until the quotas are settled."""
    unused = Unused(space, generator)
    held: list[tuple[int, ...]] = []
    for made in range(n):
        ledger.begin(made)
        rows = unused.some(_LOOKED) if unused.few(_LOOKED) else None
        if rows is None:
            rows = ledger.build(generator)
            rows = rows[unused.fresh(rows)]
            if not len(rows):
                # What is built greedily has all come: look at unused ones, wherever they lie.
                rows = unused.some(_LOOKED)
        score = ledger.score(rows) + generator.random(len(rows)) * 1e-3
        chosen = tuple(rows[int(score.argmax())].tolist())
        ledger.add(chosen)
        held.append(chosen)
        if unused.use(chosen) or made < n - _HELD:
            # A row of a round that has ended cannot be exchanged any more.
            yield from held
            held.clear()
    changed = _settle(held, ledger, unused) + _exchange(held, ledger, unused, generator)
    yield from _ordered(held, ledger) if changed else held


def _ordered(held: list[tuple[int, ...]], ledger: _Ledger) -> Iterator[tuple[int, ...]]:
    """The rows held back, the evenest and newest first again after some were exchanged."""
    for row in held:
        ledger.add(row, -1)
    rows = np.array(held, dtype=np.int64)
    for made in range(ledger.row + 1 - len(held), ledger.row + 1):
        ledger.begin(made)
        best = int(ledger.score(rows).argmax())
        chosen = tuple(rows[best].tolist())
        rows = np.delete(rows, best, axis=0)
        ledger.add(chosen)
        yield chosen


def _settle(held: list[tuple[int, ...]], ledger: _Ledger, unused: Unused) -> int:
    """Exchange values in the rows held back, where quotas were missed and an unused row allows it."""
    changed = 0
    for j, full in enumerate(ledger.quota):
        for _ in range(len(held)):
            excess = ledger.counts[j] - full
            if excess.max() < 1:
                break
            over, under = int(excess.argmax()), int(excess.argmin())
            places = [i for i, row in enumerate(held) if row[j] == over]
            if not places:
                break
            rows = np.array([held[i] for i in places], dtype=np.int64)
            rows[:, j] = under
            fine = unused.space.permitted(rows)
            fine[fine] = unused.fresh(rows[fine])
            if not fine.any():
                break
            before = np.array([held[i] for i in places], dtype=np.int64)
            # The latest row that loses no pair: what came early is what a run that stops early has.
            gain = np.where(fine, np.minimum(ledger.met_by(rows, 0) - ledger.met_by(before, 1), 0), -np.inf)
            best = int(np.flatnonzero(gain == gain.max())[-1])
            _replace(held, places[best], tuple(rows[best].tolist()), ledger, unused)
            changed += 1
    return changed


def _exchange(
    held: list[tuple[int, ...]], ledger: _Ledger, unused: Unused, generator: np.random.Generator
) -> int:
    """Where exchanging one value will not do, exchange whole rows: a walk on which no miss grows."""
    changed = 0
    columns = range(len(ledger.counts))
    best_so_far, since = np.inf, 0
    while held and not unused.few(0):
        excess = [count - full for count, full in zip(ledger.counts, ledger.quota, strict=True)]
        missed = sum(float(np.abs(of_values).sum()) for of_values in excess)
        since = 0 if missed < best_so_far else since + 1
        best_so_far = min(missed, best_so_far)
        if max(map(np.max, excess)) < 1 or since > _TRIES:
            break
        rows = np.array(held, dtype=np.int64)
        worse = np.flatnonzero(np.sum([excess[j][rows[:, j]] > 0 for j in columns], axis=0))
        if not len(worse):
            break
        # Rows go first without which no pair is lost, and those come first that bring a new one.
        lost = ledger.met_by(rows[worse], 1) + 2 * generator.random(len(worse))
        place = int(worse[lost.argmin()])
        old, others = held[place], unused.some(4 * _LOOKED)
        change = generator.random(len(others)) * 0.3
        if 5 * since < _TRIES:
            change = change / 15 - ledger.met_by(others, 0) * 0.02
        for j in columns:
            lack = excess[j][old[j]]
            moved = np.abs(excess[j] + 1) - np.abs(excess[j]) + abs(lack - 1) - abs(lack)
            moved[old[j]] = 0
            change += moved[others[:, j]]
        best = int(change.argmin())
        if change[best] < 0.5:
            _replace(held, place, tuple(others[best].tolist()), ledger, unused)
            changed += 1
    return changed


def _replace(
    held: list[tuple[int, ...]], place: int, new: tuple[int, ...], ledger: _Ledger, unused: Unused
) -> None:
    ledger.add(held[place], -1)
    ledger.add(new)
    unused.restore(held[place])
    unused.use(new)
    held[place] = new


class _Ledger:
    """What has come so far: values and pairs, beside what was wanted."""

    def __init__(
        self,
        space: Space,
        n: int,
        wanted: list[Array],
        joint: Mapping[tuple[int, int], Sequence[Sequence[float]]],
    ) -> None:
        self.space, self.wanted = space, wanted
        self.counts = [np.zeros(size) for size in space.sizes]
        self.quota = [
            np.array(list(quotas(dict(enumerate(share.tolist())), n).values()), dtype=float)
            for share in wanted
        ]
        self.appeal: list[Array] = []
        self.joint = {pair: _share(np.ravel(m).tolist()).reshape(np.shape(m)) for pair, m in joint.items()}
        self.seen = {pair: np.zeros(share.shape) for pair, share in self.joint.items()}
        free = [pair for pair in pairs_of(range(len(space.sizes)), 2) if pair not in self.joint]
        self.worth: dict[tuple[int, int], Array] = {}
        self.met: dict[tuple[int, int], set[int]] = {}
        cells = 0
        for a, b in sorted(free, key=lambda pair: space.sizes[pair[0]] * space.sizes[pair[1]]):
            cells += (size := space.sizes[a] * space.sizes[b])
            if size == 1:
                continue
            if cells <= _CELLS:
                table = np.full((space.sizes[a], space.sizes[b]), _NEW, dtype=np.float32)
                # kept both ways round, so that a row of it is what a value of either side still lacks
                self.worth[a, b], self.worth[b, a] = table, table.T
            else:
                self.met[a, b] = set()
        self.pairs = [pair for pair in self.worth if pair[0] < pair[1]]
        self.row = 0

    def begin(self, made: int) -> None:
        """Reckon how far each value is behind, before row `made`."""
        self.row = made
        self.appeal = []
        for share, count, full in zip(self.wanted, self.counts, self.quota, strict=True):
            behind = share * (made + 1) - count
            self.appeal.append(behind - _FULL * (count >= full) - _AHEAD * (behind <= -1))
        for j, allowed in self.space.barred.items():
            self.appeal[j][~allowed] = -np.inf

    def build(self, generator: np.random.Generator) -> Array:
        """A few rows [k, attributes], each built value by value: the one that is furthest behind and new."""
        rows = np.zeros((_BUILT, len(self.appeal)), dtype=np.int64)
        alive = np.ones(_BUILT, dtype=bool)
        order = generator.permutation(len(self.appeal)).tolist()
        for step, j in enumerate(order):
            noise = generator.random((_BUILT, len(self.appeal[j])), dtype=np.float32)
            # The first value is drawn among those that are behind, so that the rows differ.
            gain = self.appeal[j] + (0.02 if step else 0.8) * noise
            for other in order[:step]:
                if (table := self.worth.get((other, j))) is not None:
                    gain += table[rows[:, other]]
                elif self.joint:
                    gain += self._behind(other, j, rows[:, other])
            self.space.bar(gain, rows, j, order[:step])
            rows[:, j] = gain.argmax(axis=1)
            alive &= gain[np.arange(_BUILT), rows[:, j]] > -np.inf
        return rows[alive]

    def _behind(self, other: int, j: int, values: Array) -> Array | float:
        """How far the pairs of values of one attribute with all of another are behind their shares."""
        pair = (other, j) if (other, j) in self.joint else (j, other)
        if pair not in self.joint:
            return 0.0
        lack = np.clip(self.joint[pair] * (self.row + 1) - self.seen[pair], -2, 2)
        lack[self.joint[pair] == 0] = -_FULL
        return np.asarray(lack[values] if pair == (other, j) else lack[:, values].T)

    def score(self, rows: Array) -> Array:
        """What each row [k, attributes] would do for values and pairs."""
        total = np.zeros(len(rows))
        for j, behind in enumerate(self.appeal):
            total += behind[rows[:, j]]
        for a, b in self.pairs:
            total += self.worth[a, b][rows[:, a], rows[:, b]]
        for a, b in self.joint:
            total += np.asarray(self._behind(a, b, rows[:, a]))[np.arange(len(rows)), rows[:, b]]
        for (a, b), met in self.met.items():
            codes = rows[:, a] * self.space.sizes[b] + rows[:, b]
            total += [0.0 if code in met else _NEW for code in codes.tolist()]
        return total

    def met_by(self, rows: Array, times: int) -> Array:
        """How many pairs of each row [k, attributes] have met so often, never (0) or once (1)."""
        worth = _AGAIN if times else _NEW
        found = np.zeros(len(rows))
        for a, b in self.pairs:
            found += self.worth[a, b][rows[:, a], rows[:, b]] == worth
        return found

    def add(self, row: tuple[int, ...], times: int = 1) -> None:
        """Count a row; -1 takes it back."""
        for count, value in zip(self.counts, row, strict=True):
            count[value] += times
        for a, b in self.pairs:
            table = self.worth[a, b]
            worth = float(table[row[a], row[b]])
            meetings = times + (round(_AGAIN / worth) if worth < _NEW else 0)
            table[row[a], row[b]] = _AGAIN / meetings if meetings else _NEW
        for (a, b), seen in self.seen.items():
            seen[row[a], row[b]] += times
        for (a, b), met in self.met.items():
            if times > 0:
                met.add(row[a] * self.space.sizes[b] + row[b])


def quotas(shares: Mapping[Any, float], n: int) -> dict[Any, int]:
    """Whole numbers that sum to n and are nearest to the shares (largest remainder; ties by order)."""
    total = sum(shares.values())
    exact = {name: n * share / total for name, share in shares.items()}
    result = {name: int(value) for name, value in exact.items()}
    rest = sorted(exact, key=lambda name: result[name] - exact[name])
    for name in rest[: n - sum(result.values())]:
        result[name] += 1
    return result
