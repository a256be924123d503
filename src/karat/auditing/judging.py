"""Judges: whoever answers questions about records, behind a journal, and how far they can be believed.

Knows providers only as parts that answer requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from karat.auditing.base import Jury


def jury(
    judge: str,
    *,
    truth: Path | None = None,
    journal: Path | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Jury:
    """Return a judge: a provider spec, behind a journal that asks nothing twice.

    truth: a file of records with `id` and `answer`, given by people, that validates the judge
    """
    raise NotImplementedError


def read_truth(path: Path) -> Mapping[str, str]:
    """Record id -> a person's answer, from a file with the fields `id` and `answer`."""
    raise NotImplementedError
