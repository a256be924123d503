"""The audit: two corpora in, scores with baselines out. Knows metrics only as parts that ask and answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from karat import registry
from karat.auditing import selection as selecting
from karat.auditing import statistics as stats
from karat.auditing import summaries
from karat.auditing.base import Context, Fitted, Metric, Need, Progress, compares, everything
from karat.auditing.findings import Corpus, findings
from karat.auditing.result import ALPHA, Audited, Evidence, Score, Slice, Source, Warned
from karat.auditing.selection import Selection, Surveyed
from karat.auditing.summaries import MAX_LABELS, OUT, Shard, Window
from karat.auditing.tokens import hash_strings
from karat.errors import BadSetting, NotEnoughData
from karat.executors.base import Executor, tree_reduce
from karat.records import Records

_SHARD_RECORDS = 10_000
_SHARD_BYTES = 8 << 20
_MAX_GROUPS = 60  # values of --by that are scored; more make a table that nobody reads
_TELLING = 8
_SHOWN = 8
_CLIP = 600
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
    sides = [_Side.of(candidate)] + ([_Side.of(reference)] if reference is not None else [])
    measured = _measure(sides, chosen, settings)
    scores = _corrected(measured.scores)
    if by is not None:
        scores = _sliced(candidate, reference, by, chosen, scores, settings)
    corpora = [Corpus(side.source, side.ids, surveyed) for side, surveyed in zip(sides, measured.surveys)]
    warnings = findings(corpora[0], corpora[1] if len(corpora) > 1 else None)
    return Audited(
        candidate=sides[0].source,
        reference=sides[1].source if len(sides) > 1 else None,
        scores=scores,
        warnings=warnings + measured.warnings,
        evidence=measured.evidence,
        samples=_samples(sides, measured.selections),
        skipped=skipped,
        mode=mode,
        seed=seed,
        groups=measured.groups,
        seconds=round(time.perf_counter() - started, 3),
    )


@dataclass(frozen=True)
class _Settings:
    mode: str
    seed: int
    budget: str
    trials: int
    fit_on: int
    encoder: str
    executor: Executor
    progress: Progress

    @property
    def matched(self) -> bool:
        return self.mode == "proper"


@dataclass(frozen=True)
class _Side:
    """One corpus with the columns that the passes read, each read from the table once."""

    source: Source
    texts: pa.Array
    ids: tuple[str, ...]
    labels: tuple[str | None, ...] | None
    clusters: NDArray[np.uint64]

    @staticmethod
    def of(records: Records) -> _Side:
        labels = records.labels()
        source = Source(records.path, len(records), records.fingerprint)
        texts = records.text_array()
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        named = None if labels is None else tuple(None if one is None else str(one) for one in labels)
        return _Side(source, texts.cast(pa.large_string()), tuple(records.ids), named, _clusters(records))


@dataclass(frozen=True)
class _Measured:
    scores: tuple[Score, ...]
    surveys: tuple[Surveyed, ...]
    selections: tuple[Selection, ...]
    evidence: tuple[Evidence, ...]
    warnings: tuple[Warned, ...]
    groups: int


def _settings(
    mode: str, seed: int, budget: str, encoder: Any, executor: Executor | None, progress: Progress | None
) -> _Settings:
    if mode not in ("proper", "paper"):
        raise BadSetting(f"mode is {mode!r}; choose one of: proper, paper")
    if budget not in _BUDGETS:
        raise BadSetting(f"budget is {budget!r}; choose one of: {', '.join(_BUDGETS)}")
    trials, fit_on = _BUDGETS[budget]
    spec = encoder if isinstance(encoder, str) else registry.spec_of(encoder)
    runner: Executor = executor or registry.make("executors", "local")
    return _Settings(mode, seed, budget, trials, fit_on, spec, runner, progress or (lambda *_: None))


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
    return replace(metric, **kept)  # type: ignore[arg-type]


def _has_labels(records: Records) -> bool:
    labels = records.labels()
    return labels is not None and any(label is not None for label in labels)


# -------------------------------------------------------------------------------------- the passes


def _measure(sides: Sequence[_Side], metrics: Sequence[Metric], settings: _Settings) -> _Measured:
    """Both passes over the corpora, then every metric on what they gave."""
    views = {metric: metric.size if settings.matched else "all" for metric in metrics}
    defaults = {"encoder": settings.encoder}
    asked = [summaries.resolve(one, views[m], defaults) for m in metrics for one in m.needs()]
    needs = tuple(dict.fromkeys(asked))
    surveys = tuple(_survey(side, needs, settings) for side in sides)
    warnings, sides = _without_wild_labels(sides)
    keys = [
        selecting.record_keys(surveyed.content, seed=settings.seed, tie=_label_hashes(side))
        for side, surveyed in zip(sides, surveys)
    ]
    wanted = tuple(dict.fromkeys(["all", *map(summaries.view_key, needs)]))
    other = surveys[1] if len(surveys) > 1 else None
    selections = selecting.select(surveys[0], other, keys=keys, views=wanted)
    groups = selecting.replicate_groups(selections)
    encoders = _encoders(needs, sides, selections, settings)
    collected = [
        _collect(side, surveyed, selection, needs, wanted, groups, encoders, settings)
        for side, surveyed, selection in zip(sides, surveys, selections)
    ]
    stacked = _stack(needs, collected, groups)
    judge = _Judge(sides, surveys, selections, stacked, groups, defaults, settings)
    found = []
    for done, metric in enumerate(metrics):
        settings.progress("scores", done, len(metrics))
        found.append(judge.score(metric, views[metric]))
    settings.progress("scores", len(metrics), len(metrics))
    return _Measured(
        tuple(score for score, _ in found),
        surveys,
        selections,
        tuple(one for _, evidence in found for one in evidence),
        warnings,
        groups,
    )


def _slices(texts: pa.Array) -> Iterator[tuple[int, int]]:
    """Runs of records small enough for one worker: (start, stop)."""
    size = pc.binary_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
    running = np.concatenate([[0], np.cumsum(size, dtype=np.int64)])
    start = 0
    while start < len(size):
        stop = int(np.searchsorted(running, running[start] + _SHARD_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), start + _SHARD_RECORDS, len(size))
        yield start, stop
        start = stop


def _survey(side: _Side, needs: Sequence[Need], settings: _Settings) -> Surveyed:
    tokenisers = {str(need.get("tokens", "word")) for need in needs if need.view == "tokens"}
    function = partial(selecting.survey, tokenisers=tuple(sorted(tokenisers | {"word"})))
    runs = list(_slices(side.texts))
    parts = []
    for part in settings.executor.map(function, (side.texts.slice(a, b - a) for a, b in runs)):
        parts.append(part)
        settings.progress("reading", len(parts), len(runs))
    return selecting.joined(parts)


def _collect(
    side: _Side,
    surveyed: Surveyed,
    selection: Selection,
    needs: tuple[Need, ...],
    views: Sequence[str],
    groups: int,
    encoders: dict[str, Fitted],
    settings: _Settings,
) -> tuple[Any, ...]:
    """The second pass over one corpus: partial summaries of each shard, merged as they come."""
    used = [view for view in views if any(summaries.view_key(need) == view for need in needs)]
    members = {view: selection.members(view, groups) for view in used}
    cuts = {view: selection.cuts(view) for view in used}
    runs = list(_slices(side.texts))

    def shards() -> Iterator[Shard]:
        for start, stop in runs:
            inside = np.zeros(stop - start, np.bool_)
            for member in members.values():
                inside |= member[start:stop] != OUT
            rows = np.flatnonzero(inside) + start
            place = {int(row): i for i, row in enumerate(rows)} if any(cuts.values()) else {}
            yield Shard(
                texts=side.texts.take(pa.array(rows)),
                ids=tuple(side.ids[i] for i in rows),
                labels=None if side.labels is None else tuple(side.labels[i] for i in rows),
                keys=selection.keys[rows],
                content=surveyed.content[rows],
                clusters=side.clusters[rows],
                places=rows,
                members={view: member[rows] for view, member in members.items()},
                side=groups,
                cuts={
                    view: {place[p]: n for p, n in cut.items() if p in place} for view, cut in cuts.items()
                },
                encoders=encoders,
            )

    def partials() -> Iterator[tuple[Any, ...]]:
        function = partial(summaries.collect, needs=needs)
        for done, found in enumerate(settings.executor.map(function, shards()), start=1):
            settings.progress("counting", done, len(runs))
            yield found

    merged: tuple[Any, ...] = tree_reduce(partials(), partial(summaries.merge, needs=needs))
    return merged


def _stack(
    needs: tuple[Need, ...], collected: list[tuple[Any, ...]], groups: int
) -> dict[Need, summaries.Stacked]:
    """All corpora side by side, one need after the other: what was collected is freed as it is used."""
    offsets = [0, groups][: len(collected)]
    columns = [list(one) for one in collected]
    collected.clear()
    stacked: dict[Need, summaries.Stacked] = {}
    for i, need in enumerate(needs):
        parts = [column[i] for column in columns]
        for column in columns:
            column[i] = None
        stacked[need] = summaries.KINDS[need.kind].stack(parts, offsets, 3 * groups)
    return stacked


def _encoders(
    needs: Sequence[Need], sides: Sequence[_Side], selections: Sequence[Selection], settings: _Settings
) -> dict[str, Fitted]:
    """Every encoder that a need names, fitted on the first texts of the reference by hash."""
    specs = {str(need.get("encoder")) for need in needs if need.kind == "embeddings"}
    if not specs:
        return {}
    from karat.auditing.encoders.base import make

    side, selection = sides[-1], selections[-1]
    rows = np.sort(selection.order[: settings.fit_on])
    texts = [text or "" for text in side.texts.take(pa.array(rows)).to_pylist()]
    return {spec: make(spec).fit(texts, seed=settings.seed) for spec in sorted(specs)}


def _without_wild_labels(sides: Sequence[_Side]) -> tuple[tuple[Warned, ...], Sequence[_Side]]:
    """Labels of which there are too many are no class labels; they are left aside, and said so."""
    names = {label for side in sides for label in side.labels or ()}
    if len(names) <= MAX_LABELS:
        return (), sides
    message = (
        f"the label field has {len(names):,} different values; labels are left aside above {MAX_LABELS:,}"
    )
    return (Warned("labels_ignored", message),), [replace(side, labels=None) for side in sides]


def _label_hashes(side: _Side) -> NDArray[np.uint64] | None:
    return None if side.labels is None else hash_strings(pa.array(side.labels, pa.large_string()))


def _clusters(records: Records) -> NDArray[np.uint64]:
    """The record itself, or the first record that it was made from: rows of one cluster belong together."""
    parents = records.lineage("parents")
    names = [parent[0] if parent else own for parent, own in zip(parents, records.ids)]
    return hash_strings(pa.array(names, pa.large_string()))


# -------------------------------------------------------------------------------------- the scores


@dataclass(frozen=True)
class _Judge:
    """Turns summaries into scores: the one place where a metric meets statistics."""

    sides: Sequence[_Side]
    surveys: Sequence[Surveyed]
    selections: Sequence[Selection]
    stacked: dict[Need, summaries.Stacked]
    groups: int
    defaults: dict[str, str]
    settings: _Settings

    def score(self, metric: Metric, view: str) -> tuple[Score, tuple[Evidence, ...]]:
        """One metric, with everything that stands beside it."""
        g = self.groups
        candidate = self._window(metric, view, 0, g, 0)
        reference = self._window(metric, view, g, 2 * g, 1) if len(self.sides) > 1 else None
        spare = self._window(metric, view, 2 * g, 3 * g, 2) if reference is not None else None
        if compares(metric):
            assert reference is not None
            return self._compared(metric, candidate, reference, spare)
        mine = self._estimate(metric, candidate)
        theirs = self._estimate(metric, reference) if reference is not None else None
        gap = stats.difference(mine, theirs) if theirs is not None else None
        tested = metric.tested and self.settings.matched
        details = metric.details(candidate)
        if reference is not None:
            details |= {f"reference.{name}": value for name, value in metric.details(reference).items()}
        score = self._blank(metric, candidate, metric.extra(candidate))
        score = replace(
            score,
            value=_number(mine.value),
            interval=mine.interval(bounds=metric.bounds) if metric.tested else None,
            reference=_number(theirs.value) if theirs else None,
            reference_interval=theirs.interval(bounds=metric.bounds) if theirs and metric.tested else None,
            difference=_number(gap.value) if gap else None,
            difference_interval=gap.interval if gap and tested else None,
            p=gap.p if gap and tested else None,
            chance=self._chance(metric, view, candidate, reference),
            best=self._best(metric, candidate, spare, theirs),
            note=metric.note(candidate),
            details=details,
        )
        return score, self._evidence(score.name, metric.telling(candidate, _TELLING))

    def _window(self, metric: Metric, view: str, start: int, stop: int, which: int) -> Any:
        """The groups [start, stop) through the metric's view; which: 0 candidate, 1 reference, 2 spare, 3 both."""
        keys = {summaries.view_key(summaries.resolve(need, view, self.defaults)) for need in metric.needs()}
        parts = [one.views[key] for one in self.selections for key in sorted(keys)[:1]]
        counts = [len(parts[0][0]), *(len(part[0]) for part in parts[1:])]
        if which == 2:
            spare = parts[1][1]
            if spare is None:
                return None
            counts.append(len(spare))
        records = sum(counts) if which == 3 else counts[which]
        return Window(self.stacked, view, start, stop, records, self.defaults)

    def _estimate(self, metric: Metric, summary: Window) -> stats.Estimate:
        masks = everything(self.groups)
        if self.groups > 1 and metric.tested:
            masks = np.concatenate([masks, stats.leave_one_out(self.groups)])
        values = metric.values(summary, masks)
        return stats.jackknife(float(values[0]), values[1:])

    def _chance(self, metric: Metric, view: str, candidate: Window, reference: Window | None) -> float | None:
        known = metric.chance(candidate)
        if known is not None:
            return known
        trials = min(self.settings.trials, metric.permutations)
        if reference is None or not (metric.tested and self.settings.matched) or trials == 0:
            return None
        pool = self._window(metric, view, 0, 2 * self.groups, 3)
        masks = stats.random_halves(self.groups, trials=trials, seed=self.settings.seed)
        values = metric.values(pool, masks)
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if len(finite) else None

    def _best(
        self, metric: Metric, candidate: Window, spare: Window | None, theirs: stats.Estimate | None
    ) -> float | None:
        known = metric.best(candidate)
        if known is not None or theirs is None or not (metric.tested and self.settings.matched):
            return known
        if spare is None:
            return _number(theirs.value)
        value = _number(float(metric.values(spare, everything(self.groups))[0]))
        return value if value is not None else _number(theirs.value)

    def _compared(
        self, metric: Metric, candidate: Window, reference: Window, spare: Window | None
    ) -> tuple[Score, tuple[Evidence, ...]]:
        context = Context(
            seed=self.settings.seed,
            budget=self.settings.budget,
            mode=self.settings.mode,
            groups=self.groups,
            spare=spare,
        )
        found = metric.compare(candidate, reference, context)
        score = self._blank(metric, candidate, {**metric.extra(candidate), **found.extra})
        score = replace(
            score,
            value=_number(found.value),
            interval=found.interval,
            reference=found.reference,
            difference=found.difference,
            p=_number(found.p),
            chance=found.chance,
            best=found.best,
            n=found.n if found.n is not None else score.n,
            note=found.note,
            details=dict(found.details),
        )
        return score, self._evidence(score.name, found.telling[:_TELLING])

    def _blank(self, metric: Metric, summary: Window, extra: dict[str, Any]) -> Score:
        """A score with everything that does not need the value."""
        signed: dict[str, Any] = {"size": self._size(metric, summary), "seed": self.settings.seed, **extra}
        if not self.settings.matched:
            signed["mode"] = "paper"
        if len(self.sides) > 1:
            signed["ref"] = self.sides[1].source.fingerprint[:8]
        name = registry.name_of(metric)
        text = (type(metric).__doc__ or "").strip().split("\n")[0]
        return Score(
            name=name,
            settings=registry.settings(metric),
            signature=registry.signature(metric, **signed),
            value=None,
            interval=None,
            reference=None,
            reference_interval=None,
            difference=None,
            difference_interval=None,
            p=None,
            p_holm=None,
            flagged=False,
            chance=None,
            best=None,
            n=summary.records,
            help=text,
            higher=metric.higher,
        )

    def _size(self, metric: Metric, summary: Window) -> str:
        """How much of the corpus was compared, as it stands in the signature."""
        if summary.view == "tokens":
            name = str(next((n.get("tokens", "word") for n in metric.needs()), "word"))
            return f"{int(min(one.tokens[name].sum() for one in self.surveys))}-tokens"
        if summary.view == "bytes":
            return f"{int(min(one.bytes.sum() for one in self.surveys))}-bytes"
        return f"{summary.records}-records"

    def _evidence(self, name: str, telling: Sequence[Any]) -> tuple[Evidence, ...]:
        if not telling:
            return ()
        keys, order = self.selections[0].keys, self.selections[0].order
        found = []
        for one in telling:
            at = int(np.searchsorted(keys[order], np.uint64(one.key)))
            row = int(order[min(at, len(order) - 1)])
            if int(keys[row]) == one.key:
                found.append(_evidence(self.sides[0], row, name, one.score, one.reason))
        return tuple(found)


