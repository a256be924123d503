"""The batch files API against a server of our own: nothing is handed in twice, whatever happens when."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer, batching

from karat import registry
from karat.errors import BadSetting, BudgetSpent, ProviderError
from karat.generation.base import Message, Refused, Request, Response, Retryable, identity
from karat.generation.batches import KEPT, Ledger, Sent
from karat.generation.calls import call
from karat.generation.generated import Generated
from karat.generation.journal import Journal
from karat.generation.limits import Limits
from karat.generation.prices import known
from karat.generation.providers.openai_batch import OpenaiBatch
from karat.generation.providers.openai_compatible import OpenaiCompatible
from karat.generation.stage import generate
from karat.generation.tasks import Label, Task

PROGRAM = Path(__file__).with_name("killed_batch.py")
TASK = Task(domain="note", labels=(Label("a"), Label("b")))
KEY = "sk-test-0123456789abcdef0123"
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's owner has set is no matter here."""
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with batching(delay=0.05) as running:
        yield running


def provider(server: BatchServer, folder: Path | None = None, **settings: Any) -> OpenaiBatch:
    """One that looks often, and keeps its state in a folder."""
    made = OpenaiBatch("m", server.url, **{"poll": 0.02, **settings})
    if folder is not None:
        made.keep(folder)
    return made


def request(number: int, text: str = "Write a note.", **settings: Any) -> Request:
    return Request(
        f"r{number}",
        (Message("user", f"{text} ({number})"),),
        **{"max_tokens": 64, "seed": number, **settings},
    )


def ask(source: OpenaiBatch, requests: Sequence[Request]) -> list[Response | Exception]:
    """What stands for each request, in a loop of its own that is closed in order."""

    async def work() -> list[Response | Exception]:
        try:
            return list(await source.complete(requests))
        finally:
            await source.close()

    return asyncio.run(work())


def kinds(found: Sequence[Response | Exception]) -> list[str]:
    return [type(one).__name__ for one in found]


def state(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "batches").glob("*.json"))]


# ------------------------------------------------------------------------------------------ answers


def test_answers_come_back_in_order_at_half_the_price(server: BatchServer) -> None:
    """Each row has the answer to its own prompt, whatever the file's order; the table's batch price holds."""
    server.fault.script = tuple((f"({i})", f"Größe 😀 {i}") for i in range(7))
    source = provider(server, batch_size=3, price_in=2.0, price_out=8.0)
    found = ask(source, [request(i) for i in range(7)])
    assert [f"Größe 😀 {i}" for i in range(7)] == [one.text for one in found if isinstance(one, Response)]
    assert 3 == len(server.batches), "7 rows in files of 3"
    tokens_in, tokens_out = server.tokens
    cost = sum(one.cost_usd for one in found if isinstance(one, Response))
    assert (tokens_in * 2 + tokens_out * 8) / 1e6 == pytest.approx(cost)
    full, half = known("gpt-4o-mini"), OpenaiBatch("gpt-4o-mini").known_price
    assert full is not None and half is not None
    assert (full.tokens_in / 2, full.tokens_out / 2) == (half.tokens_in, half.tokens_out)
    dear = OpenaiCompatible("gpt-4o-mini").price(request(1))
    assert dear.usd / 2 == pytest.approx(OpenaiBatch("gpt-4o-mini").price(request(1)).usd)


def test_bodies_are_those_of_single_calls(server: BatchServer) -> None:
    """Schema, log-probabilities, seed and further fields stand in the file as they do in a call."""
    source = provider(server, body='{"top_k": 40}')
    asked = [request(1, schema=SCHEMA, logprobs=3), request(2, stop=("END",), replicate=1)]
    first, second = ask(source, asked)
    bodies = {body["messages"][0]["content"][-2]: body for body in server.bodies.values()}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    assert wanted == bodies["1"]["response_format"]
    assert (True, 3, 40) == tuple(bodies["1"][name] for name in ("logprobs", "top_logprobs", "top_k"))
    assert (["END"], asked[1].draw_seed) == (bodies["2"]["stop"], bodies["2"]["seed"])
    assert isinstance(first, Response) and isinstance(second, Response)
    assert {"text"} == set(json.loads(first.text))
    assert ("yes", -0.5) == first.alternatives[0] and -0.5 == first.logprob
    assert {"karat"} == set(next(iter(server.batches.values()))["metadata"])
    alike = OpenaiCompatible("m", server.url, body='{"top_k": 40}')
    assert identity(alike) == identity(source), "the answers of both may stand for each other"


