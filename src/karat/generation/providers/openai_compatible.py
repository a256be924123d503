"""Any server that speaks OpenAI's API: OpenAI, vLLM, SGLang, llama.cpp, Ollama, OpenRouter. Knows no recipe.

How a server wants to be asked (its way of structured output, the name of its token limit) is learned
from what it refuses, without losing a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from karat.generation import chat_api
from karat.generation.access import Access, check_prices
from karat.generation.base import Price, Request, Response, check_number
from karat.generation.gate import Rates
from karat.generation.http import Answer, Line, rates_told
from karat.generation.prices import Rates as TokenRates
from karat.generation.prices import known, most_of


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
        check_prices(self.price_in, self.price_out)
        _ = self._access  # which says what is wrong with it

    # ------------------------------------------------------------------------------ what it is

    @property
    def identity(self) -> str:
        """All that may change the answer, without secrets."""
        return self._access.identity(self.model, api=self.api, structured=self.structured, seed=self.seed)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be written: the key and the header values that come from the environment."""
        return self._access.secrets

    @property
    def rates(self) -> Rates | None:
        """Requests and tokens a minute that the server's answers told; None where they told none."""
        return self._state.rates

    def price(self, request: Request) -> Price:
        """The most that a request can cost; `usd` is nan where no price is known."""
        return most_of(request, self.known_price)

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
            data = chat_api.body(request, self.model, sent, api=self.api, extra=self._access.extra)
            answer = await state.line.post(self._endpoint, self._access.sent(), data)
            if answer.status == 200:
                state.learn(answer.headers)
                return chat_api.read(
                    request, answer.body, model=self.model, api=self.api, rates=self.known_price
                )
            # 500: llama-cpp-python gives it for a field that it does not take, and says which.
            if answer.status not in (400, 422, 500) or not self._adapt(sent, request, answer.body):
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
        if answer.status == 404:
            return await self._access.not_there(answer, self.model, self._endpoint, self._state.line)
        return self._access.failure(answer, self.model)

    # ------------------------------------------------------------------------------ address, state

    @cached_property
    def _access(self) -> Access:
        return Access(self.url, self.key_env, self.headers, self.body)

    @cached_property
    def _endpoint(self) -> str:
        return self._access.path("chat/completions" if self.api == "chat" else "completions")

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
    rates: Rates | None = None

    def learn(self, headers: Mapping[str, str]) -> None:
        """Keep the limits that an answer tells."""
        told = rates_told(headers)
        if told is not None and told != self.rates:
            self.rates = told
