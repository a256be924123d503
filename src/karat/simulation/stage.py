"""The self-consuming loop: train, write, measure, mix, and again. Knows no model, task or cycle by itself.

All cycles of a seed share their first iteration, and each run has a control without a loop: new human data
in every
iteration, the same trainer, the same temperature. Iterations can be kept in a journal and are then not done
twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from karat import records as karat_records
from karat import registry
from karat.errors import BadSetting, NotEnoughData
from karat.executors.base import Executor
from karat.executors.local import Local
from karat.records import Records
from karat.simulation.base import Batch, Policy, Source, Task, Verdict, advance, as_rows, human_batch, needed
from karat.simulation.measures import measure
from karat.simulation.result import (
    CONTROL,
    Iteration,
    Loop,
    Simulated,
    TrainedOn,
    Warned,
    bands,
    half_life,
)
from karat.version import __version__

Progress = Callable[[str, int, int], None]

DEFAULT_N = 2000
GATE = 0.9
"""The first model must write this share of valid texts, or the loop says more of the model than of loops."""

HELD_OUT = 500


@dataclass(frozen=True)
class Setup:
    """What all iterations of a simulation have in common; survives pickling."""

    task: Task
    trainer: Any
    n: int
    temperature: float
    human: Records | None
    known: frozenset[tuple[str, ...]] = frozenset()
    journal: str = ""

    def source(self, seed: int) -> Source:
        """Return the source of real data of one seed."""
        return self.task.source(self.human, seed=seed)

    def key(self) -> str:
        """Return what the results depend on, as text."""
        human = "" if self.human is None else self.human.fingerprint
        parts = [
            registry.signature(self.task),
            registry.signature(self.trainer),
            self.n,
            self.temperature,
            human,
        ]
        return "|".join(map(str, parts))


@dataclass(frozen=True)
class Turn:
    """One finished iteration with the texts that its model wrote."""

    texts: tuple[str, ...]
    row: Iteration


@dataclass(frozen=True)
class Chain:
    """One cycle with one seed, to be run from its second iteration on."""

    label: str
    policy: Policy
    seed: int
    first: Turn


def simulate(
    human: Records | None = None,
    *,
    task: Any = "logic",
    cycles: Sequence[Any] = ("full",),
    iterations: int = 10,
    seeds: Sequence[int] = (0,),
    fresh_share: float = 0.0,
    temperature: float = 0.8,
    trainer: Any = "gpt",
    n: int = 0,
    control: bool = True,
    seed: int = 0,
    executor: Executor | None = None,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """Let models train on their own output, and measure what happens.

    human: the user's own records; task logic makes its own.
    task: what is learned: logic (Boolean expressions that must be True) or text (your records, no verifier).
    cycles: how each iteration's training data are made, for instance full or expanding:growth=0.2.
    iterations: how many models are trained after the first one.
    seeds: one run a cycle and seed; three or more give half-lives an interval that holds the spread between
        runs.
    fresh_share: share of fresh human data in each new batch, for cycles that do not name their own.
    temperature: at which models write; below 1 diversity goes first, at 1 correctness.
    trainer: what is trained, from scratch in each iteration.
    n: texts an iteration; 0 takes 2,000, or all human records if they are fewer.
    control: run the control without a loop, too.
    seed: added to each of the seeds.
    """
    seeds = tuple(seed + number for number in seeds)
    _check(iterations, seeds, fresh_share, temperature, n)
    made = registry.make("tasks", task)
    maker = registry.make("trainers", trainer)
    if not getattr(maker, "writes", False):
        raise BadSetting(
            f"trainer {registry.name_of(maker)!r} makes models that cannot write records; use gpt"
        )
    policies = _policies(cycles, fresh_share)
    size = made.source(human, seed=seeds[0]).size
    rows = _rows(n, size)
    setup = Setup(made, maker, rows, temperature, human, journal=str(journal or ""))
    warnings = _data_warnings(policies, rows, size, iterations, control)
    real = setup.source(seeds[0]).draw(rows, turn=0)
    setup = replace(setup, known=frozenset(tuple(made.tokens(text)) for text in real))
    finished, loops = _loops(setup, policies, seeds, iterations, control, executor, progress)
    verdicts = _verdicts(made, real)
    runs = tuple(loop for loop, _ in loops if loop.cycle != CONTROL)
    controls = tuple(loop for loop, _ in loops if loop.cycle == CONTROL)
    return Simulated(
        task=registry.spec_of(made),
        described=made.describe(),
        trainer=registry.spec_of(maker),
        temperature=temperature,
        n=rows,
        real=measure([made.tokens(text) for text in real], verdicts, known=setup.known, seed=seeds[0]),
        runs=runs,
        controls=controls,
        half_life={label: half_life([loop for loop in runs if loop.cycle == label]) for label in policies},
        bands=bands(controls),
        samples=_samples(zip(seeds, finished), loops),
        warnings=(*warnings, *_gate(runs)),
    )


def _loops(
    setup: Setup,
    policies: Mapping[str, Policy],
    seeds: Sequence[int],
    iterations: int,
    control: bool,
    executor: Executor | None,
    progress: Progress | None,
) -> tuple[list[Turn], list[tuple[Loop, list[Turn]]]]:
    """Train the first model of each seed, then every cycle and the control from it."""
    place = executor or Local(workers=1)
    counter = _Counter(progress, len(seeds) * (1 + (len(policies) + control) * iterations))
    # In this process each iteration can be told; other processes tell when a whole chain is done.
    tell = counter.add if place.workers == 1 else None
    finished = []
    for turn in place.map(partial(_first, setup), list(seeds)):
        finished.append(turn)
        counter.add(1)
    labelled = [*policies.items(), *([(CONTROL, Policy(generated_share=0.0))] if control else [])]
    chains = [
        Chain(label, policy, number, first)
        for number, first in zip(seeds, finished)
        for label, policy in labelled
    ]
    loops: list[tuple[Loop, list[Turn]]] = []
    for found in place.map(partial(_run, setup, iterations, tell), chains):
        loops.append(found)
        counter.add(iterations if tell is None else iterations + 1 - len(found[1]))
    return finished, loops


class _Counter:
    """How many iterations are done; says so."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0
        self.add(0)

    def add(self, count: int) -> None:
        """Count more iterations as done."""
        self.done += count
        if self.progress:
            self.progress("simulate", self.done, self.total)


