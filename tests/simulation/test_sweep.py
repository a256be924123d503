"""Sweeps: what counts as collapse, the plane, the fresh share that is needed, kill and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from quick_trainers import TASK, Counter, Words
from scipy import stats

import karat
from karat import cli_flags, registry
from karat.blocks import Chart, Headline, Table
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import from_rows
from karat.simulation.measures import measure
from karat.simulation.phases import Lines, Spread, cell_of, spread
from karat.simulation.result import Iteration, Loop, TrainedOn
from karat.simulation.stage import simulate
from karat.simulation.sweep import sweep

SMALL = {
    "task": TASK,
    "temperatures": (0.7, 1.0, 1.3),
    "fresh_shares": (0.0, 0.5),
    "sizes": (100,),
    "iterations": 8,
    "trainer": "emulator:slip=0.004",
}


@pytest.fixture(scope="module")
def swept():
    return sweep(**SMALL)


USUAL = Lines()

# --- what counts as collapse ----------------------------------------------------------------------


def loop(seed, diversities, corrects, *, cycle="full", distinct=50, ended=""):
    """A loop with these curves."""
    plain = measure([["a"], ["b"]])
    rows = tuple(
        Iteration(
            iteration=t,
            measures=replace(
                plain,
                levenshtein=diversity,
                correct=correct,
                valid=correct,
                distinct=distinct if t else 100,
                distinct_correct=None if correct is None else (distinct if t else 100),
                intervals={"levenshtein": (diversity - 0.01, diversity + 0.01)},
            ),
            trained_on=TrainedOn(2, 0, 2, {}),
            real_loss=None,
            training_loss=None,
            seconds=0.0,
        )
        for t, (diversity, correct) in enumerate(zip(diversities, corrects))
    )
    return Loop(cycle, seed, rows, ended)


def judged(ends, corrects, *, control=(0.6, 0.9), first=0.6, distinct=100, lines=USUAL):
    """The cell of loops, a seed each, that end like this."""
    loops = [
        loop(seed, [first, first, end], [0.9, 0.9, correct], distinct=distinct)
        for seed, (end, correct) in enumerate(zip(ends, corrects))
    ]
    controls = [loop(seed, [control[0]] * 3, [control[1]] * 3, distinct=100) for seed in range(len(ends))]
    place = ("full", 0.8, 0.0, 100)
    return cell_of(loops, controls, place=place, lines=lines, iterations=2, gate=0.9)


def test_the_four_phases() -> None:
    """Less than half of the control's diversity, a correct share more than 0.1 below the control's."""
    cases = {
        "neither": ([0.31, 0.32, 0.33], [0.85, 0.84, 0.83]),
        "diversity": ([0.10, 0.11, 0.12], [0.99, 0.99, 0.98]),
        "correctness": ([0.61, 0.60, 0.62], [0.70, 0.71, 0.69]),
        "both": ([0.10, 0.11, 0.12], [0.20, 0.21, 0.19]),
    }
    for phase, (ends, corrects) in cases.items():
        assert phase == judged(ends, corrects).phase


def test_a_temperature_that_costs_diversity_without_a_loop_is_no_collapse() -> None:
    """The end is measured against the control, not against the first model's or the real texts."""
    cell = judged([0.25, 0.25, 0.25], [0.9] * 3, control=(0.3, 0.9), first=0.6)
    assert "neither" == cell.phase
    assert pytest.approx(0.25 / 0.3) == cell.kept.value
    cell = judged([0.25, 0.25, 0.25], [0.5] * 3, control=(0.6, 0.52), first=0.6)
    assert "diversity" == cell.phase, "the control is as wrong"


def test_the_interval_is_that_of_student() -> None:
    """The 95% interval of the mean over seeds, against scipy; it holds the median, and the bounds."""
    values = [0.31, 0.52, 0.44, 0.39]
    found = spread(values)
    peer = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert pytest.approx((peer.low, peer.high)) == found.interval
    assert pytest.approx(0.415) == found.value
    bounded = spread([0.0, 0.0, 0.4], bounds=(0.0, 1.0))
    assert 0.0 == bounded.interval[0] == bounded.value
    skewed = spread([0.0] * 11 + [1.0] * 9)
    assert skewed.interval[0] == 0.0 == skewed.value


