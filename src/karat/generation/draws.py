"""The attribute values of the rows of a class: what a task wants, given to the sampler. Knows no recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from karat.errors import BadSetting
from karat.generation.constraints import Joint, clauses
from karat.generation.sampler import Mode, combinations
from karat.generation.spaces import Space
from karat.generation.tasks import Task


def draws(
    task: Task, label: str | None, n: int, *, seed: int, mode: Mode = "covering", names: Sequence[str] = ()
) -> Iterator[dict[str, str]]:
    """Yield the attribute values of n rows of a class, as `sampler.combinations` draws them.

    Values, shares, constraints and joint shares are the task's. names: these attributes alone (default: all).
    Raises BadSetting naming the class where its constraints permit nothing.
    """
    used = [a for a in task.attributes if a.of(label) and (not names or a.name in names)]
    titles = [a.name for a in used]
    joint = _joint(task.joint, label, titles) if mode == "covering" else {}
    shares = []
    for j, attribute in enumerate(used):
        given = dict(attribute.shares(label))
        if not attribute.weighted(label) and (sums := _margin(joint, j, titles)):
            given = {value: sums.get(value, 0.0) for value in given}
        shares.append({value: share for value, share in given.items() if share > 0})
    values = [tuple(share) for share in shares]
    forbidden = clauses(task.constraints, label, titles, values)
    if any(not clause for clause in forbidden) or Space([len(v) for v in values], forbidden).empty():
        raise BadSetting(
            f"the constraints leave no combination of attribute values for label {label!r}; remove one of the "
            f"{len(task.constraints)} [[constraints]] of the task"
        )
    tables: dict[tuple[int, int], Any] = {
        (a, b): [[joint[a, b].get((left, right), 0.0) for right in values[b]] for left in values[a]]
        for a, b in joint
    }
    numbers = combinations(
        [len(v) for v in values],
        n,
        seed=seed,
        shares=[list(share.values()) for share in shares] if used else None,
        mode=mode,
        forbidden=forbidden,
        joint=tables,
    )
    return ({name: v[i] for name, v, i in zip(titles, values, row)} for row in numbers)


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


def _margin(
    joint: dict[tuple[int, int], dict[tuple[str, str], float]], j: int, titles: Sequence[str]
) -> dict[str, float]:
    """The shares of the values of attribute j that the first of its joint shares implies; empty without one."""
    for pair, shares in joint.items():
        if j in pair:
            sums: dict[str, float] = {}
            for values, share in shares.items():
                value = values[pair.index(j)]
                sums[value] = sums.get(value, 0.0) + share
            return sums
    return {}
