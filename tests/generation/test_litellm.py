from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fault_server import Server, serving

import karat
from karat import registry
from karat.errors import MissingExtra, ProviderError
from karat.generation.base import Message, Refused, Request, Response, Retryable
from karat.generation.tasks import Label, Task

needs_litellm = pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None,
    reason="the package litellm is not installed: pip install 'karat[litellm]'",
)
KEY = "sk-mine0123456789abcdef"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(hang=20.0) as found:
        yield found


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MY_KEY", KEY)
    return KEY


def made(server: Server | None = None, **settings: Any) -> Any:
    told = {"model": "openai/tiny", "key_env": "MY_KEY", **settings}
    if server is not None:
        told["url"] = server.url
    return registry.find("providers", "litellm")(**told)


def asked(text: str, **more: Any) -> Request:
    return Request("r", (Message("system", "Be brief."), Message("user", text)), **{"max_tokens": 20, **more})


def ask(provider: Any, request: Request) -> Response:
    async def run() -> Response:
        try:
            return (await provider.complete([request]))[0]
        finally:
            await provider.close()

    return asyncio.run(run())


@needs_litellm
def test_a_request_goes_out_as_it_is_and_the_answer_comes_back_whole(server: Server, key: str) -> None:
    """Messages, parameters, stop, schema and seed reach the server; text, usage and logprobs come back."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    request = asked("Hello", temperature=0.5, top_p=0.9, seed=7, stop=("END",), schema=schema, logprobs=2)
    server.reset()
    answer = ask(made(server), request)
    body = server.stats()["body"]
    assert [{"role": m.role, "content": m.content} for m in request.messages] == body["messages"]
    assert ("tiny", 0.5, 0.9, 20, 7, ["END"]) == tuple(
        body[name] for name in ("model", "temperature", "top_p", "max_tokens", "seed", "stop")
    )
    assert schema == body["response_format"]["json_schema"]["schema"]
    assert f"Bearer {KEY}" == server.stats()["headers"]["authorization"]
    stats = server.stats()
    assert (stats["tokens_in"], stats["tokens_out"]) == (answer.tokens_in, answer.tokens_out)
    assert answer.text.startswith('{"a"')
    assert [("yes", -0.5), ("no", -1.5)] == list(answer.alternatives)
    assert -0.5 == answer.logprob


RETRYABLE = {
    "busy": ("busy", False),
    "busy_bare": ("busy", False),
    "500": ("server", False),
    "502": ("server", False),
    "503": ("server", False),
    "504": ("timeout", True),
    "529": ("server", False),
    "409": ("server", False),
    "408": ("timeout", False),
    "425": ("timeout", False),
    "html_502": ("server", False),
    "hang": ("timeout", True),
    "drop_before": ("connection", True),
    "drop_after": ("connection", True),
    "truncated": ("answer", True),
    "invalid": ("answer", True),
    "html_200": ("answer", True),
    "list": ("answer", True),
    "not_utf8": ("answer", True),
    "empty_choices": ("answer", True),
    "no_choices": ("answer", True),
    "null_content": ("answer", True),
    "error_200_server": ("answer", True),
}


@needs_litellm
@pytest.mark.parametrize("kind", RETRYABLE)
def test_what_may_pass_is_retryable(kind: str, server: Server, key: str) -> None:
    """Each fault that may pass is told as such, by its cause and whether the work may have been done."""
    server.reset()
    with pytest.raises(Retryable) as caught:
        ask(made(server, timeout=1.0 if kind == "hang" else 20.0), asked(f"[[fault:{kind}]]"))
    assert RETRYABLE[kind] == (caught.value.cause, caught.value.billed)
    assert "\n" not in str(caught.value)
    assert 1 == server.stats()["arrivals"], "litellm retries by itself"


@needs_litellm
def test_a_time_to_wait_is_handed_on(server: Server, key: str) -> None:
    """Retry-After in seconds, milliseconds and as the reset of a limit reaches the engine."""
    for kind in ("busy", "busy_ms", "busy_reset"):
        with pytest.raises(Retryable) as caught:
            ask(made(server), asked(f"[[fault:{kind}]]"))
        assert 0.05 == pytest.approx(caught.value.after)


@needs_litellm
@pytest.mark.parametrize("kind", ["400", "413", "422"])
def test_what_the_server_will_never_answer_costs_one_row(kind: str, server: Server, key: str) -> None:
    """A prompt that the server cannot take is refused, not retried, and ends no run."""
    with pytest.raises(Refused):
        ask(made(server), asked(f"[[fault:{kind}]]"))


@needs_litellm
@pytest.mark.parametrize("kind", ["401", "403", "404", "quota", "redirect"])
def test_what_no_row_can_pass_ends_the_run_in_one_line(kind: str, server: Server, key: str) -> None:
    """A wrong key, model, account or address is one line that names the model and holds no key."""
    with pytest.raises(ProviderError) as caught:
        ask(made(server), asked(f"[[fault:{kind}]]"))
    text = str(caught.value)
    assert "openai/tiny" in text
    assert "\n" not in text
    assert KEY not in text
    assert "sk-abcdef" not in text, "a key that the server repeats"


@needs_litellm
def test_refusals_are_answers(server: Server, key: str) -> None:
    """A refusal in its own field and a filtered answer come back with their reason, to be judged there."""
    refused = ask(made(server), asked("[[fault:refusal_field]]"))
    assert ("I cannot do that.", "refusal") == (refused.text, refused.finish_reason)
    assert "content_filter" == ask(made(server), asked("[[fault:content_filter]]")).finish_reason


@needs_litellm
def test_usage_that_is_not_told_is_estimated(server: Server, key: str) -> None:
    """No usage is not no tokens: a cap in tokens must hold."""
    answer = ask(made(server), asked("[[fault:no_usage]] " + "word " * 40))
    assert answer.tokens_in >= 40
    assert answer.tokens_out > 10


@needs_litellm
def test_nobody_there_and_no_such_vendor(key: str) -> None:
    """A refused connection is free and may pass; a name without a vendor never will."""
    with pytest.raises(Retryable) as caught:
        ask(made(url="http://127.0.0.1:9/v1"), asked("x"))
    assert ("connection", False) == (caught.value.cause, caught.value.billed)
    for model in ("nosuchvendor/xx", "xx"):
        with pytest.raises(ProviderError, match=r"knows no vendor for the model .*write vendor/model"):
            ask(made(model=model), asked("x"))


@needs_litellm
def test_prices(key: str, server: Server) -> None:
    """Settings go first, then litellm's table; a server of one's own is free, and unknown is nan, not 0."""
    request = asked("word " * 100, max_tokens=1000)
    dear = made(model="anthropic/claude-3-5-haiku-20241022")
    import litellm

    table = litellm.model_cost.get("claude-3-5-haiku-20241022") or litellm.get_model_info("gpt-4o-mini")
    if "claude-3-5-haiku-20241022" not in litellm.model_cost:
        dear = made(model="openai/gpt-4o-mini")
    tokens_in = dear.price(request).tokens - 1000
    expected = tokens_in * table["input_cost_per_token"] + 1000 * table["output_cost_per_token"]
    assert expected == pytest.approx(dear.price(request).usd)
    assert math.isnan(made(model="openai/no-such-model").price(request).usd)
    assert 0 == made(server).price(request).usd
    own = made(server, price_in=1.0, price_out=2.0)
    answer = ask(own, request)
    assert (answer.tokens_in + 2 * answer.tokens_out) / 1e6 == pytest.approx(answer.cost_usd)


@needs_litellm
def test_a_server_of_ones_own_gets_no_key_of_a_vendor(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without key_env, the OPENAI_API_KEY that litellm would send stays at home."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.reset()
    ask(made(server, key_env=""), asked("x"))
    assert KEY not in str(server.stats()["headers"])


@needs_litellm
def test_it_starts_offline_without_noise_and_leaves_the_environment_alone(
    server: Server, tmp_path: Any
) -> None:
    """No price table is fetched, no .env is read, nothing is printed, not even for a failure."""
    (tmp_path / ".env").write_text("FROM_DOTENV=1\n")
    code = f"""
