"""Rows in, tables out: JSONL, gzip, CSV, Parquet, standard input, Hugging Face hub. Knows no record.

Readers yield `(line, row)`; a line that cannot be read raises InputError with its number.
Tables larger than memory are kept in files that are mapped: their pages are read when they are looked at,
and `release` gives them back.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa

from karat.errors import InputError, did_you_mean, missing_extra

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
_CSV_LIMIT = 2**31 - 1  # a field of one megabyte is a record, not an error

Row = tuple[int, dict[str, Any]]

_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def read_rows(name: str) -> Iterator[Row]:
    """Yield the line number and the fields of each row of a file, standard input or hub data set."""
    if name.startswith("hf:"):
        return _hub(name)
    if name == "-":
        return _jsonl(sys.stdin.buffer, "-")
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name}: is a folder; name a file in it")
    if not path.exists():
        near = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{name}: no such file{did_you_mean(name, near)}")
    suffix = format_of(path)
    if suffix == ".parquet":
        return _parquet(path)
    if suffix.startswith(".csv"):
        return _csv(path)
    return _jsonl_file(path)


def format_of(path: Path) -> str:
    """Return the one of FORMATS that a file name ends with. Raises InputError."""
    name = path.name.lower()
    for suffix in sorted(FORMATS, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    if name.endswith((".json", ".ndjson", ".json.gz", ".ndjson.gz")):
        return ".jsonl.gz" if name.endswith(".gz") else ".jsonl"
    raise InputError(f"{path}: unknown format; the name must end in one of {', '.join(FORMATS)}")


def write_table(table: pa.Table, path: Path) -> Path:
    """Write a table in the format of the name; the file appears whole or not at all."""
    suffix = format_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as parquet

            parquet.write_table(table, temporary)
        elif suffix.startswith(".csv"):
            with _open_text(Path(temporary), suffix) as file:
                _write_csv(table, file)
        else:
            with _open_bytes(Path(temporary), suffix) as binary:
                for batch in table.to_batches(max_chunksize=4096):
                    for row in batch.to_pylist():
                        binary.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def gathered(tables: Iterable[pa.Table], *, memory: int, folder: Path | None = None) -> list[pa.Table]:
    """Return the tables; beyond `memory` bytes they are written to a file in `folder` and mapped.

    The file has no name, so that nothing is left behind however the process ends. Tables that share a
    schema come back as one.
    """
    held: list[pa.Table] = []
    size = 0
    found = iter(tables)
    for table in found:
        held.append(table)
        size += table.nbytes
        if size > memory:
            break
    else:
        return held
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, prefix="karat-") as file:
        first, held = held, []
        write_stream(file, [*first], found)
        file.flush()
        return _mapped(file)


def write_stream(file: IO[bytes], *tables: Iterable[pa.Table]) -> None:
    """Write tables into a file as Arrow streams, a new one wherever the schema changes."""
    writer = None
    schema = None
    for table in (table for some in tables for table in some):
        if writer is None or table.schema != schema:
            if writer is not None:
                writer.close()
            schema = table.schema
            writer = pa.ipc.new_stream(file, schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


@lru_cache(maxsize=8)
def mapped(path: str) -> pa.Table:
    """Return the table that `write_stream` wrote into a file of one schema, without reading it."""
    with open(path, "rb") as file:
        (table,) = _mapped(file)
    return table


def release() -> None:
    """Give the pages of mapped files back to the system; what is looked at again is read again."""
    for one in tuple(_MAPS):
        if hasattr(one, "madvise"):
            one.madvise(mmap.MADV_DONTNEED)


def _mapped(file: IO[bytes]) -> list[pa.Table]:
    held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _MAPS.add(held)
    source = pa.BufferReader(pa.py_buffer(held))
    found = []
    while source.tell() < source.size():
        found.append(pa.ipc.open_stream(source).read_all())
    return found


def _open_bytes(path: Path, suffix: str) -> IO[bytes]:
    # mtime 0: the same records give the same bytes
    return gzip.GzipFile(path, "wb", mtime=0) if suffix.endswith(".gz") else open(path, "wb")  # type: ignore[return-value]


def _open_text(path: Path, suffix: str) -> IO[str]:
    return io.TextIOWrapper(_open_bytes(path, suffix), encoding="utf-8", newline="")


def _write_csv(table: pa.Table, file: IO[str]) -> None:
    writer = csv.writer(file)
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            writer.writerow(
                [json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v for v in row.values()]
            )


def _jsonl_file(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        packed = (
            file.read(2) == b"\x1f\x8b"
        )  # by content: a .gz name on plain text, or the reverse, is read too
        file.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield from _guarded(_jsonl(unpacked, str(path)), str(path))  # type: ignore[arg-type]
        else:
            yield from _jsonl(file, str(path))


def _guarded(rows: Iterator[Row], name: str) -> Iterator[Row]:
    try:
        yield from rows
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise InputError(f"{name}: the gzip data is damaged ({error}); copy the file again") from None


def _jsonl(file: IO[bytes], name: str) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        stripped = line.strip()
        if not stripped:
            continue
        if number == 1 and stripped[:1] == b"[":
            yield from _json_array(stripped + b"\n" + file.read(), name)
            return
        try:
            row = orjson.loads(stripped)
        except orjson.JSONDecodeError as error:
            yield number, _second_try(stripped, name, number, error)
            continue
        if not isinstance(row, dict):
            raise InputError(
                f"{name}:{number}: the line holds {type(row).__name__}, but must hold one JSON object"
            )
        yield number, row


def _second_try(line: bytes, name: str, number: int, error: Exception) -> dict[str, Any]:
    """orjson is strict: NaN and lone surrogates are read by the standard library; the rest is reported."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as broken:
        raise InputError(
            f"{name}:{number}: not UTF-8 (byte {broken.start} of the line is 0x{line[broken.start]:02x}); "
            "convert the file, for example with: iconv -f LATIN1 -t UTF-8"
        ) from None
    try:
        row = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as second:
        column = getattr(second, "colno", 0)
        detail = getattr(second, "msg", "too deeply nested")
        raise InputError(
            f"{name}:{number}: broken JSON at column {column} ({detail}); mend or remove the line"
        ) from None
    if not isinstance(row, dict):
        raise InputError(
            f"{name}:{number}: the line holds {type(row).__name__}, but must hold one JSON object"
        )
    return row


