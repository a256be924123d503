"""Questions outside of a plan: many at once, through the journal, under the caps. Knows no provider."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from karat.generation.base import Message, Progress, Provider, Request, Response
from karat.generation.calls import call, spent
from karat.generation.journal import Journal
from karat.generation.limits import Limits, Usage


@dataclass
class Asker:
    """Asks one provider, and adds up what that costs. Raises BudgetSpent at a cap; answers are kept."""

    provider: Provider
    store: Journal
    limits: Limits
    progress: Progress | None = None
    usage: Usage = field(default_factory=Usage)
    failures: dict[str, str] = field(default_factory=dict)

    def __call__(self, requests: Sequence[Request]) -> dict[str, Response]:
        """The answers by request id; requests that failed are left out, and told in `failures`."""
        if not requests:
            return {}
        if self.limits.since is None:  # what one turn has paid for, a later one does not pay again
            self.limits = replace(self.limits, since=time.time())
        called = call(
            self.provider,
            requests,
            journal=self.store,
            limits=replace(self.limits, spent=self.limits.spent.plus(self.usage)),
            progress=self.progress,
        )
        self.usage = self.usage.plus(called.usage)
        self.failures.update(called.failures)
        spent(called)
        return called.responses


def question(
    name: str,
    text: str,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    max_tokens: int = 512,
    replicate: int = 0,
) -> Request:
    """One question to a model, by its name."""
    return Request(
        id=name,
        messages=(Message("user", text),),
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        replicate=replicate,
    )
