"""The two passes of an audit: each corpus is read shard by shard and put side by side. Knows no metric.

Workers of this machine read a corpus from a file that they map, so that only the numbers of records travel;
what grows with the corpus (n-grams) comes back in files too. In this process nothing is copied, and n-grams
are filed only where they would outgrow the memory that the audit was given.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from karat.auditing import selection as selecting
from karat.auditing import summaries
from karat.auditing.base import Fitted, Jury, Need, Progress
from karat.auditing.corpora import Side as Side
from karat.auditing.grams import stack_grams
from karat.auditing.result import Warned
from karat.auditing.selection import Selection, Surveyed
from karat.auditing.shards import MEMBER, Plan, Stretch, view_key
from karat.executors.base import Executor, tree_reduce
from karat.formats import write_stream

MAX_LABELS = 1000
"""Beyond this a field is no class label, and sums a label would outgrow the corpus."""
_SHARD_RECORDS = 10_000
_SHARD_BYTES = 4 << 20
_STRETCH = 4  # shards a worker is sent at a time, and merges before it answers
MEMORY = 256
"""MiB of n-grams that are kept in memory; more is sorted in files."""
_GRAMS = ("ngrams", "duplicates")
_LIKE = {"spectrum": "ngrams"}  # kinds that are collected like another, and only added up differently
_LIMITED = ("sample", "postings", "vectors", "sequences", "neighbours")


@dataclass(frozen=True)
class Settings:
    """How an audit is carried out, as the passes and the scores need to know it."""

    mode: str
    seed: int
    budget: str
    trials: int
    fit_on: int
    encoder: str
    executor: Executor
    progress: Progress
    cache: Path | None = None
    """Where vectors of encoders with weights of their own are kept."""
    judge: Jury | None = None
    """Who answers questions about records."""
    memory: int = MEMORY
    """MiB of n-grams kept in memory."""
    scratch: Path | None = None
    """Folder for what does not fit into memory; the system's own when not given."""

    @property
    def matched(self) -> bool:
        return self.mode == "proper"


@dataclass(frozen=True)
class Passed:
    """What both passes over all corpora gave."""

    sides: tuple[Side, ...]
    surveys: tuple[Surveyed, ...]
    selections: tuple[Selection, ...]
    stacked: dict[Need, summaries.Stacked]
    groups: dict[str, int]  # view -> G, the replicate groups of one side
    encoders: dict[str, Fitted]
    warnings: tuple[Warned, ...]

    @property
    def copied(self) -> float:
        """The share of candidate records that stand in the reference too."""
        if len(self.selections) < 2:
            return 0.0
        return float(np.isin(self.selections[0].keys, self.selections[1].keys).mean())

    @property
    def linked(self) -> bool:
        """Whether both corpora are about the same items or prompts, at least half of the candidate's."""
        units = [one.units for one in self.selections]
        if len(units) < 2 or units[0] is None or units[1] is None:
            return False
        return bool(np.isin(units[0], units[1]).mean() >= 0.5)

    @property
    def banded(self) -> bool:
        """Whether records of equal lengths could be found on both sides."""
        return self.selections[0].banded is not None

    @property
    def same(self) -> bool:
        """Whether both corpora hold the same texts."""
        keys = [np.sort(one.keys) for one in self.selections]
        return len(keys) > 1 and np.array_equal(keys[0], keys[1])


