"""The early-warning monitor: alarms come in time, and by chance no more often than is said."""

from __future__ import annotations

import csv
import inspect
import json
from typing import Any

import numpy as np
import pytest
from quick_trainers import TASK, Counter

from karat import cli_flags
from karat.blocks import Chart, Headline, Table
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import from_rows
from karat.reporting.stage import render
from karat.runs import Run, read_result
from karat.simulation import cusum
from karat.simulation.monitor import monitor
from karat.simulation.stage import simulate

# Two-sided, allowance 0.5, by the shift in standard deviations: Lucas and Crosier 1982; Montgomery, table 9.3
PUBLISHED = {
    4: {0: 168, 0.25: 74.2, 0.5: 26.6, 0.75: 13.3, 1: 8.38, 1.5: 4.75, 2: 3.34, 2.5: 2.62, 3: 2.19},
    5: {0: 465, 0.25: 139, 0.5: 38.0, 0.75: 17.0, 1: 10.4, 1.5: 5.75, 2: 4.01, 2.5: 3.11, 3: 2.57},
}


@pytest.mark.parametrize("limit", sorted(PUBLISHED))
def test_run_lengths_are_the_published_ones(limit: int) -> None:
    """To the three digits that are printed."""
    for shift, length in PUBLISHED[limit].items():
        assert length == pytest.approx(cusum.run_length(0.5, limit, shift=shift, sides=2), rel=0.004), shift


def test_one_side_alone_runs_twice_as_long_and_the_limit_is_found_again() -> None:
    """930 steps for limit 5, one-sided; the limit for that length is 5."""
    assert 930 == pytest.approx(cusum.run_length(0.5, 5), rel=0.002)
    assert 5 == pytest.approx(cusum.limit_for(0.5, 930), abs=0.003)
    assert 5 == pytest.approx(cusum.limit_for(0.5, 465, sides=2), abs=0.003)


def test_run_lengths_agree_with_counted_ones() -> None:
    """Brute force: 4,000 charts run to their alarm, with an allowance that no table has."""
    rng = np.random.default_rng(5)
    total = np.zeros(4000)
    steps = np.zeros(4000)
    running = np.ones(4000, dtype=bool)
    while running.any():
        total = np.maximum(0, total + rng.standard_normal(4000) + 0.4 - 0.35)
        steps += running
        running &= total <= 3.1
    assert steps.mean() == pytest.approx(cusum.run_length(0.35, 3.1, shift=0.4), rel=0.05)


def alarms(baseline: int, runs: int, *, steps: int = 20, related: float = 0.0, **settings: Any) -> float:
    """The share of streams in which nothing changes that raise an alarm."""
    rng = np.random.default_rng([7, baseline, runs])
    hits = 0
    for _ in range(runs):
        noise = rng.standard_normal(baseline + steps)
        for place in range(1, len(noise)):
            noise[place] = related * noise[place - 1] + (1 - related**2) ** 0.5 * noise[place]
        values = 0.4 + 0.02 * noise
        found = monitor(values[baseline:], baseline=values[:baseline], **settings)
        hits += found.streams[0].alarm is not None
    return hits / runs


@pytest.mark.parametrize("baseline", [5, 10, 30])
def test_false_alarms_come_as_often_as_said_however_short_the_baseline(baseline: int) -> None:
    """5% within 20 steps, for the CUSUM alone: three standard errors of 800 runs are 2.3%."""
    assert 0.05 == pytest.approx(alarms(baseline, 800, methods=("cusum",)), abs=0.023)


def test_the_limit_for_a_known_baseline_would_alarm_far_too_often() -> None:
    """Why limits are simulated: taken from the run length, five baseline values give 40% in place of 5%."""
    limit = cusum.limit_for(0.5, -20 / np.log(0.95), sides=2)
    maxima, _ = cusum.null_maxima(5, 20, 0.5, 2)
    assert 0.41 == pytest.approx(cusum.chance(maxima, limit), abs=0.03)
    maxima, _ = cusum.null_maxima(2000, 20, 0.5, 2)
    assert cusum.chance(maxima, limit) < 0.06


