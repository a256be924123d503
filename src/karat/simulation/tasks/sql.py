"""SELECT statements that must find something: real data, a strict reader, SQLite's verdict. Knows no model.

The grammar (`[ ]` may be left out, `...` may come again):

    query  := SELECT what FROM tables [WHERE chain] [GROUP BY column] [ORDER BY column [DESC]] [LIMIT n]
    what   := [DISTINCT] column [, column] | fold | column , fold          the last one with GROUP BY
    fold   := COUNT(*) | SUM(column) | AVG(column) | MIN(column) | MAX(column)
    tables := authors | books | sales | books JOIN authors USING (author) | sales JOIN books USING (book)
    chain  := term [AND|OR term] ...
    term   := column (= | < | >) constant | (chain) | NOT (chain)

What is valid is SQLite's to say, within the limits of `karat.simulation.database`: a wider language than the
grammar. White space does not count, not even in `'novel '` or `> =`, for a model of words cannot tell it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from karat.errors import BadSetting
from karat.simulation.base import Verdict, check_share
from karat.simulation.database import FUNCTIONS, TABLES, WORDS, Limits, answered
from karat.simulation.derivations import Choose, Options, Weighted, replayed, rules_of
from karat.simulation.grammars import Derivation, Judging, Place, Rules, grown

if TYPE_CHECKING:
    pass

JOINS = {"books+authors": "books JOIN authors USING (author)", "sales+books": "sales JOIN books USING (book)"}
SPELLED = {**{table: table for table in TABLES}, **JOINS}
FOLDS = ("COUNT", "SUM", "AVG", "MIN", "MAX")
CONSTANTS = ("10", "20", "30", "40", "50", "60")
KEYS = ("author", "book")

TOKEN = re.compile(r"'[^'\n]*'|[<>!]\s*=|<\s*>|\w+|\S", re.ASCII)
KNOWN = re.compile(r"'[ -&(-~]*'|[<>!]=|<>|\w+|[(),.*=<>+\-/;]", re.ASCII)

ERRORS = {
    "empty": "no token at all",
    "too_long": "more characters, tokens or joined tables than the limit",
    "too_deep": "nested deeper than the limit",
    "unknown_token": "a sign that no query needs, or a quote without its end",
    "several": "more than one statement",
    "forbidden": "something else than reading: another statement, table or function, or WITH",
    "syntax": "SQLite cannot parse it",
    "unknown_column": "a column that the tables do not have",
    "unknown_table": "a table that the database does not have",
    "ambiguous": "a column that two of the tables have",
    "timeout": "more instructions than the limit",
    "too_many_rows": "more rows than the limit",
    "refused": "SQLite refuses it for another reason, such as an aggregate in WHERE",
}


@dataclass(frozen=True)
class Sql(Judging):
    """SELECT statements over three small tables that return at least one row and no NULL."""

    verifies: ClassVar[bool] = True
    right: ClassVar[str] = "a query that finds something"
    wrong: ClassVar[str] = "false"

    # The defaults are what the smallest trainer learns in seconds.
    joins: float = 0.2
    aggregates: float = 0.25
    groups: float = 0.5  # of the aggregates
    distinct: float = 0.1
    where: float = 0.7
    link: float = 0.25  # how often another condition follows
    nest: float = 0.05  # how often a condition is a chain in parentheses
    depth_max: int = 1
    terms_max: int = 2
    order: float = 0.15
    limit: float = 0.15
    data_seed: int = 0
    steps_limit: int = 200_000
    rows_limit: int = 2000
    depth_limit: int = 20
    length_limit: int = 200

    def __post_init__(self) -> None:
        for name in ("joins", "aggregates", "groups", "distinct", "where", "link", "nest", "order", "limit"):
            check_share(name, getattr(self, name))
        for name, least in (("depth_max", 0), ("terms_max", 1), ("steps_limit", 1000), ("rows_limit", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} is too small; give at least {least}")
        if not self.depth_max < self.depth_limit <= 50:
            raise ValueError(
                f"depth_limit={self.depth_limit} must lie above depth_max={self.depth_max} and below 51"
            )
        if not 1 <= self.length_limit <= 500:
            raise ValueError(f"length_limit={self.length_limit} must lie between 1 and 500 tokens")

    # --- real data --------------------------------------------------------------------------------

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """Draw n queries that find something; those that do not are drawn again, which shifts the shares."""
        choose = Weighted(self._options, Random(f"sql:{seed}"))
        texts: list[str] = []
        judged: dict[str, bool] = {}
        for _ in range(200 * n + 1000):
            if len(texts) == n:
                return texts
            text = self._grow(choose)
            if text not in judged:
                judged[text] = self.parse(text).correct
            if judged[text]:
                texts.append(text)
        raise BadSetting(
            "task sql: fewer than one query in 200 finds something within the limits; lower link or terms_max"
        )

    def _grow(self, choose: Choose) -> str:
        tables = choose("tables")
        shape = choose(("shape", tables))
        parts = ["SELECT"]
        column = ""
        if shape == "columns":
            if choose(("distinct", tables)):
                parts.append("DISTINCT")
            column = choose(("item", tables, ""))
            other = choose(("item", tables, column))
            parts.append(f"{column}, {other}" if other else column)
        else:
            if shape == "groups":
                column = choose(("group", tables))
                parts.append(f"{column},")
            fold = choose(("fold", tables, shape))
            parts.append(f"{fold}({'*' if fold == 'COUNT' else choose(('argument', tables, fold))})")
        parts += ["FROM", SPELLED[tables]]
        if choose(("where", tables, shape)):
            parts += ["WHERE", self._chain(choose, tables, 0)]
        if shape == "groups":
            parts += ["GROUP BY", column]
        if shape != "aggregate":
            if choose(("order", tables, shape)):
                parts += ["ORDER BY", column if shape == "groups" else choose(("key", tables))]
                if choose(("direction", tables)):
                    parts.append("DESC")
            limit = choose(("limit", tables, shape))
            if limit:
                parts += ["LIMIT", limit]
        return " ".join(parts)

    def _chain(self, choose: Choose, tables: str, depth: int) -> str:
        parts: list[str] = []
        link, index = "", 0
        while True:
            kind = choose(("term", tables, depth, link))
            if kind == "compare":
                column = choose(("column", tables, depth))
                sign = choose(("sign", column))
                parts.append(f"{column} {sign} {choose(('constant', column, sign))}")
            else:
                inner = f"({self._chain(choose, tables, depth + 1)})"
                parts.append(f"NOT {inner}" if kind == "NOT" else inner)
            link = choose(("link", tables, depth, index))
            if not link:
                return " ".join(parts)
            parts.append(link)
            index += 1

    def _options(self, place: Place) -> dict[str, float]:
        """Return the choices of the grammar in a place; their weights are the knobs."""
        if place == "tables":
            return dict.fromkeys(TABLES, (1 - self.joins) / len(TABLES)) | dict.fromkeys(
                JOINS, self.joins / len(JOINS)
            )
        assert isinstance(place, tuple)
        name, given, *more = place
        yes_no = {"distinct": "DISTINCT", "where": "WHERE", "order": "ORDER BY"}
        if name in yes_no:
            share = float(getattr(self, name))
            return {"": 1 - share, yes_no[name]: share}
        if name == "shape":
            grouped = self.aggregates * self.groups
            return {
                "columns": 1 - self.aggregates,
                "aggregate": self.aggregates - grouped,
                "groups": grouped,
            }
        if name == "item":
            found = {column: float(column != more[0]) for column in _columns(given)}
            return found if not more[0] else {"": 0.5 * sum(found.values()), **found}
        if name in ("group", "key", "argument", "column"):
            return {
                column: float(
                    column in WORDS
                    if name == "group"
                    else name == "key" or column not in (KEYS if name == "column" else (*KEYS, *WORDS))
                )
                for column in _columns(given)
            }
        if name == "fold":
            return dict.fromkeys(FOLDS, 1.0)
        if name == "direction":
            return {"": 1.0, "DESC": 1.0}
        if name == "limit":
            return {"": 1 - self.limit, **dict.fromkeys(("1", "2", "3"), self.limit / 3)}
        if name == "term":
            nest = self.nest if more[0] < self.depth_max else 0.0
            return {"compare": 1 - nest, "NOT": nest / 2, "(": nest / 2}
        if name == "link":
            link = self.link if more[1] + 1 < self.terms_max else 0.0
            return {"": 1 - link, "AND": link / 2, "OR": link / 2}
        if name == "sign":
            return {"=": 1.0, "<": float(given not in WORDS), ">": float(given not in WORDS)}
        assert name == "constant", f"unknown place {place!r}"
        if given in WORDS:
            return {f"'{word}'": 1.0 for word in WORDS[given]}
        return dict.fromkeys(CONSTANTS, 1.0)

    # --- verification -----------------------------------------------------------------------------

    def tokens(self, text: str) -> list[str]:
        """Return words, marks and quoted words; whatever is no token of SQL is a token all the same."""
        return [
            f"'{token[1:-1].strip()}'" if len(token) > 1 and token[0] == "'" else re.sub(r"\s", "", token)
            for token in TOKEN.findall(text)
        ]

    def parse(self, text: str) -> Verdict:
        """Judge one text: valid where SQLite runs it, `true` where it finds rows without NULL in a table."""
        limits = Limits(self.steps_limit, self.rows_limit, 20 * self.length_limit)
        if len(text) > limits.characters:
            return Verdict("too_long")
        tokens = self.tokens(text)
        if not tokens:
            return Verdict("empty")
        if len(tokens) > self.length_limit:
            return Verdict("too_long")
        if not all(KNOWN.fullmatch(token) for token in tokens):
            return Verdict("unknown_token")
        if ";" in tokens:
            return Verdict("several")
        if max(_deepest(tokens), _prefixes(tokens)) > self.depth_limit:
            return Verdict("too_deep")
        words = Counter(token.upper() for token in tokens)
        # A WITH doubles its tables with each name, before any instruction is counted.
        if words["WITH"] or (tokens[0].upper() != "SELECT" and tokens[0].upper() in _STATEMENTS):
            return Verdict("forbidden")
        # SQLite plans a join in time that grows faster than its tables, before it counts instructions.
        named = sum(words[table.upper()] for table in TABLES)
        if named > 12:
            return Verdict("too_long")
        if tokens[0].upper() != "SELECT":
            return Verdict("syntax")
        kind, rows = answered(" ".join(tokens), self.data_seed, limits)
        if kind:
            return Verdict(kind)
        right = named > 0 and bool(rows) and all(value is not None for row in rows for value in row)
        return Verdict("true" if right else "false", depth=1 + _deepest(tokens, (*FUNCTIONS, "using", "in")))

    # --- the grammar as a model: what the emulator of the forecast needs -----------------------------------

    def derivation(self, text: str, options: Options | None = None) -> Derivation | None:
        """Return the choices that make a text; None where the grammar does not write it."""
        tokens = self.tokens(text)
        try:
            choices = _Reader(tokens).choices()
        except _Outside:
            return None
        found = replayed(self._grow, choices, options or self._options)
        return found[1] if found is not None and self.tokens(found[0]) == tokens else None

    def rules(self, texts: Sequence[str]) -> Rules:
        """Count each choice in each place; texts that are not valid or outside the grammar are skipped."""
        return rules_of(texts, lambda text: self.parse(text).valid, self.derivation, self._options)

    def write(self, rules: Rules, n: int, *, seed: int) -> list[str]:
        """Draw n queries from rule counts; they are valid, but need not find anything."""
        return grown(self._grow, rules, n, seed=seed)

    def describe(self) -> dict[str, str]:
        """Return what the task is, in words, for the report."""
        return {
            "task": "SELECT statements over three small tables that find something",
            "tables": "; ".join(f"{table} ({', '.join(columns)})" for table, columns in TABLES.items()),
            "share of joins": f"{self.joins:g}",
            "share of aggregates": f"{self.aggregates:g}, of them grouped {self.groups:g}",
            "share with WHERE": f"{self.where:g}",
            "conditions": f"1 to {self.terms_max} a chain, nested at most {self.depth_max} deep",
            "share with ORDER BY, LIMIT, DISTINCT": f"{self.order:g}, {self.limit:g}, {self.distinct:g}",
            "valid": "SQLite runs it, read-only and within the limits",
            "correct": "valid, it names a table, at least one row comes back, and no value is NULL",
        }


_STATEMENTS = frozenset(
    "ALTER ANALYZE ATTACH BEGIN COMMIT CREATE DELETE DETACH DROP END EXPLAIN INSERT PRAGMA REINDEX RELEASE "
    "REPLACE ROLLBACK SAVEPOINT UPDATE VACUUM VALUES WITH".split()
)


def _columns(tables: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for table in tables.split("+") for column in TABLES[table]))


def _deepest(tokens: Sequence[str], calls: Collection[str] = ()) -> int:
    """Return how deep parentheses are nested, not counting those behind one of some words."""
    open_: list[bool] = []
    deepest = 0
    for i, token in enumerate(tokens):
        if token == "(":
            open_.append(tokens[i - 1].lower() not in calls)
            deepest = max(deepest, sum(open_))
        elif token == ")" and open_:
            open_.pop()
    return deepest


def _prefixes(tokens: Sequence[str]) -> int:
    """Return the longest row of NOT, - and +, which nests without parentheses."""
    longest = row = 0
    for token in tokens:
        row = row + 1 if token.upper() in ("NOT", "-", "+") else 0
        longest = max(longest, row)
    return longest


class _Outside(Exception):
    """A text that the grammar does not write."""


class _Reader:
    """Reads the choices of a query from its tokens, in the order in which the grammar makes them."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = [*tokens, ""], 0
        self.found: list[str] = []

    def choices(self) -> list[str]:
        """Return all choices. Raises _Outside."""
        if "FROM" not in self.tokens:
            raise _Outside
        # The tables come first in the grammar, since all else depends on them, and later in the text.
        self.at = self.tokens.index("FROM") + 1
        end = self.at + (6 + 1 if self.tokens[self.at + 1 : self.at + 2] == ["JOIN"] else 1)
        spelled = self.tokens[self.at : end]
        names = [name for name, text in SPELLED.items() if re.findall(r"\w+|[()]", text) == spelled]
        if not names:
            raise _Outside
        self.found.append(names[0])
        self.at = 0
        self._need("SELECT")
        shape = self._what()
        self._need("FROM")
        self.at = end
        if self._maybe("WHERE"):
            self._chain()
        if shape == "groups":
            self._need("GROUP", "BY", self.tokens[1])
        if shape != "aggregate":
            self._ordered(shape)
            self._maybe_limit()
        if self.at != len(self.tokens) - 1:
            raise _Outside
        return self.found

    def _what(self) -> str:
        third, fourth = (*self.tokens[2:4], "", "")[:2]
        shape = "columns"
        if third == "(":
            shape = "aggregate"
        elif third == "," and fourth in FOLDS:
            shape = "groups"
        self.found.append(shape)
        if shape == "columns":
            self._maybe("DISTINCT")
            self.found.append(self._take())
            self.found.append(self._take() if self._skip(",") else "")
            return shape
        if shape == "groups":
            self.found.append(self._take())
            self._need(",")
        self.found.append(self._take())
        self._need("(")
        if self.found[-1] == "COUNT":
            self._need("*")
        else:
            self.found.append(self._take())
        self._need(")")
        return shape

    def _chain(self) -> None:
        while True:
            if self.tokens[self.at] in ("NOT", "("):
                kind = self._take()
                self.found.append(kind)
                if kind == "NOT":
                    self._need("(")
                self._chain()
                self._need(")")
            else:
                self.found += ["compare", self._take(), self._take(), self._take()]
            if self.tokens[self.at] not in ("AND", "OR"):
                self.found.append("")
                return
            self.found.append(self._take())

    def _ordered(self, shape: str) -> None:
        if self.tokens[self.at] != "ORDER":
            self.found.append("")
            return
        self._need("ORDER", "BY")
        self.found.append("ORDER BY")
        column = self._take()
        if shape == "columns":
            self.found.append(column)
        self._maybe("DESC")

    def _maybe_limit(self) -> None:
        self.found.append(self._take() if self._skip("LIMIT") else "")

    def _maybe(self, word: str) -> bool:
        there = self._skip(word)
        self.found.append(word if there else "")
        return there

    def _skip(self, word: str) -> bool:
        there = self.tokens[self.at] == word
        self.at += there
        return there

    def _take(self) -> str:
        if self.at >= len(self.tokens) - 1:
            raise _Outside
        self.at += 1
        return self.tokens[self.at - 1]

    def _need(self, *words: str) -> None:
        for word in words:
            if self._take() != word:
                raise _Outside
