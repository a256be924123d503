"""The journal of calls: every finished answer on disk, named by its request. Knows no provider."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from karat.errors import InputError
from karat.generation.base import Request, Response

_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, response TEXT NOT NULL, written REAL NOT NULL
) WITHOUT ROWID"""


class Journal:
    """Answers by key in one SQLite file (write-ahead log); without a path, in memory only.

    A commit returns when the answers are on the disk, so that a kill at any moment loses none of them.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Only one thread uses it at a time, but in a notebook that is not the thread that opened it.
            self.connection = sqlite3.connect(
                path or ":memory:", timeout=60, isolation_level=None, check_same_thread=False
            )
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute("PRAGMA synchronous=FULL")
            self.connection.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path}: is no journal of calls ({error}); move it away") from None

    def find(self, keys: Sequence[str]) -> dict[str, Response]:
        """The answers that are there, by key."""
        found: dict[str, Response] = {}
        for begin in range(0, len(keys), 500):
            part = keys[begin : begin + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, response FROM answers WHERE key IN ({marks})"
            for key, response in self.connection.execute(query, part):
                found[key] = Response(**json.loads(response))
        return found

    def store(self, answers: Iterable[tuple[str, Request, Response]]) -> None:
        """Write answers in one commit; one that is there already stays as it is."""
        now = time.time()
        rows = [
            (key, json.dumps(asdict(request), ensure_ascii=False, default=dict), _text(response), now)
            for key, request, response in answers
        ]
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self.connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", rows)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def __len__(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


def _text(response: Response) -> str:
    try:
        text = json.dumps(asdict(response), ensure_ascii=False)
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, which some servers send
        clean = response.text.encode("utf-8", "replace").decode("utf-8")
        text = json.dumps(asdict(replace(response, text=clean)), ensure_ascii=False)
    return text


def export(journal: Path, out: Path) -> int:
    """Write the answers of a journal as a file for the provider `replay`; returns how many."""
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    count = 0
    with out.open("w", encoding="utf-8", errors="replace") as file:
        for request, response in connection.execute("SELECT request, response FROM answers ORDER BY written"):
            asked, said = json.loads(request), json.loads(response)
            row = {
                "id": asked["id"],
                "messages": asked["messages"],
                "seed": asked["seed"],
                "replicate": asked["replicate"],
            }
            said.pop("request_id")
            file.write(json.dumps({**row, **said}, ensure_ascii=False) + "\n")
            count += 1
    connection.close()
    return count
