"""Posting JSON over kept-alive connections, and what the answer says of waiting. Knows no API and no key."""

from __future__ import annotations

import asyncio
import math
import re
import time
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from karat.errors import ProviderError
from karat.generation.base import Retryable
from karat.generation.gate import Rates
from karat.version import __version__

if TYPE_CHECKING:
    import aiohttp

# Servers on uvicorn (vLLM, SGLang) hang up after 5 seconds of silence; we let go first, so that no request
# goes out on a line that is being cut.
_KEPT_ALIVE = 4.0
_CHUNK = 1 << 16
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 7 * 86400.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Line:
    """Connections to servers: one session for each event loop, opened when it is first used.

    timeout, connect_timeout: seconds. most_bytes: the largest answer that is read.
    """

    def __init__(self, timeout: float, connect_timeout: float, most_bytes: int) -> None:
        self.timeout, self.connect_timeout, self.most_bytes = timeout, connect_timeout, most_bytes
        self._proxy: str | None = None
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            WeakKeyDictionary()
        )

    async def post(self, url: str, headers: Mapping[str, str], data: bytes | BinaryIO) -> Answer:
        """Post and read the whole answer, whatever its status; redirects are not followed.

        What is large is given as a file, of which a piece at a time is sent.

        Raises Retryable where nothing whole came back, and ProviderError where nothing ever will.
        """
        return await self._ask("POST", url, headers, data)

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """The same for a page."""
        return await self._ask("GET", url, headers, None)

    async def close(self) -> None:
        """Close what this event loop has opened."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | BinaryIO | None
    ) -> Answer:
        import aiohttp

        session = self._sessions.get(asyncio.get_running_loop()) or self._open(url)
        try:
            async with session.request(
                method, url, data=data, headers=headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                return Answer(response.status, response.headers, await self._read(response))
        except aiohttp.ClientSSLError as error:
            raise ProviderError(
                f"{url}: no secure connection: {_short(error)}; check url and clock"
            ) from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise ProviderError(f"{url} is no address of a server; write http://HOST:PORT/v1") from None
        except aiohttp.ConnectionTimeoutError:
            said = f"{url}: no connection within {self.connect_timeout:g} s"
            raise Retryable(said, cause="timeout") from None
        except asyncio.TimeoutError:
            said = f"{url}: no answer within {self.timeout:g} s"
            raise Retryable(said, cause="timeout", billed=True) from None
        except aiohttp.ClientConnectorError as error:
            raise Retryable(f"{url}: cannot connect: {_short(error)}", cause="connection") from None
        except (aiohttp.ClientError, OSError) as error:
            # The request was on its way: the server may have done the work.
            said = f"{url}: the connection broke: {_short(error)}"
            raise Retryable(said, cause="connection", billed=True) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        size = response.content_length
        if size is not None and size <= self.most_bytes and "Content-Encoding" not in response.headers:
            return await response.read()
        whole = bytearray()
        if size is None or size <= self.most_bytes:
            async for chunk in response.content.iter_chunked(_CHUNK):
                whole += chunk
                if len(whole) > self.most_bytes:
                    break
            else:
                return bytes(whole)
        response.close()  # hang up: the rest is not wanted
        raise Retryable(
            f"{response.url}: the answer is larger than most_bytes={self.most_bytes:,}",
            cause="answer",
            billed=True,
        )

    def _open(self, url: str) -> aiohttp.ClientSession:
        import aiohttp

        session = aiohttp.ClientSession(
            # How many calls are in the air is the caller's to say.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_ALIVE),
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=self.connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"karat/{__version__}", "Accept": "application/json"},
        )
        self._proxy = _proxy(url)
        self._sessions[asyncio.get_running_loop()] = session
        return session


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.hostname or ""
    if not proxy or host in ("localhost", "127.0.0.1", "::1") or urllib.request.proxy_bypass(host):
        return None
    return proxy


def _short(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """How many seconds the server asks to wait; None where it does not say.

    Read in this order: `retry-after-ms`, `Retry-After` (seconds or a date), and the resets of the rate limits
    of which nothing remains (`1s`, `6m0s`, `20ms`, seconds, or seconds since 1970).
    """
    found = _number(headers.get("retry-after-ms"))
    if found is not None:
        return _sane(found / 1000)
    asked = headers.get("Retry-After")
    if asked is not None:
        found = _number(asked)
        return _sane(found) if found is not None else _until(asked, headers.get("Date"))
    resets = []
    for kind in ("-requests", "-tokens", ""):
        reset = headers.get(f"x-ratelimit-reset{kind}") or (None if kind else headers.get("ratelimit-reset"))
        if reset is None:
            continue
        left = _number(headers.get(f"x-ratelimit-remaining{kind}"))
        seconds = _sane(_span(reset))
        if seconds is not None and not (left is not None and left > 0):
            resets.append(seconds)
    return max(resets) if resets else None


def rates_told(headers: Mapping[str, str]) -> Rates | None:
    """The limits a minute that the server tells, in OpenAI's headers; None where it tells none."""
    requests = headers.get("x-ratelimit-limit-requests")
    tokens = headers.get("x-ratelimit-limit-tokens")
    if requests is None and tokens is None:
        return None
    return Rates(_number(requests) or None, _number(tokens) or None)


def _number(text: str | None) -> float | None:
    try:
        found = float(text) if text is not None else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None


def _span(text: str) -> float | None:
    """`1m30.5s` in seconds."""
    found = _number(text)
    if found is not None:
        return found - time.time() if found > 1e9 else found
    pieces = re.findall(r"([0-9.]+)(ms|s|m|h|d)", text)
    if "".join(number + unit for number, unit in pieces) != text.strip():
        return None
    return sum((_number(number) or 0.0) * _UNITS[unit] for number, unit in pieces)


def _until(text: str, now: str | None) -> float | None:
    """Seconds from now to a date, by the server's own clock where it tells it."""
    try:
        then = parsedate_to_datetime(text).timestamp()
        start = parsedate_to_datetime(now).timestamp() if now else time.time()
    except (TypeError, ValueError):
        return None
    return _sane(max(0.0, then - start))


def _sane(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST else None
