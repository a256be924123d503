"""Caps and speed limits of a run of calls, and what they cost. Knows no provider."""

from __future__ import annotations

from dataclasses import dataclass, field

from karat.errors import BadSetting
from karat.generation.purse import OwnPurse


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
    concurrency: int = 8
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
