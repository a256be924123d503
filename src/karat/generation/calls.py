"""All calls of a stage at once: many requests in, answers out, by way of the journal. Knows no provider."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from karat.errors import BudgetSpent
from karat.generation.base import Progress, Provider, Request, Response
from karat.generation.engine import Engine
from karat.generation.gathering import NoAnswer
from karat.generation.journal import Journal
from karat.generation.limits import Limits, Usage

Result = TypeVar("Result")


@dataclass(frozen=True)
class Called:
    """Answers by request id, the reason for each request without one, and what all cost.

    `stopped` says why calling ended early; empty when it did not.
    """

    responses: dict[str, Response]
    failures: dict[str, str]
    usage: Usage
    stopped: str = ""


def call(
    provider: Provider,
    requests: Sequence[Request],
    *,
    journal: Journal,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Called:
    """Answer all requests, first from the journal, then by the provider; stops before a cap is passed.

    An answer is in the journal before it is counted. The caps hold for what is spent and what is in flight,
    each call at the most that it can cost. What the cap stopped is told by `stopped`, not raised, so that
    the caller can keep what is there.
    """
    responses: dict[str, Response] = {}
    failures: dict[str, str] = {}

    def keep(request: Request, found: Response | str) -> None:
        if isinstance(found, str):
            failures[request.id] = found
        else:
            responses[request.id] = found

    usage, stopped = stream(
        provider, requests, keep, journal=journal, limits=limits, progress=progress, total=len(requests)
    )
    return Called(responses, failures, usage, stopped)


def stream(
    provider: Provider,
    requests: Iterable[Request],
    sink: Callable[[Request, Response | str], None],
    *,
    journal: Journal,
    limits: Limits | None = None,
    progress: Progress | None = None,
    total: int = 0,
) -> tuple[Usage, str]:
    """Answer requests as they come from an iterator, and hand each answer (or reason) on; keeps none.

    Memory does not grow with the number of requests. Returns what all cost, and why calling ended early.
    """

    async def work() -> tuple[Usage, str]:
        async with Engine(provider, journal, limits, progress=progress, total=total) as engine:

            async def one(request: Request) -> None:
                try:
                    sink(request, await engine.ask(request))
                except NoAnswer as error:
                    engine.failed += 1
                    sink(request, str(error))

            await engine.drive(requests, one)
        return engine.usage(), engine.stopped

    return run(work)


def run(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine function; in a thread of its own where a loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work)
    return _Apart(work).run()  # type: ignore[no-any-return]


class _Apart:
    """Work in a thread of its own, which ends when who waits for it is interrupted."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.begun: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None] | None = None
        self.given_up = False

    def run(self) -> Any:
        """Wait for the result, or raise what the work raised."""
        thread = threading.Thread(target=self._inner)
        thread.start()
        try:
            thread.join()
        except BaseException:
            self._give_up()
            thread.join()
            raise
        if self.error is not None:
            raise self.error
        return self.result

    def _inner(self) -> None:
        try:
            self.result = _run(self._noted)
        except BaseException as error:
            self.error = error

    async def _noted(self) -> Any:
        self.begun = (asyncio.get_running_loop(), asyncio.current_task())
        if self.given_up:
            raise asyncio.CancelledError
        return await self.work()

    def _give_up(self) -> None:
        self.given_up = True
        if self.begun is not None and self.begun[1] is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have ended just now
                self.begun[0].call_soon_threadsafe(self.begun[1].cancel)


def _run(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    runner = getattr(asyncio, "Runner", None)
    if runner is None:
        return _run_310(work)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work())
    with runner(loop_factory=uvloop.new_event_loop) as running:
        return running.run(work())  # type: ignore[no-any-return]


def _run_310(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Before Python 3.11, Ctrl-C broke off whatever ran just then; so it is made to end the work in order."""
    interrupted: list[int] = []

    async def noted() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def ring(number: int, frame: Any) -> None:
            if interrupted:
                raise KeyboardInterrupt
            interrupted.append(number)
            loop.call_soon_threadsafe(task.cancel)

        first = threading.current_thread() is threading.main_thread()
        own = first and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if own:
            signal.signal(signal.SIGINT, ring)
        try:
            return await work()
        finally:
            if own:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        return asyncio.run(noted())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


def spent(called: Called) -> None:
    """Raise BudgetSpent when a cap stopped the calls."""
    if called.stopped:
        raise BudgetSpent(called.stopped)