def test_files_go_up_as_forms_do(server: BatchServer) -> None:
    """The form is read by the standard library as its two fields, and by nobody as anything else."""
    ask(provider(server), [request(1, "Größe 😀 --\r\n")])
    kind, data = server.uploaded
    form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data, policy=policy.HTTP)
    fields = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
    assert ["purpose", "file"] == list(fields)
    assert "batch" == fields["purpose"].get_payload()
    assert "karat.jsonl" == fields["file"].get_filename()
    (line,) = (json.loads(line) for line in fields["file"].get_payload(decode=True).splitlines())
    assert {"custom_id", "method", "url", "body"} == set(line)
    assert "Größe 😀 --\r\n (1)" == line["body"]["messages"][0]["content"]


def test_the_server_of_these_tests_speaks_as_openai_does(server: BatchServer, tmp_path: Path) -> None:
    """OpenAI's own client works with it, and finds the batches that we made."""
    openai = pytest.importorskip("openai", reason="the package openai is not installed")
    asked = [request(i) for i in range(3)]
    ask(provider(server, tmp_path), asked)
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    (batch,) = client.batches.list().data
    assert ("completed", "/v1/chat/completions") == (batch.status, batch.endpoint)
    assert batch.metadata == {"karat": state(tmp_path)[0]["digest"]}
    whole = client.files.content(batch.output_file_id).text.splitlines()
    assert {one.key(provider(server).identity) for one in asked} == {
        json.loads(x)["custom_id"] for x in whole
    }
    # What it hands in of the same rows is the same to the server.
    file = client.files.create(file=("x.jsonl", server.files[batch.input_file_id]), purpose="batch")
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert server.rows(file.id) == server.rows(batch.input_file_id)
    assert "in_progress" == made.status


def test_a_file_is_not_larger_than_it_may_be(server: BatchServer) -> None:
    """Rows are also split by bytes."""
    found = ask(provider(server, file_bytes=4096), [request(i, "x" * 1000) for i in range(9)])
    assert ["Response"] * 9 == kinds(found)
    sent = [data for name, data in server.files.items() if name.removeprefix("file-").isdigit()]
    assert 3 == len(sent) and max(map(len, sent)) <= 4096


def test_one_bad_row_costs_one_row(server: BatchServer, tmp_path: Path) -> None:
    """Through the engine: a refused row has a reason, a busy one is sent again, all others are there."""
    asked = [request(i, "POISON" if i == 3 else "BUSY" if i == 5 else "Hi") for i in range(10)]
    store = Journal(tmp_path / "calls.sqlite")
    called = call(
        provider(server, tmp_path), asked, journal=store, limits=Limits(wait=0.01, longest_wait=0.02)
    )
    assert {f"r{i}" for i in range(10)} - {"r3"} == set(called.responses)
    assert "refused by the provider: this prompt cannot be answered" == called.failures["r3"]
    assert [10, 1] == [len(server.rows(b["input_file_id"])) for b in server.batches.values()]
    assert 1 == called.usage.retries
    # The refusal is kept too: another run hands in nothing.
    again = call(provider(server, tmp_path), asked, journal=store)
    assert called.failures == again.failures and 9 == again.usage.reused
    assert 2 == len(server.batches)


def test_how_the_server_wants_to_be_asked_is_learned(server: BatchServer, tmp_path: Path) -> None:
    """A server that refuses a field of all rows is asked otherwise, and every row is answered."""
    server.fault.max_tokens_field, server.fault.structured = "max_completion_tokens", ("json_object",)
    asked = [request(i, schema=SCHEMA) for i in range(4)]
    called = call(
        provider(server, tmp_path), asked, journal=Journal(None), limits=Limits(wait=0.01, longest_wait=0.02)
    )
    assert 4 == len(called.responses) and not called.failures
    assert all(body["response_format"] == {"type": "json_object"} for body in server.bodies.values())
    assert all("max_tokens" not in body for body in server.bodies.values())


