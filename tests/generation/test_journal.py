"""The journal: what is told to be written is written, also when the disk, the file or a neighbour is bad."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from fault_server import serving

from karat.errors import InputError
from karat.generation.base import Message, Request, Response
from karat.generation.calls import call, run
from karat.generation.engine import Engine
from karat.generation.journal import Journal, export
from karat.generation.limits import Limits

PROGRAM = Path(__file__).with_name("killed.py")


def requests(n: int) -> list[Request]:
    return [Request(f"r{i}", (Message("user", f"write {i}"),), seed=i) for i in range(n)]


class Quick:
    """Answers at once."""

    batch_size, concurrency, model = 1, 4, "m"

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def complete(self, batch: Sequence[Request]) -> list[Response]:
        self.asked += [r.id for r in batch]
        await asyncio.sleep(0.001)
        return [Response(r.id, f"text {r.id} " * 40, 4, 6, cost_usd=0.01) for r in batch]


def test_it_keeps_any_text_and_can_be_exported(tmp_path: Path) -> None:
    """Any script survives the disk; half a surrogate pair is mended instead of losing the answer."""
    path = tmp_path / "calls.sqlite"
    journal = Journal(path)
    texts = ["Größe 😀 日本語 العربية", "broken \ud83d here"]
    asked = requests(2)
    journal.store((r.key("m"), r, Response(r.id, t)) for r, t in zip(asked, texts))
    found = journal.find([r.key("m") for r in asked])
    assert texts[0] == found[asked[0].key("m")].text
    assert "broken ? here" == found[asked[1].key("m")].text
    assert 2 == export(path, tmp_path / "answers.jsonl")
    journal.close()


def test_a_journal_of_an_earlier_version_is_read_and_goes_on(tmp_path: Path) -> None:
    """Its one table, sorted by key, and its texts by `json` are taken as they are; its answers are not paid
    again, it takes new ones, and it can be merged into a new journal."""
    path, asked = tmp_path / "calls.sqlite", requests(6)
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA journal_mode=WAL")
    old.execute(
        "CREATE TABLE answers (key TEXT PRIMARY KEY, request TEXT NOT NULL, response TEXT NOT NULL, "
        "written REAL NOT NULL) WITHOUT ROWID"
    )
    for r in asked[:4]:
        response = asdict(Response(r.id, f"größer {r.id}", 3, 5, -1.25, "length", 0.02, "m"))
        del response["alternatives"]
        texts = (json.dumps(asdict(r), ensure_ascii=False), json.dumps(response, ensure_ascii=False))
        old.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (r.key("m"), *texts, 1.0))
    old.close()
    provider, journal = Quick(), Journal(path)
    called = call(provider, asked, journal=journal)
    assert ["r4", "r5"] == provider.asked
    assert (6, 4, 0.1) == (called.usage.answers, called.usage.reused, pytest.approx(called.usage.cost_usd))
    assert Response("r2", "größer r2", 3, 5, -1.25, "length", 0.02, "m") == called.responses["r2"]
    journal.close()
    new = Journal(tmp_path / "new.sqlite")
    assert 6 == new.merge(path) == len(new)
    assert 6 == export(path, tmp_path / "answers.jsonl")


# ------------------------------------------------------------------------------- what may go wrong with it


def _full(journal: Journal) -> None:
    size = journal.connection.execute("PRAGMA page_count").fetchone()[0]
    journal.connection.execute(f"PRAGMA max_page_count={size + 12}")


def _read_only(journal: Journal) -> None:
    journal.connection.execute("PRAGMA query_only=ON")


def _locked(journal: Journal) -> None:
    journal.connection.execute("PRAGMA busy_timeout=50")
    other = sqlite3.connect(str(journal.path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    journal.other = other  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_full, "disk is full; make room on the disk"),
        (_read_only, "readonly database; it cannot be written"),
        (_locked, "database is locked; another program holds it"),
    ],
)
def test_what_cannot_be_written_ends_the_run_in_one_line(
    harm: Callable[[Journal], None], said: str, tmp_path: Path
) -> None:
    """A full disk, a file without rights, a lock: the file is named with the cure, what was written is whole,
    no call stays in the air, and when the harm is gone the same call goes on."""
    path = tmp_path / "calls.sqlite"
    journal, provider = Journal(path), Quick()
    call(provider, requests(5), journal=journal)
    harm(journal)
    kept: list[Engine] = []

    async def work() -> None:
        async with Engine(provider, journal, Limits()) as engine:
            kept.append(engine)

            async def one(r: Request) -> None:
                await engine.ask(r)

            await engine.drive(requests(400), one)

    with pytest.raises(InputError, match=said) as caught:
        run(work)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert (0, 0) == (kept[0].gate.inflight, kept[0].purse._flying)  # type: ignore[attr-defined]
    assert not journal.connection.in_transaction
    getattr(journal, "other", journal).close()
    journal.connection.close()
    journal = Journal(path)
    assert "ok" == journal.reader.execute("PRAGMA integrity_check").fetchone()[0]
    assert 5 <= len(journal) < 400
    paid = len(journal)
    provider.asked.clear()
    assert 400 == len(call(provider, requests(400), journal=journal).responses)
    assert 400 - paid == len(provider.asked)


def test_a_disk_that_fills_up_under_the_command_line(tmp_path: Path) -> None:
    """A real limit on the size of files: exit code 2, one line with the file; without it the rest is made."""
    (tmp_path / "task.toml").write_text('type = "classification"\ndomain = "note"\nlabels = ["a", "b"]\n')
    with serving(latency=0.001) as server:
        command = [
            *(sys.executable, "-m", "karat", "generate", "--task", str(tmp_path / "task.toml")),
            *("--provider", f"openai_compatible:model=m,url={server.url}", "--n", "400"),
            *("--run", str(tmp_path / "run"), "--out", str(tmp_path / "out.jsonl")),
        ]
        least = 300_000
        first = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (least, resource.RLIM_INFINITY)),
        )
        arrived = server.stats()["arrivals"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        told = server.stats()
    assert (2, "Traceback" in first.stderr) == (first.returncode, False), first.stderr
    assert "calls.sqlite" in first.stderr and "make room on the disk" in first.stderr
    assert 0 < arrived < 400
    assert 0 == second.returncode, second.stderr
    # What was in the air when the disk was full is all that was paid twice.
    assert 400 == len(told["per_body"]) and told["arrivals"] <= 400 + 64


@pytest.mark.parametrize("place", ["folder/calls.sqlite", "taken/journal/calls.sqlite", "calls.sqlite"])
def test_a_place_where_no_journal_can_be_is_named(place: str, tmp_path: Path) -> None:
    """A folder in its place, a file in place of its folder, or a file of something else: one line each."""
    (tmp_path / "folder" / "calls.sqlite").mkdir(parents=True)
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "calls.sqlite").write_bytes(b"not a database at all, only text that is long enough" * 50)
    with pytest.raises(InputError, match=place) as caught:
        Journal(tmp_path / place)
    assert "\n" not in str(caught.value)


def test_a_broken_journal_is_named_and_not_overwritten(tmp_path: Path) -> None:
    """Pages of noise, or an answer cut short: the run ends with the name of the file, whose bytes stay."""
    path, asked = tmp_path / "calls.sqlite", requests(300)
    journal = Journal(path)
    call(Quick(), asked, journal=journal)
    journal.connection.execute("UPDATE answers SET response = substr(response, 1, 20) WHERE rowid = 7")
    with pytest.raises(InputError, match=r"calls\.sqlite: holds an answer that cannot be read"):
        call(Quick(), asked, journal=journal)
    journal.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal.close()
    data = bytearray(path.read_bytes())
    data[8192 : len(data) - 4096] = bytes(i * 7 % 256 for i in range(len(data) - 4096 - 8192))
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"calls\.sqlite: is no journal of calls, or is broken") as caught:
        journal = Journal(path)
        call(Quick(), asked, journal=journal)
    assert "\n" not in str(caught.value)
    assert bytes(data) == path.read_bytes()


# ---------------------------------------------------------------------------------------- two at once


def test_two_programs_may_write_into_one_journal(tmp_path: Path) -> None:
    """Both run the same plan at once: both end well, each answer is there once, and the file is whole."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "journal").symlink_to(tmp_path / "journal")
    (tmp_path / "journal").mkdir()
    running = [subprocess.Popen([sys.executable, str(PROGRAM), str(folder)]) for folder in folders]
    assert [0, 0] == [process.wait(timeout=60) for process in running]
    rows = sqlite3.connect(tmp_path / "journal" / "calls.sqlite")
    assert "ok" == rows.execute("PRAGMA integrity_check").fetchone()[0]
    assert (120, 120) == rows.execute("SELECT count(*), count(DISTINCT key) FROM answers").fetchone()
    for folder in folders:
        assert 120 == len((folder / "out.jsonl").read_text().splitlines())
    # A third run pays nothing.
    subprocess.run([sys.executable, str(PROGRAM), str(folders[0])], check=True, timeout=60)
    assert "120 120" in (folders[0] / "usage").read_text()


def test_what_another_program_has_answered_is_found(tmp_path: Path) -> None:
    """Two journals open on one file: after its first own commit, one sees all that the other has written."""
    path, asked = tmp_path / "calls.sqlite", requests(20)
    one, two = Journal(path), Journal(path)
    call(Quick(), asked[:15], journal=one)
    provider = Quick()
    call(provider, [asked[19]], journal=two)
    called = call(provider, asked, journal=two)
    assert ["r19", "r15", "r16", "r17", "r18"] == provider.asked
    assert 20 == len(called.responses)
