"""The local executor: order, several processes, errors; and merging in a tree."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karat import registry
from karat.errors import KaratError
from karat.executors.base import session, tree_reduce
from karat.executors.local import Local


def square(value: int) -> tuple[int, int]:
    return value * value, os.getpid()


def fail(value: int) -> int:
    raise ValueError(f"cannot do {value}")


def test_results_come_in_order_from_other_processes() -> None:
    """Two workers give the results of one, in the same order, from other processes."""
    one = [value for value, _ in Local(workers=1).map(square, range(20))]
    found = list(Local(workers=2).map(square, range(20)))
    assert one == [value for value, _ in found]
    assert os.getpid() not in {process for _, process in found}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller(workers: int) -> None:
    """An error inside a worker is raised where the results are read."""
    with pytest.raises(ValueError, match="cannot do 0"):
        list(Local(workers=workers).map(fail, range(3)))


def test_made_from_a_spec() -> None:
    """`local:workers=3` and the short `local:3` are the same executor."""
    assert Local(3) == registry.make("executors", "local:workers=3") == registry.make("executors", "local:3")


@dataclass(frozen=True)
class Heavy:
    """A function that is large, and remembers in each process how often it was made."""

    weight: bytes

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self.__dict__.update(state)
        made.append(1)

    def __call__(self, value: int) -> tuple[int, int]:
        return os.getpid(), len(made)


made: list[int] = []


def test_a_session_keeps_its_processes_and_a_large_function_is_sent_once() -> None:
    """Between two maps of a session processes stay; a function of megabytes is read once by each."""
    executor = Local(workers=2)
    with session(executor):
        first = list(executor.map(Heavy(b"x" * 1_000_000), range(20)))
        again = {process for process, _ in executor.map(square_of, range(20))}
    assert {1} == {times for _, times in first}
    known = {process for process, _ in first} | again
    assert len(known) <= 2
    later = {process for process, _ in executor.map(square_of, range(4))}
    assert not later & known


def square_of(value: int) -> tuple[int, int]:
    return os.getpid(), value * value


def die(value: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return value


def test_a_killed_worker_is_an_error_in_one_line() -> None:
    """Memory ran out in a worker: the message says so and what to do."""
    with pytest.raises(KaratError, match=r"killed.*local:workers=1"):
        list(Local(workers=2).map(die, range(3)))


@given(st.lists(st.text(max_size=3), min_size=1, max_size=40))
def test_tree_reduce_is_the_plain_fold_for_an_associative_merge(parts: list[str]) -> None:
    """Merging in a tree keeps the order of the parts."""
    assert "".join(parts) == tree_reduce(iter(parts), lambda a, b: a + b)


def test_tree_reduce_is_balanced() -> None:
    """No partial result is merged more than log2(n) times."""
    depth: Callable[[int, int], int] = lambda a, b: max(a, b) + 1  # noqa: E731
    assert 7 == tree_reduce([0] * 128, depth)
    assert tree_reduce([0] * 100, depth) <= 8
