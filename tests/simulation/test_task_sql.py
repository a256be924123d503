"""The task `sql`: what SQLite runs is valid, what finds something is right, and no text does harm."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows
from karat.simulation.database import _OPEN, TABLES, WORDS, Limits, answered, rows_of
from karat.simulation.tasks.sql import ERRORS, Sql
from karat.training.causal_codec import FEW_WORDS, WORD, join_words

TASK = Sql()
WIDE = Sql(
    joins=0.5, aggregates=0.5, distinct=0.3, where=0.8, link=0.5, nest=0.4, depth_max=3, order=0.5, limit=0.4
)


@pytest.fixture(scope="module")
def plain() -> sqlite3.Connection:
    """The same rows in a database without any guard."""
    connection = sqlite3.connect(":memory:")
    for table, columns in TABLES.items():
        typed = ", ".join(f"{name} {'TEXT' if name in WORDS else 'INTEGER'}" for name in columns)
        connection.execute(f"CREATE TABLE {table} ({typed})")
        connection.executemany(
            f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows_of(table, 0)
        )
    return connection


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    """Queries of the whole grammar, whether they find something or not."""
    return WIDE.write(WIDE.rules(WIDE.sample(400, seed=3)), 600, seed=4)


def asked(connection: sqlite3.Connection, query: str) -> str:
    try:
        rows = connection.execute(query).fetchall()
    except sqlite3.Error:
        return "error"
    return "true" if rows and all(value is not None for row in rows for value in row) else "false"


def test_the_verdict_is_what_an_unguarded_database_says(plain, drawn) -> None:
    """On queries of the grammar, right and wrong are SQLite's own."""
    expected = [asked(plain, text) for text in drawn]
    assert expected == [verdict.kind for verdict in WIDE.verify(drawn)]
    assert {"true", "false"} == set(expected), "both kinds are there"


def test_reader_and_sqlite_agree_on_mutated_queries(plain, drawn) -> None:
    """What the reader reads SQLite runs; what is valid is what an unguarded database runs."""
    random = Random(5)
    words = sorted({token for text in drawn for token in WIDE.tokens(text)})
    valid = read = 0
    for text in drawn:
        tokens = WIDE.tokens(text)
        for _ in range(random.randint(1, 2)):
            at = random.randrange(len(tokens))
            tokens[at : at + random.randint(0, 1)] = random.choices(words, k=random.randint(0, 1))
        # Two signs side by side are one sign to the task, whatever stands between; SQLite wants none.
        mutated = re.sub(r"([<>=] )+", lambda found: found[0][:2], " ".join(tokens))
        verdict = WIDE.parse(mutated)
        expected = asked(plain, mutated)
        if re.search(r"(?i)\b(authors|books|sales)\b", mutated):
            assert expected == (verdict.kind if verdict.valid else "error"), mutated
        if WIDE.derivation(mutated) is not None:
            assert verdict.valid, f"{mutated} is of the grammar, but {verdict.kind}"
            read += 1
        valid += verdict.valid
    assert 20 < read <= valid < len(drawn) - 100, "mutations of all kinds were tried"


def test_real_queries_are_right_seeded_and_of_the_grammar() -> None:
    """The same seed and the same turn give the same texts; each finds something and has a derivation."""
    texts = TASK.sample(300, seed=1)
    assert texts == TASK.sample(300, seed=1)
    assert texts != TASK.sample(300, seed=2)
    assert all(verdict.correct for verdict in TASK.verify(texts))
    assert all(TASK.derivation(text) for text in texts)
    source = TASK.source(seed=7)
    assert source.draw(50, turn=3) == source.draw(50, turn=3)
    assert source.draw(50, turn=3) != source.draw(50, turn=4)
    assert source.held_out(50) != source.draw(50, turn=0)
    assert source.size is None


def test_a_model_of_words_can_write_every_text() -> None:
    """Few words, short texts, and spacing that a word model makes changes neither tokens nor verdict."""
    texts = TASK.sample(1000, seed=2)
    rows = [WORD.findall(text) for text in texts]
    assert len({word for row in rows for word in row}) <= FEW_WORDS
    assert 10 <= sum(map(len, rows)) / len(rows) <= 25
    for text, row in zip(texts, rows, strict=True):
        again = join_words(row)
        assert TASK.tokens(text) == TASK.tokens(again)
        assert TASK.parse(text) == TASK.parse(again)
        assert TASK.parse(text) == TASK.parse("  ".join(row))


