"""The engine under pressure: callers that go away, providers that break promises, caps, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from fault_server import serving
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.generation import calls
from karat.generation.asking import Asker
from karat.generation.base import Answered, Message, Price, Refused, Request, Response, Retryable
from karat.generation.calls import call, run, stream
from karat.generation.engine import Engine
from karat.generation.gathering import NoAnswer
from karat.generation.journal import Journal
from karat.generation.limits import Limits

PROGRAM = Path(__file__).with_name("interrupted.py")
KEYS = (
    "c9e57e6d0549de9b87dcdd3a59428eefafa3c8e2eb61a6bdc9308762f1447a30",
    "43b0c2b9ba131bdfe0a76f86ab0078d4f708361f92edfa297d5c5283dad2b10c",
    "6bbbb97ec290ca5210b866ef62d08f85969b8dd471d8a47ccb55c451a90ad691",
)


def request(name: str, seed: int = 0) -> Request:
    return Request(name, (Message("user", f"write {name}"),), seed=seed, max_tokens=10)


def requests(n: int) -> list[Request]:
    return [request(f"r{i}", i) for i in range(n)]


@dataclass
class Played:
    """Answers by a function of the request; counts what it is asked and what is in the air."""

    answer: Callable[[Request], Answered] = lambda r: Response(r.id, "yes", 4, 6, cost_usd=0.01)
    price_of: Callable[[Request], Price] = lambda r: Price(20, 0.02)
    batch_size: int = 1
    concurrency: int = 8
    delay: float = 0.001
    model: str = "played"
    asked: list[str] = field(default_factory=list)
    flying: int = 0
    closed: bool = False

    def price(self, request: Request) -> Price:
        return self.price_of(request)

    async def complete(self, batch: Sequence[Request]) -> list[Answered]:
        self.asked += [r.id for r in batch]
        self.flying += 1
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.flying -= 1
        found = [self.answer(r) for r in batch]
        if len(batch) == 1 and isinstance(found[0], Exception):
            raise found[0]
        return found

    async def close(self) -> None:
        self.closed = True


def within(work: Callable[[Engine], Coroutine[Any, Any, Any]], provider: Any, **limits: Any) -> Engine:
    """Run work with an engine, for at most 20 seconds; returns the engine as it ended."""
    kept: list[Engine] = []
    journal = limits.pop("journal", None)
    journal = Journal(None) if journal is None else journal

    async def go() -> None:
        async with Engine(provider, journal, Limits(**limits)) as engine:
            kept.append(engine)
            await asyncio.wait_for(work(engine), 20)

    run(go)
    return kept[0]


# ------------------------------------------------------------------------------- callers that go away


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_caller_that_goes_away_takes_no_answer_from_another(batch_size: int) -> None:
    """Two rows ask the same: the first gives up, the second has its answer all the same."""
    provider = Played(delay=0.05, batch_size=batch_size)

    async def work(engine: Engine) -> None:
        first = asyncio.create_task(engine.ask(request("a")))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(engine.ask(replace(request("a"), id="b")))
        await asyncio.sleep(0.01)
        first.cancel()
        assert "yes" == (await second).text
        assert first.cancelled()

    within(work, provider)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_callers_that_wait_for_money_and_go_away_leave_their_place(batch_size: int) -> None:
    """Rows that give up while they wait for the purse block no call that comes later."""
    provider = Played(delay=0.05, batch_size=batch_size, concurrency=2)

    async def work(engine: Engine) -> None:
        flying = asyncio.create_task(engine.ask(request("flies")))
        await asyncio.sleep(0.01)
        impatient = [asyncio.create_task(engine.ask(request(f"i{i}"))) for i in range(4)]
        await asyncio.sleep(0.01)
        for one in impatient:
            one.cancel()
        await flying
        for i in range(3):
            await asyncio.wait_for(engine.ask(request(f"later{i}")), 5)
        assert (0, 0) == (engine.gate.inflight, engine.purse._flying)  # type: ignore[attr-defined]

    # Not enough for what waits while the first flies. A batch is not taken apart for those who left.
    engine = within(work, provider, max_tokens=65 if batch_size == 1 else 95)
    assert (4 if batch_size == 1 else 8) == engine.usage().answers


def test_nothing_is_asked_for_rows_that_went_away() -> None:
    """A row that fails ends the run; the batches that waited behind it are not sent, nor paid."""
    provider = Played(delay=0.02, batch_size=2, concurrency=1)

    def sink(asked: Request, found: Response | str) -> None:
        raise KeyError("the sink is broken")

    with pytest.raises(KeyError, match="broken"):
        stream(provider, requests(40), sink, journal=Journal(None))
    assert len(provider.asked) <= 4
    assert (0, True) == (provider.flying, provider.closed)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_sink_that_breaks_leaves_nothing_in_the_air(batch_size: int, tmp_path: Path) -> None:
    """What was answered until then is in the journal; no call, task or connection stays behind."""
    provider, journal = Played(batch_size=batch_size), Journal(tmp_path / "calls.sqlite")
    seen = []

    def sink(asked: Request, found: Response | str) -> None:
        seen.append(asked.id)
        if len(seen) == 10:
            raise ValueError("the disk of the sink is full")

    before = threading.active_count()
    with pytest.raises(ValueError, match="disk of the sink"):
        stream(provider, requests(100), sink, journal=journal)
    assert 10 <= len(journal) < 100
    assert (0, True, before) == (provider.flying, provider.closed, threading.active_count())
    again = call(provider, requests(100), journal=journal)
    assert (100, "") == (len(again.responses), again.stopped)


def test_calls_that_a_row_started_and_left_are_still_written_down() -> None:
    """Of two calls at once one is refused, so that the row ends; the other is paid for and is kept."""

    def answer(r: Request) -> Answered:
        return Refused("no") if r.id == "bad" else Response(r.id, "yes", 4, 6, cost_usd=0.01)

    provider, journal = Played(answer), Journal(None)

    class Slow(Played):
        async def complete(self, batch: Sequence[Request]) -> list[Answered]:
            self.delay = 0.05 if batch[0].id == "good" else 0.001
            return await super().complete(batch)

    provider = Slow(answer)

    async def work(engine: Engine) -> None:
        async def row(_: int) -> None:
            with contextlib.suppress(NoAnswer):
                await asyncio.gather(engine.ask(request("bad")), engine.ask(request("good")))

        await engine.drive([1], row)

    engine = within(work, provider, journal=journal)
    assert 1 == len(journal) == engine.usage().answers
    assert 0 == provider.flying


# ------------------------------------------------------------------------ providers that break promises


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_bug_in_a_provider_is_told_and_takes_no_answer_away(batch_size: int, tmp_path: Path) -> None:
    """An exception that no provider should raise comes out as it is; answers before it are kept."""

    def answer(r: Request) -> Answered:
        if r.id == "r30":
            raise TypeError("unsupported operand: our own bug")
        return Response(r.id, "yes", 4, 6)

    provider = Played(answer, batch_size=batch_size, concurrency=2)
    with pytest.raises(TypeError, match="our own bug"):
        call(provider, requests(60), journal=(journal := Journal(tmp_path / "calls.sqlite")))
    assert 20 <= len(journal) < 60
    assert (0, True) == (provider.flying, provider.closed)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_provider_that_answers_too_few_is_named(batch_size: int) -> None:
    """An answer of the wrong length cannot be given to rows: the provider is named, and nothing hangs."""

    class Short(Played):
        async def complete(self, batch: Sequence[Request]) -> list[Answered]:
            return (await super().complete(batch))[:-1]

    with pytest.raises(Exception, match=rf"played gave {batch_size - 1} answers to {batch_size} requests"):
        call(Short(batch_size=batch_size), requests(8), journal=Journal(None))


# -------------------------------------------------------------------------------------------- caps


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_no_cap_is_passed_and_what_can_be_paid_is_done(data: st.DataObject) -> None:
    """Random prices, costs, faults (billed or not), caps, concurrency and batches, over two runs of a plan.

    What the server billed never passes the cap, in either unit. A run ends early only when the next call
    could not be paid for. Answers, money and tokens are those of the server's own books. Money is in
    sixty-fourths of a dollar, so that sums are exact.
    """
    n = data.draw(st.integers(1, 12))
    prices = data.draw(st.lists(st.integers(1, 40), min_size=n, max_size=n))
    shares = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    # Fewer than what makes a server be taken for dead.
    bad = st.lists(st.sampled_from(["free", "billed", "refused"]), min_size=1, max_size=2)
    broken = data.draw(st.dictionaries(st.integers(0, n - 1), bad, max_size=3))
    faults = [broken.get(i, []) for i in range(n)]
    cap = data.draw(st.integers(0, sum(prices) + 20))
    kind = data.draw(st.sampled_from(["usd", "tokens"]))
    whole = data.draw(st.booleans())  # faults of a whole batch or of rows alone
    books = {"usd": 0.0, "tokens": 0, "answers": 0}

    def bill(i: int, tokens: int) -> None:
        books["usd"] += tokens / 64
        books["tokens"] += tokens

    @dataclass
    class Bank(Played):
        rng: random.Random = field(default_factory=lambda: random.Random(0))

        async def complete(self, batch: Sequence[Request]) -> list[Answered]:
            await asyncio.sleep(self.rng.choice([0, 0, 0.0005]))
            found: list[Answered] = []
            numbers = [int(r.id[1:]) for r in batch]
            if whole and any(faults[i] for i in numbers):
                said = next(faults[i].pop(0) for i in numbers if faults[i])
                if said == "refused":
                    raise Refused("no")
                if said == "billed":
                    for i in numbers:
                        bill(i, prices[i])
                raise Retryable("later", after=0.0, billed=said == "billed")
            for r, i in zip(batch, numbers):
                said = faults[i].pop(0) if faults[i] else ""
                if said == "refused":
                    found.append(Refused("no"))
                elif said:
                    if said == "billed":
                        bill(i, prices[i])
                    found.append(Retryable("later", after=0.0, billed=said == "billed"))
                else:
                    tokens = prices[i] * shares[i] // 4
                    bill(i, tokens)
                    books["answers"] += 1
                    found.append(Response(r.id, "yes", tokens, 0, cost_usd=tokens / 64))
            if len(batch) == 1 and isinstance(found[0], Exception):
                raise found[0]
            return found

    provider = Bank(
        price_of=lambda r: Price(prices[int(r.id[1:])], prices[int(r.id[1:])] / 64),
        batch_size=data.draw(st.integers(1, 5)),
        concurrency=data.draw(st.integers(1, 4)),
    )
    journal = Journal(None)
    limits = Limits(
        max_usd=cap / 64 if kind == "usd" else None,
        max_tokens=cap if kind == "tokens" else None,
        retries=3,
        wait=0.0,
    )
    for turn in range(2):
        called = call(provider, requests(n), journal=journal, limits=limits)
        assert books["tokens"] <= cap, f"run {turn}"
        used = called.usage
        assert (books["tokens"], books["usd"]) == (
            used.tokens_in + used.tokens_out + used.lost_tokens,
            used.cost_usd + used.lost_usd,
        ), f"run {turn}"
        assert books["answers"] == used.answers == len(journal) == len(called.responses), f"run {turn}"
        left = {f"r{i}" for i in range(n)} - set(called.responses) - set(called.failures)
        if called.stopped:
            assert left and books["tokens"] + max(prices[int(name[1:])] for name in left) > cap
        else:
            assert not left


def test_a_plan_that_is_run_again_counts_the_whole_journal_before_it_pays() -> None:
    """A row without an answer before many that have one: the cap holds for both runs together."""
    journal, fails = Journal(None), {"r0", "r1"}

    def answer(r: Request) -> Answered:
        return Refused("no") if r.id in fails else Response(r.id, "yes", 4, 6, cost_usd=0.01)

    provider = Played(answer, concurrency=2)
    first = call(provider, requests(300), journal=journal, limits=Limits(max_usd=2.0))
    assert 1.98 <= first.usage.cost_usd <= 2.0
    fails.clear()
    again = call(provider, requests(300), journal=journal, limits=Limits(max_usd=2.0))
    assert 0.01 * len(journal) == pytest.approx(again.usage.cost_usd)
    assert again.usage.cost_usd <= 2.0


def test_attempts_lost_in_an_earlier_run_count_against_the_cap_of_the_next(tmp_path: Path) -> None:
    """Perhaps paid, never answered: a run killed and begun again has not forgotten; each is counted once."""
    lost = {"r0": 2, "r3": 1}

    def answer(r: Request) -> Answered:
        if lost.get(r.id, 0):
            lost[r.id] -= 1
            return Retryable("cut off", after=0.0, cause="timeout", billed=True)
        return Response(r.id, "yes", 4, 6, cost_usd=0.01)

    provider = Played(answer)
    asked = [*requests(6), request("r0", 0)]
    for _ in range(3):
        journal = Journal(tmp_path / "calls.sqlite")
        used = call(provider, asked, journal=journal, limits=Limits(wait=0.001)).usage
        assert (6, 3, 60) == (used.answers, used.lost, used.lost_tokens)
        assert 0.06 == pytest.approx(used.lost_usd)
        journal.close()
    journal = Journal(tmp_path / "calls.sqlite")
    called = call(provider, requests(7), journal=journal, limits=Limits(max_tokens=60 + 60 + 19))
    assert "max_tokens=139 is reached: 120 tokens spent" in called.stopped
    # Another plan in the same journal does not pay for it.
    assert 0 == call(provider, [request("other")], journal=journal).usage.lost


def test_rows_that_ask_the_same_are_paid_and_counted_once_in_every_run() -> None:
    """Twelve rows ask four questions: four calls, four answers counted, in the first run and in the next."""
    provider, journal = Played(), Journal(None)
    asked = [replace(request(f"q{i % 4}"), id=f"row{i}") for i in range(12)]
    first = call(provider, asked, journal=journal)
    again = call(provider, asked, journal=journal)
    assert (4, 12, 12) == (len(provider.asked), len(first.responses), len(again.responses))
    assert (4, 0, 4, 4) == (
        first.usage.answers,
        first.usage.reused,
        again.usage.answers,
        again.usage.reused,
    )
    assert first.usage.cost_usd == pytest.approx(again.usage.cost_usd)


def test_questions_asked_twice_in_turn_are_counted_once() -> None:
    """One asker, the same questions in a later turn: the sum is what the server was paid."""
    provider = Played()
    ask = Asker(provider, Journal(None), Limits())
    ask(requests(5))
    ask(requests(7))
    assert (7, 7) == (len(provider.asked), ask.usage.answers)
    assert 0.07 == pytest.approx(ask.usage.cost_usd)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_time_that_is_over_ends_also_who_waits(batch_size: int) -> None:
    """A server that wants an hour's pause does not hold a run that has half a second."""

    def answer(r: Request) -> Answered:
        if r.id == "r9":
            return Retryable("later", after=3600.0, cause="busy")
        return Response(r.id, "yes", 4, 6)

    begun = time.monotonic()
    called = call(
        Played(answer, batch_size=batch_size),
        requests(40),
        journal=Journal(None),
        limits=Limits(max_seconds=0.5),
    )
    assert "max_seconds=0.5 are over" in called.stopped
    assert 8 <= len(called.responses) < 40
    assert time.monotonic() - begun < 30