def _check(iterations: int, seeds: Sequence[int], fresh_share: float, temperature: float, n: int) -> None:
    if iterations < 1:
        raise BadSetting(f"iterations is {iterations}, but a loop needs at least 1")
    if not seeds or len(set(seeds)) < len(seeds):
        raise BadSetting(f"seeds is {tuple(seeds)}; give at least one, each once")
    if not 0.0 <= fresh_share <= 1.0:
        raise BadSetting(f"fresh_share is {fresh_share}, but must be a share from 0 to 1")
    if not temperature > 0.0:
        raise BadSetting(f"temperature is {temperature}, but must be above 0")
    if n < 0 or 0 < n < 20:
        raise BadSetting(f"n is {n}, but a loop needs at least 20 texts an iteration (0: {DEFAULT_N})")


def _policies(cycles: Sequence[Any], fresh_share: float) -> dict[str, Policy]:
    """Return label -> policy; the label is what the user wrote: a cycle may be run with several settings."""
    specs = [cycles] if isinstance(cycles, str) else list(cycles)
    flat = [piece for spec in specs for piece in (spec.split() if isinstance(spec, str) else [spec])]
    found: dict[str, Policy] = {}
    for spec in flat:
        cycle = registry.make("cycles", spec)
        label = spec if isinstance(spec, str) else registry.spec_of(cycle)
        if label in found or label in (CONTROL, "first"):
            raise BadSetting(f"cycle {label!r} is given twice; give each once, or with other settings")
        own = getattr(cycle, "fresh_share", 0.0)
        found[label] = cycle.policy().with_fresh(fresh_share) if fresh_share and not own else cycle.policy()
    if not found:
        raise BadSetting("no cycle is given; try full (see: karat list cycles)")
    return found


def _rows(n: int, size: int | None) -> int:
    if size is None:
        return n or DEFAULT_N
    if n > size:
        raise NotEnoughData(f"n is {n}, but {size} human records can be used (a tenth is held out); lower n")
    return n or min(DEFAULT_N, size)


def _data_warnings(
    policies: dict[str, Policy], n: int, size: int | None, iterations: int, control: bool
) -> list[Warned]:
    if size is None:
        return []
    fresh = max(needed(policy, n)[1] for policy in policies.values())
    wanted = n + iterations * max(n if control else 0, fresh)
    if wanted <= size:
        return []
    return [
        Warned(
            "human_data_reused",
            f"fresh human data would take {wanted:,} records, but {size:,} can be used: rows are dealt "
            "again, so that `fresh` rows and the control are less fresh than they should be; "
            "lower n or iterations",
        )
    ]


def _gate(runs: Iterable[Loop]) -> list[Warned]:
    found = []
    for seed, valid in {loop.seed: loop.iterations[0].measures.valid for loop in runs}.items():
        if valid is not None and valid < GATE:
            found.append(
                Warned(
                    "weak_model",
                    f"seed {seed}: only {valid:.0%} of the first model's texts are valid (at least "
                    f"{GATE:.0%} are needed), so that the loop shows the model's weakness; train "
                    f"longer (gpt:steps=...) "
                    "or make the task easier",
                )
            )
    return found


# --- the loop itself; the functions are at module level, so that other processes can run them -----


def _first(setup: Setup, seed: int) -> Turn:
    """Run iteration 0, which all cycles of a seed share."""
    batch = human_batch(setup.source(seed).draw(setup.n, turn=0))
    return _turn(setup, batch, "first", seed, 0)


