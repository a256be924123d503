"""The plan: every row's label, attributes, seed and prompt, before the first call. Knows no provider."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from karat import registry
from karat.errors import BadSetting, InputError
from karat.generation.base import Message, Recipe, Request
from karat.generation.sampler import combinations, quotas
from karat.generation.tasks import Task


@dataclass(frozen=True)
class PlanRow:
    """One row to be generated."""

    id: str
    label: str | None
    attributes: dict[str, str]
    seed: int
    recipe: str
    prompt: tuple[Message, ...]
    temperature: float
    top_p: float
    max_tokens: int

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
            schema=schema or {},
        )


def make_plan(
    task: Task,
    recipe: Recipe,
    n: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    answer_tokens: int = 256,
) -> tuple[PlanRow, ...]:
    """Plan n rows: labels by quota, attribute values even and without repeats until all are used.

    The rows of the classes take turns, so that a run which stops early is balanced too.
    """
    if n < 1:
        raise BadSetting(f"n={n} plans no row; ask for at least 1")
    wanted = {name: task.shares.get(name, 0.0) for name in task.label_names} if task.shares else {}
    shares: dict[str | None, float] = {
        name: wanted.get(name, 1.0) if wanted else 1.0 for name in task.label_names
    } or {None: 1.0}
    counts = quotas({str(i): share for i, share in enumerate(shares.values())}, n)
    spec = registry.spec_of(recipe)
    queues = {
        label: iter(_combined(task, recipe, label, counts[str(i)], seed)) for i, label in enumerate(shares)
    }
    order = sorted(
        ((turn + 0.5) / counts[str(i)], i, label)
        for i, label in enumerate(shares)
        for turn in range(counts[str(i)])
    )
    width = max(4, len(str(n)))
    rows = []
    for number, (_, _, label) in enumerate(order):
        attributes = next(queues[label])
        identity = f"s{seed}-{number:0{width}d}"
        rows.append(
            PlanRow(
                id=identity,
                label=label,
                attributes=attributes,
                seed=row_seed(seed, identity),
                recipe=spec,
                prompt=recipe.messages(task, label, attributes),
                temperature=temperature,
                top_p=top_p,
                max_tokens=answer_tokens,
            )
        )
    return tuple(rows)


def row_seed(seed: int, identity: str) -> int:
    """A number of 31 bits for one row; many servers take no more."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{identity}".encode()).digest()[:4], "big") >> 1


def _combined(task: Task, recipe: Recipe, label: str | None, n: int, seed: int) -> list[dict[str, str]]:
    """The attribute values of n rows of one class."""
    used = [a for a in task.attributes if a.of(label)] if recipe.uses_attributes else []
    values = [a.of(label) for a in used]
    shares = [[a.shares(label)[v] for v in a.of(label)] for a in used]
    # Zero shares are kept out: a value that nobody wants is not in the space.
    for j, weights in enumerate(shares):
        kept = [i for i, weight in enumerate(weights) if weight > 0]
        values[j], shares[j] = tuple(values[j][i] for i in kept), [weights[i] for i in kept]
    of_label = row_seed(seed, f"label {label}")
    drawn = combinations([len(v) for v in values], n, seed=of_label, shares=shares)
    return [{a.name: v[i] for a, v, i in zip(used, values, numbers)} for numbers in drawn]


def fingerprint(plan: tuple[PlanRow, ...]) -> str:
    """16 hexadecimal digits that change with any row."""
    digest = hashlib.sha256()
    for row in plan:
        digest.update(json.dumps(_plain(row), sort_keys=True, ensure_ascii=False).encode("utf-8", "replace"))
    return digest.hexdigest()[:16]


def _plain(row: PlanRow) -> dict[str, Any]:
    found = asdict(row)
    alone = len(row.prompt) == 1 and row.prompt[0].role == "user"
    found["prompt"] = row.prompt[0].content if alone else [asdict(message) for message in row.prompt]
    return found


def write_plan(plan: tuple[PlanRow, ...], path: str | os.PathLike[str]) -> Path:
    """Write a plan as JSONL, one row a line, to be read and edited."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    with partial.open("w", encoding="utf-8", errors="replace") as file:
        for row in plan:
            file.write(json.dumps(_plain(row), ensure_ascii=False) + "\n")
    partial.replace(target)
    return target


def read_plan(path: str | os.PathLike[str], task: Task) -> tuple[PlanRow, ...]:
    """Read a plan, as written or as edited. Raises InputError naming the line and the cure."""
    from karat.formats import read_rows

    rows: list[PlanRow] = []
    ids: set[str] = set()
    for line, found in read_rows(str(path)):
        where = f"{path}:{line}"
        prompt = found.get("prompt")
        if not prompt:
            raise InputError(f"{where}: no prompt; write one, or delete the row")
        identity = str(found.get("id") or f"plan-{line:05d}")
        if identity in ids:
            raise InputError(f"{where}: the id {identity!r} stands twice; rename one")
        ids.add(identity)
        label = found.get("label")
        if task.labels and label not in task.label_names:
            raise InputError(
                f"{where}: label {label!r} is not of the task (it has: {', '.join(task.label_names)})"
            )
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        attributes = found.get("attributes") or {}
        try:
            rows.append(
                PlanRow(
                    id=identity,
                    label=label,
                    attributes={str(k): str(v) for k, v in attributes.items()},
                    seed=int(found.get("seed", row_seed(0, identity))),
                    recipe=str(found.get("recipe", "plan")),
                    prompt=tuple(Message(str(m["role"]), str(m["content"])) for m in messages),
                    temperature=float(found.get("temperature", 1.0)),
                    top_p=float(found.get("top_p", 1.0)),
                    max_tokens=int(found.get("max_tokens", 256)),
                )
            )
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"{where}: cannot be read as a row of a plan ({error}); mend it") from None
    if not rows:
        raise InputError(f"{path}: holds no row; plan some with --dry-run")
    return tuple(rows)
