"""The sides of a second-order test: human and each kind of synthetic records. Knows no score.

Records that share what a model is given (a text, an item, a response, a prompt), or of which one was made
from the other alone, form a group over all sides, and a group is never split between training and test. A
record made from several is not trained on where one of these is tested. On one
published benchmark rows were split instead, and 99 to 100 % of the test texts stood in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.curation.base import normalised, sources
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records, from_table
from karat.training.base import Indices, inputs
from karat.training.pairs import pairs

HUMAN = "human"
LEAST = 4
"""records of a side that training and test need at least"""


@dataclass(frozen=True, eq=False)
class Sides:
    """All records in one pool: for each record its side and its group, and which test it may be in."""

    pool: Records
    names: tuple[str, ...]
    side: Indices
    """[n] place of the side in `names`; the human one comes first"""
    families: Families
    """which records stay together"""
    fixed: NDArray[np.bool_]
    """[n] records of test files that were given: always tested on, never trained on"""

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the pool, its ids, sides, groups, and which test records were given."""
        said = "\0".join((self.pool.fingerprint, *self.names, "", *self.pool.ids))
        digest = hashlib.sha256(said.encode("utf-8", "replace"))
        kin = self.families
        for column in (self.side, kin.group, kin.child, kin.parent, self.fixed.astype(np.int64)):
            digest.update(column.astype("<i8").tobytes())
        return digest.hexdigest()[:32]

    @property
    def group(self) -> Indices:
        """The number of the group of each record [n]; equal numbers stay together."""
        return self.families.group

    def rows(self, side: int, seed: int, *, test_share: float, base: int) -> tuple[Indices, Indices]:
        """Return the places that a side trains on (shuffled by seed) and is tested on (in order)."""
        mine = self.side == side
        held = self.families.touched(self.fixed)
        drawn = np.zeros(int(self.group.max()) + 1, np.bool_)
        order = np.random.default_rng([base, seed, 0x517]).permutation(len(drawn))
        drawn[order[: max(1, round(test_share * len(drawn)))]] = True
        # only sides without a test file of their own are tested on what is drawn
        given = np.isin(self.side, self.side[self.fixed])
        tested = self.families.touched(drawn[self.group] & ~given)
        if (self.fixed & mine).any():
            test = np.flatnonzero(self.fixed & mine)
        else:
            # what a given test file holds of this side's groups is no training record either
            test = np.flatnonzero(mine & (drawn[self.group] | np.isin(self.group, self.group[self.fixed])))
        train = np.flatnonzero(mine & ~tested & ~held)
        shuffled = np.random.default_rng([base, seed, side, 0x51]).permutation(train)
        return shuffled.astype(np.int64), test.astype(np.int64)

    def check(self, seeds: int, *, test_share: float, base: int) -> int:
        """Return how many records every side can train on, at least. Raises NotEnoughData."""
        least = len(self.pool)
        for side, name in enumerate(self.names):
            for seed in range(seeds):
                train, test = self.rows(side, seed, test_share=test_share, base=base)
                for rows, what in ((train, "training"), (test, "test")):
                    if len(rows) < LEAST:
                        raise NotEnoughData(
                            f"side {name!r} has {len(rows)} {what} records in groups of its own, but needs "
                            f"{LEAST}; give more records, or test files (--test, --synthetic-test)"
                        )
                least = min(least, len(train))
        return least


def make_sides(
    human: Records,
    synthetic: Records,
    human_test: Records | None = None,
    synthetic_test: Records | None = None,
    *,
    by: str = "",
    group: str = "",
    keep: Sequence[str] = (),
) -> Sides:
    """Return the sides; synthetic records are told apart by the field `by`, else by lineage.generator.

    group: a field whose equal values stay together, in addition to texts, items and parents.
    keep: more fields that the pool is to have.
    Raises InputError where data types differ.
    """
    parts = [(human, HUMAN, False), (synthetic, "", False)]
    parts += [(human_test, HUMAN, True)] if human_test is not None else []
    parts += [(synthetic_test, "", True)] if synthetic_test is not None else []
    kinds = {part.datatype for part, _, _ in parts}
    if len(kinds) > 1:
        raise InputError(
            f"{synthetic.path} holds {synthetic.datatype} and {human.path} {human.datatype} records; "
            "name one type with --type"
        )
    origin: list[str] = []
    for part, name, _ in parts:
        origin += [name] * len(part) if name else _kinds(part, by)
    made = sorted({name for name in origin if name != HUMAN})
    if HUMAN in _kinds(synthetic, by):
        raise BadSetting(
            f"{synthetic.path}: a kind of synthetic records is called 'human'; name it otherwise"
        )
    names = (HUMAN, *made)
    place = {name: i for i, name in enumerate(names)}
    pool = pooled(*(part for part, _, _ in parts), keep=(group, *keep))
    return Sides(
        pool=pool,
        names=names,
        side=np.array([place[name] for name in origin], dtype=np.int64),
        families=families(pool, np.array([name == HUMAN for name in origin]), group),
        fixed=np.concatenate([np.full(len(part), given) for part, _, given in parts]),
    )


