"""Labels that tests of annotation metrics share, without files. Knows no metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from karat import records
from karat.auditing.base import Context
from karat.auditing.columns import Columns
from karat.records import Records

Given = Mapping[str, Sequence[Sequence[Any]]]
"""Annotator -> for each item the list of its labels there; an empty list where it was not asked."""


def people(items: Sequence[Sequence[Any]]) -> Given:
    """One person a position: items [N] of lists of labels."""
    width = max(map(len, items))
    return {f"p{i}": [item[i : i + 1] for item in items] for i in range(width)}


def rows(given: Given, kind: str = "model") -> list[dict[str, Any]]:
    """Long rows, item by item."""
    found = []
    for i in range(max(map(len, given.values()))):
        for name, items in given.items():
            for draw, label in enumerate(items[i] if i < len(items) else (), 1):
                row = {"item_id": f"i{i}", "text": f"text {i}", "label": str(label), "annotator": name}
                found.append({**row, "annotator_kind": kind, "sample_id": str(draw)})
    return found


def corpus(given: Given, kind: str = "model") -> Records:
    """Records of these labels."""
    return records.from_rows(rows(given, kind), datatype="annotation")


class Told:
    """What a metric is given of one corpus, without an audit around it."""

    def __init__(self, given: Given, groups: int = 20, **fields: Sequence[Any]) -> None:
        table = rows(given)
        self.groups = groups
        names = ("item_id", "label", "annotator", "sample_id", "gold", "text", "prompt", "choice", "rater")
        columns = {name: [row.get(name) for row in table] for name in names}
        columns |= {name: list(values) for name, values in fields.items()}
        item = np.array([int(row["item_id"][1:]) for row in table], np.int64)
        keys = np.arange(len(table), dtype=np.uint64)
        self.columns = Columns(
            pa.table({k: pa.array(v, pa.large_string()) for k, v in columns.items()}), item % groups, keys
        )

    @property
    def records(self) -> int:
        return len(self.columns)

    def __getitem__(self, wanted: Any) -> Columns:
        return self.columns


def context(trials: int = 40, *, mode: str = "proper", seed: int = 0, groups: int = 20) -> Context:
    """A context with few permutations."""
    return Context(seed=seed, budget="small", mode=mode, groups=groups, trials=trials)


def drawn(rng: np.random.Generator, shares: Any, n: int) -> list[list[str]]:
    """n labels for each row of shares [N, K]."""
    kinds = np.arange(len(shares[0]))
    return [[str(one) for one in rng.choice(kinds, n, p=row)] for row in shares]
