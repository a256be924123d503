"""Loops with selections, several models and continued training; killed and taken up again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter as Counts
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import pytest
from quick_trainers import TASK, Counter, Words

from karat import registry
from karat.errors import BadSetting
from karat.records import from_rows
from karat.simulation.base import HUMAN, Batch, Policy, Selection, advance, human_batch
from karat.simulation.chain import Job, Shared
from karat.simulation.engine import run_jobs
from karat.simulation.selecting import accepted, chosen, detecting
from karat.simulation.stage import simulate

SMALL = {"task": TASK, "n": 200, "seeds": (0,), "control": False, "trainer": "emulator"}


def last(found):
    """The last iteration of the first run."""
    return found.runs[0].iterations[-1]


# --- selections -----------------------------------------------------------------------------------


def write(texts, chances=None):
    """A model that writes these texts over and over."""

    def made(n, again):
        rows = [texts[i % len(texts)] for i in range(n)]
        found = from_rows([{"text": text} for text in rows], datatype="text")
        logs = chances or [0.0] * len(texts)
        return found.with_lineage(logprob=[logs[i % len(texts)] for i in range(n)])

    return made


def test_a_verifier_keeps_what_it_takes_for_correct() -> None:
    """A perfect one keeps all correct texts and no other; rates of error are met."""
    texts = [f"good {i}" for i in range(2000)] + [f"bad {i}" for i in range(2000)]

    def judge(some):
        return [text.startswith("good") for text in some]

    kept = accepted(Selection("verifier"), judge, texts, seed=0)
    assert texts[:2000] == kept
    kept = accepted(Selection("verifier", false_positives=0.1, false_negatives=0.3), judge, texts, seed=1)
    found = Counts(text.split()[0] for text in kept)
    assert 1400 == pytest.approx(found["good"], abs=5 * (2000 * 0.3 * 0.7) ** 0.5)
    assert 200 == pytest.approx(found["bad"], abs=5 * (2000 * 0.1 * 0.9) ** 0.5)
    again = accepted(
        Selection("verifier", false_positives=0.1, false_negatives=0.3), judge, texts[::-1], seed=1
    )
    assert set(kept) == set(again), "a text is judged alike each time it comes"


def test_a_model_writes_more_until_its_verifier_has_enough() -> None:
    """With a quarter correct, four times n are written; where nothing is correct, ten times and no more."""
    policy = Policy(selection=Selection("verifier"))
    judge = lambda some: [text == "right" for text in some]  # noqa: E731
    found = chosen(policy, write(["right", "a", "b", "c"]), n=100, judge=judge, seed=0)
    assert (400, 100, 100) == (found.written, len(found.offered), len(found.texts))
    assert {"right"} == set(found.offered)
    none = chosen(policy, write(["a"]), n=100, judge=judge, seed=0)
    assert (1000, 0) == (none.written, len(none.offered))


def test_the_likeliest_half_or_the_unlikeliest_is_taken() -> None:
    """Twice n are written, and the better half by log-probability stays in the order of writing."""
    texts, chances = ["sure", "fair", "odd", "wild"], [-0.1, -0.5, -2.0, -9.0]
    for by, wanted in (("confidence", {"sure", "fair"}), ("surprise", {"odd", "wild"})):
        policy = Policy(selection=Selection(by, keep=0.5))
        found = chosen(policy, write(texts, chances), n=100, judge=None, seed=0)
        assert (200, 100, wanted) == (found.written, len(found.offered), set(found.offered)), by


def test_a_detector_draws_what_looks_human() -> None:
    """Of a pool, half written and half human, mostly human rows are drawn, none more than three times."""
    chance = random.Random(0)
    human = [" ".join(chance.choices("abcdefgh", k=12)) for _ in range(300)]
    written = [" ".join(chance.choices("abcdwxyz", k=12)) for _ in range(600)]
    selection = Selection("detector", strength=10.0, repeats=3)
    weigh = detecting(selection, human[:150], written[:300], seed=0)
    pool = human_batch(human[150:]).plus(Batch(tuple(written[300:450]), (0,) * 150))
    policy = Policy(keep="all", batch=0.0, selection=selection)
    _, batch = advance(policy, pool, Batch((), ()), [], n=100, seed=0, weigh=weigh)
    assert 300 == len(batch)
    assert batch.human > 250
    assert max(Counts(batch.texts).values()) <= 3
    flat = detecting(selection, ["same"] * 20, ["same"] * 20, seed=0)(pool)
    assert 1 == len(set(flat)), "where both sides are alike, all rows weigh the same"


def test_a_perfect_verifier_keeps_correctness_and_not_the_different_texts() -> None:
    """At temperature 1 all that is trained on is correct, and the different correct texts still get fewer."""
    plain = simulate(**SMALL, cycles="full", iterations=12, temperature=1.0)
    checked = simulate(**SMALL, cycles="verified", iterations=12, temperature=1.0)
    assert last(checked).measures.correct > last(plain).measures.correct
    assert (
        last(checked).measures.distinct_correct
        < 0.8 * checked.runs[0].iterations[0].measures.distinct_correct
    )
    assert last(checked).accepted == pytest.approx(last(checked).measures.correct, abs=0.1)
    assert last(plain).accepted is None


def test_a_verifier_that_refuses_everything_ends_the_loop() -> None:
    """The run says so instead of training on nothing."""
    found = simulate(**SMALL, cycles="verified:false_negatives=1", iterations=3)
    assert "starved" in found.runs[0].ended
    assert 1 == len(found.runs[0].iterations)


def test_a_verified_cycle_needs_a_verifier() -> None:
    """Task text has none; the error says which tasks do."""
    human = from_rows([{"text": f"text {i}"} for i in range(50)], datatype="text")
    with pytest.raises(BadSetting, match="needs a verifier"):
        simulate(human, task="text", cycles="verified", trainer=Words(), iterations=1)


def test_more_than_n_rows_are_written_anew() -> None:
    """A cycle that adds 1.5 n rows trains on 1.5 n draws of the model, not on copies of n."""
    found = simulate(**SMALL, cycles="mad_synthetic:size=1.5", iterations=1, temperature=1.0)
    assert 300 == last(found).trained_on.rows
    first = found.runs[0].iterations[0]
    assert (300, 200) == (first.written, first.measures.n)


# --- several models -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signed:
    """A trainer whose models sign what they write, and remember whose signatures they were trained on."""

    writes: ClassVar[bool] = True
    heard: list[Counts] = field(default_factory=list, init=False, compare=False)
    name: str = "a"

    def fit(self, records, *, seed=0, validation=None, progress=None):
        """Count the signatures in the training texts."""
        self.heard.append(Counts(text.split()[0] for text in records.texts()))
        number = len(self.heard)

        def generate(n, temperature, seed):
            return from_rows([{"text": f"{self.name}{number} x{i}"} for i in range(n)], datatype="text")

        return SimpleNamespace(generate=generate)


def crossed(feed, iterations=1, trainer=None):
    """Three models on task text, and whom each heard."""
    human = from_rows([{"text": f"human {i}"} for i in range(200)], datatype="text")
    trainer = trainer or Signed()
    found = simulate(
        human, task="text:audit=", cycles=f"crossed:models=3,feed={feed}", trainer=trainer, n=90,
        iterations=iterations, control=False,
    )  # fmt: skip
    return found, trainer.heard


def test_models_hear_themselves_their_neighbour_or_all() -> None:
    """Own, ring and pool: whose texts each of three models is trained on in iteration 1."""
    assert [{"a1": 90}, {"a2": 90}, {"a3": 90}] == [dict(one) for one in crossed("own")[1][3:]]
    assert [{"a3": 90}, {"a1": 90}, {"a2": 90}] == [dict(one) for one in crossed("ring")[1][3:]]
    found, heard = crossed("pool")
    assert [90] * 3 == [sum(one.values()) for one in heard[3:]]
    assert {"a1": 90, "a2": 90, "a3": 90} == dict(sum(heard[3:], Counts()))
    assert all(len(one) == 3 for one in heard[3:])
    row = last(found)
    assert (90, 270, {"0", "1", "2"}) == (row.measures.n, row.trained_on.rows, set(row.by_model))


def test_trainers_of_a_cycle_take_turns() -> None:
    """Two trainers and three models: the first, the second, the first again."""
    one, two = Signed(), Signed(name="b")
    human = from_rows([{"text": f"human {i}"} for i in range(200)], datatype="text")
    simulate(
        human, task="text:audit=", cycles="crossed:models=3,feed=ring", trainer=[one, two], n=90,
        iterations=1, control=False,
    )  # fmt: skip
    assert (4, 2) == (len(one.heard), len(two.heard))
    assert {"b1": 90} == dict(one.heard[3])


# --- lineage, continued training, executors ---------------------------------------------------------


@dataclass(frozen=True)
class Going:
    """A trainer that can go on: its models count how often."""

    writes: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    fits: list[int] = field(default_factory=list, init=False, compare=False)

    def fit(self, records, *, seed=0, validation=None, progress=None, start=None):
        """Go on from a model, or begin."""
        age = 0 if start is None else start.age + 1
        self.fits.append(age)
        return Aged(age)

    @staticmethod
    def load(folder):
        """Read a model."""
        return Aged(int((folder / "age").read_text()))


@dataclass(frozen=True)
class Aged:
    """A model that knows how often it was trained."""

    age: int

    def generate(self, n, temperature, seed):
        """Write its age."""
        return from_rows([{"text": f"age {self.age} {i}"} for i in range(n)], datatype="text")

    def save(self, folder):
        """Write the model."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "age").write_text(str(self.age))


