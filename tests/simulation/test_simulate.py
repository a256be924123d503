from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from quick_trainers import TASK, Counter, Words

import karat
from karat.blocks import Chart, Examples, Headline, Note, Table
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import from_rows
from karat.runs import Run
from karat.simulation.result import HalfLife, Iteration, Loop, TrainedOn, bands, crossing, half_life
from karat.simulation.stage import simulate


@pytest.fixture(scope="module")
def simulated():
    return simulate(
        task=TASK, cycles=("full", "expanding"), iterations=10, seeds=(0, 1), n=200, trainer=Counter()
    )


def test_the_full_cycle_loses_diversity_and_the_control_does_not(simulated) -> None:
    """At temperature 0.8 what trains on itself alone collapses; expanding keeps most; fresh data keep all."""
    ends = {row.cycle: row.kept for row in simulated.at(10) if row.seed == 0}
    assert ends["full"] < 0.5 < ends["expanding"]
    control = simulated.controls[0].curve("levenshtein")
    assert control[0] == pytest.approx(control[-1], rel=0.1)
    assert all(row.outside for row in simulated.at(10) if row.cycle == "full")


def test_the_json_is_what_was_promised(simulated) -> None:
    """Keys as in the interface; plain JSON all through."""
    found = json.loads(json.dumps(simulated.to_json()))
    assert ["full", "expanding", "full", "expanding"] == [run["cycle"] for run in found["runs"]]
    row = found["runs"][0]["iterations"][3]
    promised = {
        "iteration", "correct", "levenshtein", "distinct", "distinct_correct", "entropy", "valid",
        "trained_on", "seconds",
    }  # fmt: skip
    assert promised <= set(row)
    assert {"rows": 200, "human": 0, "synthetic": 200, "by_iteration": {"2": 200}} == row["trained_on"]
    half = found["half_life"]["full"]
    assert half["interval"][0] <= half["value"] <= half["interval"][1]
    assert found["half_life"]["expanding"]["value"] is None
    assert "not" in found["half_life"]["expanding"]["note"]
    assert 9 == len(found["controls"]["runs"][0]["iterations"])
    assert found["controls"]["bands"]["levenshtein"]["n"] == 18


def test_all_cycles_of_a_seed_share_their_first_iteration(simulated) -> None:
    """Iteration 0 is the same model for each cycle and the control, so that it is trained once."""
    firsts = {
        (loop.seed, loop.iterations[0]) == (0, simulated.runs[0].iterations[0]) for loop in simulated.runs
    }
    assert {True, False} == firsts
    assert simulated.runs[0].iterations[0] == simulated.runs[1].iterations[0]
    trainer = Counter()
    simulate(task=TASK, cycles=("full", "expanding"), iterations=2, n=50, trainer=trainer)
    assert 1 + 3 * 2 == len(trainer.calls)


def test_growing_data_are_trained_on_as_a_whole(simulated) -> None:
    """Expanding by a tenth: 200 human rows and 20 more each iteration, by the iteration that wrote them."""
    loop = next(loop for loop in simulated.runs if loop.cycle == "expanding")
    assert TrainedOn(260, 200, 60, {"0": 20, "1": 20, "2": 20}) == loop.iterations[3].trained_on


def test_every_text_that_was_written_is_there_with_its_lineage(simulated) -> None:
    """Samples can be audited like any records: source, generator, iteration and seed are known."""
    found = simulated.written("full", 4, seed=1)
    assert (200, {"synthetic"}, {4}, {1}) == (
        len(found), set(found.lineage("source")), set(found.lineage("iteration")), set(found.lineage("seed")),
    )  # fmt: skip
    assert {"model:full:1:4"} == set(found.lineage("generator"))
    assert len(set(found.texts())) == simulated.runs[2].iterations[4].measures.distinct
    with pytest.raises(InputError, match="no texts"):
        simulated.written("full", 99)


def test_a_simulation_is_determined_by_its_seed(simulated) -> None:
    """The same call gives the same numbers and texts, but for the seconds."""
    again = simulate(
        task=TASK, cycles=("full", "expanding"), iterations=10, seeds=(0, 1), n=200, trainer=Counter()
    )
    assert again.samples.fingerprint == simulated.samples.fingerprint
    assert again.half_life == simulated.half_life
    assert again.bands == simulated.bands


