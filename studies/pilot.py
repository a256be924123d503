"""How often a pilot recommends on noise, how large a difference it sees, and what it says of real generators.

    KARAT_DATA=path/to/data python studies/pilot.py [--trials 200] [--draws 20] [--workers 2] [--json FILE]

Simulation: texts are drawn from class-conditional mixtures of words, so that two arms are known to be the
same, or one is known to have wrong labels. Without any difference no more than 5 % of pilots may recommend
a dearer arm; intervals must hold the true mean score of an arm in 95 %.

Data: `wvg_tendim` ("The Parrot Dilemma", Moller et al.; MIT): sentences that GPT-4 and GPT-3.5 wrote for ten
social dimensions. A provider answers with them, so a pilot of both is run as it would have been; GPT-3.5
stands in it twice, with other sentences, as two arms that are known to be the same.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import karat
from karat import registry
from karat.generation.base import Price, Request, Response
from karat.generation.tasks import Label, Task
from karat.piloting import student
from karat.piloting.decision import Contrast, Standing, decide, judge
from karat.piloting.result import Pilot
from karat.records import Records, from_rows

CLASSES, WORDS, LENGTH = 4, 400, 12
ROWS, TEST, REFITS = 100, 300, 50
# Dollars of a thousand tokens in and out, of the time when the sentences were written.
PRICES = {"gpt-4": (0.03, 0.06), "gpt-3.5-turbo": (0.0015, 0.002)}
WORLDS: dict[str, tuple[float, ...]] = {
    "three arms, no difference": (0.0, 0.0, 0.0),
    "10 % wrong labels in the cheapest of two": (0.1, 0.0),
    "20 % wrong labels in the cheapest of two": (0.2, 0.0),
    "40 % wrong labels in the cheapest of two": (0.4, 0.0),
    "20 % wrong labels in the cheapest of four": (0.2, 0.2, 0.0, 0.0),
}


def main() -> int:
    """Run both parts and print their figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    executor = registry.make("executors", f"local:workers={options.workers}")
    kept: dict[str, Any] = {}
    for name, noise in WORLDS.items():
        kept[name] = simulate(name, noise, options.trials, executor)
    source = Path(os.environ.get("KARAT_DATA", "../shared/data")) / "wvg_tendim" / "wvg_tendim.jsonl.gz"
    if source.exists():
        kept["tendim"] = tendim(source, options.draws)
    else:
        print(f"no {source}; name the folder of the data with KARAT_DATA", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1), "utf-8")
    return 0


# ------------------------------------------------------------------------------------- simulation


def mixtures() -> list[Any]:
    """The word shares of each class: three quarters of a common tongue, one quarter of its own."""
    rng = np.random.default_rng(0)
    common = rng.dirichlet(np.full(WORDS, 0.3))
    return [0.75 * common + 0.25 * rng.dirichlet(np.full(WORDS, 0.05)) for _ in range(CLASSES)]


def texts(n: int, rng: Any, *, noise: float, tag: str) -> Records:
    """Draw n texts, the classes in turns; with `noise` a text is one of another class than its label."""
    rows, shares = [], mixtures()
    for i in range(n):
        wrong = 1 + int(rng.integers(CLASSES - 1)) if rng.random() < noise else 0
        words = " ".join(f"w{w}" for w in rng.choice(WORDS, LENGTH, p=shares[(i + wrong) % CLASSES]))
        rows.append({"id": f"{tag}{i}", "text": words, "label": f"c{i % CLASSES}"})
    return from_rows(rows, datatype="classification")


def trial(noise: Sequence[float], seed: int) -> dict[str, Any]:
    """One pilot: the first arm is the cheapest. Returns scores, intervals and what was decided."""
    rng = np.random.default_rng([7, seed])
    test = texts(TEST, rng, noise=0.0, tag="t")
    sets = {f"arm {i}": texts(ROWS, rng, noise=share, tag=f"{i}-") for i, share in enumerate(noise)}
    draws = student.score(
        {name: student.TrainingSet(rows, rows.ids) for name, rows in sets.items()},
        test,
        trainer=registry.make("trainers", "linear"),
        refits=REFITS,
        seed=seed,
    )
    contrasts = []
    for one, other in combinations(draws, 2):
        gap = draws[one].minus(draws[other]).estimate
        contrasts.append(Contrast(one, other, gap.value, gap.error, gap.df))
    gaps = judge(contrasts, margin=1.0)
    standings = [Standing(name, found.value, 1.0 + i) for i, (name, found) in enumerate(draws.items())]
    told = decide(standings, gaps)
    return {
        "scores": [found.value for found in draws.values()],
        "errors": [found.estimate.error for found in draws.values()],
        "intervals": [found.estimate.interval() for found in draws.values()],
        "gaps": [(gap.value, gap.error, gap.interval[0], gap.interval[1]) for gap in gaps],
        "outcome": told.outcome,
        "recommended": int(told.recommended.split()[1]),
        "detectable": told.detectable,
    }