def test_a_continued_loop_hands_each_model_to_the_next(tmp_path) -> None:
    """Ages count up; a loop that is taken up again goes on from the saved model."""
    human = from_rows([{"text": f"human {i}"} for i in range(100)], datatype="text")
    settings = {"task": "text:audit=", "n": 50, "control": False, "continued": True, "journal": tmp_path}
    whole = Going()
    simulate(human, trainer=whole, iterations=3, **settings)
    assert [0, 1, 2, 3] == whole.fits
    more = Going()
    simulate(human, trainer=more, iterations=5, **settings)
    assert [4, 5] == more.fits
    fresh = Going()
    simulate(human, trainer=fresh, iterations=3, **{**settings, "continued": False})
    assert [0, 0, 0, 0] == fresh.fits
    with pytest.raises(BadSetting, match="cannot go on"):
        simulate(human, trainer=Words(), iterations=1, **settings)


def test_every_training_row_says_which_model_wrote_it() -> None:
    """The rows that a trainer gets carry source, iteration and parent model, also of several models."""

    @dataclass(frozen=True)
    class Looking:
        writes: ClassVar[bool] = True
        seen: list = field(default_factory=list, init=False, compare=False)

        def fit(self, records, *, seed=0, validation=None, progress=None):
            self.seen.append(records)
            texts = records.texts()
            return SimpleNamespace(
                generate=lambda n, temperature, seed: from_rows(
                    [{"text": texts[i % len(texts)]} for i in range(n)], datatype="text"
                )
            )

    one, several = Looking(), Looking()
    simulate(**{**SMALL, "trainer": one}, cycles="full:fresh_share=0.25", iterations=2)
    assert {"human": 50, "synthetic": 150} == dict(Counts(one.seen[2].lineage("source")))
    assert {None: 50, 1: 150} == dict(Counts(one.seen[2].lineage("iteration")))
    simulate(**{**SMALL, "trainer": several}, cycles="crossed:models=2,feed=pool", iterations=1)
    names = {"model:crossed:models=2,feed=pool:0:0:0", "model:crossed:models=2,feed=pool:0:0:1"}
    assert names == set(several.seen[2].lineage("generator"))
    assert 400 == len({*several.seen[2].ids, *several.seen[3].ids})


