"""Orders records by how likely a language model of human texts finds them. Knows no label and no source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat import records as karat_records
from karat import registry
from karat.auditing import statistics
from karat.auditing.detector import group_ids
from karat.curation import ngram_lm
from karat.curation.base import Ordered, need_reference, written
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records

Floats = NDArray[np.float64]
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Fluency:
    """The least surprising first, to a language model trained on the human reference.

    Fluent is not the same as useful: texts of commonplaces are the least surprising, and training on them
    alone is worse than on surprising ones (Gambetta et al. 2024). Hold the order against an oracle.
    model: ngram (interpolated Kneser-Ney, seconds), or a trainer that weighs texts, with settings parted by
    semicolons: gpt:preset=small;steps=500 (trained twice: a fifth is left out to see what is usual).
    unit, n: of the n-grams, characters or words, and their length. folds: a record that is also in the
    reference is weighed by a model that was trained without that part of it.
    """

    model: str = "ngram"
    unit: Literal["character", "word"] = "character"
    n: int = 6
    folds: int = 5

    sees: ClassVar[tuple[str, ...]] = ("words",)
    """the planted errors that it can notice"""

    def __post_init__(self) -> None:
        if self.n < 1 or self.folds < 2:
            raise ValueError(f"n is {self.n} and folds is {self.folds}; give at least n=1 and folds=2")

    def order(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Ordered:
        """Score each record by ln P of a token, in nats; the perplexity is exp of minus the score."""
        human = [text for text in written(need_reference(reference, "ordering 'fluency'")) if text.strip()]
        texts = written(records)
        if len(human) < 2:
            raise NotEnoughData("ordering 'fluency' trains on human texts, but fewer than 2 hold any words")
        groups = group_ids([*human, *texts])
        ours, theirs = groups[: len(human)], groups[len(human) :]
        folds = min(self.folds, len(set(ours.tolist())))
        if folds < 2:
            raise NotEnoughData("ordering 'fluency': all human texts are copies of one; give different ones")
        fold = np.random.default_rng([seed, 0xF1]).integers(0, folds, int(groups.max()) + 1)
        fold[np.unique(ours)] = (
            np.random.default_rng([seed, 0xF2]).permutation(len(set(ours.tolist()))) % folds
        )
        known = np.isin(theirs, ours)
        scores, beside = np.full(len(texts), np.nan), np.full(len(human), np.nan)
        weigh = self._fitted(human, seed)
        scores[~known] = weigh([texts[i] for i in np.flatnonzero(~known).tolist()])
        for k in range(folds):
            held = fold[ours] == k
            mine = known & (fold[theirs] == k)
            # One fold tells what human texts are like; the others are needed only for copies.
            if not held.any() or held.all() or (k > 0 and not mine.any()):
                continue
            weigh = self._fitted([human[i] for i in np.flatnonzero(~held).tolist()], seed)
            scores[mine] = weigh([texts[i] for i in np.flatnonzero(mine).tolist()])
            beside[held] = weigh([human[i] for i in np.flatnonzero(held).tolist()])
        scores[[not text.strip() for text in texts]] = np.nan
        return _told(scores, beside[np.isfinite(beside)], self._unit(), int(known.sum()))

    def _unit(self) -> str:
        return self.unit if self.model == "ngram" else "token"

    def _fitted(self, human: Sequence[str], seed: int) -> Any:
        """Return what gives ln P of a token for each of some texts."""
        if self.model == "ngram":
            return self._ngrams(human)
        trainer = registry.make("trainers", self.model.replace(";", ","))
        if "text" not in getattr(trainer, "types", ()):
            raise BadSetting(
                f"ordering 'fluency': trainer {self.model!r} does not learn from texts; use ngram or gpt"
            )
        model = trainer.fit(_texts(human), seed=seed)

        def weigh(texts: Sequence[str]) -> Floats:
            if not texts:
                return np.empty(0)
            answers: Any = model.predict(_texts([text if text.strip() else "." for text in texts]))
            if not hasattr(answers, "surprise"):
                raise BadSetting(
                    f"ordering 'fluency': trainer {self.model!r} weighs no texts; use ngram or gpt"
                )
            return np.asarray(-answers.surprise / np.maximum(answers.tokens, 1), dtype=np.float64)

        return weigh

    def _ngrams(self, human: Sequence[str]) -> Any:
        pieces = [self._pieces(text) for text in human]
        numbers = {
            piece: ngram_lm.FIRST + i for i, piece in enumerate(sorted({p for row in pieces for p in row}))
        }
        model = ngram_lm.fit(
            [np.array([numbers[piece] for piece in row], np.int64) for row in pieces],
            ngram_lm.FIRST + len(numbers),
            self.n,
        )

        def weigh(texts: Sequence[str]) -> Floats:
            rows = [
                np.array([numbers.get(piece, ngram_lm.UNKNOWN) for piece in self._pieces(text)], np.int64)
                for text in texts
            ]
            if not rows:
                return np.empty(0)
            return np.array([logs.mean() for logs in model.log_probabilities(rows)])

        return weigh

    def _pieces(self, text: str) -> Sequence[str]:
        return text if self.unit == "character" else _WORD.findall(text)


def _texts(texts: Sequence[str]) -> Records:
    return karat_records.from_rows([{"text": text} for text in texts], datatype="text")


def _told(scores: Floats, human: Floats, unit: str, known: int) -> Ordered:
    found = scores[np.isfinite(scores)]
    ours = float(np.exp(-found.mean())) if len(found) else float("nan")
    theirs = float(np.exp(-human.mean())) if len(human) else float("nan")
    low, high = statistics.percentile_interval(statistics.poisson_bootstrap(found)) or (np.nan, np.nan)
    note = (
        f"perplexity {ours:.4g} [{np.exp(-high):.4g}, {np.exp(-low):.4g}] a {unit}, "
        f"of human texts left out {theirs:.4g}"
    )
    if known:
        note += f"; {known:,} records are in the reference and were left out of it"
    figures = {"perplexity": ours, "human_perplexity": theirs, "in_reference": float(known)}
    return Ordered(scores, note, figures=figures)
