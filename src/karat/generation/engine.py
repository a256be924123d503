"""The engine of calls: what is in the air, what was spent, why it ends. Knows no provider and no recipe."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence, Sized
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

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
from karat.generation.gathering import Asking, Batches, Halted, Left, NoAnswer, Outcome
from karat.generation.journal import Journal, Writer
from karat.generation.limits import Books, Limits, Usage
from karat.generation.office import Desk
from karat.generation.purse import OwnPurse, Purse
from karat.generation.redaction import Redactor

Item = TypeVar("Item")

# So many calls in a row without any answer, for as long as one call is retried: the server is away.
_GIVE_UP = 8
# A server that never answered at all is more likely not there than busy.
_NEVER_ANSWERED = 10.0  # seconds
# A server that says "too many" is not broken: such answers use up fewer of the tries.
_BUSY_TRIES = 20
_BUSY_WAIT = 0.1  # seconds
_AT_A_TURN = 256  # rows that need no call before other things have their turn
_KINDS: dict[str, Kind] = {
    "busy": "busy",
    "server": "server",
    "connection": "connection",
    "timeout": "timeout",
    "answer": "unreadable",
}


class _TooDear(Exception):
    """A batch costs more than is left; a part of it may not."""


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
        self.books = Books(progress, total)
        self.stopped = ""
        self.fatal: BaseException | None = None
        self.failed = 0
        self._asking: dict[str, Asking] = {}
        self._looking = 0  # questions that the journal is asked for just now
        # Until what earlier runs of the plan have spent is counted, no money is spent.
        self._settled = desk is None and journal.blank
        self._closing = False
        self.batches = Batches(
            self._obtain, self._again, self.limits, size=provider.batch_size, many=self.concurrency
        )
        self._begun = time.perf_counter()
        over = self.limits.max_seconds
        self._ends = math.inf if over is None else self._begun + over
        self._since = time.time() if self.limits.since is None else self.limits.since
        self._alive = self._begun  # when the server last answered
        self._spoke = False  # whether it ever said anything

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Rows may have begun calls and not waited for them: those are paid for, and written down too.
            while error is None and self._asking:
                await asyncio.wait([asking.future for asking in self._asking.values()])
        finally:
            await self._close()
        self.books.tell(self.usage, last=True)
        if self.fatal is not None and error is None:
            raise self.fatal

    async def _close(self) -> None:
        """End what is still under way, write the last answers down, and let the provider go."""
        self._closing = self.batches.closed = True
        begun = {asking.task for asking in self._asking.values() if asking.task is not None}
        tasks = [*self.batches.tasks, *(begun - {asyncio.current_task()})]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self.writer.close()
        finally:
            self.journal.hide = None
            close = getattr(self.provider, "close", None)
            if close is not None:
                await close()

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
                self.books.done += 1
                if self.desk is not None:
                    self.desk.row_done()
                self.books.tell(self.usage)
                if not self.books.done % _AT_A_TURN:
                    await asyncio.sleep(0)

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
        loop = asyncio.get_running_loop()
        while True:
            asking = self._asking.get(key)
            first = asking is None
            if asking is None:
                asking = self._asking[key] = Asking(loop.create_future(), asyncio.current_task())
            asking.waiting += 1
            try:
                if first:
                    await self._find(key, request, asking.future)
                found = await asyncio.shield(asking.future)
                return found if found.request_id == request.id else replace(found, request_id=request.id)
            except Left:
                continue
            finally:
                asking.waiting -= 1
                if not asking.waiting:
                    asking.future.cancel()  # nobody wants it any more: a batch leaves it out
                    if self._asking.get(key) is asking:
                        del self._asking[key]

    async def _find(self, key: str, request: Request, future: asyncio.Future[Response]) -> None:
        """Look in the journal, else ask the provider; answer or error go into the future."""
        try:
            response = await self._known(key)
            if response is None:
                if not self._settled:
                    await self._settle()
                if self.stopped or self.fatal or self._closing:
                    raise Halted
                if self.provider.batch_size > 1:
                    self.batches.put(key, request, future)
                    return
                (outcome,) = await self._obtain([(key, request)])
                if not isinstance(outcome, Response):
                    raise outcome
                response = outcome
        except BaseException as error:
            del self._asking[key]
            future.set_exception(error if isinstance(error, Exception) else Left())
            future.exception()  # nobody else may be waiting for it
            raise
        future.set_result(response)

    async def _known(self, key: str) -> Response | None:
        """The answer in the journal. What an earlier run of the plan paid is counted, the first time."""
        if self.desk is None:
            found = self.journal.look(key, self._since)
        else:
            self._looking += 1
            try:
                found = await self.desk.look(key, self._since)
            finally:
                self._looking -= 1
        if found is None:
            return None
        if found.lost.lost:
            self.books.add(found.lost)
            self.purse.spend(found.lost.lost_tokens, found.lost.lost_usd)
        if found.response is not None and found.new:
            self.books.count(found.response, reused=True)
            self.purse.reused(found.response)
        return found.response

    async def _settle(self) -> None:
        """Let all open rows look into the journal, so that its money counts before more is spent."""
        before = -1.0
        while not self._settled and (self._looking or before != self.books.seen):
            before = self.books.seen
            await asyncio.sleep(0.001 if self._looking else 0)
        self._settled = True

    # -------------------------------------------------------------------------------------- calls

    async def _obtain(self, batch: list[tuple[str, Request]]) -> list[Outcome]:
        """Call with retries; answers are in the journal when this returns."""
        price = self._price(batch)
        tries, busy = self.batches.tries.get(batch[0][0], 0) if len(batch) == 1 else 0, 0
        while True:
            try:
                await self._enter(price, alone=len(batch) == 1)
            except _TooDear:
                return await self._halved(batch)
            try:
                responses = await self.provider.complete([request for _, request in batch])
                if len(responses) != len(batch):
                    told = f"{self.provider.model} gave {len(responses)} answers to {len(batch)} requests"
                    raise TypeError(f"{told}; a provider answers each, in their order")
                if len(batch) == 1 and isinstance(responses[0], Exception):
                    raise responses[0]
            except Refused as error:
                self._leave(price, "refused")
                if len(batch) > 1:  # one request spoils the batch: ask for each alone
                    return await self._each(batch)
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
                self.books.add(Usage(retries=1))
                await self._pause(tries if cause != "busy" else 0, after, said)
            except BaseException:
                self._leave(price, "refused")
                raise
            else:
                return await self._keep(batch, price, responses)

    async def _keep(
        self, batch: list[tuple[str, Request]], price: Price, found: Sequence[Answered]
    ) -> list[Outcome]:
        """Write answers down, and only then count them and free their place in the air."""
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
            self.books.count(response)
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
            said = self.redactor.text(str(error))
            return Retryable(said, error.after, cause=error.cause, billed=error.billed)
        if isinstance(error, Refused):
            return NoAnswer(f"refused by the provider: {self.redactor.text(str(error))}")
        self._fail(ProviderError(self.redactor.text(str(error))))
        return Halted()

    def _lose(self, key: str, tokens: int, usd: float, cause: str) -> None:
        self.books.add(Usage(lost=1, lost_tokens=tokens, lost_usd=usd))
        self.writer.lose(key, tokens, usd, cause)

    def _price(self, batch: list[tuple[str, Request]]) -> Price:
        if len(batch) == 1:
            return self._most(batch[0][1])
        prices = [self._most(request) for _, request in batch]
        return Price(sum(p.tokens for p in prices), sum(p.usd for p in prices))

    async def _each(self, batch: list[tuple[str, Request]]) -> list[Outcome]:
        """Each alone; what ends the run takes no answer from those before."""
        found: list[Outcome] = []
        for one in batch:
            try:
                found += await self._obtain([one])
            except Halted as error:
                found.append(error)
        return found

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
        await self._enter_gate(price.tokens)
        try:
            if not (self.stopped or self.fatal or self._late()):
                reason = await self.purse.reserve(price)
                if not reason:
                    return
                if not alone:
                    raise _TooDear
                self._stop(reason)
            raise Halted
        except BaseException:
            self.gate.leave("refused")
            raise

    async def _enter_gate(self, tokens: int) -> None:
        """Wait for room in the air, but not beyond the time that the run has. Raises Halted."""
        if self._ends == math.inf:
            await self.gate.enter(tokens)
            return
        task = asyncio.current_task()
        assert task is not None
        rung = False

        def ring() -> None:
            nonlocal rung
            rung = True
            task.cancel()

        # Not asyncio.wait_for: the gate knows a call by its context, which another task would not share.
        clock = asyncio.get_running_loop().call_later(max(0.0, self._ends - time.perf_counter()), ring)
        try:
            await self.gate.enter(tokens)
        except asyncio.CancelledError:
            if not rung:
                raise
            getattr(task, "uncancel", int)()  # from Python 3.11 on
            self._late()
            raise Halted from None
        finally:
            clock.cancel()

    def _late(self) -> bool:
        """True when the time is over, which stops the run."""
        over = time.perf_counter() >= self._ends
        if over:
            self._stop(f"max_seconds={self.limits.max_seconds:g} are over")
        return over

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
            self.books.add(Usage(throttled=1))
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
        never = not self.books.answers and self.limits.retries > 1
        patience = min(sum(doubled), _NEVER_ANSWERED) if never else sum(doubled)
        if self.gate.barren >= _GIVE_UP and silent >= patience:
            self._give_up(said)
        # A busy server (attempt 0) is given its pace by the gate; this call need not wait for it too.
        doubled_wait = self.limits.wait * 2 ** min(attempt - 1, 30)
        longest = self.limits.longest_wait if self._spoke else _NEVER_ANSWERED / 4
        wait = min(doubled_wait, longest) if attempt else min(self.limits.wait, _BUSY_WAIT)
        await asyncio.sleep(self._until(after if after is not None else wait * random.uniform(0.5, 1.0)))

    def _again(self, rows: int, seconds: float) -> float:
        """Count rows of batches that go again; returns how long they may wait."""
        self.books.add(Usage(retries=rows))
        return self._until(seconds)

    def _until(self, seconds: float) -> float:
        """So many seconds, but not beyond the time that the run has."""
        return max(0.0, min(seconds, self._ends - time.perf_counter()))

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
        total = f" of {self.books.total:,}" if self.books.total else ""
        self.stopped = self.stopped or (
            f"{reason} ({self.books.done:,}{total} rows done); what was answered is kept, and the same "
            f"command goes on{' with a higher cap' if 'is reached' in reason else ''}"
        )

    def _fail(self, error: BaseException) -> None:
        self.fatal = self.fatal or error

    def usage(self) -> Usage:
        """What was done so far."""
        return replace(self.books.usage(), failed=self.failed)