def test_both_detectors_together_stay_within_the_chance() -> None:
    """A line counts as an alarm only where noise crosses it rarely: a line at one spread never does."""
    rate = alarms(8, 500, tiers=(0.05, 0.1, 0.25))
    assert 0.005 < rate <= 0.05 + 3 * (0.05 * 0.95 / 500) ** 0.5
    found = monitor([0.41, 0.37, 0.4] * 6, baseline=[0.4, 0.42, 0.38, 0.4, 0.41, 0.39], tiers=(0.05,))
    (tier,) = found.streams[0].tiers
    assert tier.step == 1 and not tier.counts and tier.expected > 0.5
    assert found.streams[0].alarm is None
    assert "noise alone would cross the line of watch" in str(found)


def test_correlated_noise_alarms_more_often_until_it_is_told() -> None:
    """0.6 between neighbours gives many times 5%; with correlation=0.6 it is 5% again."""
    assert alarms(30, 200, related=0.6, methods=("cusum",)) > 0.25
    assert 0.05 == pytest.approx(alarms(30, 500, related=0.6, methods=("cusum",), correlation=0.6), abs=0.03)


def test_correlation_is_found_in_a_long_baseline_and_said() -> None:
    """The estimate is right on average (the raw one is too low), and the note names the setting."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(400):
        values = [0.0]
        for _ in range(39):
            values.append(0.6 * values[-1] + rng.standard_normal())
        found.append(cusum.correlation_of(values))
    assert 0.6 == pytest.approx(np.mean(found), abs=0.03)
    assert "set correlation=" in str(monitor([0.0] * 5, baseline=np.cumsum(rng.standard_normal(60))))
    assert "correlation" not in str(monitor([0.0] * 5, baseline=rng.standard_normal(60)))


def test_many_streams_share_the_chance() -> None:
    """Ten streams in which nothing changes: holm keeps 5% for all together, each alone gives near 40%."""
    rng = np.random.default_rng(3)
    together = apart = 0
    for _ in range(150):
        streams = {f"s{n}": rng.standard_normal(15) for n in range(10)}
        good = rng.standard_normal(25)
        together += any(s.alarm for s in monitor(streams, baseline=good, methods=("cusum",)).streams)
        each = monitor(streams, baseline=good, methods=("cusum",), family="each")
        apart += any(s.alarm for s in each.streams)
    assert together / 150 <= 0.05 + 3 * (0.05 * 0.95 / 150) ** 0.5
    assert apart / 150 > 0.15


def test_an_average_run_length_sets_the_chance() -> None:
    """One false alarm in 200 steps is 1 - exp(-20/200) within 20."""
    found = monitor(np.zeros(20), baseline=[0.1, -0.1, 0.2, -0.2, 0.05], arl=200)
    assert 1 - np.exp(-0.1) == pytest.approx(found.false_alarms)


def falling(
    rate: float, *, spread: float = 0.01, quiet: int = 5, steps: int = 30, seed: int = 0
) -> list[float]:
    rng = np.random.default_rng(seed)
    return [0.4 * (1 - rate * max(0, t - quiet + 1)) + spread * rng.standard_normal() for t in range(steps)]


def test_a_slow_fall_is_found_before_any_line_and_its_beginning_is_told() -> None:
    """1% a step: the CUSUM speaks before the line at -25%, and dates the change near step 5."""
    good = 0.4 + 0.01 * np.random.default_rng(1).standard_normal(20)
    (one,) = monitor(falling(0.01), baseline=good, line=0.2).streams
    assert one.cusum is not None and one.cusum.direction == "fall"
    assert 5 < one.cusum.step < 15
    assert one.cusum.since is not None and 3 <= one.cusum.since <= 10
    assert one.too_late is not None and one.lead == one.too_late - one.alarm.step > 5
    assert "before it was too late" in one.words()


def test_a_direction_that_does_not_matter_raises_no_alarm() -> None:
    """What falls is no alarm for who fears a rise."""
    good = 0.4 + 0.01 * np.random.default_rng(1).standard_normal(20)
    assert monitor(falling(0.03), baseline=good, direction="rise").streams[0].alarm is None
    assert "fall" == monitor(falling(0.03), baseline=good, direction="fall").streams[0].alarm.direction


def test_the_lead_of_an_early_metric_over_a_late_one_is_told() -> None:
    """Diversity 10% down at step 1, perplexity 10% up at step 3: a lead of two steps."""
    found = monitor(
        {"diversity": [0.98, 0.85, 0.7, 0.6, 0.5], "perplexity": [20.0, 20.2, 20.9, 23.0, 30.0]},
        late="perplexity",
        line=0.1,
        baseline=[1.0, 1.01, 0.99, 1.0, 1.005],
        methods=("threshold",),
    )
    (one,) = found.streams
    assert (1, "watch", 3, 2) == (one.alarm.step, one.alarm.tier, one.too_late, one.lead)
    assert "alarm" == one.tier and [1, 2, 4] == [tier.step for tier in one.tiers]


def simulation(seeds: int = 3, steps: int = 15, *, control: bool = True) -> dict[str, Any]:
    """The JSON of a simulation: cycle full loses 6% a step, cycle expanding nothing."""
    rng = np.random.default_rng(11)

    def loop(kept: float, seed: int, begin: int) -> dict[str, Any]:
        rows = [
            {
                "iteration": t,
                "levenshtein": 0.4 * kept**t + 0.008 * rng.standard_normal(),
                "real_loss": 1 + (0.012 * t * t * (kept < 1)) + 0.01 * rng.standard_normal(),
                "audit": {"compression_ratio": {"value": 2.5 + t * (kept < 1)}},
                "seconds": 0.1,
            }
            for t in range(begin, steps)
        ]
        return {"seed": seed, "iterations": rows}

    runs = [
        {"cycle": c, **loop(k, s, 0)} for c, k in (("full", 0.94), ("expanding", 1.0)) for s in range(seeds)
    ]
    controls = [loop(1.0, seed, 1) for seed in range(seeds)] if control else []
    return {"runs": runs, "controls": {"runs": controls}}


def test_a_simulation_is_held_against_its_control() -> None:
    """Each cycle and seed is a stream; the loop that collapses is told, the one that does not stays quiet."""
    found = monitor(simulation(), late="real_loss", line=0.25)
    assert {"full, seed 0": True, "expanding, seed 2": False}.items() <= {
        one.name: one.alarm is not None for one in found.streams
    }.items()
    assert 3 * 14 + 3 == found.streams[0].baseline_values
    assert 1 == found.streams[0].steps[0]
    leads = [one.lead for one in found.streams if one.name.startswith("full")]
    assert all(lead is not None and lead >= 1 for lead in leads)
    assert (0, 3) == (found.control_alarms, found.control_streams)
    assert found.control_interval is not None and found.control_interval[1] > 0.3  # three streams say little
    assert "of 3 control streams 0 raised one" in found.words()


def test_metrics_of_the_audit_are_measures_of_an_iteration() -> None:
    """By their name, alone or behind audit:, as in the rest of a simulation."""
    one, other = (
        monitor(simulation(), value=name) for name in ("compression_ratio", "audit:compression_ratio")
    )
    assert one.streams == other.streams
    assert "constant" in str(one)


def test_without_a_control_the_beginning_is_the_baseline_and_that_is_said() -> None:
    """One seed's control cannot be held against another; no control leaves the stream's own first values."""
    found = monitor(simulation(control=False))
    assert found.control_alarms is None and 5 == found.streams[0].baseline_values
    assert "beginning of the stream itself" in str(found)
    assert monitor(simulation(seeds=1)).control_alarms is None


def test_all_forms_of_a_stream_give_the_same_answer(tmp_path) -> None:
    """List, rows, records, CSV, JSONL, JSON list, JSON of names: one answer."""
    values = falling(0.02, quiet=12)
    rows = [{"step": t, "score": v, "text": "x"} for t, v in enumerate(values)]
    with (tmp_path / "s.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "score", "text"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "lines.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "list.json").write_text(json.dumps(values))
    (tmp_path / "names.json").write_text(json.dumps({"score": values}))
    sources = [values, np.array(values), rows, from_rows(rows, datatype="text"), {"score": values}]
    sources += [tmp_path / name for name in ("s.csv", "s.jsonl", "lines.json", "list.json", "names.json")]
    found = [monitor(source, value="score").streams[0] for source in sources]
    expected = found[0].alarm
    assert expected is not None and expected.step > 12
    assert [expected] * len(found) == [one.alarm for one in found]
    assert monitor(str(tmp_path / "s.csv"), value="score").streams[0] == found[2]


def test_a_kept_simulation_is_opened_by_its_json(tmp_path) -> None:
    """What `karat simulate --json` printed is a source."""
    (tmp_path / "result.json").write_text(json.dumps(simulation()))
    assert monitor(simulation()).streams == monitor(tmp_path / "result.json").streams


def test_a_simulation_and_its_folder_give_the_same_answer_and_the_answer_is_kept(tmp_path) -> None:
    """The result, the folder of its step, the run folder and its JSON; measures are asked for by name."""
    run = Run(tmp_path / "run")
    settings: dict[str, Any] = {"task": TASK, "cycles": ("full",), "iterations": 5, "seeds": (0, 1), "n": 60}
    found = run.step(simulate, trainer=Counter(), **settings)
    expected = monitor(found)
    assert ["full, seed 0", "full, seed 1"] == [one.name for one in expected.streams]
    (step,) = (path.parent for path in (tmp_path / "run").glob("steps/simulate-*/manifest.json"))
    (tmp_path / "result.json").write_text(json.dumps(found.to_json()))
    for source in (step, tmp_path / "run", tmp_path / "result.json"):
        assert expected == monitor(source)
    assert "distinct" == monitor(found, value="distinct").metric
    with pytest.raises(InputError, match="no measure 'distint'"):
        monitor(found, value="distint")
    assert expected == monitor(tmp_path), "a folder with result.json is what --out left"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no simulation"):
        monitor(tmp_path / "empty")
    kept = run.step(monitor, str(step))
    assert kept == expected == read_result(run.home(monitor, str(step)))


def test_columns_tell_streams_apart() -> None:
    """One file holds several runs; `by` names the columns that say which."""
    rows = [{"run": r, "t": t, "v": 1 + 0.01 * ((7 * t + r) % 5)} for t in range(20) for r in (1, 2)]
    found = monitor(rows, value="v", by=["run"])
    assert ["run 1", "run 2"] == [one.name for one in found.streams]
    assert 14 == len(found.streams[0].values)


def test_steps_without_a_number_are_left_out_and_counted() -> None:
    """None, nan and infinity: the sums stand still there, and the alarm comes at the same step."""
    good = [0.4, 0.41, 0.39, 0.4, 0.405, 0.395]
    values: list[Any] = [0.4, None, float("nan"), 0.2, float("inf"), 0.2, 0.2]
    found = monitor(values, baseline=good)
    assert 3 == found.streams[0].alarm.step
    assert "3 steps without a number were left out" in str(found)
    assert found.streams[0].sums[1] == found.streams[0].sums[0]
    json.dumps(found.to_json(), allow_nan=False)


def test_a_constant_baseline_leaves_lines_alone() -> None:
    """No spread, no CUSUM: said so; the lines hold, without a chance."""
    found = monitor([1.0, 0.95, 0.7], baseline=[1.0] * 8)
    (one,) = found.streams
    assert one.limit is None and one.p is None and one.cusum is None
    assert (2, "warning", None) == (one.alarm.step, one.tier, one.tiers[0].expected)
    assert "constant" in one.note and "no spread" in str(found)
    assert monitor([0.0, 0.0], baseline=[0.0] * 8).streams[0].alarm is None
    assert "mean 0" in str(monitor([0.0, 0.1], baseline=[-1.0, 0.0, 1.0]))


@pytest.mark.parametrize(
    ("kind", "said", "source", "settings"),
    [
        (NotEnoughData, "at least 3 values, but has 2", [1, 2, 3], {"baseline": [1.0, 2.0]}),
        (NotEnoughData, "no step has a number", [None, float("nan")], {}),
        (NotEnoughData, "no step is left", [1.0, 2.0, 3.0], {}),
        (InputError, "no column 'scor'; did you mean 'score'", [{"score": 1}], {"value": "scor"}),
        (InputError, "is no number", [{"score": "high"}], {"value": "score"}),
        (InputError, "is no number", ["a", "b"], {}),
        (InputError, "cannot watch int", 3, {}),
        (InputError, "one list of numbers", [1.0, 2.0], {"late": "loss"}),
        (InputError, "no stream 'los'; did you mean 'loss'", {"loss": [1.0]}, {"late": "los"}),
        (InputError, "must be the same", {"loss": [1.0], "x": [1.0, 2.0]}, {"late": "loss"}),
        (InputError, "no such file", "nowhere.csv", {}),
        (BadSetting, "must be fall, rise or both", [1.0] * 9, {"direction": "down"}),
        (BadSetting, "cusum, threshold or both", [1.0] * 9, {"methods": ("magic",)}),
        (BadSetting, "between 0 and 1", [1.0] * 9, {"false_alarms": 1.5}),
        (BadSetting, "above 0", [1.0] * 9, {"tiers": (-0.1,)}),
        (BadSetting, "finer than", list(range(9)), {"false_alarms": 1e-7}),
    ],
)
def test_what_cannot_be_watched_is_said_in_one_line(kind, said, source, settings) -> None:
    """The error names the thing, the value and the cure."""
    with pytest.raises(kind, match=said) as raised:
        monitor(source, **settings)
    assert "\n" not in str(raised.value)


def test_the_verbs_answer_the_next_question() -> None:
    """worst: who alarmed first; at: how all stood at a step; both agree with the alarms."""
    found = monitor(simulation())
    first = found.worst(1)[0]
    assert first.name.startswith("full")
    assert first.alarm.step == min(one.alarm.step for one in found.streams if one.alarm)
    before, then = (
        {state.name: state for state in found.at(step)}[first.name]
        for step in (first.alarm.step - 1, first.alarm.step)
    )
    assert (False, True) == (before.alarmed, then.alarmed)
    last = found.at(99)[0]
    assert 14 == last.step and last.change == pytest.approx(0.94**14 - 1, abs=0.08)
    with pytest.raises(InputError, match="lies before the first"):
        found.at(0)


def test_an_alarm_and_its_p_agree() -> None:
    """Holm's corrected p is within the detector's level exactly where its CUSUM passes the limit."""
    rng = np.random.default_rng(8)
    streams = {f"s{n}": rng.standard_normal(12) + 0.25 * n * np.arange(12) / 4 for n in range(8)}
    found = monitor(streams, baseline=rng.standard_normal(20), methods=("cusum",))
    said = [one.cusum is not None for one in found.streams]
    assert (
        said
        == [one.p <= 0.05 for one in found.streams]
        == [max(one.sums) > one.limit for one in found.streams]
    )
    assert 0 < sum(said) < 8


def test_the_report_shows_streams_sums_and_alarms() -> None:
    """The first alarm leads; both charts have the line that matters; the page is made."""
    (section,) = monitor(simulation(), late="real_loss", line=0.25).__report__()
    head = next(block for block in section.blocks if isinstance(block, Headline))
    assert head.value.startswith("step ") and head.level == "warning"
    charts = [block for block in section.blocks if isinstance(block, Chart)]
    assert any("watch" in line.label for line in charts[0].lines) and 1.0 == charts[1].lines[0].y
    assert "baseline" in {row["stream"] for row in charts[0].rows}
    alarms_, lines = (block for block in section.blocks if isinstance(block, Table))
    assert 6 == len(alarms_.rows) and 3 == sum(row["_flag"] == "alarm" for row in alarms_.rows)
    assert {"watch", "warning", "alarm"} == {row["tier"] for row in lines.rows}
    page = render([section], title="watch")
    assert 2 == page.count('class="drawing"')


def test_every_setting_is_a_flag_with_help() -> None:
    """The command is made from the signature: each setting has a type that it knows, and a line of help."""
    names = list(inspect.signature(monitor).parameters)
    helps = cli_flags.setting_help(monitor.__doc__ or "", names)
    assert set(names) == set(helps)
    kinds = {name: cli_flags.cli_type(kind) for name, kind in cli_flags.hints(monitor).items()}
    assert ((float, True), (str, True), (int, False)) == (kinds["baseline"], kinds["by"], kinds["first"])


def test_what_another_command_said_holds_no_stream(tmp_path) -> None:
    """JSON that is sound but has no numbers by step is not called broken."""
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({"command": "audit", "scores": [{"metric": "mmd"}], "a": {"b": 1}}, indent=2))
    with pytest.raises(InputError, match=r"holds no streams \(it has: command, scores, a\)"):
        monitor(str(path))


@pytest.mark.parametrize("setting", ["arl", "allowance"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_limits_that_are_no_numbers_are_named(setting: str, value: float) -> None:
    """They are refused, before the limits are simulated."""
    with pytest.raises(BadSetting, match=f"{setting}"):
        monitor([1.0, 2.0, 3.0, 4.0] * 5, **{setting: value})
