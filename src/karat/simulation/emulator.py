"""A loop without models: rule counts of a known grammar, sharpened by the temperature. Knows no trainer.

What makes loops collapse is sharpening, and that is all there is here: milliseconds an iteration. Its texts
are always valid, so that it knows nothing of syntax errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

import numpy as np

from karat.errors import BadSetting
from karat.records import Records
from karat.simulation.base import Batch, Policy, Selection, advance, human_batch, needed
from karat.simulation.formulas import drift_half_life, drift_plateau
from karat.simulation.measures import levenshtein_diversity
from karat.simulation.selecting import accepted
from karat.training.rules import Rules, sharpened, smoothed

__all__ = ["Emulated", "drift_half_life", "drift_plateau", "emulate", "not_emulated", "sharpened"]

PAIRS = 50_000
"""Distinct pairs up to which the emulator's distances are exact; they are sampled above."""


@dataclass(frozen=True)
class Emulated:
    """One emulated loop, iteration by iteration; what needs a verifier is None where the task has none."""

    at: tuple[int, ...]  # the iterations that were measured
    diversity: tuple[float, ...]  # mean normalised edit distance
    distinct: tuple[int, ...]
    correct: tuple[float, ...] | None  # share of the texts
    distinct_correct: tuple[int, ...] | None

    def kept(self) -> tuple[float, ...]:
        """Return diversity as a share of iteration 0; all zero where that has none."""
        first = self.diversity[0]
        return tuple(value / first if first else 0.0 for value in self.diversity)


def emulate(
    task: Any,
    policy: Policy,
    temperature: float,
    *,
    n: int,
    iterations: int,
    seed: int = 0,
    human: Records | None = None,
    every: int = 1,
    judge: bool = True,
    memory: float = 0.0,
    smoothing: float = 0.0,
) -> Emulated:
    """Run a loop of n texts without models: counted rules to the power 1/temperature write the next texts.

    human: real texts, for a task that makes none.
    every: measure each so many iterations, and the last one. judge: whether texts are verified.
    memory: share of the rules that a model keeps from the one before it, as if it were trained on.
    smoothing: how much of each choice is evened out, as by a learner that learns badly.
    """
    if reason := not_emulated(task, policy):
        raise BadSetting(f"the emulator cannot run this loop: {reason}; simulate it")
    source, rules = task.source(human, seed=seed), partial(_rules, task, memory, smoothing)
    start = human_batch(source.draw(n, turn=0))
    states = [_State(start, start) for _ in range(policy.models)]
    judged = judge and bool(task.verifies)
    closed = replace(policy, selection=Selection()) == Policy()
    found: list[tuple[int, float, int, float, int]] = []
    for t in range(iterations + 1):
        measured = t % every == 0 or t == iterations
        if found and found[-1][1] == 0.0 and closed:  # one text is left, and nothing new comes in
            if measured:
                found.append((t, *found[-1][1:]))
            continue
        states = [replace(state, counts=rules(state)) for state in states]
        written = []
        for number, state in enumerate(states):
            shares = sharpened(state.counts, temperature)
            written.append((shares, task.write(shares, n, seed=_derived(seed, t, number))))
        if measured:
            texts = [text for _, mine in written for text in mine[: math.ceil(n / policy.models)]][:n]
            found.append((t, *_measured(task, texts, judged, seed=t)))
        if t < iterations:
            states = _advanced(task, policy, source, states, written, n=n, seed=seed, t=t)
    at, diversity, distinct, correct, distinct_correct = zip(*found)
    if not judged:
        return Emulated(at, diversity, distinct, None, None)
    return Emulated(at, diversity, distinct, correct, distinct_correct)


@dataclass(frozen=True)
class _State:
    """One model between two iterations: what is kept, what it trains on next, the rules that it has."""

    pool: Batch
    batch: Batch
    counts: Rules = field(default_factory=dict)


def _derived(seed: int, t: int, number: int) -> int:
    return seed * 1009 + t + 7_000_003 * number


def _rules(task: Any, memory: float, smoothing: float, state: _State) -> Rules:
    """Return the rules of a model trained on a batch (where a verifier left none, the old model's)."""
    if not len(state.batch):
        return state.counts
    counts: Rules = task.rules(state.batch.texts)
    if memory and state.counts:
        counts = _mixed(state.counts, counts, memory)
    return smoothed(counts, smoothing) if smoothing else counts


