"""One purse, one rate and one journal for many workers: the office that holds them, the desk that asks it.

A worker keeps nothing: each answer is in the office's journal before it counts, so that a worker, or all of
its machine, may die at any moment. Knows no provider, no executor and no recipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from typing import Any

from karat.errors import KaratError
from karat.generation.base import Price, Response
from karat.generation.gate import Rates
from karat.generation.journal import Answer, Found, Journal
from karat.generation.limits import Usage
from karat.generation.purse import OwnPurse

_AGAIN = 0.05  # seconds after which a worker asks again for money that others may give back
_PER = 60.0  # limits are per minute
_HANDSHAKE = 10  # seconds in which a worker must show the key


@dataclass(frozen=True)
class Address:
    """Where the office listens, and the secret that opens it; it is made for one run and written nowhere."""

    host: str
    port: int
    key: bytes

    def __repr__(self) -> str:
        return f"Address({self.host}:{self.port})"


class Office:
    """Serves workers from threads of its own; a context manager."""

    def __init__(
        self,
        store: Journal,
        purse: OwnPurse,
        rates: Rates,
        *,
        host: str = "127.0.0.1",
        done: Callable[[int], None] | None = None,
    ) -> None:
        self.store, self.purse, self.rates = store, purse, rates
        self.done, self.finished = done, 0
        self.usage = Usage()
        self._lock = threading.Lock()
        self._key = os.urandom(32)
        # Who comes is asked for the key by a thread of its own: one that says nothing stops nobody else.
        self._listener = Listener((host, 0), backlog=64)
        port = self._listener.address[1]
        self.address = Address(host, int(port), self._key)
        self._open: set[Connection[Any, Any]] = set()
        self._next = {"requests": 0.0, "tokens": 0.0}
        self._closing = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Office:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with self._lock:
            for connection in self._open:
                _hang_up(connection)
        with contextlib.suppress(OSError):  # accept() returns only when somebody comes
            socket.create_connection((self.address.host, self.address.port), 5).close()
        self._thread.join(timeout=5)
        self._listener.close()

    def _listen(self) -> None:
        while not self._closing:
            try:
                connection = self._listener.accept()
            except OSError:  # somebody who went away, or no more files
                time.sleep(0.01)
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection[Any, Any]) -> None:
        held: list[Price] = []
        try:
            if not self._known(connection):
                return
            while not self._closing:
                asked = connection.recv()
                with self._lock:
                    replies = self._answers(held, asked)
                connection.send(replies)  # without the lock: who does not listen must not stop the others
        except (EOFError, OSError):
            pass
        finally:
            with self._lock:
                # A worker that died may have spent all that it had set aside.
                for price in held:
                    usd = 0.0 if math.isnan(price.usd) else price.usd
                    self.purse.settle(price, price.tokens, usd)
                    self._lost(Usage(lost=1, lost_tokens=price.tokens, lost_usd=usd))
                self._open.discard(connection)
            connection.close()

    def _known(self, connection: Connection[Any, Any]) -> bool:
        """Whether somebody has the key, and says so in time."""
        with self._lock:
            self._open.add(connection)
        try:
            _patience(connection, _HANDSHAKE)
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
            _patience(connection, 0)
        except Exception:  # somebody without the key, or one who went away
            return False
        return True

    def _answers(self, held: list[Price], asked: list[tuple[Any, ...]]) -> list[Any] | Exception:
        """A reply for each message; what went wrong here is told there."""
        try:
            return [self._answer(held, name, *given) for name, *given in asked]
        except KaratError as error:
            return error
        except Exception as error:
            return RuntimeError(f"the office of the run failed: {error!r}")

    def _answer(self, held: list[Price], name: str, *given: Any) -> Any:
        if name == "look":
            found = self.store.look(*given)
            if found is not None and found.lost.lost:
                self._lost(found.lost)
                self.purse.spend(found.lost.lost_tokens, found.lost.lost_usd)
            return found
        if name == "reserve":
            (price,) = given
            wait = self._wait(price)
            if wait > 0:
                return wait
            reply = self.purse.take(price)
            if reply is None:
                held.append(price)
                self._pass(price)
            return reply
        if name == "settle":
            price, tokens, usd = given
            # By its text: a price that is not known is not equal to itself.
            held.pop(next(i for i, one in enumerate(held) if repr(one) == repr(price)))
            self.purse.settle(price, tokens, usd)
        elif name == "store":
            self.store.store(*given)
            for _, _, response in given[0]:
                self._count(response)
        elif name == "lose":
            self.store.lose(*given)
            self._lost(Usage(lost=1, lost_tokens=given[1], lost_usd=given[2]))
        elif name == "reused":
            self.purse.reused(*given)
            self._count(given[0], reused=1)
        elif name == "done":
            self.finished += 1
            if self.done is not None:
                self.done(self.finished)
        return None

    def _count(self, response: Response, reused: int = 0) -> None:
        """Counted here and not by the workers: one that dies takes its counts with it."""
        one = Usage(1, reused, response.tokens_in, response.tokens_out, response.cost_usd)
        self.usage = self.usage.plus(one)

    def _lost(self, usage: Usage) -> None:
        self.usage = self.usage.plus(usage)

    def _wait(self, price: Price) -> float:
        """Seconds until the known limits let one more call begin (a leaky bucket for each)."""
        now = time.monotonic()
        return max(self._next["requests"] - now, self._next["tokens"] - now, 0.0)

    def _pass(self, price: Price) -> None:
        now = time.monotonic()
        for name, limit, used in (
            ("requests", self.rates.requests, 1),
            ("tokens", self.rates.tokens, price.tokens),
        ):
            if limit:
                self._next[name] = max(self._next[name], now) + used * _PER / limit


def _hang_up(connection: Connection[Any, Any]) -> None:
    """Wake who reads from it; the thread that serves it closes it."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _patience(connection: Connection[Any, Any], seconds: int) -> None:
    """Let a read fail after so many seconds; 0: never."""
    if os.name == "posix":
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))


