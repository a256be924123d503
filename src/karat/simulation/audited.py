"""The audit's metrics on what a loop wrote, beside real texts. Knows no loop, no task and no single metric.

An audit learns its encoder from both of its sides, so that each pair of corpora has vectors of its own. Here
one encoder is learned once and used for every iteration: only so do the numbers of a loop compare with each
other, with the control's and with those of another real sample. It is learned from real texts that are not
compared: texts that an encoder has seen lie further apart (on plays, Vendi 251 against 201 for texts of the
same source that it has not seen).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from karat import records as karat_records
from karat import registry
from karat.auditing import passes, summaries
from karat.auditing.base import Fitted, Metric
from karat.auditing.choosing import choose
from karat.auditing.corpora import Side
from karat.auditing.passes import Settings
from karat.auditing.scoring import Judge
from karat.executors.base import Executor
from karat.records import Records

METRICS = (
    "vendi",
    "mmd",
    "mauve",
    "precision",
    "recall",
    "coverage",
    "js_tokens",
    "js_ngrams",
    "zipf_exponent",
    "mattr",
    "distinct_n",
    "compression_ratio",
)
"""What is measured of texts that no verifier knows: spread, distance from real texts, words, repetition."""

ENCODER = "lsa"

FITTED_ON = 5_000
"""Real texts that the encoder is learned from, at most."""


@dataclass(frozen=True)
class Measured:
    """One metric of what was written: its value, its 95% interval, and what the real texts have.

    Audits compare at equal lengths or equal numbers of tokens: `real` is the real texts' value in the same
    selection (None for a distance, which has no value of one side), and `n` the records that were compared.
    """

    value: float
    low: float | None
    high: float | None
    real: float | None = None
    n: int = 0


def audited(
    texts: Sequence[str],
    real: Sequence[str],
    *,
    metrics: Sequence[str] = METRICS,
    seed: int = 0,
    encoder: str = ENCODER,
    learned_from: Sequence[str] = (),
) -> dict[str, Measured]:
    """Return the audit's metrics of texts beside real ones, by their specs; what has no value is left out.

    texts: what an iteration wrote. real: the reference, the same in all iterations. metrics: parts of the
    shelf metrics, as name or name:key=value. encoder: what turns texts into vectors, for all iterations
    alike. learned_from: the real texts that it is learned from; where none are given, every second one of
    `real`, and the others are the reference.
    Raises BadSetting or UnknownPart for a metric that cannot be computed on two sets of texts.
    """
    if not metrics or not texts or not real:
        return {}
    if not learned_from:
        real, learned_from = real[::2], real[1::2]
    ours, theirs = _records(texts, "written"), _records(real, "real")
    chosen = {spec: registry.make("metrics", spec) for spec in metrics}
    choose(list(chosen.values()), ours, theirs, mode="proper", judged=False)  # raises what is impossible
    settings = _settings(encoder, seed)
    views = {spec: metric.size for spec, metric in chosen.items()}
    defaults = {"encoder": encoder}
    needs = tuple(
        dict.fromkeys(
            summaries.resolve(need, views[spec], defaults)
            for spec, metric in chosen.items()
            for need in metric.needs()
        )
    )
    encoders = _encoders(needs, tuple(learned_from), seed)
    passed = passes.run([Side.of(ours), Side.of(theirs)], needs, settings, encoders)
    judge = Judge(passed, defaults, settings)
    found = {}
    for spec, metric in chosen.items():
        score = judge.score(metric, views[spec]).score
        if score.value is not None:
            low, high = score.interval or (None, None)
            found[spec] = Measured(score.value, low, high, score.reference, score.n)
    return found


def apart(real: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (real texts that an encoder is learned from, real texts that it has not seen).

    The first are `learned_from` in all iterations; the second, beside the same reference, show what another
    real sample has. Texts that the encoder has seen would show more.
    """
    return list(real[::2]), list(real[1::2])


def check(metrics: Sequence[str]) -> None:
    """Raise BadSetting or UnknownPart where a metric cannot be computed on two sets of texts."""
    some = _records(("one text", "another text"), "written")
    made: list[Metric] = [registry.make("metrics", spec) for spec in metrics]
    if made:
        choose(made, some, some, mode="proper", judged=False)


def _records(texts: Sequence[str], name: str) -> Records:
    rows = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    return karat_records.from_rows(rows, datatype="text", path=f"<{name}>")


def _settings(encoder: str, seed: int) -> Settings:
    runner: Executor = registry.make("executors", "local:workers=1")
    # No random halves: what a value would be by chance is told by the control and by another real sample.
    return Settings("proper", seed, "small", 0, FITTED_ON, encoder, runner, lambda *_: None)


def _encoders(needs: Sequence[Any], texts: tuple[str, ...], seed: int) -> dict[str, Fitted]:
    kinds = ("embeddings", "vectors", "moments")
    specs = sorted({str(need.get("encoder")) for need in needs if need.kind in kinds})
    return {spec: _fitted(spec, texts[:FITTED_ON], seed) for spec in specs}


@lru_cache(maxsize=2)
def _fitted(spec: str, texts: tuple[str, ...], seed: int) -> Fitted:
    """Return an encoder learned from these texts; kept, because all iterations ask for the same one."""
    from karat.auditing.encoders.base import make

    fitted: Fitted = make(spec).fit(texts, seed=seed)
    return fitted
