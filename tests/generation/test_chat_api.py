"""The language of OpenAI's API without a server: forms of answers, words of errors, times to wait."""

from __future__ import annotations

import json
from typing import Any

import pytest

from karat.errors import ProviderError
from karat.generation import chat_api
from karat.generation.base import Message, Refused, Request, Retryable
from karat.generation.http import _proxy, wait_asked

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "stars": {"type": "integer"}},
    "required": ["text", "stars"],
    "additionalProperties": False,
}


def request(**settings: Any) -> Request:
    return Request("r1", (Message("user", "Write."),), max_tokens=64, **settings)


def test_strict_only_where_openai_would_take_it() -> None:
    """Strict mode wants every object closed and all its fields required."""
    assert chat_api.is_closed(SCHEMA)
    assert chat_api.is_closed({"type": "array", "items": SCHEMA})
    assert not chat_api.is_closed({**SCHEMA, "required": ["text"]})
    assert not chat_api.is_closed({**SCHEMA, "properties": {"text": {"type": "object"}, "stars": {}}})


def test_a_temperature_is_never_dropped_in_silence() -> None:
    """A model that takes only temperature 1 ends the run in one line: no row would be as asked for."""
    said = {"error": {"message": "Unsupported value: 'temperature' does not support 0.5 with this model."}}
    data = json.dumps(said).encode()
    assert {} == chat_api.adapted(chat_api.Manners(), request(temperature=0.5), data, fall_back=True)
    found = chat_api.failure(400, {}, data, model="o9", url="u")
    assert isinstance(found, ProviderError)
    assert "set it to 1" in str(found)


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 4096 tokens",
        "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model does not support more",
        "Your input was flagged by our filter",
    ],
)
def test_what_is_wrong_with_the_row_changes_nothing(said: str) -> None:
    """Only a server that does not know a field is asked in another way; the row is refused in its words."""
    data = json.dumps({"error": {"message": said}}).encode()
    asked = request(schema=SCHEMA)
    assert {} == chat_api.adapted(chat_api.Manners(), asked, data, fall_back=True)
    found = chat_api.failure(400, {}, data, model="m", url="u")
    assert (Refused, said) == (type(found), str(found))


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        ({"message": {"content": ""}, "finish_reason": "stop"}, "", "stop"),
        ({"message": {"content": None}, "finish_reason": "length"}, "", "length"),
        ({"message": {"content": None}, "finish_reason": "content_filter"}, "", "content_filter"),
        ({"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}, "ab", "stop"),
        ({"message": {"content": "half"}, "finish_reason": "error"}, None, ""),
        ({"message": "text"}, None, ""),
        ({}, None, ""),
    ],
)
def test_the_forms_of_a_choice(choice: Any, text: str | None, reason: str) -> None:
    """Empty is an answer, missing is none; thinking that used all tokens is not asked for again."""
    data = json.dumps({"choices": [choice]}).encode()
    if text is None:
        with pytest.raises(Retryable):
            chat_api.read(request(), data, model="m")
    else:
        response = chat_api.read(request(), data, model="m")
        assert (text, reason) == (response.text, response.finish_reason)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "Retry-After": "7"}, 0.25),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "99999999"}, None),
        # by the server's clock, whatever ours says
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        (
            {
                "x-ratelimit-reset-requests": "1h",
                "x-ratelimit-remaining-requests": "12",
                "x-ratelimit-reset-tokens": "1m30.5s",
                "x-ratelimit-remaining-tokens": "0",
            },
            90.5,
        ),
        ({"x-ratelimit-reset": "3"}, 3.0),
        ({"x-ratelimit-reset-requests": "1 fortnight"}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds, dates and OpenAI's spans; nonsense is no answer."""
    found = wait_asked(headers)
    assert (seconds is None and found is None) or seconds == pytest.approx(found)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":{"message":"too long","code":"x"}}', "too long"),
        (b'{"error":"plain"}', "plain"),
        (b'{"object":"error","message":"vLLM of old","code":400}', "vLLM of old"),
        (b'{"detail":[{"loc":["body","seed"],"msg":"Extra inputs"}]}', "body.seed: Extra inputs"),
        (b"<html><style>b{}</style><h1>Bad &amp; sad</h1></html>", "Bad & sad"),
        (b"upstream\n  timed out", "upstream timed out"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_the_servers_own_words(body: bytes, said: str) -> None:
    """The message of all forms of errors, on one line and without tags."""
    assert said == chat_api.words(body)
    assert 240 == len(chat_api.words(b"a" * 5000))


def test_a_request_larger_than_a_minute_allows_is_not_waited_for() -> None:
    """OpenAI answers 429 to a row that will never fit; it costs that row and no time."""
    said = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000."
    data = json.dumps({"error": {"message": said, "code": "rate_limit_exceeded"}}).encode()
    assert isinstance(chat_api.failure(429, {}, data, model="gpt-4o", url="u"), Refused)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (402, {"message": "Insufficient Balance"}, ProviderError),
        (429, {"message": "x", "type": "insufficient_quota"}, ProviderError),
        (400, {"message": "The model `m9` does not exist"}, ProviderError),
        (400, {"message": "no", "code": "model_not_found"}, ProviderError),
        (400, {"message": "Invalid role", "code": "invalid_request_error"}, Refused),
        (405, {"message": "Method Not Allowed"}, ProviderError),
        (501, {"message": "Not Implemented"}, ProviderError),
        (451, {"message": "not in your country"}, Refused),
        (599, {"message": "?"}, Retryable),
    ],
)
def test_what_is_hopeless_and_what_is_not(status: int, error: dict[str, Any], kind: type[Exception]) -> None:
    """No money, no such model and a wrong address end the run; a bad row does not."""
    data = json.dumps({"error": error}).encode()
    assert kind is type(chat_api.failure(status, {}, data, model="m9", url="u"))


def test_a_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers outside, unless the environment excludes them; never for this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert "http://proxy.example:3128" == _proxy("https://api.openai.com/v1")
    assert _proxy("https://api.inside.example/v1") is None
    assert _proxy("https://127.0.0.1:8000/v1") is None
    assert _proxy("http://api.example.com/v1") is None
