"""The client of OpenAI's API against a server that breaks on purpose: every fault has its meaning."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import pickle
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fault_server import Server, serving

from karat import registry
from karat.errors import BadSetting, ProviderError
from karat.generation.base import Message, Refused, Request, Response, Retryable, identity, most
from karat.generation.http import rates_told
from karat.generation.providers.openai_compatible import OpenaiCompatible
from karat.generation.redaction import Redactor

KEY = "sk-test-0123456789abcdef0123"
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["text", "stars"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(hang=5.0, retry_after=0.25) as running:
        yield running


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's owner has set is no matter here."""
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def ask(provider: OpenaiCompatible, *requests: Request) -> list[Response]:
    """Answers in a loop of their own, after which the connections are closed."""

    async def work() -> list[Response]:
        try:
            return list(await asyncio.gather(*(one(provider, request) for request in requests)))
        finally:
            await provider.close()

    return asyncio.run(work())


async def one(provider: OpenaiCompatible, request: Request) -> Response:
    return (await provider.complete([request]))[0]


def request(text: str = "Write a review.", **settings: Any) -> Request:
    return Request("r1", (Message("user", text),), **{"max_tokens": 64, "seed": 5, **settings})


def test_an_answer_is_read_with_what_it_cost(server: Server) -> None:
    """Text, tokens and reason are the server's; the cost is what the server itself would bill."""
    with serving(price_in=0.5, price_out=2.0, answer="Größe 😀 日本語") as priced:
        provider = OpenaiCompatible("tiny", priced.url, price_in=0.5, price_out=2.0)
        (response,) = ask(provider, request("ein langer Satz " * 20))
        told = priced.stats()
    assert ("Größe 😀 日本語", "stop", "tiny") == (response.text, response.finish_reason, response.model)
    assert (told["tokens_in"], told["tokens_out"]) == (response.tokens_in, response.tokens_out)
    assert told["billed_usd"] == pytest.approx(response.cost_usd)
    assert response.cost_usd > 0


def test_what_is_sent() -> None:
    """All parameters arrive, the seed of a replicate is its own, and extra fields go over all."""
    with serving() as server:
        provider = OpenaiCompatible(
            "m", server.url, body='{"top_k": 40, "top_p": 0.5}', headers=("X-Title:a b",)
        )
        asked = Request(
            *("r", (Message("system", "s"), Message("user", "u 😀"))),
            temperature=0.3,
            max_tokens=9,
            seed=3,
            replicate=2,
            stop=("END",),
        )
        ask(provider, asked)
        told = server.stats()
    assert {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u 😀"}],
        "temperature": 0.3,
        "top_p": 0.5,
        "max_tokens": 9,
        "seed": asked.draw_seed,
        "stop": ["END"],
        "top_k": 40,
    } == told["body"]
    assert "a b" == told["headers"]["x-title"]
    assert told["headers"]["user-agent"].startswith("karat/")
    assert "authorization" not in told["headers"]


FAULTS: list[tuple[str, type[Exception], str, bool, float | None, str]] = [
    # fault, what is raised, cause, billed, seconds to wait, words
    ("busy", Retryable, "busy", False, 0.25, "Rate limit reached"),
    ("busy_bare", Retryable, "busy", False, None, "Rate limit reached"),
    ("busy_ms", Retryable, "busy", False, 0.25, "Rate limit reached"),
    ("busy_date", Retryable, "busy", False, 1.5, "Rate limit reached"),
    ("busy_reset", Retryable, "busy", False, 0.25, "Rate limit reached"),
    ("quota", ProviderError, "", False, None, "exceeded your current quota.*top it up"),
    ("500", Retryable, "server", False, None, "answers 500"),
    ("502", Retryable, "server", False, None, "answers 502"),
    ("503", Retryable, "server", False, None, "answers 503"),
    ("504", Retryable, "server", False, None, "answers 504"),
    ("520", Retryable, "server", False, None, "answers 520"),
    ("529", Retryable, "server", False, None, "answers 529"),
    ("408", Retryable, "timeout", False, None, "answers 408"),
    ("409", Retryable, "server", False, None, "answers 409"),
    ("425", Retryable, "timeout", False, None, "answers 425"),
    ("html_502", Retryable, "server", False, None, "answers 502: 502 Bad Gateway$"),
    ("drop_before", Retryable, "connection", True, None, "connection broke"),
    ("drop_after", Retryable, "connection", True, None, "connection broke"),
    ("hang", Retryable, "timeout", True, None, "no answer within 0.4 s"),
    ("truncated", Retryable, "answer", True, None, "holds no JSON"),
    ("invalid", Retryable, "answer", True, None, "holds no JSON"),
    ("not_utf8", Retryable, "answer", True, None, "holds no JSON"),
    ("html_200", Retryable, "answer", True, None, "holds no JSON: '502 Bad Gateway'"),
    ("list", Retryable, "answer", True, None, "no JSON object"),
    ("empty_choices", Retryable, "answer", True, None, "no choices"),
    ("no_choices", Retryable, "answer", True, None, "no choices"),
    ("null_content", Retryable, "answer", True, None, "no text"),
    ("error_200", Retryable, "busy", True, None, "overloaded, try later"),
    ("error_200_server", Retryable, "server", True, None, "internal"),
    ("400", Refused, "", False, None, "^this prompt cannot be answered$"),
    ("413", Refused, "", False, None, "error 413"),
    ("422", Refused, "", False, None, "error 422"),
    ("401", ProviderError, "", False, None, "environment variable OPENAI_API_KEY is not set"),
    ("403", ProviderError, "", False, None, "environment variable OPENAI_API_KEY is not set"),
    ("404", ProviderError, "", False, None, r"127\.0\.0\.1.*'tiny-2'.*it has: tiny"),
    ("redirect", ProviderError, "", False, None, "points to 'http://127.0.0.2:9/v1'"),
]


