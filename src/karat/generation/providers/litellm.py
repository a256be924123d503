"""Services that do not speak OpenAI's API, through the library litellm. Knows no recipe and no price itself.

litellm finds address, key and dialect of a service by the name of the model; retries, budgets and what is
written down stay ours. Keys are read from the environment by litellm, as its documentation names them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import orjson

from karat.errors import ProviderError, missing_extra
from karat.generation import chat_api
from karat.generation.base import Price, Refused, Request, Response, Retryable, check_number
from karat.generation.http import wait_asked
from karat.generation.prices import FREE, Rates, is_own, known, most_of
from karat.generation.redaction import Redactor

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|AUTH", re.IGNORECASE)
_PREFIX = re.compile(r"^(litellm\.)?(\w+(Error|Exception|Timeout): ?)+(\w+(Exception|Error) - )?")
_NO_MONEY = re.compile(r"quota|billing|credit balance|insufficient (funds|balance)", re.IGNORECASE)


@dataclass(frozen=True)
class Litellm:
    """Ask a service through litellm: Anthropic, Gemini, Bedrock, Mistral, Cohere and a hundred others.

    model: litellm's name, vendor/model, such as anthropic/claude-haiku-4-5 or gemini/gemini-2.5-flash.
    url: another address than the vendor's, such as a proxy; empty: the vendor's.
    key_env: the environment variable with the key; empty: the one that litellm reads for this vendor.
    concurrency: the most calls at a time. timeout: seconds for a whole call.
    structured: how a schema is asked for; a vendor that does not know it is asked without.
    price_in, price_out: USD per million tokens; none: from litellm's table, then from ours.
    prices: a TOML file that goes before the tables.

    A setting that a vendor does not take (seed, stop, logprobs) is left out, as litellm knows it.
    A server that speaks OpenAI's API is asked by openai_compatible for a twentieth of the CPU time.
    """

    model: str
    url: str = ""
    key_env: str = ""
    concurrency: int = 64
    timeout: float = 120.0
    structured: Literal["json_schema", "json_object", "off"] = "json_schema"
    price_in: float | None = None
    price_out: float | None = None
    prices: str = ""

    batch_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("concurrency", self.concurrency, 1, "a call must be allowed")
        check_number("timeout", self.timeout, 0.001, "it is in seconds")
        for name in ("price_in", "price_out"):
            check_number(name, getattr(self, name) or 0.0, 0.0, "it is in USD per million tokens")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    @property
    def identity(self) -> str:
        """Model, address and way of structure: all that may change the answer."""
        return f"litellm:{self.model}@{self.url.rstrip('/')}:structured={self.structured}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of all environment variables whose names sound like a key: litellm knows hundreds."""
        return tuple(
            v for name, v in os.environ.items() if v and (name == self.key_env or _SECRET.search(name))
        )

    def price(self, request: Request) -> Price:
        """The most that a request can cost; `usd` is nan where no price is known."""
        return most_of(request, self.known_price)

    @cached_property
    def known_price(self) -> Rates | None:
        """USD per million tokens: the settings, the user's file, litellm's table, ours; None: not known."""
        said = {"price_in": self.price_in, "price_out": self.price_out}
        if None not in said.values() or self.prices:
            found = known(self.model, url=self.url, prices=self.prices or None, **said)
            if found is not None:
                return found
        if self.url and is_own(self.url):
            return FREE
        try:
            told = _library().get_model_info(self.model)
            dear_in, dear_out = told["input_cost_per_token"] * 1e6, told["output_cost_per_token"] * 1e6
            rates: Rates | None = Rates(dear_in, dear_out, source="litellm")
        except Exception:  # a name that it does not know raises a plain Exception in most releases
            rates = known(self.model)
        if rates is None:
            return None
        return Rates(
            rates.tokens_in if self.price_in is None else self.price_in,
            rates.tokens_out if self.price_out is None else self.price_out,
            source=rates.source,
        )

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests, one call each.

        Raises Retryable, Refused or ProviderError by what litellm makes of the vendor's error.
        """
        return [await self._answer(request) for request in requests]

    async def close(self) -> None:
        """Close the connections that litellm keeps."""
        closing = getattr(sys.modules.get("litellm"), "close_litellm_async_clients", None)
        if closing is not None:
            await closing()

    async def _answer(self, request: Request) -> Response:
        library = _library()
        try:
            answer = await library.acompletion(**self._asked(request))
        except Exception as error:  # litellm hands through whatever its hundred dialects raise
            raise self._meaning(error) from None
        told = answer.model_dump(warnings=False)
        usage = told.get("usage") or {}
        if not usage.get("prompt_tokens") and not usage.get("completion_tokens"):
            told["usage"] = None  # litellm writes 0 where a server told nothing; ours is an estimate
        read = chat_api.read(
            request, orjson.dumps(told, default=str), model=self.model, rates=self.known_price
        )
        return read

    def _asked(self, request: Request) -> dict[str, Any]:
        told: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "seed": request.draw_seed,
            "timeout": self.timeout,
            "num_retries": 0,  # the engine waits and tries again; two that do would multiply
            "max_retries": 0,
            "drop_params": True,
        }
        # Claude refuses both at once; elsewhere a server may have a default of its own below 1.
        if request.top_p != 1 or "claude" not in self.model.lower():
            told["top_p"] = request.top_p
        if request.stop:
            told["stop"] = list(request.stop)
        if request.logprobs:
            told |= {"logprobs": True, "top_logprobs": request.logprobs}
        if request.schema and self.structured == "json_schema":
            schema = dict(request.schema)
            named = {"name": "answer", "schema": schema, "strict": chat_api.is_closed(schema)}
            told["response_format"] = {"type": "json_schema", "json_schema": named}
        elif request.schema and self.structured == "json_object":
            told["response_format"] = {"type": "json_object"}
        if self.url:
            told["base_url"] = self.url
        key = os.environ.get(self.key_env, "").strip() if self.key_env else ""
        if self.key_env and not key and not is_own(self.url or "https://vendor.example"):
            raise ProviderError(
                f"no key for {self.model}: the environment variable {self.key_env} is not set; set it"
            )
        if key:
            told["api_key"] = key
        elif self.url and is_own(self.url):
            told["api_key"] = "none"  # never the key of a vendor to a server of one's own
        return told

    def _meaning(self, error: Exception) -> Exception:
        """Retryable, Refused or ProviderError for what litellm raised, in words without secrets."""
        if isinstance(error, Retryable | Refused | ProviderError):
            return error
        said = _words(error, Redactor(self.secrets).text)
        what = f"{self.model}: {said}"
        chain = list(_chain(error))
        names = {type(one).__name__ for one in chain}
        headers = _headers(error)
        status = getattr(error, "status_code", None)
        status = status if isinstance(status, int) else None
        missing = next((one for one in chain if isinstance(one, ImportError)), None)
        if missing is not None:
            return ProviderError(f"{what}; litellm needs the package {missing.name!r} for it: install it")
        if names & {"ConnectError", "ClientConnectorError", "ConnectionRefusedError", "ConnectTimeout"}:
            return Retryable(what, cause="connection")
        if "TooManyRedirects" in names:
            return ProviderError(f"{what}; the server points elsewhere: give its true address as url")
        if "LLM Provider NOT provided" in str(error) or "LiteLLMUnknownProvider" in names:
            return ProviderError(
                f"litellm knows no vendor for the model {self.model!r}; write vendor/model, such as "
                "anthropic/claude-haiku-4-5 or openai/NAME"
            )
        if names & {"ContextWindowExceededError", "ContentPolicyViolationError"}:
            return Refused(said)
        if headers is not None or status in (400, 401, 402, 403, 404, 413, 422, 429):
            return self._by_status(status, headers or {}, what, said)
        if isinstance(error, TimeoutError) or "Timeout" in names:
            return Retryable(what, cause="timeout", billed=True)
        if "APIConnectionError" in names and "OpenAIError" in names:
            return Retryable(what, cause="connection", billed=True)
        # What is left are answers that litellm cannot read: half a JSON, a page, a list.
        return Retryable(what, cause="answer", billed=True)

    def _by_status(self, status: int | None, headers: Mapping[str, str], what: str, said: str) -> Exception:
        """What the status of an answer means; the words of a vendor only where the status says too little."""
        key = self.key_env or "that litellm reads for this vendor"
        if status == 402 or (status in (400, 403, 429) and _NO_MONEY.search(said)):
            return ProviderError(f"{what}; the account has no money left: top it up, or give another key")
        if status in (401, 403):
            return ProviderError(f"{what}; the key in the environment variable {key} is missing or refused")
        if status == 404:
            return ProviderError(f"{what}; name a model that the vendor has, or mend url")
        wait = wait_asked(headers)
        if status == 429:
            return Retryable(what, wait, cause="busy")
        if status in (408, 425, 504):
            return Retryable(what, wait, cause="timeout", billed=status == 504)
        if status is not None and 400 <= status < 500 and status != 409:
            return Refused(said)
        return Retryable(what, wait, cause="server")


def _library() -> Any:
    """litellm, imported when first needed: without the fetch of its price table, which waits offline."""
    if "litellm" in sys.modules:
        return sys.modules["litellm"]
    # DEV would read a file .env of the current folder into the environment.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    added = {name: value for name, value in quiet.items() if name not in os.environ}
    os.environ.update(added)
    try:
        import litellm
    except ImportError:
        raise missing_extra("litellm", "litellm", "provider 'litellm'") from None
    finally:
        for name in added:
            os.environ.pop(name, None)
    litellm.suppress_debug_info = True  # it prints an invitation to report errors for each one
    litellm.telemetry = False
    return litellm


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, at most ten."""
    one: BaseException | None = error
    for _ in range(10):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__


def _headers(error: Exception) -> Mapping[str, str] | None:
    """The headers of the vendor's answer; None where there was none."""
    found = getattr(error, "litellm_response_headers", None)
    if found is None:
        found = getattr(getattr(error, "response", None), "headers", None) or None
    return found


def _words(error: Exception, hide: Any) -> str:
    """The vendor's own words, in one line."""
    text = " ".join(hide(str(error)).split())
    text = _PREFIX.sub("", text) or type(error).__name__
    return text if len(text) <= 240 else text[:239] + "…"
