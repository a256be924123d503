"""A plan split over workers: the same records, one purse, one rate, one journal, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest
from fault_server import serving

from karat import errors, registry
from karat.errors import KaratError
from karat.generation.base import Message, Price, Request, Response
from karat.generation.gate import Rates
from karat.generation.generated import Generated
from karat.generation.journal import Journal
from karat.generation.office import Desk, Office
from karat.generation.purse import OwnPurse
from karat.generation.stage import generate
from karat.generation.tasks import Attribute, Label, Task

TASK = Task(
    domain="note",
    labels=(Label("a"), Label("b")),
    attributes=(Attribute("tone", ("calm", "loud", "kind")), Attribute("place", ("sea", "hill", "town"))),
)
PROGRAM = Path(__file__).with_name("killed_remote.py")


def made(url: str, n: int, executor: Any = None, settings: str = "", **more: Any) -> Generated:
    """Generate at a server of the tests, with or without workers."""
    spec = f"openai_compatible:model=m,url={url}{settings}"
    placed = registry.make("executors", executor) if executor else None
    return generate(TASK, provider=spec, recipe="attributed", n=n, executor=placed, **more)


def test_two_workers_make_the_same_records_and_one_journal(tmp_path: Path) -> None:
    """Records, order and cost are those of one process; each request is sent once."""
    with serving(latency=0.005) as server:
        alone = made(server.url, 60, journal=tmp_path / "alone")
        server.reset()
        split = made(server.url, 60, "local:workers=2", journal=tmp_path / "split", concurrency=8)
        told = server.stats()
        assert 60 == told["arrivals"] == len(told["per_body"])
        again = made(server.url, 60, "local:workers=2", journal=tmp_path / "split")
        assert 60 == server.stats()["arrivals"] and 60 == again.usage.reused
    assert alone.records.fingerprint == split.records.fingerprint == again.records.fingerprint
    assert alone.records.ids == split.records.ids
    one, two = (r.usage for r in (alone, split))
    assert (one.tokens_in, one.tokens_out, one.answers) == (two.tokens_in, two.tokens_out, two.answers)
    assert 60 == len(Journal(tmp_path / "split" / "calls.sqlite"))


def test_the_cap_and_the_rate_are_those_of_all_workers_together(tmp_path: Path) -> None:
    """Two workers spend no more than the cap allows, and start no more calls a minute than one may."""
    settings = ",price_in=10,price_out=30"
    with serving(latency=0.002, price_in=10.0, price_out=30.0) as server:
        with pytest.raises(errors.BudgetSpent, match=r"max_usd=0\.1 is reached"):
            made(
                server.url,
                400,
                "local:workers=2",
                settings,
                max_usd=0.1,
                answer_tokens=100,
                journal=tmp_path,
            )
        assert 0.08 <= server.stats()["billed_usd"] <= 0.1
        server.reset()
        begun = time.monotonic()
        made(server.url, 40, "local:workers=2", requests_per_minute=600, seed=7)
        told = server.stats()
        assert 40 == told["arrivals"]
        # 40 calls at ten a second take 3.9 s; each worker for itself would be done in half of it.
        assert 3.5 <= told["last"] - told["first"] <= time.monotonic() - begun


def test_a_killed_run_of_two_workers_goes_on(tmp_path: Path) -> None:
    """The driver and its workers die at once; the next run repeats only what was in the air."""
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_scaleout import made\n"
        "if __name__ == '__main__':\n"
        "    folder = Path(sys.argv[2])\n"
        "    result = made(sys.argv[3], 200, 'local:workers=2', journal=folder, concurrency=8)\n"
        "    result.records.write(folder / 'out.jsonl')\n"
    )
    script = tmp_path / "run.py"
    script.write_text(program)
    with serving(latency=0.05) as server:
        command = [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path), server.url]
        process = subprocess.Popen(command, start_new_session=True)
        deadline = time.time() + 60
        while server.stats()["arrivals"] < 90 and time.time() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        seen = server.stats()["arrivals"]
        assert 90 <= seen < 200
        subprocess.run(command, check=True, timeout=120)
        told = server.stats()
    assert 200 == len(told["per_body"]) == len((tmp_path / "out.jsonl").read_text().splitlines())
    assert told["arrivals"] - 200 <= 8


def test_a_worker_of_ray_that_dies_loses_nothing(tmp_path: Path) -> None:
    """A killed worker's rows are taken up by another, which finds in the journal what was answered."""
    ray = pytest.importorskip("ray", reason="needs karat[ray]")
    with serving(latency=0.05) as server:
        log: dict[str, Any] = {}

        def killer() -> None:
            deadline = time.time() + 60
            while server.stats()["arrivals"] < 60 and time.time() < deadline:
                time.sleep(0.02)
            mine = _ray_workers()
            if mine:
                os.kill(mine[0], signal.SIGKILL)
                log["killed"] = mine[0]

        import threading

        thread = threading.Thread(target=killer)
        thread.start()
        result = made(server.url, 240, "ray:workers=2,cpus=0.5", journal=tmp_path, concurrency=8)
        thread.join()
        told = server.stats()
    assert not ray.is_initialized()
    assert log, "no worker was found to be killed"
    assert 240 == len(result.records) == len(told["per_body"])
    assert told["arrivals"] - 240 <= 8
    # The dead worker took no counts with it.
    assert 240 == result.usage.answers and told["tokens_out"] >= result.usage.tokens_out > 0


