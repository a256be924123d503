"""The language of /v1/chat/completions and /v1/completions: bodies, answers, and what an error means.

It knows no connection and no key; it turns requests into JSON and JSON into responses or exceptions.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from karat.errors import ProviderError
from karat.generation.base import Message, Refused, Request, Response, Retryable
from karat.generation.http import wait_asked
from karat.generation.prices import Rates

Api = Literal["chat", "completions"]
Structured = Literal["json_schema", "json_object", "guided_json", "off"]
MaxTokens = Literal["max_tokens", "max_completion_tokens"]

_NO = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|extra|invalid"
    r"|does not|doesn't|must contain|input should be|not available|not enabled|unavailable|not implemented",
    re.IGNORECASE,
)
_STRUCTURE = re.compile(
    r"response_format|json_schema|json_object|guided|schema|grammar|structured", re.IGNORECASE
)
_HOPELESS = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated")
_CODES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "content_filter": 400,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
}


@dataclass(frozen=True)
class Manners:
    """How a server wants to be asked, as far as it is known."""

    structured: Structured = "json_schema"
    max_tokens: MaxTokens = "max_tokens"
    seed: bool = True
    logprobs: bool = True
    temperature: bool = True
    top_p: bool = True


def body(
    request: Request,
    model: str,
    manners: Manners,
    *,
    api: Api = "chat",
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """What is posted for a request. `extra` goes over everything else."""
    told = _asked(request, model, manners, api)
    if extra:
        told.update(extra)
    try:
        return orjson.dumps(told)
    except TypeError:  # half a surrogate pair, which no server can read
        mended = tuple(Message(m.role, _mended(m.content)) for m in request.messages)
        told |= {"messages": mended} if api == "chat" else {"prompt": prompt(mended)}
        return orjson.dumps(told)


def _asked(request: Request, model: str, manners: Manners, api: Api) -> dict[str, Any]:
    told: dict[str, Any] = {"model": model}
    if api == "chat":
        told["messages"] = request.messages
    else:
        told["prompt"] = prompt(request.messages)
    if manners.temperature:
        told["temperature"] = request.temperature
    if manners.top_p:
        told["top_p"] = request.top_p
    told[manners.max_tokens] = request.max_tokens
    if manners.seed:
        told["seed"] = request.draw_seed
    if request.stop:
        told["stop"] = request.stop
    if request.logprobs and manners.logprobs:
        told |= (
            {"logprobs": True, "top_logprobs": request.logprobs}
            if api == "chat"
            else {"logprobs": request.logprobs}
        )
    if request.schema:
        told |= _structure(request.schema, manners.structured)
    return told


def _structure(schema: Mapping[str, Any], way: Structured) -> dict[str, Any]:
    schema = dict(schema)
    if way == "json_schema":
        named = {"name": "answer", "schema": schema, "strict": is_closed(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if way == "json_object":
        return {"response_format": {"type": "json_object"}}
    return {"guided_json": schema} if way == "guided_json" else {}


def is_closed(schema: Any) -> bool:
    """Whether every object of a schema wants all its fields and no others, as OpenAI's strict mode asks."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "object" or "properties" in schema:
            fields = schema.get("properties") or {}
            if schema.get("additionalProperties") is not False or set(fields) != set(
                schema.get("required", ())
            ):
                return False
        return all(is_closed(part) for part in schema.values())
    return all(is_closed(part) for part in schema) if isinstance(schema, list | tuple) else True


def prompt(messages: Sequence[Message]) -> str:
    """The text for the completions API: one message as it is, several one after the other."""
    return "\n\n".join(message.content for message in messages)


