"""Runs loops here or over the workers of an executor; none is done twice. Knows no model and no task.

A job is one cycle with one seed, one temperature and one size. All cycles of a seed begin with the same first
model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from karat import registry
from karat.errors import BadSetting, NotEnoughData
from karat.executors.base import Executor
from karat.simulation.base import Policy, Task
from karat.simulation.chain import FIRST, Chain, Job, Shared, Turn
from karat.simulation.result import CONTROL, Loop
from karat.training import grid

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Ran:
    """A finished job: its loop, and what was written in each iteration, where that was asked for."""

    loop: Loop
    texts: tuple[tuple[str, ...], ...]


def run_jobs(
    shared: Shared,
    jobs: Sequence[Job],
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    name: str = "simulate",
    texts: bool = True,
) -> list[Ran]:
    """Run all jobs, in their order; first the iterations 0 that several of them share.

    texts: whether what was written comes back, too.
    """
    firsts: dict[tuple[int, float, int], Job] = {}
    for job in jobs:
        if job.plain and not shared.continued:
            firsts.setdefault(
                (job.seed, job.temperature, job.n),
                replace(job, label=FIRST, policy=Policy(), iterations=0),
            )
    counter = _Counter(progress, name, len(firsts) + sum(job.iterations for job in jobs))
    begun = _each(partial(_first, shared), list(firsts.values()), shared, executor, counter, Turn, name)
    known = dict(zip(firsts, begun))
    with_first = [
        replace(job, first=known.get((job.seed, job.temperature, job.n)) if job.plain else None)
        for job in jobs
    ]
    return _each(partial(_chain, shared, texts), with_first, shared, executor, counter, Ran, name)


def _each(
    work: Callable[..., Any],
    jobs: list[Job],
    shared: Shared,
    executor: Executor | None,
    counter: _Counter,
    kind: type,
    name: str,
) -> list[Any]:
    """Run jobs here, where each iteration can be told, or over workers, which tell when a job is done."""
    if executor is None or getattr(executor, "workers", 1) == 1:
        found = []
        for job in jobs:
            found.append(work(job, tell=counter.add))
            counter.fill(max(job.iterations, 1))
        return found
    sizes = [max(job.iterations, 1) for job in jobs]
    base, mean = counter.done, sum(sizes) / max(1, len(sizes))
    results = grid.run(
        work,
        jobs,
        key=lambda job: f"{shared.key()}|{_job_key(job)}",
        weigh=lambda job: float(job.n * max(job.iterations, 1)),
        executor=executor,
        cache=Path(shared.journal) / "jobs" if shared.journal else None,
        pack=_packed,
        unpack=partial(_unpacked, kind),
        progress=lambda _, done, total: counter.reach(base + round(done * mean)),
        name=name,
    )
    return list(results)


def _job_key(job: Job) -> str:
    return "|".join(map(str, (job.label, job.policy, job.seed, job.iterations, job.temperature, job.n)))


def _packed(result: Any) -> grid.Packed:
    return {"result": asdict(result)}


def _unpacked(kind: type, packed: grid.Packed) -> Any:
    import cattrs

    return cattrs.structure(packed["result"], kind)


class _Counter:
    """How many iterations are done; says so."""

    def __init__(self, progress: Progress | None, name: str, total: int) -> None:
        self.progress, self.name, self.total, self.done, self.inside = progress, name, total, 0, 0
        self.reach(0)

    def add(self, count: int) -> None:
        """Count more iterations of the job that runs as done."""
        self.inside += count
        self.reach(self.done + count)

    def fill(self, size: int) -> None:
        """Count the job that ran as done: it may have ended before its time."""
        self.reach(self.done + size - self.inside)
        self.inside = 0

    def reach(self, done: int) -> None:
        """Say how many iterations are done."""
        self.done = done
        if self.progress:
            self.progress(self.name, done, self.total)


# --- one job; the functions are at module level, so that other processes can run them --------------


def _first(shared: Shared, job: Job, tell: Callable[[int], None] | None = None) -> Turn:
    """Run iteration 0, which all cycles of a seed share."""
    found = Chain(shared, job).turn(0)
    if tell:
        tell(1)
    return found


def _chain(shared: Shared, texts: bool, job: Job, tell: Callable[[int], None] | None = None) -> Ran:
    """Run the iterations of one job."""
    chain = Chain(shared, job)
    turns = [job.first or chain.turn(0)]
    ended = ""
    for t in range(1, job.iterations + 1):
        ended = chain.advance(turns[-1], t)
        if ended:
            break
        try:
            turns.append(chain.turn(t))
        except NotEnoughData as error:  # for instance no valid text left to learn from
            ended = f"starved: {error}"
            break
        if tell:
            tell(1)
        ended = _ended(job, turns[-1], t)
        if ended:
            break
    rows = tuple(turn.row for turn in turns)
    return Ran(Loop(job.label, job.seed, rows, ended), tuple(turn.texts for turn in turns) if texts else ())


def _ended(job: Job, turn: Turn, t: int) -> str:
    """Say why nothing can change any more, or nothing."""
    policy = job.policy
    alone = policy.keep == "none" and policy.generated_share == 1.0 and policy.models == 1
    if alone and turn.row.measures.distinct == 1:
        return f"collapsed: one text is left at iteration {t}"
    return ""


def check_selection(label: str, policy: Policy, task: Task, trainers: Sequence[Any], continued: bool) -> None:
    """Raise BadSetting where a cycle asks for what the task or the trainers lack."""
    if policy.selection.by == "verifier" and not task.verifies:
        raise BadSetting(
            f"cycle {label!r} needs a verifier, which task {registry.name_of(task)!r} has not; "
            "take logic, arithmetic, json_schema, sql or code"
        )
    lacking = [
        registry.name_of(one) for one in trainers if continued and not getattr(one, "continues", False)
    ]
    if lacking:
        raise BadSetting(f"trainer {lacking[0]!r} cannot go on from a model; leave continued out")


def is_control(loop: Loop) -> bool:
    """Whether a loop is the control without a loop."""
    return loop.cycle == CONTROL