def test_a_cell_is_certain_only_where_its_seeds_settle_it() -> None:
    """A line inside the interval, seeds on both sides, or a single seed leave a cell uncertain."""
    assert judged([0.10, 0.11, 0.12], [0.9] * 3).certain
    assert not judged([0.10, 0.28, 0.29], [0.9] * 3).certain, "the line is inside the interval"
    assert not judged([0.10, 0.11, 0.12], [0.9, 0.9, 0.72]).certain, "correctness is not settled"
    assert not judged([0.1], [0.9]).certain, "one seed"
    many = Spread(0.6, (0.52, 0.6), (0.6,) * 7 + (0.4,) * 3)
    assert not many.clear(0.5), "three of ten seeds are on the other side"
    assert replace(many, seeds=(0.6,) * 9 + (0.4,)).clear(0.5)


def test_what_edit_distance_hides_is_shown() -> None:
    """Neither axis collapsed, but fewer than half of the different correct texts are left."""
    cell = judged([0.6] * 3, [0.9] * 3, distinct=30)
    assert ("neither", True, pytest.approx(0.3)) == (cell.phase, cell.hidden, cell.last.value)
    assert not judged([0.6] * 3, [0.9] * 3, distinct=80).hidden
    assert not judged([0.1] * 3, [0.9] * 3, distinct=30).hidden, "diversity says so already"


def test_a_loop_that_ended_stays_as_it_was() -> None:
    """A collapsed loop counts with its last state, and its curve goes on."""
    loops = [loop(0, [0.6, 0.0], [0.9, 1.0], ended="collapsed: one text is left at iteration 1")]
    cell = cell_of(loops, [], place=("full", 0.7, 0.0, 100), lines=Lines(), iterations=4, gate=0.9)
    assert (0.0, 1, "diversity") == (cell.kept.value, cell.ends[0].iteration, cell.phase)
    assert (1.0, 0.0, 0.0, 0.0, 0.0) == cell.curves["kept"]


def test_the_lines_can_be_moved() -> None:
    """`kept` and `lost` say where a collapse begins."""
    assert "neither" == judged([0.2] * 3, [0.7] * 3, lines=Lines(kept=0.3, lost=0.25)).phase
    assert "both" == judged([0.5] * 3, [0.85] * 3, lines=Lines(kept=0.9, lost=0.02)).phase


# --- the plane ------------------------------------------------------------------------------------


def test_temperature_decides_which_axis_collapses(swept) -> None:
    """Below 1 diversity goes; above it correctness, with a learner that slips; half fresh data keep both."""
    assert "diversity" == swept.phase(0.7, 0.0)
    assert "correctness" == swept.phase(1.3, 0.0)
    assert "neither" == swept.phase(1.0, 0.5)
    assert [0.7] * 2 + [1.0] * 2 + [1.3] * 2 == [cell.temperature for cell in swept.cells]


def test_a_cell_is_what_simulate_finds(swept) -> None:
    """End of each seed, control and half-life, against the loops run one by one."""
    (cell,) = swept.at(temperature=0.7, fresh_share=0.5)
    alone = simulate(
        task=TASK, cycles=("full",), fresh_share=0.5, temperature=0.7, n=100, seeds=(0, 1, 2),
        iterations=8, trainer=SMALL["trainer"],
    )  # fmt: skip
    for end, run, control in zip(cell.ends, alone.runs, alone.controls, strict=True):
        last = run.iterations[-1].measures
        assert (last.levenshtein, last.correct, last.distinct) == (end.levenshtein, end.correct, end.distinct)
        base = control.curve("levenshtein")[:5]
        assert sum(base) / len(base) == pytest.approx(end.control.levenshtein)
    assert alone.half_life["full"] == cell.half_life


def test_only_fresh_data_is_no_collapse() -> None:
    """A fresh share of 1 is the control by another name: nothing is lost, at any temperature."""
    found = sweep(
        **{**SMALL, "fresh_shares": (1.0,), "iterations": 3, "seeds": (0, 1), "temperatures": (0.7, 1.2)}
    )
    assert ["neither", "neither"] == [cell.phase for cell in found.cells]
    assert all(0.8 < cell.kept.value < 1.2 and not cell.hidden for cell in found.cells)


def test_the_needed_share_lies_between_grid_points(swept) -> None:
    """Hand-made cells: what is needed, what is sure, and gaps that do not count."""
    (model,) = swept.at(temperature=0.7, fresh_share=0.0)
    sure_low, open_high = Spread(0.1, (0.05, 0.15), (0.1,) * 3), Spread(0.6, (0.4, 0.8), (0.6,) * 3)
    sure_high, change = Spread(0.9, (0.8, 1.0), (0.9,) * 3), Spread(0.0, (-0.02, 0.02), (0.0,) * 3)
    shares = (0.0, 0.01, 0.1, 0.2, 0.5)
    figures = (sure_low, open_high, sure_low, open_high, sure_high)
    cells = tuple(
        replace(model, fresh_share=share, kept=figure, correct_change=change)
        for share, figure in zip(shares, figures)
    )
    plane = replace(swept, fresh_shares=shares, temperatures=(0.7,), cells=cells)
    found = plane.needed(0.7)
    assert (0.2, 0.1, 0.1, 0.5) == (found.share, found.below, found.low, found.high)
    assert "10% to 20% (surely above 10% and at most 50%)" == str(found)
    assert "none (surely at most 0%)" == str(plane.needed(0.7, axis="correctness"))
    never = replace(plane, cells=tuple(replace(cell, kept=sure_low) for cell in cells)).needed(0.7)
    assert (None, 0.5, None) == (never.share, never.low, never.high)
    assert "more than 50% (surely above 50%)" == str(never)


