"""Records: an immutable Arrow table with a data type and a lineage column. Knows files, not methods.

A record is a row with the fields of its data type, an `id`, and the struct `lineage` that says where
it came from. Everything else that a file holds is kept as it is. Nothing here is ever changed in
place: each verb gives new Records that share memory with the old ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from karat import registry
from karat.errors import BadSetting, InputError, did_you_mean
from karat.formats import FORMATS, gathered, read_rows, release, write_table
from karat.rows import LINEAGE, Batch, DataType, column_of, condition, joined, plain, rename

MEMORY = 256 << 20
"""Bytes of a table that are kept in memory; more is kept in a mapped file."""
_BATCH = 16 << 20  # bytes of rows that are read before they become a table
# In the order in which a file without a declared type is matched: the most demanding first.
GUESS = ("dialogue", "annotation", "preference", "translation", "instruction", "classification", "text")


@dataclass(frozen=True, eq=False)
class Records:
    """An immutable table of records of one data type."""

    table: pa.Table = field(repr=False)
    datatype: str
    path: str = "<memory>"

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(max_chunksize=4096):
            yield from batch.to_pylist()

    def __repr__(self) -> str:
        return f"Records({len(self):,} {self.datatype} from {self.path})"

    @cached_property
    def ids(self) -> list[str]:
        """The ids, in the order of the records."""
        return cast("list[str]", self.table.column("id").to_pylist())

    @property
    def kind(self) -> DataType:
        """The data type as an object."""
        return cast(DataType, registry.make("datatypes", self.datatype))

    @cached_property
    def _texts(self) -> list[str]:
        if self.datatype in ("text", "classification", "annotation"):
            return cast("list[str]", self.table.column("text").to_pylist())
        kind = self.kind
        return [kind.text(row) for row in self]

    def texts(self) -> list[str]:
        """Return the text of each record as its data type sees it."""
        return self._texts

    def text_column(self) -> pa.ChunkedArray:
        """Return the texts as a column of Arrow strings; where it is one of the table, as it lies there."""
        if self.datatype in ("text", "classification", "annotation"):
            return self.table.column("text")
        kind = self.kind
        chunks = (
            pa.table({"text": pa.array(map(kind.text, batch.to_pylist()), pa.large_string())})
            for batch in self.table.to_batches(max_chunksize=4096)
        )
        found = gathered(chunks, memory=MEMORY)
        return pa.concat_tables(found).column("text") if found else pa.chunked_array([], pa.large_string())

    def text_array(self) -> pa.Array:
        """Return the texts as one Arrow array of large strings."""
        if self.datatype in ("text", "classification", "annotation"):
            column = self.table.column("text").cast(pa.large_string())
            return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        return pa.array(self._texts, pa.large_string())

    def labels(self) -> list[str] | None:
        """Return the label of each record, or None where the data type or the file has none."""
        name = self.kind.label
        if name is None or not self.has(name):
            return None
        return cast("list[str]", self.table.column(name).to_pylist())

    def has(self, name: str) -> bool:
        """Tell whether the records have a field of that name."""
        return name in self.table.column_names

    def column(self, name: str) -> list[Any]:
        """Return one field of all records. Raises InputError naming the fields there are."""
        if not self.has(name):
            raise InputError(
                f"{self.path}: no field {name!r}{did_you_mean(name, self.table.column_names)} "
                f"(found: {', '.join(self.table.column_names)})"
            )
        return cast("list[Any]", self.table.column(name).to_pylist())

    def lineage(self, name: str) -> list[Any]:
        """Return one field of the lineage of all records."""
        column = self.table.column("lineage")
        place = column.type.get_field_index(name)
        assert place >= 0, f"the lineage has no field {name!r}"
        return [value for chunk in column.chunks for value in chunk.flatten()[place].to_pylist()]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the content: data type, required fields and order, but not ids."""
        digest = hashlib.sha256(self.datatype.encode())
        known = {name for form in self.kind.forms for name in form} | set(self.kind.optional)
        for name in sorted(known & set(self.table.column_names)):
            digest.update(b"\x00" + name.encode() + b"\x00")
            for batch in self.table.select([name]).to_batches(max_chunksize=50_000):
                digest.update(b"".join(_signed(batch.column(0).to_pylist())))
                release()
        return digest.hexdigest()[:16]

    def take(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Records:
        """Return the records at these positions, in this order."""
        return self._with(self.table.take(pa.array(np.asarray(indices, dtype=np.int64))))

    def slice(self, start: int, length: int) -> Records:
        """Return `length` records from position `start`; shares memory."""
        return self._with(self.table.slice(start, length))

    def where(self, mask: Sequence[bool] | np.ndarray[Any, Any]) -> Records:
        """Return the records whose entry in the mask is true."""
        return self._with(self.table.filter(pa.array(np.asarray(mask, dtype=bool))))

    def sample(self, n: int, *, seed: int = 0) -> Records:
        """Return n records drawn without replacement, in their old order; all of them if n is larger."""
        if n >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False)))

    def concat(self, *others: Records) -> Records:
        """Return these records and then the others; fields that one side lacks are null."""
        for other in others:
            if other.datatype != self.datatype:
                raise InputError(
                    f"{other.path} holds {other.datatype} records, {self.path} {self.datatype}; "
                    "convert one of them before they are put together"
                )
        tables = [self.table, *(other.table for other in others)]
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except (
            pa.ArrowInvalid,
            pa.ArrowTypeError,
        ):  # a field of the same name holds something else: such fields go, all others stay
            names = [n for n in tables[0].column_names if _joins(n, tables)]
            names += [n for t in tables[1:] for n in t.column_names if n not in names and _joins(n, tables)]
            kept = [t.select([n for n in dict.fromkeys(names) if n in t.column_names]) for t in tables]
            table = pa.concat_tables(kept, promote_options="permissive")
        return self._with(table)

    def with_column(self, name: str, values: Sequence[Any] | pa.Array) -> Records:
        """Return the records with one field added or replaced."""
        array = values if isinstance(values, pa.Array) else column_of(list(values))
        if name in self.table.column_names:
            return self._with(self.table.set_column(self.table.column_names.index(name), name, array))
        return self._with(self.table.append_column(name, array))

    def with_lineage(self, **values: Any) -> Records:
        """Return the records with lineage fields set; a list has an entry a record, anything else is for all.

        `parents` and `generator_saw` hold lists: one list is for all records, a list of lists has one each.
        """
        names = [f.name for f in LINEAGE]
        columns = {name: self.lineage(name) for name in names}
        for name, value in values.items():
            if name not in columns:
                raise BadSetting(f"lineage has no field {name!r}{did_you_mean(name, names)}")
            each = isinstance(value, list | tuple)
            if name in ("parents", "generator_saw"):
                each = each and len(value) > 0 and not isinstance(value[0], str)
                value = list(value) if isinstance(value, tuple) and not each else value
            columns[name] = list(value) if each else [value] * len(self)
        arrays = [pa.array(columns[f.name], f.type) for f in LINEAGE]
        struct = pa.StructArray.from_arrays(arrays, fields=list(LINEAGE))
        return self._with(self.table.set_column(self.table.column_names.index("lineage"), "lineage", struct))

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the records to .jsonl, .jsonl.gz, .csv or .parquet; the file appears whole or not at all."""
        return write_table(self.table, Path(path))

    def _with(self, table: pa.Table) -> Records:
        return Records(table, self.datatype, self.path)


def read(
    path: str | os.PathLike[str],
    *,
    where: Sequence[str] = (),
    datatype: str | None = None,
    fields: Mapping[str, str] | None = None,
    scratch: Path | None = None,
) -> Records:
    """Read records from .jsonl, .jsonl.gz, .csv, .parquet, `-` (standard input) or `hf:NAME[:SPLIT]`.

    where: conditions `FIELD=VALUE`; a row must meet all of them (`FIELD!=VALUE` excludes).
    datatype: the data type by name; guessed from the fields when not given.
    fields: new name -> name in the file; `title+description` joins two fields with a space.
    scratch: folder for a table larger than MEMORY, which is mapped and not held; the system's when not given.
    Raises InputError that names the file, the row and the cure.
    """
    name = str(path)
    found = batches(path, where=where, datatype=datatype, fields=fields)
    first = next(found, None)
    if first is None:
        condition = f" where {' and '.join(where)}" if where else ""
        cure = "check the condition" if where else "it is empty"
        raise InputError(f"{name}: no records{condition}; {cure}")
    tables = gathered(chain([first.table], (part.table for part in found)), memory=MEMORY, folder=scratch)
    return Records(joined(tables), first.datatype, name)


def batches(
    path: str | os.PathLike[str],
    *,
    where: Sequence[str] = (),
    datatype: str | None = None,
    fields: Mapping[str, str] | None = None,
    size: int = 50_000,
) -> Iterator[Records]:
    """Read records in batches of at most `size`, for files larger than memory. Arguments as for `read`."""
    name = str(path)
    tests = [condition(text) for text in where]
    seen_fields: set[str] = set()
    origin = "-" if name == "-" else Path(name).name if not name.startswith("hf:") else name
    any_row = any_match = False
    batch: Batch | None = None
    try:
        for line, row in read_rows(name):
            any_row = True
            if tests:
                for key, _, _ in tests:
                    if key not in row and not seen_fields:
                        raise InputError(
                            f"{name}:{line}: no field {key!r} to pick rows by{did_you_mean(key, row)} "
                            f"(found: {', '.join(row)})"
                        )
                seen_fields.update(row)
                if not all((plain(row.get(key)) == value) is equal for key, equal, value in tests):
                    continue
            any_match = True
            row = rename(row, fields or {}, f"{name}:{line}") if fields else row
            if batch is None:
                datatype = datatype or guess(row, f"{name}:{line}")
                batch = Batch.of(datatype, registry.make("datatypes", datatype), name, origin)
            batch.add(line, row)
            if len(batch) >= size or batch.weight > _BATCH:
                yield Records(batch.table(), str(datatype), name)
    except InputError:
        if batch is not None and len(batch):
            batch.table()  # a row before this one may be wrong too, and comes first
        raise
    if batch is not None and len(batch):
        yield Records(batch.table(), str(datatype), name)
    elif not any_row:
        raise InputError(f"{name}: no records; the file is empty")
    elif tests and not any_match:
        raise InputError(f"{name}: no record where {' and '.join(where)}; check the names and values")


def _joins(name: str, tables: Sequence[pa.Table]) -> bool:
    """Whether a field can be joined over the tables that have it."""
    parts = [t.select([name]).slice(0, 0) for t in tables if name in t.column_names]
    try:
        pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def from_rows(
    rows: Iterable[Mapping[str, Any]], *, datatype: str | None = None, path: str = "<memory>"
) -> Records:
    """Make records from dictionaries; the same checks as for a file, InputError when there are none."""
    batch: Batch | None = None
    for number, row in enumerate(rows, 1):
        if batch is None:
            datatype = datatype or guess(row, f"{path}:{number}")
            batch = Batch.of(datatype, registry.make("datatypes", datatype), path, path)
        batch.add(number, dict(row))
    if batch is None or not len(batch):
        raise InputError(f"{path}: no records; give at least one row")
    return Records(batch.table(), str(datatype), path)


def from_table(table: pa.Table, datatype: str, path: str = "<memory>") -> Records:
    """Make records from an Arrow table that already has `id` and `lineage`."""
    return Records(table, datatype, path)


def guess(row: Mapping[str, Any], where: str) -> str:
    """Return the data type whose required fields the row has. Raises InputError naming the fields found."""
    for name in GUESS:
        kind = registry.make("datatypes", name)
        held = any(all(row.get(f) is not None for f in form) for form in (*kind.forms, *kind.wide))
        # a type whose field names do not tell enough may look at what the fields hold
        if held and (getattr(kind, "fits", None) is None or kind.fits(row)):
            return name
    for name in GUESS:  # one field is missing: the error to come names it
        kind = registry.make("datatypes", name)
        lacks = [sum(row.get(f) is None for f in form) for form in (*kind.forms, *kind.wide) if len(form) > 2]
        if 1 in lacks:
            return name
    present = [key for key in row if key not in ("id", "lineage")]
    text = next((key for key in present if isinstance(row[key], str) and key != "label"), None)
    cure = f"name it with --text-field {shlex.quote(text)}" if text else "name it with --text-field FIELD"
    raise InputError(f"{where}: no field 'text' (found: {', '.join(present) or 'none'}); {cure}")


def _signed(values: list[Any]) -> Iterator[bytes]:
    """For each value its number of bytes (eight of them, the low ones first), and its bytes."""
    for value in values:
        data = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
        encoded = data.encode("utf-8", "surrogatepass")
        yield len(encoded).to_bytes(8, "little")
        yield encoded


__all__ = [
    "FORMATS",
    "GUESS",
    "LINEAGE",
    "DataType",
    "Records",
    "batches",
    "from_rows",
    "from_table",
    "guess",
    "read",
]