@pytest.mark.parametrize(
    ("fault", "kind", "cause", "billed", "after", "said"), FAULTS, ids=[f[0] for f in FAULTS]
)
def test_every_fault_has_its_meaning(
    server: Server,
    fault: str,
    kind: type[Exception],
    cause: str,
    billed: bool,
    after: float | None,
    said: str,
) -> None:
    """Who may be asked again and when, what may have been paid for, and what hangs on the row alone."""
    server.set(redirect="http://127.0.0.2:9/v1")
    provider = OpenaiCompatible("tiny-2", server.url, timeout=0.4 if fault == "hang" else 30.0)
    with pytest.raises(kind, match=said) as caught:
        ask(provider, request(f"[[fault:{fault}]]"))
    error = caught.value
    assert kind is type(error)
    assert "\n" not in str(error)
    if isinstance(error, Retryable):
        assert (cause, billed) == (error.cause, error.billed)
        if after is None:
            assert error.after is None
        else:  # a date has whole seconds
            assert after == pytest.approx(error.after, abs=0.6 if fault == "busy_date" else 1e-9)


@pytest.mark.parametrize(
    ("fault", "text", "reason"),
    [
        ("refusal", "I'm sorry, but I can't help with that request.", "stop"),
        ("refusal_field", "I cannot do that.", "refusal"),
        ("wrong_schema", '{"nothing": ["of", "what", "was"], "asked": 4}', "stop"),
        ("content_filter", "cut", "content_filter"),
        ("no_usage", "cut", "stop"),
    ],
)
def test_what_is_an_answer_stays_one(fault: str, text: str, reason: str) -> None:
    """A refusal or a wrong schema was paid for: whoever parses the text decides, and the reason is told."""
    with serving(answer="cut") as server:
        (response,) = ask(OpenaiCompatible("m", server.url), request(f"[[fault:{fault}]]"))
    assert (text, reason) == (response.text, response.finish_reason)
    assert response.tokens_in > 0 and response.tokens_out > 0