# ---------------------------------------------------------------------- batches that end otherwise


def test_an_expired_batch_gives_what_it_has(server: BatchServer, tmp_path: Path) -> None:
    """Rows that were answered are taken, the others are in the next batch, and none is asked twice."""
    server.expires = {1}
    asked = [request(i) for i in range(10)]
    source = provider(server, tmp_path)
    first = ask(source, asked)
    assert ["Response"] * 5 + ["Retryable"] * 5 == kinds(first)
    assert not any(one.billed for one in first if isinstance(one, Retryable))
    assert ["Response"] * 10 == kinds(ask(source, asked))
    assert [10, 5] == [len(server.rows(b["input_file_id"])) for b in server.batches.values()]


def test_a_cancelled_batch_ends_the_run_and_the_next_goes_on(server: BatchServer, tmp_path: Path) -> None:
    """What a cancelled batch had answered is in the journal; the error says so; the same command goes on."""
    server.cancels = {1}
    asked = [request(i) for i in range(10)]
    store = Journal(tmp_path / "calls.sqlite")
    with pytest.raises(ProviderError, match="batch_1 was cancelled at the server") as caught:
        call(provider(server, tmp_path), asked, journal=store)
    assert "\n" not in str(caught.value)
    assert 5 == len(store)
    called = call(provider(server, tmp_path), asked, journal=store)
    assert 10 == len(called.responses) and 5 == called.usage.reused
    assert [10, 5] == [len(server.rows(b["input_file_id"])) for b in server.batches.values()]


def test_a_failed_batch_says_why(server: BatchServer, tmp_path: Path) -> None:
    """The server's own words in one line, and nothing is kept of it."""
    server.fails = {1: ("invalid_json_line", "This line is not parseable.")}
    with pytest.raises(ProviderError, match="batch_1 failed: invalid_json_line: This line is not") as caught:
        call(provider(server, tmp_path), [request(1)], journal=Journal(None))
    assert "\n" not in str(caught.value)
    assert [] == state(tmp_path)
    assert 1 == len(call(provider(server, tmp_path), [request(1)], journal=Journal(None)).responses)


def test_a_full_queue_is_waited_for(server: BatchServer, tmp_path: Path) -> None:
    """The limit of enqueued tokens: the same rows are handed in again, and the engine hears nothing of it."""
    server.fails = {1: ("token_limit_exceeded", "Enqueued token limit reached for m.")}
    found = ask(provider(server, tmp_path, poll=0.01), [request(i) for i in range(4)])
    assert ["Response"] * 4 == kinds(found)
    assert 2 == len(server.batches) and {1} == set(server.submitted.values())


def test_a_batch_too_large_for_the_queue_is_halved(server: BatchServer, tmp_path: Path) -> None:
    """Where nothing of ours is in the queue and a batch has still no room, its halves have."""
    server.most_rows = 3
    found = ask(provider(server, tmp_path, poll=0.005), [request(i) for i in range(8)])
    assert ["Response"] * 8 == kinds(found)
    assert {1} == set(server.submitted.values()) and 8 == len(server.submitted)


def test_lost_and_unreadable_lines_are_counted_and_asked_again(server: BatchServer, tmp_path: Path) -> None:
    """A line that is missing or holds no answer was perhaps paid for: it counts against the caps."""
    server.loses, server.garbles = {1}, {2}
    called = call(
        provider(server, tmp_path, price_in=1.0, price_out=1.0),
        [request(i) for i in range(6)],
        journal=Journal(None),
        limits=Limits(wait=0.01, longest_wait=0.02),
    )
    assert 6 == len(called.responses)
    assert 2 == called.usage.lost and called.usage.lost_usd > 0
    assert [6, 1, 1] == [len(server.rows(b["input_file_id"])) for b in server.batches.values()]


def test_a_create_whose_answer_was_lost_is_found(server: BatchServer, tmp_path: Path) -> None:
    """The server made the batch and the connection broke: it is found by its digest, not made again."""
    server.drops_create = 1
    assert ["Response"] * 5 == kinds(ask(provider(server, tmp_path), [request(i) for i in range(5)]))
    assert 1 == len(server.batches)


