"""An OpenAI-compatible server from outside: its address, the key that opens it, what a refusal means.

The key is read from the environment when a call is made, goes out in one header to one host, and is kept
nowhere. Knows no provider, and not what is asked.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import orjson

from karat.errors import BadSetting, ProviderError
from karat.generation import chat_api
from karat.generation.base import check_number
from karat.generation.http import Answer, Line
from karat.generation.prices import is_own
from karat.generation.redaction import Redactor

# Headers of these names hold secrets, which must not stand in a spec, a manifest or a report.
_SECRET = re.compile(r"auth|key|token|secret|password|cookie|credential", re.IGNORECASE)
_FROM_ENVIRONMENT = "env:"
_MODELS_SHOWN = 8
_PLAIN: dict[str, Any] = {"api": "chat", "structured": "auto", "seed": True, "headers": [], "body": {}}


@dataclass
class Access:
    """Address, key and further headers and fields of a server; what is wrong with them is said at once.

    Raises BadSetting for an address that is none, and where a secret would be written down.
    """

    url: str
    key_env: str
    headers: tuple[str, ...] = ()
    body: str = ""
    _made: dict[str, str] | None = field(default=None, repr=False)
    _made_of: tuple[str, dict[str, str]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
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
        if {"stream", "n", "messages", "prompt"} & set(self.extra):
            raise BadSetting(f"body={self.body!r} must not set stream, n, messages or prompt")

    def identity(self, model: str, **told: Any) -> str:
        """All that may change the answer, without secrets; what is as usual is left out."""
        told |= {
            "model": model,
            "url": self.url.rstrip("/"),
            "headers": [h for h in self.headers if _FROM_ENVIRONMENT not in h],
            "body": self.extra,
        }
        return orjson.dumps(
            {name: value for name, value in told.items() if _PLAIN.get(name) != value},
            option=orjson.OPT_SORT_KEYS,
        ).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be written: the key and the header values that come from the environment."""
        values = (self.key, *self.from_environment.values())
        return tuple(piece for value in values for piece in {value, *value.split()} if piece)

    @cached_property
    def extra(self) -> dict[str, Any]:
        """Further fields of the body."""
        try:
            found = orjson.loads(self.body) if self.body else {}
        except orjson.JSONDecodeError as error:
            raise BadSetting(f'body={self.body!r} is no JSON ({error}); write {{"top_k":40}}') from None
        if not isinstance(found, dict):
            raise BadSetting(f'body={self.body!r} is no JSON object; write {{"top_k":40}}')
        return found

    def path(self, last: str, query: str = "") -> str:
        """The address of a part of the API; a query stays at the end, and a bare host gets its /v1."""
        parts = urlsplit(self.url)
        path = re.sub(r"/(chat/completions|completions)?/?$", "", parts.path) or "/v1"
        whole = "&".join(filter(None, (parts.query, query)))
        return urlunsplit((parts.scheme, parts.netloc, f"{path}/{last}", whole, ""))

    # ------------------------------------------------------------------------------------ the key

    def sent(self) -> Mapping[str, str]:
        """The headers of a call; the key is read anew, and they are made anew when it has changed."""
        key = self.key
        told = self.from_environment if self.headers else {}
        if self._made is None or self._made_of != (key, told):
            self._check(key, told)
            self._made_of = (key, told)
            self._made = {"Content-Type": "application/json"}
            if key:
                self._made["Authorization"] = f"Bearer {key}"
            for header in self.headers:
                name, _, value = header.partition(":")
                self._made[name] = told.get(name, value)
        return self._made

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
    def key(self) -> str:
        """The key; empty where there is none."""
        return os.environ.get(self.key_env, "").strip() if self.key_env else ""

    @property
    def from_environment(self) -> dict[str, str]:
        """Header values by header name, of those that the environment holds."""
        found = {}
        for header in self.headers:
            name, _, value = header.partition(":")
            if value.startswith(_FROM_ENVIRONMENT):
                variable = value.removeprefix(_FROM_ENVIRONMENT)
                found[name] = os.environ.get(variable, "").strip()
        return found

    # ------------------------------------------------------------------------------------ refusals

    def failure(self, answer: Answer, model: str) -> Exception:
        """What an answer without a response means, in words that hold no secret."""
        status, said = answer.status, chat_api.words(answer.body)
        hide = Redactor(self.secrets).text
        moderated = status == 403 and re.search(r"flagged|moderation", said)
        if status in (401, 403) and not moderated:
            how = "is refused" if self.key else "is not set"
            name = self.key_env or "none"
            return ProviderError(
                hide(f"{self.url} answers {status}: {said}; the key in the environment variable {name} {how}")
            )
        found = chat_api.failure(status, answer.headers, answer.body, model=model, url=self.url)
        found.args = tuple(hide(str(part)) for part in found.args)
        return found

    async def not_there(self, answer: Answer, model: str, where: str, line: Line) -> Exception:
        """What a 404 at the address `where` means: which models there are."""
        have = await self._models(line)
        others = f" (it has: {', '.join(have)})" if have else ""
        said = chat_api.words(answer.body)
        return ProviderError(
            Redactor(self.secrets).text(
                f"{where} answers 404 for the model {model!r}{others}: {said}; mend model or url"
            )
        )

    async def _models(self, line: Line) -> list[str]:
        """The first names of models that the server has; empty where it does not say."""
        try:
            answer = await asyncio.wait_for(line.get(self.path("models"), self.sent()), 5)
            listed = orjson.loads(answer.body)["data"]
            names = [str(one["id"]) for one in listed]
        except Exception:  # only a hint for the message of another error
            return []
        more = len(names) - _MODELS_SHOWN
        return names[:_MODELS_SHOWN] + ([f"and {more} more"] if more > 0 else [])


def check_prices(price_in: float | None, price_out: float | None) -> None:
    """Raise BadSetting for a price under nothing."""
    for name, value in (("price_in", price_in), ("price_out", price_out)):
        check_number(name, value or 0.0, 0.0, "it is in USD per million tokens")
