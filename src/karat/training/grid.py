"""Runs many trainings over an executor, each finished one on disk. Knows no trainer, no score and no Ray.

A cell is one training with one result. A study of a thousand cells should cost what they cost and no more:
cells that are done stay done when a worker, or the process that started all, is killed; a cell that kills its
worker again and again is one failed cell; and cells of ten milliseconds travel many at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np

from karat.errors import BadSetting, KaratError, MissingExtra, Stopped, UnknownPart
from karat.executors.base import Lost
from karat.training.base import Progress

Cell = TypeVar("Cell")
Result = TypeVar("Result")
Packed = dict[str, Any]
"""what of a result goes to disk: arrays, and what JSON can hold"""

TRIES = 3
"""how often a cell may take its worker with it before it counts as failed"""
_COMMON = (Stopped, BadSetting, MissingExtra, UnknownPart)
"""errors that are those of all cells, so that no cell stands for itself"""
_SECONDS = 0.5  # of work that travel together: a task costs milliseconds


@dataclass(frozen=True)
class Failed:
    """Stands in the place of a result: why there is none."""

    reason: str


@dataclass(frozen=True)
class Store(Generic[Result]):
    """Finished cells in a folder, a file each; `pack` and `unpack` turn a result into arrays and JSON.

    The folder may be shared by studies: `kind` and the key of a cell name its file.
    """

    folder: Path
    kind: str
    pack: Callable[[Result], Packed]
    unpack: Callable[[Packed], Result]

    def path(self, key: str) -> Path:
        """Return the file of a cell."""
        name = hashlib.sha256(json.dumps([self.kind, key]).encode()).hexdigest()[:32]
        return self.folder / f"{name}.npz"

    def put(self, key: str, result: Result) -> None:
        """Write a result; whoever reads sees all of it or nothing."""
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        plain: dict[str, Any] = {}
        for name, value in self.pack(result).items():
            if isinstance(value, np.ndarray) and value.dtype != object:
                arrays[f"a:{name}"] = value
            else:
                plain[name] = value
        arrays["json"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
        path = self.path(key)
        handle, beside = tempfile.mkstemp(dir=self.folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **cast(dict[str, Any], arrays))
            os.replace(beside, path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise

    def get(self, key: str) -> Result | None:
        """Return a stored result; None where there is none, or where its file cannot be read."""
        try:
            with np.load(self.path(key), allow_pickle=False) as file:
                found: Packed = json.loads(file["json"].tobytes().decode())
                found.update({name[2:]: file[name] for name in file.files if name.startswith("a:")})
            return self.unpack(found)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None


def _plain_pack(result: Any) -> Packed:
    return dict(result) if isinstance(result, Mapping) else {"result": result}


def _plain_unpack(packed: Packed) -> Any:
    return packed["result"] if set(packed) == {"result"} else packed


def run(
    work: Callable[[Cell], Result],
    cells: Sequence[Cell],
    *,
    key: Callable[[Cell], str] = repr,
    weigh: Callable[[Cell], float] = lambda cell: 1.0,
    executor: Any = None,
    cache: Path | None = None,
    pack: Callable[[Result], Packed] = _plain_pack,
    unpack: Callable[[Packed], Result] = _plain_unpack,
    lenient: bool = False,
    progress: Progress | None = None,
    name: str = "train",
) -> list[Result | Failed]:
    """Return `work(cell)` of each cell, in their order; the largest are run first.

    work: importable by name, or a partial of it; large state in the partial travels once, not with each cell.
    key: what a cell is, in words: cells with one key have one result, which `cache` keeps. It must name
        whatever the result depends on (data, trainer, seeds, version).
    weigh: how much work a cell is, compared with the others.
    pack, unpack: turn a result into arrays and plain values and back; by default results are plain JSON.
    lenient: give `Failed` for a cell that raised a KaratError or killed its worker three times. Otherwise
        such an error is raised, the second kind only when all other cells are done.
    """
    here = executor is None or getattr(executor, "workers", 1) == 1
    with ExitStack() as held:
        place = cache
        if place is None and not here:  # what a chunk had finished when its worker was killed
            place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="karat-grid-")))
        store = None if place is None else Store(place, name, pack, unpack)
        tally = _Tally(cells, [key(cell) for cell in cells], store, lenient, progress, name)
        tally.recall()
        order = sorted(tally.missing(), key=lambda at: -weigh(cells[at]))
        if here:
            for at in order:
                tally.take([at], _some(work, store, [(tally.keys[at], cells[at])]))
        elif order:
            _scatter(work, order, weigh, executor, tally)
        return tally.results()


@dataclass
class _Tally(Generic[Cell, Result]):
    """What is done and what was lost. Cells with one key are one cell: the first that has it."""

    cells: Sequence[Cell]
    keys: Sequence[str]
    store: Store[Result] | None
    lenient: bool
    progress: Progress | None
    name: str
    done: dict[str, Result | Failed] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    reason: str = ""

    def missing(self) -> list[int]:
        """Return the places of the cells that are not done."""
        first: dict[str, int] = {}
        for at, key in enumerate(self.keys):
            first.setdefault(key, at)
        return [at for key, at in first.items() if key not in self.done]

    def recall(self) -> None:
        """Take what is on disk already."""
        if self.store is not None:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            for at in self.missing():
                found = self.store.get(self.keys[at])
                if found is not None:
                    self.done[self.keys[at]] = found
        self._tell()

    def take(self, chunk: Sequence[int], answers: Sequence[_Answer]) -> None:
        """Take what a worker gave for a chunk of cells; an error of a cell is raised, unless lenient."""
        for at, answer in zip(chunk, answers):
            if isinstance(answer.error, _COMMON) or (answer.error is not None and not self.lenient):
                raise answer.error
            self.done[self.keys[at]] = answer.result if answer.error is None else Failed(str(answer.error))
        self._tell()

    def mourn(self, chunk: Sequence[int], reason: str, together: bool) -> list[int]:
        """Take from disk what a lost worker had finished, count a death to its cell, and return what is left.

        together: the worker wrote to this disk, so the first cell that is missing is the one.
        """
        for at in chunk:
            found = None if self.store is None else self.store.get(self.keys[at])
            if found is not None:
                self.done[self.keys[at]] = found
        left = [at for at in chunk if self.keys[at] not in self.done]
        if left and (together or len(chunk) == 1):
            self._count(left[0], reason)
        for at in left:  # from now on these travel alone
            self.deaths.setdefault(at, 0)
        self._tell()
        return [at for at in left if self.keys[at] not in self.done]

    def results(self) -> list[Result | Failed]:
        """Return the results in the order of the cells. Raises KaratError for a lost cell, unless lenient."""
        if self.reason and not self.lenient:
            raise KaratError(self.reason)
        return [self.done[key] for key in self.keys]

    def _count(self, at: int, reason: str) -> None:
        self.deaths[at] = self.deaths.get(at, 0) + 1
        if self.deaths[at] >= TRIES:
            self.reason = (
                f"{self.name}: {self.keys[at][:80]} took its worker with it {TRIES} times ({reason}); "
                "give each worker more memory, or take fewer workers"
            )
            self.done[self.keys[at]] = Failed(self.reason)

    def _tell(self) -> None:
        if self.progress:
            self.progress(self.name, len(self.done), len(set(self.keys)))


@dataclass(frozen=True)
class _Answer:
    """What a worker says of one cell."""

    result: Any
    error: KaratError | None
    seconds: float


def _some(
    work: Callable[[Any], Any], store: Store[Any] | None, chunk: Sequence[tuple[str, Any]]
) -> list[_Answer]:
    """Do some cells one after the other, each on disk before the next begins; runs in a worker."""
    found = []
    for key, cell in chunk:
        began = time.perf_counter()
        try:
            result, error = work(cell), None
        except KaratError as caught:
            result, error = None, caught
        if store is not None and error is None:
            store.put(key, result)
        found.append(_Answer(result, error, time.perf_counter() - began))
    return found


def _scatter(
    work: Callable[[Any], Any],
    order: Sequence[int],
    weigh: Callable[[Any], float],
    executor: Any,
    tally: _Tally[Any, Any],
) -> None:
    """Run the cells over workers until each is done or has failed."""
    together = bool(getattr(executor, "one_machine", False))  # workers write where this process reads
    task = partial(_some, work, tally.store if together else None)
    queue = _Queue(order, weigh, tally, _Pace(getattr(executor, "workers", 0) or os.cpu_count() or 1))
    with closing(_answers(executor, task, queue)) as stream:
        for number, answers in stream:
            chunk = queue.sent[number]
            if isinstance(answers, Lost):
                queue.waiting.extendleft(tally.mourn(chunk, answers.reason, together)[::-1])
                continue
            queue.pace.learn(queue.load(chunk), sum(answer.seconds for answer in answers))
            if tally.store is not None and not together:
                for at, answer in zip(chunk, answers):
                    if answer.error is None:
                        tally.store.put(tally.keys[at], answer.result)
            tally.take(chunk, answers)


class _Queue:
    """An iterator of cells that travel together. Where it has ended it goes on when a lost cell comes back.

    A chunk is cut when a worker is free for it, so that it is as long as the last ones say. What was lost
    once goes alone.
    """

    def __init__(
        self, order: Sequence[int], weigh: Callable[[Any], float], tally: _Tally[Any, Any], pace: _Pace
    ) -> None:
        self.waiting, self.tally, self.pace = deque(order), tally, pace
        self.sent: list[list[int]] = []
        self.weights = {at: max(float(weigh(tally.cells[at])), 1e-9) for at in order}

    def __iter__(self) -> _Queue:
        return self

    def __next__(self) -> list[tuple[str, Any]]:
        waiting, lost = self.waiting, self.tally.deaths
        if not waiting:
            raise StopIteration
        most = self.pace.most(self.load(waiting))
        chunk = [waiting.popleft()]
        load = self.load(chunk)
        while waiting and chunk[0] not in lost and waiting[0] not in lost:
            load += self.weights[waiting[0]]
            if load > most:
                break
            chunk.append(waiting.popleft())
        self.sent.append(chunk)
        return [(self.tally.keys[at], self.tally.cells[at]) for at in chunk]

    def load(self, cells: Iterable[int]) -> float:
        """Return the weight of cells."""
        return sum(self.weights[at] for at in cells)


@dataclass
class _Pace:
    """How much work travels together: about half a second of it, by what the last cells took."""

    workers: int
    weight: float = 0.0
    seconds: float = 0.0

    def learn(self, weight: float, seconds: float) -> None:
        """Take how long some cells took; the first of a worker also pay for what it imports."""
        self.weight, self.seconds = 0.5 * self.weight + weight, 0.5 * self.seconds + seconds

    def most(self, left: float) -> float:
        """Return the weight of the next chunk: never more than a fair share of what is left."""
        if not self.seconds:
            return 0.0
        return min(self.weight / self.seconds * _SECONDS, left / (2 * self.workers))


def _answers(
    executor: Any, task: Callable[[Any], Any], chunks: Iterable[Any]
) -> Generator[tuple[int, Any], None, None]:
    """Yield (number of the chunk, answers or Lost); an executor that cannot scatter loses all or nothing."""
    if hasattr(executor, "scatter"):
        yield from executor.scatter(task, chunks)
    else:
        yield from enumerate(executor.map(task, chunks))