class Desk:
    """A worker's way to the office: all that it has to say in one turn of its loop goes in one message.

    It is the worker's purse, its writer and its journal.
    """

    def __init__(self, address: Address) -> None:
        try:
            self._connection = Client((address.host, address.port), authkey=address.key)
        except OSError as error:
            raise KaratError(
                f"a worker cannot reach {address.host}:{address.port}, where the run keeps its purse and "
                f"journal ({error}); open that way, or use fewer machines"
            ) from None
        self._asked: list[tuple[Any, ...]] = []
        self._waiting: list[asyncio.Future[Any] | None] = []
        self._pool = ThreadPoolExecutor(1, "desk")
        self._pump: asyncio.Task[None] | None = None

    def _tell(self, *message: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._post(message, future)
        return future

    def _post(self, message: tuple[Any, ...], future: asyncio.Future[Any] | None = None) -> None:
        self._asked.append(message)
        self._waiting.append(future)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._talk())

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            asked, self._asked = self._asked, []
            waiting, self._waiting = self._waiting, []
            try:
                replies = await loop.run_in_executor(self._pool, self._exchange, asked)
            except (EOFError, OSError) as error:
                lost = KaratError(f"the run that this worker belongs to has ended ({type(error).__name__})")
                for future in waiting:
                    if future is not None and not future.done():
                        future.set_exception(lost)
                continue
            if isinstance(replies, Exception):
                replies = [replies] * len(waiting)
            for future, reply in zip(waiting, replies, strict=True):
                if future is None or future.done():
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)

    def _exchange(self, asked: list[tuple[Any, ...]]) -> list[Any] | Exception:
        self._connection.send(asked)
        return self._connection.recv()  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------------- a purse

    async def reserve(self, price: Price) -> str:
        """Set aside the price of a call, or say why it cannot be paid; waits for the rate and for others."""
        while True:
            told = self._tell("reserve", price)
            try:
                reply = await asyncio.shield(told)
            except asyncio.CancelledError:
                # The office may have set it aside by now; it is not needed.
                told.add_done_callback(lambda ended: self._give_back(ended, price))
                raise
            if reply is None:
                return ""
            if isinstance(reply, str) and reply:
                return reply
            await asyncio.sleep(reply or _AGAIN)

    def _give_back(self, ended: asyncio.Future[Any], price: Price) -> None:
        if not ended.cancelled() and ended.exception() is None and ended.result() is None:
            self.settle(price, 0, 0.0)

    def spend(self, tokens: int, usd: float) -> None:
        """The office has counted it when it was looked up."""

    def settle(self, price: Price, tokens: int, usd: float) -> None:
        """Tell what a call has cost."""
        self._post(("settle", price, tokens, usd))

    def reused(self, response: Response) -> None:
        """Tell that an answer was paid for by an earlier run."""
        self._post(("reused", replace(response, text="")))

    # ----------------------------------------------------------------------------------- a journal

    async def look(self, key: str, since: float) -> Found | None:
        """All that the journal knows of a question; None where it is new."""
        return await self._tell("look", key, since)  # type: ignore[no-any-return]

    async def put(self, rows: Sequence[Answer]) -> None:
        """Return when the rows are on the office's disk."""
        await self._tell("store", list(rows))

    def lose(self, key: str, tokens: int, usd: float, cause: str) -> None:
        """Note a lost attempt."""
        self._post(("lose", key, tokens, usd, cause))

    def row_done(self) -> None:
        """Tell that a row has come to its end."""
        self._post(("done",))

    async def close(self) -> None:
        """Say the last words and go."""
        while self._pump is not None and not self._pump.done():
            await asyncio.wait([self._pump])
        self._pool.shutdown(wait=True)
        self._connection.close()
