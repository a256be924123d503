"""Caps and speed limits of a run of calls, and what they cost. Knows no provider."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from karat.errors import BadSetting
from karat.generation.base import Progress, Response
from karat.generation.purse import OwnPurse

_TELL = 0.2  # seconds between two lines of progress


@dataclass(frozen=True)
class Usage:
    """What the answers cost. `reused` answers came from the journal; tokens and money include them.

    lost: attempts without an answer that the server may have charged for, at the most they can have cost.
    """

    answers: int = 0
    reused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    retries: int = 0
    failed: int = 0
    seconds: float = 0.0
    throttled: int = 0
    lost: int = 0
    lost_tokens: int = 0
    lost_usd: float = 0.0

    def plus(self, other: Usage) -> Usage:
        """The sum of two."""
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Limits:
    """Hard caps (None: none), speed limits, and how often and how long to retry (seconds)."""

    max_usd: float | None = None
    max_tokens: int | None = None
    concurrency: int = 32
    retries: int = 6
    wait: float = 1.0
    longest_wait: float = 60.0
    spent: Usage = field(default_factory=Usage)
    """what earlier calls of the same plan cost; it counts against the caps"""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_seconds: float | None = None
    since: float | None = None
    """when the plan's first call began (seconds since 1970): answers since then are not counted twice"""

    def __post_init__(self) -> None:
        OwnPurse(self.max_usd, self.max_tokens)
        if self.concurrency < 1:
            raise BadSetting(f"concurrency={self.concurrency} makes no call; give at least 1")
        for name in ("requests_per_minute", "tokens_per_minute", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadSetting(f"{name}={value} must be more than 0; leave it out for none")


def note(usage: Usage, seconds: float, done: int, total: int) -> str:
    """Rate, cost, failures and the time left of a run of so many seconds, as one line."""
    fresh = usage.answers - usage.reused
    parts = [f"{fresh / seconds:.1f} calls/s"] if fresh and seconds > 0 else []
    if usage.cost_usd or usage.lost_usd:
        parts.append(f"{usage.cost_usd + usage.lost_usd:.4g} USD")
    if usage.failed:
        parts.append(f"{usage.failed:,} failed")
    if usage.throttled:
        parts.append(f"{usage.throttled:,} told to wait")
    if total and done and seconds > 0:
        left = (total - done) * seconds / done
        parts.append(f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left")
    return " · ".join(parts)


class Books:
    """What a run of calls has done so far, and how that is told. done: rows at their end."""

    def __init__(self, progress: Progress | None = None, total: int = 0) -> None:
        self.progress, self.total, self.done = progress, total, 0
        self._sums: dict[str, float] = dict.fromkeys(Usage.__dataclass_fields__, 0)
        self._begun = time.perf_counter()
        self._told = 0.0

    def count(self, response: Response, *, reused: bool = False) -> None:
        """Count an answer."""
        sums = self._sums
        sums["answers"] += 1
        sums["tokens_in"] += response.tokens_in
        sums["tokens_out"] += response.tokens_out
        sums["cost_usd"] += response.cost_usd
        sums["reused"] += reused

    def add(self, usage: Usage) -> None:
        """Count something else."""
        for name in self._sums:
            self._sums[name] += getattr(usage, name)

    @property
    def answers(self) -> int:
        """All answers so far."""
        return int(self._sums["answers"])

    @property
    def seen(self) -> float:
        """Grows with all that is found in the journal."""
        return self._sums["reused"] + self._sums["lost"] + self.done

    def usage(self) -> Usage:
        """What was done so far."""
        found: dict[str, Any] = {name: int(value) for name, value in self._sums.items()}
        found |= {name: float(self._sums[name]) for name in ("cost_usd", "lost_usd")}
        return Usage(**{**found, "seconds": time.perf_counter() - self._begun})

    def tell(self, usage: Callable[[], Usage], *, last: bool = False) -> None:
        """Tell progress, a few times a second."""
        if self.progress is None:
            return
        now = time.perf_counter()
        if now - self._told < _TELL and not last:
            return
        self._told = now
        said = note(usage(), now - self._begun, self.done, self.total)
        self.progress("generate", self.done, self.total, note=said)