def simulate(name: str, noise: Sequence[float], trials: int, executor: Any) -> dict[str, Any]:
    """Run many pilots of one world and print how often they are right."""
    started = time.perf_counter()
    found = list(executor.map(partial(trial, tuple(noise)), range(trials)))
    scores = np.array([one["scores"] for one in found])
    ends = np.array([one["intervals"] for one in found])
    gaps = np.array([one["gaps"] for one in found])
    truth, between = scores.mean(axis=0), gaps[:, :, 0].mean(axis=0)
    covers = ((ends[:, :, 0] <= truth) & (truth <= ends[:, :, 1])).mean()
    covers_gap = ((gaps[:, :, 2] <= between) & (between <= gaps[:, :, 3])).mean()
    better = [one for one in found if one["outcome"] == "better"]
    right = sum(noise[one["recommended"]] == min(noise) for one in better)
    kept = {
        "trials": trials,
        "mean scores": truth.round(1).tolist(),
        "true SD of a difference": float(gaps[:, :, 0].std(axis=0, ddof=1).mean().round(2)),
        "estimated SD": float(np.sqrt((gaps[:, :, 1] ** 2).mean()).round(2)),
        "intervals of scores that cover": float(covers.round(3)),
        "intervals of differences that cover": float(covers_gap.round(3)),
        "a dearer arm is recommended": len(better) / trials,
        "and it is one of the best": right / trials,
        "no difference found": sum(one["outcome"] == "no difference found" for one in found) / trials,
        "detectable difference, mean": float(np.mean([one["detectable"] for one in found]).round(1)),
    }
    print(f"{name} ({time.perf_counter() - started:.0f} s)")
    for key, value in kept.items():
        print(f"  {key:<38}{value}")
    print(flush=True)
    return kept


# --------------------------------------------------------------------------------------- real data


@dataclass(frozen=True)
class Drawn:
    """Answers with sentences that a generator once wrote for the label, none twice."""

    model: str
    price_in: float = 0.0
    price_out: float = 0.0
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    taken: dict[str, int] = field(default_factory=dict, repr=False)
    batch_size: int = 16
    concurrency: int = 1

    def price(self, request: Request) -> Price:
        """The most that a request can cost; four characters are taken for a token."""
        sent = sum(len(m.content) for m in request.messages) // 4
        return Price(sent + 100, (sent * self.price_in + 100 * self.price_out) / 1000)

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """The next sentence of each label."""
        answers = []
        for request in requests:
            label = str(request.label)
            place = self.taken.get(label, 0)
            self.taken[label] = place + 1
            text = self.rows[label][place]
            sent, said = sum(len(m.content) for m in request.messages) // 4, math.ceil(len(text) / 4)
            cost = (sent * self.price_in + said * self.price_out) / 1000
            answers.append(Response(request.id, text, sent, said, cost_usd=cost, model=self.model))
        return answers


def providers(source: Path, labels: Sequence[str], seed: int) -> list[Drawn]:
    """GPT-4 once and GPT-3.5 twice, with other sentences each."""
    made = []
    for number, name in enumerate(("gpt-4", "gpt-3.5-turbo", "gpt-3.5-turbo")):
        own = karat.read(source, where=[f"generator={name}", "sampling=balanced"])
        order = np.random.default_rng([seed, 3]).permutation(len(own)).tolist()
        half = order[number % 2 :: 2]  # the second one of a generator takes what the first one does not
        by_label: dict[str, list[str]] = {label: [] for label in labels}
        known, texts_of = own.labels() or [], own.texts()
        for i in half:
            if known[i] in by_label:
                by_label[str(known[i])].append(texts_of[i])
        again = " (again)" if number == 2 else ""
        rows = {label: tuple(found) for label, found in by_label.items()}
        made.append(Drawn(name + again, *PRICES[name], rows))
    return made


def tendim(source: Path, draws: int) -> dict[str, Any]:
    """Run the pilot of both generators, once in full and then with other draws of sentences."""
    test = karat.read(source, where=["split=gold_test"])
    human = karat.read(source, where=["split=human_train"])
    own = karat.read(source, where=["generator=gpt-4", "sampling=balanced"])
    labels = sorted({*(test.labels() or ())} & {str(label) for label in own.labels() or ()})
    test = test.where([label in labels for label in test.labels() or ()])
    human = human.where([label in labels for label in human.labels() or ()])
    task = Task(
        "sentence from a conversation", tuple(Label(label) for label in labels), name="ten dimensions"
    )
    print(f"ten dimensions: {len(labels)} labels, {len(test)} test sentences, {len(human)} human ones\n")
    kept: dict[str, Any] = {"pilots": []}
    for seed in range(draws):
        found = karat.pilot(
            task,
            human,
            None,
            test,
            providers=providers(source, labels, seed),
            recipes=("simple",),
            n=200,
            plan_n=200,
            seed=seed,
            metrics=("distinct_n", "self_bleu", "vendi") if seed == 0 else (),
        )
        if seed == 0:
            print(found)
            print("\n".join(found.why(one.name) for one in found.arms), "\n", flush=True)
            kept["first"] = found.to_json()
        kept["pilots"].append(_short(found))
    told = kept["pilots"]
    for pair in told[0]["gaps"]:
        values = np.array([one["gaps"][pair]["value"] for one in told])
        errors = np.array([one["gaps"][pair]["error"] for one in told])
        differs = sum(one["gaps"][pair]["verdict"] == "differs" for one in told)
        print(
            f"  {pair:<48} {values.mean():+.1f} points on the average, SD {values.std(ddof=1):.1f} "
            f"(estimated {np.sqrt((errors**2).mean()):.1f}, which holds the test records too), "
            f"found to differ in {differs} of {draws}"
        )
    outcomes = [one["outcome"] for one in told]
    print("  outcomes:", {name: outcomes.count(name) for name in sorted(set(outcomes))})
    return kept


def _short(found: Pilot) -> dict[str, Any]:
    return {
        "outcome": found.decision.outcome,
        "recommended": found.decision.recommended,
        "detectable": found.decision.detectable,
        "gaps": {
            f"{gap.one} minus {gap.other}": {"value": gap.value, "error": gap.error, "verdict": gap.verdict}
            for gap in found.gaps
        },
    }


if __name__ == "__main__":
    sys.exit(main())
