"""What a table that has learnt nothing knows of the test set: labels of texts that stand in training too."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing import attributes, shares
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Found, Metric, Need, Summary, Telling, View, need
from karat.auditing.columns import Columns
from karat.texts.tokens import hash_strings, mix, normalise

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
_FIELDS = (
    "id item_id text label annotator prompt chosen rejected response_a response_b choice lineage.parents"
)
_NAMED = 50
_SHOWN = 8


@dataclass(frozen=True)
class LookupBaseline(Metric):
    """The share of test records whose text stands in the training records with the label it has there.

    The candidate is the training set, the reference the test set. A text up to case, spaces and marks is
    looked up, and answered with the label that most of its copies have (of this annotator, if they are
    there). A split without leakage gives 0. lookup_accuracy is that of the table when it answers the rest
    with the most frequent label; a model is worth no more than what it adds to this.
    group: a field whose records belong together (conversation, author); empty: the sources in the lineage
    """

    group: str = ""

    family: ClassVar[str] = "contamination"
    misleads: ClassVar[str] = (
        "0 says that no text is repeated as it is: paraphrases and near-copies leak as well. Model and human "
        "labels of the same items overlap by design, and are no training and test set."
    )
    cost: ClassVar[str] = "O(records), one hash a text"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Split by text or source, not by row: karat train --drop-leaks leaves the leaking rows out."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    by_label: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True
    default: ClassVar[bool] = False  # it takes the reference for a test set, which only the user can know
    datatypes: ClassVar[tuple[str, ...]] = ("text", "classification", "annotation", "preference")
    higher: ClassVar[str] = "more of the test set is known by heart"
    source: ClassVar[str] = "Elangovan et al. 2021, Memorization vs. generalization (leakage of test texts)"

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        for side, facts in (("candidate", candidate), ("reference", reference)):
            if facts is None:
                continue
            if not ({"label", "choice"} & facts.fields or {"chosen", "rejected"} <= facts.fields):
                return f"needs labels in the {side}"
            if self.group and self.group not in facts.fields:
                return f"needs a field {self.group} in the {side}"
        return ""

    def needs(self) -> tuple[Need, ...]:
        return (
            need("columns", fields=" ".join(dict.fromkeys([*_FIELDS.split(), *filter(None, [self.group])]))),
        )

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        columns: list[Columns] = [side[self.needs()[0]] for side in (candidate, reference)]
        train, test = (_rows(one, self.group) for one in columns)
        if not len(test.answers) or not len(train.answers):
            return Comparison(float("nan"), n=len(test.answers), note="one side has no labelled record")
        table = Table.of(train)
        seen, guess = table.look_up(test)
        right = np.array([a == b for a, b in zip(guess, test.answers, strict=True)], dtype=np.bool_)
        hits = seen & right
        n = len(test.answers)
        modal = Counter(train.answers).most_common(1)[0][0]
        by_mode = np.array([modal == answer for answer in test.answers], dtype=np.bool_)
        full = np.where(seen, right, by_mode)
        shares_of = _components(train, test)
        details = {
            "leak_share": float(seen.mean()),
            "accuracy_of_leaked": float(right[seen].mean()) if seen.any() else 0.0,
            "lookup_accuracy": float(full.mean()),
            "modal_accuracy": float(by_mode.mean()),
            "leaking_training_share": float(np.isin(train.keys, test.keys).mean()),
            **shares_of,
        }
        return Comparison(
            value=float(hits.mean()),
            interval=_interval(hits, test.keys),
            chance=0.0,
            best=0.0,
            n=n,
            note=(
                f"{seen.mean():.1%} of the test records stand in training; a look-up table gets "
                f"{full.mean():.3f}, the most frequent label {by_mode.mean():.3f}"
            ),
            details=details,
            by=_by_label(hits, test.answers),
            extra={"test": n, "train": len(train.answers)},
            telling=_telling(train, test),
            warnings=_warned(seen, test, details),
        )


@dataclass(frozen=True)
class Rows:
    """Labelled records as a look-up table sees them."""

    keys: Keys
    """uint64 [n]: the hash of the text (or prompt and both answers), folded."""
    slots: tuple[str, ...]
    """The annotator of each record, "" where there is none."""
    answers: tuple[str, ...]
    """The label; of a preference the hash of the winning text, or tie."""
    parts: tuple[Keys, ...]
    """The texts that a record is made of, which link it to others: one column a kind."""
    groups: NDArray[Any]
    ids: tuple[str, ...]
    records: Keys
    """The keys of the records, for evidence."""


def _rows(columns: Columns, group: str) -> Rows:
    """The labelled records of one side."""
    if columns.has("prompt"):
        key, answers, parts = _pairs(columns)
    else:
        # empty texts hash alike and are no copies of each other
        folded = _folded(columns["text"])
        key, parts = folded, (folded,)
        answers = [None if v is None or v == "" else str(v) for v in columns["label"]]
        empty = np.array([not (v or "").strip() for v in columns["text"]], dtype=np.bool_)
        answers = [None if gone else answer for gone, answer in zip(empty, answers, strict=True)]
    kept = np.array([i for i, answer in enumerate(answers) if answer is not None], dtype=np.int64)
    names = columns[group] if group else columns["lineage.parents"]
    own = columns["id"]
    groups = np.empty(len(kept), dtype=object)
    for at, i in enumerate(kept.tolist()):
        if group:
            groups[at] = None if names[i] is None else str(names[i])
        else:
            groups[at] = str(names[i][0]) if names[i] is not None and len(names[i]) else str(own[i])
    annotators = columns["annotator"]
    return Rows(
        key[kept],
        tuple("" if annotators[i] is None else str(annotators[i]) for i in kept),
        tuple(str(answers[i]) for i in kept),
        tuple(one[kept] for one in parts),
        groups,
        tuple(str(own[i]) for i in kept),
        columns.keys[kept],
    )


def _pairs(columns: Columns) -> tuple[Keys, list[str | None], tuple[Keys, ...]]:
    """Preferences: the key knows no order of the two answers, and the winner is named by its text."""
    chosen = columns.has("chosen")
    first = _folded(columns["chosen" if chosen else "response_a"])
    second = _folded(columns["rejected" if chosen else "response_b"])
    prompt = _folded(columns["prompt"])
    low, high = np.minimum(first, second), np.maximum(first, second)
    key: Keys = mix(mix(prompt) + low) ^ mix(high)
    answers: list[str | None] = []
    for i in range(len(first)):
        choice = "a" if chosen else columns["choice"][i]
        winner = {"a": str(first[i]), "b": str(second[i]), "tie": "tie"}.get(str(choice))
        answers.append(winner)
    return key, answers, (prompt, first, second)


def _folded(texts: NDArray[Any]) -> Keys:
    values = ["" if text is None else str(text) for text in texts]
    column = pa.array(values, pa.large_string())
    folded = normalise(column)
    blank = np.array([not text for text in folded.to_pylist()], dtype=np.bool_)
    return np.where(blank, hash_strings(column), hash_strings(folded))


@dataclass(frozen=True)
class Table:
    """Text (and annotator) -> how often it has each answer in training."""

    by_text: Mapping[int, Counter[str]]
    by_slot: Mapping[tuple[int, str], Counter[str]]

    @staticmethod
    def of(train: Rows) -> Table:
        """The table of all training records."""
        by_text: dict[int, Counter[str]] = defaultdict(Counter)
        by_slot: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
        for key, slot, answer in zip(train.keys.tolist(), train.slots, train.answers, strict=True):
            by_text[key][answer] += 1
            if slot:
                by_slot[key, slot][answer] += 1
        return Table(by_text, by_slot)

    def look_up(self, test: Rows) -> tuple[NDArray[np.bool_], list[str | None]]:
        """Which test records are in the table, and what it answers; ties go to the first in order."""
        guess: list[str | None] = []
        for key, slot in zip(test.keys.tolist(), test.slots, strict=True):
            found = self.by_slot.get((key, slot)) if slot else None
            found = found or self.by_text.get(key)
            guess.append(None if found is None else min(found, key=lambda one: (-found[one], one)))
        return np.array([one is not None for one in guess], dtype=np.bool_), guess


def _components(train: Rows, test: Rows) -> dict[str, float]:
    """The share of test records that share a group with training, a text, or a chain of shared texts."""
    known = {group for group in train.groups if group is not None}
    found = {"leak_share_by_group": float(np.mean([group in known for group in test.groups]))}
    if len(test.parts) > 1:
        answers = np.unique(np.concatenate(train.parts[1:]))
        either = np.isin(test.parts[1], answers) | np.isin(test.parts[2], answers)
        found["leak_share_by_answer"] = float(either.mean())
        found["leak_share_by_component"] = _linked_share(train, test)
    return found


def _linked_share(train: Rows, test: Rows) -> float:
    """The share of test pairs that a chain of pairs with a common answer joins to a training pair."""
    import scipy.sparse
    from scipy.sparse.csgraph import connected_components

    first = np.concatenate([train.parts[1], test.parts[1]])
    second = np.concatenate([train.parts[2], test.parts[2]])
    _, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    n = int(codes.max()) + 1
    ends = codes[: len(first)], codes[len(first) :]
    graph = scipy.sparse.coo_matrix((np.ones(len(first), np.int8), ends), shape=(n, n))
    _, part = connected_components(graph, directed=False)
    mine, theirs = part[ends[0][: len(train.answers)]], part[ends[0][len(train.answers) :]]
    return float(np.isin(theirs, mine).mean())


def _interval(hits: NDArray[np.bool_], keys: Keys) -> tuple[float, float] | None:
    """Wilson's interval at the effective number of test records: rows of one text are right together."""
    _, member = np.unique(keys, return_inverse=True)
    effect = shares.design_effect(hits.astype(np.int64), attributes.numbered(member.astype(np.int64)), 2)
    return stats.wilson(round(hits.sum() / effect), max(1, round(len(hits) / effect)))