def test_rules_count_each_choice_in_its_place() -> None:
    """One query by hand; texts that are not valid or not of the grammar add nothing."""
    text = "SELECT book, price FROM books WHERE price > 10 OR NOT (genre = 'novel') LIMIT 2"
    rules = TASK.rules([text, text, "SELECT price", "SELECT price + 1 FROM books", "select price from books"])
    assert rules == {
        "tables": {"books": 2},
        ("shape", "books"): {"columns": 2},
        ("distinct", "books"): {"": 2},
        ("item", "books", ""): {"book": 2},
        ("item", "books", "book"): {"price": 2},
        ("where", "books", "columns"): {"WHERE": 2},
        ("term", "books", 0, ""): {"compare": 2},
        ("column", "books", 0): {"price": 2},
        ("sign", "price"): {">": 2},
        ("constant", "price", ">"): {"10": 2},
        ("link", "books", 0, 0): {"OR": 2},
        ("term", "books", 0, "OR"): {"NOT": 2},
        ("term", "books", 1, ""): {"compare": 2},
        ("column", "books", 1): {"genre": 2},
        ("sign", "genre"): {"=": 2},
        ("constant", "genre", "="): {"'novel'": 2},
        ("link", "books", 1, 0): {"": 2},
        ("link", "books", 0, 1): {"": 2},
        ("order", "books", "columns"): {"": 2},
        ("limit", "books", "columns"): {"2": 2},
    }
    assert [text] * 3 == TASK.write(rules, 3, seed=0)


def test_what_rules_write_is_valid_and_has_their_shares(drawn) -> None:
    """Written queries are of the grammar, seeded, and counted again give the rules back."""
    rules = WIDE.rules(drawn)
    texts = WIDE.write(rules, 2000, seed=1)
    assert texts == WIDE.write(rules, 2000, seed=1)
    assert all(verdict.valid for verdict in WIDE.verify(texts))
    again = WIDE.rules(texts)
    for place in ("tables", ("shape", "books"), ("where", "books", "columns"), ("fold", "books", "groups")):
        there, here = sum(rules[place].values()), sum(again[place].values())
        for choice, times in rules[place].items():
            share = times / there
            assert share == pytest.approx(
                again[place].get(choice, 0) / here, abs=5 * (share * (1 - share) / here) ** 0.5 + 1e-9
            )


def test_depth_counts_chains_and_queries_inside_each_other() -> None:
    """Parentheses of functions and of USING nest nothing."""
    for depth, text in (
        (1, "SELECT COUNT(*) FROM books JOIN authors USING (author)"),
        (2, "SELECT genre FROM books WHERE (pages > 40 OR price < 10) AND (pages > 10)"),
        (3, "SELECT genre FROM books WHERE NOT (pages > 40 AND (price < 10 OR price > 20))"),
        (2, "SELECT genre FROM books WHERE pages > (SELECT AVG(pages) FROM books)"),
    ):
        assert depth == TASK.parse(text).depth, text


@pytest.mark.parametrize(
    ("knobs", "word", "low", "high"),
    [
        ({"where": 0.0}, "WHERE", 0, 0),
        ({"where": 1.0}, "WHERE", 1, 1),
        ({"joins": 0.0}, "JOIN", 0, 0),
        ({"joins": 1.0}, "JOIN", 1, 1),
        ({"aggregates": 1.0, "groups": 1.0}, "GROUP BY", 1, 1),
        ({"aggregates": 1.0, "groups": 0.0}, "GROUP BY|ORDER|LIMIT", 0, 0),
        ({"aggregates": 0.0}, "COUNT|SUM|AVG|MIN|MAX", 0, 0),
        ({"distinct": 1.0, "aggregates": 0.0}, "SELECT DISTINCT", 1, 1),
        ({"order": 1.0, "aggregates": 0.0}, "ORDER BY", 1, 1),
        ({"limit": 1.0, "aggregates": 0.0}, "LIMIT [123]$", 1, 1),
        ({"link": 0.0}, "AND|OR ", 0, 0),
        ({"link": 1.0, "terms_max": 2, "nest": 0.0, "where": 1.0}, " (AND|OR) ", 1, 1),
        ({"depth_max": 0, "nest": 1.0}, "NOT|WHERE \\(", 0, 0),
        ({"depth_max": 1, "nest": 1.0, "where": 1.0}, "(NOT|WHERE) \\(", 1, 1),
        ({"where": 0.5, "aggregates": 0.0}, "WHERE", 0.3, 0.6),
    ],
)
def test_knobs_change_the_queries(knobs, word, low, high) -> None:
    """Each knob is the share of queries that it names."""
    texts = Sql(**knobs).sample(300, seed=1)
    assert low <= sum(bool(re.search(word, text)) for text in texts) / len(texts) <= high


