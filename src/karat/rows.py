"""Rows of a file into columns of records: what is checked, named and renamed. Knows data types, not files.

Rows of plain texts are checked a column at a time; whatever is unusual about one of them (a number for a
text, a lineage, a missing field) sends its batch through the checks of single rows, which say what is wrong.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.errors import BadSetting, InputError, did_you_mean

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

_PLAIN = ("text", "classification")
"""Data types whose rows are records as they stand in the file."""
Hashes = NDArray[np.int64]
_CHECKED = 1024  # rows after which the weight of a batch is looked at again
_EXACT = 100_000  # ids that are kept as they are; of earlier ones 8 bytes are kept


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


@dataclass
class Ids:
    """The ids of a file so far: a file may repeat its ids, but a warning must name one record."""

    recent: set[str] = field(default_factory=set)
    earlier: list[Hashes] = field(default_factory=list)
    """Hashes of the ids before, sorted; at 64 bits no two of a billion ids are mistaken for one."""

    def claim(self, identity: str) -> str:
        """Return the id, marked by as many primes as it takes to make it a new one."""
        while identity in self.recent or self._before(hash(identity)):
            identity += "'"
        self.recent.add(identity)
        if len(self.recent) >= _EXACT:
            self._file(np.fromiter(map(hash, self.recent), np.int64, len(self.recent)))
            self.recent.clear()
        return identity

    def claim_all(self, identities: list[str]) -> list[str]:
        """Return the ids, those that are not new marked."""
        hashes = np.sort(np.fromiter(map(hash, identities), np.int64, len(identities)))
        new = not (hashes[1:] == hashes[:-1]).any() and not any(one in self.recent for one in identities)
        if not new or any(_shared(hashes, known) for known in self.earlier):
            return [self.claim(identity) for identity in identities]
        if len(identities) + len(self.recent) < _EXACT:
            self.recent.update(identities)
        else:
            self._file(hashes)
        return identities

    def _before(self, hashed: int) -> bool:
        for known in self.earlier:
            at = int(np.searchsorted(known, hashed))
            if at < len(known) and known[at] == hashed:
                return True
        return False

    def _file(self, hashes: Hashes) -> None:
        """Keep hashes in few sorted arrays, each at least twice as long as the next."""
        hashes = np.sort(hashes)
        while self.earlier and len(self.earlier[-1]) < 2 * len(hashes):
            hashes = np.sort(np.concatenate([self.earlier.pop(), hashes]), kind="stable")
        self.earlier.append(hashes)


def _shared(one: Hashes, other: Hashes) -> bool:
    at = np.minimum(np.searchsorted(other, one), len(other) - 1)
    return bool((other[at] == one).any())


@dataclass
class Batch:
    """Rows of one data type that become a table together.

    name: of the file, for messages. origin: what ids begin with where a row has none.
    """

    kind: DataType
    plain: bool
    name: str
    origin: str
    ids: Ids = field(default_factory=Ids)
    weight: int = 0
    """About how many bytes the rows take as text, known every so many rows."""
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _raw: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    _added: int = 0

    @staticmethod
    def of(datatype: str, kind: DataType, name: str, origin: str) -> Batch:
        """An empty batch of records of a data type."""
        return Batch(kind, datatype in _PLAIN, name, origin)

    def __len__(self) -> int:
        return len(self._rows) + len(self._raw)

    def add(self, line: int, row: dict[str, Any]) -> None:
        """Add one row; raises InputError where its records are not as they should be."""
        self._added += 1
        if self._added % _CHECKED == 0:
            last = [row for _, row in self._raw[-_CHECKED:]] or self._rows[-_CHECKED:]
            self.weight += sum(len(repr(one)) for one in last[::16]) * 16
        if self.plain:
            self._raw.append((line, row))
        else:
            self._check(line, row)

    def table(self) -> pa.Table:
        """Return the records of all rows added since the last table; raises InputError likewise."""
        columns = _columns(self._raw, self.kind, self.origin, self.ids) if self._raw else None
        if columns is None:
            for line, row in self._raw:
                self._check(line, row)
            names = dict.fromkeys(["id", *(name for row in self._rows for name in row)])
            columns = {name: [row.get(name) for row in self._rows] for name in names}
        size = len(columns["id"])
        lineage = columns.pop("lineage", None)
        found = {name: column_of(values) for name, values in columns.items()}
        self._rows, self._raw, self.weight = [], [], 0
        return pa.table({**found, "lineage": no_lineage(size) if lineage is None else _lineages(lineage)})

    def _check(self, line: int, row: dict[str, Any]) -> None:
        place = f"{self.name}:{line}"
        self._rows += _taken_apart(row, self.kind, place, f"{self.origin}:{line}", self.ids)


def _columns(
    raw: list[tuple[int, dict[str, Any]]], kind: DataType, origin: str, ids: Ids
) -> dict[str, list[Any]] | None:
    """The columns of rows that are all alike and plain; None where any of them must be looked at."""
    names = raw[0][1].keys()
    if "lineage" in names or any(row.keys() != names for _, row in raw):
        return None
    form = next((form for form in kind.forms if names >= set(form)), None)
    if form is None:
        return None
    columns = {name: [row[name] for _, row in raw] for name in names}
    if any(set(map(type, columns[name])) != {str} for name in form):
        return None
    if kind.label in columns and not set(map(type, columns[kind.label])) <= {str, type(None)}:
        return None
    if "id" in columns and (set(map(type, columns["id"])) != {str} or "" in columns["id"]):
        return None
    own = columns.pop("id", None) or [f"{origin}:{line}" for line, _ in raw]
    return {"id": ids.claim_all(own), **columns}


def condition(text: str) -> tuple[str, bool, str]:
    """Return field, whether it must be equal, and value of FIELD=VALUE or FIELD!=VALUE."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip("! "):
        raise BadSetting(f"the condition {text!r} must be written FIELD=VALUE or FIELD!=VALUE")
    return key.rstrip("!").strip(), not key.endswith("!"), value


