"""What a loop trains on, row by row, against plain definitions; and what it says when that goes short."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter as Counts
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import pytest
from quick_trainers import TASK, Counter

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows
from karat.simulation.base import Batch, Policy, Pool, advance, human_batch
from karat.simulation.emulator import emulate
from karat.simulation.measures import levenshtein_diversity
from karat.simulation.stage import simulate

HUMAN = from_rows([{"text": f"human {i}"} for i in range(2000)], datatype="text")


@dataclass(frozen=True)
class Numbered:
    """A trainer whose models write their number, and which keeps what each was trained on."""

    writes: ClassVar[bool] = True
    seen: list = field(default_factory=list, init=False, compare=False)

    def fit(self, records, *, seed=0, validation=None, progress=None):
        """Keep the records."""
        number = len(self.seen)
        self.seen.append(records)

        def generate(n, temperature, seed):
            return from_rows([{"text": f"model {number} {seed} {i}"} for i in range(n)], datatype="text")

        return SimpleNamespace(generate=generate)


def looped(cycle, n, iterations=4, **settings):
    """Return what each model was trained on, and the simulation."""
    trainer = Numbered()
    found = simulate(
        HUMAN, task="text:audit=", cycles=cycle, trainer=trainer, n=n, iterations=iterations, control=False,
        **settings,
    )  # fmt: skip
    return trainer.seen, found


@pytest.mark.parametrize("cycle", ["full:fresh_share=0.25", "mad_fresh", "crossed:models=2,fresh_share=0.5"])
def test_fresh_rows_are_new_to_the_loop(cycle) -> None:
    """While human records last, no fresh row was in the first data, nor came in an iteration before."""
    seen, found = looped(cycle, 100)
    models = found.runs[0].iterations[0].by_model or {"0": {}}
    firsts, later = seen[: len(models)], seen[len(models) :]
    fresh = [text for data in later for text in data.texts() if text.startswith("human")]
    assert fresh
    assert len(fresh) == len(set(fresh))
    assert not set(fresh) & set(firsts[0].texts())
    assert [] == [warning.code for warning in found.warnings]


def test_a_pool_deals_on_after_a_first_turn_of_another_size() -> None:
    """First 50 rows, then ten a turn: all different until the pack is through."""
    pool = Pool(tuple(f"t{i}" for i in range(100)))
    dealt = pool.draw(50, turn=0) + [
        text for turn in (1, 2, 3, 4) for text in pool.draw(10, turn=turn, first=50)
    ]
    assert 90 == len(set(dealt))


def test_rows_that_run_out_are_counted_as_they_are_dealt() -> None:
    """2,000 records, 1,800 of them dealt: three models that each take half of 300 rows anew, eight times."""
    fresh = "crossed:models=3,fresh_share=0.5"
    codes = [warning.code for warning in looped(fresh, 300, 3)[1].warnings]
    assert [] == codes  # 300 + 3 * 3 * 150 = 1,650
    assert ["human_data_reused"] == [w.code for w in looped(fresh, 300, 4)[1].warnings]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_balanced_shares_are_those_of_batches(share) -> None:
    """The first data and each batch have 1/(t+1) of n rows, fresh rows inside their batch; no row twice."""
    seen, _ = looped(f"balanced:fresh_share={share}", 200)
    first = set(seen[0].texts())
    for t, data in enumerate(seen[1:], start=1):
        texts = data.texts()
        assert 200 == len(texts) == len(set(texts))
        assert 200 / (t + 1) == pytest.approx(sum(text in first for text in texts), abs=1)
        made = sum(text.startswith("model") for text in texts)
        expected = 200 * t / (t + 1) * (1 - share)
        assert expected == pytest.approx(made, abs=1 + 4 * (expected * share) ** 0.5)


def test_more_sources_than_rows_leave_none_out_for_good() -> None:
    """20 rows of 40 sources: any of them can be drawn, the newest as often as the oldest."""
    policy = Policy(keep="all", weights="source", subsample=1.0)
    pool = human_batch(["h"] * 20)
    for made in range(38):
        pool = pool.plus(Batch(("s",) * 20, (made,) * 20))
    newest = Batch(("s",) * 20, (38,) * 20)
    held = Counts()
    for seed in range(200):
        held.update(set(advance(policy, pool, newest, [], n=20, seed=seed)[1].made))
    assert 40 == len(held)
    assert 100 == pytest.approx(held[38], abs=35)  # five standard deviations
    assert 100 == pytest.approx(held[-1], abs=35)


@pytest.mark.parametrize("n", [20, 21, 25])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_an_incremental_cycle_trains_on_n_rows(n, share) -> None:
    """Also where neither part is a whole number of rows."""
    seen, _ = looped(f"incremental:share={share}", n)
    assert [n] * 5 == [len(data) for data in seen]
    assert {round(share * n)} == {data.lineage("iteration").count(t) for t, data in enumerate(seen[1:])}


def test_rows_and_samples_name_the_same_model() -> None:
    """Each model in the lineage of training rows is one whose samples are there, with these very texts."""
    for cycle in ("expanding:growth=0.5", "crossed:models=3,feed=pool"):
        seen, found = looped(cycle, 100, 3)
        written = Counts(zip(found.samples.lineage("generator"), found.samples.texts()))
        names = set(found.samples.lineage("generator"))
        for data in seen:
            rows = [
                (name, text)
                for name, text in zip(data.lineage("generator"), data.texts())
                if name is not None
            ]
            assert {name for name, _ in rows} <= names
            if cycle.startswith("expanding"):
                assert set(rows) <= set(written)
        models = {text.split()[1] for _, text in written}
        assert len(models) == len(names)
        assert len(models) == len({(text.split()[1], name) for name, text in written})


def test_first_texts_of_several_models_are_their_own() -> None:
    """Beside another cycle, `written` gives the texts that a crossed cycle's first models wrote."""
    cycles = ("full", "crossed:models=2,feed=own")
    found = simulate(task=TASK, cycles=cycles, n=50, iterations=1, trainer="emulator", control=False)
    plain, crossed = (found.written(cycle, 0) for cycle in cycles)
    assert 50 == len(plain) == len(crossed)
    assert plain.texts() != crossed.texts()
    for cycle, loop in zip(cycles, found.runs):
        assert loop.iterations[0].measures.distinct == len(set(found.written(cycle, 0).texts()))
    with pytest.raises(InputError, match="did you mean 'full'"):
        found.written("ful", 0)


