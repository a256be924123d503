"""The language of /v1/files and /v1/batches: send a file, make it a batch, find, look at and fetch batches.

It knows no rows, and keeps nothing: what was handed in is remembered by `karat.generation.batches`.
"""

from __future__ import annotations

import asyncio
import io
import re
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import orjson

from karat.errors import ProviderError
from karat.generation import chat_api
from karat.generation.access import Access
from karat.generation.base import Refused, Retryable
from karat.generation.batches import KEPT
from karat.generation.http import Answer, Line
from karat.generation.redaction import Redactor

LONGEST = 12  # each look waits longer, up to so many times the first pause
_SLOWER = 1.5
_PATIENCE = 12  # looks in a row without an answer
_MISSED = 4  # the same where the server says that it has no such batch: a new one may not be there yet
_FILE_SECONDS = 1800.0  # to send or fetch a file
_LARGEST = 1 << 31  # bytes of a file of answers
_OVER = ("completed", "expired", "cancelled", "failed")
_FULL = re.compile(r"token_limit|enqueued|too many (batches|requests)|rate.?limit", re.IGNORECASE)
_ABSENT = (404, 405, 501)


class Full(Exception):
    """The server has no room for a batch now; `after`: seconds that it asks to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Doubtful(Exception):
    """Nobody knows whether the batch was made."""


class BatchApi:
    """One server's batches; `poll`: seconds between the first looks; connect_timeout: seconds."""

    def __init__(
        self, access: Access, model: str, endpoint: str, poll: float, connect_timeout: float
    ) -> None:
        self.access, self.model, self.endpoint, self.poll = access, model, endpoint, poll
        self._line = Line(60.0, connect_timeout, 64 * 1024 * 1024)
        self._files = Line(_FILE_SECONDS, connect_timeout, _LARGEST)

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._line.close()
        await self._files.close()

    def hide(self, text: str) -> str:
        """The text without secrets."""
        return Redactor(self.access.secrets).text(text)

    # ----------------------------------------------------------------------------- handing in

    async def upload(self, lines: Iterable[bytes]) -> str:
        """Send a file; returns its name at the server. Nothing is paid for that."""
        mark = uuid.uuid4().hex
        data = io.BytesIO()
        data.write(
            f'--{mark}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{mark}\r\n'
            'Content-Disposition: form-data; name="file"; filename="karat.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n".encode()
        )
        data.writelines(lines)
        data.write(f"\r\n--{mark}--\r\n".encode())
        data.seek(0)
        headers = {**self.access.sent(), "Content-Type": f"multipart/form-data; boundary={mark}"}
        try:
            return self._name_in(await self._files.post(self.access.path("files"), headers, data))
        except Retryable as error:
            raise Retryable(self.hide(str(error)), error.after, cause=error.cause) from None
        except Refused as error:
            raise ProviderError(f"{self.access.url} does not take the file: {error}") from None

    async def make(self, file: str, digest: str) -> str:
        """Make a file a batch; returns its name. Raises Full or Doubtful where it has none."""
        told = {
            "input_file_id": file,
            "endpoint": self.endpoint,
            "completion_window": "24h",
            "metadata": {"karat": digest},
        }
        where, data = self.access.path("batches"), orjson.dumps(told)
        try:
            return self._name_in(await self._line.post(where, self.access.sent(), data))
        except Refused as error:
            if _FULL.search(str(error)):
                raise Full(str(error)) from None
            raise ProviderError(f"{self.access.url} makes no batch of the file: {error}") from None
        except Retryable as error:
            if error.cause == "busy":
                raise Full(str(error), error.after) from None
            raise Doubtful(self.hide(str(error))) from None

    def _name_in(self, answer: Answer) -> str:
        if answer.status not in (200, 201):
            raise self._failure(answer)
        try:
            return str(orjson.loads(answer.body)["id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            said = f"{self.access.url} answers {chat_api.words(answer.body)[:80]!r} and no id"
            raise Retryable(said, cause="answer") from None

    def _failure(self, answer: Answer) -> Exception:
        if answer.status in _ABSENT:
            said = f"{self.access.url} answers {answer.status}: {chat_api.words(answer.body)}"
            return ProviderError(self.hide(f"{said}; has it a batch API? openai_compatible needs none"))
        return self.access.failure(answer, self.model)

    # -------------------------------------------------------------------------------- looking

    async def listed(self, but: Collection[str] = ()) -> dict[str, str]:
        """Names of the batches at the server that have or will have answers, by the digest of their file.

        but: names that are left out. Empty where the server keeps no list.
        """
        found: dict[str, str] = {}
        after, oldest = "", time.time() - KEPT
        while True:
            query = "limit=100" + (f"&after={after}" if after else "")
            try:
                answer = await self._look(self.access.path("batches", query), self._line, 1)
                whole = orjson.loads(answer.body)
                listed = [one for one in whole["data"] if isinstance(one, dict)]
            except (Refused, ProviderError, KeyError, TypeError):
                return found
            for one in listed:
                digest = (one.get("metadata") or {}).get("karat")
                dead = str(one.get("status", "")).lower() in ("failed", "cancelled", "cancelling")
                if digest and not dead and one["id"] not in but:
                    found.setdefault(digest, str(one["id"]))  # the newest comes first
            if not listed or not whole.get("has_more") or (listed[-1].get("created_at") or 0) < oldest:
                return found
            after = str(listed[-1].get("id"))

    async def ended(self, name: str, hours: float) -> dict[str, Any]:
        """Look at a batch until it is at its end, for so many hours; returns what the server tells of it."""
        pause, missed, until = self.poll, 0, time.time() + hours * 3600
        while True:
            answer = await self._seen(self.access.path(f"batches/{name}"), self._line)
            if answer is None:
                missed += 1
                if missed >= _MISSED:
                    raise ProviderError(
                        f"{self.access.url}: it has no batch {name}; was it made with another key?"
                    )
            else:
                batch = orjson.loads(answer)
                if str(batch.get("status")).lower() in _OVER:
                    return dict(batch)
            if time.time() > until:
                raise ProviderError(
                    f"{self.access.url}: the batch {name} is not at its end in time; it stays noted, and "
                    "the same command with a longer timeout (hours) waits on"
                )
            await asyncio.sleep(pause)
            pause = min(pause * _SLOWER, self.poll * LONGEST)

    async def lines(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The lines of the files of a batch by their custom_id; an answer goes before an error."""
        found: dict[str, Any] = {}
        for kind in ("error_file_id", "output_file_id"):
            file = batch.get(kind)
            if not file:
                continue
            data = await self._seen(self.access.path(f"files/{file}/content"), self._files)
            if data is None:
                raise ProviderError(f"{self.access.url}: the answers of the batch {batch.get('id')} are gone")
            for line in data.splitlines():
                try:
                    one = orjson.loads(line)
                    found[one["custom_id"]] = one
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    continue
        return found

    async def _seen(self, url: str, line: Line) -> bytes | None:
        """A page; None where there is none. A server that is away is waited for."""
        try:
            return (await self._look(url, line, _PATIENCE)).body
        except Refused as error:
            raise ProviderError(f"{url}: {error}") from None
        except Retryable as error:
            raise ProviderError(
                self.hide(
                    f"{url} gave no answer to {_PATIENCE} looks ({error}); what was handed in stays noted, "
                    "and the same command takes its answers"
                )
            ) from None
        except _Absent:
            return None

    async def _look(self, url: str, line: Line, patience: int) -> Answer:
        """Look at a page, again and again where the server is away for a while."""
        pause = self.poll
        for tries in range(1, patience + 1):
            try:
                answer = await line.get(url, self.access.sent())
                if answer.status in _ABSENT:
                    raise _Absent(f"{url} answers {answer.status}")
                if answer.status != 200:
                    raise self._failure(answer)
                if line is self._line:
                    orjson.loads(answer.body)
                return answer
            except orjson.JSONDecodeError:
                error = Retryable(f"{url} answers no JSON: {chat_api.words(answer.body)[:80]!r}")
            except Retryable as found:
                error = found
            if tries < patience:
                await asyncio.sleep(pause if error.after is None else error.after)
                pause = min(pause * _SLOWER, self.poll * LONGEST)
        raise Retryable(self.hide(str(error)), error.after, cause=error.cause)

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raise Full or ProviderError for a batch that failed as a whole."""
        if str(batch.get("status")).lower() != "failed":
            return
        said = "; ".join(complaints(batch))
        if _FULL.search(said):
            raise Full(self.hide(f"{self.access.url}: {said}"))
        reason = said or "no reason is told"
        raise ProviderError(self.hide(f"{self.access.url}: the batch {batch.get('id')} failed: {reason}"))


class _Absent(ProviderError):
    """The server has no such page."""


def complaints(batch: Mapping[str, Any]) -> Iterator[str]:
    """What the server has against a batch, the first few."""
    errors = batch.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else None
    for one in (listed or [])[:3]:
        if isinstance(one, dict):
            place = f"line {one['line']}: " if one.get("line") is not None else ""
            yield f"{place}{one.get('code') or 'error'}: {one.get('message') or ''}".strip()
