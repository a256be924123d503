"""What an executor is, and how partial results are merged. Knows no stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs a function over items; results come in the order of the items.

    An executor may have more: `one_machine`, true if its workers see the files of this process; `open()`
    and `close()`, between which its workers stay from one `map` to the next; and `scatter(function, items)`,
    which yields (number of the item, result) as they come, with `Lost` for an item whose worker was killed.
    """

    workers: int

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order. The function must be importable by name."""


@dataclass(frozen=True)
class Lost:
    """Stands in the place of a result whose worker was killed; no other item is touched by that."""

    reason: str


@contextmanager
def session(executor: Executor) -> Iterator[Executor]:
    """Keep the workers of an executor from one `map` to the next, and end them afterwards."""
    getattr(executor, "open", lambda: None)()
    try:
        yield executor
    finally:
        getattr(executor, "close", lambda: None)()


def tree_reduce(results: Iterable[Result], merge: Callable[[Result, Result], Result]) -> Result:
    """Merge results two by two, so that no partial result is merged more than log2(n) times.

    Results are merged as they come, like the carries of a binary counter: at most log2(n) are held.
    """
    held: list[tuple[int, Any]] = []  # (how many results it stands for, merged)
    for result in results:
        size, merged = 1, result
        while held and held[-1][0] == size:
            _, earlier = held.pop()
            size, merged = size * 2, merge(earlier, merged)
        held.append((size, merged))
    assert held, "nothing to merge"
    _, total = held.pop()
    while held:
        total = merge(held.pop()[1], total)
    return total  # type: ignore[no-any-return]
