"""Records and judges that the tests of judged metrics share. Knows no metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from karat import records
from karat.auditing import statistics as stats
from karat.auditing.base import Context, Jury, Metric, Need, Question, Verdict, everything
from karat.auditing.columns import Columns
from karat.auditing.dialogues import DIALOGUES
from karat.auditing.instructions import INSTRUCTIONS
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


@dataclass(frozen=True)
class Seen:
    """A corpus as a metric sees it, without an audit around it: its fields, in replicate groups at random."""

    columns: Columns
    groups: int = 20

    @staticmethod
    def of(data: Records, seed: int = 0) -> Seen:
        """The records of a corpus in the order of the file, in 20 groups of equal size."""
        n = len(data)
        rng = np.random.default_rng(seed)
        fields = str(INSTRUCTIONS.get("fields")) + " " + str(DIALOGUES.get("fields"))
        names = [name for name in dict.fromkeys(fields.split()) if "." not in name]
        known = {name: data.table.column(name) if data.has(name) else pa.nulls(n) for name in names}
        table = pa.table({"id": data.table.column("id"), **known, "lineage.generator": pa.nulls(n)})
        keys = rng.integers(0, 2**63, n).astype(np.uint64)
        return Seen(Columns(table, rng.permutation(n) % 20, keys))

    @property
    def records(self) -> int:
        return len(self.columns)

    def __getitem__(self, wanted: Need) -> Columns:
        assert wanted in (DIALOGUES, INSTRUCTIONS)
        return self.columns


def p_of(metric: Metric, one: Seen, other: Seen) -> float:
    """The p-value that an audit gives a `values` metric: the jackknife of both sides, and Welch's test."""
    masks = np.concatenate([everything(20), stats.leave_one_out(20)])
    sides = [metric.values(side, masks) for side in (one, other)]
    found = [stats.jackknife(float(values[0]), values[1:]) for values in sides]
    p = stats.difference(*found).p
    return 1.0 if p is None else p


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
