"""Simulated servers and a client in virtual time: an event loop whose clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from karat.generation.gate import Gate, Kind


class _Jump(selectors.SelectSelector):
    """Waits for nothing: the time is put forward by what the loop would have slept."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen: a call waits without a timer")
        self.now += max(timeout, 1e-9)
        return []


class Virtual(asyncio.SelectorEventLoop):
    """An event loop in virtual time, from 0 s on."""

    def __init__(self) -> None:
        self.jump = _Jump()
        super().__init__(self.jump)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.jump.now


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in virtual time."""
    loop = Virtual()
    try:
        return loop.run_until_complete(work)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.close()


class Server:
    """Takes every call."""

    def admit(self, now: float) -> bool:
        return True

    def done(self) -> None:
        pass

    def after(self, now: float) -> float | None:
        return None


class BucketServer(Server):
    """`rate` calls a second, of which `burst` at once."""

    def __init__(self, rate: float, burst: float, tells: bool = False) -> None:
        self.rate, self.burst, self.tells = rate, burst, tells
        self.level, self.at = burst, 0.0

    def admit(self, now: float) -> bool:
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < 1 - 1e-9:
            return False
        self.level -= 1
        return True

    def after(self, now: float) -> float | None:
        return 1.0 if self.tells else None  # in whole seconds, as most do


class WindowServer(Server):
    """`rate` calls in each window of `seconds`, the first of which began `offset` before."""

    def __init__(self, rate: int, seconds: float = 1.0, offset: float = 0.0, tells: bool = False) -> None:
        self.most, self.seconds, self.offset, self.tells = round(rate * seconds), seconds, offset, tells
        self.number, self.used = -1, 0

    def admit(self, now: float) -> bool:
        number = int((now + self.offset) // self.seconds)
        if number != self.number:
            self.number, self.used = number, 0
        if self.used >= self.most:
            return False
        self.used += 1
        return True

    def after(self, now: float) -> float | None:
        if not self.tells:
            return None
        return self.seconds - (now + self.offset) % self.seconds


class CrowdServer(Server):
    """At most `most` calls at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.busy = most, 0

    def admit(self, now: float) -> bool:
        if self.busy >= self.most:
            return False
        self.busy += 1
        return True

    def done(self) -> None:
        self.busy -= 1


class Between(Server):
    """One server until `time`, another from then on, and so forth."""

    def __init__(self, first: Server, *later: tuple[float, Server]) -> None:
        self.stages = [(0.0, first), *later]
        self.now = 0.0

    def at(self, now: float) -> Server:
        return [server for since, server in self.stages if since <= now][-1]

    def admit(self, now: float) -> bool:
        self.now = now
        return self.at(now).admit(now)

    def after(self, now: float) -> float | None:
        return self.at(now).after(now)


class NoServer(Server):
    """Refuses every call."""

    def admit(self, now: float) -> bool:
        return False


@dataclass
class Told:
    """What happened: when each row was answered, when each call was refused."""

    answers: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    sent: int = 0
    most: int = 0
    gate: Gate | None = None

    @property
    def waste(self) -> float:
        return len(self.refusals) / max(1, len(self.answers))

    def rate(self, begin: float, end: float) -> float:
        """Answers a second between two moments."""
        return sum(begin <= t < end for t in self.answers) / (end - begin)


async def serve(
    server: Server,
    rows: int,
    *,
    seed: int = 0,
    concurrency: int = 256,
    latency: Callable[[random.Random, float], float] = lambda rng, now: 0.05 * rng.uniform(0.95, 1.05),
    refusal: float | None = None,
    fault: Callable[[random.Random, float], Kind | None] = lambda rng, now: None,
    until: float = 1e9,
    runners: int | None = None,
    pause: float = 0.1,
    gate: Gate | None = None,
) -> Told:
    """Send rows through a gate to a server, and again until they are answered, as the engine does."""
    loop = asyncio.get_running_loop()
    rng = random.Random(seed)
    gate = gate or Gate(concurrency=concurrency, clock=loop.time, rng=random.Random(seed))
    told = Told(gate=gate)
    todo = iter(range(rows))

    async def one() -> None:
        while True:
            await gate.enter()
            told.sent += 1
            told.most = max(told.most, gate.inflight)
            assert gate.inflight <= concurrency
            way = rng.uniform(0.0005, 0.0015)
            await asyncio.sleep(way)
            broken = fault(rng, loop.time())
            took = latency(rng, loop.time())
            if broken is not None:
                await asyncio.sleep(took)
                gate.leave(broken)
                after = None
            elif server.admit(loop.time()):
                await asyncio.sleep(took)
                server.done()
                await asyncio.sleep(way)
                gate.leave("answer")
                told.answers.append(loop.time())
                return
            else:
                after = server.after(loop.time())
                await asyncio.sleep(took if refusal is None else refusal)
                gate.leave("busy", after=after)
                told.refusals.append(loop.time())
            wait = pause * rng.uniform(0.5, 1.0)
            await asyncio.sleep(after if after is not None else wait)

    async def runner() -> None:
        for _ in todo:
            if loop.time() >= until:
                return
            await one()

    await asyncio.gather(*(runner() for _ in range(runners or 4 * concurrency + 8)))
    return told