def _mended(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


# ---------------------------------------------------------------------------------------- answers


def read(
    request: Request, data: bytes, *, model: str, api: Api = "chat", rates: Rates | None = None
) -> Response:
    """The response in an answer of status 200.

    Raises Retryable (cause answer, billed) where there is none in it, or what an error in it says.
    """
    try:
        whole = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise _unreadable("no JSON", data) from None
    if not isinstance(whole, dict):
        raise _unreadable("no JSON object", data)
    choices = whole.get("choices")
    if not choices or not isinstance(choices, list) or not isinstance(choices[0], dict):
        if whole.get("error"):
            raise error_within(whole)
        raise _unreadable("no choices", data)
    choice = choices[0]
    text, reason = _text(choice, api)
    if text is None:
        raise _unreadable(f"no text (finish_reason {reason!r})", data)
    tokens_in, tokens_out, cost = _usage(whole.get("usage"), request, text)
    for stop in request.stop:  # some servers (transformers serve) leave it standing at the end
        text = text.partition(stop)[0]
    if rates is not None and cost is None:
        cost = rates.cost(tokens_in, tokens_out)
    logprob: float | None = None
    alternatives: tuple[tuple[str, float], ...] = ()
    if choice.get("logprobs"):
        logprob, alternatives = _logprobs(choice["logprobs"], request.logprobs)
    return Response(
        request.id, text, tokens_in, tokens_out, logprob, reason, cost or 0.0, model, alternatives
    )


def _text(choice: Mapping[str, Any], api: Api) -> tuple[str | None, str]:
    """The text of a choice (None: none) and why it ended."""
    reason = str(choice.get("finish_reason") or "stop")
    if api == "completions":
        text = choice.get("text")
        return (text if isinstance(text, str) else None), reason
    message = choice.get("message")
    if not isinstance(message, dict):
        return None, reason
    text, refusal = message.get("content"), message.get("refusal")
    if isinstance(text, list):  # parts, as some servers give them
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if not text and isinstance(refusal, str) and refusal:
        return refusal, "refusal"
    if text is None and reason in ("content_filter", "length"):
        return "", reason  # filtered, or all tokens went into thinking: to ask again gives no more
    return (text if isinstance(text, str) and reason != "error" else None), reason


def _usage(usage: Any, request: Request, text: str) -> tuple[int, int, float | None]:
    """Tokens in and out, and the cost in USD where the server tells it; estimated at four bytes a token."""
    told: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out = told.get("prompt_tokens"), told.get("completion_tokens")
    if not isinstance(tokens_in, int):
        sent = sum(len(m.content.encode("utf-8", "replace")) for m in request.messages)
        tokens_in = max(1, -(-sent // 4))
    if not isinstance(tokens_out, int):
        tokens_out = -(-len(text.encode("utf-8", "replace")) // 4)
    cost = told.get("cost")  # OpenRouter
    return tokens_in, tokens_out, float(cost) if isinstance(cost, int | float) else None


def _logprobs(told: Any, wanted: int) -> tuple[float | None, tuple[tuple[str, float], ...]]:
    """The mean over tokens in nats, and the most likely first tokens; both APIs' forms."""
    if not isinstance(told, dict):
        return None, ()
    tokens = told.get("content")
    if isinstance(tokens, list):
        values = [token.get("logprob") for token in tokens]
        first = tokens[0].get("top_logprobs") or [] if tokens and wanted else []
        top = [(one["token"], one["logprob"]) for one in first]
    else:
        values = told.get("token_logprobs") or []
        firsts = told.get("top_logprobs") or []
        top = list((firsts[0] or {}).items()) if firsts and wanted else []
    numbers = [float(value) for value in values if value is not None]
    mean = sum(numbers) / len(numbers) if numbers else None
    best = sorted(((str(token), float(value)) for token, value in top), key=lambda one: -one[1])
    return mean, tuple(best[:wanted])


def _unreadable(what: str, data: bytes) -> Retryable:
    return Retryable(f"the answer holds {what}: {words(data)[:80]!r}", cause="answer", billed=True)


# ----------------------------------------------------------------------------------------- errors


def words(data: bytes, most: int = 240) -> str:
    """The server's own words in the body of an error, shortened; a page is stripped of its tags."""
    text = data[:20_000].decode("utf-8", "replace")
    try:
        whole = orjson.loads(data)
    except orjson.JSONDecodeError:
        if "<" in text:
            text = html.unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL))
    else:
        text = _said(whole) or text
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _said(whole: Any) -> str:
    """The message within an error object, in the forms of OpenAI, FastAPI and others."""
    if isinstance(whole, str):
        return whole
    if isinstance(whole, list):
        return "; ".join(filter(None, map(_said, whole)))
    if not isinstance(whole, dict):
        return ""
    for name in ("error", "message", "detail", "msg"):
        if whole.get(name):
            said = _said(whole[name])
            place = whole.get("loc") or whole.get("param")
            if isinstance(place, list):
                place = ".".join(map(str, place))
            return f"{place}: {said}" if place and str(place) not in said else said
    return ""


def _code(data: bytes) -> tuple[str, str]:
    """Code and type of an error, as text."""
    try:
        whole = orjson.loads(data)
    except orjson.JSONDecodeError:
        return "", ""
    error = whole.get("error", whole) if isinstance(whole, dict) else None
    return (
        (str(error.get("code") or ""), str(error.get("type") or "")) if isinstance(error, dict) else ("", "")
    )


def failure(status: int, headers: Mapping[str, str], data: bytes, *, model: str, url: str) -> Exception:
    """What an answer of another status than 200 means: Retryable, Refused or ProviderError.

    401, 403 and 404 are the caller's to explain, who knows the key and the models.
    """
    said, (code, kind) = words(data), _code(data)
    what = f"{url} answers {status}" + (f": {said}" if said else "")
    if status == 402 or code in _HOPELESS or kind in _HOPELESS:
        return ProviderError(f"{what}; the account has no money left: top it up, or give another key")
    if status == 429 and "request too large" in said.lower():
        return Refused(said)  # more tokens than a minute allows: no waiting makes room for it
    if status == 429:
        return Retryable(what, wait_asked(headers), cause="busy")
    if status in (408, 425):
        return Retryable(what, wait_asked(headers), cause="timeout")
    if status == 409:
        return Retryable(what, wait_asked(headers), cause="server")
    if status in (501, 505):
        return ProviderError(f"{what}; the server cannot do this: try api=completions or api=chat")
    if status >= 500:
        return Retryable(what, wait_asked(headers), cause="server")
    if 300 <= status < 400:
        return ProviderError(
            f"{what} and points to {headers.get('Location', 'nowhere')!r}; a key is not sent on to another "
            "place: give that address as url, if you trust it"
        )
    if status == 405:
        return ProviderError(f"{what}; url must end before /chat/completions, as in http://HOST:PORT/v1")
    if status in (400, 422) and re.search(
        r"(temperature|top_p)\W.*support|support.*(temperature|top_p)\b", said
    ):
        return ProviderError(f"{what}; set it to 1, which is what this model takes")
    if code == "model_not_found" or (
        model in said and re.search(r"not exist|not found|unknown model|no such|pinned to", said)
    ):
        return ProviderError(f"{what}; name a model that the server has")
    return Refused(said or f"status {status}")


def error_within(whole: Mapping[str, Any]) -> Exception:
    """What an error in an answer of status 200 means, by its code."""
    error = whole["error"]
    data = orjson.dumps(whole)
    code, kind = _code(data)
    status = int(code) if code.isdigit() else _CODES.get(code) or _CODES.get(kind)
    if status is None or not 400 <= status < 600 or not isinstance(error, dict):
        return Retryable(f"the answer holds an error: {words(data)}", cause="answer", billed=True)
    found = failure(status, {}, data, model="\0", url="the server")
    if isinstance(found, Retryable):
        found.billed = True
    return found


def adapted(sent: Manners, request: Request, data: bytes, *, fall_back: bool) -> dict[str, Any]:
    """What to change in the manners after a 400 that names what the server does not take; empty: nothing.

    fall_back: whether structure may be asked for in a weaker way.
    """
    said = words(data, 2000)
    other: MaxTokens = "max_tokens" if sent.max_tokens == "max_completion_tokens" else "max_completion_tokens"
    if not _NO.search(said):
        return {}
    if sent.max_tokens in said and not re.search(r"too large|too long|context length|at most", said):
        return {"max_tokens": other}
    if sent.seed and re.search(r"\bseed\b", said):
        return {"seed": False}
    if sent.logprobs and request.logprobs and "logprobs" in said:
        return {"logprobs": False}
    # A sampling parameter is left out only where that changes nothing: 1 is what servers take without it.
    for name in ("temperature", "top_p"):
        if getattr(sent, name) and getattr(request, name) == 1.0 and name in said:
            return {name: False}
    if fall_back and request.schema and sent.structured != "off" and _STRUCTURE.search(said):
        return {"structured": "json_object" if sent.structured == "json_schema" else "off"}
    return {}
