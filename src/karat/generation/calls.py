"""One engine for all calls: batches, many at a time, retries, hard caps, a journal. Knows no provider."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from karat.errors import BadSetting, BudgetSpent, ProviderError
from karat.generation.base import (
    Price,
    Progress,
    Provider,
    Refused,
    Request,
    Response,
    Retryable,
    identity,
    most,
)
from karat.generation.journal import Journal

# So many rows in a row without any answer: the server is away, and each further call would only cost time.
_GIVE_UP = 8


@dataclass(frozen=True)
class Usage:
    """What the answers cost. `reused` answers came from the journal; tokens and money include them."""

    answers: int = 0
    reused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    retries: int = 0
    failed: int = 0
    seconds: float = 0.0

    def plus(self, other: Usage) -> Usage:
        """The sum of two."""
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Called:
    """Answers by request id, the reason for each request without one, and what all cost.

    `stopped` says why calling ended early; empty when it did not.
    """

    responses: dict[str, Response]
    failures: dict[str, str]
    usage: Usage
    stopped: str = ""


@dataclass(frozen=True)
class Limits:
    """Hard caps (None: none), and how often and how long to retry (seconds)."""

    max_usd: float | None = None
    max_tokens: int | None = None
    concurrency: int = 8
    retries: int = 6
    wait: float = 1.0
    longest_wait: float = 60.0
    spent: Usage = field(default_factory=Usage)
    """what earlier calls of the same plan cost; it counts against the caps"""

    def __post_init__(self) -> None:
        for name, value in (("max_usd", self.max_usd), ("max_tokens", self.max_tokens)):
            if value is not None and value < 0:
                raise BadSetting(f"{name}={value} is negative; give a cap of 0 or more, or none")
        if self.concurrency < 1:
            raise BadSetting(f"concurrency={self.concurrency} makes no call; give at least 1")


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
    engine = _Engine(provider, requests, journal, limits or Limits(), progress)
    return _run(engine.run)


def _run(work: Callable[[], Any]) -> Called:
    """Run a coroutine function; in a thread of its own where a loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())  # type: ignore[no-any-return]
    result: list[Called] = []
    errors: list[BaseException] = []

    def inner() -> None:
        try:
            result.append(asyncio.run(work()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=inner)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


class _Engine:
    """The state of one `call`: what waits, what is in flight, what was spent."""

    def __init__(
        self,
        provider: Provider,
        requests: Sequence[Request],
        journal: Journal,
        limits: Limits,
        progress: Progress | None,
    ) -> None:
        self.provider, self.journal, self.limits, self.progress = provider, journal, limits, progress
        name = identity(provider)
        self.total = len(requests)
        self.keys = {request.id: request.key(name) for request in requests}
        self.waiting = deque(requests)
        self.responses: dict[str, Response] = {}
        self.failures: dict[str, str] = {}
        self.spent_usd, self.spent_tokens = (
            limits.spent.cost_usd,
            limits.spent.tokens_in + limits.spent.tokens_out,
        )
        self.flying = Price(0)
        self.calls: dict[asyncio.Task[list[Response]], tuple[list[Request], Price]] = {}
        self.retries = self.reused = self.barren = 0
        self.stopped = ""
        self.fatal: ProviderError | None = None

    async def run(self) -> Called:
        """Work until nothing waits and nothing flies, or until a cap or a dead server stops it."""
        begun = time.perf_counter()
        self._reuse()
        try:
            while self.calls or (self.waiting and not self.stopped):
                self._start()
                if not self.calls:
                    break
                done, _ = await asyncio.wait(self.calls, return_when=asyncio.FIRST_COMPLETED)
                self._finish(done)
                if self.fatal is not None and not self.calls:
                    raise self.fatal
        finally:
            for task in self.calls:
                task.cancel()
            await asyncio.gather(*self.calls, return_exceptions=True)
            close = getattr(self.provider, "close", None)
            if close is not None:
                await close()
        return Called(self.responses, self.failures, self._usage(time.perf_counter() - begun), self.stopped)

    def _reuse(self) -> None:
        """Take what the journal has."""
        found = self.journal.find(list(self.keys.values()))
        left: deque[Request] = deque()
        for request in self.waiting:
            response = found.get(self.keys[request.id])
            if response is None:
                left.append(request)
            else:
                self.responses[request.id] = replace(response, request_id=request.id)
                self._spend(response)
                self.reused += 1
        self.waiting = left
        self._tell()

    def _start(self) -> None:
        """Start calls while there is room under the caps and in the air."""
        at_once = max(1, min(self.limits.concurrency, self.provider.concurrency))
        while self.waiting and len(self.calls) < at_once and not self.stopped and self.fatal is None:
            batch: list[Request] = []
            price = Price(0)
            while self.waiting and len(batch) < max(1, self.provider.batch_size):
                more = most(self.provider, self.waiting[0])
                both = Price(price.tokens + more.tokens, price.usd + more.usd)
                if self._too_dear(both):
                    break
                price = both
                batch.append(self.waiting.popleft())
            if not batch:
                # What flies may cost less than feared; only when nothing flies is the cap truly reached.
                if not self.calls:
                    self.stopped = self._why_stopped()
                return
            self._launch(batch)

    def _launch(self, batch: list[Request]) -> None:
        prices = [most(self.provider, request) for request in batch]
        price = Price(sum(p.tokens for p in prices), sum(p.usd for p in prices))
        self.flying = Price(self.flying.tokens + price.tokens, self.flying.usd + price.usd)
        self.calls[asyncio.create_task(self._ask(batch))] = (batch, price)

    def _too_dear(self, more: Price) -> bool:
        limits = self.limits
        usd = self.spent_usd + self.flying.usd + more.usd
        tokens = self.spent_tokens + self.flying.tokens + more.tokens
        # A thousandth of a cent is rounding, not overspending.
        too_much = limits.max_usd is not None and usd > limits.max_usd + 1e-9
        return too_much or (limits.max_tokens is not None and tokens > limits.max_tokens)

    def _why_stopped(self) -> str:
        limits, more = self.limits, most(self.provider, self.waiting[0])
        if limits.max_usd is not None and self.spent_usd + more.usd > limits.max_usd:
            cap, used, dear = (
                f"max_usd={limits.max_usd:g}",
                f"{self.spent_usd:.4g} USD",
                f"{more.usd:.2g} USD",
            )
        else:
            cap, used, dear = f"max_tokens={limits.max_tokens}", f"{self.spent_tokens:,}", f"{more.tokens:,}"
        return (
            f"{cap} is reached: {used} spent on {len(self.responses):,} of {self.total:,} rows, and the next "
            f"may take {dear}; what was answered is kept, and the same command with a higher cap goes on"
        )

    async def _ask(self, batch: list[Request]) -> list[Response]:
        """One call with its retries; waits double, with jitter, unless the server names a time."""
        for attempt in range(self.limits.retries + 1):
            try:
                return await self.provider.complete(batch)
            except (Retryable, asyncio.TimeoutError, ConnectionError) as error:
                if attempt == self.limits.retries:
                    raise
                self.retries += 1
                after = error.after if isinstance(error, Retryable) else None
                doubled = min(self.limits.wait * 2**attempt, self.limits.longest_wait)
                await asyncio.sleep(after if after is not None else doubled * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    def _finish(self, done: set[asyncio.Task[list[Response]]]) -> None:
        """Write finished answers to the journal in one commit, and only then count them."""
        stored: list[tuple[str, Request, Response]] = []
        for task in done:
            batch, price = self.calls.pop(task)
            self.flying = Price(self.flying.tokens - price.tokens, self.flying.usd - price.usd)
            error = task.exception()
            if error is None:
                answers = task.result()
                assert len(answers) == len(batch), "a provider must answer every request of a batch"
                stored += [(self.keys[r.id], r, replace(a, request_id=r.id)) for r, a in zip(batch, answers)]
            else:
                self._failed(batch, error)
        if stored:
            self.journal.store(stored)
            self.barren = 0
        for _, request, response in stored:
            self.responses[request.id] = response
            self._spend(response)
        self._tell()

    def _failed(self, batch: list[Request], error: BaseException) -> None:
        if isinstance(error, ProviderError):
            self.fatal = error
        elif isinstance(error, Refused) and len(batch) > 1:
            # One request spoils the batch: ask for each alone.
            for request in batch:
                self._launch([request])
        elif isinstance(error, Refused):
            self.failures[batch[0].id] = f"refused by the provider: {error}"
        elif isinstance(error, Retryable | asyncio.TimeoutError | ConnectionError):
            self.barren += 1
            said = str(error) or type(error).__name__
            for request in batch:
                self.failures[request.id] = f"no answer after {self.limits.retries + 1} tries: {said}"
            if self.barren >= _GIVE_UP or (not self.responses and not self.calls and self.barren >= 2):
                self.fatal = ProviderError(
                    f"{self.provider.model} gave no answer to {self.barren} calls one after the other "
                    f"({said}); check that the server is up; what was answered is kept"
                )
        else:
            raise error

    def _spend(self, response: Response) -> None:
        self.spent_usd += response.cost_usd
        self.spent_tokens += response.tokens_in + response.tokens_out

    def _tell(self) -> None:
        if self.progress:
            self.progress("generate", len(self.responses) + len(self.failures), self.total)

    def _usage(self, seconds: float) -> Usage:
        answers = self.responses.values()
        return Usage(
            answers=len(self.responses),
            reused=self.reused,
            tokens_in=sum(a.tokens_in for a in answers),
            tokens_out=sum(a.tokens_out for a in answers),
            cost_usd=sum(a.cost_usd for a in answers),
            retries=self.retries,
            failed=len(self.failures),
            seconds=seconds,
        )


def spent(called: Called) -> None:
    """Raise BudgetSpent when a cap stopped the calls."""
    if called.stopped:
        raise BudgetSpent(called.stopped)
