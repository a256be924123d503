"""What a simulation shows: lines over seeds, the control, ceilings, tables; made from loops by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from karat.blocks import Chart, Table
from karat.errors import InputError
from karat.records import from_rows
from karat.simulation.audited import Measured
from karat.simulation.measures import measure
from karat.simulation.result import (
    COMPARED,
    CONTROL,
    Iteration,
    Loop,
    Simulated,
    TrainedOn,
    bands,
    half_life,
)
from karat.simulation.tasks.logic import Logic

TASK = Logic(depth_max=3)
SUPPORT = [tuple(TASK.tokens(text)) for text in TASK.sample(100, seed=99)]


def iteration(t: int, texts: Sequence[str], vendi: float) -> Iteration:
    measures = measure([TASK.tokens(text) for text in texts], TASK.verify(list(texts)), support=SUPPORT)
    audited = {"vendi": Measured(vendi, vendi - 1, vendi + 1, 30.0, 100)}
    return Iteration(t, measures, TrainedOn(100, 100, 0, {}), 0.5 + t / 10, 0.1, 1.0, audited, written=100)


def loop(cycle: str, seed: int, lengths: Sequence[int], vendi: float, ended: str = "") -> Loop:
    """A loop whose iteration t has as many different texts as `lengths` says, and one that is broken."""
    rows = []
    for t, different in enumerate(lengths):
        real = TASK.sample(100, seed=100 * seed + t)
        rows.append(iteration(t, ["(True", *(real[i % different] for i in range(99))], vendi - t))
    return Loop(cycle, seed, tuple(rows), ended)


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    runs = (
        loop("full", 0, (90, 20, 3, 1), 20.0, "collapsed: one text is left at iteration 3"),
        loop("full", 1, (90, 30, 9, 2, 1), 22.0),
        loop("expanding", 0, (90, 90, 90, 90, 90), 20.0),
        loop("expanding", 1, (90, 90, 90, 90, 90), 22.0),
    )
    controls = (loop(CONTROL, 0, (90, 90, 90), 25.0), loop(CONTROL, 1, (90, 90, 90), 25.5))
    texts = [{"text": "True", "loop": f"{one.cycle}:{one.seed}:0"} for one in runs]
    return Simulated(
        task="logic",
        described=TASK.describe(),
        trainer="emulator",
        temperature=0.8,
        n=100,
        real=measure(SUPPORT, TASK.verify([" ".join(row) for row in SUPPORT]), support=SUPPORT[:50]),
        runs=runs,
        controls=controls,
        half_life={
            name: half_life([one for one in runs if one.cycle == name]) for name in ("full", "expanding")
        },
        bands=bands(controls),
        samples=from_rows(texts, datatype="text"),
        warnings=(),
        real_audited={"vendi": Measured(30.0, 29.0, 31.0, 30.5, 100)},
        gate={"0": {"passed": True, "valid": 0.99, "correct": 0.99}},
    )


def charts(simulated: Simulated) -> dict[str, Chart]:
    return {b.title: b for s in simulated.__report__() for b in s.blocks if isinstance(b, Chart)}


def tables(simulated: Simulated) -> dict[str, Table]:
    return {b.title: b for s in simulated.__report__() for b in s.blocks if isinstance(b, Table)}


def test_several_seeds_are_one_line_with_their_range(simulated) -> None:
    """The mean at each iteration, and the smallest and largest; a collapsed run stays as it was."""
    rows = [row for row in charts(simulated)["Diversity"].rows if row["cycle"] == "full"]
    assert [0, 1, 2, 3, 4] == [row["iteration"] for row in rows]
    one, two = (run.curve("levenshtein") for run in simulated.runs[:2])
    assert (one[1] + two[1]) / 2 == pytest.approx(rows[1]["value"])
    assert (min(one[1], two[1]), max(one[1], two[1])) == (rows[1]["low"], rows[1]["high"])
    assert (one[3] + two[4]) / 2 == pytest.approx(rows[4]["value"])


def test_every_measure_stands_beside_its_control(simulated) -> None:
    """Each measure that the control has, has a band; a chart draws it at each iteration."""
    assert set(COMPARED) - {"new"} <= set(simulated.bands)
    assert {"distinct_1", "distinct_3", "error:unbalanced", "audit:vendi"} <= set(simulated.bands)
    for title in ("Diversity", "Correct texts", "Coverage of rare real texts", "Length", "vendi"):
        drawn = [row for row in charts(simulated)[title].rows if row["cycle"] == "control"]
        assert 5 == len(drawn)
        assert drawn[0]["low"] <= drawn[0]["value"] <= drawn[0]["high"]
    assert 0.01 == pytest.approx(simulated.bands["error:unbalanced"].mean)


def test_the_ceiling_is_a_line(simulated) -> None:
    """What human data have, or for audit metrics another real sample; a loss has no such line."""
    drawn = charts(simulated)
    assert simulated.real.coverage == drawn["Coverage of real texts"].lines[0].y
    assert 30.0 == drawn["vendi"].lines[0].y
    assert () == drawn["Loss on human texts"].lines


def test_one_seed_keeps_the_interval_of_its_measure(simulated) -> None:
    """The band of a single run is the measure's own interval."""
    from dataclasses import replace

    alone = replace(simulated, runs=simulated.runs[::2], controls=(), bands={})
    row = charts(alone)["Diversity"].rows[0]
    assert simulated.runs[0].iterations[0].measures.intervals["levenshtein"] == (row["low"], row["high"])
    assert (19.0, 21.0) == (charts(alone)["vendi"].rows[0]["low"], charts(alone)["vendi"].rows[0]["high"])


