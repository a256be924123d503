"""A program to be killed: generates by the batch API of a server. Not a test itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from karat.generation.stage import generate
from karat.generation.tasks import Label, Task

if __name__ == "__main__":
    folder, url, n, batch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    made = generate(
        Task(domain="note", labels=(Label("a"), Label("b"))),
        provider=f"openai_batch:model=m,url={url},batch_size={batch},concurrency=2,poll=0.02",
        n=n,
        journal=folder / "journal",
    )
    made.records.write(folder / "out.jsonl")
    (folder / "done.json").write_text(json.dumps({"usage": vars(made.usage), "rejected": len(made.rejected)}))
