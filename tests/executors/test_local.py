"""The local executor: order, several processes, errors; and merging in a tree."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karat import registry
from karat.executors.base import tree_reduce
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


@given(st.lists(st.text(max_size=3), min_size=1, max_size=40))
def test_tree_reduce_is_the_plain_fold_for_an_associative_merge(parts: list[str]) -> None:
    """Merging in a tree keeps the order of the parts."""
    assert "".join(parts) == tree_reduce(iter(parts), lambda a, b: a + b)


def test_tree_reduce_is_balanced() -> None:
    """No partial result is merged more than log2(n) times."""
    depth: Callable[[int, int], int] = lambda a, b: max(a, b) + 1  # noqa: E731
    assert 7 == tree_reduce([0] * 128, depth)
    assert tree_reduce([0] * 100, depth) <= 8
