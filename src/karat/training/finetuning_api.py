"""The language of /v1/files and /v1/fine_tuning/jobs: send rows, make a job, find it, look, cancel.

It knows no records and keeps nothing. What was handed in is remembered by `karat.training.finetuning_jobs`.
"""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from karat.errors import ProviderError
from karat.generation import chat_api
from karat.generation.access import Access
from karat.generation.base import Refused, Retryable
from karat.generation.http import Answer, Line
from karat.generation.redaction import Redactor

MARK = "karat"
"""The field of a job's metadata that holds the digest of what it was made of."""
OVER = ("succeeded", "failed", "cancelled")

_PATIENCE = 12  # tries in a row without an answer
_SLOWER = 1.5
LONGEST = 20  # pauses grow up to so many times the first
_FILE_SECONDS = 1800.0  # to send a file
_LARGEST = 64 * 1024 * 1024
_ABSENT = (404, 405, 501)
_PAGES = 50  # of a hundred jobs or files each
_UNREADY = ("not ready", "still being processed", "being processed")


class Absent(Exception):
    """The server has no such page or thing."""


class Doubtful(Exception):
    """Nobody knows whether the job was made."""


class FinetuningApi:
    """One server's files and jobs; `poll`: seconds between the first looks; connect_timeout: seconds."""

    def __init__(self, access: Access, model: str, poll: float, connect_timeout: float) -> None:
        self.access, self.model, self.poll = access, model, poll
        self._line = Line(60.0, connect_timeout, _LARGEST)
        self._files = Line(_FILE_SECONDS, connect_timeout, _LARGEST)

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._line.close()
        await self._files.close()

    def hide(self, text: str) -> str:
        """The text without secrets."""
        return Redactor(self.access.secrets).text(text)

    # ------------------------------------------------------------------------------------ files

    async def upload(self, name: str, rows: bytes) -> str:
        """Send a file of rows under a name; returns its id. Nothing is paid for that."""
        mark = uuid.uuid4().hex
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--{mark}\r\n'
            f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        data = head.encode() + rows + f"\r\n--{mark}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}

        async def send() -> Answer:
            headers = {**self.access.sent(), **kind}
            return await self._files.post(self.access.path("files"), headers, io.BytesIO(data))

        try:
            return self._id_in(await self._tried(send, "the file"))
        except Absent as error:
            raise ProviderError(f"{error}; has it a fine-tuning API? url ends with /v1") from None

    async def file_named(self, name: str) -> str:
        """The id of a file that was sent under a name before; empty: none, or the server keeps no list."""
        try:
            listed = await self._listed(
                "files", {"purpose": "fine-tune"}, lambda one: one.get("filename") == name
            )
        except (Absent, ProviderError):
            return ""
        broken = ("error", "deleted")
        return next((str(one["id"]) for one in listed if str(one.get("status")) not in broken), "")

    # ------------------------------------------------------------------------------------- jobs

    async def make(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Make a job; it is paid for from here on. Raises Doubtful where it may exist or not."""
        where, data, pause = self.access.path("fine_tuning/jobs"), orjson.dumps(dict(told)), self.poll
        said = ""
        for _ in range(_PATIENCE):
            after = None
            try:
                answer = await self._line.post(where, self.access.sent(), data)
                said = chat_api.words(answer.body)
                if not (answer.status == 400 and any(word in said for word in _UNREADY)):
                    return self._whole(answer)
                # a file that was just sent is looked through first, and no job is made meanwhile
            except Retryable as error:
                sent = error.billed or error.cause in ("server", "answer")
                if sent:
                    raise Doubtful(self.hide(str(error))) from None
                said, after = self.hide(str(error)), error.after
            except Refused as error:
                raise ProviderError(self.hide(f"{self.access.url} makes no job of it: {error}")) from None
            await asyncio.sleep(pause if after is None else after)
            pause = min(pause * _SLOWER, self.poll * LONGEST)
        raise ProviderError(
            f"{self.access.url} made no job in {_PATIENCE} tries ({said}); the rows stay there, and the same "
            "command tries again"
        )

    async def job_of(self, digest: str) -> dict[str, Any] | None:
        """The newest job of a digest that is under way or has succeeded; None: there is none.

        Raises Absent where the server keeps no list.
        """
        filters = {f"metadata[{MARK}]": digest}

        def ours(one: Mapping[str, Any]) -> bool:
            held = (one.get("metadata") or {}).get(MARK) == digest
            return held and one.get("status") not in ("failed", "cancelled")

        listed = await self._listed("fine_tuning/jobs", filters, ours)
        return dict(listed[0]) if listed else None

    async def look(self, job: str) -> dict[str, Any]:
        """What the server tells of a job. Raises Absent."""
        return await self._page(f"fine_tuning/jobs/{job}")

    async def cancel(self, job: str) -> dict[str, Any]:
        """End a job; what it has trained until then may be charged for."""
        where = self.access.path(f"fine_tuning/jobs/{job}/cancel")

        async def send() -> Answer:
            return await self._line.post(where, self.access.sent(), b"")

        try:
            return self._whole(await self._tried(send, "the cancellation"))
        except Absent as error:
            raise ProviderError(f"{error}; was the job {job} made with another key or url?") from None

    async def events(self, job: str, most: int = 20) -> list[dict[str, Any]]:
        """The last things that happened to a job, the newest first; empty where the server does not tell."""
        return await self._told(f"fine_tuning/jobs/{job}/events", most)

    async def checkpoints(self, job: str, most: int = 20) -> list[dict[str, Any]]:
        """The models that a job kept on its way, the newest first; empty where the server does not tell."""
        return await self._told(f"fine_tuning/jobs/{job}/checkpoints", most)

    # -------------------------------------------------------------------------------- connections

    async def _told(self, path: str, most: int) -> list[dict[str, Any]]:
        try:
            listed = (await self._page(path, f"limit={most}")).get("data")
        except (Absent, ProviderError):
            return []
        return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []

    async def _listed(self, path: str, filters: Mapping[str, str], wanted: Any) -> list[Mapping[str, Any]]:
        """What a list has of the wanted kind, in its order (the newest first); a filter may be ignored."""
        found: list[Mapping[str, Any]] = []
        after = ""
        for _ in range(_PAGES):
            asked = {"limit": "100", **filters} | ({"after": after} if after else {})
            whole = await self._page(path, urlencode(asked))
            listed = [one for one in whole.get("data") or () if isinstance(one, dict)]
            found += [one for one in listed if wanted(one)]
            last = str(listed[-1].get("id")) if listed else ""
            if found or not whole.get("has_more") or not last or last == after:
                break
            after = last
        return found

    async def _page(self, path: str, query: str = "") -> dict[str, Any]:
        url = self.access.path(path, query)

        async def get() -> Answer:
            return await self._line.get(url, self.access.sent())

        return self._whole(await self._tried(get, f"a look at {path}"))

    async def _tried(self, send: Any, what: str) -> Answer:
        """An answer of status 200, asked for again where the server is away or busy for a while."""
        pause, said = self.poll, ""
        for tries in range(1, _PATIENCE + 1):
            after = None
            try:
                answer: Answer = await send()
                if answer.status in _ABSENT:
                    raise Absent(self.hide(f"{self.access.url} answers {answer.status} to {what}"))
                self._whole(answer)
                return answer
            except Retryable as error:
                said, after = self.hide(str(error)), error.after
            except Refused as error:
                raise ProviderError(self.hide(f"{self.access.url} refuses {what}: {error}")) from None
            if tries < _PATIENCE:
                await asyncio.sleep(pause if after is None else after)
                pause = min(pause * _SLOWER, self.poll * LONGEST)
        raise ProviderError(
            f"{self.access.url} gave no answer to {what} in {_PATIENCE} tries ({said}); what was handed in "
            "stays noted, and the same command goes on with it"
        )

    def _whole(self, answer: Answer) -> dict[str, Any]:
        """The object in an answer; raises what another status means."""
        if answer.status not in (200, 201):
            raise self.access.failure(answer, self.model)
        try:
            whole = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            whole = None
        if not isinstance(whole, dict):
            said = f"{self.access.url} answers {chat_api.words(answer.body)[:80]!r} and no object"
            raise Retryable(said, cause="answer", billed=True)
        return whole

    def _id_in(self, answer: Answer) -> str:
        whole = self._whole(answer)
        if not whole.get("id"):
            raise ProviderError(
                f"{self.access.url} took the file and gave it no id; is it a fine-tuning API?"
            )
        return str(whole["id"])