def test_a_study_s_fresh_share_leaves_cycles_alone_that_have_their_own() -> None:
    """mad_fresh says how much is fresh; a share for the others does not change it."""
    _, found = looped(("full", "mad_fresh"), 100, 1, fresh_share=0.1)
    assert [10, 50] == [loop.iterations[1].trained_on.human for loop in found.runs]


def test_a_selection_that_gives_too_little_is_told() -> None:
    """Nineteen of twenty texts are refused, so that ten times n are not enough: it says so, with figures."""
    settings = {"task": TASK, "n": 50, "iterations": 2, "trainer": Counter(), "control": False}
    short = simulate(**settings, cycles="verified:false_negatives=0.95")
    (warned,) = [warning for warning in short.warnings if warning.code == "starved"]
    assert "of 500 written" in warned.message
    assert short.runs[0].iterations[1].trained_on.rows < 50
    ended = simulate(**settings, cycles="verified:false_negatives=1")
    assert ["starved"] == [warning.code for warning in ended.warnings if warning.code == "starved"]
    assert "ended early, starved" in ended.why("verified:false_negatives=1")
    assert [] == [w.code for w in simulate(**settings, cycles="verified").warnings if w.code == "starved"]


def test_words_name_the_seed_they_speak_of() -> None:
    """Of several seeds one is told, and the headline tells the one whose figure it shows."""
    found = simulate(task=TASK, iterations=3, seeds=(0, 1, 2), n=50, trainer=Counter())
    assert "seed 0 (one of 3)" in found.why("full")
    assert "seed 2 (one of 3)" in found.why("full", seed=2)
    assert f"seed {found.worst(1)[0].seed} " in found.__report__()[0].blocks[0].detail
    with pytest.raises(InputError, match="seed 7"):
        found.why("full", seed=7)
    for name, band in found.bands.items():
        assert name.startswith("audit:") or band.low >= 0.0, name


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cycles": "expanding:growth=0.001"}, "adds 0.001 of n=50 rows"),
        ({"cycles": "expanding:growth=nan"}, "growth=nan"),
        ({"cycles": "expanding:growth=inf"}, "growth=inf"),
        ({"cycles": "mad_synthetic:size=nan"}, "size=nan"),
        ({"cycles": "mad_augmentation:size=inf"}, "size=inf"),
        ({"cycles": "mad_fresh:fresh=nan"}, "fresh=nan"),
        ({"cycles": "detected:b=inf"}, "b=inf"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"cycles": "ordered", "trainer": Counter()}, "log-probabilities"),
        ({"trainer": SimpleNamespace(writes=True)}, "not an object of a dataclass"),
        ({"trainer": Counter}, "not an object of a dataclass"),
        ({"task": object()}, "not an object of a dataclass"),
        ({"trainer": "emulator emulator:slip=0.1"}, "2 trainers are given"),
        ({"n": 50.5}, "n is 50.5"),
        ({"iterations": 1.5}, "iterations is 1.5"),
        ({"seeds": (0.5,)}, "seeds is 0.5"),
        ({"seeds": "01"}, "seeds is '0'"),
    ],
)
def test_settings_that_are_no_numbers_are_named(settings, says) -> None:
    """One line that names the setting, before models are trained in vain."""
    with pytest.raises((BadSetting, InputError), match=says):
        simulate(**{"task": TASK, "n": 50, "trainer": "emulator", "iterations": 1, **settings})


