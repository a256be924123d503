"""One loop: what a chain of iterations keeps, trains, writes, selects and measures. Knows no executor.

Each iteration is a file in the journal, named by all that it depends on, so that none is done twice.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from karat import records as karat_records
from karat import registry
from karat.errors import BadSetting
from karat.records import Records
from karat.simulation.audited import Measured, apart, audited
from karat.simulation.base import Batch, Policy, Source, Task, Verdict, advance, as_rows, human_batch, needed
from karat.simulation.measures import measure
from karat.simulation.result import Iteration, TrainedOn
from karat.simulation.selecting import Chosen, chosen, detecting
from karat.version import __version__

HELD_OUT = 500
"""Human texts on which a model's loss is taken."""
FIRST = "first"
"""The label of iteration 0, which all cycles of a seed share."""


@dataclass(frozen=True)
class Shared:
    """What all jobs of a study have in common; survives pickling.

    trainers: the models of a cycle take them in turn. continued: whether each model goes on from the one
    before it, where it otherwise begins from scratch. journal: a folder, or nothing.
    """

    task: Task
    trainers: tuple[Any, ...]
    human: Records | None = None
    continued: bool = False
    journal: str = ""

    def source(self, seed: int) -> Source:
        """Return the source of real data of one seed."""
        return self.task.source(self.human, seed=seed)

    def key(self) -> str:
        """Return what the results depend on, as text."""
        human = "" if self.human is None else self.human.fingerprint
        trainers = "+".join(map(_signed, self.trainers))
        return "|".join((__version__, _signed(self.task), trainers, str(self.continued), human))


def _signed(part: Any) -> str:
    """Return a part's settings and where its class stands: the user's own may bear a name that is taken."""
    module = type(part).__module__.replace("__mp_main__", "__main__")  # the same one in a worker process
    return f"{module}.{type(part).__qualname__}|{registry.signature(part)}"


@dataclass(frozen=True)
class Turn:
    """One finished iteration.

    texts: what the models wrote, n in all, from which everything is measured. offered: for each model, the
    texts that may become training data; empty where these are the first of `texts`.
    """

    texts: tuple[str, ...]
    row: Iteration
    offered: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Job:
    """One cycle with one seed, temperature and size; `first` is its iteration 0 where that is known."""

    label: str
    policy: Policy
    seed: int
    iterations: int
    temperature: float
    n: int
    first: Turn | None = None

    @property
    def plain(self) -> bool:
        """Whether iteration 0 is like that of any other cycle: n texts of one model are all it needs."""
        policy = self.policy
        return policy.models == 1 and policy.selection.by == "none" and needed(policy, self.n)[0] <= self.n