# ------------------------------------------------------------------------------ where it runs, what it leaves


def test_many_calls_one_after_the_other_leave_nothing_open(tmp_path: Path) -> None:
    """Threads, files and sockets are as many after forty runs as after the first."""
    process = psutil.Process()
    with serving() as server:
        from karat import registry

        def once(i: int) -> None:
            provider = registry.make("providers", f"openai_compatible:model=m,url={server.url}")
            journal = Journal(tmp_path / f"{i}.sqlite")
            assert 5 == len(call(provider, requests(5), journal=journal).responses)
            journal.close()

        def open_now() -> tuple[int, int]:
            gc.collect()
            mine = [c for c in process.net_connections() if c.raddr and c.raddr.port == server.port]
            return process.num_fds(), len([c for c in mine if c.status == "ESTABLISHED"])

        once(0)
        before, threads = open_now(), threading.active_count()
        for i in range(1, 41):
            once(i)
        after = open_now()
    assert after[0] <= before[0] + 2 and after[1] <= before[1]
    assert threading.active_count() <= threads + 1


def test_without_uvloop_the_loop_of_python_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the faster loop is not installed, or Python is too old for it, the same answers come."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert 5 == len(call(Played(), requests(5), journal=Journal(None)).responses)
    monkeypatch.undo()
    monkeypatch.delattr(asyncio, "Runner", raising=False)
    assert 5 == len(call(Played(), requests(5), journal=Journal(None)).responses)
    assert calls.run(lambda: asyncio.sleep(0, 7)) == 7