def test_a_server_that_keeps_no_list_will_do(server: BatchServer, tmp_path: Path) -> None:
    """Not every server can list its batches."""
    server.lists = False
    assert ["Response"] * 5 == kinds(ask(provider(server, tmp_path), [request(i) for i in range(5)]))


def test_a_server_that_is_away_for_a_while_is_waited_for(server: BatchServer, tmp_path: Path) -> None:
    """Looks that fail lose nothing; a server that is away for good is told of, and the batch stays noted."""
    server.delay = 0.3

    async def work(back: bool) -> list[Response | Exception]:
        source = provider(server, tmp_path, poll=0.01)
        task = asyncio.ensure_future(source.complete([request(1), request(2)]))
        try:
            while (
                not server.seen["GET v1/batches"]
                or len(server.batches) < 1
                or not state(tmp_path)[0]["batch"]
            ):
                await asyncio.sleep(0.005)
            server.down = True
            await asyncio.sleep(0.05)
            server.down = not back
            return list(await task)
        finally:
            await source.close()

    with pytest.raises(ProviderError, match="what was handed in stays noted"):
        asyncio.run(work(False))
    server.down = False
    assert ["Response"] * 2 == kinds(asyncio.run(work(True)))
    assert 1 == len(server.batches)


# ----------------------------------------------------------------------------------- kills and state


MOMENTS = {
    "after the upload": ("upload", {"upload": 30.0}),
    "after the batch was made": ("create", {"create": 30.0}),
    "while waiting": ("poll", {}),
    "while the answers come": ("download", {"download": 30.0}),
}


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_a_kill_hands_nothing_in_twice(moment: str, tmp_path: Path) -> None:
    """Killed with SIGKILL and run again: each row was in one batch, and all records are there."""
    phase, hold = MOMENTS[moment]
    with batching(delay=0.4) as server:
        command = [sys.executable, str(PROGRAM), str(tmp_path), server.url, "40", "8"]
        for _ in range(2):
            server.hold = dict(hold)
            before = server.started[phase]
            process = subprocess.Popen(command)
            deadline = time.time() + 60
            while server.started[phase] <= before and process.poll() is None and time.time() < deadline:
                time.sleep(0.005)
            assert process.poll() is None, "it ended before it could be killed"
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        server.hold = {}
        subprocess.run(command, check=True, timeout=120)
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert 40 == len(records) == len({record["id"] for record in records})
        assert 40 == len(server.submitted)
        assert {1} == set(server.submitted.values()), "a row was handed in twice"
        done = json.loads((tmp_path / "done.json").read_text())
        assert 40 == done["usage"]["answers"] and 0 == done["usage"]["lost"]
        assert sum(server.tokens) == done["usage"]["tokens_in"] + done["usage"]["tokens_out"]


def test_an_interrupt_cancels_nothing(tmp_path: Path) -> None:
    """Ctrl-C while batches are under way: the server is told nothing, and the next run takes the answers."""
    with batching(delay=1.0) as server:
        command = [sys.executable, str(PROGRAM), str(tmp_path), server.url, "16", "8"]
        process = subprocess.Popen(
            command,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        )
        while server.started["poll"] < 2 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert 0 != process.wait(timeout=30)
        asked = dict(server.seen)
        subprocess.run(command, check=True, timeout=60)
        assert {"POST /v1/files", "POST /v1/batches", "GET v1/batches"} == set(asked)
        assert 2 == len(server.batches) and {1} == set(server.submitted.values())


def test_who_waits_too_long_may_wait_on(server: BatchServer, tmp_path: Path) -> None:
    """At the time-out the run ends and says how to go on; the batch stays noted and is not made again."""
    server.delay = 0.4
    asked = [request(1), request(2)]
    with pytest.raises(ProviderError, match="longer timeout"):
        ask(provider(server, tmp_path, timeout=0.1 / 3600 * 2), asked)
    assert ["Response"] * 2 == kinds(ask(provider(server, tmp_path), asked))
    assert 1 == len(server.batches)


def test_workers_share_a_folder(server: BatchServer, tmp_path: Path) -> None:
    """A plan split over two processes: each has its own batches, and no row is in two."""
    result = made(
        server, 40, ",batch_size=8", journal=tmp_path, executor=registry.make("executors", "local:workers=2")
    )
    assert 40 == len(result.records)
    assert {1} == set(server.submitted.values()) and 40 == len(server.submitted)