def test_nothing_listens() -> None:
    """A server that is not there costs nothing and may come back."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Retryable, match="cannot connect") as caught:
        ask(OpenaiCompatible("m", f"http://127.0.0.1:{port}/v1"), request())
    assert ("connection", False) == (caught.value.cause, caught.value.billed)


def test_large_answers(server: Server) -> None:
    """10 MB are read where they are allowed; else the line is cut before they fill memory, zipped or not."""
    (response,) = ask(OpenaiCompatible("m", server.url), request("[[fault:huge]]"))
    assert 10_000_000 == len(response.text)
    for fault in ("huge", "bomb"):
        with pytest.raises(Retryable, match="larger than most_bytes=100,000") as caught:
            ask(OpenaiCompatible("m", server.url, most_bytes=100_000), request(f"[[fault:{fault}]]"))
        assert ("answer", True) == (caught.value.cause, caught.value.billed)


def test_connections_are_kept_and_a_new_loop_gets_new_ones() -> None:
    """Forty calls, four at a time, need four connections; a second event loop works too."""
    with serving(latency=0.01) as server:
        provider = OpenaiCompatible("m", server.url)

        async def work() -> None:
            for _ in range(10):
                await asyncio.gather(*(one(provider, request(f"{i}")) for i in range(4)))
            await provider.close()

        asyncio.run(work())
        told = server.stats()
        assert 40 == told["answered"]
        assert 4 == told["connections"] - 1  # one asked for the counts
        asyncio.run(work())
        assert 80 == server.stats()["answered"]


# -------------------------------------------------------------------------------- how to be asked


@pytest.mark.parametrize(
    ("known", "sent"),
    [
        (("json_schema", "json_object"), "json_schema"),
        (("json_object",), "json_object"),
        ((), None),
    ],
)
def test_structure_falls_back_and_loses_no_row(known: Sequence[str], sent: str | None) -> None:
    """The weakest way that the server takes is found by what it refuses; all rows of the run are answered."""
    with serving(structured=list(known), latency=0.01) as server:
        provider = OpenaiCompatible("m", server.url)
        rows = [request(f"row {i}", schema=SCHEMA) for i in range(20)]
        assert 20 == len(ask(provider, *rows))
        server.reset()
        (response,) = ask(provider, request("one more", schema=SCHEMA))
        told = server.stats()
    assert 1 == told["arrivals"], "what was learned holds for the rest of the run"
    assert sent == told["body"].get("response_format", {}).get("type")
    if sent == "json_schema":
        assert {"name": "answer", "schema": SCHEMA, "strict": True} == told["body"]["response_format"][
            "json_schema"
        ]
        assert {"text", "stars"} == set(json.loads(response.text))


def test_structure_that_is_asked_for_is_not_weakened() -> None:
    """Only `auto` falls back; guided_json and off send what they say."""
    with serving(structured=["guided_json"]) as server:
        with pytest.raises(Refused, match="response_format is not supported"):
            ask(OpenaiCompatible("m", server.url, structured="json_schema"), request(schema=SCHEMA))
        ask(OpenaiCompatible("m", server.url, structured="guided_json"), request(schema=SCHEMA))
        assert SCHEMA == server.stats()["body"]["guided_json"]
        ask(OpenaiCompatible("m", server.url, structured="off"), request(schema=SCHEMA))
        assert not {"guided_json", "response_format"} & set(server.stats()["body"])


def test_a_late_refusal_does_not_undo_what_was_learned_since() -> None:
    """A call sent in an old way that comes back last asks again in the newest way."""
    provider = OpenaiCompatible("m", "http://127.0.0.1:1/v1")
    old, said = provider._state.manners, b'{"error": "json_schema is not supported"}'
    provider._state.manners = dataclasses.replace(old, structured="off")
    assert provider._adapt(old, request(schema=SCHEMA), said)
    assert "off" == provider._state.manners.structured


@pytest.mark.parametrize("own", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("wanted", ["max_tokens", "max_completion_tokens"])
def test_the_name_of_the_token_limit_is_found(own: Any, wanted: str) -> None:
    """The server says what it wants to be told; the next call tells it at once."""
    with serving(max_tokens_field=wanted) as server:
        provider = OpenaiCompatible("m", server.url, max_tokens_field=own)
        ask(provider, request("a"), request("b"))
        server.reset()
        ask(provider, request("c"))
        told = server.stats()
    assert (1, 64) == (told["arrivals"], told["body"][wanted])


def test_fields_that_a_server_does_not_know_are_left_out() -> None:
    """Seed, logprobs, and sampling parameters of 1 may go; no row is lost, and all at once are found."""
    refuses = ["seed", "logprobs", "temperature", "top_p"]
    with serving(refuses=refuses) as server:
        provider = OpenaiCompatible("o9", server.url)
        assert 10 == len(ask(provider, *(request(f"{i}", logprobs=3) for i in range(10))))
        told = server.stats()
    assert not set(refuses) & set(told["body"])
    with serving(refuses=["max_tokens", "max_completion_tokens"]) as server, pytest.raises(Refused):
        ask(OpenaiCompatible("m", server.url), request())


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_logprobs(api: Any) -> None:
    """The mean over tokens and the alternatives to the first one, in both APIs; nothing is asked unasked."""
    with serving() as server:
        provider = OpenaiCompatible("m", server.url, api=api)
        (with_them,) = ask(provider, request(logprobs=3))
        (without,) = ask(provider, request())
    assert -0.5 == pytest.approx(with_them.logprob)
    assert (("yes", -0.5), ("no", -1.5), ("w2", -2.5)) == with_them.alternatives
    assert (None, ()) == (without.logprob, without.alternatives)


def test_the_completions_api() -> None:
    """A prompt goes in and a text comes out; messages are joined."""
    with serving(answer="and they lived") as server:
        provider = OpenaiCompatible("base", server.url, api="completions")
        asked = Request("r", (Message("system", "A tale."), Message("user", "Once")), max_tokens=5)
        (response,) = ask(provider, asked)
        body = server.stats()["body"]
    assert "and they lived" == response.text
    assert ("A tale.\n\nOnce", 5) == (body["prompt"], body["max_tokens"])
    assert "messages" not in body


def test_half_a_surrogate_pair_is_mended() -> None:
    """A text that is no Unicode is sent with the broken half replaced, as the journal writes it."""
    with serving() as server:
        ask(OpenaiCompatible("m", server.url), request("broken \ud83d here"))
        assert "broken ? here" == server.stats()["body"]["messages"][0]["content"]


# ------------------------------------------------------------------------------------- secrets


def test_the_key_comes_from_the_environment_when_a_call_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set after the provider was made, changed between calls: each call has the key of its moment."""
    with serving(key=KEY) as server:
        provider = OpenaiCompatible("m", server.url, key_env="MY_KEY")
        with pytest.raises(ProviderError, match=r"answers 401.*variable MY_KEY is not set"):
            ask(provider, request())
        monkeypatch.setenv("MY_KEY", "sk-another-0123456789abcdef")
        with pytest.raises(ProviderError, match="variable MY_KEY is refused"):
            ask(provider, request())
        monkeypatch.setenv("MY_KEY", KEY + "\n")
        assert 1 == len(ask(provider, request()))


