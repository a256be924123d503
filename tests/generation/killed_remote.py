"""A program to be killed: generates at a server whose address it is told. Not a test itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from karat.generation.stage import generate
from karat.generation.tasks import Label, Task

if __name__ == "__main__":
    folder, url, n, concurrency = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    made = generate(
        Task(domain="note", labels=(Label("a"), Label("b"))),
        provider=f"openai_compatible:model=m,url={url}",
        n=n,
        concurrency=concurrency,
        journal=folder / "journal",
    )
    made.records.write(folder / "out.jsonl")
    told = {"usage": vars(made.usage), "rejected": len(made.rejected)}
    (folder / "done.json").write_text(json.dumps(told))
