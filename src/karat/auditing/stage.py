"""The audit: two corpora in, scores with baselines out. Knows metrics only as parts that ask and answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from karat import registry
from karat.auditing import passes, summaries
from karat.auditing.base import Fitted, Metric, Progress, compares
from karat.auditing.findings import Corpus, findings
from karat.auditing.passes import Passed, Settings, Side
from karat.auditing.result import Audited, Evidence, Score, Slice, Warned
from karat.auditing.scoring import Judge, corrected, evidence_of
from karat.auditing.selection import Selection
from karat.errors import BadSetting, NotEnoughData
from karat.executors.base import Executor
from karat.records import Records

_MAX_GROUPS = 60  # values of --by that are scored; more make a table that nobody reads
_SHOWN = 8
# What one dial sets: random halves for `chance`, and texts that an encoder is fitted on.
_BUDGETS = {"small": (20, 2_000), "medium": (100, 20_000), "large": (400, 100_000)}


def audit(
    candidate: Records,
    reference: Records | None = None,
    *,
    metrics: Sequence[str | Metric] | str = (),
    by: str | None = None,
    mode: Literal["proper", "paper"] = "proper",
    seed: int = 0,
    budget: Literal["small", "medium", "large"] = "medium",
    encoder: str = "lsa",
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Audited:
    """Score a corpus beside human data, with what each number would be by chance and at best.

    metrics: parts as name or name:key=value; all that apply when none is named
    by: a field; each metric is also given for the records of each of its values
    mode: proper compares at equal sizes; paper uses the published definitions and sizes as they are
    seed: orders the records, and so decides which are compared where a corpus is larger
    budget: how much work goes into baselines: small, medium or large
    encoder: what turns texts into vectors for metrics that need them
    executor: where the work runs; this process when not given
    progress: called with a name, steps done and steps in all
    Raises BadSetting, UnknownPart or NotEnoughData.
    """
    started = time.perf_counter()
    settings = _settings(mode, seed, budget, encoder, executor, progress)
    if len(candidate) == 0 or (reference is not None and len(reference) == 0):
        empty = candidate.path if len(candidate) == 0 else str(reference and reference.path)
        raise NotEnoughData(f"{empty}: no records to audit; check the file and the conditions")
    labels = _has_labels(candidate)
    chosen, skipped = _choose(metrics, mode, labels=labels, reference=reference is not None)
    sides = [Side.of(candidate)] + ([Side.of(reference)] if reference is not None else [])
    measured = _measure(sides, chosen, settings)
    scores = corrected(measured.scores)
    if by is not None:
        scores = _sliced(candidate, reference, by, chosen, scores, settings, measured.passed.encoders)
    corpora = [
        Corpus(side.source, side.ids, surveyed) for side, surveyed in zip(sides, measured.passed.surveys)
    ]
    warnings = findings(corpora[0], corpora[1] if len(corpora) > 1 else None)
    return Audited(
        candidate=sides[0].source,
        reference=sides[1].source if len(sides) > 1 else None,
        scores=scores,
        warnings=warnings + measured.warnings,
        evidence=measured.evidence,
        samples=_samples(sides, measured.passed.selections),
        skipped=skipped,
        mode=mode,
        seed=seed,
        groups=max(measured.passed.groups.values()),
        seconds=round(time.perf_counter() - started, 3),
    )


@dataclass(frozen=True)
class _Measured:
    passed: Passed
    scores: tuple[Score, ...]
    evidence: tuple[Evidence, ...]
    warnings: tuple[Warned, ...]


def _settings(
    mode: str, seed: int, budget: str, encoder: Any, executor: Executor | None, progress: Progress | None
) -> Settings:
    if mode not in ("proper", "paper"):
        raise BadSetting(f"mode is {mode!r}; choose one of: proper, paper")
    if budget not in _BUDGETS:
        raise BadSetting(f"budget is {budget!r}; choose one of: {', '.join(_BUDGETS)}")
    trials, fit_on = _BUDGETS[budget]
    spec = encoder if isinstance(encoder, str) else registry.spec_of(encoder)
    runner: Executor = executor or registry.make("executors", "local")
    return Settings(mode, seed, budget, trials, fit_on, spec, runner, progress or (lambda *_: None))


# ------------------------------------------------------------------------------- which metrics run


def _choose(
    metrics: Sequence[str | Metric] | str, mode: str, *, labels: bool, reference: bool
) -> tuple[tuple[Metric, ...], dict[str, str]]:
    """The metrics to compute, and why others are not. One that was asked for by name must be possible."""
    named = bool(metrics)
    made: tuple[Metric, ...] = registry.make_all("metrics", metrics if named else registry.names("metrics"))
    chosen: list[Metric] = []
    skipped: dict[str, str] = {}
    for metric in made:
        name = registry.name_of(metric)
        reason = ""
        if metric.needs_labels and not labels:
            reason = "needs a label on each record"
        elif metric.needs_reference and not reference:
            reason = "needs a reference"
        elif not named and not metric.default:
            reason = "runs when it is asked for by name"
        if reason and named:
            raise BadSetting(f"metric {name!r} {reason}; leave it out or bring what it needs")
        if reason:
            skipped[name] = reason
        elif metric not in chosen:
            chosen.append(_as_published(metric) if mode == "paper" else metric)
    return tuple(chosen), skipped


def _as_published(metric: Metric) -> Metric:
    """The metric with its published settings; a setting that the user changed stays as it is."""
    default = type(metric)()
    kept = {k: v for k, v in metric.paper.items() if getattr(metric, k) == getattr(default, k)}
    return replace(metric, **kept)


def _has_labels(records: Records) -> bool:
    labels = records.labels()
    return labels is not None and any(label is not None for label in labels)


def _measure(
    sides: Sequence[Side],
    metrics: Sequence[Metric],
    settings: Settings,
    encoders: dict[str, Fitted] | None = None,
) -> _Measured:
    """Both passes over the corpora, then every metric on what they gave."""
    views = {metric: metric.size if settings.matched else "all" for metric in metrics}
    defaults = {"encoder": settings.encoder}
    asked = [
        summaries.resolve(need, views[metric], defaults) for metric in metrics for need in metric.needs()
    ]
    passed = passes.run(sides, tuple(dict.fromkeys(asked)), settings, encoders)
    judge = Judge(passed, defaults, settings)
    found = []
    for done, metric in enumerate(metrics):
        settings.progress("scores", done, len(metrics))
        found.append(judge.score(metric, views[metric]))
    settings.progress("scores", len(metrics), len(metrics))
    return _Measured(
        passed,
        tuple(one.score for one in found),
        tuple(evidence for one in found for evidence in one.evidence),
        passed.warnings + tuple(warned for one in found for warned in one.warnings),
    )


def _samples(sides: Sequence[Side], selections: Sequence[Selection]) -> tuple[Evidence, ...]:
    """The first few records of each side by hash, to be read side by side."""
    found = []
    for name, side, selection in zip(("synthetic", "human"), sides, selections):
        found += [evidence_of(side, int(row), name, 0.0, "") for row in selection.order[:_SHOWN]]
    return tuple(found)


# ---------------------------------------------------------------------------------------- by field


def _sliced(
    candidate: Records,
    reference: Records | None,
    by: str,
    metrics: Sequence[Metric],
    scores: Sequence[Score],
    settings: Settings,
    encoders: dict[str, Fitted],
) -> tuple[Score, ...]:
    """The same metrics on the records of each value of a field, for the most frequent values."""
    mine = np.array([str(value) for value in candidate.column(by)], dtype=object)
    theirs = None
    if reference is not None and reference.has(by):
        theirs = np.array([str(value) for value in reference.column(by)], dtype=object)
    names, counts = np.unique(mine, return_counts=True)
    common = sorted(str(name) for name in names[np.argsort(-counts, kind="stable")[:_MAX_GROUPS]])
    inside = [metric for metric in metrics if metric.by_label and not (compares(metric) and theirs is None)]
    places = [i for i, metric in enumerate(metrics) if metric in inside]
    quiet = replace(settings, trials=0, budget="small", progress=lambda *_: None)
    slices: list[dict[str, Slice]] = [{} for _ in scores]
    for done, name in enumerate(common):
        settings.progress(f"by {by}", done, len(common))
        sides = [Side.of(candidate.where(mine == name))]
        if reference is not None and theirs is not None and (theirs == name).any():
            sides.append(Side.of(reference.where(theirs == name)))
        able = [m for m in inside if len(sides) > 1 or not m.needs_reference]
        found = _measure(sides, able, quiet, encoders).scores if able else ()
        for i, metric in zip(places, inside):
            if metric in able:
                s = found[able.index(metric)]
                slices[i][name] = Slice(s.value, s.interval, s.reference, s.difference, s.p, s.n)
    return tuple(replace(score, by=part) for score, part in zip(scores, slices))