def _ray_workers() -> list[int]:
    """Processes of this user that run our shards under Ray."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::call") and b"IDLE" not in words:
            found.append(int(path.parent.name))
    return found


def test_journals_merge_without_duplicates(tmp_path: Path) -> None:
    """Runs on two machines are put together: each answer once, and lost attempts once."""
    requests = [Request(f"r{i}", (Message("user", f"write {i}"),), seed=i) for i in range(8)]
    one, two = Journal(tmp_path / "one.sqlite"), Journal(tmp_path / "two.sqlite")
    one.store((r.key("m"), r, Response(r.id, f"first {r.id}")) for r in requests[:5])
    two.store((r.key("m"), r, Response(r.id, f"second {r.id}")) for r in requests[3:])
    two.lose(requests[7].key("m"), 30, 0.1, "timeout")
    assert 3 == one.merge(tmp_path / "two.sqlite")
    assert 0 == one.merge(tmp_path / "two.sqlite")
    found = one.find([r.key("m") for r in requests])
    assert 8 == len(found) == len(one)
    assert "first r4" == found[requests[4].key("m")].text
    assert (30, 0.1) == one.lost([requests[7].key("m")])
    response, _ = one.recall(requests[7].key("m")) or (None, 0)
    assert response is not None and "second r7" == response.text
    (tmp_path / "text.sqlite").write_text("no database, but long enough to be looked at as one" * 20)
    with pytest.raises(errors.InputError, match="is no journal"):
        one.merge(tmp_path / "text.sqlite")


def test_an_office_opens_to_nobody_without_the_key(tmp_path: Path) -> None:
    """Another secret is turned away, and the office goes on; what a worker spent stays counted."""
    import asyncio
    from dataclasses import replace

    purse = OwnPurse(None, 1000)
    with Office(Journal(None), purse, Rates()) as office:
        with pytest.raises(AuthenticationError):
            Desk(replace(office.address, key=b"wrong"))

        async def worker() -> None:
            desk = Desk(office.address)
            assert "" == await desk.reserve(Price(600))
            assert "max_tokens=1000" in await _refused(desk)
            desk._connection.close()  # it dies with 600 tokens set aside

        async def _refused(desk: Desk) -> str:
            desk.settle(Price(600), 600, 0.0)
            return await desk.reserve(Price(600))

        asyncio.run(worker())
        assert "key" not in repr(office.address)
    assert 600 == purse.tokens


def test_a_worker_that_finds_no_office_says_where_it_looked() -> None:
    """The way to the driver may be closed: one line with the address."""
    from karat.generation.office import Address

    with pytest.raises(KaratError, match=r"cannot reach 127\.0\.0\.1:9"):
        Desk(Address("127.0.0.1", 9, b"k"))


def test_rows_in_the_journal_are_json(tmp_path: Path) -> None:
    """What workers send is kept in the same form as what one process keeps."""
    with serving() as server:
        made(server.url, 6, "local:workers=2", journal=tmp_path)
    rows = sqlite3.connect(tmp_path / "calls.sqlite").execute("SELECT request, response FROM answers")
    told = [(json.loads(request), json.loads(response)) for request, response in rows]
    assert 6 == len({request["id"] for request, _ in told}) and all(said["text"] for _, said in told)
