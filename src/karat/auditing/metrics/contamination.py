"""The share of test records (the reference) that the candidate, as training data, overlaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Found, Metric, Need, Setting, Summary, Telling, View
from karat.auditing.folded import LIMIT, Words, elsewhere, grams, holders, words_need
from karat.texts.closest import Closest, Weights, closest

KINDS = ("exact", "ngram", "near")
_THRESHOLDS = {"exact": 1.0, "ngram": 0.5, "near": 0.25}
_WHOLE = 5  # records of fewer words are looked for as whole texts only
_TESTED, _TRAINED = 5_000, 50_000  # records that `near` compares, all with all
_NAMED = 50
_SHOWN = 8
_EPS = 1e-9

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contamination(Metric):
    """The share of reference records (a test set) that the candidate (training data) holds, in whole or part.

    exact: the same text, up to case, spaces and sentence marks. ngram: at least `threshold` of its n-grams
    stand in the candidate; a record of fewer than n words is one n-gram, and one of fewer than 5 is
    looked for as a whole text. near: the closest candidate record shares `threshold` of the words,
    weighted by rarity (Jaccard), which finds paraphrases: of 659 rephrased GSM8K questions 90%, with 1% false
    alarms. Chance is what as many other reference records would overlap, extrapolated where the
    candidate is larger. p is one-sided, at equal sizes.
    kind: exact, ngram or near
    n: the number of words of an n-gram
    threshold: from which share or coefficient on a record counts; 0: by kind (ngram 0.5, near 0.25)
    tokens: the tokeniser, word or whitespace
    limit: records of each side that are looked at, the first by hash; 0: all
    """

    kind: str = "ngram"
    n: int = 13
    threshold: float = 0.0
    tokens: str = "word"
    limit: int = LIMIT

    family: ClassVar[str] = "contamination"
    misleads: ClassVar[str] = (
        "exact and ngram miss paraphrases and translations; near takes records of a narrow domain for "
        "copies, which chance shows. Records that a test set repeats by design (instructions) overlap anyway."
    )
    cost: ClassVar[str] = "O(tokens) of at most 500,000 records a side; near: 5,000 x 50,000 records"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Drop candidate records that overlap the test set before training, or test on other data."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    paper: ClassVar[Mapping[str, Setting]] = {"threshold": 1e-6}
    higher: ClassVar[str] = "more of the test set leaked"
    source: ClassVar[str] = (
        "Brown et al. 2020, appendix C (13-grams; any one counts: mode paper); Yang et al. 2023, Rethinking "
        "benchmark and contamination with rephrased samples"
    )

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; choose one of: {', '.join(KINDS)}")
        if self.n < 1:
            raise ValueError(f"n is {self.n}; an n-gram has at least 1 word")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}, but must lie between 0 (by kind) and 1")
        if self.limit < 0:
            raise ValueError(f"limit is {self.limit}, but must be 0 (all) or more")

    def needs(self) -> tuple[Need, ...]:
        return (words_need(self.tokens, self.limit),)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        train, test = candidate[self.needs()[0]].words, reference[self.needs()[0]].words
        if self.kind == "near":
            train, test = train.first(_TRAINED), test.first(_TESTED)
        test = test.take(np.flatnonzero(test.filled))
        n = len(test)
        if n == 0:
            return Comparison(float("nan"), n=0, note="no reference record holds a word")
        find = self._finder(train, test)
        found = find(train, False)
        flags = self.flags(found.scores)
        chance, p = None, None
        if candidate.groups > 1:
            ours = find(train.first(n).turned(candidate.groups), True)
            theirs = find(test.first(len(train)), True)
            p, share = _against_humans(self.flags(ours.scores), self.flags(theirs.scores))
            library = min(n, len(train)) * (1 - 1 / candidate.groups)
            chance = 1 - (1 - share) ** (len(train) / library)
        hits = int(flags.sum())
        return Comparison(
            value=hits / n,
            interval=stats.wilson(hits, n),
            p=p,
            chance=chance,
            best=0.0,
            reference=chance,
            difference=hits / n - chance if chance is not None else None,
            n=n,
            note=f"{hits:,} of {n:,} reference records overlap the candidate",
            details=self._details(found.scores, test),
            extra=self._extra(train, test, candidate, reference),
            warnings=self._warned(flags, found.scores, test, p),
            telling=self._telling(flags, found, train, test),
        )

    def flags(self, scores: Floats) -> Flags:
        """bool [n]: the records whose overlap counts."""
        over: Flags = scores >= (self.threshold or _THRESHOLDS[self.kind]) - _EPS
        return over

    def _finder(self, train: Words, test: Words) -> _Finder:
        if self.kind == "near":
            return _Near(test, Weights.of(train.tokens, test.tokens))
        return _Held(test, 0 if self.kind == "exact" else self.n)

    def _details(self, scores: Floats, test: Words) -> dict[str, float]:
        if self.kind == "near":
            return {
                f"share_at_{level}": float((scores >= level - _EPS).mean()) for level in (0.2, 0.3, 0.5, 0.8)
            }
        if self.kind == "exact":
            return {}
        short = test.tokens.lengths < self.n
        return {
            "any_ngram": float((scores > 0).mean()),
            "all_ngrams": float((scores >= 1 - _EPS).mean()),
            "short_records": float(short.mean()),
        }

    def _extra(self, train: Words, test: Words, candidate: Summary, reference: Summary) -> dict[str, Setting]:
        extra: dict[str, Setting] = {"threshold": self.threshold or _THRESHOLDS[self.kind]}
        if self.kind == "exact":
            extra = {}
        if len(train) < candidate.records:
            extra["sample"] = len(train)
        if len(test) < reference.records:
            extra["tested"] = len(test)
        return extra

    def _warned(self, flags: Flags, scores: Floats, test: Words, p: float | None) -> tuple[Found, ...]:
        hits = int(flags.sum())
        if hits == 0 or (self.kind == "near" and p is not None and p >= 0.05):
            return ()  # a likeness is a leak only where chance does not explain it, a copy is one anyway
        level = self.threshold or _THRESHOLDS[self.kind]
        how = {
            "exact": "stand in the candidate word for word",
            "ngram": f"have at least {level:.0%} of their {self.n}-grams there",
            "near": "have a record there with nearly the same rare words",
        }[self.kind]
        rows = np.flatnonzero(flags)
        rows = rows[np.lexsort((test.keys[rows], -scores[rows]))][:_NAMED]
        message = (
            f"{hits:,} of {len(test):,} reference records ({hits / len(test):.1%}) {how}: a model trained on "
            "the candidate has seen them; drop their copies from it before testing on the reference"
        )
        return (Found("leakage", message, tuple(test.names.take(rows).to_pylist())),)

    def _telling(self, flags: Flags, found: _Scores, train: Words, test: Words) -> tuple[Telling, ...]:
        """The candidate records that hold most of a flagged reference record."""
        rows = np.flatnonzero(flags)
        rows = rows[np.lexsort((test.keys[rows], -found.scores[rows]))]
        if found.partner is not None:
            rows = rows[np.unique(found.partner[rows], return_index=True)[1]]
            rows = rows[np.argsort(-found.scores[rows], kind="stable")][:_SHOWN]
            return tuple(
                Telling(
                    int(train.keys[found.partner[row]]),
                    float(found.scores[row]),
                    f"{found.scores[row]:.0%} of the weight of its words is shared with one reference record",
                )
                for row in rows
            )
        few = test.take(rows[:_NAMED])
        hits = _overlapping(train, few, 0 if self.kind == "exact" else self.n)
        order = np.lexsort((train.keys, -hits))[:_SHOWN]
        what = "text" if self.kind == "exact" else f"{self.n}-grams"
        return tuple(
            Telling(
                int(train.keys[row]),
                float(hits[row]),
                "the text of a reference record"
                if self.kind == "exact"
                else f"{hits[row]:,} of its {what} are of a reference record",
            )
            for row in order
            if hits[row] > 0
        )


@dataclass(frozen=True)
class _Scores:
    """How much of each test record stands in the training data, and in which record, where that is known."""

    scores: Floats
    partner: NDArray[np.int64] | None = None


class _Finder:
    """Scores test records against a corpus, with or without the records of their own group."""

    def __call__(self, corpus: Words, other_groups: bool) -> _Scores:
        raise NotImplementedError


@dataclass(frozen=True)
class _Near(_Finder):
    test: Words
    weights: Weights

    def __call__(self, corpus: Words, other_groups: bool) -> _Scores:
        test = self.test
        apart = (test.groups, corpus.groups) if other_groups else None
        found: Closest = closest(test.tokens, corpus.tokens, self.weights, apart=apart)
        return _Scores(found.likeness, found.record)


@dataclass(frozen=True)
class _Held(_Finder):
    """Shares of n-grams that a corpus holds; n = 0: whole texts."""

    test: Words
    n: int
    _made: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = field(default_factory=dict)

    def __call__(self, corpus: Words, other_groups: bool) -> _Scores:
        test = self.test
        held, total = np.zeros(len(test)), np.zeros(len(test))
        for order, (hashes, owner) in self._asked().items():
            sets = holders(hashes, corpus, order)
            there = elsewhere(sets, test.groups[owner]) if other_groups else sets != 0
            held += np.bincount(owner[there], minlength=len(test))
            total += np.bincount(owner, minlength=len(test))
        return _Scores(held / np.maximum(total, 1))

    def _asked(self) -> dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]]:
        """n -> the n-grams asked for and the record of each; a shorter record is one, of its length."""
        if not self._made:
            lengths, rows = self.test.tokens.lengths, np.arange(len(self.test))
            whole = rows if self.n == 0 else rows[lengths < min(_WHOLE, self.n)]
            self._made[0] = (self.test.content[whole], whole)
            for order in range(min(_WHOLE, self.n), self.n + 1) if self.n else ():
                chosen = rows[lengths >= order] if order == self.n else rows[lengths == order]
                hashes, owner = grams(self.test.take(chosen), order)
                self._made[order] = (hashes, chosen[owner])
        return {order: asked for order, asked in self._made.items() if len(asked[0])}


def _overlapping(train: Words, few: Words, n: int) -> NDArray[np.int64]:
    """int64 [n]: how many n-grams of each training record are of a few test records (n = 0: its text is)."""
    if n == 0 or int(few.tokens.lengths.max(initial=0)) < n:
        return np.isin(train.content, few.content).astype(np.int64)
    hashes, owner = grams(train, n)
    theirs, _ = grams(few, n)
    return np.bincount(owner[np.isin(hashes, theirs)], minlength=len(train))


def _against_humans(mine: Flags, theirs: Flags) -> tuple[float, float]:
    """p that the candidate overlaps no more test records than as many other test records do; and their share.

    Both were held against records of other groups, so that under one source a record is as likely to be hit
    by either. What is hit on both sides says nothing (McNemar 1947); hits among test records come in pairs,
    of which each counts once: two of three of all hits are then the candidate's by chance.
    """
    from scipy.stats import binom

    ours = int((mine & ~theirs).sum())
    pairs = -(-int((theirs & ~mine).sum()) // 2)
    p = float(binom.sf(ours - 1, ours + pairs, 2 / 3)) if ours else 1.0
    return p, float(theirs.mean())


@dataclass(frozen=True)
class Rates:
    """How well flags agree with the truth: precision, recall, rate of false alarms; Wilson's intervals."""

    precision: float
    recall: float
    false_positive_rate: float
    intervals: Mapping[str, tuple[float, float] | None]


def precision_recall(flags: ArrayLike | Sequence[bool], truth: ArrayLike | Sequence[bool]) -> Rates:
    """Precision, recall and false-positive rate of flags [n] against the truth [n]; nan where undefined."""
    said, true = np.asarray(flags, dtype=np.bool_), np.asarray(truth, dtype=np.bool_)
    if said.shape != true.shape:
        raise ValueError(f"{len(said)} flags, but {len(true)} truths; give one of each a record")
    counts = {
        "precision": (int((said & true).sum()), int(said.sum())),
        "recall": (int((said & true).sum()), int(true.sum())),
        "false_positive_rate": (int((said & ~true).sum()), int((~true).sum())),
    }
    rates = {name: hits / n if n else float("nan") for name, (hits, n) in counts.items()}
    return Rates(**rates, intervals={name: stats.wilson(*pair) for name, pair in counts.items()})
