"""The plan: every row's label, attributes, seed and prompt, before the first call. Knows no provider."""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

from karat import registry
from karat.errors import BadSetting, InputError
from karat.generation.base import Message, Plot, Recipe, Request, Slot
from karat.generation.draws import draws, label_sets
from karat.generation.sampler import quotas
from karat.generation.tasks import Task

Sampling = Literal["covering", "independent"]

# Fields that stand in a plan file only where they differ from this.
_OPTIONAL: dict[str, Any] = {
    "material": {},
    "schema": {},
    "parents": (),
    "yields": 1,
    "logprobs": 0,
    "round": 0,
}


@dataclass(frozen=True)
class PlanRow:
    """One row to be generated: what a recipe's slot says, and how the answer is drawn."""

    id: str
    label: str | None
    attributes: dict[str, str]
    seed: int
    recipe: str
    prompt: tuple[Message, ...]
    temperature: float
    top_p: float
    max_tokens: int
    material: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    yields: int = 1
    logprobs: int = 0
    round: int = 0

    def request(self, index: int, replicate: int = 0, schema: Mapping[str, Any] | None = None) -> Request:
        """The call that this row makes; another replicate asks the same again."""
        return Request(
            id=self.id,
            messages=self.prompt,
            label=self.label,
            attributes=self.attributes,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=self.seed,
            replicate=replicate,
            index=index,
            schema=self.schema or schema or {},
            logprobs=self.logprobs,
        )

    @property
    def slot(self) -> Slot:
        """The row as the recipe planned it."""
        return Slot(
            self.prompt,
            self.label,
            self.attributes,
            self.material,
            self.yields,
            self.parents,
            self.id,
            self.schema,
            self.max_tokens,
            self.temperature,
            self.logprobs,
        )


@dataclass(frozen=True, eq=False)
class Plan(Sequence[PlanRow]):
    """The rows of a plan: in memory, or in the file `path`, from which they are read as they are needed."""

    rows: tuple[PlanRow, ...] = ()
    path: str = ""
    size: int = 0

    @staticmethod
    def of(rows: Iterable[PlanRow], folder: Path | None) -> Plan:
        """Keep rows: in a file of the folder, named by their content, or in memory where there is none."""
        if folder is None:
            found = tuple(rows)
            return Plan(found, size=len(found))
        folder.mkdir(parents=True, exist_ok=True)
        partial, digest, count = folder / f"plan-{os.getpid()}.part", hashlib.sha256(), 0
        with partial.open("w", encoding="utf-8", errors="replace") as file:
            for row in rows:
                count += 1
                line = _line(row)
                digest.update(line.encode("utf-8", "replace"))
                file.write(line + "\n")
        path = folder / f"plan-{digest.hexdigest()[:16]}.jsonl"
        partial.replace(path)
        return Plan(path=str(path.absolute()), size=count)  # read from any folder, as by a report

    def extended(self, rows: Iterable[PlanRow]) -> Plan:
        """The plan with the rows of a later round."""
        if not self.path:
            found = (*self.rows, *rows)
            return Plan(found, size=len(found))
        count = self.size
        with open(self.path, "a", encoding="utf-8", errors="replace") as file:
            for row in rows:
                count += 1
                file.write(_line(row) + "\n")
        return Plan(path=self.path, size=count)

    def __iter__(self) -> Iterator[PlanRow]:
        if not self.path:
            return iter(self.rows)
        return islice(_read_rows(self.path), self.size)

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, place: int) -> PlanRow: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[PlanRow, ...]: ...
    def __getitem__(self, place: int | slice) -> PlanRow | tuple[PlanRow, ...]:
        if isinstance(place, slice):
            return tuple(self)[place] if self.path else self.rows[place]
        if not self.path:
            return self.rows[place]
        at = range(self.size)[place]
        return next(islice(self, at, None))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

    __hash__ = None  # type: ignore[assignment]

    def pick(self, ids: Iterable[str]) -> dict[str, PlanRow]:
        """The rows of some ids; the id of a record of a row of several names that row."""
        wanted = set(ids)
        wanted |= {one.rpartition("-")[0] for one in wanted}
        return {row.id: row for row in self if row.id in wanted}


