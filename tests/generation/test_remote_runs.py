"""Whole generations at a server that breaks: nothing paid for is lost, no row vanishes, no cap is passed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fault_server import USUAL, serving

from karat import errors
from karat.generation.generated import Generated
from karat.generation.stage import generate
from karat.generation.tasks import Label, Task

PROGRAM = Path(__file__).with_name("killed_remote.py")
TASK = Task(domain="note", labels=(Label("a"), Label("b")))


def made(url: str, n: int, *, task: Task = TASK, settings: str = "", **more: Any) -> Generated:
    """Generate at a server of the tests."""
    return generate(task, provider=f"openai_compatible:model=m,url={url}{settings}", n=n, **more)


def test_kills_at_any_moment_lose_nothing_and_repeat_only_what_flew(tmp_path: Path) -> None:
    """Killed eight times: every record is there once, and a kill repeats only what was in the air."""
    n, concurrency, kills = 600, 16, 8
    draw = random.Random(5)
    log = tmp_path / "server.jsonl"
    with serving(latency=0.02, log=str(log)) as server:
        command = [sys.executable, str(PROGRAM), str(tmp_path), server.url, str(n), str(concurrency)]
        moments = []
        for _ in range(kills):
            seen = server.stats()["arrivals"]
            process = subprocess.Popen(command)
            wanted = seen + draw.randrange(1, n // kills)
            deadline = time.time() + 60
            while server.stats()["arrivals"] < wanted and process.poll() is None and time.time() < deadline:
                time.sleep(0.002)
            time.sleep(draw.random() * 0.03)
            os.kill(process.pid, signal.SIGKILL)
            moments.append(time.time())
            process.wait()
        subprocess.run(command, check=True, timeout=120)
        told = server.stats()
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert n == len(records) == len({record["id"] for record in records})
    assert n == len(told["per_body"])
    events = [json.loads(line) for line in log.read_text().splitlines()]
    repeated = Counter(e["body"] for e in events if e["event"] == "arrived")
    for before, after in zip(moments, [*moments[1:], time.time()]):
        again = [
            e for e in events if e["event"] == "arrived" and before < e["t"] <= after and e["arrival"] > 1
        ]
        assert len(again) <= concurrency, "more was asked again than was in the air"
    assert sum(count - 1 for count in repeated.values()) <= kills * concurrency


def test_three_calls_in_ten_break_and_every_row_has_an_end() -> None:
    """Fifteen kinds of faults: each planned row is a valid record or has a reason, and all is counted."""
    with serving(latency=0.002, rate=0.3, seed=3, hang=5.0, huge_bytes=2_000_000) as server:
        result = made(
            server.url, 300, settings=",timeout=0.5,most_bytes=1000000", concurrency=32, retries=8, redraw=2
        )
        told = server.stats()
    rejected = {one.id: one.reason for one in result.rejected}
    assert 300 == len(result.records) + len(rejected)
    assert not set(result.records.ids) & set(rejected)
    assert all(rejected.values())
    assert len(result.records) >= 297
    assert set(USUAL) <= set(told["kinds"]), "not all faults came"
    assert result.usage.retries > 50 and result.usage.lost > 0
    # What karat counts as paid or perhaps paid is at least what the server did the work for.
    assert told["billed"] <= sum((result.usage.tokens_in, result.usage.tokens_out, result.usage.lost_tokens))


@pytest.mark.parametrize("seed", range(3))
def test_a_cap_holds_among_faults(seed: int, tmp_path: Path) -> None:
    """With three faults in ten, what the server billed never passes the cap, lost answers included."""
    with serving(rate=0.3, seed=seed, hang=5.0, price_in=10.0, price_out=30.0, huge_bytes=100_000) as server:
        with pytest.raises(errors.BudgetSpent, match="max_usd"):
            made(
                server.url,
                400,
                settings=",timeout=0.4,price_in=10,price_out=30",
                concurrency=24,
                max_usd=0.5,
                answer_tokens=120,
                journal=tmp_path,
            )
        told = server.stats()
    assert 0.1 < told["billed_usd"] <= 0.5


def test_a_poisoned_prompt_costs_one_row() -> None:
    """A prompt that is always answered with 400 is one reasoned rejection; all others are records."""
    task = Task(domain="note", labels=tuple(Label(name) for name in ("a", "POISON", *"cdefgh")))
    with serving() as server:
        result = made(server.url, 40, task=task)
        told = server.stats()
    assert 35 == len(result.records)
    assert {"POISON"} == {one.label for one in result.rejected}
    assert all("refused by the provider" in one.reason for one in result.rejected)
    assert 40 == told["arrivals"]


def test_slow_calls_hold_up_nobody() -> None:
    """2 % slow calls: the others go on, and nobody waits at a barrier."""
    with serving(latency=0.02, slow_share=0.02, slow_latency=1.0, seed=1) as server:
        result = made(server.url, 1000, concurrency=32)
        told = server.stats()
    assert 1000 == len(result.records)
    # Arrivals keep coming while slow calls fly: a barrier after each batch of 32 would take a second for
    # nearly every second batch, which is 15 s and more.
    assert told["last"] - told["first"] < 8


@pytest.mark.parametrize("window", [0.0, 1.0])
def test_a_server_that_admits_few_is_fed_with_few_refusals(window: float) -> None:
    """40 requests a second are admitted: the server is kept busy, and refuses few of the calls.

    A bucket of one alone, which punishes each millisecond of a busy machine, is tried in virtual time.
    """
    with serving(latency=0.05, admit=40, admit_burst=5, admit_window=window, seed=1) as server:
        result = made(server.url, 200, concurrency=64, retries=10)
        told = server.stats()
    assert 200 == len(result.records)
    assert told["kinds"].get("over", 0) <= 0.3 * 200
    assert 200 / (told["last"] - told["first"]) >= 0.75 * 40


@pytest.mark.parametrize(
    "change",
    [
        {"settings": ",api=completions"},
        {"settings": ',body={"min_p": 0.1}'},
        {"settings": ",model=m2"},
        {"temperature": 0.3},
        {"top_p": 0.5},
        {"answer_tokens": 60},
        {"seed": 1},
        {"task": Task(domain="letter", labels=TASK.labels)},
        {"task": Task(domain="note", labels=TASK.labels, instructions="Be brief.")},
        {
            "task": Task(
                domain="note",
                labels=TASK.labels,
                schema={"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
            )
        },
    ],
    ids=lambda change: next(iter(change)) + str(next(iter(change.values())))[:24],
)
def test_no_change_returns_an_old_answer(change: dict[str, Any], tmp_path: Path) -> None:
    """API, body, model, parameters, seed, prompt, schema: each change asks anew; the same asks nothing."""
    with serving() as server:
        made(server.url, 6, journal=tmp_path)
        made(server.url, 6, journal=tmp_path)
        assert 6 == server.stats()["arrivals"]
        changed = {**change}
        task = changed.pop("task", TASK)
        settings = changed.pop("settings", "")
        spec = f"openai_compatible:model=m,url={server.url}{settings}"
        if ",model=" in settings:
            spec = f"openai_compatible:model=m2,url={server.url}"
        generate(task, provider=spec, n=6, journal=tmp_path, **changed)
        assert 12 == server.stats()["arrivals"]


def test_another_server_is_asked_anew(tmp_path: Path) -> None:
    """The same model under another base URL may answer otherwise."""
    with serving() as one, serving() as other:
        made(one.url, 4, journal=tmp_path)
        made(other.url, 4, journal=tmp_path)
        assert (4, 4) == (one.stats()["arrivals"], other.stats()["arrivals"])


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """Nobody listens: a dry run still plans and prices, and a run ends in one line with the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    dry = made(url, 5, dry_run=True, journal=tmp_path)
    assert 5 == len(dry.plan) and dry.estimate.most_tokens > 0
    with pytest.raises(errors.ProviderError, match="check that the server is up") as caught:
        made(url, 5, journal=tmp_path, retries=2)
    assert "\n" not in str(caught.value)


