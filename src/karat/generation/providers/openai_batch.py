"""The batch files API of OpenAI and of servers like it: half the price, within a day. Knows no recipe.

Rows go up as a JSONL file (POST /files), become a batch (POST /batches) that is looked at now and then, and
come back as a file of answers and one of errors. Which row is in which batch stands on disk before anybody
waits (`karat.generation.batches`). When a run was killed after the server had made a batch and before its
name was known here, the batch is found by its metadata `karat`, the SHA-256 of its file. So no row is handed
in twice, whenever a run ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import orjson

from karat.errors import BadSetting, ProviderError
from karat.generation import chat_api
from karat.generation.access import Access, check_prices
from karat.generation.base import (
    Answered,
    Price,
    Refused,
    Request,
    Retryable,
    check_number,
)
from karat.generation.batch_api import LONGEST, BatchApi, Doubtful, Full, complaints
from karat.generation.batches import Ledger, Sent
from karat.generation.http import Answer
from karat.generation.prices import Rates, known, most_of

_MOST_ROWS = 50_000  # of a file, by OpenAI's rules
_LOOKS = 3  # for a batch that may have been made a moment ago
_TOO_FULL = 2  # refusals with nothing of ours in the queue, after which a batch is handed in by halves
_DOUBTS = 4  # in a row whether a batch was made

Rows = list[tuple[str, bytes]]
"""keys of requests, and their lines in the file"""
Asked = Mapping[str, Request]
"""requests by key"""


@dataclass(frozen=True)
class OpenaiBatch:
    """Ask by the batch files API: half the price, answers within 24 hours.

    model: the name of the model, as the server calls it. url: where the API is, up to and with /v1.
    key_env: the name of the environment variable with the key; a server of one's own needs none.
    api: chat or completions. batch_size: rows of a batch. concurrency: batches at a time.
    file_bytes: the largest file that is sent; more rows become several batches. poll: seconds until the first
    look at a batch; the pauses grow to 12 times that. timeout: hours until a batch is given up waiting for.
    connect_timeout: seconds until a connection stands. structured: how a schema is asked for; auto begins
    with json_schema and falls back where the server does not know it. seed: whether a seed is sent.
    max_tokens_field: what the server calls its token limit; the other name is tried by itself.
    headers: further headers, NAME:VALUE joined by +; a VALUE of env:VARIABLE is read from the environment.
    body: further fields of the body as a JSON object, such as {"top_k":40}.
    price_in, price_out: USD per million tokens in a batch; none: from the table of prices.
    prices: a TOML file that goes before the table.

    An interrupted run cancels nothing at the server, as what was handed in is paid for: the same command
    with the same journal waits on and takes the answers. Without a journal the server is asked for a batch of
    the same rows. Answers go into the same places of the journal as those of openai_compatible.
    """

    model: str
    url: str = "https://api.openai.com/v1"
    key_env: str = "OPENAI_API_KEY"
    api: Literal["chat", "completions"] = "chat"
    batch_size: int = 5000
    concurrency: int = 4
    file_bytes: int = 190_000_000
    poll: float = 5.0
    timeout: float = 30.0
    connect_timeout: float = 15.0
    structured: Literal["auto", "json_schema", "json_object", "guided_json", "off"] = "auto"
    seed: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    headers: tuple[str, ...] = ()
    body: str = ""
    price_in: float | None = None
    price_out: float | None = None
    prices: str = ""

    def __post_init__(self) -> None:
        check_number("batch_size", self.batch_size, 1, "a batch must hold a row")
        if self.batch_size > _MOST_ROWS:
            raise BadSetting(
                f"batch_size={self.batch_size} is more than the {_MOST_ROWS} rows that a file may have"
            )
        check_number("concurrency", self.concurrency, 1, "a batch must be allowed")
        check_number("file_bytes", self.file_bytes, 1024, "a request must fit into it")
        check_number("poll", self.poll, 0.001, "it is in seconds")
        check_number("timeout", self.timeout, 1e-6, "it is in hours")
        check_number("connect_timeout", self.connect_timeout, 0.001, "it is in seconds")
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

    def price(self, request: Request) -> Price:
        """The most that a request can cost; `usd` is nan where no price is known."""
        return most_of(request, self.known_price)

    @cached_property
    def known_price(self) -> Rates | None:
        """USD per million tokens in a batch, and the full price where no other is known; None: not known."""
        found = known(
            self.model,
            url=self.url,
            price_in=self.price_in,
            price_out=self.price_out,
            prices=self.prices or None,
        )
        if found is None or found.batch_in is None or found.batch_out is None:
            return found
        return replace(found, tokens_in=found.batch_in, tokens_out=found.batch_out)

    def keep(self, folder: Path) -> None:
        """Keep in this folder which rows are in which batch."""
        self.__dict__["_folder"] = Path(folder)
        self.__dict__.pop("_state", None)

    # -------------------------------------------------------------------------------- calling

    async def complete(self, requests: Sequence[Request]) -> list[Answered]:
        """Answer requests from the batches that have them, and hand in the others."""
        state, here, identity = self._state, self._state.here(), self.identity
        async with here.door:
            await self._named(state)
        wanted = {request.key(identity): request for request in requests}
        old: dict[str, tuple[Sent, list[str]]] = {}
        fresh = []
        for key in wanted:
            sent = state.ledger.find(key)
            if sent is None:
                fresh.append(key)
            else:
                old.setdefault(sent.digest, (sent, []))[1].append(key)
        if fresh:
            async with here.door:
                if state.seen is None:
                    state.seen = await self._api.listed()
        manners = state.manners
        jobs = [self._taken_up(here, sent, keys, wanted) for sent, keys in old.values()]
        jobs += [self._handed_in(here, rows, wanted, manners) for rows in self._parts(fresh, wanted, manners)]
        found: dict[str, Answered] = {}
        for part in await asyncio.gather(*jobs):
            found.update(part)
        self._settle(here, found)
        answers = [found[request.key(identity)] for request in requests]
        first = answers[0]
        if isinstance(first, Exception) and all(one is first for one in answers):
            raise first  # one thing was wrong with all of them
        return answers

    async def close(self) -> None:
        """Close what the running event loop has opened; batches stay as they are."""
        here = self._state.here()
        for task in here.waits.values():
            task.cancel()
        await asyncio.gather(*here.waits.values(), return_exceptions=True)
        here.waits.clear()
        self._state.ledger.end()
        await self._api.close()

    def _settle(self, here: _Here, found: Mapping[str, Answered]) -> None:
        """Note which answers are handed on now; what is no answer may be handed in anew."""
        ledger = self._state.ledger
        without: dict[str, tuple[Sent, list[str]]] = {}
        for key, one in found.items():
            sent = ledger.find(key)
            if sent is None or not sent.batch:
                continue
            if isinstance(one, Exception) and not isinstance(one, Refused):
                if sent.batch in self._state.read:
                    without.setdefault(sent.digest, (sent, []))[1].append(key)
            else:
                sent.answered.add(key)
                if len(sent.answered) >= len(sent.keys):
                    here.waits.pop(sent.batch, None)
        for sent, keys in without.values():
            ledger.free(sent, keys)

    def _parts(self, keys: Sequence[str], wanted: Asked, manners: chat_api.Manners) -> Iterator[Rows]:
        """The lines of new rows, in files that are not too large."""
        part: Rows = []
        size = 0
        for key in keys:
            asked = chat_api.body(wanted[key], self.model, manners, api=self.api, extra=self._access.extra)
            head = orjson.dumps({"custom_id": key, "method": "POST", "url": self._endpoint})
            line = head[:-1] + b',"body":' + asked + b"}\n"
            if part and (size + len(line) > self.file_bytes or len(part) >= self.batch_size):
                yield part
                part, size = [], 0
            part.append((key, line))
            size += len(line)
        if part:
            yield part

    # ----------------------------------------------------------------------------- handing in

    async def _handed_in(
        self, here: _Here, rows: Rows, wanted: Asked, manners: chat_api.Manners
    ) -> dict[str, Answered]:
        """Answers to rows that are in no batch yet; an error stands for each of them where it is all's."""
        digest = hashlib.sha256(b"".join(line for _, line in rows)).hexdigest()
        self._state.manners_of[digest] = manners
        file, refused, begun = "", 0, time.time()
        try:
            while True:
                alone = not here.flying
                here.flying.add(digest)
                try:
                    sent = Sent(digest, [key for key, _ in rows], batch=self._found(digest))
                    if not sent.batch:
                        file = file or await self._api.upload(line for _, line in rows)
                        # From here on the batch may exist, whatever becomes of us.
                        self._state.ledger.write(sent)
                        sent.batch = await self._made(file, digest)
                    self._state.ledger.write(sent)
                    return await self._taken(here, sent, sent.keys[:], wanted)
                except Full as error:
                    self._state.ledger.free(sent)
                    refused += alone
                    if time.time() - begun > self.timeout * 3600:
                        raise ProviderError(f"{error}; so it was for {self.timeout:g} h") from None
                    pause = self.poll * LONGEST if error.after is None else error.after
                finally:
                    here.flying.discard(digest)
                await asyncio.sleep(pause)
                if refused >= _TOO_FULL and len(rows) > 1:
                    half = len(rows) // 2
                    first = await self._handed_in(here, rows[:half], wanted, manners)
                    return first | await self._handed_in(here, rows[half:], wanted, manners)
        except (Retryable, Refused, ProviderError) as error:
            return {key: error for key, _ in rows}

    async def _made(self, file: str, digest: str) -> str:
        """The name of the batch that the server makes of a file, and of no file twice."""
        for _ in range(_DOUBTS):
            try:
                return await self._api.make(file, digest)
            except Doubtful as error:
                said = str(error)
            for _ in range(_LOOKS):
                await asyncio.sleep(self.poll)
                try:
                    listed = await self._api.listed(self._state.read)
                except Retryable:
                    continue
                if digest in listed:
                    return listed[digest]
        self._state.named = False  # whoever asks next looks for it again
        raise ProviderError(
            f"{self.url} does not say whether it made the batch ({said}); the same command looks for it"
        )

    async def _named(self, state: _State) -> None:
        """Find the batches that an earlier run may have made without learning their names."""
        if state.named:
            return
        left = {sent.digest: sent for sent in state.ledger.nameless()}
        for look in range(_LOOKS if left else 0):
            if look:
                await asyncio.sleep(self.poll)
            listed = await self._api.listed(state.read)
            for digest in left.keys() & listed.keys():
                sent = left.pop(digest)
                sent.batch = listed[digest]
                state.ledger.write(sent)
            if not left:
                break
        for sent in left.values():
            state.ledger.forget(sent)
        state.named = True

    def _found(self, digest: str) -> str:
        """The name of a batch of the same file that was at the server when we came; empty: none."""
        name = (self._state.seen or {}).pop(digest, "")
        return "" if name in self._state.read else name

    # -------------------------------------------------------------------------------- waiting

    async def _taken_up(
        self, here: _Here, sent: Sent, keys: Sequence[str], wanted: Asked
    ) -> dict[str, Answered]:
        """Answers of a batch of an earlier run, or of another part of this one."""
        here.flying.add(sent.digest)
        try:
            return await self._taken(here, sent, keys, wanted)
        except Full as error:
            return dict.fromkeys(keys, Retryable(str(error), error.after))
        except (Retryable, Refused, ProviderError) as error:
            return dict.fromkeys(keys, error)
        finally:
            here.flying.discard(sent.digest)

    async def _taken(
        self, here: _Here, sent: Sent, keys: Sequence[str], wanted: Asked
    ) -> dict[str, Answered]:
        """Answers of a batch, when it has come to its end; all who wait for it share the looks."""
        task = here.waits.get(sent.batch)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = here.waits[sent.batch] = asyncio.ensure_future(self._came(sent))
        batch, lines = await asyncio.shield(task)
        return {key: self._read(sent, batch, lines.get(key), wanted[key]) for key in keys}

    async def _came(self, sent: Sent) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """What the server tells of a batch that is at its end, and its lines by key."""
        batch = await self._api.ended(sent.batch, self.timeout - (time.time() - sent.made) / 3600)
        try:
            self._api.check(batch)
        except (Full, ProviderError):
            self._state.ledger.free(sent)
            raise
        lines = await self._api.lines(batch)
        self._state.read.add(sent.batch)
        return batch, lines

    # -------------------------------------------------------------------------------- reading

    def _read(self, sent: Sent, batch: Mapping[str, Any], line: Any, request: Request) -> Answered:
        """What one line says: a response, or what stands in its place."""
        told = None if line is None else line.get("response")
        if not isinstance(told, dict):
            return _nothing(batch, None if line is None else line.get("error"))
        data, status = orjson.dumps(told.get("body")), int(told.get("status_code") or 200)
        try:
            if status == 200:
                return chat_api.read(request, data, model=self.model, api=self.api, rates=self.known_price)
            if status in (400, 422) and self._adapt(sent, request, data):
                return Retryable("the server wants to be asked otherwise", 0.0)
            return self._access.failure(Answer(status, {}, data), self.model)
        except (Retryable, Refused, ProviderError) as error:
            return error

    def _adapt(self, sent: Sent, request: Request, data: bytes) -> bool:
        """Learn from a refusal how the server wants to be asked; whether to ask again."""
        asked = self._state.manners_of.get(sent.digest) or self._manners
        changes = chat_api.adapted(asked, request, data, fall_back=self.structured == "auto")
        if changes.get("max_tokens") == self.max_tokens_field:
            return False  # both names were refused
        self._state.manners = replace(self._state.manners, **changes)
        return bool(changes)

    # ---------------------------------------------------------------------------------- state

    @cached_property
    def _access(self) -> Access:
        return Access(self.url, self.key_env, self.headers, self.body)

    @cached_property
    def _endpoint(self) -> str:
        return "/v1/chat/completions" if self.api == "chat" else "/v1/completions"

    @cached_property
    def _api(self) -> BatchApi:
        return BatchApi(self._access, self.model, self._endpoint, self.poll, self.connect_timeout)

    @cached_property
    def _manners(self) -> chat_api.Manners:
        return chat_api.Manners(
            structured="json_schema" if self.structured == "auto" else self.structured,
            max_tokens=self.max_tokens_field,
            seed=self.seed,
        )

    @cached_property
    def _state(self) -> _State:
        return _State(Ledger(self.__dict__.get("_folder")), self._manners)

    def __getstate__(self) -> dict[str, Any]:
        """Connections and keys do not travel to other processes; where the state is kept does."""
        fields = {*self.__dataclass_fields__, "_folder"}
        return {name: value for name, value in self.__dict__.items() if name in fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _nothing(batch: Mapping[str, Any], error: Any) -> Exception:
    """Why a row of a batch has no answer."""
    name, code = batch.get("id"), str(error.get("code") or "") if isinstance(error, dict) else ""
    status = str(batch.get("status")).lower()
    if "expired" in code or (status == "expired" and not code):
        return Retryable(f"the batch {name} expired before this row's turn", 0.0)
    if "cancel" in code or (status == "cancelled" and not code):
        said = "; ".join(complaints(batch))
        return ProviderError(
            f"the batch {name} was cancelled at the server{': ' + said if said else ''}; what it had "
            "answered is kept, and the same command hands in the rest"
        )
    if error:
        return Retryable(f"the batch {name} says: {chat_api.words(orjson.dumps(error))}", 0.0)
    return Retryable(f"the batch {name} has no answer to this row", 0.0, cause="answer", billed=True)


@dataclass
class _Here:
    """What belongs to one event loop: who looks at which batch, and what is at the server from here."""

    door: asyncio.Lock = field(default_factory=asyncio.Lock)
    waits: dict[str, asyncio.Future[tuple[Mapping[str, Any], dict[str, Any]]]] = field(default_factory=dict)
    flying: set[str] = field(default_factory=set)


@dataclass
class _State:
    """What a provider knows of its batches, and has learned of its server."""

    ledger: Ledger
    manners: chat_api.Manners
    named: bool = False
    seen: dict[str, str] | None = None
    read: set[str] = field(default_factory=set)
    manners_of: dict[str, chat_api.Manners] = field(default_factory=dict)
    loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = field(default_factory=WeakKeyDictionary)

    def here(self) -> _Here:
        """What belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self.loops:
            self.loops[loop] = _Here()
        return self.loops[loop]
