"""Further fields of records, whole: what metrics of labels, pairs and dialogues read. Knows no metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing.base import Need
from karat.auditing.shards import OUT, Shard


@dataclass(frozen=True)
class Columns:
    """Some fields of all records of a view, in the order of the corpus.

    `columns["annotator"]` is an object array [n] of plain Python values (None where a record has none).
    groups int64 [n] are replicate groups: all records of one unit (item, prompt) are in one group.
    """

    table: pa.Table
    groups: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def _read(self) -> dict[str, NDArray[Any]]:
        return {}

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What metrics worked out of these fields, by name, so that it is worked out once."""
        return {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._read:
            values = np.empty(len(self), dtype=object)
            values[:] = self.table.column(name).to_pylist()
            self._read[name] = values
        return self._read[name]

    def has(self, name: str) -> bool:
        """Whether any record has a value in this field."""
        return name in self.table.column_names and self.table.column(name).null_count < len(self)

    def numbered(self, name: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The different values of a field as text, sorted, and the number of each record's; -1 for none."""
        values = self[name]
        known = np.array([value is not None for value in values], dtype=np.bool_)
        names, where = np.unique(np.array([str(v) for v in values[known]], dtype=object), return_inverse=True)
        codes = np.full(len(values), -1, np.int64)
        codes[known] = where
        return tuple(map(str, names)), codes

    def window(self, start: int, stop: int) -> Columns:
        """The records of a range of groups."""
        chosen = np.flatnonzero((self.groups >= start) & (self.groups < stop))
        if len(chosen) == len(self) and start == 0:
            return self
        return Columns(self.table.take(pa.array(chosen)), self.groups[chosen] - start, self.keys[chosen])


class ColumnsKind:
    """Fields of the records by name (setting fields, separated by spaces); `id` is always among them."""

    def collect(self, shard: Shard, need: Need) -> Columns:
        group = shard.groups(need)
        chosen = np.flatnonzero(group != OUT)
        rows = pa.array(chosen)
        fields = {"id": shard.names.take(rows).cast(pa.large_string())}
        for name in str(need.get("fields", "")).split():
            given = shard.columns.get(name)
            fields[name] = pa.nulls(len(chosen)) if given is None else given.take(rows)
        return Columns(pa.table(fields), group[chosen].astype(np.int64), shard.keys[chosen])

    def merge(self, one: Columns, other: Columns) -> Columns:
        return Columns(
            pa.concat_tables([one.table, other.table], promote_options="permissive"),
            np.concatenate([one.groups, other.groups]),
            np.concatenate([one.keys, other.keys]),
        )

    def stack(self, corpora: Sequence[Columns], offsets: Sequence[int], groups: int) -> StackedColumns:
        return StackedColumns(
            tuple(
                Columns(part.table, part.groups + shift, part.keys)
                for part, shift in zip(corpora, offsets, strict=True)
            )
        )


@dataclass(frozen=True)
class StackedColumns:
    """The fields of all corpora; they are put together only for a window that spans several."""

    parts: tuple[Columns, ...]

    def window(self, start: int, stop: int) -> Columns:
        """The records of a range of groups."""
        found = [part.window(start, stop) for part in self.parts]
        found = [part for part in found if len(part)] or found[:1]
        if len(found) == 1:
            return found[0]
        kind = ColumnsKind()
        total = found[0]
        for part in found[1:]:
            total = kind.merge(total, part)
        return total