def _run(
    setup: Setup, iterations: int, tell: Callable[[int], None] | None, chain: Chain
) -> tuple[Loop, list[Turn]]:
    """Run the iterations of one chain."""
    source = setup.source(chain.seed)
    pool = human_batch(source.draw(setup.n, turn=0))
    turns, ended = [chain.first], ""
    generated, fresh = needed(chain.policy, setup.n)
    for t in range(1, iterations + 1):
        written = turns[-1].texts
        if generated > len(written):
            # A cycle may add more than n rows: the rest is written twice, which is what a
            # larger sample tends to.
            written = tuple(written[i % len(written)] for i in range(generated))
        made = Batch(written, (t - 1,) * len(written))
        fresh_texts = source.draw(fresh, turn=t) if fresh else []
        pool, batch = advance(
            chain.policy, pool, made, fresh_texts, n=setup.n, seed=derived(chain.label, chain.seed, t)
        )
        turns.append(_turn(setup, batch, chain.label, chain.seed, t))
        if tell:
            tell(1)
        if (
            turns[-1].row.measures.distinct == 1
            and chain.policy.generated_share == 1.0
            and chain.policy.keep == "none"
        ):
            ended = f"collapsed: one text is left at iteration {t}"
            break
    return Loop(chain.label, chain.seed, tuple(turn.row for turn in turns), ended), turns


def _turn(setup: Setup, batch: Batch, label: str, seed: int, t: int) -> Turn:
    """Train on a batch, write n texts and measure them; or read all that from the journal."""
    place = _journal_place(setup, batch, label, seed, t)
    kept = _kept(place)
    if kept is not None:
        return kept
    started = time.perf_counter()
    held_out = setup.source(seed).held_out(HELD_OUT)
    data = karat_records.from_rows(as_rows(batch, cycle=label, seed=seed, iteration=t), datatype="text")
    model = setup.trainer.fit(data, seed=derived("train", label, seed, t))
    texts = model.generate(
        setup.n, temperature=setup.temperature, seed=derived("write", label, seed, t)
    ).texts()
    measures = measure(
        [setup.task.tokens(text) for text in texts],
        _verdicts(setup.task, texts),
        known=setup.known,
        seed=seed,
    )
    history = getattr(model, "history", None)
    row = Iteration(
        iteration=t,
        measures=measures,
        trained_on=_trained_on(batch),
        real_loss=float(model.loss(held_out)) if hasattr(model, "loss") and held_out else None,
        training_loss=float(history.best_loss) if history is not None else None,
        seconds=time.perf_counter() - started,
    )
    turn = Turn(tuple(texts), row)
    _keep(place, turn)
    return turn


def _verdicts(task: Task, texts: Sequence[str]) -> list[Verdict] | None:
    if not task.verifies:
        return None
    verdicts: list[Verdict] = task.verify(texts)  # type: ignore[attr-defined]
    return verdicts


def _trained_on(batch: Batch) -> TrainedOn:
    made: dict[str, int] = {}
    for number in batch.made:
        if number >= 0:
            made[str(number)] = made.get(str(number), 0) + 1
    return TrainedOn(len(batch), batch.human, len(batch) - batch.human, made)


def derived(*parts: object) -> int:
    """Return a seed that depends on all parts, so that no two draws of a study share their chance."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big")


def _samples(firsts: Iterable[tuple[int, Turn]], loops: Sequence[tuple[Loop, list[Turn]]]) -> Records:
    """Return all texts that were written, each with the loop it comes from and its lineage."""
    rows: list[dict[str, Any]] = []
    batches = [("first", seed, turn) for seed, turn in firsts]
    batches += [(loop.cycle, loop.seed, turn) for loop, turns in loops for turn in turns[1:]]
    for label, seed, turn in batches:
        t = turn.row.iteration
        written = Batch(turn.texts, (t,) * len(turn.texts))
        for row in as_rows(written, cycle=label, seed=seed, iteration=t):
            rows.append({**row, "loop": f"{label}:{seed}:{t}"})
    return karat_records.from_rows(rows, datatype="text", path="<simulate>")


# --- the journal: a file an iteration -------------------------------------------------------------


def _journal_place(setup: Setup, batch: Batch, label: str, seed: int, t: int) -> Path | None:
    if not setup.journal:
        return None
    # The name holds a hash of the training rows, so that a changed policy or task can never meet an old file.
    digest = hashlib.sha256(f"{__version__}|{setup.key()}|{label}|{seed}|{t}".encode())
    digest.update("\n".join(batch.texts).encode("utf-8", "replace"))
    return Path(setup.journal) / f"{digest.hexdigest()[:20]}.json"


def _kept(place: Path | None) -> Turn | None:
    if place is None or not place.exists():
        return None
    import cattrs

    try:
        return cattrs.structure(json.loads(place.read_text("utf-8")), Turn)
    except Exception:
        return None  # written by other code, or cut off: the iteration is simply run again


def _keep(place: Path | None, turn: Turn) -> None:
    if place is None:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps(asdict(turn), ensure_ascii=False), "utf-8")
    os.replace(temporary, place)