def _evidence(side: _Side, row: int, name: str, score: float, reason: str) -> Evidence:
    text = side.texts[row].as_py() or ""
    label = side.labels[row] if side.labels is not None else None
    return Evidence(
        side.ids[row], name, score, reason, text[:_CLIP] + ("…" if len(text) > _CLIP else ""), label
    )


def _samples(sides: Sequence[_Side], selections: Sequence[Selection]) -> tuple[Evidence, ...]:
    """The first few records of each side by hash, to be read side by side."""
    found = []
    for name, side, selection in zip(("synthetic", "human"), sides, selections):
        found += [_evidence(side, int(row), name, 0.0, "") for row in selection.order[:_SHOWN]]
    return tuple(found)


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _corrected(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Holm's correction over all tests of an audit, and the flag that follows."""
    adjusted = stats.holm([score.p for score in scores])
    return tuple(
        replace(score, p_holm=p, flagged=p is not None and p < ALPHA) for score, p in zip(scores, adjusted)
    )


# ---------------------------------------------------------------------------------------- by field


def _sliced(
    candidate: Records,
    reference: Records | None,
    by: str,
    metrics: Sequence[Metric],
    scores: Sequence[Score],
    settings: _Settings,
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
    quiet = replace(settings, trials=0, progress=lambda *_: None)
    slices: list[dict[str, Slice]] = [{} for _ in scores]
    for done, name in enumerate(common):
        settings.progress(f"by {by}", done, len(common))
        sides = [_Side.of(candidate.where(mine == name))]
        if reference is not None and theirs is not None and (theirs == name).any():
            sides.append(_Side.of(reference.where(theirs == name)))
        able = [m for m in inside if len(sides) > 1 or not m.needs_reference]
        found = _measure(sides, able, quiet).scores if able else ()
        for i, metric in zip(places, inside):
            if metric in able:
                s = found[able.index(metric)]
                slices[i][name] = Slice(s.value, s.interval, s.reference, s.difference, s.p, s.n)
    return tuple(replace(score, by=part) for score, part in zip(scores, slices))
