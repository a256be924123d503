"""How new each instruction is, beside all others or beside the human ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, Telling, View
from karat.auditing.columns import Columns
from karat.auditing.instructions import INSTRUCTIONS, opened
from karat.texts.overlap import Floats, rouge_l, words

_BUDGETS = {"small": 500, "medium": 1_000, "large": 3_000}
_SHOWN = 8


@dataclass(frozen=True)
class Part:
    """Instructions of one side: words of each, texts, groups int64 [n] and keys uint64 [n]."""

    words: list[list[str]]
    texts: list[str]
    groups: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class RougeNovelty(Metric):
    """The mean of 1 - ROUGE-L with the most alike other instruction: 1 shares no word, 0 is a copy.

    Others of the same corpus, or with against=reference those of the human data (then "best" is what other
    human instructions get). As many records of both sides are looked at, the first by hash, since the nearest
    of more is nearer. Beside it: the share under the published limit of 0.7, and copies.
    against: own or reference
    records: the most records of each side; 0: by budget (500, 1000, 3000)
    tokens: word, or rouge (a to z and digits only, as the package rouge_score has it)
    """

    against: str = "own"
    records: int = 0
    tokens: str = "word"

    family: ClassVar[str] = "instruction"
    datatypes: ClassVar[tuple[str, ...]] = ("instruction",)
    misleads: ClassVar[str] = (
        "It falls as more records are looked at, and a preamble that all share lowers it. Noise is new too."
    )
    cost: ClassVar[str] = "O(n^2) pairs of a hash sample of 500 to 3,000 records a side, in C"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Keep an instruction only if its ROUGE-L with all that were kept before is under 0.7."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "more novel"
    source: ClassVar[str] = "Wang et al. 2023, Self-Instruct, section 2.2 and Figure 4; Lin 2004 (ROUGE-L)"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("against", self.against, ("own", "reference")),
            ("tokens", self.tokens, ("word", "rouge")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; choose one of: {', '.join(known)}")
        if self.records < 0:
            raise ValueError(f"records is {self.records}, but must be 0 (by budget) or more")

    def needs(self) -> tuple[Need, ...]:
        return (INSTRUCTIONS,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        most = self.records or _BUDGETS[context.budget]
        sides = [one for one in (candidate, reference, context.spare) if one is not None]
        n = min([most, *(len(one[INSTRUCTIONS]) for one in sides)])
        mine = self._part(candidate[INSTRUCTIONS], n)
        if n < 2:
            return Comparison(float("nan"), n=n, note="novelty needs 2 records or more")
        theirs = None if reference is None else self._part(reference[INSTRUCTIONS], n)
        spare = None if context.spare is None else self._part(context.spare[INSTRUCTIONS], n)
        groups = candidate.groups
        if self.against == "own":
            return _own(mine, theirs, spare, groups, context)
        if theirs is None:
            note = "against=reference needs a reference (--reference FILE)"
            return Comparison(float("nan"), n=n, note=note)
        return _beside(mine, theirs, spare, groups)

    def _part(self, columns: Columns, n: int) -> Part:
        rows = opened(columns)
        chosen = np.argsort(rows.keys, kind="stable")[:n]
        texts = [rows.instructions[i] for i in chosen]
        split = [words(text, self.tokens) for text in texts]
        return Part(split, texts, rows.groups[chosen], rows.keys[chosen])


# --------------------------------------------------------------------------------------- arithmetic


def nearest(likeness: Floats, groups: NDArray[np.int64], count: int) -> tuple[Floats, NDArray[np.int64]]:
    """float64 [n, G]: for each row the largest likeness within each group of columns; and the column of the
    largest of all, int64 [n]. -1 stands for a group without a column.
    """
    found = np.full((len(likeness), count), -1.0)
    for group in range(count):
        inside = groups == group
        if inside.any():
            found[:, group] = likeness[:, inside].max(axis=1)
    return found, likeness.argmax(axis=1)


def novelty(by_group: Floats, rows: NDArray[np.int64], masks: NDArray[np.bool_]) -> Floats:
    """float64 [K]: the mean of 1 - largest likeness, of rows and columns whose groups each mask merges."""
    found = np.full(len(masks), np.nan)
    for k, mask in enumerate(masks):
        inside = mask[rows]
        top = by_group[inside][:, mask].max(axis=1, initial=-1.0)
        top = top[top >= 0]  # a record that is alone has nothing to be like
        if len(top):
            found[k] = 1 - top.mean()
    return found


def _estimate(likeness: Floats, groups: NDArray[np.int64], count: int) -> stats.Estimate:
    """Novelty among themselves, with the delete-a-group jackknife."""
    by_group, _ = nearest(likeness, groups, count)
    masks = np.concatenate([np.ones((1, count), np.bool_), stats.leave_one_out(count)])
    values = novelty(by_group, groups, masks)
    return stats.jackknife(float(values[0]), values[1:])


def _alike(one: Part, other: Part) -> Floats:
    found = rouge_l(one.words, other.words)
    if one is other:
        np.fill_diagonal(found, -1.0)  # a record is not its own neighbour
    return found


def _own(mine: Part, theirs: Part | None, spare: Part | None, groups: int, context: Context) -> Comparison:
    likeness = _alike(mine, mine)
    found = _estimate(likeness, mine.groups, groups)
    result = Comparison(
        found.value,
        found.interval(bounds=RougeNovelty.bounds),
        n=len(mine),
        details=_details(likeness),
        extra={"sample": len(mine)},
        telling=_telling(mine, mine, likeness, "another instruction"),
    )
    if theirs is None:
        return result
    human = _alike(theirs, theirs)
    other = _estimate(human, theirs.groups, groups)
    gap = stats.difference(found, other)
    across = _alike(mine, theirs)
    pool = np.block([[likeness, across], [across.T, human]])
    both = np.concatenate([mine.groups, theirs.groups + groups])
    halves = stats.random_halves(groups, trials=min(context.trials, 100), seed=context.seed)
    null = novelty(nearest(pool, both, 2 * groups)[0], both, halves)
    best = other.value if spare is None else 1 - float(_alike(spare, spare).max(axis=1).mean())
    details = dict(result.details) | {f"reference.{k}": v for k, v in _details(human).items()}
    return replace(
        result,
        reference=other.value,
        reference_interval=other.interval(bounds=RougeNovelty.bounds),
        difference=gap.value,
        difference_interval=gap.interval,
        p=gap.p,
        chance=float(np.nanmean(null)),
        best=best,
        details=details | {"to_reference": 1 - float(across.max(axis=1).mean())},
    )


def _beside(mine: Part, theirs: Part, spare: Part | None, groups: int) -> Comparison:
    """Novelty beside the human data: rows of the candidate, or of spare human records, columns of theirs."""
    likeness = _alike(mine, theirs)

    def estimate(part: Part, alike: Floats) -> stats.Estimate:
        masks = np.concatenate([np.ones((1, groups), np.bool_), stats.leave_one_out(groups)])
        top = 1 - alike.max(axis=1)  # the human data are held fixed: they are what is compared with
        values = [
            float(top[mask[part.groups]].mean()) if mask[part.groups].any() else np.nan for mask in masks
        ]
        return stats.jackknife(values[0], values[1:])

    found = estimate(mine, likeness)
    result = Comparison(
        found.value,
        found.interval(bounds=RougeNovelty.bounds),
        n=len(mine),
        details=_details(likeness),
        extra={"sample": len(mine)},
        note="too few human records for a second sample, so there is nothing to compare the value with",
        telling=_telling(mine, theirs, likeness, "a human instruction"),
    )
    if spare is None:
        return result
    other = estimate(spare, _alike(spare, theirs))
    gap = stats.difference(found, other)
    return replace(
        result,
        reference=other.value,
        reference_interval=other.interval(bounds=RougeNovelty.bounds),
        difference=gap.value,
        difference_interval=gap.interval,
        p=gap.p,
        chance=other.value,
        best=other.value,
        note="human: other human records beside the same human data",
    )


def _details(likeness: Floats) -> dict[str, float]:
    top = likeness.max(axis=1)
    return {
        "under_0.7": float((top < 0.7).mean()),
        "copies": float((top >= 1 - 1e-12).mean()),
        "median": float(1 - np.median(top)),
    }


def _telling(mine: Part, other: Part, likeness: Floats, whose: str) -> tuple[Telling, ...]:
    """The least novel records, and what each is most like."""
    top, at = likeness.max(axis=1), likeness.argmax(axis=1)
    order = np.lexsort((mine.keys, -top))[:_SHOWN]
    return tuple(
        Telling(
            int(mine.keys[i]),
            float(top[i]),
            f"ROUGE-L {top[i]:.2f} with {whose}: {_short(other.texts[at[i]])}",
        )
        for i in order
        if top[i] > 0.5
    )


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return repr(plain[:90] + ("…" if len(plain) > 90 else ""))
