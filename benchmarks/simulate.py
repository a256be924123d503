"""One iteration of the simulation on this machine: training and sampling tokens a second, pairs a second.

    python benchmarks/simulate.py [--trainer gpt:preset=mini] [--n 2000] [--repeats 3] [--out FILE.json]

Tokens are useful ones: padding is not counted, and of the samples only what was written, with the end
token. Seconds are those of the wall and of the processor; where they differ much, the machine was busy
and the wall says little.
A comparison with nanoGPT's loop and its `generate` is not in here yet.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from karat import records, registry
from karat.simulation.base import human_batch
from karat.simulation.measures import levenshtein_diversity
from karat.simulation.stage import Setup, _turn


def clocked(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what work gives, its seconds on the wall and on the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def once(task: Any, trainer: Any, n: int, temperature: float, seed: int) -> dict[str, float]:
    """Train, sample and measure once; return the figures."""
    texts = task.sample(n, seed=seed)
    human = records.from_rows([{"text": text} for text in texts], datatype="text")
    model, train_wall, train_cpu = clocked(lambda: trainer.fit(human, seed=seed))
    made, sample_wall, sample_cpu = clocked(lambda: model.generate(n, temperature=temperature, seed=seed))
    rows = [task.tokens(text) for text in made.texts()]
    verdicts = task.verify(made.texts())
    _, pairs_wall, pairs_cpu = clocked(lambda: levenshtein_diversity(rows))
    written = sum(len(row) + 1 for row in rows)
    distinct = len(set(map(tuple, rows)))
    setup = Setup(task, trainer, n, temperature, None)
    _, turn_wall, turn_cpu = clocked(lambda: _turn(setup, human_batch(texts), "bench", seed, 0))
    return {
        "parameters": model.causal.parameters_count,
        "train_tokens": model.history.tokens,
        "train_tokens_per_wall_second": model.history.tokens / train_wall,
        "train_tokens_per_cpu_second": model.history.tokens / train_cpu,
        "sample_tokens": written,
        "sample_tokens_per_wall_second": written / sample_wall,
        "sample_tokens_per_cpu_second": written / sample_cpu,
        "pairs_per_cpu_second": distinct**2 / max(pairs_cpu, 1e-9),
        "pairs_seconds": pairs_wall,
        "iteration_wall_seconds": turn_wall,
        "iteration_cpu_seconds": turn_cpu,
        "valid": sum(v.valid for v in verdicts) / n,
        "correct": sum(v.correct for v in verdicts) / n,
    }


def main() -> None:
    """Run the repeats, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--task", default="logic")
    parser.add_argument("--trainer", default="gpt:preset=mini")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    task, trainer = registry.make("tasks", given.task), registry.make("trainers", given.trainer)
    runs = [once(task, trainer, given.n, given.temperature, seed) for seed in range(given.repeats)]
    print(f"{given.trainer} on {given.task}, n={given.n}, temperature={given.temperature}")
    print(f"{'':<32}{'median':>12}{'lowest':>12}{'highest':>12}")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"{name:<32}{statistics.median(values):>12,.3f}{min(values):>12,.3f}{max(values):>12,.3f}")
    if given.out:
        import torch

        found = {
            "task": registry.spec_of(task),
            "trainer": registry.spec_of(trainer),
            "n": given.n,
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "runs": runs,
        }
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
