"""What GPT-4 and GPT-3.5 sentences are worth on ten social dimensions, counted in human sentences.

    KARAT_DATA=path/to/data python studies/wvg_tendim.py [--budget small] [--workers 2]

Data: `wvg_tendim` ("The Parrot Dilemma", Moller et al.; MIT): sentences from Reddit labelled by people,
and for each of 500 of them ten LLM rewrites with a label that was asked for. All are tested on the gold
test; training sentences that stand in it are left out. Three trainers, because a worth belongs to a trainer:
`floor` is the plain word 1-2-gram model of the published floors, `default` is karat's, `balanced` gives each
label the same weight. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import karat
from karat import registry
from karat.training.leakage import guard
from karat.training.stage import Trained
from karat.valuation.stage import Valued

TRAINERS = {
    "floor": "linear:words=1-2,characters=0,C=10",
    "default": "linear",
    "balanced": "linear:class_weight=balanced",
}
FLOORS = {"500 human": 0.145, "human": 0.237, "gpt-4": 0.212, "gpt-3.5-turbo": 0.216}
GENERATORS = ("gpt-4", "gpt-3.5-turbo")


def main() -> int:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", default="medium", choices=("small", "medium", "large"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trainers", nargs="+", default=list(TRAINERS), choices=list(TRAINERS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(os.environ.get("KARAT_DATA", "../shared/data"))
    source = folder / "wvg_tendim" / "wvg_tendim.jsonl.gz"
    if not source.exists():
        print(f"no {source}; name the folder of the data with KARAT_DATA", file=sys.stderr)
        return 2
    test = karat.read(source, where=["split=gold_test"])
    human = karat.read(source, where=["split=human_train"])
    seeds = karat.read(source, where=["split=human_seed"])
    synthetic = {
        name: karat.read(source, where=[f"generator={name}", "sampling=balanced"]).with_lineage(
            source="synthetic", generator=name, generator_saw=[seeds.fingerprint]
        )
        for name in GENERATORS
    }
    _, leaks = guard(human, test, drop_leaks=True)
    shared = len(set(seeds.texts()) & set(human.texts()))
    print(f"{leaks.normalised} of {len(human)} human sentences stand in the gold test and are left out;")
    print(f"{shared} of the {len(seeds)} sentences that the LLMs were shown stand among the human ones.\n")
    executor = registry.make("executors", f"local:workers={options.workers}")
    kept: dict[str, object] = {}
    for name in options.trainers:
        sets = {"500 human": guard(human, test, drop_leaks=True)[0].sample(500), "human": human, **synthetic}
        trained = {k: karat.train(v, test, trainer=TRAINERS[name], drop_leaks=True) for k, v in sets.items()}
        show_trained(name, trained)
        for generator in GENERATORS:
            started = time.perf_counter()
            found = karat.value(
                synthetic[generator],
                human,
                test,
                trainer=TRAINERS[name],
                budget=options.budget,
                executor=executor,
            )
            show_value(f"{name}, {generator}", found, time.perf_counter() - started)
            kept[f"{name}/{generator}"] = found.to_json()
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1), "utf-8")
    return 0


def show_trained(name: str, trained: dict[str, Trained]) -> None:
    """Print accuracy and macro-F1 of one trainer on all sets."""
    print(f"trainer {name}: {TRAINERS[name]}")
    print(f"  {'trained on':<16}{'rows':>6}  {'accuracy':<24}{'macro-F1':<24}{'chance':>7}{'floor':>7}")
    for key, found in trained.items():
        accuracy, f1 = found.score("accuracy"), found.score("macro_f1")
        floor = f"{FLOORS[key]:7.3f}" if name == "floor" else ""
        cells = [f"{s.value:.3f} [{s.interval[0]:.3f}, {s.interval[1]:.3f}]" for s in (accuracy, f1)]
        print(f"  {key:<16}{found.trained_on:>6}  {cells[0]:<24}{cells[1]:<24}{f1.chance or 0:7.3f}{floor}")


def show_value(name: str, found: Valued, seconds: float) -> None:
    """Print the worth of one synthetic set."""
    print(f"\n  value ({name}; {seconds:.0f} s): {found.advice}")
    gains = "; ".join(
        f"{g.human}: {g.difference:+.3f} [{g.interval[0]:+.3f}, {g.interval[1]:+.3f}]" for g in found.marginal
    )
    print(f"    gain of adding all to so many human sentences: {gains}")
    print(f"    generator saw these human sentences, by its record: {found.generator_saw_human}")
    for warning in found.warnings:
        print(f"    {warning.code}: {warning.message}")
    print()


if __name__ == "__main__":
    sys.exit(main())
