"""Questions gathered into batches: who waits, what goes together, what goes again. Knows no provider."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from karat.generation.base import Request, Response, Retryable
from karat.generation.limits import Limits


class NoAnswer(Exception):
    """One request has no answer; the message says why."""


class Halted(Exception):
    """No more calls are made: a cap, the time, or a server that is away."""


class Left(Exception):
    """Who asked has gone away before the answer came; whoever else wants it asks again."""


@dataclass(slots=True)
class Asking:
    """A question under way: its answer to come, who asks it, and how many wait."""

    future: asyncio.Future[Response]
    task: asyncio.Task[Any] | None
    waiting: int = 0


Outcome = Response | NoAnswer | Halted | Retryable
Waiting = tuple[str, Request, asyncio.Future[Response]]
Obtain = Callable[[list[tuple[str, Request]]], Awaitable[list[Outcome]]]
Again = Callable[[int, float], float]


class Batches:
    """Puts questions together, `size` at most, and carries `many` batches at a time.

    obtain: calls for a batch, with retries. again: told how many rows are to go again and after how many
    seconds; returns how long they may wait.
    """

    def __init__(self, obtain: Obtain, again: Again, limits: Limits, *, size: int, many: int) -> None:
        self.obtain, self.again, self.limits, self.size, self.many = obtain, again, limits, size, many
        self.closed = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._pending: deque[Waiting] = deque()
        self.tries: dict[str, int] = {}  # how often a row was sent again
        self._flushing = False

    def put(self, key: str, request: Request, future: asyncio.Future[Response]) -> None:
        """The answer, or why there is none, goes into the future; one that is done by then is left out."""
        self._pending.append((key, request, future))
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Gather what all rows ask in this turn of the loop, so that batches are full."""
        if not self._flushing:
            self._flushing = True
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while self._pending and len(self.tasks) < self.many and not self.closed:
            batch: list[Waiting] = []
            while self._pending and len(batch) < self.size:
                waiting = self._pending.popleft()
                if not waiting[2].done():  # else who asked has gone away
                    batch.append(waiting)
            if not batch:
                return
            task = asyncio.create_task(self._carry(batch))
            self.tasks.add(task)
            task.add_done_callback(self._carried)

    def _carried(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._flush_soon()

    async def _carry(self, batch: list[Waiting]) -> None:
        try:
            outcomes = await self.obtain([(key, request) for key, request, _ in batch])
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
            key, _, future = waiting
            if not future.done() and isinstance(outcome, Retryable):
                left.append((waiting, outcome))
                continue
            self.tries.pop(key, None)
            if future.done():
                continue
            if isinstance(outcome, Response):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)
        if left:
            self._once_more(left)

    def _once_more(self, left: list[tuple[Waiting, Retryable]]) -> None:
        """Rows of a batch that had no answer go into the next batches; the others do not wait for them."""
        wait, rows = 0.0, []
        for waiting, error in left:
            key, _, future = waiting
            tries = self.tries[key] = self.tries.get(key, 0) + 1
            if tries > self.limits.retries:
                del self.tries[key]
                future.set_exception(NoAnswer(f"no answer after {tries} tries: {error}"))
                continue
            own = min(self.limits.wait * 2 ** (tries - 1), self.limits.longest_wait)
            wait = max(wait, own if error.after is None else error.after)
            rows.append(waiting)
        if rows:
            wait = self.again(len(rows), wait)
            asyncio.get_running_loop().call_later(wait, self._back, rows)

    def _back(self, rows: list[Waiting]) -> None:
        self._pending.extend(rows)
        self._flush_soon()
