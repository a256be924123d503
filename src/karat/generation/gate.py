"""When a call may start: limits known, limits found by trying, a server that is away. Knows no provider."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from karat.generation.pacing import Burst, Pace, Window

Kind = Literal["answer", "busy", "server", "connection", "timeout", "unreadable", "refused"]

# So many failures in a row, and as many as calls are still in the air: the server is away. Of random faults
# of 30 % this many come in a row once in two million calls.
_AWAY = 12
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds
_SPEAKS = ("answer", "busy", "unreadable", "refused")  # after these the server is known to be there
_BURST = 0.002  # seconds within which calls started together
_TICK = 0.001  # seconds; no timer is set for less


@dataclass(frozen=True)
class Rates:
    """Requests and tokens a minute; None where not known."""

    requests: float | None = None
    tokens: float | None = None


class Bucket:
    """A limit a minute, `burst` seconds of which may be used at once.

    What is kept for the burst is taken off the steady rate, so that no minute sees more than the limit. One
    that is larger than the burst starts from a full bucket and leaves a debt.
    """

    def __init__(self, limit: float, burst: float, now: float) -> None:
        self.level, self.at = math.inf, now
        self.set(limit, burst)

    def set(self, limit: float, burst: float) -> None:
        """Change the limit; what was used of the old one stays used."""
        self.limit = limit
        self.room = max(min(limit, 1.0), limit * burst / 60)
        self.rate = (limit - max(0.0, self.room - 1)) / 60
        self.level = min(self.level, self.room)

    def wait(self, now: float, need: float) -> float:
        """Seconds until `need` is there."""
        self.level = min(self.room, self.level + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (min(need, self.room) - self.level) / self.rate)


class Breaker:
    """Shut when the server is away; then one call at a time tries, after pauses that double."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.failures = 0
        self.shut = self.trying = False
        self.pause = self.until = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a call may start; infinite while one tries."""
        if not self.shut:
            return 0.0
        return math.inf if self.trying else max(0.0, self.until - now)

    def failed(self, now: float, flying: int, tried: bool) -> None:
        """A call ended in a failure while `flying` others are in the air; `tried`: it was sent to try."""
        self.failures += 1
        if self.shut:
            if tried:
                self.trying = False
                self._lengthen(now)
        elif self.failures >= max(_AWAY, flying):
            self.shut, self.trying, self.pause = True, False, 0.0
            self._lengthen(now)

    def spoke(self) -> None:
        """The server is there."""
        self.failures = 0
        self.shut = self.trying = False

    def _lengthen(self, now: float) -> None:
        self.pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self.pause))
        self.until = now + self.pause * self.rng.uniform(0.5, 1.0)


@dataclass(slots=True)
class _Pass:
    """What the gate knows of a call that it let in."""

    gate: Gate
    began: float
    serial: int
    others: int
    """how many calls were in the air when it started"""
    burst: Burst
    bound: float
    reserved: float
    tries: bool


# A call enters and leaves in the same context, so that its pass need not go through the caller's hands.
_pass: ContextVar[_Pass | None] = ContextVar("karat_gate_pass", default=None)


class Gate:
    """Lets calls start, first come first served, as fast as the server takes them and no faster.

    concurrency: the most calls at a time. rates: limits that are known. adaptive: find those that are not, by
    the answers "too many": how many calls at a time, and how many a second. Until the first of these answers
    nothing is slowed, but for the first moments, in which their number doubles every 0.08 s from 16 on.

    A call enters and leaves in the same task (or the task that leaves was made by the one that entered).
    `clock` gives seconds, and `began` is read from the same clock.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        rates: Rates = Rates(),
        adaptive: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self.barren = 0
        self._clock, self._sleep = clock, sleep
        self._adaptive, self._own = adaptive, rates
        self._inflight = self._throttled = self._serial = 0
        self._queue: deque[tuple[asyncio.Future[_Pass], float]] = deque()
        self._ticker: asyncio.Task[None] | None = None
        self._wake = math.inf
        self._window = Window(max(1, concurrency), adaptive)
        self._pace = Pace(self._window)
        self._breaker = Breaker(rng or random.Random())
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self._share = 1.0  # of the tokens that a call may use, how many are used: running mean
        self._counted = 0
        self._turn = self._began = -math.inf
        self._burst = Burst(-math.inf)
        self._told: Rates | None = None
        self.know(rates)

    # ------------------------------------------------------------------------------------ entering

    async def enter(self, tokens: int = 0) -> None:
        """Wait until a call may start that uses at most `tokens`."""
        if not self._queue and self._wait(now := self._clock(), tokens) <= 0:
            _pass.set(self._start(now, tokens))
            return
        future: asyncio.Future[_Pass] = asyncio.get_running_loop().create_future()
        self._queue.append((future, tokens))
        self._pump()
        try:
            _pass.set(await future)
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._undo(future.result())
            self._pump()
            raise

    def _wait(self, now: float, tokens: float) -> float:
        """Seconds until the next call may start; infinite: until something happens."""
        if self._inflight >= self._window.limit:
            if not (self._pace.held and self._inflight < self._window.most):
                if self._pace.rate is not None:
                    self._pace.idle(now)
                return self._window.widen(now, self._inflight)
            if (beyond := self._pace.beyond - now) > 0:
                return beyond
        wait = max(0.0, self._began + self._window.apart() - now)
        if self._breaker.shut:
            wait = max(wait, self._breaker.wait(now))
        if self._pace.active:
            wait = max(wait, self._pace.wait(now, self._inflight))
        if self._requests is not None:
            wait = max(wait, self._requests.wait(now, 1))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(now, self._expected(tokens)))
        return wait

    def _expected(self, tokens: float) -> float:
        return tokens * min(1.0, self._share)

    def _start(self, now: float, tokens: float) -> _Pass:
        if not self._serial:
            self._pace.turn(now, 0)
        reserved = 0.0
        if self._requests is not None:
            self._requests.level -= 1
        if self._tokens is not None:
            reserved = self._expected(tokens)
            self._tokens.level -= reserved
        others, self._began = self._inflight, now
        self._inflight = others + 1
        self._serial += 1
        if self._pace.active:
            self._pace.start(now, self._serial, others)
        tries = self._breaker.shut
        if tries:
            self._breaker.trying = True
        if now - self._burst.began > _BURST:
            self._burst = Burst(now, others)
        self._burst.others = others
        return _Pass(self, now, self._serial, others, self._burst, tokens, reserved, tries)

    def _undo(self, granted: _Pass) -> None:
        """Take back a call that was let in and never started."""
        self._inflight -= 1
        if self._requests is not None:
            self._requests.level += 1
        if self._tokens is not None:
            self._tokens.level += granted.reserved
        if granted.tries:
            self._breaker.trying = False
        self._pace.lost(granted.serial)

    # ------------------------------------------------------------------------------------- leaving

    def leave(
        self, kind: Kind, *, tokens: int = 0, after: float | None = None, began: float | None = None
    ) -> None:
        """A call ended; `tokens`: used in truth; `after`: seconds that the server asks to wait."""
        now = self._clock()
        granted = _pass.get()
        if granted is None or granted.gate is not self:
            tries = self._breaker.trying
            granted = _Pass(self, now, self._serial, self._inflight - 1, self._burst, 0, 0, tries)
        else:
            _pass.set(None)
        if began is not None:
            granted.began = began
        if now >= self._turn:
            self._turn = now + 1
            self._pace.turn(now, self._serial)
        self._inflight -= 1
        assert self._inflight >= 0, "a call left the gate that had not entered"
        if self._tokens is not None or self._counted < 1000:
            self._settle(kind, granted, tokens)
        if kind == "answer":
            self.barren = 0
        elif kind not in ("busy", "refused"):
            self.barren += 1
        if kind in _SPEAKS:
            if self._breaker.failures:
                if self._breaker.shut:
                    self._window.restart(now)
                self._breaker.spoke()
        else:
            self._breaker.failed(now, self._inflight, granted.tries)
        if kind == "busy":
            self._throttled += 1
            self._refused(now, granted, after)
        elif kind == "answer":
            self._pace.answered_at = now
            self._window.answered(now, granted.began, granted.burst)
            if self._pace.counting:
                self._pace.answered(granted.serial)
        elif kind == "timeout" and self._adaptive:
            self._window.slow(now, granted.began)
        if self._queue:
            self._pump()

    def _refused(self, now: float, granted: _Pass, after: float | None) -> None:
        """The server said that there are too many calls: too many at a time, or too many a second?"""
        by_rate = self._pace.by_rate
        probe = self._pace.probed(granted.serial)  # speaks only against the limit, which it may have passed
        if self._adaptive and (not probe or self._window.proved(granted.others)):
            by_rate = not self._window.refused(now, granted.began, granted.burst)
        self._pace.refused(now, granted.began, granted.serial, after, self._serial, by_rate=by_rate)

    def _settle(self, kind: Kind, granted: _Pass, tokens: int) -> None:
        """Correct what was reserved; learn how much of the most that they may use calls use."""
        used = float(tokens)
        if kind == "answer" and tokens > 0 and granted.bound > 0:
            self._counted += 1
            weight = max(0.02, 1 / self._counted)
            self._share += weight * (tokens / granted.bound - self._share)
        elif tokens <= 0 and kind in ("answer", "timeout"):
            used = granted.reserved  # not told: as expected
        if self._tokens is not None:
            self._tokens.level += granted.reserved - used

    # ------------------------------------------------------------------------------------- waiting

    def _pump(self) -> None:
        """Let in who may start now; set the timer for the next."""
        now = self._clock()
        queue = self._queue
        while queue:
            future, tokens = queue[0]
            if future.done():  # cancelled
                queue.popleft()
                continue
            wait = self._wait(now, tokens)
            if wait > 0:
                self._arm(now, wait)
                return
            queue.popleft()
            future.set_result(self._start(now, tokens))
        self._disarm()

    def _arm(self, now: float, wait: float) -> None:
        wake = now + max(wait, _TICK)
        if self._ticker is not None and self._wake <= wake + _TICK:
            return  # it rings earlier, or as good as then, and will be set again
        self._disarm()
        if wait < math.inf:
            self._wake = wake
            self._ticker = asyncio.get_running_loop().create_task(self._ring(wake - now))

    def _disarm(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        self._ticker, self._wake = None, math.inf

    async def _ring(self, wait: float) -> None:
        await self._sleep(wait)
        self._ticker, self._wake = None, math.inf
        self._pump()

    # ------------------------------------------------------------------------------------- knowing

    def know(self, rates: Rates) -> None:
        """Learn limits from the provider; they never lift those that were set."""
        if rates is self._told:
            return
        self._told = rates
        self._requests = self._limited(self._requests, rates.requests, self._own.requests, 1.0)
        self._tokens = self._limited(self._tokens, rates.tokens, self._own.tokens, 2.0)

    def _limited(
        self, bucket: Bucket | None, told: float | None, own: float | None, burst: float
    ) -> Bucket | None:
        if told is None or told <= 0:
            return bucket
        limit = told if own is None else min(told, own)
        if bucket is None:
            return Bucket(limit, burst, self._clock())
        if bucket.limit != limit:
            bucket.wait(self._clock(), 0)
            bucket.set(limit, burst)
        return bucket

    @property
    def inflight(self) -> int:
        """Calls in the air."""
        return self._inflight

    @property
    def window(self) -> int:
        """The most calls at a time just now."""
        return self._window.limit

    @property
    def pace(self) -> float | None:
        """Calls a second that the server is believed to take; None: not limited."""
        known = math.inf if self._requests is None else self._requests.rate
        rate = min(known, self._pace.rate if self._pace.rate is not None else math.inf)
        return None if rate == math.inf else rate

    @property
    def open(self) -> bool:
        """Whether the breaker is open: the server is away, and no call but one that tries may start."""
        return self._breaker.shut

    @property
    def throttled(self) -> int:
        """How often the server said "too many"."""
        return self._throttled

    def describe(self) -> str:
        """What holds calls back, in a few words."""
        now = self._clock()
        if self._breaker.shut:
            left = max(0.0, self._breaker.until - now)
            return "the server is away; " + (
                "trying" if self._breaker.trying else f"next try in {left:.1f} s"
            )
        said = [f"{self._inflight} of {self.window} at a time"]
        if self._pace.held:
            said.append("the server wants a pause")
        elif self.pace is not None:
            said.append(f"at most {self.pace:.3g}/s")
        return ", ".join(said)
