"""A fine-tuning job from its rows to its end; a kill at any moment pays for nothing twice. Knows no records.

One small JSON file for each set of rows and settings, named by their digest: ids of the files and of the job.
It is written before the job can exist, again when the server has named it, and is replaced as a whole. A job
that may exist without a name here is looked for at the server, in whose metadata the digest stands too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from karat.errors import InputError, ProviderError
from karat.generation.batches import write_through
from karat.training.finetuning_api import LONGEST, MARK, OVER, Absent, Doubtful, FinetuningApi

_LOOKS = 3  # for a job that may be there: a list may be a moment behind
_DOUBTS = 3
_SLOWER = 1.5
_MISSED = 4  # looks in a row at a job that the server does not know: a new one may not be there yet
_WORDS = 300

Told = Callable[[str], None]


@dataclass
class Job:
    """What is known of a job: `digest` of rows and settings, and what the server has called them."""

    digest: str
    file: str = ""
    validation_file: str = ""
    handed_in: bool = False
    """from here on the job may exist, whatever became of us"""
    job: str = ""
    status: str = ""
    model: str = ""
    """the name of the tuned model"""
    trained_tokens: int | None = None
    """tokens that are charged for, all epochs together"""
    began: float = field(default_factory=time.time)
    before: list[str] = field(default_factory=list)
    """earlier jobs of the same digest, which failed or were cancelled"""


class Shelf:
    """The folder of jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, digest: str) -> Job:
        """What is noted of a digest; a blank job where there is nothing."""
        path = self._path(digest)
        try:
            return Job(**json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return Job(digest)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path}: cannot be read as a fine-tuning job ({error}); remove it, and the job is "
                "looked for at the server"
            ) from None

    def write(self, job: Job) -> None:
        """Note a job, on disk when this returns."""
        write_through(self._path(job.digest), json.dumps(asdict(job), indent=1))

    @contextlib.contextmanager
    def alone(self, digest: str) -> Iterator[None]:
        """One process at a time hands in the rows of a digest; another waits, and finds the job."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / f"{digest[:40]}.lock").open("w")
        except OSError as error:
            raise InputError(f"{self.folder}: {error.strerror}; name a folder that can be written") from None
        with lock:
            try:
                import fcntl
            except ImportError:  # Windows: two processes that start at the same moment are not told apart
                yield
                return
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest[:40]}.json"


@dataclass(frozen=True)
class Work:
    """What a job is made of: rows and validation rows as JSON lines, and the body of its creation."""

    digest: str
    rows: bytes
    validation: bytes
    body: dict[str, Any]
    hours: float


async def trained(api: FinetuningApi, shelf: Shelf, work: Work, tell: Told) -> Job:
    """Return the job of this work at its good end: taken up where it stands, else handed in.

    Raises ProviderError with the server's words where it failed or was cancelled.
    """
    with shelf.alone(work.digest):
        job = shelf.read(work.digest)
        if not job.job:
            await _handed_in(api, shelf, work, job, tell)
    if job.status != "succeeded" or not job.model:
        await _ended(api, shelf, work, job, tell)
    return job


async def _handed_in(api: FinetuningApi, shelf: Shelf, work: Work, job: Job, tell: Told) -> None:
    """Give the job its name at the server: that of one which is there, or of a new one."""
    listed = await _found(api, shelf, job, _LOOKS if job.handed_in else 1)
    if job.job:
        return
    if job.handed_in and not listed:
        raise _unknown(api, "an earlier run was ended while it asked for it")
    tell("sending rows")
    name = f"karat-{work.digest[:32]}"
    job.file = (
        job.file or await api.file_named(f"{name}.jsonl") or await api.upload(f"{name}.jsonl", work.rows)
    )
    shelf.write(job)
    if work.validation and not job.validation_file:
        told = f"{name}-validation.jsonl"
        job.validation_file = await api.file_named(told) or await api.upload(told, work.validation)
        shelf.write(job)
    body = {**work.body, "training_file": job.file, "metadata": {MARK: work.digest}}
    if job.validation_file:
        body["validation_file"] = job.validation_file
    said = ""
    for _ in range(_DOUBTS):
        job.handed_in = True
        shelf.write(job)
        try:
            _take(job, await api.make(body))
            shelf.write(job)
            return
        except ProviderError:
            # It was refused, so there is none; perhaps for its files, which are then sent anew.
            job.handed_in, job.file, job.validation_file = False, "", ""
            shelf.write(job)
            raise
        except Doubtful as error:
            said = str(error)
        if not await _found(api, shelf, job, _LOOKS):
            break
        if _is_there(job):
            return
    raise _unknown(api, said)


def _is_there(job: Job) -> bool:
    return bool(job.job)


def _unknown(api: FinetuningApi, said: str) -> ProviderError:
    return ProviderError(
        f"{api.access.url} does not say whether it made the fine-tuning job ({said}); the same command looks "
        "for it again; where the server keeps no list of jobs, look there by hand before you pay twice"
    )


async def _found(api: FinetuningApi, shelf: Shelf, job: Job, looks: int) -> bool:
    """Look whether the server has a job of this digest; False where it keeps no list."""
    for look in range(looks):
        if look:
            await asyncio.sleep(api.poll * 2**look)
        try:
            there = await api.job_of(job.digest)
        except Absent:
            return False
        if there is not None:
            _take(job, there)
            shelf.write(job)
            break
    return True


def _take(job: Job, told: dict[str, Any]) -> None:
    job.job, job.status = str(told["id"]), str(told.get("status") or "queued")
    job.handed_in = True
    job.model = str(told.get("fine_tuned_model") or "")
    tokens = told.get("trained_tokens")
    job.trained_tokens = tokens if isinstance(tokens, int) else job.trained_tokens


async def _ended(api: FinetuningApi, shelf: Shelf, work: Work, job: Job, tell: Told) -> None:
    """Look at a job until it is at its end."""
    pause, missed = api.poll, 0
    # from the moment that we began to look: a job that was made long ago may still be wanted
    until = time.monotonic() + work.hours * 3600
    while True:
        try:
            told = await api.look(job.job)
        except Absent:
            missed += 1
            if missed >= _MISSED:
                raise ProviderError(
                    f"{api.access.url} has no fine-tuning job {job.job}; was it made with another key or url?"
                ) from None
        else:
            missed, before = 0, job.status
            _take(job, told)
            if job.status != before:
                shelf.write(job)
            tell(job.status)
            if job.status in OVER:
                await _check(api, shelf, job, told)
                return
        if time.monotonic() > until:
            raise ProviderError(
                f"{api.access.url}: the fine-tuning job {job.job} is still {job.status} after {work.hours:g} "
                "h; it stays noted, and the same command waits on"
            )
        await asyncio.sleep(pause)
        pause = min(pause * _SLOWER, api.poll * LONGEST)


async def _check(api: FinetuningApi, shelf: Shelf, job: Job, told: dict[str, Any]) -> None:
    """Raise ProviderError for a job without a model, and forget it, so that the next run makes another."""
    if job.status == "succeeded" and job.model:
        shelf.write(job)
        return
    error = told.get("error")
    said = str(error.get("message") or error.get("code") or "") if isinstance(error, dict) else ""
    if not said:
        events = await api.events(job.job)
        said = next((str(e.get("message") or "") for e in events if e.get("level") in ("error", "warn")), "")
    ended = "succeeded without a model" if job.status == "succeeded" else job.status
    ended = ended if ended != "cancelled" else "was cancelled at the server"
    name = job.job
    shelf.write(Job(job.digest, job.file, job.validation_file, before=[*job.before, name]))
    words = api.hide(" ".join((said or "no reason is told").split())[:_WORDS])
    raise ProviderError(
        f"{api.access.url}: the fine-tuning job {name} {ended}: {words}; the same command makes a new job"
    )