def test_errors_are_shown_by_class_at_three_moments(simulated) -> None:
    """First, middle and last, and the control; the shares of a row add up to one."""
    table = tables(simulated)["Correct, wrong and invalid texts"]
    full = [row for row in table.rows if row["cycle"] == "full"]
    assert [0, 2, 4] == [row["iteration"] for row in full]
    assert "control" == table.rows[-1]["cycle"]
    for row in table.rows:
        assert 1.0 == pytest.approx(row["correct"] + row["wrong"] + row["error:unbalanced"])


def test_histograms_set_the_last_texts_beside_the_first_and_human_ones(simulated) -> None:
    """Shares of each series add up to one; bins are in order."""
    for title in ("Lengths", "Depths of valid texts"):
        chart = charts(simulated)[title]
        series = list(dict.fromkeys(row["which"] for row in chart.rows))
        assert ["human data", "iteration 0", "full, iteration 4", "expanding, iteration 4"] == series
        for name in series:
            assert 1.0 == pytest.approx(sum(row["share"] for row in chart.rows if row["which"] == name))
        bins = [int(row["bin"].split("-")[0]) for row in chart.rows]
        assert sorted(bins) == bins


def test_half_lives_have_a_table(simulated) -> None:
    """Value, interval and how it was made, for each cycle."""
    rows = {row["cycle"]: row for row in tables(simulated)["Half-life of diversity"].rows}
    assert 2 == rows["full"]["seeds"]
    low, high = rows["full"]["interval"]
    assert low <= rows["full"]["half_life"] <= high
    assert rows["expanding"]["half_life"] is None
    assert "did not halve" in rows["expanding"]["note"]


def test_measures_are_found_by_name(simulated) -> None:
    """Own figures, those of the texts, n-grams, errors and audit metrics; a wrong name is told."""
    row = simulated.runs[0].iterations[1]
    assert row.measures.distinct_n["2"] == row.value("distinct_2")
    assert 0.01 == row.value("error:unbalanced")
    assert 0.0 == row.value("error:unknown_name")
    assert 19.0 == row.value("audit:vendi") == row.value("vendi")
    assert (18.0, 20.0) == row.interval("vendi")
    assert row.value("accepted") is None
    assert row.value("audit:mmd") is None
    with pytest.raises(InputError, match="did you mean 'entropy'"):
        row.value("entropi")


def test_the_json_is_plain_and_holds_audit_and_gate(simulated) -> None:
    """No NaN, no tuple keys; the ceiling of the audit and the gate of each seed stand in it."""
    found = json.loads(json.dumps(simulated.to_json(), allow_nan=False))
    row = found["runs"][0]["iterations"][1]
    assert {"value": 19.0, "interval": [18.0, 20.0], "real": 30.0, "n": 100} == row["audit"]["vendi"]
    assert 100 == row["written"]
    assert row["coverage"] is not None and row["depths"] and row["lengths"]
    assert 30.0 == found["real_audit"]["vendi"]["value"]
    assert found["gate"]["0"]["passed"] is True
    assert set(simulated.bands) == set(found["controls"]["bands"])


def test_a_change_of_length_is_told(simulated) -> None:
    """Measures of texts follow their length, so that `why` says where it left the control's band."""
    band = simulated.bands["mean_length"]
    last = simulated.runs[0].iterations[-1].measures.mean_length
    outside = not band.low <= last <= band.high
    assert outside == ("Texts became" in simulated.why("full"))