def test_a_sample_prices_the_plan_and_is_not_paid_twice(tmp_path: Path) -> None:
    """A dry run with a sample makes a few rows, prices the plan by them, and the run reuses them."""
    with serving() as server:
        dry = made(
            server.url, 100, dry_run=True, sample=10, journal=tmp_path, settings=",price_in=1,price_out=2"
        )
        assert 10 == server.stats()["arrivals"] == dry.estimate.sampled
        full = made(server.url, 100, journal=tmp_path, settings=",price_in=1,price_out=2")
        assert 100 == server.stats()["arrivals"] and 10 == full.usage.reused
    spent = full.usage.tokens_in + full.usage.tokens_out
    assert dry.estimate.low_tokens <= spent <= dry.estimate.high_tokens
    assert dry.estimate.likely_usd == pytest.approx(full.usage.cost_usd, rel=0.15)


def test_secrets_are_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key, a header's value and a key in a prompt are in no file that a run leaves and in no error."""
    key, header, shown = "sk-test-" + "a1B2" * 8, "hidden-" + "z9Y8" * 5, "sk-proj-" + "Q7w8" * 8
    monkeypatch.setenv("KARAT_TEST_KEY", key)
    monkeypatch.setenv("KARAT_TEST_HEADER", header)
    task = Task(domain=f"note on {shown}", labels=TASK.labels)
    settings = ",key_env=KARAT_TEST_KEY,headers=X-Team:env:KARAT_TEST_HEADER"
    with serving(key=key) as server:
        result = made(server.url, 4, task=task, settings=settings, journal=tmp_path / "journal")
        assert header in server.stats()["headers"].values()
    found = json.dumps(result.to_json()) + repr(result) + str(result.__report__())
    kept = [p for p in (tmp_path / "journal").rglob("*") if p.is_file() and not p.name.startswith("plan")]
    assert kept
    for path in kept:
        data = path.read_bytes()
        for secret in (key, header, shown):
            assert secret.encode() not in data, f"{path.name} holds a secret"
    assert key not in found and header not in found
    monkeypatch.setenv("KARAT_TEST_KEY", "sk-wrong-" + "c3D4" * 8)
    with serving(key=key) as server, pytest.raises(errors.ProviderError) as caught:
        made(server.url, 4, settings=settings, journal=tmp_path / "other")
    assert "c3D4c3D4" not in str(caught.value) and "KARAT_TEST_KEY" in str(caught.value)


def test_an_unknown_price_is_refused_under_a_cap_in_dollars(tmp_path: Path) -> None:
    """Nobody can keep to a cap without a price: one line before the first call, and exit code 2."""
    with serving() as server:
        with pytest.raises(errors.BadSetting, match="no price is known for 'm'") as caught:
            made("https://api.example.invalid/v1", 5, settings=",key_env=KARAT_NO_KEY", max_usd=1.0)
        assert 2 == caught.value.exit_code
        assert 5 == len(made(server.url, 5, max_usd=1.0).records), "a server of one's own costs nothing"


def test_time_that_is_over_is_no_higher_cap(tmp_path: Path) -> None:
    """The line that ends a run by time asks for no higher cap, and the next run goes on."""
    with serving(latency=0.1) as server:
        with pytest.raises(
            errors.BudgetSpent, match=r"max_seconds=0\.3 are over.*the same command goes on"
        ) as told:
            made(server.url, 60, concurrency=2, max_seconds=0.3, journal=tmp_path)
        assert "higher cap" not in str(told.value)
        again = made(server.url, 60, concurrency=32, journal=tmp_path)
    assert 60 == len(again.records) and again.usage.reused > 0
