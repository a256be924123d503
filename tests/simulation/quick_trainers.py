"""Trainers that learn nothing, so that a loop takes milliseconds. For tests."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

from karat.records import from_rows
from karat.simulation.emulator import sharpened
from karat.simulation.tasks.logic import Logic

TASK = "logic:depth_max=3,leaf=0.5,true_share=0.5"


@dataclass(frozen=True)
class Counter:
    """A trainer that counts rules instead of learning: milliseconds a loop. `broken` spoils that share."""

    writes: ClassVar[bool] = True
    broken: float = 0.0
    calls: list[int] = field(default_factory=list, init=False, compare=False)

    def fit(self, records, *, seed=0, validation=None, progress=None):
        """Count the rules of the valid texts."""
        self.calls.append(len(records))
        task = Logic()
        valid = [text for text in records.texts() if task.parse(text).valid]
        return SimpleNamespace(
            generate=lambda n, temperature, seed: self.write(task, valid, n, temperature, seed)
        )

    def write(self, task, valid, n, temperature, seed):
        """Write from sharpened rules."""
        texts = task.write(sharpened(task.rules(valid), temperature), n, seed=seed)
        chance = random.Random(seed)
        return from_rows(
            [{"text": t[:-1] + "(" if chance.random() < self.broken else t} for t in texts], datatype="text"
        )


@dataclass(frozen=True)
class Words:
    """A trainer for any text: it writes human texts back, one word longer."""

    writes: ClassVar[bool] = True

    def fit(self, records, *, seed=0, validation=None, progress=None):
        """Remember the texts."""
        texts = records.texts()

        def generate(n, temperature, seed):
            chance = random.Random(seed)
            return from_rows([{"text": chance.choice(texts) + " again"} for _ in range(n)], datatype="text")

        return SimpleNamespace(generate=generate, loss=lambda held_out: 1.0 / len(set(texts)))
