"""Choices that the tests of preference metrics share: rows with planted effects. Knows no metric.

Metrics are asked directly, without the passes of an audit, where a hundred corpora are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from karat import registry
from karat.auditing import preference_statistics
from karat.auditing.base import Comparison, Context, Need
from karat.auditing.columns import Columns
from karat.auditing.preferences import Choices, read
from karat.datatypes.preference import Preference

Row = dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """What a metric sees of a corpus whose only summary is its columns."""

    columns: Columns
    groups: int = 20

    @property
    def records(self) -> int:
        return len(self.columns)

    def __getitem__(self, need: Need) -> Columns:
        wanted = str(need.get("fields")).split()
        table = self.columns.table
        for name in wanted:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(len(self.columns)))
        return Columns(table, self.columns.groups, self.columns.keys)


def corpus(rows: Sequence[Mapping[str, Any]]) -> Corpus:
    """A corpus of rows as a file would hold them; record i has the key i."""
    kind = Preference()
    records = [kind.normalise(dict(one)) for row in rows for one in kind.explode(dict(row))]
    names = list(dict.fromkeys(name for row in records for name in row))
    table = pa.table({name: pa.array([row.get(name) for row in records]) for name in names})
    groups = np.zeros(len(records), np.int64)
    prompts = [row["prompt"] for row in records]
    numbers = {prompt: i % 20 for i, prompt in enumerate(dict.fromkeys(prompts))}
    groups[:] = [numbers[prompt] for prompt in prompts]
    return Corpus(Columns(table, groups, np.arange(len(records)).astype(np.uint64)))


def choices(rows: Sequence[Mapping[str, Any]], **settings: Any) -> Choices:
    """The choices of rows as numbers."""
    return read(corpus(rows).columns, **settings)


def asked(
    spec: str,
    rows: Sequence[Mapping[str, Any]],
    reference: Sequence[Mapping[str, Any]] | None = None,
    *,
    seed: int = 0,
    mode: str = "proper",
    draws: int = 400,
) -> Comparison:
    """What a metric says of rows, beside those of a reference; `draws` of the bootstrap, few for speed."""
    metric = registry.make("metrics", spec)
    other = None if reference is None else corpus(reference)
    usual, preference_statistics.DRAWS = preference_statistics.DRAWS, draws
    try:
        found = metric.compare(corpus(rows), other, Context(seed=seed, mode=mode))
    finally:
        preference_statistics.DRAWS = usual
    assert isinstance(found, Comparison)
    return found


def flag(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def words(rng: np.random.Generator, least: int = 3, most: int = 30) -> str:
    """A response of random length."""
    return "word " * int(rng.integers(least, most) - 1) + "word"


def swapped(rows: Sequence[Row], rng: np.random.Generator) -> list[Row]:
    """The same pairs with a and b exchanged at random: nothing is said otherwise."""
    exchange = {"a": "b", "b": "a"}
    found = []
    for row in rows:
        if flag(rng, 0.5):
            found.append(dict(row))
            continue
        turned = {}
        for name, value in row.items():
            other = name[:-1] + exchange[name[-1]] if name.endswith(("_a", "_b")) else name
            turned[other] = (
                exchange.get(value, value) if name in ("choice", "shown_first", "pushed") else value
            )
        found.append(turned)
    return found


def judged(
    rng: np.random.Generator,
    prompts: int,
    *,
    pairs: int = 1,
    first: float = 0.5,
    longer: float = 0.5,
    ties: float = 0.0,
    rater: str = "judge",
) -> list[Row]:
    """Choices of a rater: shares for what is shown first and for the longer response, ties at random.

    With first other than 0.5 places decide, else lengths do; the order of each pair is drawn.
    """
    rows = []
    for i in range(prompts):
        for j in range(pairs):
            a, b = words(rng), words(rng)
            side = "a" if flag(rng, 0.5) else "b"
            if first != 0.5:
                chosen = side if flag(rng, first) else {"a": "b", "b": "a"}[side]
            else:
                long = "a" if len(a.split()) >= len(b.split()) else "b"
                chosen = long if flag(rng, longer) else {"a": "b", "b": "a"}[long]
            rows.append(
                {
                    "prompt": f"prompt {i}",
                    "response_a": f"{a} one {i}.{j}",
                    "response_b": f"{b} two {i}.{j}",
                    "choice": "tie" if flag(rng, ties) else chosen,
                    "rater": rater,
                    "shown_first": side,
                }
            )
    return rows


def again(rows: Sequence[Row], choose: Any, rater: str) -> list[Row]:
    """The same pairs, chosen by a function of the row."""
    return [{**row, "choice": choose(row), "rater": rater} for row in rows]


def other(choice: str) -> str:
    return {"a": "b", "b": "a"}.get(choice, choice)


def agreeing(rng: np.random.Generator, share: float) -> Callable[[Row], str]:
    """What the row says, with a probability, else the opposite."""
    return lambda row: str(row["choice"]) if flag(rng, share) else other(row["choice"])


def lots(rng: np.random.Generator) -> Callable[[Row], str]:
    """a or b, drawn."""
    return lambda row: "ab"[rng.integers(2)]
