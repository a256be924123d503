"""The journal of calls: every finished answer on disk, named by its request. Knows no provider."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from karat.errors import InputError
from karat.generation.base import Request, Response
from karat.generation.limits import Usage

Answer = tuple[str, Request, Response]
Hide = Callable[[bytes], bytes]

_TABLES = (
    # Rows go to the end of the table, and only the short keys are sorted: large texts that move with random
    # keys cost three times the time and the space.
    """CREATE TABLE IF NOT EXISTS answers (
    key TEXT NOT NULL UNIQUE, request TEXT NOT NULL, response TEXT NOT NULL, written REAL NOT NULL
)""",
    # Attempts whose answer never came, though the server may have done the work and charged for it.
    """CREATE TABLE IF NOT EXISTS lost (
    key TEXT NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL, cause TEXT NOT NULL, written REAL NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS lost_key ON lost (key)",
)
# What was counted in this run, and for which plan: no part of the file, and as large as it likes.
_COUNTED = (
    "PRAGMA temp.journal_mode=OFF",
    "CREATE TEMP TABLE counted (key TEXT, since REAL, PRIMARY KEY (key, since)) WITHOUT ROWID",
)
_LOST = "SELECT count(*), total(tokens), total(usd) FROM lost WHERE key = ? AND written < ?"
_RECALL = "SELECT response, written FROM answers WHERE key = ?"
_NOTHING = Usage()
_INSERT = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)"
_FIELDS = tuple(one.name for one in fields(Response))
# What SQLite says, and what can be done about it.
_CURES = {
    "locked": "another program holds it; wait for that, and run the same again",
    "readonly": "it cannot be written; give the rights, or name another folder",
    "unable to open": "it cannot be written; give the rights, or name another folder",
    "full": "make room on the disk, and run the same again; what was written before is kept",
    "I/O": "make room on the disk, or see whether it is broken, and run the same again",
}


@dataclass(frozen=True)
class Found:
    """What the journal knows of a question.

    new: an earlier run of the plan paid for the answer, and it is looked up for the first time.
    lost: attempts of earlier runs without an answer, the first time they are looked up.
    """

    response: Response | None
    new: bool = False
    lost: Usage = field(default_factory=Usage)


