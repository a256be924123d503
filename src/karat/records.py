"""Records: an immutable Arrow table with a data type and a lineage column. Knows files, not methods.

A record is a row with the fields of its data type, an `id`, and the struct `lineage` that says where
it came from. Everything else that a file holds is kept as it is. Nothing here is ever changed in
place: each verb gives new Records that share memory with the old ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa

from karat import registry
from karat.errors import BadSetting, InputError, did_you_mean
from karat.formats import FORMATS, gathered, read_rows, write_table

LINEAGE = pa.struct(
    [
        ("source", pa.string()),  # human or synthetic
        ("generator", pa.string()),
        ("recipe", pa.string()),
        ("attributes", pa.string()),  # a JSON object: attribute -> value
        ("seed", pa.int64()),
        ("prompt_sha256", pa.string()),
        ("iteration", pa.int64()),  # of a self-consuming loop; 0 is human
        ("parents", pa.list_(pa.string())),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
        ("cost_usd", pa.float64()),
        ("logprob", pa.float64()),  # mean over the tokens of the record, natural logarithm
        ("generator_saw", pa.list_(pa.string())),  # fingerprints of human data the generator was given
    ]
)

MEMORY = 256 << 20
"""Bytes of a table that are kept in memory; more is kept in a mapped file."""
_UNKNOWN: dict[str, Any] = {}

# In the order in which a file without a declared type is matched: the most demanding first.
GUESS = ("dialogue", "annotation", "preference", "translation", "instruction", "classification", "text")


class DataType(Protocol):
    """What records asks of a data type: which fields make one, and what text and label they hold."""

    forms: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...]
    label: str | None
    wide: tuple[tuple[str, ...], ...]
    """Further forms, of rows that hold several records each; `explode` takes them apart."""
    unit: str | None
    """The field that names what several records are about (item, prompt); None where each stands alone."""

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records of one row; those after the first need an id of their own."""

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with the field names of the first form."""

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the one text of a row that text metrics read."""


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
        column = self.table.column("lineage").combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], LINEAGE)
        return cast("list[Any]", column.field(name).to_pylist())

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the content: data type, required fields and order, but not ids."""
        digest = hashlib.sha256(self.datatype.encode())
        known = {name for form in self.kind.forms for name in form} | set(self.kind.optional)
        for name in sorted(known & set(self.table.column_names)):
            digest.update(b"\x00" + name.encode() + b"\x00")
            for value in self.table.column(name).to_pylist():
                data = (
                    value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
                )
                encoded = data.encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little"))
                digest.update(encoded)
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
        except pa.ArrowInvalid:  # an extra field of the same name holds something else: keep the known fields
            shared = set(tables[0].column_names).intersection(*(t.column_names for t in tables[1:]))
            same = [
                n
                for n in tables[0].column_names
                if n in shared and len({t.schema.field(n).type for t in tables}) == 1
            ]
            table = pa.concat_tables([t.select(same) for t in tables])
        return self._with(table)

    def with_column(self, name: str, values: Sequence[Any] | pa.Array) -> Records:
        """Return the records with one field added or replaced."""
        array = values if isinstance(values, pa.Array) else _array(list(values))
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
) -> Records:
    """Read records from .jsonl, .jsonl.gz, .csv, .parquet, `-` (standard input) or `hf:NAME[:SPLIT]`.

    where: conditions `FIELD=VALUE`; a row must meet all of them (`FIELD!=VALUE` excludes).
    datatype: the data type by name; guessed from the fields when not given.
    fields: new name -> name in the file; `title+description` joins two fields with a space.
    Raises InputError that names the file, the row and the cure.
    """
    parts = list(batches(path, where=where, datatype=datatype, fields=fields, size=50_000))
    name = str(path)
    if not parts:
        condition = f" where {' and '.join(where)}" if where else ""
        cure = "check the condition" if where else "it is empty"
        raise InputError(f"{name}: no records{condition}; {cure}")
    first = parts[0]
    return first.concat(*parts[1:]) if len(parts) > 1 else first


def batches(
    path: str | os.PathLike[str],
    *,
    where: Sequence[str] = (),
    datatype: str | None = None,
    fields: Mapping[str, str] | None = None,
    size: int = 50_000,
) -> Iterator[Records]:
    """Read records in batches of `size`, for files larger than memory. Arguments as for `read`."""
    name = str(path)
    tests = [_condition(text) for text in where]
    pending: list[dict[str, Any]] = []
    seen_fields: set[str] = set()
    origin = "-" if name == "-" else Path(name).name if not name.startswith("hf:") else name
    ids: set[str] = set()
    any_row = any_match = False
    kind: DataType | None = None
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
            if not all((_plain(row.get(key)) == value) is equal for key, equal, value in tests):
                continue
        any_match = True
        row = _rename(row, fields or {}, f"{name}:{line}")
        datatype = datatype or guess(row, f"{name}:{line}")
        kind = kind or cast(DataType, registry.make("datatypes", datatype))
        place = f"{name}:{line}"
        pending += _taken_apart(row, kind, place, f"{origin}:{line}", ids)
        if len(pending) >= size:
            yield _table(pending, datatype, name)
            pending = []
    if pending:
        assert datatype is not None
        yield _table(pending, datatype, name)
    elif not any_row:
        raise InputError(f"{name}: no records; the file is empty")
    elif tests and not any_match:
        raise InputError(f"{name}: no record where {' and '.join(where)}; check the names and values")


def from_rows(
    rows: Iterable[Mapping[str, Any]], *, datatype: str | None = None, path: str = "<memory>"
) -> Records:
    """Make records from dictionaries; the same checks as for a file, InputError when there are none."""
    found: list[dict[str, Any]] = []
    ids: set[str] = set()
    kind: DataType | None = None
    for number, row in enumerate(rows, 1):
        datatype = datatype or guess(row, f"{path}:{number}")
        kind = kind or cast(DataType, registry.make("datatypes", datatype))
        place = f"{path}:{number}"
        found += _taken_apart(dict(row), kind, place, place, ids)
    if not found or datatype is None:
        raise InputError(f"{path}: no records; give at least one row")
    return _table(found, datatype, path)


def from_table(table: pa.Table, datatype: str, path: str = "<memory>") -> Records:
    """Make records from an Arrow table that already has `id` and `lineage`."""
    return Records(table, datatype, path)


def guess(row: Mapping[str, Any], where: str) -> str:
    """Return the data type whose required fields the row has. Raises InputError naming the fields found."""
    for name in GUESS:
        kind = registry.make("datatypes", name)
        if any(all(row.get(f) is not None for f in form) for form in (*kind.forms, *kind.wide)):
            # a type whose field names do not tell enough may look at what the fields hold
            if getattr(kind, "fits", None) is None or kind.fits(row):
                return name
    present = [key for key in row if key not in ("id", "lineage")]
    text = next((key for key in present if isinstance(row[key], str) and key != "label"), None)
    cure = f"name it with --text-field {text}" if text else "name it with --text-field FIELD"
    raise InputError(f"{where}: no field 'text' (found: {', '.join(present) or 'none'}); {cure}")


def _condition(text: str) -> tuple[str, bool, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip("! "):
        raise BadSetting(f"the condition {text!r} must be written FIELD=VALUE or FIELD!=VALUE")
    return key.rstrip("!").strip(), not key.endswith("!"), value


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(value)


def _rename(row: dict[str, Any], fields: Mapping[str, str], where: str) -> dict[str, Any]:
    for new, old in fields.items():
        pieces = old.split("+") if old not in row else [old]
        for piece in pieces:
            if piece not in row:
                raise InputError(
                    f"{where}: no field {piece!r}{did_you_mean(piece, row)} (found: {', '.join(row)})"
                )
        row = {**row, new: row[pieces[0]] if len(pieces) == 1 else " ".join(_plain(row[p]) for p in pieces)}
    return row


def _taken_apart(
    row: dict[str, Any], kind: DataType, where: str, fallback: str, ids: set[str]
) -> list[dict[str, Any]]:
    """Return the records of one row, checked; what a data type complains of is told with its place."""
    try:
        return [
            _checked(one, kind, where, f"{fallback}/{i}" if i else fallback, ids)
            for i, one in enumerate(kind.explode(row))
        ]
    except InputError as error:
        raise error if str(error).startswith(where) else InputError(f"{where}: {error}") from None


def _checked(row: dict[str, Any], kind: DataType, where: str, fallback: str, ids: set[str]) -> dict[str, Any]:
    """Return the row with its fields checked, an id and a lineage; raise InputError naming the place."""
    row = kind.normalise(row)
    form = next((f for f in kind.forms if all(row.get(name) is not None for name in f)), None)
    if form is None:
        missing = next(name for name in kind.forms[0] if row.get(name) is None)
        found = [key for key in row if key not in ("id", "lineage") and row[key] is not None]
        raise InputError(
            f"{where}: no field {missing!r} (found: {', '.join(found) or 'none'}); "
            f"name it with --{missing.replace('_', '-')}-field {found[0] if found else 'FIELD'}"
        )
    for name in form:
        row[name] = _as_field(name, row[name], where)
    if kind.label and row.get(kind.label) is not None:
        row[kind.label] = _as_field(kind.label, row[kind.label], where)
    identity = _plain(row.get("id")) or fallback
    while identity in ids:  # a file may repeat its ids, but a warning must name one record
        identity += "'"
    ids.add(identity)
    return {**row, "id": identity, "lineage": _lineage(row.get("lineage"), where)}


def _as_field(name: str, value: Any, where: str) -> Any:
    if name == "messages":
        if not (
            isinstance(value, list)
            and all(isinstance(m, dict) and {"role", "content"} <= set(m) for m in value)
        ):
            raise InputError(f"{where}: field 'messages' must be a list of objects with 'role' and 'content'")
        return [
            {"role": str(m["role"]), "content": "" if m["content"] is None else str(m["content"])}
            for m in value
        ]
    if isinstance(value, dict | list) and name != "label":
        kind = "an object" if isinstance(value, dict) else "a list"
        raise InputError(
            f"{where}: field {name!r} is {kind}, but must be text; convert it or choose another field"
        )
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return _plain(value)


def _lineage(given: Any, where: str) -> dict[str, Any] | None:
    """Return the lineage struct of a row; CSV holds it as JSON text. None stands for: nothing is known."""
    if isinstance(given, str) and given.startswith("{"):
        try:
            given = json.loads(given)
        except json.JSONDecodeError:
            given = None
    if not isinstance(given, dict) or not given:
        return None
    try:
        return {f.name: _lineage_value(given.get(f.name), f) for f in LINEAGE}
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: field 'lineage' cannot be read ({error}); mend or remove it") from None


def _lineage_value(value: Any, part: Any) -> Any:
    if value is None:
        return None
    if pa.types.is_list(part.type):
        return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]
    if pa.types.is_integer(part.type):
        return int(value)
    if pa.types.is_floating(part.type):
        return float(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _table(rows: list[dict[str, Any]], datatype: str, path: str) -> Records:
    names: dict[str, None] = {"id": None}
    for row in rows:
        names.update(dict.fromkeys(row))
    columns = {name: _array([row.get(name) for row in rows], name) for name in names}
    ordered = [name for name in names if name != "lineage"] + ["lineage"]
    return Records(pa.table({name: columns[name] for name in ordered}), datatype, path)


def _array(values: list[Any], name: str = "") -> pa.Array:
    """Return an Arrow array; what fits no single type is kept as JSON text."""
    if name == "lineage":
        # a null struct would make each lookup a special case: its fields are null instead
        return pa.array([_UNKNOWN if value is None else value for value in values], LINEAGE)
    try:
        array = pa.array(values)
        return array.cast(pa.string()) if pa.types.is_null(array.type) else array
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        if all(v is None or isinstance(v, str) for v in values):  # lone surrogates are not UTF-8
            return pa.array(
                [v if v is None else v.encode("utf-8", "replace").decode() for v in values], pa.string()
            )
        return pa.array(
            [None if v is None else v if isinstance(v, str) else json.dumps(v, default=str) for v in values],
            pa.string(),
        )


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
