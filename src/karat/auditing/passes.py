"""The two passes of an audit: each corpus is read shard by shard and put side by side. Knows no metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from karat.auditing import selection as selecting
from karat.auditing import summaries
from karat.auditing.base import Fitted, Jury, Need, Progress
from karat.auditing.result import Source, Warned
from karat.auditing.selection import Selection, Surveyed
from karat.auditing.shards import OUT, Shard, view_key
from karat.auditing.tokens import hash_strings
from karat.executors.base import Executor, tree_reduce
from karat.records import Records

MAX_LABELS = 1000
"""Beyond this a field is no class label, and sums a label would outgrow the corpus."""
_SHARD_RECORDS = 10_000
_SHARD_BYTES = 8 << 20


@dataclass(frozen=True)
class Settings:
    """How an audit is carried out, as the passes and the scores need to know it."""

    mode: str
    seed: int
    budget: str
    trials: int
    fit_on: int
    encoder: str
    executor: Executor
    progress: Progress
    cache: Path | None = None
    """Where vectors of encoders with weights of their own are kept."""
    judge: Jury | None = None
    """Who answers questions about records."""

    @property
    def matched(self) -> bool:
        return self.mode == "proper"


@dataclass(frozen=True)
class Side:
    """One corpus with the columns that the passes read, each read from the table once."""

    source: Source
    texts: pa.Array
    ids: tuple[str, ...]
    labels: tuple[str | None, ...] | None
    clusters: NDArray[np.uint64]
    table: pa.Table
    """All fields, for metrics that read more than the text."""
    units: NDArray[np.uint64] | None = None
    """The hash of the item or prompt that each record is about, where several records share one."""

    @staticmethod
    def of(records: Records) -> Side:
        labels = records.labels()
        source = Source(records.path, len(records), records.fingerprint)
        texts = records.text_array()
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        named = None if labels is None else tuple(None if one is None else str(one) for one in labels)
        return Side(
            source,
            texts.cast(pa.large_string()),
            tuple(records.ids),
            named,
            _clusters(records),
            records.table,
            _units(records),
        )

    def column(self, name: str) -> pa.Array | None:
        """One field of all records, None where there is none of that name; `a.b` is a field of a struct."""
        head, _, rest = name.partition(".")
        if head not in self.table.column_names:
            return None
        column = self.table.column(head).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        if rest:
            known = pa.types.is_struct(column.type) and column.type.get_field_index(rest) >= 0
            return pc.struct_field(column, rest) if known else None
        return column


@dataclass(frozen=True)
class Passed:
    """What both passes over all corpora gave."""

    sides: tuple[Side, ...]
    surveys: tuple[Surveyed, ...]
    selections: tuple[Selection, ...]
    stacked: dict[Need, summaries.Stacked]
    groups: dict[str, int]  # view -> G, the replicate groups of one side
    encoders: dict[str, Fitted]
    warnings: tuple[Warned, ...]

    @property
    def copied(self) -> float:
        """The share of candidate records that stand in the reference too."""
        if len(self.selections) < 2:
            return 0.0
        return float(np.isin(self.selections[0].keys, self.selections[1].keys).mean())

    @property
    def linked(self) -> bool:
        """Whether both corpora are about the same items or prompts, at least half of the candidate's."""
        units = [one.units for one in self.selections]
        if len(units) < 2 or units[0] is None or units[1] is None:
            return False
        return bool(np.isin(units[0], units[1]).mean() >= 0.5)

    @property
    def banded(self) -> bool:
        """Whether records of equal lengths could be found on both sides."""
        return self.selections[0].banded is not None

    @property
    def same(self) -> bool:
        """Whether both corpora hold the same texts."""
        keys = [np.sort(one.keys) for one in self.selections]
        return len(keys) > 1 and np.array_equal(keys[0], keys[1])