def test_without_a_folder_the_server_remembers(server: BatchServer) -> None:
    """A run without a journal that ended in the middle: the same rows are found at the server."""
    asked = [request(i) for i in range(6)]

    async def left() -> None:
        source = provider(server)
        task = asyncio.ensure_future(source.complete(asked))
        while not server.batches:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()

    asyncio.run(left())
    assert ["Response"] * 6 == kinds(ask(provider(server), asked))
    assert 1 == len(server.batches)


def test_rows_are_found_in_any_company(server: BatchServer, tmp_path: Path) -> None:
    """After an interrupt, other groups of the same rows and new ones: only the new ones are handed in."""
    server.delay = 0.3

    async def left() -> None:
        source = provider(server, tmp_path, batch_size=4)
        task = asyncio.ensure_future(source.complete([request(i) for i in range(8)]))
        while [True, True] != [bool(one["batch"]) for one in state(tmp_path)]:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()

    asyncio.run(left())
    found = ask(provider(server, tmp_path), [request(i) for i in (9, 7, 1, 8, 4)])
    assert ["Response"] * 5 == kinds(found)
    assert [4, 4, 2] == [len(server.rows(b["input_file_id"])) for b in server.batches.values()]
    assert ["Response"] * 10 == kinds(ask(provider(server, tmp_path), [request(i) for i in range(10)]))
    assert {1} == set(server.submitted.values()) and 10 == len(server.submitted)


def test_another_seed_is_handed_in_anew(server: BatchServer, tmp_path: Path) -> None:
    """The state of other settings takes nothing away from these."""
    spec = f"openai_batch:model=m,url={server.url},poll=0.02"
    for seed in (0, 1, 0):
        made = generate(TASK, provider=spec, n=6, seed=seed, journal=tmp_path)
        assert 6 == len(made.records)
    assert 12 == len(server.submitted) and {1} == set(server.submitted.values())


def test_state_goes_when_the_journal_has_the_answers(server: BatchServer, tmp_path: Path) -> None:
    """Marked when a run ends in order, removed by the next that does not ask again; else it stays."""
    spec = f"openai_batch:model=m,url={server.url},poll=0.02"
    generate(TASK, provider=spec, n=6, journal=tmp_path)
    (first,) = state(tmp_path)
    assert first["handed_on"] and 6 == len(first["keys"])
    generate(TASK, provider=spec, n=6, journal=tmp_path)
    assert [] == state(tmp_path)
    # A journal that lost the answers: they are taken from the batch once more.
    generate(TASK, provider=spec, n=8, seed=5, journal=tmp_path)
    for path in tmp_path.glob("calls.sqlite*"):
        path.unlink()
    count = len(server.batches)
    assert 8 == len(generate(TASK, provider=spec, n=8, seed=5, journal=tmp_path).records)
    assert count == len(server.batches)


def test_old_and_foreign_state_is_no_harm(tmp_path: Path) -> None:
    """What is older than servers keep answers is removed; what is no state of ours is left alone."""
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "notes.json").write_text("{half a fi")
    Ledger(tmp_path).write(Sent("a" * 64, ["k1"], time.time() - KEPT - 60, "batch_1"))
    Ledger(tmp_path).write(Sent("b" * 64, ["k2"], time.time() - KEPT + 60, "batch_2"))
    ledger = Ledger(tmp_path)
    assert ledger.find("k1") is None
    found = ledger.find("k2")
    assert found is not None and "batch_2" == found.batch
    assert {"notes.json", "b" * 40 + ".json"} == {path.name for path in (tmp_path / "batches").iterdir()}


def test_a_batch_of_another_account_is_not_paid_twice(server: BatchServer, tmp_path: Path) -> None:
    """A noted batch that the server does not know ends the run with a cure, instead of a second bill."""
    asked = request(1)
    Ledger(tmp_path).write(Sent("c" * 64, [asked.key(provider(server).identity)], batch="batch_77"))
    with pytest.raises(ProviderError, match="no batch batch_77; was it made with another key"):
        ask(provider(server, tmp_path), [asked])
    assert not server.batches