def _kinds(records: Records, by: str) -> list[str]:
    """Return the kind of each synthetic record: the name of its origin, `synthetic` where it has none."""
    found = ["synthetic"] * len(records)
    for origin in sources(records, by):
        for position in origin.positions:
            found[position] = origin.name or "synthetic"
    return found


def pooled(*parts: Records, keep: Sequence[str] = ()) -> Records:
    """Return records as one pool, without fields that trainers do not read and that may not fit together."""
    sides = []
    for part in parts:
        fields = {name for form in part.kind.forms for name in form} | set(part.kind.optional)
        wanted = ["id", "text", part.kind.label or "", *keep, *sorted(fields)]
        names = [name for name in dict.fromkeys(wanted) if name and part.has(name)]
        sides.append(from_table(part.table.select([*names, "lineage"]), part.datatype, part.path))
    return sides[0].concat(*sides[1:])


@dataclass(frozen=True, eq=False)
class Families:
    """Which records belong together: the group of each, and the parents that groups do not hold.

    A record made from one other shares its group. One made from several (few-shot) does not tie them to each
    other, or a handful of prompts would tie all human records into one group: `child` and `parent` hold these
    pairs, as places in the pool, and a child is kept out where any of its parents is.
    """

    group: Indices
    child: Indices
    parent: Indices

    def touched(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which records [n] share a group with one of `rows` [n], or have a parent that does."""
        found = np.zeros(int(self.group.max()) + 1, np.bool_)
        found[self.group[rows]] = True
        kin = found[self.group]
        kin[self.child[kin[self.parent]]] = True
        return kin


def families(records: Records, human: NDArray[np.bool_], field: str = "") -> Families:
    """Return the families of a pool; `human` [n] says where its human records are.

    Ids are those of a file: a record's parent is sought among the human ids first, then among the others, and
    equal ids of two files are two records. Groups are numbered from 0 without a gap.
    """
    import scipy.sparse
    from scipy.sparse.csgraph import connected_components

    keys: dict[tuple[str, str], int] = {}
    rows: list[int] = []
    columns: list[int] = []

    def tie(position: int, kind: str, value: object) -> None:
        rows.append(position)
        columns.append(keys.setdefault((kind, str(value)), len(keys)))

    if records.datatype == "preference":
        for position, number in enumerate(pairs(records).groups.tolist()):
            tie(position, "pair", number)
    else:
        for position, text in enumerate(inputs(records)):
            tie(position, "text", normalised(text))
    if records.has("item_id"):
        for position, item in enumerate(records.column("item_id")):
            tie(position, "item", item)
    children: list[tuple[int, int]] = []
    for position, known in enumerate(_parents(records, human)):
        if len(known) == 1:
            tie(position, "family", known[0])
            tie(known[0], "family", known[0])
        children += [(position, parent) for parent in known if len(known) > 1]
    for position, value in enumerate(_values(records, field)):
        if value is not None:
            tie(position, "field", value)
    n = len(records)
    ones = np.ones(len(rows), np.int8)
    ends = (np.array(rows), np.array(columns) + n)
    graph = scipy.sparse.coo_matrix((ones, ends), shape=(n + len(keys), n + len(keys)))
    component = connected_components(graph, directed=False)[1][:n]
    group = np.unique(component, return_inverse=True)[1].astype(np.int64)
    child, parent = np.array(children, dtype=np.int64).reshape(-1, 2).T
    return Families(group, child, parent)


def _parents(records: Records, human: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Yield for each record the places of its parents that stand in the pool."""
    places: list[dict[str, int]] = [{}, {}]
    for position, (identity, mine) in enumerate(zip(records.ids, human.tolist())):
        places[not mine].setdefault(identity, position)
    for position, entry in enumerate(records.lineage("parents")):
        named = (places[0].get(parent, places[1].get(parent)) for parent in entry or ())
        yield [at for at in dict.fromkeys(named) if at is not None and at != position]


def _values(records: Records, field: str) -> Sequence[object]:
    return records.column(field) if field else ()