def run(
    sides: Sequence[Side],
    needs: tuple[Need, ...],
    settings: Settings,
    encoders: dict[str, Fitted] | None = None,
) -> Passed:
    """Survey and select, then collect and stack what is needed; candidate first, then the reference.

    Encoders that are fitted already are used as they are.
    """
    with ExitStack() as open_files:
        place = Place(settings, open_files)
        columns = [place.columns(side.columns(needs)) for side in sides]
        edges = [_stretches(side.texts) for side in sides]
        surveys = _survey(columns, edges, needs, settings)
        warnings, sides = _without_wild_labels(sides)
        keys = [
            selecting.record_keys(surveyed.content, seed=settings.seed, tie=side.label_hashes())
            for side, surveyed in zip(sides, surveys)
        ]
        views = tuple(dict.fromkeys(["all", *map(view_key, needs)]))
        other = surveys[1] if len(surveys) > 1 else None
        units = [side.units for side in sides]
        shared = None if any(one is None for one in units) else [one for one in units if one is not None]
        selections = selecting.select(surveys[0], other, keys=keys, views=views, units=shared)
        groups = {view: selecting.replicate_groups(selections, view) for view in views}
        encoders = _encoders(needs, sides, selections, settings) if encoders is None else encoders
        same = _equal_views(views, selections, groups)
        asked = {need: _seen(need, same) for need in needs}
        once = tuple(dict.fromkeys(asked.values()))
        gathered = tuple(dict.fromkeys(map(_gathered, once)))
        folder = place.folder(_expected(gathered, surveys))
        plans, jobs = [], []
        for side, surveyed, selection, held, cut in zip(sides, surveys, selections, columns, edges):
            plans.append(_plan(selection, surveyed, gathered, groups, encoders, folder))
            added = place.columns(_selected(side, surveyed, selection, plans[-1]))
            jobs.append([(len(plans) - 1, Stretch((held, added), one)) for one in cut])
        collected = _collect(plans, jobs, settings)
        stacked = _stack(once, gathered, collected, groups, settings)
    warnings += _thin_views(selections, views, [len(side) for side in sides])
    return Passed(
        tuple(sides),
        surveys,
        selections,
        {need: stacked[found] for need, found in asked.items()},
        groups,
        encoders,
        warnings,
    )


@dataclass(frozen=True)
class Place:
    """Where columns and n-grams are kept while the passes run: in memory, or in a folder that is removed."""

    settings: Settings
    files: ExitStack

    @property
    def shared(self) -> bool:
        """Whether workers are other processes that see the files of this one."""
        executor = self.settings.executor
        return executor.workers != 1 and bool(getattr(executor, "one_machine", False))

    def columns(self, table: pa.Table) -> pa.Table | str:
        """The table itself where the work is done in this process; for other processes a file of it."""
        if not self.shared:
            return table
        path = Path(self._folder()) / "columns"
        with path.open("wb") as file:
            write_stream(file, [table])
        return str(path)

    def folder(self, expected: int) -> str | None:
        """A folder for the n-grams, if they come from other processes or would take too much memory."""
        if self.shared or expected > self.settings.memory << 20:
            return self._folder()
        return None

    def _folder(self) -> str:
        scratch = self.settings.scratch
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        return self.files.enter_context(tempfile.TemporaryDirectory(prefix="karat-", dir=scratch))


def _stretches(texts: pa.ChunkedArray) -> list[tuple[int, ...]]:
    """Where shards begin: runs of records small enough for one worker, several shards to a stretch."""
    size = pc.binary_length(texts).fill_null(0).to_numpy()
    running = np.concatenate([[0], np.cumsum(size, dtype=np.int64)])
    edges = [0]
    while edges[-1] < len(size):
        start = edges[-1]
        stop = int(np.searchsorted(running, running[start] + _SHARD_BYTES, side="right")) - 1
        edges.append(min(max(stop, start + 1), start + _SHARD_RECORDS, len(size)))
    return [tuple(edges[at : at + _STRETCH + 1]) for at in range(0, len(edges) - 1, _STRETCH)]


def _survey(
    columns: Sequence[pa.Table | str],
    edges: Sequence[list[tuple[int, ...]]],
    needs: Sequence[Need],
    settings: Settings,
) -> tuple[Surveyed, ...]:
    tokenisers = {str(need.get("tokens", "word")) for need in needs if need.view == "tokens"}
    function = partial(survey_stretch, tokenisers=tuple(sorted(tokenisers | {"word"})))
    jobs = [Stretch((held,), one) for held, cut in zip(columns, edges) for one in cut]
    parts = []
    for part in settings.executor.map(function, jobs):
        parts.append(part)
        settings.progress("reading", len(parts), len(jobs))
    found = iter(parts)
    return tuple(selecting.joined(tuple(islice(found, len(cut)))) for cut in edges)


