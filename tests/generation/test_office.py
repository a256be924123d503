"""The office and its workers: who comes without the key, says nothing, goes away or dies; what it costs."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import psutil
import pytest
from fault_server import serving
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.errors import InputError, KaratError
from karat.generation.base import Message, Price, Request, Response, Retryable
from karat.generation.engine import Engine
from karat.generation.gate import Rates
from karat.generation.journal import Journal
from karat.generation.limits import Limits
from karat.generation.office import Desk, Office
from karat.generation.purse import OwnPurse


def requests(n: int) -> list[Request]:
    return [Request(f"r{i}", (Message("user", f"write {i}"),), seed=i, max_tokens=10) for i in range(n)]


class Slow:
    """Answers after a moment, at a price that nobody knows."""

    batch_size, concurrency, model = 1, 8, "m"

    def __init__(self, delay: float = 0.01) -> None:
        self.delay = delay
        self.asked: list[str] = []

    def price(self, request: Request) -> Price:
        return Price(20, math.nan)

    async def complete(self, batch: Sequence[Request]) -> list[Response]:
        self.asked += [r.id for r in batch]
        await asyncio.sleep(self.delay)
        return [Response(r.id, "text", 4, 6) for r in batch]


def at_desk(office: Office, work: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    """Do a worker's work, for at most 20 seconds."""

    async def go() -> None:
        desk = Desk(office.address)
        try:
            await asyncio.wait_for(work(desk), 20)
        finally:
            await desk.close()

    asyncio.run(go())


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_who_says_nothing_stops_nobody() -> None:
    """Connections that never show a key, or send noise, keep no worker out and do not hold up the end."""
    with Office(Journal(None), OwnPurse(None, None), Rates()) as office:
        place = (office.address.host, office.address.port)
        silent = [socket.create_connection(place) for _ in range(70)]
        noisy = socket.create_connection(place)
        noisy.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)

        async def work(desk: Desk) -> None:
            assert "" == await desk.reserve(Price(10, 0.1))
            desk.settle(Price(10, 0.1), 10, 0.1)

        at_desk(office, work)
        assert until(lambda: office.purse.tokens == 10)
    assert not office._thread.is_alive()
    for one in (*silent, noisy):
        one.close()


def test_a_worker_that_does_not_listen_stops_no_other() -> None:
    """One asks for more than its line can hold and does not read it (its machine stands still)."""
    journal, asked = Journal(None), requests(300)
    journal.store((r.key("m"), r, Response(r.id, "x" * 100_000)) for r in asked)
    with Office(journal, OwnPurse(None, None), Rates()) as office:
        deaf = Client((office.address.host, office.address.port), authkey=office.address.key)
        deaf.send([("look", r.key("m"), 0.0) for r in asked])
        time.sleep(0.3)

        async def work(desk: Desk) -> None:
            found = await desk.look(asked[0].key("m"), 0.0)
            assert found is not None and found.response is not None

        at_desk(office, work)
    deaf.close()


def test_prices_that_nobody_knows_are_settled_like_others() -> None:
    """Not a number is not equal to itself: a worker of an unpriced model works all the same."""
    provider, purse = Slow(), OwnPurse(None, 1000)
    with Office(Journal(None), purse, Rates()) as office:

        async def work(desk: Desk) -> None:
            async with Engine(provider, Journal(None), Limits(), desk=desk) as engine:
                for r in requests(5):
                    await engine.ask(r)

        at_desk_closed(office, work)
        assert until(lambda: purse._flying == 0)
    assert (50, 0.0) == (purse.tokens, purse.usd)