def test_a_verifier_keeps_correctness_but_not_different_texts() -> None:
    """At temperature 1 a filtered loop stays correct; what it has left of different texts is shown."""
    found = sweep(
        task=TASK, cycles=("full", "verified"), temperatures=(1.0,), fresh_shares=(0.0,), sizes=(150,),
        iterations=12, seeds=(0, 1), trainer="emulator:slip=0.004",
    )  # fmt: skip
    full, verified = found.cells
    assert full.correct.value < 0.8 < 0.95 < verified.correct.value
    assert verified.correct_change.value > 0 > full.correct_change.value
    assert verified.last.value < verified.kept.value, "edit distance hides what is lost"


def test_without_a_verifier_only_diversity_can_collapse() -> None:
    """A task of any text has no correctness; loss on real data is shown instead."""
    human = from_rows([{"text": f"row {i} of {i * 7 % 13}"} for i in range(200)], datatype="text")
    found = sweep(
        human, task="text", temperatures=(1.0,), fresh_shares=(0.0, 0.5), sizes=(40,), seeds=(0, 1),
        iterations=2, trainer=Words(),
    )  # fmt: skip
    assert {"neither", "diversity"} >= {cell.phase for cell in found.cells}
    cell = found.cells[0]
    assert cell.correct is None and cell.gate is None and cell.real_loss_change.value > 0
    assert "not known: the task has no verifier" == found.definitions()["correctness"]
    assert "- " not in str(found).split("\n")[2]
    json.dumps(found.to_json(), allow_nan=False)
    found.__report__()


def test_weak_models_are_marked() -> None:
    """Cells whose first model writes less than 90% valid texts say so."""
    found = sweep(
        task=TASK, temperatures=(0.9,), fresh_shares=(0.0,), sizes=(100,), iterations=1, trainer=Counter(0.3)
    )
    assert found.cells[0].gate is False and "weak_model" in {w.code for w in found.warnings}
    assert "!" in str(found).split("\n")[2]


def test_one_seed_is_never_certain() -> None:
    """The spread between runs is then unknown; the interval is that of the texts."""
    found = sweep(**{**SMALL, "seeds": (0,), "iterations": 2, "temperatures": (0.9,)})
    assert not any(cell.certain for cell in found.cells)
    low, high = found.cells[0].kept.interval
    assert low < found.cells[0].kept.value < high
    assert "one_seed" in {warned.code for warned in found.warnings}


def test_the_forms(swept, tmp_path: Path) -> None:
    """JSON holds axes, definitions and cells; the text a diagram; the report a heat map a cycle and size."""
    found = json.loads(json.dumps(swept.to_json(), allow_nan=False))
    assert {"cycle", "temperature", "fresh_share", "n", "seed"} == set(found["axes"])
    assert (
        6
        == len(found["cells"])
        == sum(found["phases"][p] for p in ("neither", "diversity", "correctness", "both"))
    )
    assert 9 == len(found["cells"][0]["curves"]["kept"])
    assert "D" in str(swept).split("\n")[3], "the row without fresh data comes last"
    blocks = swept.__report__()[0].blocks
    assert isinstance(blocks[0], Headline)
    (heat,) = [block for block in blocks if isinstance(block, Chart) and block.kind == "heat"]
    assert {"temperature", "fresh", "kept", "phase", "sure"} == set(heat.rows[0])
    assert any(isinstance(block, Table) for block in blocks)
    page = karat.report(swept, out=tmp_path / "sweep.html").read_text("utf-8")
    assert "What collapses: full" in page
    assert swept.worst(1)[0].last.value == min(cell.last.value for cell in swept.cells)


