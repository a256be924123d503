"""The engine of calls: what is in the air, what was spent, why it ends. Knows no provider and no recipe."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence, Sized
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from karat.errors import ProviderError
from karat.generation.base import (
    Answered,
    Price,
    Priced,
    Progress,
    Provider,
    Refused,
    Request,
    Response,
    Retryable,
    identity,
    most,
)
from karat.generation.gate import Gate, Kind, Rates
from karat.generation.journal import Journal, Writer
from karat.generation.limits import Limits, Usage, note
from karat.generation.office import Desk
from karat.generation.purse import OwnPurse, Purse
from karat.generation.redaction import Redactor

Item = TypeVar("Item")

# So many calls in a row without any answer, for as long as one call is retried: the server is away.
_GIVE_UP = 8
# A server that never answered at all is more likely not there than busy.
_NEVER_ANSWERED = 10.0  # seconds
# A server that says "too many" is not broken: such answers use up fewer of the tries.
_BUSY_TRIES = 5
_TELL = 0.2  # seconds between two lines of progress
_KINDS: dict[str, Kind] = {
    "busy": "busy",
    "server": "server",
    "connection": "connection",
    "timeout": "timeout",
    "answer": "unreadable",
}


class NoAnswer(Exception):
    """One request has no answer; the message says why."""


class Halted(Exception):
    """The engine makes no more calls: a cap, the time, or a server that is away."""


class _TooDear(Exception):
    """A batch costs more than is left; a part of it may not."""


Outcome = Response | NoAnswer | Halted | Retryable
Waiting = tuple[str, Request, asyncio.Future[Response]]


class Engine:
    """The state of a run of calls: what is in the air, what was spent, and why it ends."""

    def __init__(
        self,
        provider: Provider,
        journal: Journal,
        limits: Limits | None = None,
        *,
        progress: Progress | None = None,
        total: int = 0,
        desk: Desk | None = None,
    ) -> None:
        self.provider, self.journal, self.limits = provider, journal, limits or Limits()
        self.identity = identity(provider)
        # Whether a provider is Priced is slow to find out, and does not change.
        own = provider.price if isinstance(provider, Priced) else None
        self._most: Callable[[Request], Price] = own or (lambda request: most(provider, request))
        spent = self.limits.spent
        self.desk = desk
        self.purse: Purse = desk or OwnPurse(
            self.limits.max_usd,
            self.limits.max_tokens,
            usd=spent.cost_usd + spent.lost_usd,
            tokens=spent.tokens_in + spent.tokens_out + spent.lost_tokens,
        )
        # Where there is an office, it keeps to the known limits for all workers together.
        known = (self.limits.requests_per_minute, self.limits.tokens_per_minute)
        rates = Rates(*known) if desk is None else Rates()
        self.concurrency = max(1, min(self.limits.concurrency, provider.concurrency))
        self.gate = Gate(concurrency=self.concurrency, rates=rates)
        self.redactor = Redactor(getattr(provider, "secrets", ()))
        self.journal.hide = self.redactor.bytes
        self.writer: Writer | Desk = desk or Writer(journal)
        self.progress, self.total, self.done = progress, total, 0
        self.stopped = ""
        self.fatal: BaseException | None = None
        self.failed = 0
        self._usage = dict.fromkeys(Usage.__dataclass_fields__, 0.0)
        self._asking: dict[str, asyncio.Future[Response]] = {}
        self._pending: deque[Waiting] = deque()
        self._again: dict[str, int] = {}  # how often a row of a batch was sent again
        self._batches: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._begun = time.perf_counter()
        self._since = time.time() if self.limits.since is None else self.limits.since
        self._alive = self._begun  # when the server last answered
        self._spoke = False  # whether it ever said anything
        self._told = 0.0

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._batches:
            task.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
        await self.writer.close()
        self.journal.hide = None
        close = getattr(self.provider, "close", None)
        if close is not None:
            await close()
        self._tell(last=True)
        if self.fatal is not None and error is None:
            raise self.fatal

    @property
    def width(self) -> int:
        """How many rows are open at a time: enough that calls fly while other rows wait or are written."""
        return max(4 * self.concurrency, self.provider.batch_size * (self.concurrency + 1)) + 8

    async def drive(self, jobs: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
        """Work on jobs, many at a time and in their order, until all are done or the engine halts."""
        waiting = iter(jobs)

        async def runner() -> None:
            for job in waiting:
                try:
                    await work(job)
                except Halted:
                    return
                self.done += 1
                if self.desk is not None:
                    self.desk.row_done()
                self._tell()

        width = min(self.width, len(jobs)) if isinstance(jobs, Sized) else self.width
        tasks = [asyncio.create_task(runner()) for _ in range(width)]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def ask(self, request: Request) -> Response:
        """One answer: from the journal, or from whoever asks the same just now, or by a call.

        Raises NoAnswer with the reason for this request, or Halted when no more calls are made.
        """
        key = request.key(self.identity)
        asking = self._asking.get(key)
        if asking is not None:
            return replace(await asyncio.shield(asking), request_id=request.id)
        found = self.journal.recall(key) if self.desk is None else await self.desk.recall(key)
        if found is not None:
            response, written = found
            if written < self._since:
                self._count(response, reused=True)
            return replace(response, request_id=request.id)
        if self.stopped or self.fatal:
            raise Halted
        future = asyncio.get_running_loop().create_future()
        self._asking[key] = future
        try:
            if self.provider.batch_size > 1:
                response = await self._in_batch(key, request)
            else:
                (outcome,) = await self._obtain([(key, request)])
                if not isinstance(outcome, Response):
                    raise outcome
                response = outcome
            future.set_result(response)
            return response
        except BaseException as error:
            if isinstance(error, NoAnswer | Halted):
                future.set_exception(error)
                future.exception()  # nobody else may be waiting for it
            else:
                future.cancel()
            raise
        finally:
            del self._asking[key]

    # ------------------------------------------------------------------------------------ batches

    async def _in_batch(self, key: str, request: Request) -> Response:
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._pending.append((key, request, future))
        self._flush_soon()
        return await future

    def _flush_soon(self) -> None:
        """Gather what all rows ask in this turn of the loop, so that batches are full."""
        if not self._flushing:
            self._flushing = True
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while self._pending and len(self._batches) < self.concurrency:
            batch: list[Waiting] = []
            while self._pending and len(batch) < self.provider.batch_size:
                batch.append(self._pending.popleft())
            task = asyncio.create_task(self._carry(batch))
            self._batches.add(task)
            task.add_done_callback(self._carried)

    def _carried(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._flush_soon()

    async def _carry(self, batch: list[Waiting]) -> None:
        try:
            outcomes = await self._obtain([(key, request) for key, request, _ in batch])
        except BaseException as error:
            for _, _, future in batch:
                if future.done():
                    continue
                if isinstance(error, asyncio.CancelledError):
                    future.cancel()
                else:
                    future.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        left: list[tuple[Waiting, Retryable]] = []
        for waiting, outcome in zip(batch, outcomes, strict=True):
            future = waiting[2]
            if future.done():
                continue
            if isinstance(outcome, Response):
                future.set_result(outcome)
            elif isinstance(outcome, Retryable):
                left.append((waiting, outcome))
            else:
                future.set_exception(outcome)
        if left:
            await self._once_more(left)

    async def _once_more(self, left: list[tuple[Waiting, Retryable]]) -> None:
        """Rows of a batch that had no answer go into the next batches; the others do not wait for them."""
        wait = 0.0
        for (key, _, future), error in left:
            tries = self._again[key] = self._again.get(key, 0) + 1
            own = min(self.limits.wait * 2 ** (tries - 1), self.limits.longest_wait)
            wait = max(wait, own if error.after is None else error.after)
            if tries > self.limits.retries:
                said = self.redactor.text(str(error))
                future.set_exception(NoAnswer(f"no answer after {tries} tries: {said}"))
        left = [one for one in left if not one[0][2].done()]
        self._usage["retries"] += len(left)
        await asyncio.sleep(wait if left else 0)
        self._pending.extend(waiting for waiting, _ in left)

    # -------------------------------------------------------------------------------------- calls

    async def _obtain(self, batch: list[tuple[str, Request]]) -> list[Outcome]:
        """Call with retries; answers are in the journal when this returns."""
        price = self._price(batch)
        tries, busy = self._again.get(batch[0][0], 0) if len(batch) == 1 else 0, 0
        while True:
            try:
                await self._enter(price, alone=len(batch) == 1)
            except _TooDear:
                return await self._halved(batch)
            try:
                responses = await self.provider.complete([request for _, request in batch])
                if len(batch) == 1 and isinstance(responses[0], Exception):
                    raise responses[0]
            except Refused as error:
                self._leave(price, "refused")
                if len(batch) > 1:  # one request spoils the batch: ask for each alone
                    found = [await self._obtain([one]) for one in batch]
                    return [one for (one,) in found]
                self._alive, self._spoke = time.perf_counter(), True
                return [NoAnswer(f"refused by the provider: {self.redactor.text(str(error))}")]
            except ProviderError as error:
                self._leave(price, "refused")
                self._fail(ProviderError(self.redactor.text(str(error))))
                raise Halted from None
            except (Retryable, asyncio.TimeoutError, ConnectionError) as error:
                cause, after = self._missed(batch, price, error)
                busy, tries = (busy + 1, tries) if cause == "busy" else (busy, tries + 1)
                said = self.redactor.text(str(error) or type(error).__name__)
                if tries > self.limits.retries or busy > self.limits.retries * _BUSY_TRIES:
                    if not self._spoke:
                        self._give_up(said)
                    reason = NoAnswer(f"no answer after {tries + busy} tries: {said}")
                    return [reason] * len(batch)
                self._usage["retries"] += 1
                await self._pause(tries + busy - 1, after, said)
            except BaseException:
                self._leave(price, "refused")
                raise
            else:
                return await self._keep(batch, price, responses)

    async def _keep(
        self, batch: list[tuple[str, Request]], price: Price, found: Sequence[Answered]
    ) -> list[Outcome]:
        """Write answers down, and only then count them and free their place in the air."""
        assert len(found) == len(batch), "a provider must answer every request of a batch"
        rows = [
            (key, request, one if one.request_id == request.id else replace(one, request_id=request.id))
            for (key, request), one in zip(batch, found, strict=True)
            if not isinstance(one, Exception)
        ]
        lost = self._lost_rows(batch, found) if len(rows) < len(batch) else Price(0)
        tokens = lost.tokens + sum(r.tokens_in + r.tokens_out for _, _, r in rows)
        usd = lost.usd + sum(r.cost_usd for _, _, r in rows)
        try:
            await self.writer.put(rows)
        finally:
            self._leave(price, "answer", tokens, usd)
        self._alive, self._spoke = time.perf_counter(), True
        for _, _, response in rows:
            self._count(response)
        answers = iter(rows)
        return [self._reasoned(one) if isinstance(one, Exception) else next(answers)[2] for one in found]

    def _lost_rows(self, batch: list[tuple[str, Request]], found: Sequence[Answered]) -> Price:
        """Count the rows of a batch that were perhaps paid for without an answer."""
        tokens, usd = 0, 0.0
        for (key, request), one in zip(batch, found, strict=True):
            if isinstance(one, Retryable) and one.billed:
                price = self._most(request)
                dear = 0.0 if math.isnan(price.usd) else price.usd
                self._lose(key, price.tokens, dear, one.cause)
                tokens, usd = tokens + price.tokens, usd + dear
        return Price(tokens, usd)

    def _reasoned(self, error: Exception) -> Outcome:
        """What stands in the place of an answer within a batch: one row's failure, or the end of all."""
        if isinstance(error, Retryable):
            return error
        if isinstance(error, Refused):
            return NoAnswer(f"refused by the provider: {self.redactor.text(str(error))}")
        self._fail(ProviderError(self.redactor.text(str(error))))
        return Halted()

    def _lose(self, key: str, tokens: int, usd: float, cause: str) -> None:
        self._usage["lost"] += 1
        self._usage["lost_tokens"] += tokens
        self._usage["lost_usd"] += usd
        self.writer.lose(key, tokens, usd, cause)

    def _price(self, batch: list[tuple[str, Request]]) -> Price:
        if len(batch) == 1:
            return self._most(batch[0][1])
        prices = [self._most(request) for _, request in batch]
        return Price(sum(p.tokens for p in prices), sum(p.usd for p in prices))

    async def _halved(self, batch: list[tuple[str, Request]]) -> list[Outcome]:
        """A part of a batch may be paid for where the whole may not."""
        half = len(batch) // 2
        found = await self._obtain(batch[:half])
        try:
            return [*found, *await self._obtain(batch[half:])]
        except Halted as error:
            return [*found, *([error] * (len(batch) - half))]

    async def _enter(self, price: Price, *, alone: bool) -> None:
        """Wait for room in the air, then for money. Raises Halted when a cap is reached."""
        if self.stopped or self.fatal:
            raise Halted
        rates = getattr(self.provider, "rates", None)
        if rates is not None:
            self.gate.know(rates)
        await self.gate.enter(price.tokens)
        if not (self.stopped or self.fatal):
            over = self.limits.max_seconds
            if over is not None and time.perf_counter() - self._begun >= over:
                self._stop(f"max_seconds={over:g} are over")
            elif not (reason := await self.purse.reserve(price)):
                return
            elif not alone:
                self.gate.leave("refused")
                raise _TooDear
            else:
                self._stop(reason)
        self.gate.leave("refused")
        raise Halted

    def _leave(
        self, price: Price, kind: Kind, tokens: int = 0, usd: float = 0.0, after: float | None = None
    ) -> None:
        self.gate.leave(kind, tokens=tokens, after=after)
        self.purse.settle(price, tokens, usd)

    def _missed(
        self, batch: list[tuple[str, Request]], price: Price, error: BaseException
    ) -> tuple[str, float | None]:
        """Count an attempt without an answer; returns its cause and how long the server asks to wait."""
        if isinstance(error, Retryable):
            cause, after, billed = error.cause, error.after, error.billed
        else:
            after, billed = None, True
            cause = "connection" if isinstance(error, ConnectionError) else "timeout"
        usd = 0.0 if math.isnan(price.usd) else price.usd
        lost = (price.tokens, usd) if billed else (0, 0.0)
        self._leave(price, _KINDS[cause], *lost, after=after)
        if cause == "busy":
            self._usage["throttled"] += 1
        self._spoke = self._spoke or cause in ("answer", "busy", "server")
        if cause in ("answer", "busy"):
            self._alive = time.perf_counter()
        if billed:
            self._lose(batch[0][0], *lost, cause)
        return cause, after

    async def _pause(self, attempt: int, after: float | None, said: str) -> None:
        """Wait before the next try: as long as the server says, else doubling with jitter."""
        silent = time.perf_counter() - self._alive
        doubled = [min(self.limits.wait * 2**i, self.limits.longest_wait) for i in range(self.limits.retries)]
        never = not self._usage["answers"] and self.limits.retries > 1
        patience = min(sum(doubled), _NEVER_ANSWERED) if never else sum(doubled)
        if self.gate.barren >= _GIVE_UP and silent >= patience:
            self._give_up(said)
        wait = min(self.limits.wait * 2 ** min(attempt, 30), self.limits.longest_wait)
        await asyncio.sleep(after if after is not None else wait * random.uniform(0.5, 1.0))

    def _give_up(self, said: str) -> None:
        """The server is away: end the run. Raises Halted."""
        calls = max(self.gate.barren, 1)
        self._fail(
            ProviderError(
                f"{self.provider.model} gave no answer to {calls} calls one after the other ({said}); check "
                "that the server is up; what was answered is kept"
            )
        )
        raise Halted

    def _stop(self, reason: str) -> None:
        total = f" of {self.total:,}" if self.total else ""
        self.stopped = self.stopped or (
            f"{reason} ({self.done:,}{total} rows done); what was answered is kept, and the same command "
            "with a higher cap goes on"
        )

    def _fail(self, error: BaseException) -> None:
        self.fatal = self.fatal or error

    # ----------------------------------------------------------------------------------- counting

    def _count(self, response: Response, *, reused: bool = False) -> None:
        usage = self._usage
        usage["answers"] += 1
        usage["tokens_in"] += response.tokens_in
        usage["tokens_out"] += response.tokens_out
        usage["cost_usd"] += response.cost_usd
        if reused:
            usage["reused"] += 1
            self.purse.reused(response)

    def _tell(self, *, last: bool = False) -> None:
        if self.progress is None:
            return
        now = time.perf_counter()
        if now - self._told < _TELL and not last:
            return
        self._told = now
        said = note(self.usage(), now - self._begun, self.done, self.total)
        self.progress("generate", self.done, self.total, note=said)

    def usage(self) -> Usage:
        """What was done so far."""
        found: dict[str, Any] = {name: int(value) for name, value in self._usage.items()}
        found |= {name: self._usage[name] for name in ("cost_usd", "lost_usd")}
        found |= {"failed": self.failed, "seconds": time.perf_counter() - self._begun}
        return Usage(**found)
