"""A program to be killed: generates with a slow provider that writes down every call. Not a test itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from karat.generation.base import Request, Response
from karat.generation.stage import generate
from karat.generation.tasks import Label, Task


@dataclass(frozen=True)
class Slow:
    """Answers after a moment and notes each request that reaches it."""

    log: str
    delay: float = 0.02
    batch_size: int = 1
    concurrency: int = 4
    model: str = "slow-1"

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Note, wait, answer."""
        with open(self.log, "a") as file:
            file.writelines(f"{r.id}\n" for r in requests)
        await asyncio.sleep(self.delay)
        return [Response(r.id, f"text for {r.id}", 5, 7, cost_usd=0.001, model=self.model) for r in requests]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    made = generate(
        Task(domain="note", labels=(Label("a"), Label("b"))),
        provider=Slow(str(folder / "calls.log")),
        n=120,
        journal=folder / "journal",
    )
    made.records.write(folder / "out.jsonl")
    (folder / "usage").write_text(f"{made.usage.reused} {made.usage.answers} {made.usage.cost_usd:.6f}")