def survey_stretch(stretch: Stretch, *, tokenisers: tuple[str, ...]) -> Surveyed:
    """The first pass over a stretch of records."""
    return selecting.joined(
        [
            selecting.survey(columns["text"].cast(pa.large_string()), tokenisers=tokenisers)
            for _, columns in stretch.tables()
        ]
    )


def _equal_views(
    views: Sequence[str], selections: Sequence[Selection], groups: dict[str, int]
) -> dict[str, str]:
    """For each view the first one that selects the same records into the same groups."""
    first: dict[Any, str] = {}
    found = {}
    for view in views:
        key = (groups[view], *((one.views[view], id(one.rows(view))) for one in selections))
        found[view] = first.setdefault(key, view)
    return found


def _seen(need: Need, same: dict[str, str]) -> Need:
    """The need as it is collected: views that select the same records are one."""
    view = same[view_key(need)]
    return need if view == view_key(need) or ":" in view else need.under(view)  # type: ignore[arg-type]


def _gathered(need: Need) -> Need:
    """The need as which it is collected: two kinds that are made of the same n-grams are collected once."""
    return replace(need, kind=_LIKE.get(need.kind, need.kind))


def _expected(needs: Sequence[Need], surveys: Sequence[Surveyed]) -> int:
    """Bytes of all that grows with the corpus and can be filed, at most: 8 a token for each such need."""
    total = 0
    for need in needs:
        if hasattr(summaries.KINDS[need.kind], "pack") and not need.get("limit"):
            for one in surveys:
                lengths = one.tokens.get(str(need.get("tokens", "word")), one.tokens["word"])
                total += 8 * (len(one) if need.kind == "duplicates" else int(lengths.sum()))
    return total


def _plan(
    selection: Selection,
    surveyed: Surveyed,
    needs: tuple[Need, ...],
    groups: dict[str, int],
    encoders: dict[str, Fitted],
    folder: str | None,
) -> Plan:
    used = tuple(dict.fromkeys(map(view_key, needs)))
    limits = {}
    for need in needs:
        most, size = int(need.get("limit", 0) or 0), int(need.get("bytes", 0) or 0)
        if need.kind in ("sample", "postings", "vectors", "words") and (most > 0 or size > 0):
            limits[need] = selection.largest(view_key(need), most, size, surveyed.bytes)
    cuts = {view: selection.cuts(view) for view in used}
    return Plan(needs, groups, cuts, limits, encoders, folder)


def _selected(side: Side, surveyed: Surveyed, selection: Selection, plan: Plan) -> pa.Table:
    """What the second pass needs of each record besides its text: hashes, and the group in each view."""
    views = dict.fromkeys(map(view_key, plan.needs))
    hashes = {"key": selection.keys, "content": surveyed.content, "cluster": side.clusters}
    members = {MEMBER + view: selection.members(view, plan.sides[view]) for view in views}
    return pa.table({**hashes, **members})


def _collect(
    plans: Sequence[Plan], jobs: Sequence[list[tuple[int, Stretch]]], settings: Settings
) -> list[tuple[Any, ...]]:
    """The second pass over all corpora: partial summaries of each stretch, merged as they come."""
    needs = plans[0].needs
    total = sum(map(len, jobs))
    done = 0

    def partials() -> Iterator[tuple[Any, ...]]:
        nonlocal done
        function = partial(collect_stretch, plans=tuple(plans))
        for found in settings.executor.map(function, (job for some in jobs for job in some)):
            done += 1
            settings.progress("counting", done, total)
            # what came from a machine that does not see our folder is filed here
            yield tuple(
                summaries.packed(need, part, plans[0].folder) for need, part in zip(needs, found, strict=True)
            )

    stream = partials()
    return [tree_reduce(islice(stream, len(some)), partial(summaries.merge, needs=needs)) for some in jobs]