def test_secrets_stand_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in repr, spec, identity, signature, pickles, nor in errors of a server that repeats the key."""
    monkeypatch.setenv("OPENAI_API_KEY", "plain-looking-key-value")
    monkeypatch.setenv("SIDE_DOOR", "another plain value")
    with serving(key=KEY) as server:
        provider = OpenaiCompatible("m", server.url, headers=("X-Access-Token:env:SIDE_DOOR",))
        with pytest.raises(ProviderError) as caught:
            ask(provider, request())
        assert "another plain value" == server.stats()["headers"]["x-access-token"]
        told = [
            str(caught.value),
            repr(provider),
            repr(vars(provider)),
            registry.spec_of(provider),
            registry.signature(provider),
            identity(provider),
            pickle.dumps(provider).decode("latin-1"),
        ]
    for text in told:
        assert "plain-looking-key-value" not in text
        assert "another plain value" not in text
    assert {"plain-looking-key-value", "another plain value"} <= set(provider.secrets)
    assert "Incorrect API key provided: Bearer ***" in str(caught.value)


def test_a_scheme_before_a_secret_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of two words hides each of them, as a server may repeat only the second."""
    monkeypatch.setenv("MY_AUTH", "Basic bWU6cGFzc3dvcmQ=")
    provider = OpenaiCompatible("m", "https://h.example/v1", headers=("Authorization:env:MY_AUTH",))
    assert "user *** unknown" == Redactor(provider.secrets).text("user bWU6cGFzc3dvcmQ= unknown")


def test_no_key_leaves_for_a_public_server_in_clear_or_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the error names the variable; over http the key stays here. No call is made."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("a call was made"))
    with pytest.raises(ProviderError, match="variable OPENAI_API_KEY is not set"):
        ask(OpenaiCompatible("gpt-4o-mini"), request())
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ProviderError, match="unencrypted; write https"):
        ask(OpenaiCompatible("m", "http://api.example.com/v1"), request())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u00e4")
    with pytest.raises(ProviderError, match="OPENAI_API_KEY holds no key"):
        ask(OpenaiCompatible("gpt-4o-mini"), request())
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ProviderError, match="header X-Api-Key holds no value"):
        ask(OpenaiCompatible("m", "https://h.example/v1", headers=("X-Api-Key:env:NOT_SET",)), request())


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other host sees neither key nor prompt."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as other, serving(redirect=other.url) as server:
        with pytest.raises(ProviderError, match="not sent on to another place"):
            ask(OpenaiCompatible("m", server.url), request("[[fault:redirect]]"))
        assert 0 == other.stats()["arrivals"]


# --------------------------------------------------------------------------- offline, money, spec


