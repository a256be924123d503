"""The engine of calls: nothing is paid twice, no cap is passed, busy servers are asked again."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from karat import errors
from karat.generation.base import Message, Price, Refused, Request, Response, Retryable
from karat.generation.calls import call
from karat.generation.journal import Journal
from karat.generation.limits import Limits

PROGRAM = Path(__file__).with_name("killed.py")


def requests(n: int) -> list[Request]:
    return [
        Request(f"r{i}", (Message("user", f"write {i}"),), seed=i, index=i, max_tokens=10) for i in range(n)
    ]


@dataclass
class Scripted:
    """Answers all requests, except where a script says otherwise; counts what it is asked."""

    script: dict[str, list[BaseException]] = field(default_factory=dict)
    cost: float = 0.01
    batch_size: int = 1
    concurrency: int = 8
    model: str = "scripted"
    asked: list[str] = field(default_factory=list)
    flying: int = 0
    most_flying: int = 0

    def price(self, request: Request) -> Price:
        return Price(20, 0.02)

    async def complete(self, batch: Sequence[Request]) -> list[Response]:
        self.asked += [r.id for r in batch]
        self.flying += len(batch)
        self.most_flying = max(self.most_flying, self.flying)
        await asyncio.sleep(0.001)
        self.flying -= len(batch)
        for request in batch:
            if self.script.get(request.id):
                raise self.script[request.id].pop(0)
        return [Response(r.id, f"answer {r.id}", 4, 6, -1.5, "stop", self.cost, self.model) for r in batch]


def test_a_killed_run_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    """Killed half way by SIGKILL, the same command asks only for what was not stored, and loses no row."""
    log, journal = tmp_path / "calls.log", tmp_path / "journal" / "calls.sqlite"
    command = [sys.executable, str(PROGRAM), str(tmp_path)]
    process = subprocess.Popen(command)
    deadline = time.time() + 60
    while time.time() < deadline and (not log.exists() or len(log.read_text().split()) < 60):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    asked_before = log.read_text().split()
    stored = {
        row[0]
        for row in sqlite3.connect(journal).execute("SELECT json_extract(request, '$.id') FROM answers")
    }
    assert 60 <= len(asked_before) < 120
    # What was in flight when the kill came is all that may be lost.
    assert len(stored) >= len(asked_before) - 8
    subprocess.run(command, check=True, timeout=60)
    asked_again = log.read_text().split()[len(asked_before) :]
    assert 120 - len(stored) == len(asked_again)
    assert not stored & set(asked_again)
    reused, answers, cost = (tmp_path / "usage").read_text().split()
    assert (len(stored), 120) == (int(reused), int(answers))
    assert 0.12 == pytest.approx(float(cost))
    assert 120 == len((tmp_path / "out.jsonl").read_text().splitlines())


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_cap_in_dollars_is_never_passed(concurrency: int, batch_size: int) -> None:
    """Work in flight counts at its highest price, so that spending ends at or under the cap; all is kept."""
    provider, journal = Scripted(batch_size=batch_size), Journal(None)
    called = call(
        provider, requests(50), journal=journal, limits=Limits(max_usd=0.2, concurrency=concurrency)
    )
    assert 0.18 <= called.usage.cost_usd <= 0.2
    assert "max_usd=0.2 is reached" in called.stopped
    assert len(provider.asked) == len(called.responses) == len(journal)


def test_a_cap_in_tokens_is_never_passed_and_a_higher_one_goes_on() -> None:
    """The second call reuses all of the first, counts it against its cap, and finishes."""
    provider, journal = Scripted(), Journal(None)
    called = call(provider, requests(20), journal=journal, limits=Limits(max_tokens=100))
    assert called.usage.tokens_in + called.usage.tokens_out <= 100
    assert "max_tokens=100 is reached" in called.stopped
    again = call(provider, requests(20), journal=journal, limits=Limits(max_tokens=10_000))
    assert (len(called.responses), "") == (again.usage.reused, again.stopped)
    assert 20 == len(provider.asked) == len(set(provider.asked))


def test_busy_answers_are_tried_again_and_hopeless_ones_reported() -> None:
    """A retryable error is retried; a refusal costs its own row only, also within a batch."""
    script: dict[str, list[BaseException]] = {
        "r1": [Retryable("busy", after=0.0, cause="busy"), Retryable("busy", after=0.0, cause="busy")],
        "r2": [ConnectionError("reset")],
        "r7": [Refused("too long")] * 2,
    }
    limits = Limits(wait=0.001)
    called = call(Scripted(script, batch_size=3), requests(12), journal=Journal(None), limits=limits)
    assert {"r7": "refused by the provider: too long"} == called.failures
    assert 11 == len(called.responses)
    assert 3 == called.usage.retries


@dataclass
class Piecewise(Scripted):
    """The same, but what the script says stands in the place of the one answer."""

    async def complete(self, batch: Sequence[Request]) -> list[Response | Exception]:  # type: ignore[override]
        self.asked += [r.id for r in batch]
        await asyncio.sleep(0.001)
        found: list[Response | Exception] = []
        for r in batch:
            if self.script.get(r.id):
                error = self.script[r.id].pop(0)
                assert isinstance(error, Exception)
                found.append(error)
            else:
                found.append(Response(r.id, "yes", 4, 6, -1.5, "stop", self.cost, self.model))
        return found


def test_one_row_of_a_batch_may_fail_alone() -> None:
    """Others are not asked again; who comes too late joins later batches; the perhaps paid is counted."""
    script: dict[str, list[BaseException]] = {
        "r1": [Retryable("later", after=0.0)],
        "r2": [Retryable("cut", after=0.0, cause="answer", billed=True)],
        "r3": [Refused("too long")],
        "r4": [Retryable("never", after=0.0)] * 9,
    }
    provider, journal = Piecewise(script, batch_size=8, concurrency=1), Journal(None)
    called = call(provider, requests(16), journal=journal, limits=Limits(retries=2, wait=0.001))
    assert {f"r{i}" for i in range(16)} - {"r3", "r4"} == set(called.responses)
    assert {
        "r3": "refused by the provider: too long",
        "r4": "no answer after 3 tries: never",
    } == called.failures
    asked = {f"r{i}": provider.asked.count(f"r{i}") for i in range(16)}
    assert {"r1": 2, "r2": 2, "r4": 3} == {name: count for name, count in asked.items() if count > 1}
    assert (4, 1, 20, 0.02) == (
        called.usage.retries,
        called.usage.lost,
        called.usage.lost_tokens,
        called.usage.lost_usd,
    )
    key = requests(16)[2].key("scripted")
    assert (20, 0.02) == journal.lost([key])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_ends_all_leaves_the_others_of_its_batch(batch_size: int) -> None:
    """A hopeless error in the place of one answer: the rest of the batch is kept, and the run ends."""
    provider, journal = (
        Piecewise({"r2": [errors.ProviderError("no money")]}, batch_size=batch_size),
        Journal(None),
    )
    with pytest.raises(errors.ProviderError, match="no money"):
        call(provider, requests(4), journal=journal)
    assert 3 == len(journal)


def test_a_dead_server_ends_the_run_in_one_line() -> None:
    """When call after call fails for good, the run stops and says so instead of asking on for hours."""
    down = Retryable("down", after=0.0, cause="server")
    script: dict[str, list[BaseException]] = {f"r{i}": [down] * 9 for i in range(200)}
    provider = Scripted(script)
    with pytest.raises(errors.ProviderError, match=r"scripted gave no answer .*\(down\)"):
        call(provider, requests(200), journal=Journal(None), limits=Limits(retries=1, wait=0.001))
    assert len(provider.asked) < 60


def test_a_fatal_error_keeps_what_was_answered() -> None:
    """A provider error stops the run; the answers that came before it are in the journal."""
    journal = Journal(None)
    provider = Scripted({"r5": [errors.ProviderError("the key is not valid; set it")]}, concurrency=1)
    with pytest.raises(errors.ProviderError, match="key is not valid"):
        call(provider, requests(9), journal=journal)
    assert 5 == len(journal)


def test_concurrency_is_bounded_by_both_sides() -> None:
    """Never more calls at a time than the caller or the provider allows."""
    for limit, own in ((3, 8), (8, 2)):
        provider = Scripted(concurrency=own)
        call(provider, requests(30), journal=Journal(None), limits=Limits(concurrency=limit))
        assert min(limit, own) == provider.most_flying


def test_the_key_holds_all_that_may_change_the_answer() -> None:
    """Model, messages, label, attributes, parameters, seed, replicate make another key; the id does not."""
    base = Request("a", (Message("user", "x"),), "l", {"k": "v"}, 1.0, 1.0, 10, 1, 0)
    from dataclasses import replace

    others = [
        replace(base, messages=(Message("user", "y"),)),
        replace(base, messages=(Message("system", "x"),)),
        replace(base, label="m"),
        replace(base, attributes={"k": "w"}),
        replace(base, temperature=0.5),
        replace(base, top_p=0.5),
        replace(base, max_tokens=11),
        replace(base, seed=2),
        replace(base, replicate=1),
        replace(base, schema={"type": "object"}),
    ]
    assert len(others) + 2 == len({base.key("m"), base.key("n"), *(other.key("m") for other in others)})
    assert base.key("m") == replace(base, id="b", index=7).key("m")


def test_it_works_inside_a_running_loop() -> None:
    """A notebook has a loop already; the same call works there."""

    async def outside() -> int:
        return len(call(Scripted(), requests(5), journal=Journal(None)).responses)

    assert 5 == asyncio.run(outside())


def test_impossible_limits_are_refused() -> None:
    """A negative cap or no concurrency is the user's to mend."""
    with pytest.raises(errors.BadSetting, match="max_usd=-1"):
        Limits(max_usd=-1)
    with pytest.raises(errors.BadSetting, match="concurrency=0"):
        Limits(concurrency=0)
