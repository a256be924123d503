"""Worlds in which the truth about two arms is known: class-conditional mixtures of words. Knows no test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from karat.generation.base import Price, Request, Response
from karat.generation.tasks import Attribute, Label, Task
from karat.records import Records, from_rows

CLASSES, WORDS, LENGTH = 3, 150, 12
TASK = Task(
    "note",
    tuple(Label(f"c{i}") for i in range(CLASSES)),
    attributes=(Attribute("tone", ("dry", "warm", "stern")), Attribute("place", tuple("abcde"))),
)


def _mixtures() -> list[Any]:
    rng = np.random.default_rng(0)
    common = rng.dirichlet(np.full(WORDS, 0.3))
    return [0.7 * common + 0.3 * rng.dirichlet(np.full(WORDS, 0.05)) for _ in range(CLASSES)]


MIXTURES = _mixtures()


def sentence(label: int, rng: Any, words: int = WORDS) -> str:
    """A text of a class; with fewer `words` it is drawn from the commonest of them alone."""
    shares = MIXTURES[label]
    kept = np.argsort(-shares)[:words]
    return " ".join(f"w{w}" for w in rng.choice(kept, LENGTH, p=shares[kept] / shares[kept].sum()))


def corpus(n: int, seed: int, *, noise: float = 0.0, words: int = WORDS, tag: str = "h") -> Records:
    """Labelled texts, the classes in turns; with `noise` that share is of another class than labelled."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        wrong = int(rng.random() < noise)
        text = sentence((i + wrong) % CLASSES, rng, words)
        rows.append({"id": f"{tag}{i}", "text": text, "label": f"c{i % CLASSES}"})
    return from_rows(rows, datatype="classification", path=f"{tag}.jsonl")


@dataclass(frozen=True)
class Scripted:
    """Writes a text of the class that was asked for, or with `noise` of another one."""

    model: str = "plain"
    usd: float = 0.001
    noise: float = 0.0
    words: int = WORDS
    stream: int = 0
    refuses: float = 0.0
    asked: list[Request] = field(default_factory=list, repr=False, compare=False)
    batch_size: int = 32
    concurrency: int = 1

    def price(self, request: Request) -> Price:
        """The same for all."""
        return Price(300, self.usd)

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Chance comes from the seed of the row, the stream and the prompt, as from a real model."""
        answers = []
        for r in requests:
            self.asked.append(r)
            rng = np.random.default_rng([r.draw_seed, self.stream, len(r.messages[-1].content)])
            label = int((r.label or "c0")[1:])
            if rng.random() < self.noise:
                label = (label + 1) % CLASSES
            text = "I'm sorry, but I can't help with that." if rng.random() < self.refuses else ""
            if "candidates" in r.schema.get("properties", {}):
                count = r.schema["properties"]["candidates"]["maxItems"]
                given = [{"text": sentence(label, rng), "probability": 0.1} for _ in range(count)]
                text = json.dumps({"candidates": given})
            text = text or sentence(label, rng, self.words)
            answers.append(Response(r.id, text, 50, 20, cost_usd=self.usd, model=self.model))
        return answers
