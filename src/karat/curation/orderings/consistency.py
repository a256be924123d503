"""Orders records by how alike several answers to the same question are. Knows answers, not their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from karat.curation.base import ASKED, Ask, Ordered, few, need_ask, written
from karat.curation.base import asked as given_texts
from karat.curation.overlaps import chrf_pairs
from karat.errors import BadSetting
from karat.generation.asking import question
from karat.records import Records
from karat.texts.answers import read_label

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Consistency:
    """The most repeatable first: mean chrF of a text, or agreement of a label, with other answers.

    The extrinsic part of BSDetector (Chen and Mueller 2023): what a model says again and again it is sure of.
    field: a field with a list of further answers. group: a field whose equal values mark records that answer
    the same question. Without both, a provider is asked `samples` times at `temperature`.
    pairs: record holds the record against the others, all takes the mean over all pairs of answers.
    language: of translations, by its name, where a provider is asked. limit: the most records asked (0: all).
    """

    field: str = ""
    group: str = ""
    samples: int = 5
    temperature: float = 1.0
    pairs: Literal["record", "all"] = "record"
    language: str = ""
    limit: int = 0

    def __post_init__(self) -> None:
        if self.field and self.group:
            raise ValueError(
                f"field={self.field} and group={self.group} exclude each other; give one of them"
            )
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, but one more answer is needed at least; 5 is usual")

    def order(
        self,
        records: Records,
        reference: Records | None = None,
        *,
        seed: int = 0,
        ask: Ask | None = None,
    ) -> Ordered:
        """Score each record from 0 to 1; one without other answers has no score."""
        labels = None if records.datatype in ASKED else records.labels()
        own: Sequence[Any] = written(records) if labels is None else labels
        if self.field:
            others = [_listed(one) for one in records.column(self.field)]
        elif self.group:
            others = _grouped(records.column(self.group), own)
        else:
            others, invalid = self._ask(records, labels, need_ask(ask, "ordering 'consistency'"), seed)
        if labels is not None:
            scores = np.array([self._label(one, rest) for one, rest in zip(own, others)], dtype=np.float64)
        else:
            scores = self._texts(own, others)
        what = "mean chrF of" if labels is None else "agreement of the label with"
        note = f"{what} {np.mean([len(rest) for rest in others]):.1f} other answers a record"
        if self.field or self.group:
            return Ordered(scores, note)
        return Ordered(
            scores, f"{note}; {invalid:,} answers were unusable", figures={"invalid": float(invalid)}
        )

    def _label(self, own: Any, others: Sequence[Any]) -> float:
        if not others:
            return float("nan")
        if self.pairs == "record":
            return sum(str(one) == str(own) for one in others) / len(others)
        counts = np.unique([str(one) for one in [own, *others]], return_counts=True)[1]
        n = len(others) + 1
        return float((counts * (counts - 1)).sum() / (n * (n - 1)))

    def _texts(self, own: Sequence[Any], others: Sequence[Sequence[Any]]) -> Floats:
        """Mean chrF from 0 to 1 of each text with its other answers; records of one group share the work."""
        numbers: dict[str, int] = {}
        sets: dict[tuple[int, ...], int] = {}
        one: list[Ints] = []
        other: list[Ints] = []
        belongs = np.full(len(own), -1, dtype=np.int64)
        for row, (text, rest) in enumerate(zip(own, others)):
            if not rest:
                continue
            held = [numbers.setdefault(str(said), len(numbers)) for said in (text, *rest)]
            whole = self.pairs == "all"
            key = tuple(sorted(held)) if whole else (held[0], *sorted(held[1:]))
            if key not in sets:
                left, right = np.nonzero(~np.eye(len(key), dtype=np.bool_)) if whole else _against(len(key))
                one.append(np.array(key)[left])
                other.append(np.array(key)[right])
            belongs[row] = sets.setdefault(key, len(sets))
        scores = np.full(len(own), np.nan)
        if sets:
            each = chrf_pairs(list(numbers), np.concatenate(one), np.concatenate(other)) / 100
            sizes = np.array([len(pairs) for pairs in one])
            means = np.add.reduceat(each, np.cumsum(sizes) - sizes) / sizes
            known = belongs >= 0
            scores[known] = means[belongs[known]]
        return scores

    def _ask(
        self, records: Records, labels: Sequence[str] | None, ask: Ask, seed: int
    ) -> tuple[list[list[str]], int]:
        rows = few(len(records), self.limit, seed=seed)
        prompts = self._prompts(records, labels)
        names = {row: f"consistency:{records.ids[row]}" for row in rows.tolist()}
        requests = [
            question(
                f"{name}:{number}", prompts[row], seed=seed, temperature=self.temperature, replicate=number
            )
            for row, name in names.items()
            for number in range(self.samples)
        ]
        answers = ask(requests)
        classes = sorted({one for one in labels if one is not None}) if labels is not None else []
        others: list[list[str]] = [[] for _ in range(len(records))]
        invalid = 0
        for row, name in names.items():
            for number in range(self.samples):
                answer = answers.get(f"{name}:{number}")
                said = None if answer is None else answer.text.strip()
                if said and labels is not None:
                    said = read_label(said, classes)
                if said:
                    others[row].append(said)
                else:
                    invalid += 1
        return others, invalid

    def _prompts(self, records: Records, labels: Sequence[str] | None) -> list[str]:
        if labels is not None:
            classes = sorted({one for one in labels if one is not None})
            told = "Which label fits the text? Answer with one of these labels and nothing else: "
            return [f"{told}{', '.join(classes)}\n\nText: {text}" for text in records.texts()]
        given = given_texts(records, "ordering 'consistency' without field or group")
        if records.datatype != "translation":
            return given
        if not self.language:
            raise BadSetting("ordering 'consistency': name the language of translations: language=German")
        told = f"Translate this into {self.language}. Give the translation and nothing else."
        return [f"{told}\n\n{text}" for text in given]


def _against(n: int) -> tuple[Ints, Ints]:
    """The pairs of the first of n texts with the others."""
    return np.zeros(n - 1, dtype=np.int64), np.arange(1, n)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [one for one in value if one is not None] if isinstance(value, list | tuple) else [value]


def _grouped(groups: Sequence[Any], own: Sequence[Any]) -> list[list[Any]]:
    """For each record what the other records of its group hold; no group, no others."""
    members: dict[Any, list[int]] = {}
    for row, group in enumerate(groups):
        if group is not None:
            members.setdefault(str(group), []).append(row)
    return [
        [] if group is None else [own[other] for other in members[str(group)] if other != row]
        for row, group in enumerate(groups)
    ]
