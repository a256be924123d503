"""Which records each arm of a study trains on, and in which order. Knows no trainer and no score.

An arm is written as a text: `real`, `real@0.1` (a tenth of it), `generated` (all synthetic records),
`generated:NAME` (those of one generator), `mix:MIXTURE`, `ordered:ORDERING` (the best first),
`reversed:ORDERING` (the worst first, a control), `filtered:ORDERING` (without the worst), `filters:FILTER`
and `detector` (`ordered:human_likeness`). `ordered:ORDERING@NAME` and the like take one generator only.

All arms share one base order a seed. Where human and synthetic records were made for the same items (source
sentences, prompts), every arm has the same items in the same order; only what was written for them differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.curation.base import normalised, sources
from karat.curation.stage import curate
from karat.errors import BadSetting, InputError, NotEnoughData, did_you_mean
from karat.records import Records, from_table
from karat.training.base import Indices, inputs

Floats = NDArray[np.float64]
KINDS = ("real", "generated", "mix", "ordered", "reversed", "filtered", "filters", "detector")
Role = Literal["real", "plain", "mitigation", "control", "bound"]
DETECTOR = "human_likeness"
ORACLE = "oracle"
ALIGNED = 0.5
"""share of either side that must have its item on the other for items to be taken as shared unasked"""
FEWEST = 10
"""human records that are held out at least, where arms need some"""
_PLACE = "_place"
_SCORE = "order_score"


@dataclass(frozen=True)
class Arm:
    """One way to choose and order training records."""

    name: str
    kind: str
    part: str = ""
    """the ordering, mixture or filter by name and settings"""
    source: str = ""
    """the generator whose records alone are taken; empty for all"""
    fraction: float = 1.0

    @property
    def synthetic(self) -> bool:
        """Whether it is made of synthetic records."""
        return self.kind != "real"

    @property
    def mitigates(self) -> bool:
        """Whether it does something about the gap."""
        return self.kind not in ("real", "generated")

    @property
    def role(self) -> Role:
        """What it is in the study: real, plain, control, bound (it knows the truth) or mitigation."""
        if not self.mitigates:
            return "real" if self.kind == "real" else "plain"
        if self.kind == "filters":
            return "mitigation"
        name, settings = registry.parse(self.part)
        if self.kind == "reversed" or (self.kind != "mix" and name == "random"):
            return "control"
        scores = [name, *(str(value).partition(":")[0] for value in settings.values())]
        return "bound" if ORACLE in scores else "mitigation"


def parse(spec: str, generators: Sequence[str]) -> Arm:
    """Return the arm that a text names. Raises BadSetting with what there is."""
    name = spec.strip()
    kind, colon, part = name.partition(":")
    if kind.startswith("real"):
        return _real(name)
    kind, _, source = (kind, "", "") if colon else kind.partition("@")
    if kind not in KINDS:
        raise BadSetting(
            f"no arm named {kind!r}{did_you_mean(kind, KINDS)} (there are: {', '.join(KINDS)}, and real@0.1)"
        )
    if kind == "generated":
        source = part or source
        if source and source not in generators:
            raise BadSetting(_no_generator(name, source, generators))
        return Arm(name, kind, source=source)
    head, at, tail = part.rpartition("@")
    if at and tail in generators:
        part, source = head, tail
    if source and source not in generators:
        raise BadSetting(_no_generator(name, source, generators))
    if kind == "detector":
        return Arm(name, "ordered", part=DETECTOR + (f":{part}" if part else ""), source=source)
    if not part:
        shelf = {"mix": "mixtures", "filters": "filters"}.get(kind, "orderings")
        raise BadSetting(f"arm {name!r} lacks its part; write {kind}:NAME (see: karat list {shelf})")
    return Arm(name, kind, part=part, source=source)


def _real(name: str) -> Arm:
    kind, at, text = name.partition("@")
    if kind != "real":
        raise BadSetting(f"no arm named {name!r}; did you mean 'real' or 'real@0.1'?")
    if not at:
        return Arm(name, "real")
    try:
        fraction = float(text)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1:
        raise BadSetting(f"arm {name!r} takes a share of the real data: write a number between 0 and 1")
    return Arm(name, "real", fraction=fraction)


def _no_generator(name: str, source: str, generators: Sequence[str]) -> str:
    known = ", ".join(generators) or "none; name the field that holds it with --field"
    return f"arm {name!r}: no generator {source!r}{did_you_mean(source, generators)} (there are: {known})"


def standard(generators: Sequence[str]) -> tuple[str, ...]:
    """Return the arms of a study where none are named: all three mitigations, with their controls."""
    several = len(generators) > 1
    return (
        "real",
        "generated",
        *(f"generated:{name}" for name in generators if several),
        *(("mix:uniform",) if several else ()),
        "detector",
        f"filtered:{DETECTOR}",
        f"reversed:{DETECTOR}",
        "ordered:random",
        "real@0.1",
        "real@0.25",
        "real@0.5",
    )


# ------------------------------------------------------------------------------------------ pool


@dataclass(frozen=True, eq=False)
class Pool:
    """All records of a study as one, and the positions of each side."""

    records: Records
    human: Indices
    held: Indices
    """human records that no arm trains on: detectors and other parts learn from them"""
    synthetic: Indices
    test: Indices
    sources: Mapping[str, Indices]
    """the synthetic positions of each generator that has a name"""
    items: Indices | None = None
    """the number of the item that each record was made for; None where nothing is shared"""
    item_field: str = ""
    source_field: str = ""
    notes: tuple[str, ...] = ()


def pool(
    human: Records,
    synthetic: Records,
    test: Records,
    *,
    source_field: str = "",
    item: str = "",
    holdout: float = 0.2,
    seed: int = 0,
) -> Pool:
    """Put the sides together; a share of the human items is held out from training.

    item: the field that names what a record was made for; where empty, the source of translations and the
    prompt of instructions are tried. Raises NotEnoughData where a side is left without records.
    """
    keys, name, notes = _items(human, synthetic, item, source_field)
    rng = np.random.default_rng([seed, 0x401D])
    if keys is None:
        ours, theirs = np.arange(len(human)), np.arange(len(synthetic))
        out = np.sort(rng.permutation(len(human))[: _held(len(human), holdout)])
        stays = np.setdiff1d(ours, out)
        numbers = None
    else:
        one, other = keys
        shared = _shared(one, other, synthetic, source_field)
        names = [key for key in dict.fromkeys(one) if key in shared]
        left = set(rng.permutation(len(names))[: _held(len(names), holdout)].tolist())
        place = {key: at for at, key in enumerate(names)}
        mine = np.array([place.get(key, -1) for key in one])
        written = np.array([place.get(key, -1) for key in other])
        away = np.array([at in left for at in range(len(names))])
        out = np.flatnonzero((mine >= 0) & away[mine])
        stays = np.flatnonzero((mine >= 0) & ~away[mine])
        theirs = np.flatnonzero((written >= 0) & ~away[written])
        numbers = np.concatenate([mine[stays], mine[out], written[theirs]])
        synthetic = _with_reference(synthetic, human, one, other)
    if len(stays) < 2 or len(theirs) < 2:
        raise NotEnoughData(
            f"{len(stays)} human and {len(theirs)} synthetic records are left to train on, but 2 of each are "
            "needed; add records, or hold out less with --holdout"
        )
    sides = (human.take(stays), human.take(out), synthetic.take(theirs), test)
    ends = np.cumsum([0, *(len(side) for side in sides)]).tolist()
    of_human, of_held, of_synthetic, of_test = (np.arange(a, b) for a, b in pairwise(ends))
    named = {
        one.name: np.array(one.positions) + ends[2] for one in sources(sides[2], source_field) if one.name
    }
    if numbers is not None:
        numbers = np.concatenate([numbers, np.full(len(test), -1)])
    return Pool(
        records=together(*sides),
        human=of_human,
        held=of_held,
        synthetic=of_synthetic,
        test=of_test,
        sources=named,
        items=numbers,
        item_field=name,
        source_field=source_field,
        notes=notes,
    )


def together(*sides: Records) -> Records:
    """Return records as one; their first row of fields is kept, and the fields that only some have."""
    return sides[0].concat(*(side for side in sides[1:] if len(side)))


def plain_fields(records: Records) -> Records:
    """Return records with the fields of their data type only: what trainers read, and what fits together."""
    kind = records.kind
    known = (
        {name for form in kind.forms for name in form} | set(kind.optional) | {kind.label, "id", "lineage"}
    )
    kept = [name for name in records.table.column_names if name in known]
    return from_table(records.table.select(kept), records.datatype, records.path)


def _held(count: int, share: float) -> int:
    return 0 if share <= 0 else min(max(FEWEST, round(share * count)), count // 2)


def _items(
    human: Records, synthetic: Records, item: str, source_field: str
) -> tuple[tuple[list[str], list[str]] | None, str, tuple[str, ...]]:
    """Return the items of both sides where they are shared, the field that names them, and what to say."""
    if item:
        one, other = ([str(v) for v in side.column(item)] for side in (human, synthetic))
        name = item
    elif human.datatype in ("translation", "instruction"):
        one, other = ([normalised(text) for text in inputs(side)] for side in (human, synthetic))
        name = "source" if human.datatype == "translation" else "prompt"
    else:
        return None, "", ()
    shared = _shared(one, other, synthetic, source_field)
    hits = [sum(key in shared for key in side) for side in (one, other)]
    least = min(hits[0] / len(one), hits[1] / len(other))
    if item and not shared:
        raise InputError(
            f"{synthetic.path}: no {item} is one of human records and of each generator; "
            "name another field with --item"
        )
    if not item and least < ALIGNED:
        note = f"{least:.0%} of the records have their {name} on every side, so arms draw their own ones"
        return None, "", (note,)
    gone = len(one) + len(other) - sum(hits)
    note = f"all arms have the same {len(shared):,} items ({name}) in the same order"
    if gone:
        note += f"; {gone:,} records without a counterpart are left out"
    return (one, other), name, (note,)


def _shared(one: Sequence[str], other: Sequence[str], synthetic: Records, source_field: str) -> set[str]:
    """Return the items that human records and each generator have."""
    found = set(one)
    for source in sources(synthetic, source_field):
        found &= {other[at] for at in source.positions}
    return found


def _with_reference(synthetic: Records, human: Records, one: Sequence[str], other: Sequence[str]) -> Records:
    """Give synthetic texts the human text of the same item as `reference`, for calibration."""
    written = {"translation": "target", "instruction": "completion"}.get(human.datatype)
    if written is None or synthetic.has("reference"):
        return synthetic
    first: dict[str, str] = {}
    for key, text in zip(one, human.column(written)):
        first.setdefault(key, str(text))
    return synthetic.with_column("reference", [first.get(key) for key in other])


# ------------------------------------------------------------------------------------- the builder


@dataclass(frozen=True, eq=False)
class Built:
    """The records of an arm for each seed, as positions in the pool, in the order of training."""

    arm: Arm
    orders: tuple[Indices, ...]
    note: str = ""
    informative: bool | None = None
    """None for arms without an ordering"""
    figures: Mapping[str, float] = field(default_factory=dict)
    """of the ordering: its rank correlation with the oracle and what else it tells"""

    @property
    def size(self) -> int:
        """The number of records that every seed has."""
        return min(len(order) for order in self.orders)


@dataclass(eq=False)
class Builder:
    """Builds arms over one pool; an ordering that several arms use is scored once."""

    pool: Pool
    seeds: int
    seed: int = 0
    drop: float = 0.2
    """share of the records that `filtered` drops"""
    asking: Mapping[str, Any] = field(default_factory=dict)
    """settings of `curate` for parts that ask a language model or keep vectors"""
    _scores: dict[tuple[str, str, int], tuple[Floats, Any]] = field(default_factory=dict)

    def build(self, arm: Arm) -> Built:
        """Return the records of an arm for each seed."""
        rows = self._rows(arm)
        if arm.kind == "mix":
            return self._mix(arm, rows)
        bases = [self.base(rows, seed) for seed in range(self.seeds)]
        if arm.kind == "filters":
            curated = self._curate(rows, filters=arm.part.split("+"), seed=self.seed)
            kept = np.isin(rows, np.array(curated.kept.column(_PLACE)))
            note = "; ".join(step.note for step in curated.steps if step.note)
            stays = set(rows[kept].tolist())
            found = [base[[p in stays for p in base.tolist()]] for base in bases]
            return Built(
                arm, tuple(found), f"{len(curated.dropped):,} dropped" + (f"; {note}" if note else "")
            )
        if arm.kind in ("ordered", "reversed", "filtered"):
            return self._ordered(arm, rows, bases)
        count = max(1, round(arm.fraction * len(rows)))
        return Built(arm, tuple(base[:count] for base in bases))

    def base(self, rows: Indices, seed: int) -> Indices:
        """Return positions in the base order of a seed, which is the same for every arm.

        Records without shared items are shuffled. Else items are, and each item comes once before any comes
        again, so that the first n records of every arm are about the same n items.
        """
        rng = np.random.default_rng([self.seed, seed, 0xBA5E])
        ticket = rng.random(len(self.pool.records))
        shuffled = rows[np.argsort(ticket[rows], kind="stable")]
        if self.pool.items is None:
            return shuffled
        first = rng.random(int(self.pool.items.max()) + 1)
        items = self.pool.items[shuffled]
        return shuffled[np.lexsort((first[items], _occurrence(items)))]

    def _rows(self, arm: Arm) -> Indices:
        if not arm.synthetic:
            return self.pool.human
        return self.pool.sources[arm.source] if arm.source else self.pool.synthetic

    def _curate(self, rows: Indices, *, seed: int, **how: Any) -> Any:
        """Curate synthetic records against the held-out human ones; each knows its place in the pool."""
        sides = []
        for positions in (rows, self.pool.held):
            side = self.pool.records.take(positions)
            sides.append(side.with_column(_PLACE, positions.tolist()) if len(side) else None)
        return curate(sides[0], sides[1], seed=seed, **how, **self.asking)  # type: ignore[arg-type]

    def _mix(self, arm: Arm, rows: Indices) -> Built:
        given = {"field": self.pool.source_field, "item": self.pool.item_field}
        mixer = registry.make("mixtures", arm.part, **{key: value for key, value in given.items() if value})
        orders, notes = [], []
        for seed in range(self.seeds):
            curated = self._curate(self.base(rows, seed), mixture=mixer, seed=self.seed + seed)
            places = curated.kept.column(_PLACE)
            if None in places:
                raise InputError(
                    f"arm {arm.name!r}: the mixture made records of its own, which have no place here"
                )
            orders.append(np.array(places, dtype=np.int64))
            notes = [step.note for step in curated.steps]
        return Built(arm, tuple(orders), "; ".join(notes))

    def _ordered(self, arm: Arm, rows: Indices, bases: Sequence[Indices]) -> Built:
        orders = []
        order = None
        for seed, base in enumerate(bases):
            scores, order = self._scored(arm, rows, seed)
            of_base = scores[base]
            best = np.argsort(
                of_base if arm.kind == "reversed" else -of_base, kind="stable"
            )  # NaN comes last
            if arm.kind == "filtered":
                best = np.sort(best[: max(1, len(best) - round(self.drop * len(best)))])
            orders.append(base[best])
        assert order is not None, "there is at least one seed"
        return Built(arm, tuple(orders), order.note, order.informative, dict(order.figures))

    def _scored(self, arm: Arm, rows: Indices, seed: int) -> tuple[Floats, Any]:
        """Return scores by position in the pool; a random order is another one for each seed."""
        drawn = seed if registry.parse(arm.part)[0] == "random" else 0
        key = (arm.part, arm.source, drawn)
        if key not in self._scores:
            curated = self._curate(rows, order=arm.part, seed=self.seed + drawn)
            scores = np.full(len(self.pool.records), np.nan)
            values = curated.kept.column(_SCORE)
            scores[np.array(curated.kept.column(_PLACE))] = [np.nan if v is None else v for v in values]
            self._scores[key] = (scores, curated.order)
        return self._scores[key]


def _occurrence(items: Indices) -> Indices:
    """Return for each entry how many equal ones came before it."""
    order = np.argsort(items, kind="stable")
    starts = np.flatnonzero(np.diff(items[order], prepend=-1))
    run = np.zeros(len(items), np.int64)
    run[starts] = starts
    found = np.empty(len(items), np.int64)
    found[order] = np.arange(len(items)) - np.maximum.accumulate(run)
    return found
