"""Any server that speaks OpenAI's API: OpenAI, vLLM, SGLang, llama.cpp, Ollama, OpenRouter. Knows no recipe.

The key is read from the environment when a call is made, goes out in one header to one host, and is kept
nowhere. How a server wants to be asked (its way of structured output, the name of its token limit) is learned
from what it refuses, without losing a row.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import orjson

from karat.errors import BadSetting, ProviderError
from karat.generation import chat_api
from karat.generation.base import Price, Request, Response, check_number, most_tokens_in
from karat.generation.gate import Rates
from karat.generation.http import Answer, Line, rates_told
from karat.generation.prices import Rates as TokenRates
from karat.generation.prices import is_own, known
from karat.generation.redaction import Redactor

# Headers of these names hold secrets, which must not stand in a spec, a manifest or a report.
_SECRET = re.compile(r"auth|key|token|secret|password|cookie|credential", re.IGNORECASE)
_FROM_ENVIRONMENT = "env:"
_MODELS_SHOWN = 8


@dataclass(frozen=True)
class OpenaiCompatible:
    """Ask a server that speaks OpenAI's API: OpenAI, vLLM, SGLang, llama.cpp, Ollama, OpenRouter.

    model: the name of the model, as the server calls it. url: where the API is, up to and with /v1.
    key_env: the name of the environment variable with the key; a server of one's own needs none.
    api: chat or completions. concurrency: the most calls at a time. timeout: seconds for a whole call.
    connect_timeout: seconds until a connection stands. structured: how a schema is asked for; auto begins
    with json_schema and falls back where the server does not know it. seed: whether a seed is sent.
    max_tokens_field: what the server calls its token limit; the other name is tried by itself.
    headers: further headers, NAME:VALUE joined by +; a VALUE of env:VARIABLE is read from the environment.
    body: further fields of the body as a JSON object, such as {"top_k":40}.
    price_in, price_out: USD per million tokens; none: from the table of prices. prices: a TOML file that goes
    before the table. most_bytes: the largest answer that is read.
    """

    model: str
    url: str = "https://api.openai.com/v1"
    key_env: str = "OPENAI_API_KEY"
    api: Literal["chat", "completions"] = "chat"
    concurrency: int = 256
    timeout: float = 120.0
    connect_timeout: float = 15.0
    structured: Literal["auto", "json_schema", "json_object", "guided_json", "off"] = "auto"
    seed: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    headers: tuple[str, ...] = ()
    body: str = ""
    price_in: float | None = None
    price_out: float | None = None
    prices: str = ""
    most_bytes: int = 16 * 1024 * 1024

    batch_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("concurrency", self.concurrency, 1, "a call must be allowed")
        check_number("timeout", self.timeout, 0.001, "it is in seconds")
        check_number("connect_timeout", self.connect_timeout, 0.001, "it is in seconds")
        check_number("most_bytes", self.most_bytes, 1024, "an answer must fit into it")
        for name in ("price_in", "price_out"):
            check_number(name, getattr(self, name) or 0.0, 0.0, "it is in USD per million tokens")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadSetting(f"url={self.url!r} is no address of a server; write http://HOST:PORT/v1")
        if parts.username or parts.password:
            raise BadSetting("url holds a user or a password; put it into headers=Authorization:env:VARIABLE")
        if any(_SECRET.search(name) for name, _ in parse_qsl(parts.query)):
            raise BadSetting("url holds a key in its query; give it as a header: headers=NAME:env:VARIABLE")
        for header in self.headers:
            name, colon, value = header.partition(":")
            if not colon or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise BadSetting(f"headers: {name!r} is no header; write NAME:VALUE or NAME:env:VARIABLE")
            if _SECRET.search(name) and not value.startswith(_FROM_ENVIRONMENT):
                raise BadSetting(
                    f"headers: the value of {name!r} would be written into reports; put it into a variable "
                    f"of the environment and write {name}:env:VARIABLE"
                )
        if {"stream", "n", "messages", "prompt"} & set(self._extra):
            raise BadSetting(f"body={self.body!r} must not set stream, n, messages or prompt")

    # ------------------------------------------------------------------------------ what it is

    @property
    def identity(self) -> str:
        """All that may change the answer, without secrets."""
        told = {
            "model": self.model,
            "url": self.url.rstrip("/"),
            "api": self.api,
            "structured": self.structured,
            "seed": self.seed,
            "headers": [h for h in self.headers if _FROM_ENVIRONMENT not in h],
            "body": self._extra,
        }
        plain = {"api": "chat", "structured": "auto", "seed": True, "headers": [], "body": {}}
        return orjson.dumps(
            {name: value for name, value in told.items() if plain.get(name) != value},
            option=orjson.OPT_SORT_KEYS,
        ).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be written: the key and the header values that come from the environment."""
        values = (self._key, *self._from_environment.values())
        return tuple(piece for value in values for piece in {value, *value.split()} if piece)

    @property
    def rates(self) -> Rates | None:
        """Requests and tokens a minute that the server's answers told; None where they told none."""
        return self._state.rates

    def price(self, request: Request) -> Price:
        """The most that a request can cost; `usd` is nan where no price is known."""
        tokens_in = most_tokens_in(request)
        if request.schema:
            tokens_in += len(orjson.dumps(dict(request.schema))) // 2
        rates = self.known_price
        usd = math.nan if rates is None else rates.cost(tokens_in, request.max_tokens)
        return Price(tokens_in + request.max_tokens, usd)

    @cached_property
    def known_price(self) -> TokenRates | None:
        """USD per million tokens; None where it is not known."""
        return known(
            self.model,
            url=self.url,
            price_in=self.price_in,
            price_out=self.price_out,
            prices=self.prices or None,
        )

    # -------------------------------------------------------------------------------- calling

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests, each by a call of its own."""
        if len(requests) == 1:
            return [await self._answer(requests[0])]
        return list(await asyncio.gather(*map(self._answer, requests)))

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._state.line.close()

    async def _answer(self, request: Request) -> Response:
        state = self._state
        while True:
            sent = state.manners
            data = chat_api.body(request, self.model, sent, api=self.api, extra=self._extra)
            answer = await state.line.post(self._endpoint, self._headers(), data)
            if answer.status == 200:
                state.learn(answer.headers)
                return chat_api.read(
                    request, answer.body, model=self.model, api=self.api, rates=self.known_price
                )
            if answer.status not in (400, 422) or not self._adapt(sent, request, answer.body):
                raise await self._failure(answer)

    def _adapt(self, sent: chat_api.Manners, request: Request, data: bytes) -> bool:
        """Learn from a refusal how the server wants to be asked; whether to ask again."""
        state = self._state
        changes = chat_api.adapted(sent, request, data, fall_back=self.structured == "auto")
        if changes.get("max_tokens") == self.max_tokens_field:
            return False  # both names were refused
        for name, value in changes.items():
            # Of many calls in the air, only the first to come back changes it.
            if getattr(state.manners, name) == getattr(sent, name):
                state.manners = replace(state.manners, **{name: value})
        return bool(changes)

    async def _failure(self, answer: Answer) -> Exception:
        """What an answer without a response means, in words that hold no secret."""
        status, said = answer.status, chat_api.words(answer.body)
        hide = Redactor(self.secrets).text
        if status == 404:
            have = await self._models()
            others = f" (it has: {', '.join(have)})" if have else ""
            return ProviderError(
                hide(
                    f"{self._endpoint} answers 404 for the model {self.model!r}{others}: {said}; "
                    "mend model or url"
                )
            )
        moderated = status == 403 and re.search(r"flagged|moderation", said)
        if status in (401, 403) and not moderated:
            how = "is refused" if self._key else "is not set"
            name = self.key_env or "none"
            return ProviderError(
                hide(f"{self.url} answers {status}: {said}; the key in the environment variable {name} {how}")
            )
        found = chat_api.failure(status, answer.headers, answer.body, model=self.model, url=self.url)
        found.args = tuple(hide(str(part)) for part in found.args)
        return found

    async def _models(self) -> list[str]:
        """The first names of models that the server has; empty where it does not say."""
        try:
            answer = await asyncio.wait_for(self._state.line.get(self._path("models"), self._headers()), 5)
            listed = orjson.loads(answer.body)["data"]
            names = [str(one["id"]) for one in listed]
        except Exception:  # only a hint for the message of another error
            return []
        more = len(names) - _MODELS_SHOWN
        return names[:_MODELS_SHOWN] + ([f"and {more} more"] if more > 0 else [])

    # ------------------------------------------------------------------------- address, key, state

    def _headers(self) -> Mapping[str, str]:
        """The headers of a call; the key is read anew, and they are made anew when it has changed."""
        key = self._key
        told = self._from_environment if self.headers else {}
        state = self._state
        if state.headers is None or state.made_of != (key, told):
            self._check(key, told)
            state.made_of = (key, told)
            state.headers = {"Content-Type": "application/json"}
            if key:
                state.headers["Authorization"] = f"Bearer {key}"
            for header in self.headers:
                name, _, value = header.partition(":")
                state.headers[name] = told.get(name, value)
        return state.headers

    def _check(self, key: str, told: Mapping[str, str]) -> None:
        """Raise ProviderError where a call would go out without its key, or with it for all to read."""
        own = is_own(self.url)
        for name, value in told.items():
            if not (value and value.isascii() and value.isprintable()):
                raise ProviderError(
                    f"the environment variable for the header {name} holds no value that can be sent; set it"
                )
        if key and not (key.isascii() and key.isprintable()):
            raise ProviderError(f"the environment variable {self.key_env} holds no key; set it anew")
        if not own and not key and not self.headers:
            raise ProviderError(
                f"no key for {self.url}: the environment variable {self.key_env or '(none)'} is not set; set "
                "it, or name another one with key_env"
            )
        if not own and urlsplit(self.url).scheme == "http" and (key or told):
            raise ProviderError(f"{self.url} would send the key unencrypted; write https")

    @property
    def _key(self) -> str:
        return os.environ.get(self.key_env, "").strip() if self.key_env else ""

    @property
    def _from_environment(self) -> dict[str, str]:
        """Header values by header name, of those that the environment holds."""
        found = {}
        for header in self.headers:
            name, _, value = header.partition(":")
            if value.startswith(_FROM_ENVIRONMENT):
                variable = value.removeprefix(_FROM_ENVIRONMENT)
                found[name] = os.environ.get(variable, "").strip()
        return found

    @cached_property
    def _extra(self) -> dict[str, Any]:
        try:
            found = orjson.loads(self.body) if self.body else {}
        except orjson.JSONDecodeError as error:
            raise BadSetting(f'body={self.body!r} is no JSON ({error}); write {{"top_k":40}}') from None
        if not isinstance(found, dict):
            raise BadSetting(f'body={self.body!r} is no JSON object; write {{"top_k":40}}')
        return found

    @cached_property
    def _endpoint(self) -> str:
        return self._path("chat/completions" if self.api == "chat" else "completions")

    def _path(self, last: str) -> str:
        """The address of a part of the API; a query stays at the end, and a bare host gets its /v1."""
        parts = urlsplit(self.url)
        path = re.sub(r"/(chat/completions|completions)?/?$", "", parts.path) or "/v1"
        return urlunsplit((parts.scheme, parts.netloc, f"{path}/{last}", parts.query, ""))

    @cached_property
    def _state(self) -> _State:
        manners = chat_api.Manners(
            structured="json_schema" if self.structured == "auto" else self.structured,
            max_tokens=self.max_tokens_field,
            seed=self.seed,
        )
        return _State(Line(self.timeout, self.connect_timeout, self.most_bytes), manners)

    def __getstate__(self) -> dict[str, Any]:
        """Connections and keys do not travel to other processes."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass
class _State:
    """What a provider has open, and what it has learned of its server."""

    line: Line
    manners: chat_api.Manners
    headers: dict[str, str] | None = field(default=None, repr=False)
    made_of: tuple[str, dict[str, str]] | None = field(default=None, repr=False)
    rates: Rates | None = None

    def learn(self, headers: Mapping[str, str]) -> None:
        """Keep the limits that an answer tells."""
        told = rates_told(headers)
        if told is not None and told != self.rates:
            self.rates = told