def plain(value: Any) -> str:
    """Return a value as the text that conditions, ids and labels see."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(value)


def rename(row: dict[str, Any], fields: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return the row with fields under new names, `a+b` joined by a space. Raises InputError."""
    for new, old in fields.items():
        pieces = old.split("+") if old not in row else [old]
        for piece in pieces:
            if piece not in row:
                raise InputError(
                    f"{where}: no field {piece!r}{did_you_mean(piece, row)} (found: {', '.join(row)})"
                )
        row = {**row, new: row[pieces[0]] if len(pieces) == 1 else " ".join(plain(row[p]) for p in pieces)}
    return row


def _taken_apart(
    row: dict[str, Any], kind: DataType, where: str, fallback: str, ids: Ids
) -> list[dict[str, Any]]:
    """Return the records of one row, checked; what a data type complains of is told with its place."""
    try:
        return [
            _checked(one, kind, where, f"{fallback}/{i}" if i else fallback, ids)
            for i, one in enumerate(kind.explode(row))
        ]
    except InputError as error:
        raise error if str(error).startswith(where) else InputError(f"{where}: {error}") from None


def _checked(row: dict[str, Any], kind: DataType, where: str, fallback: str, ids: Ids) -> dict[str, Any]:
    """Return the row with its fields checked, an id and a lineage; raise InputError naming the place."""
    row = kind.normalise(row)
    form = next((f for f in kind.forms if all(row.get(name) is not None for name in f)), None)
    if form is None:
        # of several forms, the one that the row is nearest to
        nearest = max(
            kind.forms, key=lambda form: sum(row.get(name) is not None for name in form) / len(form)
        )
        missing = next(name for name in nearest if row.get(name) is None)
        found = [key for key in row if key not in ("id", "lineage") and row[key] is not None]
        others = [key for key in found if key not in nearest]
        flag = f"--{missing.replace('_', '-')}-field"
        raise InputError(
            f"{where}: no field {missing!r} (found: {', '.join(found) or 'none'}); "
            f"name it with {flag} {shlex.quote(others[0]) if others else 'FIELD'}"
        )
    for name in form:
        row[name] = _as_field(name, row[name], where)
    if kind.label and row.get(kind.label) is not None:
        row[kind.label] = _as_field(kind.label, row[kind.label], where)
    identity = ids.claim(plain(row.get("id")) or fallback)
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
    return plain(value)


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


def no_lineage(size: int) -> pa.StructArray:
    """The lineage of records of which nothing is known: not null itself, which would be a special case."""
    return pa.StructArray.from_arrays([pa.nulls(size, one.type) for one in LINEAGE], fields=list(LINEAGE))


def _lineages(values: list[dict[str, Any] | None]) -> pa.Array:
    if not any(value for value in values):
        return no_lineage(len(values))
    return pa.array([{} if value is None else value for value in values], LINEAGE)


def column_of(values: list[Any]) -> pa.Array:
    """Return an Arrow array; what fits no single type is kept as JSON text."""
    try:
        array = pa.array(values)
        return array.cast(pa.string()) if pa.types.is_null(array.type) else array
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        if all(v is None or isinstance(v, str) for v in values):  # lone surrogates are not UTF-8
            return pa.array(
                [v if v is None else v.encode("utf-8", "replace").decode() for v in values], pa.string()
            )
        return _as_json(values)


def _as_json(values: list[Any]) -> pa.Array:
    return pa.array(
        [v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values], pa.string()
    )


def joined(tables: list[pa.Table]) -> pa.Table:
    """Return the tables of all batches of a file as one, with the columns that a single batch would have."""
    if all(table.schema == tables[0].schema for table in tables):
        return pa.concat_tables(tables)
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    ordered = [*(name for name in names if name != "lineage"), "lineage"]
    return pa.table({name: _joined_column(tables, name) for name in ordered})


def _joined_column(tables: list[pa.Table], name: str) -> pa.ChunkedArray:
    """One column of all batches; what fits no single type is kept as JSON text, as within a batch."""
    parts = []
    for table in tables:
        empty = name not in table.column_names or table.column(name).null_count == len(table)
        parts.append(pa.table({name: pa.nulls(len(table))}) if empty else table.select([name]))
    try:
        column = pa.concat_tables(parts, promote_options="permissive").column(name)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        chunks = [chunk for part in parts for chunk in part.column(name).chunks]
        column = pa.chunked_array([_as_json(chunk.to_pylist()) for chunk in chunks])
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column