@dataclass
class Chain:
    """The state of one job: for each model what was kept and what is trained on next."""

    shared: Shared
    job: Job
    source: Source = field(init=False)
    pools: list[Batch] = field(init=False)
    batches: list[Batch] = field(init=False)
    models: list[Any] = field(default_factory=list)
    support: list[tuple[str, ...]] = field(init=False)
    known: frozenset[tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        job, task = self.job, self.shared.task
        self.source = self.shared.source(job.seed)
        start = human_batch(self.source.draw(job.n, turn=0))
        self.pools = [start] * job.policy.models
        self.batches = [start] * job.policy.models
        self.support = [tuple(task.tokens(text)) for text in self.source.held_out(job.n)]
        self.known = frozenset(tuple(task.tokens(text)) for text in start.texts)

    # --- the next training data ---------------------------------------------------------------------

    def advance(self, turn: Turn, t: int) -> str:
        """Make the training data of iteration t from what the last models wrote; say so if there are none."""
        job, policy, n = self.job, self.job.policy, self.job.n
        generated, fresh = needed(policy, n)
        real = list(self.source.draw(fresh * policy.models, turn=t, first=n)) if fresh else []
        offered = turn.offered or (turn.texts,)
        fed = _fed(policy, offered, generated, t, derived("feed", job.label, job.seed, t))
        if generated and not any(len(batch) for batch in fed):
            return f"starved: the selection took none of the texts of iteration {t - 1}"
        for number, batch in enumerate(fed):
            weigh = None
            if policy.selection.by == "detector":
                # Half of what was written teaches the detector, the other half may be drawn.
                weigh = detecting(
                    policy.selection,
                    self.source.held_out(n),
                    turn.texts,
                    seed=derived("detect", job.label, job.seed, t),
                )
            self.pools[number], self.batches[number] = advance(
                policy,
                self.pools[number],
                batch,
                real[number * fresh : (number + 1) * fresh],
                n=n,
                seed=derived(job.label, job.seed, t, *((number,) if number else ())),
                weigh=weigh,
            )
            if not len(self.batches[number]):
                return f"starved: no row is left to train on at iteration {t}"
        return ""

    # --- one iteration ------------------------------------------------------------------------------

    def turn(self, t: int) -> Turn:
        """Train, write, select and measure; or read all that from the journal."""
        place = self._place(t)
        kept = _kept(place)
        if kept is not None and not self.shared.continued:
            return kept
        if kept is not None:
            # The models of the next iteration begin with these.
            models = [self._load(place, number) for number in range(self.job.policy.models)]
            if all(model is not None for model in models):
                self.models = models
                return kept
        started = time.perf_counter()
        self.models = [self._fit(t, number, place) for number in range(len(self.batches))]
        found = self._written(t, started)
        if self.shared.continued:
            for number, model in enumerate(self.models):
                self._save(place, number, model)
        _keep(place, found)
        return found

    def _fit(self, t: int, number: int, place: Path | None) -> Any:
        job, policy = self.job, self.job.policy
        label = FIRST if t == 0 else job.label
        several = policy.models > 1
        data = karat_records.from_rows(
            as_rows(
                self.batches[number],
                cycle=label,
                seed=job.seed,
                iteration=t,
                model=number if several else None,
                first="" if several else FIRST,
            ),
            datatype="text",
        )
        trainer = self.shared.trainers[number % len(self.shared.trainers)]
        more: dict[str, Any] = {}
        if self.shared.continued and self.models:
            more["start"] = self.models[number]
        # Training of more than a minute goes on from here after a kill.
        half_done = None if place is None else place.with_suffix(f".{number}.training")
        if half_done is not None and "cache" in inspect.signature(trainer.fit).parameters:
            half_done.parent.mkdir(parents=True, exist_ok=True)
            more["cache"] = half_done
        parts = ("train", label, job.seed, t, *((number,) if number else ()))
        model = trainer.fit(data, seed=derived(*parts), **more)
        if not hasattr(model, "generate"):
            raise BadSetting(
                f"{_trainer_of(self.shared, number)}: its models have no generate(n, temperature=, seed=); "
                "take gpt or emulator"
            )
        if half_done is not None:
            half_done.unlink(missing_ok=True)
        return model

    def _written(self, t: int, started: float) -> Turn:
        job, policy, task = self.job, self.job.policy, self.shared.task
        label = FIRST if t == 0 else job.label
        found: list[Chosen] = []
        for number, model in enumerate(self.models):

            def write(n: int, again: int, model: Any = model, number: int = number) -> Records:
                parts = (
                    "write",
                    label,
                    job.seed,
                    t,
                    *((number,) if number else ()),
                    *((again,) if again else ()),
                )
                made: Records = model.generate(n, temperature=job.temperature, seed=derived(*parts))
                if len(made) != n:
                    raise BadSetting(
                        f"{_trainer_of(self.shared, number)}: its model wrote {len(made):,} of {n:,} texts; "
                        "generate(n, temperature=, seed=) must write n"
                    )
                return made

            found.append(
                chosen(
                    policy,
                    write,
                    n=job.n,
                    judge=partial(_judged, task) if task.verifies else None,
                    seed=derived("select", job.label, job.seed),
                )
            )
        shares = [share_of(job.n, policy.models, number) for number in range(policy.models)]
        texts = tuple(text for share, one in zip(shares, found) for text in one.texts[:share])
        row = self._measured(t, texts, found, started)
        return Turn(texts, row, () if job.plain else tuple(one.offered for one in found))

    def _measured(self, t: int, texts: Sequence[str], found: list[Chosen], started: float) -> Iteration:
        job, task = self.job, self.shared.task
        tokens = [task.tokens(text) for text in texts]
        verdicts = verdicts_of(task, texts)
        measures = measure(tokens, verdicts, known=self.known, support=self.support, seed=job.seed)
        held_out = self.source.held_out(HELD_OUT)
        losses = [float(model.loss(held_out)) for model in self.models if held_out and hasattr(model, "loss")]
        histories = [getattr(model, "history", None) for model in self.models]
        best = [float(history.best_loss) for history in histories if history is not None]
        written = sum(one.written for one in found)
        accepted = sum(one.accepted for one in found)
        return Iteration(
            iteration=t,
            measures=measures,
            trained_on=_trained_on(self.batches),
            real_loss=sum(losses) / len(losses) if losses else None,
            training_loss=sum(best) / len(best) if best else None,
            seconds=time.perf_counter() - started,
            audited=self._audited(texts),
            written=written,
            accepted=accepted / written
            if job.policy.selection.by in ("verifier", "confidence", "surprise")
            else None,
            by_model=self._by_model(found) if len(found) > 1 else {},
        )

    def _audited(self, texts: Sequence[str]) -> dict[str, Measured]:
        """The audit's metrics beside held-out real texts, where the task asks for them."""
        if not audits(self.shared.task):
            return {}
        return audited(
            texts,
            self.source.held_out(self.job.n),
            metrics=audits(self.shared.task),
            seed=self.job.seed,
            learned_from=apart(self.source.draw(self.job.n, turn=0))[0],
        )

    def _by_model(self, found: list[Chosen]) -> dict[str, dict[str, float]]:
        """Diversity and correctness of each model's own texts: what they share shows against the whole."""
        told = {}
        for number, one in enumerate(found):
            texts = one.texts
            m = measure(
                [self.shared.task.tokens(text) for text in texts],
                verdicts_of(self.shared.task, texts),
                seed=self.job.seed,
            )
            told[str(number)] = {"levenshtein": m.levenshtein, "distinct": float(m.distinct)}
            if m.correct is not None:
                told[str(number)]["correct"] = m.correct
        return told

    # --- the journal: a file an iteration -------------------------------------------------------------

    def _place(self, t: int) -> Path | None:
        if not self.shared.journal:
            return None
        job = self.job
        # The name holds a hash of the training rows, so that a changed policy or task can never meet an
        # old file.
        label, policy = (FIRST, "") if t == 0 and job.plain else (job.label, str(job.policy))
        parts = (self.shared.key(), label, policy, job.seed, job.temperature, job.n, t)
        digest = hashlib.sha256("|".join(map(str, parts)).encode())
        for batch in self.batches:
            digest.update("\n".join(batch.texts).encode("utf-8", "replace"))
            digest.update(repr((batch.made, batch.models)).encode())
        return Path(self.shared.journal) / f"{digest.hexdigest()[:20]}.json"

    def _save(self, place: Path | None, number: int, model: Any) -> None:
        if place is not None and hasattr(model, "save"):
            model.save(place.with_suffix("") / str(number))

    def _load(self, place: Path | None, number: int) -> Any:
        trainer = self.shared.trainers[number % len(self.shared.trainers)]
        folder = None if place is None else place.with_suffix("") / str(number)
        if folder is None or not folder.exists() or not hasattr(trainer, "load"):
            return None
        return trainer.load(folder)


def _trainer_of(shared: Shared, number: int) -> str:
    return f"trainer {registry.name_of(shared.trainers[number % len(shared.trainers)])!r}"


def share_of(n: int, models: int, number: int) -> int:
    """Return how many of the n measured texts one of several models contributes."""
    return n // models + (number < n % models)


def _fed(policy: Policy, offered: Sequence[Sequence[str]], generated: int, t: int, seed: int) -> list[Batch]:
    """Return for each model the texts that it is fed, by who feeds whom."""
    if policy.feed == "own" or len(offered) == 1:
        return [
            Batch(tuple(texts), (t - 1,) * len(texts), _models(policy, n, texts))
            for n, texts in enumerate(offered)
        ]
    if policy.feed == "ring":
        turned = [(number - 1) % len(offered) for number in range(len(offered))]
        return [Batch(tuple(offered[n]), (t - 1,) * len(offered[n]), (n,) * len(offered[n])) for n in turned]
    everything = [(text, number) for number, texts in enumerate(offered) for text in texts[:generated]]
    Random(f"pool:{seed}").shuffle(everything)
    dealt = [everything[number :: len(offered)] for number in range(len(offered))]
    return [
        Batch(tuple(text for text, _ in part), (t - 1,) * len(part), tuple(number for _, number in part))
        for part in dealt
    ]


def _models(policy: Policy, number: int, texts: Sequence[str]) -> tuple[int, ...]:
    return (number,) * len(texts) if policy.models > 1 else ()


def audits(task: Any) -> tuple[str, ...]:
    """Return the audit metrics that a task asks for."""
    return tuple(getattr(task, "audit", ()))


def verdicts_of(task: Task, texts: Sequence[str]) -> list[Verdict] | None:
    """Return what the task's verifier says of texts; None where it has none."""
    if not task.verifies:
        return None
    verdicts: list[Verdict] = task.verify(texts)  # type: ignore[attr-defined]
    return verdicts


def _judged(task: Task, texts: Sequence[str]) -> list[bool]:
    return [verdict.correct for verdict in verdicts_of(task, texts) or ()]


def _trained_on(batches: Sequence[Batch]) -> TrainedOn:
    made: dict[str, int] = {}
    for batch in batches:
        for number in batch.made:
            if number >= 0:
                made[str(number)] = made.get(str(number), 0) + 1
    rows, human = sum(map(len, batches)), sum(batch.human for batch in batches)
    return TrainedOn(rows, human, rows - human, made)


def derived(*parts: object) -> int:
    """Return a seed that depends on all parts, so that no two draws of a study share their chance."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big")


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
    temporary.write_text(json.dumps(asdict(turn)), "utf-8")  # in ASCII, which half a surrogate pair fits in
    os.replace(temporary, place)
