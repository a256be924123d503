"""Finished records on disk: put there in any order, read back in the order of the plan. Knows no provider."""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from karat.formats import gathered
from karat.records import Records
from karat.rows import Batch, DataType, joined

_BATCH = 256  # records that become a table together
_HELD = 2 << 20  # bytes of tables that are held; a larger result is mapped from a file


class Shelf:
    """Records of rows, as JSON in a file without a name; in memory only where each lies.

    folder: where the file is made; the system's place for temporary files where None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, prefix="karat-")  # noqa: SIM115 - open as long as we are
        self._places, self._begins, self._sizes = array("q"), array("q"), array("q")
        self._end = 0
        self.records = 0

    def add(self, place: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the records of one row of the plan; `place` is its number in the plan."""
        try:
            data = orjson.dumps(list(rows))
        except TypeError:  # half a surrogate pair, which some servers send
            data = json.dumps(list(rows), ensure_ascii=False).encode("utf-8", "replace")
        self._file.write(data)
        self._places.append(place)
        self._begins.append(self._end)
        self._sizes.append(len(data))
        self._end += len(data)
        self.records += len(rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the records in the order of the plan."""
        self._file.flush()
        handle = self._file.fileno()
        for i in np.argsort(np.frombuffer(self._places, np.int64), kind="stable").tolist():
            yield from orjson.loads(os.pread(handle, self._sizes[i], self._begins[i]))

    def table(self, datatype: str, kind: DataType) -> Records:
        """All records; a large result is mapped and not held."""

        def tables() -> Iterator[Any]:
            batch = Batch.of(datatype, kind, "generated", "generated")
            for number, row in enumerate(self, 1):
                batch.add(number, row)
                if len(batch) >= _BATCH:
                    yield batch.table()
            if len(batch):
                yield batch.table()

        found = gathered(tables(), memory=_HELD, folder=self.folder)
        return Records(joined(found), datatype, "generated")

    def close(self) -> None:
        """Let the file go."""
        self._file.close()
