"""The attribute values of the rows of a class: what a task wants, given to the sampler. Knows no recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from karat.errors import BadSetting
from karat.generation.constraints import Joint, clauses
from karat.generation.sampler import Mode, combinations, quotas
from karat.generation.spaces import Space
from karat.generation.tasks import Task


@dataclass(frozen=True)
class Options:
    """What may be drawn for a class, as the sampler takes it."""

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    forbidden: tuple[dict[int, set[int]], ...]
    joint: Mapping[tuple[int, int], list[list[float]]]


def options(task: Task, label: str | None, names: Sequence[str] = ()) -> Options:
    """What a task offers for a class; values that have no share are left out.

    Raises BadSetting naming the class where the constraints leave nothing.
    """
    used = [a for a in task.attributes if a.of(label) and (not names or a.name in names)]
    titles = tuple(a.name for a in used)
    joint = _joint(task.joint, label, titles)
    shares = []
    for j, attribute in enumerate(used):
        given = dict(attribute.shares(label))
        if not attribute.weighted(label) and (sums := _margin(joint, j)):
            given = {value: sums.get(value, 0.0) for value in given}
        shares.append({value: share for value, share in given.items() if share > 0})
    values = tuple(tuple(share) for share in shares)
    forbidden = tuple(clauses(task.constraints, label, titles, values))
    if any(not clause for clause in forbidden) or Space([len(v) for v in values], forbidden).empty():
        raise BadSetting(
            f"the {len(task.constraints)} [[constraints]] leave no combination of attribute values for label "
            f"{label!r}; remove one"
        )
    tables = {
        (a, b): [[shares.get((left, right), 0.0) for right in values[b]] for left in values[a]]
        for (a, b), shares in joint.items()
    }
    return Options(titles, values, tuple(tuple(share.values()) for share in shares), forbidden, tables)


def draws(
    task: Task, label: str | None, n: int, *, seed: int, mode: Mode = "covering", names: Sequence[str] = ()
) -> Iterator[dict[str, str]]:
    """Yield the attribute values of n rows of a class, as `sampler.combinations` draws them.

    Values, shares, constraints and (covering) joint shares are the task's. names: these attributes alone
    (default: all that the class has values of).
    """
    offered = options(task, label, names)
    numbers = combinations(
        [len(v) for v in offered.values],
        n,
        seed=seed,
        shares=offered.shares,
        mode=mode,
        forbidden=offered.forbidden,
        joint=offered.joint if mode == "covering" else None,
    )
    return (
        {name: v[i] for name, v, i in zip(offered.names, offered.values, row, strict=True)} for row in numbers
    )


def label_sets(task: Task, n: int, *, seed: int) -> list[tuple[str, ...]]:
    """The labels of each of n rows: one, or of a multi-label task several, the first being `label`.

    As many rows as the task's cardinality says have so many labels (default: one), spread over the run; each
    label comes as often as its share, and the pairs of labels vary.
    """
    names = task.label_names
    if not names:
        return [()] * n
    wanted = task.cardinality if task.multi_label and task.cardinality else {1: 1.0}
    counts = quotas(wanted, n)
    turns = sorted(((turn + 0.5) / count, size) for size, count in counts.items() for turn in range(count))
    share = np.array([task.shares.get(name, 0.0) if task.shares else 1.0 for name in names])
    share /= share.sum()
    generator = np.random.default_rng(seed)
    came, together = np.zeros(len(names)), np.zeros((len(names), len(names)))
    rows: list[tuple[str, ...]] = []
    for _, size in turns:
        behind = share * (came.sum() + size) - came + 0.1 * generator.random(len(names))
        behind[share == 0] = -np.inf
        chosen: list[int] = []
        for _ in range(min(size, int((share > 0).sum()))):
            # A label that was seldom beside those chosen goes before one that often was.
            best = int((behind - together[chosen].sum(axis=0) / (1 + len(rows)) ** 0.5).argmax())
            chosen.append(best)
            behind[best] = -np.inf
        for label in chosen:
            came[label] += 1
            together[label, chosen] += 1
        rows.append(tuple(names[i] for i in chosen))
    return rows


def _joint(
    given: Sequence[Joint], label: str | None, titles: Sequence[str]
) -> dict[tuple[int, int], dict[tuple[str, str], float]]:
    """Shares of value pairs by the numbers of their attributes; those of the class go before those of all."""
    found: dict[tuple[int, int], dict[tuple[str, str], float]] = {}
    for one in sorted(given, key=lambda one: one.label == ""):
        left, right = one.attributes
        if one.label not in ("", label) or left not in titles or right not in titles:
            continue
        a, b = titles.index(left), titles.index(right)
        pairs = {((x, y) if a < b else (y, x)): share for x, y, share in one.shares}
        found.setdefault((min(a, b), max(a, b)), pairs)
    return found


def _margin(joint: Mapping[tuple[int, int], Mapping[tuple[str, str], float]], j: int) -> dict[str, float]:
    """The shares of the values of attribute j that joint shares imply; empty without any."""
    for pair, shares in joint.items():
        if j in pair:
            sums: dict[str, float] = {}
            for values, share in shares.items():
                value = values[pair.index(j)]
                sums[value] = sums.get(value, 0.0) + share
            return sums
    return {}