HOSTILE = {
    "DROP TABLE books": "forbidden",
    "DELETE FROM books": "forbidden",
    "INSERT INTO books VALUES (1, 2, 3, 4, 5)": "forbidden",
    "UPDATE books SET price = 1": "forbidden",
    "CREATE TABLE x (y)": "forbidden",
    "ATTACH 'stolen.db' AS x": "forbidden",
    "ATTACH DATABASE 'stolen.db' AS x": "forbidden",
    "VACUUM INTO 'stolen.db'": "forbidden",
    "PRAGMA query_only = 0": "forbidden",
    "PRAGMA table_info(books)": "forbidden",
    "EXPLAIN SELECT price FROM books": "forbidden",
    "BEGIN": "forbidden",
    "SELECT price FROM books; DROP TABLE books": "several",
    "SELECT price FROM books;": "several",
    "SELECT name FROM sqlite_master": "forbidden",
    "SELECT * FROM sqlite_schema": "forbidden",
    "SELECT * FROM pragma_table_info('books')": "forbidden",
    "SELECT * FROM pragma_database_list": "forbidden",
    "SELECT * FROM json_each('1')": "forbidden",
    "SELECT load_extension('x')": "forbidden",
    "SELECT writefile('stolen.db', 'x')": "forbidden",
    "SELECT readfile('/etc/passwd')": "forbidden",
    "SELECT randomblob(1000000000)": "forbidden",
    "SELECT zeroblob(1000000000)": "forbidden",
    "SELECT printf('9000000d', 1) FROM books": "forbidden",
    "SELECT printf('%1000000d', 1)": "forbidden",
    "SELECT group_concat(genre) FROM books": "forbidden",
    "SELECT replace(genre, 'n', 'nnnnnnnn') FROM books": "forbidden",
    "SELECT genre || genre FROM books": "unknown_token",
    "SELECT random() FROM books": "forbidden",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n": "forbidden",
    "SELECT i FROM (WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)": "forbidden",
    "SELECT COUNT(*) FROM " + ", ".join(f"books b{i}" for i in range(12)): "timeout",
    "SELECT COUNT(*) FROM authors, books, sales, authors a, books b, sales c": "timeout",
    "SELECT b.price FROM books, books b, books c, books d, books e ORDER BY b.price + c.price": "timeout",
    "SELECT b.price FROM books b, books c, books d, books e": "too_many_rows",
    "SELECT COUNT(*) FROM " + ", ".join(["books"] * 60): "too_long",
    "SELECT " + "1, " * 5000 + "1": "too_long",
    "SELECT price FROM books WHERE price = " + "9" * 10_000: "too_long",
    "SELECT " + "(" * 90 + "1" + ")" * 90: "too_deep",
    "SELECT " + "(" * 1500 + "1" + ")" * 1500: "too_long",
    "SELECT price FROM books WHERE " + "NOT " * 150 + "price": "too_deep",
    "SELECT price FROM books WHERE price" + " + - 1" * 60: "true",
    "SELECT price FROM books WHERE price = " + "- " * 150 + "1": "too_deep",
    "SELECT price FROM books" + " UNION SELECT price FROM books" * 11: "false",
    "SELECT price FROM books" + " UNION SELECT price FROM books" * 12: "too_long",
    "SELECT price\0 FROM books": "unknown_token",
    "SELECT price FROM books \ud800": "unknown_token",
    "SELECT 'a\ud800' FROM books": "unknown_token",
    "SELECT preis€ FROM books": "unknown_token",
    'SELECT "price" FROM books': "unknown_token",
    "SELECT ? FROM books": "unknown_token",
    "SELECT price FROM books WHERE genre = 'novel": "unknown_token",
    "": "empty",
    " \n\t": "empty",
    "SELECT": "syntax",
    "FROM books SELECT price": "syntax",
    "SELECT price FROM books WHERE": "syntax",
    "SELECT price FROM authors": "unknown_column",
    "SELECT price FROM films": "unknown_table",
    "SELECT author FROM books, authors": "ambiguous",
    "SELECT price FROM books WHERE COUNT(*) > 1": "refused",
    "SELECT abs(- 9223372036854775808) FROM books": "refused",
    "SELECT median(price) FROM books": "forbidden",
    "SELECT 1": "false",
    "SELECT price FROM books WHERE price > 60 AND price < 10": "false",
    "SELECT price FROM books": "false",
    "SELECT genre FROM books -- '": "unknown_token",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:40]))