def test_workers_give_the_same_numbers_as_one_process(tmp_path) -> None:
    """Two worker processes and none: equal loops, but for the seconds."""
    shared = Shared(
        registry.make("tasks", TASK), (registry.make("trainers", f"emulator:task={TASK.split(':')[0]}"),)
    )
    jobs = [Job("full", Policy(), seed, 3, temperature, 100) for seed in (0, 1) for temperature in (0.8, 1.0)]
    here = run_jobs(shared, jobs)
    there = run_jobs(shared, jobs, executor=registry.make("executors", "local:workers=2"))
    assert [plain(one.loop) for one in here] == [plain(one.loop) for one in there]
    assert [one.texts for one in here] == [one.texts for one in there]
    bare = run_jobs(shared, jobs[:1], texts=False)
    assert ((), plain(here[0].loop)) == (bare[0].texts, plain(bare[0].loop))


def plain(loop):
    """A loop without its seconds."""
    from dataclasses import asdict

    told = asdict(loop)
    for row in told["iterations"]:
        row["seconds"] = 0
    return told


# --- kill -9 ----------------------------------------------------------------------------------------

SCRIPT = """
import json, sys
from dataclasses import asdict
from karat.simulation.stage import simulate
found = simulate(
    task="logic", trainer=sys.argv[3], cycles=("full", "expanding"), iterations=int(sys.argv[4]), n=60,
    seeds=(0, 1), journal=sys.argv[1], continued=sys.argv[5] == "True",
)
told = found.to_json()
for run in told["runs"] + told["controls"]["runs"]:
    for row in run["iterations"]:
        row["seconds"] = 0
with open(sys.argv[2] + ".part", "w") as file:
    json.dump({"told": told, "texts": found.samples.texts()}, file)
import os
os.replace(sys.argv[2] + ".part", sys.argv[2])
"""