def _read_rows(path: str) -> Iterator[PlanRow]:
    """The rows of a plan file that we wrote ourselves."""
    from karat.formats import read_rows

    return (_row(found, f"{path}:{line}", line) for line, found in read_rows(path))


def make_plan(
    task: Task,
    recipe: Recipe,
    n: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    answer_tokens: int = 256,
    sampling: Sampling = "covering",
) -> tuple[PlanRow, ...]:
    """Plan n rows: labels by quota, attribute values even and without repeats until all are used.

    The rows of the classes take turns, so that a run which stops early is balanced too.
    """
    plot = Plot(task, n, seed, sampling=sampling)
    return tuple(compose(plot, recipe, temperature=temperature, top_p=top_p, answer_tokens=answer_tokens))


def compose(
    plot: Plot,
    recipe: Recipe,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    answer_tokens: int = 256,
    first: int = 0,
    width: int = 0,
) -> Iterator[PlanRow]:
    """Yield the rows that a recipe plans, numbered from `first`; each has a seed of its own."""
    if plot.n < 1:
        raise BadSetting(f"n={plot.n} plans no row; ask for at least 1")
    own = getattr(recipe, "compose", None)
    found: Iterator[Slot] = slots(plot, recipe) if own is None else own(plot)
    spec = registry.spec_of(recipe)
    digits = width or max(4, len(str(plot.n)))
    ids: set[str] = set()
    for number, slot in enumerate(found, first):
        identity = slot.id or f"s{plot.seed}-{number:0{digits}d}"
        assert identity not in ids or not slot.id, f"the recipe plans {identity!r} twice"
        if slot.id:
            ids.add(identity)
        yield PlanRow(
            id=identity,
            label=slot.label,
            attributes=dict(slot.attributes),
            seed=row_seed(plot.seed, identity),
            recipe=spec,
            prompt=tuple(slot.messages),
            temperature=temperature if slot.temperature is None else slot.temperature,
            top_p=top_p,
            max_tokens=slot.max_tokens or answer_tokens * max(1, slot.yields),
            material=dict(slot.material),
            schema=dict(slot.schema),
            parents=tuple(slot.parents),
            yields=slot.yields,
            logprobs=slot.logprobs,
            round=plot.round,
        )


def slots(plot: Plot, recipe: Recipe) -> Iterator[Slot]:
    """The usual rows: labels by quota and in turns, attribute values as the sampler draws them.

    The prompt is what the recipe's `messages` gives; a recipe that plans its own rows replaces it.
    """
    task = plot.task
    if task.multi_label and task.labels:
        yield from _several(plot, recipe)
        return
    wanted = {name: task.shares.get(name, 0.0) for name in task.label_names} if task.shares else {}
    shares: dict[str | None, float] = {
        name: wanted.get(name, 1.0) if wanted else 1.0 for name in task.label_names
    } or {None: 1.0}
    counts = quotas({str(i): share for i, share in enumerate(shares.values())}, plot.n)
    queues = {label: _combined(task, recipe, label, counts[str(i)], plot) for i, label in enumerate(shares)}
    turns = [_turns(i, label, counts[str(i)]) for i, label in enumerate(shares)]
    for _, _, label in heapq.merge(*turns, key=lambda one: one[:2]):
        attributes = next(queues[label])
        yield Slot(recipe.messages(task, label, attributes), label, attributes)


def _several(plot: Plot, recipe: Recipe) -> Iterator[Slot]:
    """Rows with several labels each; the first is `label`, and attributes are those of its class."""
    task = plot.task
    sets = label_sets(task, plot.n, seed=row_seed(plot.seed + plot.round, "labels"))
    counts = Counter(labels[0] for labels in sets)
    queues = {label: _combined(task, recipe, label, count, plot) for label, count in counts.items()}
    for labels in sets:
        attributes = next(queues[labels[0]])
        whole, name = task.together(labels)
        yield Slot(recipe.messages(whole, name, attributes), labels[0], attributes, {"labels": list(labels)})