def collect_stretch(job: tuple[int, Stretch], *, plans: tuple[Plan, ...]) -> tuple[Any, ...]:
    """The second pass over a stretch of records of one corpus, named by the number of its plan."""
    number, stretch = job
    return summaries.collect(stretch, plan=plans[number])


def _stack(
    needs: tuple[Need, ...],
    gathered: tuple[Need, ...],
    collected: list[tuple[Any, ...]],
    groups: dict[str, int],
    settings: Settings,
) -> dict[Need, summaries.Stacked]:
    """All corpora side by side, one need after the other: what was collected is freed as it is used."""
    columns = [dict(zip(gathered, one)) for one in collected]
    collected.clear()
    uses = Counter(map(_gathered, needs))
    stacked: dict[Need, summaries.Stacked] = {}
    for i, need in enumerate(sorted(needs, key=lambda need: gathered.index(_gathered(need)))):
        settings.progress("adding up", i, len(needs))
        source = _gathered(need)
        uses[source] -= 1
        parts = [column[source] if uses[source] else column.pop(source) for column in columns]
        side = groups[view_key(need)]
        offsets = [0, side][: len(parts)]
        if need.kind in _GRAMS and not any(part.nbytes for part in parts):
            stacked[need] = stack_grams(parts, offsets, 3 * side, executor=settings.executor)
        else:
            stacked[need] = summaries.KINDS[need.kind].stack(parts, offsets, 3 * side)
        del parts
    return stacked


def _encoders(
    needs: Sequence[Need], sides: Sequence[Side], selections: Sequence[Selection], settings: Settings
) -> dict[str, Fitted]:
    """Every encoder that a need names, fitted on equally many texts of each corpus, the first by hash.

    An encoder that is fitted on one side spreads the texts of that side and squeezes the other's:
    random halves of one corpus would differ in every mean cosine (LOG.md).
    """
    specs = {str(need.get("encoder")) for need in needs if need.kind in ("embeddings", "vectors", "moments")}
    if not specs:
        return {}
    from karat.auditing.encoders.base import cached, make

    size = min(settings.fit_on // len(sides), *(len(side) for side in sides))
    texts: list[str] = []
    for side, selection in zip(sides, selections):
        rows = np.sort(selection.order[:size])
        texts += side.texts_at(rows)
    fitted = {spec: make(spec).fit(texts, seed=settings.seed) for spec in sorted(specs)}
    # lsa is another encoder for each corpus, and quicker than a disk; what has weights of its own is kept
    return {
        spec: one if spec.startswith("lsa") else cached(one, settings.cache) for spec, one in fitted.items()
    }


def _without_wild_labels(sides: Sequence[Side]) -> tuple[tuple[Warned, ...], Sequence[Side]]:
    """Labels of which there are too many are no class labels; they are left aside, and said so."""
    names = {label for side in sides for label in side.label_names}
    if len(names) <= MAX_LABELS:
        return (), sides
    message = (
        f"the label field has {len(names):,} different values; labels are left aside above {MAX_LABELS:,}"
    )
    return (Warned("labels_ignored", message),), [replace(side, labels=None) for side in sides]


def _thin_views(
    selections: Sequence[Selection], views: Sequence[str], sizes: Sequence[int]
) -> tuple[Warned, ...]:
    """Corpora that are large enough, of which equal tokens or bytes leave only a few records on one side."""
    found = []
    for view in views:
        parts = [len(one.views[view][0]) for one in selections]
        if view.partition(":")[0] in ("tokens", "bytes") and min(parts) < 2 * selecting.GROUPS <= min(sizes):
            side = ("candidate", "reference")[int(np.argmin(parts))]
            unit = view.partition(":")[0]
            message = (
                f"at equal {unit} only {min(parts)} {side} records are compared; their intervals are rough"
            )
            found.append(Warned("too_few_records", message))
    return tuple(found)