def interruptible() -> None:
    """A shell's background jobs ignore interrupts, and their children do too; ours must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _begun(process: subprocess.Popen[str], server: Any, least: int) -> int:
    """Wait until the server has seen so many calls; returns how many."""
    deadline = time.monotonic() + 60
    while server.stats()["arrivals"] < least and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    return int(server.stats()["arrivals"])


@pytest.mark.parametrize("executor", ["", "local:workers=2"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_ctrl_c_keeps_what_was_answered(loop: str, executor: str, tmp_path: Path) -> None:
    """The command line ends with code 3 and one line, leaves no process, and the same command goes on."""
    (tmp_path / "task.toml").write_text('type = "classification"\ndomain = "note"\nlabels = ["a", "b"]\n')
    hide = "import sys; sys.modules['uvloop'] = None; " if loop == "asyncio" else ""
    program = tmp_path / "main.py"
    program.write_text(
        f"{hide or 'import sys; '}\nfrom karat.cli import main\n"
        "if __name__ == '__main__':\n    sys.exit(main(sys.argv[1:]))\n"
    )
    with serving(latency=0.05) as server:
        command = [
            *(sys.executable, str(program), "generate", "--task", str(tmp_path / "task.toml")),
            *("--provider", f"openai_compatible:model=m,url={server.url}", "--n", "240"),
            *("--concurrency", "8"),
            *("--run", str(tmp_path / "run"), "--out", str(tmp_path / "out.jsonl")),
            *(("--executor", executor) if executor else ()),
        ]
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=interruptible,
        )
        _begun(process, server, 60)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= (2 if executor else 0)
        # From a terminal the interrupt comes to all processes of the group; elsewhere to the first only.
        (os.killpg if executor else os.kill)(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert (3, False) == (process.returncode, "Traceback" in said), said
        last = "karat: interrupted; what was finished is kept, and the same command continues"
        assert last == said.strip().splitlines()[-1]
        assert not psutil.wait_procs(children, timeout=10)[1], "a worker went on"
        before = server.stats()["arrivals"]
        time.sleep(0.2)
        assert before == server.stats()["arrivals"] < 240
        again = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert 0 == again.returncode, again.stderr
        told = server.stats()
    assert 240 == len(told["per_body"]) == len((tmp_path / "out.jsonl").read_text().splitlines())
    assert told["arrivals"] - 240 <= 8


def test_an_interrupt_in_a_notebook_ends_the_calls_too(tmp_path: Path) -> None:
    """The thread that works beside the running loop does not go on to spend money when its cell has ended."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said, wrong = process.communicate(timeout=30)
    last = said.strip().splitlines()[-1]
    assert "interrupted (0, 1, 0)" == last, (last, wrong)


