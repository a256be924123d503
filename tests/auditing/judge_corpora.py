"""Records and judges that the tests of judged metrics share. Knows no metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from karat import records
from karat.auditing.base import Context, Jury, Question, Verdict
from karat.generation.base import Request, Response
from karat.records import Records


@dataclass(frozen=True)
class Scripted:
    """A provider that answers by a function of the prompt, and counts what it is asked."""

    answer: Callable[[str], str]
    asked: list[str] = field(default_factory=list)

    model: ClassVar[str] = "scripted"
    batch_size: ClassVar[int] = 16
    concurrency: ClassVar[int] = 2

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer each request by its last message."""
        self.asked.extend(request.id for request in requests)
        assert {0.0} == {request.temperature for request in requests}
        return [Response(request.id, self.answer(request.messages[-1].content)) for request in requests]


@dataclass(frozen=True)
class Oracle:
    """A judge whose answers are given by record, with people's answers to some of them."""

    answers: dict[str, str]
    truth: dict[str, str] = field(default_factory=dict)
    id: str = "oracle"

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """The given answers; one that is not allowed counts as none."""
        said = [self.answers[one.record] for one in questions]
        return [Verdict(q.record, a if a in q.answers else None, a) for q, a in zip(questions, said)]


def dialogues(turns: Sequence[Sequence[str]], **columns: Sequence[Any]) -> Records:
    """Dialogues of user and assistant in turn, with further fields."""
    rows = []
    for i, said in enumerate(turns):
        messages = [
            {"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)
        ]
        row = {"id": f"d{i}", "messages": messages, **{name: values[i] for name, values in columns.items()}}
        rows.append(row)
    return records.from_rows(rows, datatype="dialogue")


def chatter(n: int, *, seed: int, least: int = 4, most: int = 12) -> list[list[str]]:
    """Dialogues of different turns, in which nothing is wrong."""
    rng = np.random.default_rng(seed)
    return [
        [
            f"turn {place} of {i} says {' '.join(f'w{word}' for word in rng.integers(0, 500, 6))}"
            for place in range(int(rng.integers(least, most)))
        ]
        for i in range(n)
    ]


def context(judge: Jury | None = None, *, seed: int = 0, budget: str = "medium", **more: Any) -> Context:
    """What a metric may know besides the corpora."""
    return Context(seed=seed, budget=budget, judge=judge, **more)


def coin(name: str, share: float) -> bool:
    """A fixed draw for each name: heads for `share` of the names."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 < share


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A JSONL file of these rows."""
    import json

    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path