def test_wrong_settings_are_named(swept) -> None:
    """One line names the setting, the value and the cure."""
    for settings, words in (
        ({"temperatures": ()}, "temperatures"),
        ({"temperatures": (0.8, 0.8)}, "each once"),
        ({"temperatures": (0.0,)}, "above 0"),
        ({"fresh_shares": (1.5,)}, "from 0 to 1"),
        ({"sizes": (5,)}, "at least 20"),
        ({"kept": 1.0}, "kept"),
        ({"lost": 0.0}, "lost"),
        ({"iterations": 0}, "iterations"),
        ({"cycles": ("full:fresh_share=0.1",)}, "own fresh data"),
        ({"trainer": "linear"}, "cannot write"),
        ({"continued": True}, "cannot go on"),
    ):
        with pytest.raises(BadSetting, match=words):
            sweep(**{**SMALL, **settings})
    with pytest.raises(InputError, match="there are cycles full"):
        swept.at(temperature=0.75)
    human = from_rows([{"text": f"row {i}"} for i in range(50)], datatype="text")
    with pytest.raises(NotEnoughData, match="45 human records"):
        sweep(human, task="text", sizes=(100,), trainer=Words())


def test_a_fresh_share_below_half_a_row_is_told() -> None:
    """A tenth of a percent of 100 texts is no row, so that the cell is that of no fresh data."""
    found = sweep(
        **{**SMALL, "fresh_shares": (0.0, 0.001), "iterations": 1, "temperatures": (0.9,), "sizes": (100,)}
    )
    assert "no_fresh_rows" in {warned.code for warned in found.warnings}


def test_the_command_line_can_be_made_of_the_signature() -> None:
    """Every setting has its help, and lists of numbers are lists of numbers."""
    import inspect

    names = [name for name in inspect.signature(sweep).parameters if name not in cli_flags.FILLED]
    assert not set(names) - set(cli_flags.setting_help(sweep.__doc__, names))
    hints = cli_flags.hints(sweep)
    assert (float, True) == cli_flags.cli_type(hints["temperatures"])
    assert (int, True) == cli_flags.cli_type(hints["sizes"])
    assert (str, True) == cli_flags.cli_type(hints["cycles"])


# --- where it runs, and what a kill costs ---------------------------------------------------------


def test_two_workers_find_the_same(tmp_path: Path, swept) -> None:
    """Over local:workers=2, with a journal: the same cells; again, from the journal, too."""
    executor = registry.make("executors", "local:workers=2")
    small = {**SMALL, "temperatures": (1.0,)}
    found = sweep(**small, executor=executor, journal=tmp_path)
    assert swept.at(temperature=1.0) == found.cells
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert done
    again = sweep(**small, executor=executor, journal=tmp_path)
    assert found.cells == again.cells
    assert done == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_a_larger_plane_uses_what_a_smaller_one_did(tmp_path: Path) -> None:
    """Cells that are in the journal are not run again: one trainer counts its calls."""
    first, second = Counter(), Counter()
    small = {**SMALL, "temperatures": (0.8,), "iterations": 3, "seeds": (0,)}
    sweep(**{**small, "trainer": first}, journal=tmp_path)
    sweep(**{**small, "trainer": second, "temperatures": (0.8, 0.9)}, journal=tmp_path)
    assert len(first.calls) == len(second.calls) == 1 + 2 * 3 + 3, "only the new temperature"


SCRIPT = """
import sys
from karat.simulation.sweep import sweep
print(sweep(task={task!r}, temperatures=(0.7, 1.0), fresh_shares=(0.0, 0.25), sizes=(60,), seeds=(0, 1),
            iterations=6, trainer="emulator:slip=0.004", journal=sys.argv[1]))
"""


def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    """kill -9 at several moments: the last start ends with the numbers of a study that nobody killed."""
    script = [sys.executable, "-c", SCRIPT.format(task=TASK), str(tmp_path / "journal")]
    counts = []
    for files in (3, 25):
        process = subprocess.Popen(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((tmp_path / "journal").glob("*.json"))) < files and process.poll() is None:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        assert -signal.SIGKILL == process.wait()
        counts.append(len(list((tmp_path / "journal").glob("*.json"))))
    assert counts == sorted(counts) and 25 <= counts[-1]
    resumed = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    whole = subprocess.run(
        [*script[:-1], str(tmp_path / "other")], capture_output=True, text=True, check=True
    )
    assert whole.stdout == resumed
    finished = {path.name for path in (tmp_path / "journal").glob("*.json")}
    assert {path.name for path in (tmp_path / "other").glob("*.json")} == finished


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperatures": (float("inf"),)}, "temperatures holds inf"),
        ({"seeds": 3}, "seeds is 3"),
        ({"sizes": (50.5,)}, "50.5"),
        ({"iterations": 1.5}, "iterations is 1.5"),
    ],
)
def test_numbers_that_are_none_are_named(settings, says) -> None:
    """One line, before any work is done."""
    with pytest.raises(BadSetting, match=says):
        sweep(**{"task": "logic", "sizes": (50,), **settings})
