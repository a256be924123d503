"""Runs work in this process or in several on this machine. Knows nothing of what it runs."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from karat.errors import KaratError
from karat.executors.base import Lost

Item = TypeVar("Item")
Result = TypeVar("Result")

_LARGE = 1 << 16  # bytes of a function and its settings beyond which it is sent once, not with each item


@dataclass(frozen=True)
class Local:
    """Processes on this machine; `workers=1` stays in this process, `workers=0` takes a process a core."""

    workers: int = 1

    one_machine: ClassVar[bool] = True
    """Workers see the files of this process."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order, holding only a few items at a time."""
        count = self._count
        if count == 1:
            yield from (function(item) for item in items)
            return
        with ExitStack() as held:
            call = _sendable(function, Path(held.enter_context(tempfile.TemporaryDirectory(prefix="karat-"))))
            waiting: deque[Future[Result]] = deque()
            pool = _POOLS.get(self) or held.enter_context(self._pool())
            try:
                for item in items:
                    waiting.append(pool.submit(call, item))
                    if len(waiting) > 2 * count:  # back-pressure: shards are not all in memory at once
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BrokenProcessPool:
                raise KaratError(
                    f"one of {count} worker processes was killed, most often for lack of memory; "
                    f"take fewer: --executor local:workers={max(1, count // 2)}"
                ) from None
            finally:
                for future in waiting:
                    future.cancel()

    def scatter(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Yield (number, `function(item)`) as results come; `Lost` for an item whose process was killed.

        `items` is asked again after each result, even where it had ended: a lost item may come back.
        Each process is a pool of its own: a pool that loses one process ends all others.
        """
        count = self._count
        if count == 1:
            yield from ((number, function(item)) for number, item in enumerate(items))
            return
        source = enumerate(items)
        running: dict[Future[Result], tuple[int, int]] = {}
        pools = [self._pool(1) for _ in range(count)]
        free = deque(range(count))
        try:
            with tempfile.TemporaryDirectory(prefix="karat-") as folder:
                call = _sendable(function, Path(folder))
                while True:
                    while free and (item := next(source, None)) is not None:
                        try:
                            future = pools[free[0]].submit(call, item[1])
                        except BrokenProcessPool:  # killed while it had nothing to do
                            pools[free[0]] = self._pool(1)
                            future = pools[free[0]].submit(call, item[1])
                        running[future] = item[0], free.popleft()
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        number, at = running.pop(future)
                        found: Result | Lost
                        try:
                            found = future.result()
                        except BrokenProcessPool:
                            pools[at].shutdown(wait=False)
                            pools[at] = self._pool(1)
                            found = Lost("its process was killed, most often for lack of memory")
                        free.append(at)
                        yield number, found
        finally:
            for pool in pools:
                pool.shutdown(wait=True, cancel_futures=True)

    def open(self) -> None:
        """Start processes that stay until `close`: each imports for a second before it works."""
        if self._count > 1 and self not in _POOLS:
            _POOLS[self] = self._pool()

    def close(self) -> None:
        """End the processes that `open` started."""
        pool = _POOLS.pop(self, None)
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _count(self) -> int:
        return self.workers or os.cpu_count() or 1

    def _pool(self, count: int = 0) -> ProcessPoolExecutor:
        # Spawned, not forked: polars and torch hold threads, and a fork would copy their locks.
        return ProcessPoolExecutor(
            count or self._count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_end_with_driver,
        )


def _end_with_driver() -> None:
    """End this worker when the process that started it is gone: it would wait for work for ever."""
    driver = multiprocessing.parent_process()

    def watch() -> None:
        if driver is not None:
            driver.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_POOLS: dict[Local, ProcessPoolExecutor] = {}


@dataclass(frozen=True)
class _Filed:
    """A function in a file: what is large about it (a fitted encoder) is read once by each worker."""

    path: str
    digest: str

    def __call__(self, item: Any) -> Any:
        return _read(self)(item)


@lru_cache(maxsize=1)
def _read(filed: _Filed) -> Callable[[Any], Any]:
    found: Callable[[Any], Any] = ForkingPickler.loads(Path(filed.path).read_bytes())
    return found


def _sendable(function: Callable[[Item], Result], folder: Path) -> Callable[[Item], Result]:
    data = bytes(ForkingPickler.dumps(function))
    if len(data) <= _LARGE:
        return function
    path = folder / "function"
    path.write_bytes(data)
    return _Filed(str(path), hashlib.sha256(data).hexdigest())