def run(
    sides: Sequence[Side],
    needs: tuple[Need, ...],
    settings: Settings,
    encoders: dict[str, Fitted] | None = None,
) -> Passed:
    """Survey and select, then collect and stack what is needed; candidate first, then the reference.

    Encoders that are fitted already are used as they are.
    """
    surveys = tuple(_survey(side, needs, settings) for side in sides)
    warnings, sides = _without_wild_labels(sides)
    keys = [
        selecting.record_keys(surveyed.content, seed=settings.seed, tie=_label_hashes(side))
        for side, surveyed in zip(sides, surveys)
    ]
    views = tuple(dict.fromkeys(["all", *map(view_key, needs)]))
    other = surveys[1] if len(surveys) > 1 else None
    units = [side.units for side in sides]
    shared = None if any(one is None for one in units) else [one for one in units if one is not None]
    selections = selecting.select(surveys[0], other, keys=keys, views=views, units=shared)
    groups = {view: selecting.replicate_groups(selections, view) for view in views}
    encoders = _encoders(needs, sides, selections, settings) if encoders is None else encoders
    collected = [
        _collect(side, surveyed, selection, needs, groups, encoders, settings)
        for side, surveyed, selection in zip(sides, surveys, selections)
    ]
    stacked = _stack(needs, collected, groups)
    warnings += _thin_views(selections, views, [len(side.ids) for side in sides])
    return Passed(tuple(sides), surveys, selections, stacked, groups, encoders, warnings)


def _slices(texts: pa.Array) -> Iterator[tuple[int, int]]:
    """Runs of records small enough for one worker: (start, stop)."""
    size = pc.binary_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
    running = np.concatenate([[0], np.cumsum(size, dtype=np.int64)])
    start = 0
    while start < len(size):
        stop = int(np.searchsorted(running, running[start] + _SHARD_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), start + _SHARD_RECORDS, len(size))
        yield start, stop
        start = stop


def _survey(side: Side, needs: Sequence[Need], settings: Settings) -> Surveyed:
    tokenisers = {str(need.get("tokens", "word")) for need in needs if need.view == "tokens"}
    function = partial(selecting.survey, tokenisers=tuple(sorted(tokenisers | {"word"})))
    runs = list(_slices(side.texts))
    parts = []
    for part in settings.executor.map(function, (side.texts.slice(a, b - a) for a, b in runs)):
        parts.append(part)
        settings.progress("reading", len(parts), len(runs))
    return selecting.joined(parts)


def _collect(
    side: Side,
    surveyed: Surveyed,
    selection: Selection,
    needs: tuple[Need, ...],
    groups: dict[str, int],
    encoders: dict[str, Fitted],
    settings: Settings,
) -> tuple[Any, ...]:
    """The second pass over one corpus: partial summaries of each shard, merged as they come."""
    used = tuple(dict.fromkeys(map(view_key, needs)))
    members = {view: selection.members(view, groups[view]) for view in used}
    cuts = {view: selection.cuts(view) for view in used}
    runs = list(_slices(side.texts))
    asked = {name for need in needs if need.kind == "columns" for name in str(need.get("fields")).split()}
    columns = {name: found for name in sorted(asked) if (found := side.column(name)) is not None}

    def shards() -> Iterator[Shard]:
        for start, stop in runs:
            inside = np.zeros(stop - start, np.bool_)
            for member in members.values():
                inside |= member[start:stop] != OUT
            rows = np.flatnonzero(inside) + start
            place = {int(row): i for i, row in enumerate(rows)} if any(cuts.values()) else {}
            yield Shard(
                texts=side.texts.take(pa.array(rows)),
                ids=tuple(side.ids[i] for i in rows),
                labels=None if side.labels is None else tuple(side.labels[i] for i in rows),
                keys=selection.keys[rows],
                content=surveyed.content[rows],
                clusters=side.clusters[rows],
                places=rows,
                members={view: member[rows] for view, member in members.items()},
                sides=groups,
                cuts={
                    view: {place[p]: n for p, n in cut.items() if p in place} for view, cut in cuts.items()
                },
                encoders=encoders,
                columns={name: column.take(pa.array(rows)) for name, column in columns.items()},
            )

    def partials() -> Iterator[tuple[Any, ...]]:
        function = partial(summaries.collect, needs=needs)
        for done, found in enumerate(settings.executor.map(function, shards()), start=1):
            settings.progress("counting", done, len(runs))
            yield found

    merged: tuple[Any, ...] = tree_reduce(partials(), partial(summaries.merge, needs=needs))
    return merged