def test_an_offline_machine_can_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making, pricing and naming a provider opens no socket and needs no key."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    provider = registry.make("providers", "openai_compatible:model=gpt-4o-mini")
    price = most(provider, request("x" * 1000, max_tokens=100))
    # 508 tokens in at most, 0.15 USD a million, and 100 out at 0.60
    assert 608 == price.tokens
    assert (508 * 0.15 + 100 * 0.60) / 1e6 == pytest.approx(price.usd)
    assert ("gpt-4o-mini", 256, 1) == (provider.model, provider.concurrency, provider.batch_size)
    assert provider.secrets == ()
    longer = most(provider, request("x" * 1000, max_tokens=100, schema=SCHEMA))
    assert longer.tokens > price.tokens, "a schema is sent and paid for too"


def test_what_a_call_costs_where_no_table_says_it(server: Server) -> None:
    """One's own server is free, another is unknown and not free, and what a server tells goes first."""
    assert 0.0 == OpenaiCompatible("any", server.url).price(request()).usd
    assert math.isnan(OpenaiCompatible("any", "https://llm.example.com/v1").price(request()).usd)
    assert 0 < OpenaiCompatible("any", server.url, price_in=1.0, price_out=1.0).price(request()).usd
    with serving(cost=0.0125) as telling:
        (response,) = ask(OpenaiCompatible("any", telling.url, price_in=1.0, price_out=1.0), request())
    assert 0.0125 == response.cost_usd


def test_the_spec_brings_every_setting_back() -> None:
    """Colons in model names, commas in the body, several headers: written and read again."""
    spec = (
        "openai_compatible:model=llama3.2:3b,url=http://127.0.0.1:11434/v1,"
        'body={"top_k":40,"min_p":0.1},headers=X-A:1+X-B:env:B,seed=no,price_in=0.1'
    )
    provider = registry.make("providers", spec)
    assert ("llama3.2:3b", ("X-A:1", "X-B:env:B"), False) == (provider.model, provider.headers, provider.seed)
    assert provider == registry.make("providers", registry.spec_of(provider))
    assert provider == pickle.loads(pickle.dumps(provider))
    assert provider == registry.make(
        "providers", "openai_compatible:llama3.2:3b" + spec[len("openai_compatible:model=llama3.2:3b") :]
    )


def test_all_that_may_change_the_answer_is_in_the_identity() -> None:
    """Another model, server, API, way of structure, header or body is another name; time-outs are not."""
    base = OpenaiCompatible("m", "http://127.0.0.1:1/v1")
    others = [
        dataclasses.replace(base, **change)
        for change in (
            {"model": "n"},
            {"url": "http://127.0.0.1:2/v1"},
            {"api": "completions"},
            {"structured": "off"},
            {"seed": False},
            {"headers": ("OpenAI-Beta:x",)},
            {"body": '{"top_k":1}'},
        )
    ]
    names = {one.identity for one in others}
    assert 7 == len(names - {base.identity})
    same = dataclasses.replace(base, timeout=3, concurrency=2, url=base.url + "/", price_in=1.0, key_env="X")
    assert base.identity == same.identity


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "localhost:8000"}, "no address of a server"),
        ({"url": "https://me:secret@host/v1"}, "url holds a user"),
        ({"url": "https://host/v1?key=abc"}, "url holds a key"),
        ({"headers": ("Authorization:Bearer abc",)}, "Authorization:env:VARIABLE"),
        ({"headers": ("X-Title",)}, "no header"),
        ({"body": "{"}, "no JSON"),
        ({"body": "[1]"}, "no JSON object"),
        ({"body": '{"stream":true}'}, "must not set stream"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"timeout": 0}, "timeout=0"),
        ({"price_in": -1.0}, "price_in=-1.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    """Each is named with its cure, and a secret in it is not repeated."""
    with pytest.raises(BadSetting, match=said) as caught:
        OpenaiCompatible("m", **settings)
    assert "secret@" not in str(caught.value) and "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1?api-version=2026", "/api/v1/chat/completions?api-version=2026"),
    ],
)
def test_the_address_is_forgiving(url: str, path: str) -> None:
    """With or without a slash at the end, with the whole path, with a query, or only the host."""
    assert "http://127.0.0.1:1" + path == OpenaiCompatible("m", "http://127.0.0.1:1" + url)._endpoint


def test_rates_are_learned() -> None:
    """What the server tells of its limits is there for the gate."""
    with serving(admit=40, admit_burst=40, admit_headers=True) as server:
        provider = OpenaiCompatible("m", server.url)
        assert provider.rates is None
        ask(provider, request())
    assert provider.rates is not None
    assert (2400.0, None) == (provider.rates.requests, provider.rates.tokens)
    assert rates_told({"x-ratelimit-limit-tokens": "90000"}).tokens == 90000.0  # type: ignore[union-attr]
