"""A small database that nobody can write to, and what it says of one SELECT. Knows no grammar and no loop.

The text was written by a model and is run, so that everything but reading three tables is refused: SQLite's
authorizer allows SELECT, these tables and a few functions; nothing lies on disk; instructions, rows, length
and nesting have limits. Limits count instructions, not seconds: a slow machine gives the same verdict.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from random import Random

TABLES: dict[str, tuple[str, ...]] = {
    "authors": ("author", "country", "age"),
    "books": ("book", "author", "genre", "price", "pages"),
    "sales": ("book", "shop", "copies"),
}
WORDS: dict[str, tuple[str, ...]] = {
    "country": ("france", "japan", "kenya"),
    "genre": ("novel", "poetry", "travel"),
    "shop": ("north", "south"),
}
"""The columns of text, and what stands in them; all other columns are whole numbers."""

RANGES = {"age": (22, 58), "price": (3, 38), "pages": (31, 68), "copies": (12, 48)}
"""From where to where the numbers of a column go: what to ask of it is to be learned."""

FUNCTIONS = frozenset(
    ("count", "sum", "total", "avg", "min", "max", "abs", "length", "lower", "upper", "round", "coalesce")
)
"""Functions that a query may call. None makes a long value from a short one."""

SIZES = {"authors": 8, "books": 12, "sales": 16}
_PULSE = 1000
"""Instructions between two looks at the budget."""

_SAID = (
    (r"no such column", "unknown_column"),
    (r"no such table", "unknown_table"),
    (r"no such function|not authorized|prohibited|vtable constructor", "forbidden"),
    (r"ambiguous column", "ambiguous"),
    (r"interrupted", "timeout"),
    (r"too large|stack overflow|too deep", "too_deep"),
    (r"too big|too long|too many|at most", "too_long"),
    (r"syntax error|incomplete input|unrecognized token", "syntax"),
)
"""What SQLite says, and the class of the error."""


@dataclass(frozen=True)
class Limits:
    """What one query may take: instructions of SQLite's machine, rows of its result, characters."""

    steps: int
    rows: int
    characters: int


def rows_of(table: str, seed: int) -> list[tuple[int | str | None, ...]]:
    """Return the rows of a table; the same seed gives the same rows. One price in four is unknown (NULL)."""
    random = Random(f"{table}:{seed}")
    made: list[tuple[int | str | None, ...]] = []
    for i in range(SIZES[table]):
        row: dict[str, int | str | None] = {name: random.choice(words) for name, words in WORDS.items()}
        row |= {name: random.randint(*RANGES[name]) for name in RANGES}
        if i % 4 == 3:
            row["price"] = None
        row["author"] = i + 1 if table == "authors" else random.randint(1, SIZES["authors"])
        row["book"] = i + 1 if table == "books" else random.randint(1, SIZES["books"])
        made.append(tuple(row[column] for column in TABLES[table]))
    return made


def _opened(seed: int, limits: Limits) -> sqlite3.Connection:
    # Without the cache a statement starts with its counters at 0, whatever ran before it.
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0)
    connection.execute("PRAGMA temp_store = MEMORY")
    for table, columns in TABLES.items():
        typed = ", ".join(f"{column} {'TEXT' if column in WORDS else 'INTEGER'}" for column in columns)
        connection.execute(f"CREATE TABLE {table} ({typed})")
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows_of(table, seed))
    connection.execute("PRAGMA query_only = ON")
    # Python 3.10 cannot set these; they are a second lock, and no verdict hangs on them.
    if sys.version_info >= (3, 11):
        for kind, most in (
            (sqlite3.SQLITE_LIMIT_LENGTH, max(4000, limits.characters)),
            (sqlite3.SQLITE_LIMIT_SQL_LENGTH, max(4000, limits.characters)),
            (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
            (sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 0),
            (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0),
            (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
        ):
            connection.setlimit(kind, most)
    connection.set_authorizer(_allowed)
    return connection


def _allowed(action: int, first: str | None, second: str | None, where: str | None, by: str | None) -> int:
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and first in TABLES:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


class _Open(threading.local):
    """The open databases of one thread; a connection may leave neither its thread nor its process."""

    def __init__(self) -> None:
        self.connections: OrderedDict[tuple[int, int, Limits], sqlite3.Connection] = OrderedDict()

    def get(self, seed: int, limits: Limits) -> sqlite3.Connection:
        key = (os.getpid(), seed, limits)
        found = self.connections.pop(key, None)
        self.connections[key] = found = _opened(seed, limits) if found is None else found
        while len(self.connections) > 4:
            self.connections.popitem(last=False)
        return found


_OPEN = _Open()


def answered(query: str, seed: int, limits: Limits) -> tuple[str, list[tuple[object, ...]]]:
    """Run one SELECT: ("", its rows), or the class of the error and no rows."""
    connection = _OPEN.get(seed, limits)
    pulses = 0

    def spent() -> int:
        nonlocal pulses
        pulses += 1
        return int(pulses * _PULSE > limits.steps)

    connection.set_progress_handler(spent, _PULSE)
    try:
        cursor = connection.execute(query)
        try:
            rows = cursor.fetchmany(limits.rows + 1)
        finally:
            cursor.close()
    except (sqlite3.Error, sqlite3.Warning) as error:
        return next((kind for said, kind in _SAID if re.search(said, str(error))), "refused"), []
    except (ValueError, OverflowError, MemoryError):
        return "refused", []
    return ("too_many_rows", []) if len(rows) > limits.rows else ("", rows)