class Journal:
    """Answers by key in one SQLite file (write-ahead log); without a path, in memory only.

    A commit returns when the answers are on the disk, so that a kill at any moment loses none of them.
    hide: what is done to every text before it is written; it takes secrets out.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.hide: Hide | None = None
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = self._connect()
            for table in _TABLES:
                self.connection.execute(table)
            # A reader of its own: the writer works in another thread while answers are looked up.
            self.reader = self.connection if path is None else self._connect()
            for statement in _COUNTED:
                self.reader.execute(statement)
            self._seen = _Seen()
            for (key,) in self.reader.execute("SELECT key FROM answers"):
                self._seen.add(key)
            self._any_lost = self.reader.execute("SELECT 1 FROM lost").fetchone() is not None
            self._version = self._others()
        except OSError as error:
            said = error.strerror or error
            raise InputError(f"{path}: {said}; name a folder that can be written") from None
        except sqlite3.Error as error:
            raise self._trouble(error) from None

    def _connect(self) -> sqlite3.Connection:
        # Only one thread uses a connection at a time, but in a notebook not the one that opened it.
        connection = sqlite3.connect(
            self.path or ":memory:", timeout=60, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=10000")
        return connection

    def find(self, keys: Sequence[str]) -> dict[str, Response]:
        """The answers that are there, by key."""
        found: dict[str, Response] = {}
        for begin in range(0, len(keys), 500):
            part = keys[begin : begin + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, response FROM answers WHERE key IN ({marks})"
            for key, response in self.reader.execute(query, part):
                found[key] = self._response(response)
        return found

    def recall(self, key: str) -> tuple[Response, float] | None:
        """One answer and when it was written (seconds since 1970); None where it is not there."""
        if key not in self._seen:
            return None
        try:
            row = self.reader.execute(_RECALL, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._trouble(error) from None
        return None if row is None else (self._response(row[0]), row[1])

    def look(self, key: str, since: float) -> Found | None:
        """All that is known of a question, for a plan that began at `since`; None where it is new."""
        found = self.recall(key)
        lost = _NOTHING
        if self._any_lost:
            count, tokens, usd = self.reader.execute(_LOST, (key, since)).fetchone()
            if count and self._first(f"lost {key}", since):
                lost = Usage(lost=count, lost_tokens=int(tokens), lost_usd=usd)
        if found is None:
            return Found(None, lost=lost) if lost.lost else None
        response, written = found
        return Found(response, written < since and self._first(key, since), lost)

    def _first(self, key: str, since: float) -> bool:
        """Whether a plan counts this for the first time: rows may ask the same."""
        done = self.reader.execute("INSERT OR IGNORE INTO counted VALUES (?, ?)", (key, since))
        return done.rowcount == 1

    def store(self, answers: Iterable[Answer]) -> None:
        """Write answers in one commit; one that is there already stays as it is."""
        now, rows = time.time(), []
        for key, request, response in answers:
            rows.append((key, self._text(_asked(request)), self._text(_said(response)), now))
            self._seen.add(key)
        self._commit(_INSERT, rows)

    def lose(self, key: str, tokens: int, usd: float, cause: str) -> None:
        """Note an attempt that may have been charged, but gave no answer."""
        self._any_lost = True
        self._commit("INSERT INTO lost VALUES (?, ?, ?, ?, ?)", [(key, tokens, usd, cause, time.time())])

    def lost(self, keys: Iterable[str]) -> tuple[int, float]:
        """Tokens and dollars of the lost attempts at these requests."""
        wanted = set(keys)
        rows = [row for row in self.reader.execute("SELECT key, tokens, usd FROM lost") if row[0] in wanted]
        return sum(row[1] for row in rows), sum(row[2] for row in rows)

    def merge(self, path: Path) -> int:
        """Take over the answers of another journal that are not here yet; returns how many."""
        if not path.exists():
            raise InputError(f"{path}: no such journal; name a calls.sqlite")
        before = len(self)
        self._seen.fill()
        self._any_lost = True
        attached = False
        try:
            self.connection.execute("ATTACH DATABASE ? AS other", (str(path),))
            attached = True
            self.connection.execute(
                "INSERT OR IGNORE INTO answers SELECT key, request, response, written FROM other.answers"
            )
            self.connection.execute(
                "INSERT INTO lost SELECT * FROM other.lost WHERE NOT EXISTS (SELECT 1 FROM lost AS own "
                "WHERE own.key = other.lost.key AND own.written = other.lost.written)"
            )
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path}: is no journal of calls ({error}); name a calls.sqlite") from None
        finally:
            if attached:
                self.connection.execute("DETACH DATABASE other")
        return len(self) - before

    @property
    def blank(self) -> bool:
        """Whether nothing was ever paid for here: no answer, and no attempt that was lost."""
        query = "SELECT NOT EXISTS (SELECT 1 FROM answers) AND NOT EXISTS (SELECT 1 FROM lost)"
        return bool(self.reader.execute(query).fetchone()[0])

    def __len__(self) -> int:
        return int(self.reader.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
        if self.reader is not self.connection:
            self.reader.close()

    def _commit(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany(statement, rows)
            self.connection.execute("COMMIT")
        except BaseException as error:
            if self.connection.in_transaction:  # a full disk has ended it already
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._trouble(error) from None
            raise
        if self._version != (version := self._others()):
            # Another program writes too: from now on look for what it has answered.
            self._version = version
            self._seen.fill()

    def _others(self) -> int:
        """A number that changes when another program has written."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def _trouble(self, error: sqlite3.Error) -> InputError:
        said = str(error)
        for sign, cure in _CURES.items():
            if sign in said:
                return InputError(f"{self.path}: {said}; {cure}")
        return InputError(f"{self.path}: is no journal of calls, or is broken ({said}); move it away")

    def _response(self, text: str) -> Response:
        try:
            found = orjson.loads(text)
            found["alternatives"] = tuple((token, p) for token, p in found.get("alternatives", ()))
            return Response(**found)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.path}: holds an answer that cannot be read ({error}); move it away"
            ) from None

    def _text(self, value: dict[str, Any]) -> str:
        try:
            data = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=dict)
        except TypeError:  # half a surrogate pair, which some servers send
            text = json.dumps(value, ensure_ascii=False, default=dict)
            data = text.encode("utf-8", "replace")
        return (data if self.hide is None else self.hide(data)).decode("utf-8")