def _by_label(
    hits: NDArray[np.bool_], answers: Sequence[str]
) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    """The share known by heart within each label, where labels are few."""
    names = np.array(answers, dtype=object)
    known, counts = np.unique(names.astype(str), return_counts=True)
    if not 2 <= len(known) <= 40:
        return {}
    found: dict[str, tuple[float, tuple[float, float] | None, int]] = {}
    for name, n in zip(known, counts, strict=True):
        inside = hits[names == name]
        found[str(name)] = (float(inside.mean()), stats.wilson(int(inside.sum()), int(n)), int(n))
    return found


def _telling(train: Rows, test: Rows) -> tuple[Telling, ...]:
    """Training records that give most test records away."""
    known, counts = np.unique(test.keys, return_counts=True)
    at = np.minimum(np.searchsorted(known, train.keys), len(known) - 1)
    times = np.where(known[at] == train.keys, counts[at], 0)
    order = np.argsort(-times, kind="stable")[:_SHOWN]
    return tuple(
        Telling(int(train.records[i]), float(times[i]), f"its text stands in {times[i]} test records")
        for i in order
        if times[i]
    )


def _warned(seen: NDArray[np.bool_], test: Rows, details: Mapping[str, float]) -> tuple[Found, ...]:
    if not seen.any():
        return ()
    message = (
        f"{int(seen.sum()):,} of {len(seen):,} test records ({seen.mean():.1%}) stand in training: a look-up "
        f"table without any learning scores {details['lookup_accuracy']:.3f}; split by text or source instead"
    )
    return (Found("leakage", message, tuple(test.ids[i] for i in np.flatnonzero(seen)[:_NAMED])),)