def _json_array(data: bytes, name: str) -> Iterator[Row]:
    """A file that is one JSON array of objects is read too; the number is then that of the object."""
    try:
        rows = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{name}:{error.lineno}: broken JSON at column {error.colno} ({error.msg})"
        ) from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"{name}: item {number} is {type(row).__name__}, but must be an object")
        yield number, row


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_CSV_LIMIT)
    packed = path.name.lower().endswith(".gz")
    raw: Any = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115 - closed by the with below
    with raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, None)
            if header is None:
                return
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    other = next((sign for sign in ";\t|" if len(header) == 1 and sign in header[0]), "")
                    raise InputError(
                        f"{path}:{reader.line_num}: {len(cells)} cells under {len(header)} columns; "
                        + (
                            f"its columns are split by {other!r}: save it with commas"
                            if other
                            else "mend the quoting"
                        )
                    )
                yield (
                    reader.line_num,
                    {k: (v if v != "" else None) for k, v in zip(header, cells, strict=True)},
                )
        except UnicodeDecodeError as broken:
            raise InputError(
                f"{path}:{reader.line_num + 1}: not UTF-8 ({broken.reason}); "
                "convert the file, for example with: iconv -f LATIN1 -t UTF-8"
            ) from None
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}: broken CSV ({error})") from None


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None
    number = 0
    for batch in file.iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _hub(name: str) -> Iterator[Row]:
    """`hf:NAME[/CONFIG][:SPLIT]`; a third part of the path is the configuration. A local folder works too."""
    try:
        import datasets  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise missing_extra("datasets", "hf", f"{name!r}") from None
    location, _, split = name.removeprefix("hf:").partition(":")
    pieces = location.split("/")
    config = None
    if len(pieces) > 2 and not Path(location).exists():
        location, config = "/".join(pieces[:2]), "/".join(pieces[2:])
    try:
        found = datasets.load_dataset(location, config, split=split or "train", streaming=True)
    except Exception as error:  # the library raises many kinds: no network, no such name, no such split
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{name}: cannot be loaded ({reason}); check the name, the split and the network"
        ) from None
    for number, row in enumerate(found, 1):
        yield number, dict(row)