def test_memory_does_not_grow_with_the_number_of_calls(tmp_path: Path) -> None:
    """Ten times the calls, through a journal on disk: the process stays as large as it was, to 8 MiB."""
    program = tmp_path / "stream.py"
    program.write_text(
        "import sys, resource; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_engine as t\n"
        "from karat.generation.base import Response\n"
        "class Quick(t.Played):\n"
        "    async def complete(self, batch):\n"
        "        await t.asyncio.sleep(0)\n"
        "        return [Response(r.id, 'text ' * 40, 4, 6, cost_usd=0.01) for r in batch]\n"
        "seen = [0]\n"
        "def sink(r, found): seen[0] += 1\n"
        "journal = t.Journal(Path(sys.argv[1]))\n"
        "for n in (3000, 30000):\n"
        "    seen[0] = 0\n"
        "    t.stream(Quick(), (t.request(f'r{i}', i) for i in range(n)), sink, journal=journal)\n"
        "    assert seen[0] == n\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "calls.sqlite")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    small, large = map(int, done.stdout.split())
    assert large - small <= 8 * 1024, (small, large)


def test_keys_are_those_of_journals_that_are_there() -> None:
    """The name of an answer on disk: fixed values, made with the first version of the journal."""
    plain = Request("a", (Message("system", "größe 😀"), Message("user", "x\ud83d")), seed=3)
    full = replace(
        plain,
        label="l",
        attributes={"b": "1", "a": "ü"},
        temperature=0.7,
        top_p=0.9,
        max_tokens=77,
        replicate=2,
        schema={"type": "object", "properties": {"z": {}, "a": {"type": "string"}}},
    )
    more = replace(full, logprobs=5, stop=("\n", "END"))
    assert KEYS == tuple(one.key("model@host") for one in (plain, full, more))


def test_what_only_lost_attempts_have_cost_counts_before_the_next_run_pays() -> None:
    """A run that paid for lost attempts and got no answer: the next one knows it before its first call."""
    billed = 0
    fails = {"r1": 9}

    def answer(r: Request) -> Answered:
        nonlocal billed
        if fails.get(r.id, 0):
            fails[r.id] -= 1
            billed += 10
            return Retryable("cut off", after=0.0, cause="answer", billed=True)
        billed += 10
        return Response(r.id, "yes", 4, 6)

    provider = Played(answer, price_of=lambda r: Price(10), concurrency=1)
    journal, limits = Journal(None), Limits(max_tokens=20, retries=1, wait=0.0)
    call(provider, requests(2)[1:], journal=journal, limits=limits)
    assert 20 == billed and 0 == len(journal)
    called = call(provider, requests(2), journal=journal, limits=limits)
    assert 20 == billed and "max_tokens=20 is reached" in called.stopped