def test_a_few_very_long_texts_have_a_distance() -> None:
    """Fewer than five texts are always compared, however long: sampling them has no error to tell."""
    for n in (2, 3, 4):
        found, exact = levenshtein_diversity([[f"{i}"] * 50 for i in range(n)], exact_pairs=0)
        assert (1.0, True) == (found.value, exact)


def test_half_a_surrogate_pair_can_be_kept(tmp_path) -> None:
    """A text that is no valid Unicode is written to the journal and read again as it was."""
    human = from_rows([{"text": f"human {i} \ud800"} for i in range(50)], datatype="text")
    settings = {"task": "text:audit=", "n": 20, "iterations": 2, "journal": tmp_path, "control": False}
    one, two = (simulate(human, trainer=Numbered(), **settings) for _ in range(2))
    assert one.samples.texts() == two.samples.texts()
    json.dumps(one.to_json())


@dataclass(frozen=True)
class Odd:
    """A trainer whose models write something else than was asked for."""

    writes: ClassVar[bool] = True
    texts: tuple[str, ...] | None = None
    share: float = 1.0

    def fit(self, records, *, seed=0, validation=None, progress=None):
        """Make a model; without texts it cannot write."""
        if self.texts is None:
            return SimpleNamespace()

        def generate(n, temperature, seed):
            rows = [{"text": self.texts[i % len(self.texts)]} for i in range(int(n * self.share))]
            return from_rows(rows, datatype="text")

        return SimpleNamespace(generate=generate)


def odd(trainer):
    """A loop with such a trainer."""
    return simulate(task=TASK, n=50, iterations=3, trainer=trainer)


def test_trainers_that_do_not_keep_the_contract_are_named() -> None:
    """A model that cannot write, and one that writes half of what was asked for."""
    with pytest.raises(BadSetting, match="trainer 'odd': its models have no generate"):
        odd(Odd())
    with pytest.raises(BadSetting, match="wrote 25 of 50 texts"):
        odd(Odd(("True",), 0.5))


def test_a_first_model_that_writes_one_text_has_no_half_life() -> None:
    """There is no diversity to lose, so that nothing is said of how soon it is lost."""
    found = odd(Odd(("True",)))
    assert found.half_life["full"].value is None
    assert "no diversity to lose" in found.half_life["full"].note
    assert "weak_model" in {warning.code for warning in found.warnings}
    assert "half" not in found.__report__()[0].blocks[0].label


def test_what_equals_the_control_is_not_below_it() -> None:
    """Where nothing ever changes the band has no width, and rounding must not fall out of it."""
    found = odd(Odd(("True", "(not True)", "False")))
    assert "not below" in found.why("full")
    assert [False] == [row.outside for row in found.at(3)]


class Elsewhere:
    """Holds a trainer whose name is taken."""

    @dataclass(frozen=True)
    class Numbered(Numbered):
        """The same settings, other texts."""


def test_a_trainer_of_the_same_name_does_not_meet_old_files(tmp_path) -> None:
    """The journal tells classes apart by where they stand, not by name and settings alone."""
    settings = {"task": "text:audit=", "n": 20, "iterations": 2, "journal": tmp_path, "control": False}
    for trainer in (Numbered(), Elsewhere.Numbered()):
        simulate(HUMAN, trainer=trainer, **settings)
        assert 3 == len(trainer.seen)


def test_few_held_out_records_are_told() -> None:
    """Of 30 records three are held out: what is measured on them says little. Of 100 ten are."""
    for records, few in ((30, True), (100, False)):
        human = HUMAN.take(range(records))
        found = simulate(human, task="text:audit=", trainer=Numbered(), n=20, iterations=1)
        assert few is ("too_few_records" in {warning.code for warning in found.warnings})


def test_an_emulated_loop_takes_the_same_share_of_the_surest_texts() -> None:
    """Also where a cycle adds little: half of twice what is needed, not the surest tenth of all."""
    spec, n, seeds = "ordered:of=expanding:growth=0.2", 100, range(8)
    found = simulate(
        task="logic", cycles=spec, n=n, seeds=seeds, iterations=12, trainer="emulator", control=False
    )
    simulated = [loop.curve("levenshtein")[-1] for loop in found.runs]
    task, policy = registry.make("tasks", "logic"), registry.make("cycles", spec).policy()
    emulated = [
        emulate(task, policy, 0.8, n=n, iterations=12, seed=100 + seed, judge=False).diversity[-1]
        for seed in seeds
    ]
    error = math.sqrt((statistics.variance(simulated) + statistics.variance(emulated)) / len(simulated))
    assert statistics.fmean(simulated) == pytest.approx(statistics.fmean(emulated), abs=3 * error)
