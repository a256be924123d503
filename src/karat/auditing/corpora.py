"""A corpus as the passes of an audit read it: columns that stay where they are. Knows no view and no metric.

Nothing here is a Python object a record: a corpus may be larger than memory, its table a mapped file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from karat.auditing.base import Need
from karat.auditing.result import Source
from karat.auditing.shards import FIELD
from karat.formats import release
from karat.records import Records
from karat.texts.tokens import hash_strings


@dataclass(frozen=True, eq=False)
class Strings(Sequence[Any]):
    """A column of texts that is read one by one, like a tuple of strings without the strings."""

    column: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index: Any) -> Any:
        found = self.column[index]
        return Strings(found) if isinstance(index, slice) else found.as_py()


@dataclass(frozen=True)
class Side:
    """One corpus with the columns that the passes read."""

    source: Source
    texts: pa.ChunkedArray
    ids: Strings
    labels: Strings | None
    clusters: NDArray[np.uint64]
    table: pa.Table
    """All fields, for metrics that read more than the text."""
    units: NDArray[np.uint64] | None = None
    """The hash of the item or prompt that each record is about, where several records share one."""

    @staticmethod
    def of(records: Records) -> Side:
        """The corpus of these records."""
        texts = _text(records.text_column())
        ids = _text(records.table.column("id"))
        name = records.kind.label
        named = _text(records.table.column(name)) if name is not None and records.has(name) else None
        unit = records.kind.unit
        side = Side(
            Source(records.path, len(records), records.fingerprint),
            texts,
            Strings(ids),
            None if named is None else Strings(named),
            _clusters(records, ids),
            records.table,
            None if unit is None or not records.has(unit) else hashed(_text(records.table.column(unit))),
        )
        release()
        return side

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self, needs: Iterable[Need]) -> pa.Table:
        """What workers read of each record: text, id, label, and the fields that needs name."""
        found = {"text": self.texts, "id": self.ids.column}
        if self.labels is not None:
            found["label"] = self.labels.column
        for need in needs:
            for name in str(need.get("fields", "")).split() if need.kind == "columns" else ():
                field = self.column(name)
                if field is not None:
                    found[FIELD + name] = field
        return pa.table(found)

    def column(self, name: str) -> pa.ChunkedArray | None:
        """One field of all records, None where there is none of that name; `a.b` is a field of a struct."""
        head, _, rest = name.partition(".")
        if head not in self.table.column_names:
            return None
        column = self.table.column(head)
        if rest:
            known = pa.types.is_struct(column.type) and column.type.get_field_index(rest) >= 0
            return pc.struct_field(column, rest) if known else None
        return column

    def texts_at(self, rows: NDArray[np.int64]) -> list[str]:
        """The texts of these records, whose positions ascend."""
        found: list[str] = []
        start = 0
        for chunk in self.texts.chunks:
            low, high = np.searchsorted(rows, [start, start + len(chunk)])
            found += chunk.take(pa.array(rows[low:high] - start)).fill_null("").to_pylist()
            start += len(chunk)
        release()
        return found

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The different labels of the corpus."""
        return () if self.labels is None else tuple(pc.unique(self.labels.column).to_pylist())

    def label_hashes(self) -> NDArray[np.uint64] | None:
        """uint64 [n]: the hash of the label of each record; None where there are none."""
        return None if self.labels is None else hashed(self.labels.column)


def hashed(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """uint64 [n]: the hash of each text of a column."""
    found = [np.zeros(0, np.uint64)]
    for chunk in column.chunks:
        found.append(hash_strings(chunk))
        release()
    return np.concatenate(found)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text; anything but text as Python writes it."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    chunks = [
        pa.array([None if one is None else str(one) for one in chunk.to_pylist()], pa.large_string())
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, pa.large_string())


def _clusters(records: Records, ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    """The record itself, or the first record that it was made from: rows of one cluster belong together."""
    parents = pc.struct_field(records.table.column("lineage"), "parents")
    if parents.null_count == len(parents):
        return hashed(ids)
    names = [
        row["parents"][0] if row["parents"] else row["id"]
        for batch in pa.table({"id": ids, "parents": parents}).to_batches(max_chunksize=65_536)
        for row in batch.to_pylist()
    ]
    return hash_strings(pa.array(names, pa.large_string()))