class _Seen:
    """Which keys may be in the journal: a Bloom filter, so that a new request needs no look at the disk.

    Of a million keys in 2 MiB, one in a thousand others is taken for known by mistake, which costs a look.
    """

    _BITS = 1 << 24

    def __init__(self) -> None:
        self._bits = bytearray(self._BITS // 8)

    def add(self, key: str) -> None:
        """Note a key (hexadecimal digits)."""
        number = int(key[:36], 16)
        for shift in (0, 24, 48, 72, 96, 120):
            bit = number >> shift & (self._BITS - 1)
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def fill(self) -> None:
        """Take every key for known."""
        self._bits = bytearray(b"\xff" * (self._BITS // 8))

    def __contains__(self, key: str) -> bool:
        number = int(key[:36], 16)
        for shift in (0, 24, 48, 72, 96, 120):
            bit = number >> shift & (self._BITS - 1)
            if not self._bits[bit >> 3] >> (bit & 7) & 1:
                return False
        return True


class Writer:
    """Writes answers in groups: while one commit is under way, the next group gathers.

    So the disk sets the pace of the commits and not the calls, and `put` returns when its answer is safe.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._rows: list[Answer] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._busy = False
        self._pool = ThreadPoolExecutor(1, "journal") if journal.path is not None else None

    async def put(self, rows: Sequence[Answer]) -> None:
        """Return when the rows are on the disk."""
        if self._pool is None:
            self.journal.store(rows)
            return
        done = asyncio.get_running_loop().create_future()
        self._rows += rows
        self._waiting.append(done)
        if not self._busy:
            self._commit()
        await done

    def lose(self, key: str, tokens: int, usd: float, cause: str) -> None:
        """Note a lost attempt, without waiting for the disk."""
        if self._pool is None:
            self.journal.lose(key, tokens, usd, cause)
        else:
            self._pool.submit(self.journal.lose, key, tokens, usd, cause)

    def _commit(self) -> None:
        assert self._pool is not None
        rows, self._rows = self._rows, []
        waiting, self._waiting = self._waiting, []
        self._busy = True
        work = asyncio.get_running_loop().run_in_executor(self._pool, self.journal.store, rows)
        work.add_done_callback(lambda ended: self._committed(ended, waiting))

    def _committed(self, ended: asyncio.Future[None], waiting: list[asyncio.Future[None]]) -> None:
        self._busy = False
        error = None if ended.cancelled() else ended.exception()
        for one in waiting:
            if not one.done():
                one.set_result(None) if error is None else one.set_exception(error)
        if self._rows:
            self._commit()

    async def close(self) -> None:
        """Wait for the last commit."""
        while self._busy or self._rows:
            await asyncio.sleep(0.001)
        if self._pool is not None:
            self._pool.shutdown(wait=True)


def _asked(request: Request) -> dict[str, Any]:
    """A request as plain values; what is empty is left out."""
    found: dict[str, Any] = {
        "id": request.id,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "label": request.label,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
        "replicate": request.replicate,
    }
    for name in ("attributes", "schema", "logprobs", "stop"):
        value = getattr(request, name)
        if value:
            found[name] = dict(value) if name in ("attributes", "schema") else value
    return found


def _said(response: Response) -> dict[str, Any]:
    return {name: getattr(response, name) for name in _FIELDS}


def export(journal: Path, out: Path) -> int:
    """Write the answers of a journal as a file for the provider `replay`; returns how many."""
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    count = 0
    with out.open("w", encoding="utf-8", errors="replace") as file:
        for request, response in connection.execute("SELECT request, response FROM answers ORDER BY written"):
            asked, said = json.loads(request), json.loads(response)
            row = {name: asked[name] for name in ("id", "messages", "seed", "replicate")}
            said.pop("request_id")
            file.write(json.dumps({**row, **said}, ensure_ascii=False) + "\n")
            count += 1
    connection.close()
    return count
