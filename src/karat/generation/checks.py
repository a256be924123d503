"""The checks that finished records must pass, by the settings of a generation. Knows no provider by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from karat.generation.production import Check
from karat.generation.tasks import Task
from karat.records import Records


def checks_of(
    task: Task,
    *,
    test: Records | None = None,
    novelty: float | None = None,
    verify: Any = None,
    votes: str = "2/3",
    judge: Any = None,
    seed: int = 0,
) -> Sequence[Check]:
    """The checks that settings ask for, the cheap ones first."""
    return ()