def _turns(place: int, label: str | None, count: int) -> Iterator[tuple[float, int, str | None]]:
    """When each row of a class comes, as a share of all rows."""
    return (((turn + 0.5) / count, place, label) for turn in range(count))


def row_seed(seed: int, identity: str) -> int:
    """A number of 31 bits for one row; many servers take no more."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{identity}".encode()).digest()[:4], "big") >> 1


def _combined(task: Task, recipe: Recipe, label: str | None, n: int, plot: Plot) -> Iterator[dict[str, str]]:
    """The attribute values of n rows of one class."""
    if not recipe.uses_attributes or not any(a.of(label) for a in task.attributes):
        return ({} for _ in range(n))
    of_label = row_seed(plot.seed + plot.round, f"label {label}")
    return draws(task, label, n, seed=of_label, mode=plot.sampling)


def fingerprint(plan: Iterable[PlanRow]) -> str:
    """16 hexadecimal digits that change with any row."""
    digest = hashlib.sha256()
    for row in plan:
        digest.update(json.dumps(_plain(row), sort_keys=True, ensure_ascii=False).encode("utf-8", "replace"))
    return digest.hexdigest()[:16]


def _plain(row: PlanRow) -> dict[str, Any]:
    found = {name: getattr(row, name) for name in row.__dataclass_fields__}
    found = {
        name: value for name, value in found.items() if name not in _OPTIONAL or value != _OPTIONAL[name]
    }
    alone = len(row.prompt) == 1 and row.prompt[0].role == "user"
    found["prompt"] = (
        row.prompt[0].content if alone else [{"role": m.role, "content": m.content} for m in row.prompt]
    )
    return found


def _line(row: PlanRow) -> str:
    """A row as it stands in a plan file, without the end of its line."""
    return json.dumps(_plain(row), ensure_ascii=False)


def write_plan(plan: Iterable[PlanRow], path: str | os.PathLike[str]) -> Path:
    """Write a plan as JSONL, one row a line, to be read and edited."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    with partial.open("w", encoding="utf-8", errors="replace") as file:
        for row in plan:
            file.write(_line(row) + "\n")
    partial.replace(target)
    return target


def read_plan(path: str | os.PathLike[str], task: Task) -> tuple[PlanRow, ...]:
    """Read a plan, as written or as edited. Raises InputError naming the line and the cure."""
    from karat.formats import read_rows

    rows: list[PlanRow] = []
    ids: set[str] = set()
    for line, found in read_rows(str(path)):
        where = f"{path}:{line}"
        if not found.get("prompt") and not found.get("material"):
            raise InputError(f"{where}: no prompt; write one, or delete the row")
        row = _row(found, where, line)
        if row.id in ids:
            raise InputError(f"{where}: the id {row.id!r} stands twice; rename one")
        ids.add(row.id)
        known = row.label in task.label_names or (row.label is None and row.material)
        if task.labels and not known:
            raise InputError(
                f"{where}: label {row.label!r} is not of the task (it has: {', '.join(task.label_names)})"
            )
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: holds no row; plan some with --dry-run")
    return tuple(rows)


def _row(found: Mapping[str, Any], where: str, line: int) -> PlanRow:
    """One line of a plan file as a row. Raises InputError naming the line."""
    prompt = found.get("prompt")
    identity = str(found.get("id") or f"plan-{line:05d}")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    try:
        return PlanRow(
            id=identity,
            label=found.get("label"),
            attributes={str(k): str(v) for k, v in (found.get("attributes") or {}).items()},
            seed=int(found.get("seed", row_seed(0, identity))),
            recipe=str(found.get("recipe", "plan")),
            prompt=tuple(Message(str(m["role"]), str(m["content"])) for m in messages or ()),
            temperature=float(found.get("temperature", 1.0)),
            top_p=float(found.get("top_p", 1.0)),
            max_tokens=int(found.get("max_tokens", 256)),
            material=dict(found.get("material") or {}),
            schema=dict(found.get("schema") or {}),
            parents=tuple(map(str, found.get("parents") or ())),
            yields=int(found.get("yields", 1)),
            logprobs=int(found.get("logprobs", 0)),
            round=int(found.get("round", 0)),
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{where}: cannot be read as a row of a plan ({error}); mend it") from None