def test_results_explain_themselves(simulated) -> None:
    """worst, why and at answer the next question; an unknown cycle is named."""
    assert "full" == simulated.worst(1)[0].cycle
    assert "below" in simulated.why("full")
    assert "diversity" in simulated.why("expanding")
    with pytest.raises(InputError, match="did you mean 'expanding'"):
        simulated.why("expandin")


def test_the_report_shows_curves_with_the_human_line_and_texts(simulated) -> None:
    """Charts hold every cycle and the control, with their conditions in the caption."""
    (section,) = simulated.__report__()
    charts = [block for block in section.blocks if isinstance(block, Chart)]
    assert isinstance(section.blocks[0], Headline)
    assert {"Diversity", "Correct texts", "Different correct texts"} <= {chart.title for chart in charts}
    assert {"full", "expanding", "control"} == {row["cycle"] for row in charts[0].rows}
    assert simulated.real.levenshtein == charts[0].lines[0].y
    assert all("temperature 0.8" in chart.note for chart in charts)
    (examples,) = [block for block in section.blocks if isinstance(block, Examples)]
    assert {"full, iteration 0", "full, iteration 10"} <= {row.group for row in examples.rows}
    assert any(isinstance(block, Table) for block in section.blocks)


def test_a_model_that_has_not_learned_the_task_is_called_out() -> None:
    """Below 90% valid in the first iteration the result warns, in the JSON and in the report."""
    weak = simulate(task=TASK, iterations=1, n=100, trainer=Counter(broken=0.3), control=False)
    assert ["weak_model"] == [w.code for w in weak.warnings]
    assert any(isinstance(b, Note) and b.level == "warning" for b in weak.__report__()[0].blocks)


def test_a_loop_ends_when_one_text_is_left() -> None:
    """After total collapse nothing can change, and the run says so."""
    found = simulate(task=TASK, iterations=60, n=50, temperature=0.3, trainer=Counter(), control=False).runs[
        0
    ]
    assert "collapsed" in found.ended
    assert len(found.iterations) < 61
    assert 1 == found.iterations[-1].measures.distinct


def test_an_interrupted_simulation_goes_on_from_its_journal(tmp_path) -> None:
    """Iterations in the journal are not done twice; a file cut off by a kill is."""
    first = Counter()
    whole = simulate(task=TASK, iterations=3, n=60, trainer=first, journal=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert 7 == len(files) == len(first.calls)
    second = Counter()
    again = simulate(task=TASK, iterations=3, n=60, trainer=second, journal=tmp_path)
    assert [] == second.calls
    assert whole.to_json() == again.to_json()
    files[0].write_text(files[0].read_text()[:100])
    third = Counter()
    simulate(task=TASK, iterations=3, n=60, trainer=third, journal=tmp_path)
    assert 1 == len(third.calls)
    fourth = Counter()
    simulate(task=TASK, iterations=3, n=60, trainer=fourth, journal=tmp_path, temperature=0.7)
    assert 7 == len(fourth.calls)


def test_a_run_folder_gives_the_same_result_back(tmp_path) -> None:
    """The result survives being saved and loaded."""
    settings = {"task": TASK, "iterations": 2, "n": 50, "trainer": "gpt:steps=3,width=16,layers=1,heads=2"}
    one = Run(tmp_path).step(simulate, **settings)
    two = Run(tmp_path).step(simulate, **settings)
    assert one.to_json() == two.to_json()
    assert one.samples.texts() == two.samples.texts()


def test_any_corpus_can_loop_without_a_verifier() -> None:
    """Task text: no correctness, the loss on held-out human texts, a warning where human rows run out."""
    chance = random.Random(0)
    human = from_rows(
        [{"text": " ".join(chance.choices("abcdefghij", k=6))} for _ in range(100)], datatype="text"
    )
    found = simulate(human, task="text", cycles="full", iterations=2, trainer=Words(), n=0)
    last = found.runs[0].iterations[-1]
    assert (90, None, None) == (found.n, last.measures.correct, last.measures.valid)
    assert last.real_loss is not None
    assert ["human_data_reused"] == [w.code for w in found.warnings]
    assert "Loss on human texts" in {b.title for b in found.__report__()[0].blocks if isinstance(b, Chart)}
    with pytest.raises(NotEnoughData, match="90 human records"):
        simulate(human, task="text", trainer=Words(), n=95)
    with pytest.raises(InputError, match="needs human records"):
        simulate(task="text", trainer=Words())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"iterations": 0}, "iterations"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"seeds": 3}, "seeds is 3"),
        ({"temperature": 0.0}, "temperature"),
        ({"fresh_share": 1.5}, "fresh_share"),
        ({"n": 3}, "n is 3"),
        ({"cycles": ("full", "full")}, "twice"),
        ({"cycles": ()}, "no cycle"),
        ({"trainer": "linear"}, "linear"),
    ],
)
def test_impossible_settings_are_named(settings, says) -> None:
    """One line that names the setting, before any work is done."""
    with pytest.raises((BadSetting, InputError), match=says):
        simulate(**{"task": TASK, "n": 50, "trainer": Counter(), "iterations": 1, **settings})