# ------------------------------------------------------------------------------------------ whole runs


def made(server: BatchServer, n: int, settings: str = "", **more: Any) -> Generated:
    return generate(
        more.pop("task", TASK),
        provider=f"openai_batch:model=m,url={server.url},poll=0.01{settings}",
        n=n,
        **more,
    )


def test_a_whole_generation_with_redraws(server: BatchServer, tmp_path: Path) -> None:
    """300 rows in batches of 64, rows drawn again where answers are too alike: batches are full."""
    server.fault.script = (("label is b", ""),)
    result = made(server, 300, ",batch_size=64,concurrency=2", journal=tmp_path, redraw=1, novelty=0.9)
    assert 300 == len(result.records) + len(result.rejected)
    assert len(result.records) > 100
    sizes = [len(server.rows(b["input_file_id"])) for b in server.batches.values()]
    assert [64, 64, 64, 64, 44] == sizes[:5]
    assert sum(sizes) == len(server.submitted) == result.usage.answers
    assert {1} == set(server.submitted.values())


def test_ten_thousand_rows_make_full_batches() -> None:
    """10,000 rows at batch_size 2,500 are four batches, though rows come one by one."""
    with batching(delay=0.0, fault={"answer": "a short answer of a few words"}) as server:
        asked = (request(i) for i in range(10_000))
        store = Journal(None)
        called = call(provider(server, batch_size=2500), list(asked), journal=store)
        sizes = [len(server.rows(b["input_file_id"])) for b in server.batches.values()]
    assert 10_000 == len(called.responses)
    assert [2500] * 4 == sizes


@pytest.mark.parametrize("cap", [0.02, 0.08])
def test_a_cap_holds(server: BatchServer, tmp_path: Path, cap: float) -> None:
    """No more rows are handed in than the cap allows if each costs the most it can."""
    with pytest.raises(BudgetSpent, match="max_usd"):
        made(
            server,
            200,
            ",price_in=10,price_out=30",
            journal=tmp_path,
            max_usd=cap,
            answer_tokens=120,
            redraw=0,
        )
    source = OpenaiBatch("m", server.url, price_in=10, price_out=30)
    billed = (server.tokens[0] * 10 + server.tokens[1] * 30) / 1e6
    assert 0.3 * cap < billed <= cap
    largest = max(len(server.rows(b["input_file_id"])) for b in server.batches.values())
    assert largest * source.price(request(1, max_tokens=120)).usd <= cap * 1.1
    assert {1} == set(server.submitted.values())


def test_the_key_is_nowhere(server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key opens the server, and stands in no file, no error and no pickle."""
    server.key = KEY
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    result = made(server, 6, journal=tmp_path)
    assert 6 == len(result.records)
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "x")
    with pytest.raises(
        ProviderError, match="key in the environment variable OPENAI_API_KEY is refused"
    ) as caught:
        made(server, 6, seed=3, journal=tmp_path)
    source = provider(server, tmp_path)
    assert source.secrets == (KEY + "x",)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for text in (*kept, str(caught.value).encode(), pickle.dumps(source), repr(source).encode()):
        assert KEY.encode() not in text


def test_settings_that_cannot_be() -> None:
    """What the API does not take is said before anything is sent."""
    with pytest.raises(BadSetting, match="50000"):
        registry.make("providers", "openai_batch:model=m,batch_size=60000")
    with pytest.raises(BadSetting, match="no address"):
        OpenaiBatch("m", "somewhere")
    with pytest.raises(BadSetting, match="poll=0"):
        OpenaiBatch("m", poll=0)


def test_a_row_alone_is_refused_as_by_any_provider(server: BatchServer) -> None:
    """One request, one exception."""
    with pytest.raises(Refused, match="cannot be answered"):
        ask(provider(server), [request(1, "POISON")])


def test_pickled_it_keeps_its_folder(server: BatchServer, tmp_path: Path) -> None:
    """A worker of a split plan notes its batches in the same place."""
    copy = pickle.loads(pickle.dumps(provider(server, tmp_path)))
    assert ["Response"] * 2 == kinds(ask(copy, [request(1), request(2)]))
    assert 1 == len(state(tmp_path))