def _stack(
    needs: tuple[Need, ...], collected: list[tuple[Any, ...]], groups: dict[str, int]
) -> dict[Need, summaries.Stacked]:
    """All corpora side by side, one need after the other: what was collected is freed as it is used."""
    columns = [list(one) for one in collected]
    collected.clear()
    stacked: dict[Need, summaries.Stacked] = {}
    for i, need in enumerate(needs):
        parts = [column[i] for column in columns]
        for column in columns:
            column[i] = None
        side = groups[view_key(need)]
        stacked[need] = summaries.KINDS[need.kind].stack(parts, [0, side][: len(parts)], 3 * side)
    return stacked


def _encoders(
    needs: Sequence[Need], sides: Sequence[Side], selections: Sequence[Selection], settings: Settings
) -> dict[str, Fitted]:
    """Every encoder that a need names, fitted on equally many texts of each corpus, the first by hash.

    An encoder that is fitted on one side spreads the texts of that side and squeezes the other's:
    random halves of one corpus would differ in every mean cosine (LOG.md).
    """
    specs = {str(need.get("encoder")) for need in needs if need.kind in ("embeddings", "vectors", "moments")}
    if not specs:
        return {}
    from karat.auditing.encoders.base import cached, make

    size = min(settings.fit_on // len(sides), *(len(side.ids) for side in sides))
    texts: list[str] = []
    for side, selection in zip(sides, selections):
        rows = np.sort(selection.order[:size])
        texts += [text or "" for text in side.texts.take(pa.array(rows)).to_pylist()]
    fitted = {spec: make(spec).fit(texts, seed=settings.seed) for spec in sorted(specs)}
    # lsa is another encoder for each corpus, and quicker than a disk; what has weights of its own is kept
    return {
        spec: one if spec.startswith("lsa") else cached(one, settings.cache) for spec, one in fitted.items()
    }


def _without_wild_labels(sides: Sequence[Side]) -> tuple[tuple[Warned, ...], Sequence[Side]]:
    """Labels of which there are too many are no class labels; they are left aside, and said so."""
    names = {label for side in sides for label in side.labels or ()}
    if len(names) <= MAX_LABELS:
        return (), sides
    message = (
        f"the label field has {len(names):,} different values; labels are left aside above {MAX_LABELS:,}"
    )
    return (Warned("labels_ignored", message),), [replace(side, labels=None) for side in sides]


def _thin_views(
    selections: Sequence[Selection], views: Sequence[str], sizes: Sequence[int]
) -> tuple[Warned, ...]:
    """Corpora that are large enough, of which equal tokens or bytes leave only a few records on one side."""
    found = []
    for view in views:
        parts = [len(one.views[view][0]) for one in selections]
        if view.partition(":")[0] in ("tokens", "bytes") and min(parts) < 2 * selecting.GROUPS <= min(sizes):
            side = ("candidate", "reference")[int(np.argmin(parts))]
            unit = view.partition(":")[0]
            message = (
                f"at equal {unit} only {min(parts)} {side} records are compared; their intervals are rough"
            )
            found.append(Warned("too_few_records", message))
    return tuple(found)


def _label_hashes(side: Side) -> NDArray[np.uint64] | None:
    return None if side.labels is None else hash_strings(pa.array(side.labels, pa.large_string()))


def _units(records: Records) -> NDArray[np.uint64] | None:
    """The hash of the field that names what a record is about, where the data type has one."""
    name = records.kind.unit
    if name is None or not records.has(name):
        return None
    return hash_strings(records.table.column(name).cast(pa.large_string()).combine_chunks())


def _clusters(records: Records) -> NDArray[np.uint64]:
    """The record itself, or the first record that it was made from: rows of one cluster belong together."""
    parents = records.lineage("parents")
    names = [parent[0] if parent else own for parent, own in zip(parents, records.ids)]
    return hash_strings(pa.array(names, pa.large_string()))
