"""Several annotators' labels of one item: as one distribution, or as slots in an order. Knows no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from karat.errors import NotEnoughData
from karat.records import Records
from karat.training.base import Floats, Indices, codes, gold_labels

Order = Literal["sorted", "shuffle", "frequency", "data-frequency"]
NOBODY = -1
"""Stands in a slot that no annotator filled."""


@dataclass(frozen=True)
class Items:
    """The items of annotation records in order of their first record; `answers` holds all labels of each."""

    texts: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]


def answered(records: Records, what: str = "training") -> Records:
    """Return the records that have a label; an empty label of an annotator is an answer of no use.

    Raises NotEnoughData where none is left.
    """
    labels = gold_labels(records, what)
    if records.datatype != "annotation":
        return records
    kept = np.fromiter((label != "" for label in labels), dtype=bool, count=len(labels))
    if not kept.any():
        raise NotEnoughData(
            f"{records.path}: no annotator's answer is usable; give {what} records with labels"
        )
    return records if kept.all() else records.where(kept)


def items(records: Records) -> Items:
    """Return the items of annotation records: records of one `item_id` and text."""
    found: dict[tuple[str, str], list[str]] = {}
    labels = gold_labels(records)
    for name, text, label in zip(records.column("item_id"), records.texts(), labels):
        found.setdefault((str(name), text), []).append(label)
    return Items(
        tuple(text for _, text in found),
        tuple(tuple(answers) for answers in found.values()),
        tuple(sorted(set(labels))),
    )


def shares(answers: Sequence[Sequence[str]], classes: Sequence[str]) -> Floats:
    """Return the distribution of each item's labels [items, classes]."""
    table = np.zeros((len(answers), len(classes)))
    for row, labels in enumerate(answers):
        np.add.at(table[row], codes(labels, classes), 1.0)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def majorities(answers: Sequence[Sequence[str]]) -> list[str]:
    """Return the most frequent label of each item; of equally frequent ones the first by name."""
    return [
        min(counts, key=lambda label: (-counts[label], label)) for counts in map(Counter, answers) if counts
    ]


def slots(
    answers: Sequence[Sequence[str]], classes: Sequence[str], order: Order, *, seed: int = 0
) -> Indices:
    """Return which class stands in which slot of an item [items, most labels of one]; NOBODY in empty slots.

    The slot of a label is its place in the order (Das et al. 2024, the artifact study's second-order test):
    sorted by the label itself, shuffled, by frequency within the item, or by frequency in all of the data.
    """
    rng = np.random.default_rng([seed, 7])
    overall = Counter(label for labels in answers for label in labels)
    table = np.full((len(answers), max(map(len, answers))), NOBODY, dtype=np.int64)
    for row, labels in enumerate(answers):
        own = Counter(labels)
        if order == "shuffle":
            placed = [labels[i] for i in rng.permutation(len(labels)).tolist()]
        elif order == "sorted":
            placed = sorted(labels)
        else:
            counts = own if order == "frequency" else overall
            placed = sorted(labels, key=lambda label: (-counts[label], label))
        table[row, : len(placed)] = codes(placed, classes)
    return table