import asyncio, os, socket
before = dict(os.environ)
real = socket.getaddrinfo
def only_here(host, *more, **how):
    assert str(host) in ("127.0.0.1", "localhost"), f"looked up {{host}}"
    return real(host, *more, **how)
socket.getaddrinfo = only_here
from karat import registry
from karat.generation.base import Message, Request, Retryable
own = registry.make("providers", "litellm:model=openai/tiny,url={server.url}")
async def run():
    for text in ("x", "[[fault:500]]"):
        try:
            await own.complete([Request("r", (Message("user", text),))])
        except Retryable:
            pass
    await own.close()
asyncio.run(run())
assert {{k: v for k, v in os.environ.items() if before.get(k) != v}} == {{}}, "environment"
"""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LITELLM")}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=clean
    )
    assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)


@needs_litellm
def test_a_run_through_faults_ends_with_every_row_accounted_for(
    server: Server, key: str, tmp_path: Any
) -> None:
    """A third of the first two tries break: 40 rows come out, and the key is in no file."""
    server.set(rate=0.3, seed=3, faulty_arrivals=2, kinds=("busy", "500", "503", "drop_before", "truncated"))
    try:
        made_ = karat.generate(
            Task("remark", labels=(Label("a"), Label("b"))),
            provider=made(server),
            n=40,
            journal=tmp_path,
            concurrency=8,
        )
    finally:
        server.set(rate=0.0)
    assert 40 == len(made_.records) + len(made_.rejected)
    assert len(made_.records) > 30
    assert made_.usage.retries >= 10, "nothing broke"
    assert made_.usage.tokens_out >= sum(made_.records.lineage("tokens_out"))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.skipif(importlib.util.find_spec("litellm") is not None, reason="litellm is installed")
def test_without_litellm_the_cure_is_named() -> None:
    """One line with the pip command."""
    with pytest.raises(MissingExtra, match=r"pip install 'karat\[litellm\]'"):
        ask(made(key_env=""), asked("x"))