def _advanced(
    task: Any,
    policy: Policy,
    source: Any,
    states: list[_State],
    written: list[tuple[Rules, list[str]]],
    *,
    n: int,
    seed: int,
    t: int,
) -> list[_State]:
    """Return each model with its next training data."""
    wanted, fresh = needed(policy, n)
    offered = [
        _chosen(task, policy.selection, shares, texts, wanted, seed=_derived(seed, t, number))
        for number, (shares, texts) in enumerate(written)
    ]
    if policy.feed == "ring":
        offered = offered[-1:] + offered[:-1]
    elif policy.feed == "pool" and len(offered) > 1:
        everything = [text for texts in offered for text in texts[:wanted]]
        Random(f"pool:{seed}:{t}").shuffle(everything)
        offered = [everything[number :: len(offered)] for number in range(len(offered))]
    real = source.draw(fresh * len(states), turn=t + 1, first=n) if fresh else []
    found = []
    for number, (state, texts) in enumerate(zip(states, offered)):
        made = Batch(tuple(texts), (t,) * len(texts))
        mine = real[number * fresh : (number + 1) * fresh]
        pool, batch = advance(policy, state.pool, made, mine, n=n, seed=_derived(seed, t, number))
        found.append(replace(state, pool=pool, batch=batch))
    return found


def not_emulated(task: Any, policy: Policy) -> str:
    """Say why the emulator knows nothing of a loop; an empty text where it does."""
    if not (hasattr(task, "rules") and hasattr(task, "write")):
        return "the task has no grammar"
    if policy.selection.by == "detector":
        return "its rows are drawn by a detector, and the emulator has none"
    if policy.selection.by == "verifier" and not task.verifies:
        return "its texts are chosen by a verifier, and the task has none"
    return ""


ROUNDS = 10
"""How many times n texts a model may write until its verifier has let through as many as are needed."""


def _chosen(
    task: Any, selection: Selection, rules: Rules, written: list[str], wanted: int, *, seed: int
) -> list[str]:
    """Return texts that may become training data: those written, and more from the same rules as needed."""
    n = len(written)
    if selection.by == "verifier":
        accept = partial(accepted, selection, partial(_judged, task), seed=seed // 1009)
        kept = accept(written)
        for number in range(1, ROUNDS):
            if len(kept) >= wanted:
                break
            kept += accept(task.write(rules, n, seed=seed + 500_009 * number))
        return kept
    rows = wanted if selection.by == "none" else math.ceil(wanted / selection.keep)
    more = list(written)
    if rows > n:
        more += task.write(rules, rows - n, seed=seed + 500_009)
    if selection.by == "none":
        return more
    more = more[:rows]  # more than these would be a stricter choice than the share `keep`
    scores = {text: _log_probability(task, rules, text) for text in dict.fromkeys(more)}
    return sorted(more, key=lambda text: scores[text], reverse=selection.by == "confidence")[:wanted]


def _judged(task: Any, texts: Sequence[str]) -> list[bool]:
    return [verdict.correct for verdict in task.verify(texts)]


def _log_probability(task: Any, rules: Rules, text: str) -> float:
    """Return the mean log-probability of a text's choices, a token of it (nats)."""
    total = sum(
        times * math.log(rules[place][choice])
        for place, uses in task.rules([text]).items()
        for choice, times in uses.items()
    )
    return float(total) / max(1, len(task.tokens(text)))


def _measured(task: Any, texts: list[str], judged: bool, *, seed: int) -> tuple[float, int, float, int]:
    """Return diversity, different texts, correct share, different correct texts (0 if not judged)."""
    diversity, _ = levenshtein_diversity([task.tokens(text) for text in texts], seed=seed, exact_pairs=PAIRS)
    different = set(texts)
    if not judged:
        return diversity.value, len(different), 0.0, 0
    right = {text for text, verdict in zip(texts, task.verify(texts), strict=True) if verdict.correct}
    return diversity.value, len(different), float(np.mean([text in right for text in texts])), len(right)


def _mixed(old: Rules | None, new: Rules, memory: float) -> Rules:
    """Return new rules with a share of the old ones; counts become shares in each place."""
    if old is None or not memory:
        return new
    mixed: Rules = {place: dict(uses) for place, uses in _shares(new).items()}
    for place, uses in _shares(old).items():
        if place not in mixed:  # nobody went there this time: what was learned stays
            mixed[place] = dict(uses)
            continue
        here = {choice: (1 - memory) * share for choice, share in mixed[place].items()}
        for choice, share in uses.items():
            here[choice] = here.get(choice, 0.0) + memory * share
        mixed[place] = here
    return mixed


def _shares(rules: Mapping[Any, Mapping[str, float]]) -> Rules:
    found: Rules = {}
    for place, uses in rules.items():
        total = sum(uses.values())
        found[place] = {choice: weight / total for choice, weight in uses.items()}
    return found