def at_desk_closed(office: Office, work: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    """The same, where the engine closes the desk."""
    asyncio.run(asyncio.wait_for(work(Desk(office.address)), 20))


def test_rows_of_a_worker_that_ask_the_same_make_one_call() -> None:
    """Also while the office is asked whether it knows the answer."""
    provider, journal = Slow(), Journal(None)
    with Office(journal, OwnPurse(None, None), Rates()) as office:

        async def work(desk: Desk) -> None:
            async with Engine(provider, Journal(None), Limits(), desk=desk) as engine:
                (same,) = requests(1)
                await asyncio.gather(*(engine.ask(same) for _ in range(6)))

        at_desk_closed(office, work)
    assert (1, 1, 1) == (len(provider.asked), len(journal), office.usage.answers)


def test_money_reserved_for_who_went_away_comes_back() -> None:
    """A call cancelled while the office says yes leaves nothing set aside."""
    purse = OwnPurse(None, 100)
    with Office(Journal(None), purse, Rates()) as office:

        async def work(desk: Desk) -> None:
            for _ in range(20):
                task = asyncio.create_task(desk.reserve(Price(60)))
                await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                if not task.cancelled() and task.exception() is None:
                    desk.settle(Price(60), 0, 0.0)
            assert "" == await asyncio.wait_for(desk.reserve(Price(100)), 5)
            desk.settle(Price(100), 100, 0.0)

        at_desk(office, work)
    assert (100, 0) == (purse.tokens, purse._flying)


def test_what_a_dead_worker_had_set_aside_counts_as_spent() -> None:
    """In the purse, so that the cap holds, and in the usage, so that the user is told."""
    purse = OwnPurse(1.0, None)
    with Office(Journal(None), purse, Rates()) as office:
        dead = Client((office.address.host, office.address.port), authkey=office.address.key)
        dead.send([("reserve", Price(30, 0.25)), ("reserve", Price(40, 0.5))])
        assert [None, None] == dead.recv()
        dead.close()
        assert until(lambda: purse.usd == 0.75)
    assert (2, 70, 0.75) == (office.usage.lost, office.usage.lost_tokens, office.usage.lost_usd)
    assert 0 == purse._flying


def test_a_worker_tells_why_the_office_cannot_write(tmp_path: Path) -> None:
    """The journal's disk is full: the worker raises that, and not that its run is gone."""
    journal = Journal(tmp_path / "calls.sqlite")
    journal.connection.execute("PRAGMA query_only=ON")
    with Office(journal, OwnPurse(None, None), Rates()) as office:

        async def work(desk: Desk) -> None:
            async with Engine(Slow(), Journal(None), Limits(), desk=desk) as engine:
                await engine.ask(requests(1)[0])

        with pytest.raises(InputError, match=r"calls\.sqlite: attempt to write a readonly"):
            at_desk_closed(office, work)


def test_a_worker_whose_run_has_ended_says_so() -> None:
    """The office goes while calls fly: one line, soon, and no call after it."""
    provider = Slow(0.05)

    async def work(desk: Desk) -> None:
        async with Engine(provider, Journal(None), Limits(), desk=desk) as engine:

            async def one(r: Request) -> None:
                await engine.ask(r)

            asyncio.get_running_loop().call_later(0.12, office.__exit__)
            await engine.drive(requests(10_000), one)

    with (
        Office(Journal(None), OwnPurse(None, None), Rates()) as office,
        pytest.raises(KaratError, match="the run that this worker belongs to has ended"),
    ):
        at_desk_closed(office, work)
    assert len(provider.asked) < 200


def test_no_worker_outlives_its_driver(tmp_path: Path) -> None:
    """The driver alone is killed: its workers end, and the server hears no more of them."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_scaleout import made\n"
        "if __name__ == '__main__':\n"
        "    made(sys.argv[3], 2000, 'local:workers=2', journal=Path(sys.argv[2]), concurrency=8)\n"
    )
    with serving(latency=0.05) as server:
        command = [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path), server.url]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert until(lambda: server.stats()["arrivals"] > 40)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        os.kill(process.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=30)
        alive = psutil.wait_procs(workers, timeout=20)[1]
        for one in alive:
            one.kill()
        assert not alive
        assert "Traceback" not in said, said
        before = server.stats()["arrivals"]
        time.sleep(0.2)
        assert before == server.stats()["arrivals"] < 2000


def test_workers_count_lost_attempts_as_the_journal_does(tmp_path: Path) -> None:
    """Answers cut off after they were paid: split or not, run once or again, the sums are those on disk."""
    from test_scaleout import made

    with serving(latency=0.001, rate=0.3, kinds=("truncated",), seed=5, faulty_arrivals=1) as server:
        first = made(server.url, 60, "local:workers=2", journal=tmp_path)
    rows = sqlite3.connect(tmp_path / "calls.sqlite").execute("SELECT count(*), total(tokens) FROM lost")
    count, tokens = rows.fetchone()
    assert count > 5
    assert (count, tokens) == (first.usage.lost, first.usage.lost_tokens)
    again = made(server.url, 60, "local:workers=2", journal=tmp_path)
    assert (60, count, tokens) == (again.usage.reused, again.usage.lost, again.usage.lost_tokens)
    alone = made(server.url, 60, journal=tmp_path)
    assert (60, count, tokens) == (alone.usage.reused, alone.usage.lost, alone.usage.lost_tokens)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_workers_together_pass_no_cap(data: st.DataObject) -> None:
    """Random prices, costs, faults and caps, two workers at once, one of which may go away in the middle.

    What the server billed never passes the cap, and the office's sums are the server's. A run that ends early
    could not have paid for the next call of either worker.
    """
    n = data.draw(st.integers(2, 16))
    prices = data.draw(st.lists(st.integers(1, 40), min_size=n, max_size=n))
    shares = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    broken = data.draw(st.dictionaries(st.integers(0, n - 1), st.booleans(), max_size=3))
    cap = data.draw(st.integers(0, sum(prices) + 20))
    leaves = data.draw(st.booleans())
    billed = {"tokens": 0, "answers": 0}

    class Bank(Slow):
        concurrency = 3

        def price(self, request: Request) -> Price:
            return Price(prices[request.seed], prices[request.seed] / 64)

        async def complete(self, batch: Sequence[Request]) -> list[Response]:
            (r,) = batch
            await asyncio.sleep(0.001)
            if r.seed in broken:
                paid = broken.pop(r.seed)
                billed["tokens"] += prices[r.seed] if paid else 0
                raise Retryable("later", after=0.0, billed=paid)
            tokens = prices[r.seed] * shares[r.seed] // 4
            billed["tokens"] += tokens
            billed["answers"] += 1
            return [Response(r.id, "text", tokens, 0, cost_usd=tokens / 64)]

    journal, purse, done = Journal(None), OwnPurse(cap / 64, None), []

    async def worker(office: Office, rows: list[Request], breaks: bool) -> str:
        async with Engine(Bank(), Journal(None), Limits(wait=0.0), desk=Desk(office.address)) as engine:

            async def one(r: Request) -> None:
                await engine.ask(r)
                done.append(r)
                if breaks and len(done) > n // 3:
                    raise LookupError("this worker breaks")

            await engine.drive(rows, one)
        return engine.stopped

    async def both(office: Office) -> list[Any]:
        split = (requests(n)[::2], requests(n)[1::2])
        work = [worker(office, rows, leaves and i == 0) for i, rows in enumerate(split)]
        return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 30)

    with Office(journal, purse, Rates()) as office:
        ended = asyncio.run(both(office))
        assert until(lambda: not office._open)
    assert all(isinstance(one, str | LookupError) for one in ended), ended
    assert billed["tokens"] <= cap
    used = office.usage
    # What was in the air when a worker broke may have been paid for; nobody knows.
    spent = used.tokens_in + used.tokens_out + used.lost_tokens
    assert spent == purse.tokens and (spent == billed["tokens"] or leaves)
    assert 0 == purse._flying and abs(purse._flying_usd) == 0.0
    if not any(isinstance(one, LookupError) or one for one in ended):
        assert n == billed["answers"] == used.answers == len(journal)
    elif not any(isinstance(one, LookupError) for one in ended):
        left = {r.seed for r in requests(n)} - {r.seed for r in done}
        assert billed["tokens"] + max(prices[i] for i in left) > cap