def ran(folder, out, trainer, iterations, continued, *, kill_after=None):
    """Run a simulation in a process of its own; perhaps kill it. Return whether it ended by itself."""
    begun = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(out), trainer, str(iterations), str(continued)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if kill_after is not None:
        wanted, deadline = kill_after, time.monotonic() + 60
        # By files and not by time: the machine may be slow or fast.
        while begun.poll() is None and time.monotonic() < deadline:
            if len(list(folder.glob("*.json"))) >= wanted:
                break
            time.sleep(0.002)
        time.sleep(random.Random(wanted).random() * 0.05)
        begun.send_signal(signal.SIGKILL)
    begun.wait(120)
    return begun.returncode == 0


@pytest.mark.parametrize(
    ("trainer", "iterations", "continued"),
    [("emulator", 6, False), ("gpt:steps=3,width=16,layers=1,heads=2", 3, True)],
)
def test_a_loop_that_is_killed_ends_with_the_same_numbers(tmp_path, trainer, iterations, continued) -> None:
    """kill -9 at several moments, in the middle of iterations and of writing: as if nothing had been."""
    whole = tmp_path / "whole"
    assert ran(tmp_path / "a", whole, trainer, iterations, continued)
    folder, out = tmp_path / "b", tmp_path / "killed"
    folder.mkdir()
    total = len(list((tmp_path / "a").glob("*.json")))
    kills = 0
    for moment in sorted(random.Random(1).sample(range(1, total), 2)):
        kills += not ran(folder, out, trainer, iterations, continued, kill_after=moment)
    assert kills
    assert ran(folder, out, trainer, iterations, continued)
    assert json.loads(whole.read_text()) == json.loads(out.read_text())
    assert {path.name for path in (tmp_path / "a").glob("*.json")} <= {
        path.name for path in folder.glob("*.json")
    }


def test_a_human_row_is_marked_as_such() -> None:
    """HUMAN is what no iteration is called."""
    assert human_batch(["a"]).made == (HUMAN,)
    assert Counter().fit(from_rows([{"text": "(True and True)"}], datatype="text"), seed=0) is not None