def test_nothing_but_reading_is_done(text, tmp_path, monkeypatch) -> None:
    """Each hostile text gets its class; no file appears, and all rows are as they were."""
    monkeypatch.chdir(tmp_path)
    verdict = TASK.parse(text)
    assert HOSTILE[text] == verdict.kind
    assert verdict == TASK.parse(text), "the verdict is the same the second time"
    assert verdict.valid or verdict.kind in ERRORS
    assert [] == list(tmp_path.iterdir())
    limits = Limits(TASK.steps_limit, TASK.rows_limit, 20 * TASK.length_limit)
    assert all(("", rows_of(table, 0)) == answered(f"SELECT * FROM {table}", 0, limits) for table in TABLES)
    made = sum(len(rows_of(table, 0)) for table in TABLES)
    assert made == _OPEN.get(0, limits).total_changes, "nothing was written since the rows were made"


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE books",
        "PRAGMA query_only = 0",
        "ATTACH 'stolen.db' AS x",
        "VACUUM INTO 'stolen.db'",
        "WITH n AS (SELECT 1) DELETE FROM books",
        "SELECT price FROM books; DROP TABLE books",
        "SELECT price\0 FROM books",
    ],
)
def test_the_database_needs_no_reader_before_it(text, tmp_path, monkeypatch) -> None:
    """SQLite's own guards refuse as well, were a text to pass the reader."""
    monkeypatch.chdir(tmp_path)
    limits = Limits(200_000, 1000, 4000)
    kind, rows = answered(text, 0, limits)
    assert kind in ("forbidden", "refused") and rows == []
    assert [] == list(tmp_path.iterdir())
    assert ("", rows_of("books", 0)) == answered("SELECT * FROM books", 0, limits)


def test_random_strings_never_raise(drawn) -> None:
    """Any row of signs gets a verdict whose kind is known."""
    random = Random(9)
    signs = [chr(i) for i in range(0, 256)] + ["\ud800", "\u2028", "🌍", "SELECT ", " FROM books "]
    for text in drawn[:300]:
        at = random.randrange(len(text))
        broken = text[:at] + "".join(random.choices(signs, k=random.randint(1, 4))) + text[at:]
        verdict = TASK.parse(broken)
        assert verdict.valid or verdict.kind in ERRORS, ascii(broken)


def test_threads_and_processes_have_databases_of_their_own(drawn) -> None:
    """A pickled task judges alike in other threads and in another process."""
    copy = pickle.loads(pickle.dumps(WIDE))
    assert copy == WIDE
    expected = WIDE.verify(drawn)
    with ThreadPoolExecutor(4) as pool:
        assert [expected] * 8 == list(pool.map(copy.verify, [drawn] * 8))
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        assert expected[:50] == workers.map(WIDE.parse, drawn[:50], chunksize=50)


def test_other_rows_give_other_verdicts(drawn) -> None:
    """The data are seeded: another seed makes other rows, so that other queries find something."""
    assert rows_of("books", 1) != rows_of("books", 0)
    assert Sql(data_seed=1).verify(drawn) != Sql(data_seed=0).verify(drawn)


def test_a_users_own_file_must_find_something() -> None:
    """Right queries are dealt; a wrong one is named."""
    good = TASK.sample(40, seed=1)
    pool = TASK.source(from_rows([{"text": text} for text in good], datatype="text"))
    assert {*good} >= {*pool.draw(20, turn=0)}
    with pytest.raises(InputError, match="unknown_table"):
        TASK.source(from_rows([{"text": text} for text in [*good, "SELECT x FROM y"]], datatype="text"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sql:where=2", "where=2"),
        ("sql:terms_max=0", "terms_max=0"),
        ("sql:depth_limit=90", "depth_limit=90"),
        ("sql:length_limit=0", "length_limit=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(spec, said) -> None:
    """One line names the setting and the value."""
    with pytest.raises(BadSetting, match=said):
        registry.make("tasks", spec)


def test_the_shelf_knows_it_and_it_says_what_it_is() -> None:
    """Settings of a spec arrive, and the description tells them."""
    task = registry.make("tasks", "sql:joins=0.5,order=0")
    assert Sql(joins=0.5, order=0.0) == task
    assert task == registry.make("tasks", registry.spec_of(task))
    assert "0.5" == task.describe()["share of joins"]
