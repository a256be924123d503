"""A program to be interrupted: calls from within a running loop, as a notebook does. Not a test itself."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from karat.generation.base import Message, Request, Response
from karat.generation.calls import call
from karat.generation.journal import Journal

SEEN: list[str] = []


class Slow:
    """Answers after a moment, and says each on standard output."""

    batch_size, concurrency, model = 1, 4, "slow"

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Wait, tell, answer."""
        await asyncio.sleep(0.02)
        SEEN.append(requests[0].id)
        sys.stdout.write(f"{requests[0].id}\n")
        sys.stdout.flush()
        return [Response(r.id, "text", 5, 7) for r in requests]


async def main(folder: Path) -> None:
    """Interrupted in the middle: then nothing may be asked any more, and no thread is left."""
    # As in a notebook: the interrupt is an exception in the thread that waits.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    journal = Journal(folder / "calls.sqlite")
    asked = [Request(f"r{i}", (Message("user", f"write {i}"),), seed=i) for i in range(1000)]
    try:
        call(Slow(), asked, journal=journal)
    except KeyboardInterrupt:
        before = len(SEEN)
        await asyncio.sleep(0.3)
        left = (len(SEEN) - before, threading.active_count(), len(SEEN) - len(journal))
        sys.stdout.write(f"interrupted {left}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
