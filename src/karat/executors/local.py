"""Runs work in this process or in several on this machine. Knows nothing of what it runs."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Local:
    """Processes on this machine; `workers=1` stays in this process, `workers=0` takes a process a core."""

    workers: int = 1

    one_machine: ClassVar[bool] = True
    """Workers see the files of this process."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order, holding only a few items at a time."""
        count = self.workers or os.cpu_count() or 1
        if count == 1:
            yield from (function(item) for item in items)
            return
        # Spawned, not forked: polars and torch hold threads, and a fork would copy their locks.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, mp_context=context) as pool:
            waiting: deque[Future[Result]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) > 2 * count:  # back-pressure: shards are not all in memory at once
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
