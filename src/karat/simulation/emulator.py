"""A loop without models: rule counts of a known grammar, sharpened; formulas of drift. Knows no trainer."""

from __future__ import annotations

import math
from typing import Any

from karat.simulation.base import Batch, Policy, advance, human_batch, needed
from karat.simulation.measures import levenshtein_diversity

PAIRS = 50_000
"""Distinct pairs up to which the emulator's distances are exact; they are sampled above."""


def emulate(
    task: Any, policy: Policy, temperature: float, *, n: int, iterations: int, seed: int = 0
) -> tuple[float, ...]:
    """Run a loop without models: rule counts of a known grammar, sharpened to the power 1/temperature.

    Its texts are always valid, so that it knows nothing of correctness. Stops measuring when one text is
    left.
    """
    source = task.source(None, seed=seed)
    pool = human_batch(source.draw(n, turn=0))
    batch = pool
    curve: list[float] = []
    for t in range(iterations + 1):
        if curve and curve[-1] == 0.0:
            curve.append(0.0)
            continue
        written = task.write(sharpened(task.rules(batch.texts), temperature), n, seed=seed * 1009 + t)
        found, _ = levenshtein_diversity([task.tokens(text) for text in written], seed=t, exact_pairs=PAIRS)
        curve.append(found.value)
        if t == iterations:
            break
        wanted, fresh = needed(policy, n)
        written = [written[i % n] for i in range(max(n, wanted))]
        pool, batch = advance(
            policy,
            pool,
            Batch(tuple(written), (t,) * len(written)),
            source.draw(fresh, turn=t + 1) if fresh else [],
            n=n,
            seed=seed * 1009 + t,
        )
    return tuple(curve)


def sharpened(rules: dict[Any, dict[str, float]], temperature: float) -> dict[Any, dict[str, float]]:
    """Return rule probabilities to the power 1/temperature, normalised in each place."""
    found = {}
    for place, uses in rules.items():
        top = max(uses.values())
        powers = {name: (count / top) ** (1 / temperature) for name, count in uses.items()}
        total = sum(powers.values())
        found[place] = {name: power / total for name, power in powers.items()}
    return found


def drift_half_life(n: int) -> float:
    """Iterations until resampling n texts halves pairwise diversity: ln 2 / -ln(1 - 1/n) (Seddik 2024)."""
    return math.log(2) / -math.log1p(-1 / n)


def drift_plateau(n: int, fresh_share: float) -> float:
    """Share of pairwise diversity that drift leaves where each batch holds a share of fresh human data.

    H*/H_0 = (1 - 1/n) a / (1 - (1 - 1/n)(1 - a)), a = 1 - (1 - share)^2. Sharpening is not in it.
    """
    a = 1 - (1 - fresh_share) ** 2
    return (1 - 1 / n) * a / (1 - (1 - 1 / n) * (1 - a))