def test_progress_counts_iterations_up_to_the_end() -> None:
    """From 0 to the last one, also where a loop ends early; `seed` moves all seeds."""
    seen: list[tuple[str, int, int]] = []
    found = simulate(
        task=TASK, iterations=40, n=50, temperature=0.3, seeds=(0, 1), seed=5, trainer=Counter(),
        progress=lambda *told: seen.append(told),
    )  # fmt: skip
    assert ("simulate", 0, 98) == seen[0]
    assert ("simulate", 98, 98) == seen[-1]
    assert {5, 6} == {loop.seed for loop in found.runs}


def test_fresh_share_goes_to_cycles_without_their_own() -> None:
    """A cycle's own setting wins over the study's."""
    found = simulate(
        task=TASK, cycles=("full", "full:fresh_share=0.5"), fresh_share=0.1, iterations=1, n=100,
        trainer=Counter(), control=False,
    )  # fmt: skip
    assert [10, 50] == [loop.iterations[1].trained_on.human for loop in found.runs]


def row_with(t: int, value: float, spread: float = 0.01) -> Iteration:
    base = simulate(task=TASK, iterations=1, n=20, trainer=Counter(), control=False).runs[0].iterations[0]
    measures = replace(
        base.measures, levenshtein=value, intervals={"levenshtein": (value - spread, value + spread)}
    )
    return replace(base, iteration=t, measures=measures)


def test_half_lives_by_hand() -> None:
    """Straight lines between iterations; the median over seeds; a curve that stays up gives a bound only."""
    assert 1.5 == crossing([1.0, 0.75, 0.25], 0.5)
    assert crossing([1.0, 0.9], 0.5) is None
    quick = Loop("full", 0, tuple(row_with(t, v, 0.0) for t, v in enumerate((1.0, 0.75, 0.25))))
    slow = Loop("full", 1, tuple(row_with(t, v, 0.0) for t, v in enumerate((1.0, 0.9, 0.5))))
    stays = Loop("full", 2, tuple(row_with(t, v, 0.0) for t, v in enumerate((1.0, 0.9, 0.9))))
    found = half_life([quick, slow])
    assert 1.75 == found.value
    assert found.interval[0] < 1.5 < 2.0 < found.interval[1]
    assert HalfLife(None, (2.0, None), half_life([stays]).note) == half_life([stays])
    late = half_life([quick, slow, stays])
    assert 2.0 == late.value
    assert late.interval[0] < 1.5
    assert half_life([quick, stays]).value is None


def test_the_control_s_band_is_a_prediction_interval() -> None:
    """Mean plus or minus t(k - 1) times the spread times sqrt(1 + 1/k)."""
    loop = Loop("control", 0, tuple(row_with(t, v) for t, v in enumerate((0.1, 0.2, 0.3))))
    band = bands([loop], ["levenshtein"])["levenshtein"]
    assert (pytest.approx(0.2), 3) == (band.mean, band.n)
    assert 0.1 * 4.302653 * (1 + 1 / 3) ** 0.5 == pytest.approx(band.high - band.mean, rel=1e-5)


def test_the_face_of_the_package_has_it() -> None:
    """karat.simulate and karat.forecast are these functions."""
    assert karat.simulate is simulate
    assert callable(karat.forecast)
