"""Labels and preferences confirmed by votes of another model. Knows no provider: it asks nothing itself.

`requests` says what is to be asked, `read` what the answers come to; both are pure, so that votes that were
paid for are read again at no cost. Each vote sees the labels in an order of its own: models favour what
stands first. A vote that names no label, or several, is a vote for none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from karat.errors import BadSetting
from karat.generation.base import Message, Request, Response
from karat.generation.tasks import Task
from karat.texts.answers import read_label

_SYSTEM = "You check training data. Judge only what is shown, and follow the form of the answer."
_SIDES = ("A", "B")


@dataclass(frozen=True)
class Claim:
    """A record whose label is to be confirmed."""

    id: str
    text: str
    label: str


@dataclass(frozen=True)
class Pair:
    """A record of which is to be confirmed that `chosen` is the better answer to the prompt."""

    id: str
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Verdict:
    """What the votes on one record came to: `agreed` of `asked` votes were for its label.

    votes: what each vote was for, in order; None where it named nothing, or where no answer came.
    voted: what most votes were for, None where there is no such. reason: empty when confirmed.
    """

    id: str
    label: str
    agreed: int
    asked: int
    votes: tuple[str | None, ...]
    voted: str | None = None
    reason: str = ""


def quorum(spec: str) -> tuple[int, int]:
    """Votes needed and votes asked, from a setting such as 2/3. Raises BadSetting for anything else."""
    needed, _, asked = spec.partition("/")
    if not (needed.strip().isdigit() and asked.strip().isdigit() and 1 <= int(needed) <= int(asked) <= 99):
        raise BadSetting(f"votes={spec!r} is no quorum; write e.g. 2/3: two of three votes")
    return int(needed), int(asked)


# ------------------------------------------------------------------------------------------ labels


def requests(
    claims: Iterable[Claim], task: Task, *, votes: int = 3, seed: int = 0, temperature: float = 0.7
) -> list[Request]:
    """The votes to ask for: `votes` requests a record, named ID/vote1, ID/vote2 ...

    The record's own label is not told. Raises BadSetting for a task with fewer than two labels.
    """
    if len(task.labels) < 2:
        raise BadSetting("a label is confirmed among others; the task has fewer than two labels")
    found: list[Request] = []
    for claim in claims:
        for vote in range(votes):
            order = shuffled(task.label_names, claim.id, vote, seed)
            found.append(
                Request(
                    id=_name(claim.id, vote),
                    messages=(Message("system", _SYSTEM), Message("user", _question(claim, task, order))),
                    temperature=temperature,
                    max_tokens=48,
                    seed=seed,
                    replicate=vote,
                    index=len(found),
                )
            )
    return found


def shuffled(labels: Sequence[str], id: str, vote: int, seed: int) -> tuple[str, ...]:
    """The labels as one vote shows them: a permutation drawn for the record, turned by one place a vote."""
    order = list(labels)
    random.Random(f"{seed}:{id}").shuffle(order)
    turn = vote * max(1, len(order) // 3) % len(order)
    return tuple(order[turn:] + order[:turn])


def read(
    claims: Iterable[Claim],
    responses: Mapping[str, Response],
    task: Task,
    *,
    votes: int = 3,
    needed: int = 2,
) -> dict[str, Verdict]:
    """By record id, whether at least `needed` of the votes are for the label that the record has."""
    found = {}
    for claim in claims:
        answers = [responses.get(_name(claim.id, vote)) for vote in range(votes)]
        given = tuple(None if one is None else read_label(one.text, task.label_names) for one in answers)
        found[claim.id] = _verdict(claim.id, claim.label, given, answers, needed, "label")
    return found


def _name(id: str, vote: int) -> str:
    return f"{id}/vote{vote + 1}"


def _question(claim: Claim, task: Task, order: Sequence[str]) -> str:
    lines = []
    for name in order:
        told = task.definition(name)
        lines.append(f"- {name}: {told}" if told else f"- {name}")
    return (
        f"Which of these classes does the text below ({task.domain}) belong to?\n\nClasses:\n"
        + "\n".join(lines)
        + f'\n\nText:\n"""\n{claim.text}\n"""\n\nAnswer with the name of one class and nothing else.'
    )


def _verdict(
    id: str,
    label: str,
    given: tuple[str | None, ...],
    answers: Sequence[Response | None],
    needed: int,
    what: str,
) -> Verdict:
    counts = Counter(one for one in given if one is not None)
    agreed, came = counts[label], sum(one is not None for one in answers)
    ranked = counts.most_common(2)
    alone = len(ranked) == 1 or (len(ranked) == 2 and ranked[0][1] > ranked[1][1])
    voted = ranked[0][0] if ranked and alone else None
    reason = ""
    if agreed < needed:
        most = f" (most: {voted!r})" if voted not in (None, label) else ""
        reason = f"{what} not confirmed: {agreed} of {len(given)} votes for {label!r}{most}"
        if came < len(given):
            reason += f"; {len(given) - came} got no answer"
        elif not counts:
            reason += "; none named a class" if what == "label" else "; none named an answer"
    return Verdict(id, label, agreed, len(given), given, voted, reason)


# ------------------------------------------------------------------------------------- preferences


def pair_requests(
    pairs: Iterable[Pair], task: Task, *, votes: int = 2, seed: int = 0, temperature: float = 0.7
) -> list[Request]:
    """The votes on pairs: every other vote shows the two answers the other way round, for as many of both.

    Raises BadSetting for an odd number of votes: one order would count more than the other.
    """
    if votes < 2 or votes % 2:
        raise BadSetting(f"votes={votes} on pairs must be even, so that both orders count alike; e.g. 2")
    found: list[Request] = []
    for pair in pairs:
        for vote in range(votes):
            first, second = (pair.chosen, pair.rejected) if _chosen_first(pair, vote, seed) else (
                pair.rejected,
                pair.chosen,
            )  # fmt: skip
            text = (
                f'Which answer to the prompt is better?\n\nPrompt:\n"""\n{pair.prompt}\n"""\n\n'
                f'Answer A:\n"""\n{first}\n"""\n\nAnswer B:\n"""\n{second}\n"""\n\n'
                "Answer with A or B and nothing else."
            )
            if task.instructions:
                text = f"{task.instructions}\n\n{text}"
            found.append(
                Request(
                    id=_name(pair.id, vote),
                    messages=(Message("system", _SYSTEM), Message("user", text)),
                    temperature=temperature,
                    max_tokens=16,
                    seed=seed,
                    replicate=vote,
                    index=len(found),
                )
            )
    return found


def _chosen_first(pair: Pair, vote: int, seed: int) -> bool:
    return (vote + random.Random(f"{seed}:{pair.id}").randrange(2)) % 2 == 0


def read_pairs(
    pairs: Iterable[Pair],
    responses: Mapping[str, Response],
    *,
    votes: int = 2,
    needed: int = 2,
    seed: int = 0,
) -> dict[str, Verdict]:
    """By record id, whether at least `needed` votes prefer `chosen`; votes are "chosen" or "rejected"."""
    found = {}
    for pair in pairs:
        answers = [responses.get(_name(pair.id, vote)) for vote in range(votes)]
        given: list[str | None] = []
        for vote, one in enumerate(answers):
            side = None if one is None else read_label(one.text, _SIDES)
            first = _chosen_first(pair, vote, seed)
            given.append(None if side is None else "chosen" if (side == "A") == first else "rejected")
        found[pair.id] = _verdict(pair.id, "chosen", tuple(given), answers, needed, "preference")
    return found
