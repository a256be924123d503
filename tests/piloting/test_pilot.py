"""pilot(): no advice on noise, the better arm where there is one, no leak, nothing paid twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import karat
from karat import errors, runs
from karat.cli import main
from karat.generation.tasks import Task
from karat.piloting.result import Pilot
from karat.records import Records, from_rows

sys.path.insert(0, str(Path(__file__).parent))
import pilot_worlds as worlds
from pilot_worlds import TASK, Scripted

QUICK: dict[str, Any] = {
    "recipes": ("simple",),
    "n": 60,
    "plan_n": 60,
    "trainer": "linear:characters=0",
    "metrics": (),
}


def gold(seed: int = 0, n: int = 150) -> Records:
    """Human test records."""
    return worlds.corpus(n, 500 + seed, tag="t")


def run(*providers: Any, seed: int = 0, **settings: Any) -> Pilot:
    """A quick pilot of the providers, in which the first is the cheapest."""
    given = {**QUICK, "refits": 15, "seed": seed, **settings}
    return karat.pilot(TASK, None, None, gold(seed), providers=providers, **given)


def test_arms_of_one_source_are_not_told_apart() -> None:
    """Twelve pilots of three arms that write alike: a dearer one is recommended in none or one of them."""
    found = [
        run(*(Scripted(f"m{i}", 0.001 * (i + 1), stream=i) for i in range(3)), seed=seed)
        for seed in range(12)
    ]
    outcomes = [one.decision.outcome for one in found]
    assert outcomes.count("no difference found") >= 11, outcomes
    assert outcomes.count("better") <= 1
    noise = [one.decision for one in found if one.decision.outcome != "better"]
    assert {"m0 · simple"} == {one.recommended for one in noise}
    assert "No difference found" in str(found[outcomes.index("no difference found")])


def test_a_planted_difference_is_found_and_the_better_arm_recommended() -> None:
    """With half of its labels wrong the cheaper arm loses in nearly every pilot."""
    found = [run(Scripted("cheap", noise=0.5), Scripted("good", 0.003), seed=seed) for seed in range(8)]
    better = [one for one in found if one.decision.outcome == "better"]
    assert len(better) >= 7
    assert {"good · simple"} == {one.decision.recommended for one in better}
    one = better[0]
    gap = one.gap("cheap · simple", "good · simple")
    assert gap is not None and "differs" == gap.verdict and gap.p_holm < 0.05
    assert "points better than the cheapest arm, cheap · simple" in one.decision.reason
    assert "at 3 times the cost of a record" in one.decision.reason
    assert "is shown to be worse" in one.why("cheap · simple")
    assert "is recommended" in one.why("good · simple")


def test_every_dollar_is_counted() -> None:
    """Refusals and redraws are paid for: dollars, tokens, shares and the price of the whole hold them."""
    provider = Scripted("moody", 0.002, refuses=0.4)
    (arm,) = run(provider, plan_n=600, redraw=1).arms
    calls = len(provider.asked)
    assert calls > 60
    assert (calls, pytest.approx(calls * 0.002), calls * 70) == (arm.calls, arm.usd, arm.tokens)
    assert 0 < arm.rejected_share < 0.4 and 60 == arm.planned and arm.kept == arm.distinct
    assert {"the model refused": arm.planned - arm.kept} == arm.reasons
    assert arm.usd_per_record == pytest.approx(calls * 0.002 / arm.distinct)
    assert arm.usd_of_whole == pytest.approx(600 * calls * 0.002 / arm.distinct)


def test_the_whole_pays_nothing_of_the_pilot_again(tmp_path: Path) -> None:
    """The rows of a pilot are the first ones of the plan that follows, whatever its size."""
    human = worlds.corpus(90, 3)
    for recipe in ("simple", "attributed", "exemplar", "verbalized"):
        settings = {**QUICK, "recipes": (recipe,), "refits": 10, "plan_n": 240, "journal": tmp_path / recipe}
        first = karat.pilot(TASK, human, None, gold(), providers=(Scripted(),), **settings)
        again = Scripted()
        made = karat.generate(
            TASK, human, None, gold(), provider=again, recipe=recipe, n=240, journal=tmp_path / recipe
        )
        assert (recipe, first.arms[0].calls) == (recipe, made.usage.reused)
        assert made.usage.answers - made.usage.reused == len(again.asked)
        assert first.arms[0].planned == 60 and first.arms[0].ahead == first.arms[0].calls


def test_the_same_pilot_again_pays_nothing_and_says_the_same(tmp_path: Path) -> None:
    """With a journal, the second pilot makes no call and gives the same figures and the same dollars."""
    first = run(Scripted("a"), Scripted("b", 0.002, noise=0.3), journal=tmp_path)
    silent = Scripted("a"), Scripted("b", 0.002, noise=0.3)
    again = run(*silent, journal=tmp_path)
    assert [] == [*silent[0].asked, *silent[1].asked]
    assert (first.gaps, first.decision) == (again.gaps, again.decision)
    assert [one.usd for one in first.arms] == [one.usd for one in again.arms]


def test_one_cap_holds_for_all_arms(tmp_path: Path) -> None:
    """The cap is of the whole pilot: the second arm has what the first one left; a higher cap goes on."""
    one, other = Scripted("a"), Scripted("b")
    with pytest.raises(errors.BudgetSpent, match="max_usd"):
        run(one, other, journal=tmp_path, max_usd=0.09)
    spent = 0.001 * (len(one.asked) + len(other.asked))
    assert 60 == len(one.asked) and 0.06 < spent <= 0.09
    rest = Scripted("a"), Scripted("b")
    run(*rest, journal=tmp_path, max_usd=1.0)
    assert 120 == len(one.asked) + len(other.asked) + sum(len(r.asked) for r in rest)


def test_no_prompt_shows_what_scores(tmp_path: Path) -> None:
    """Without a test the human records are split; copies and groups of scored records are shown to nobody."""
    rows = [dict(row) for row in worlds.corpus(120, 3)]
    rows += [{**row, "id": f"copy-{row['id']}", "text": f"{row['text'].upper()}."} for row in rows[:30]]
    for i, row in enumerate(rows):
        row["author"] = f"p{i % 30}"
    human = from_rows(rows, datatype="classification")
    provider = Scripted()
    settings = {**QUICK, "recipes": ("exemplar",), "refits": 10}
    found = karat.pilot(TASK, human, providers=(provider,), group="author", **settings)
    prompts = "\n".join(r.messages[-1].content for r in provider.asked).casefold()
    shown = {row["author"] for row in rows if row["text"].casefold().rstrip(".") in prompts}
    hidden = {row["author"] for row in rows} - shown
    assert shown and len(hidden) >= 10, "whole authors are on one side"
    scored = [row for row in rows if row["author"] in hidden]
    assert not [row for row in scored if row["text"].casefold().rstrip(".") in prompts]
    assert any("prompts may show" in note for note in found.notes)
    assert found.human is not None and found.human_records <= 60


def test_human_records_that_stand_in_the_test_are_shown_to_nobody() -> None:
    """A test that overlaps with the human records takes them away from prompts, and says so."""
    human, scored = worlds.corpus(90, 3), gold()
    mixed = human.concat(scored.take(range(40)))
    provider = Scripted()
    settings = {**QUICK, "recipes": ("exemplar",), "refits": 10}
    found = karat.pilot(TASK, mixed, None, scored, providers=(provider,), **settings)
    prompts = "\n".join(r.messages[-1].content for r in provider.asked)
    assert [] == [text for text in scored.texts() if text in prompts]
    assert any("40 human records stand in the test" in note for note in found.notes)


def test_ceiling_and_chance_stand_beside_the_arms() -> None:
    """The same student on as many human records, and the best of guessing, on the same test."""
    found = karat.pilot(TASK, worlds.corpus(200, 3), None, gold(), providers=(Scripted(),), **QUICK)
    assert found.human is not None and 60 == found.human_records == found.arms[0].trained_on
    assert found.chance == pytest.approx(100 / 3, abs=0.1)
    arm = found.arms[0].score
    assert arm is not None and abs(found.human.value - arm.value) < 4 * arm.error
    low, high = found.human.interval
    assert low < found.human.value < high


def test_without_labels_arms_are_scored_by_their_distance_to_human_text() -> None:
    """Text without labels: the arm that writes with few words is told from human text and is not taken."""
    task = Task("note", type="text")
    rows = [{"id": str(i), "text": text} for i, text in enumerate(worlds.corpus(300, 5).texts())]
    human = from_rows(rows, datatype="text")
    providers = Scripted("narrow", words=25), Scripted("broad", 0.002)
    settings = {**QUICK, "n": 120, "refits": 10}
    found = karat.pilot(task, human, providers=providers, **settings)
    assert ("two_sample_auc", "better", "broad") == (
        found.metric,
        found.decision.outcome,
        found.decision.recommended.split()[0],
    )
    assert any("scored by their distance to human" in note for note in found.notes)


def test_without_human_records_nothing_is_scored() -> None:
    """No score, and it says so; of arms that cost the same the more varied one is taken."""
    providers = Scripted("narrow", words=12), Scripted("broad")
    settings = {**QUICK, "metrics": ("distinct_n", "vocabulary")}
    found = karat.pilot(TASK, providers=providers, **settings)
    assert ("", "not scored", "broad · simple", True) == (
        found.metric,
        found.decision.outcome,
        found.decision.recommended,
        found.decision.by_diversity,
    )
    assert any("there is no score" in note for note in found.notes)


def test_an_arm_without_records_does_not_stop_the_others() -> None:
    """A provider that refuses everything has no score, is not recommended, and its calls are counted."""
    found = run(Scripted("mute", refuses=1.0), Scripted("open", 0.002))
    assert "open · simple" == found.decision.recommended
    mute = found.arm("mute · simple")
    assert (0, None, None) == (mute.kept, mute.score, mute.usd_per_record)
    assert mute.usd == pytest.approx(0.120)
    assert "it has no score" in found.why("mute · simple")


def test_settings_that_make_no_pilot_are_refused_before_any_call() -> None:
    """One line that names the thing, the value and the cure; nobody was asked."""
    provider = Scripted()
    for settings, words in (
        ({"n": 5}, "n=5 is too few"),
        ({"margin": 0.0}, "margin=0"),
        ({"refits": 2}, "refits=2"),
        ({"recipes": ("simpel",)}, "no recipe named 'simpel'; did you mean 'simple'"),
        ({"recipes": ()}, "recipes names none"),
        ({"metrics": ("distint_n",)}, "no metric named"),
    ):
        with pytest.raises(errors.KaratError, match=words) as caught:
            run(provider, **settings)
        assert "\n" not in str(caught.value)
    with pytest.raises(errors.NotEnoughData, match="at least 30"):
        karat.pilot(TASK, None, None, gold(n=12), providers=(provider,), **QUICK)
    other = gold().with_column("label", ["other"] * 75 + ["more"] * 75)
    with pytest.raises(errors.InputError, match="no test label is a label of the task"):
        karat.pilot(TASK, None, None, other, providers=(provider,), **QUICK)
    assert [] == provider.asked


def test_results_survive_storage_and_are_plain(tmp_path: Path) -> None:
    """A step gives back an equal result; JSON is plain and has what a table needs; blocks are drawn."""
    settings = {**QUICK, "metrics": ("distinct_n",), "refits": 10}
    inputs = (TASK, worlds.corpus(90, 3), None, gold())
    store = runs.Run(tmp_path)
    made = store.step(karat.pilot, *inputs, providers=(Scripted("a"), Scripted("b", 0.002)), **settings)
    kept = store.step(karat.pilot, *inputs, providers=(Scripted("a"), Scripted("b", 0.002)), **settings)
    assert made == kept and isinstance(kept, Pilot)
    told = json.loads(json.dumps(made.to_json()))
    assert ["a · simple", "b · simple"] == [arm["name"] for arm in told["arms"]]
    for arm in told["arms"]:
        assert arm["interval"][0] <= arm["score"] <= arm["interval"][1]
        assert {"usd", "tokens", "kept", "rejected", "diversity", "distance_to_human"} <= set(arm)
    assert told["decision"]["recommended"] == made.decision.recommended
    assert 1 == len(told["gaps"]) and told["human"]["records"] == 60
    assert made.__report__()[0].blocks


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task, human and test records, and two files of recorded answers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.toml").write_text(TASK.to_toml(), "utf-8")
    worlds.corpus(90, 3).write("human.jsonl")
    gold().write("test.jsonl")
    for name, noise in (("good", 0.0), ("bad", 0.6)):
        lines = [
            {"id": f"s0-{i:04d}", "text": text, "tokens_in": 50, "tokens_out": 20, "cost_usd": 0.001}
            for i, text in enumerate(worlds.corpus(60, 7, noise=noise).texts())
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return tmp_path


COMMAND = (
    "--task task.toml --test test.jsonl --provider replay:path=good.jsonl,name=good "
    "--provider replay:path=bad.jsonl,name=bad --recipe simple -n 60 --refits 15 --plan-n 60 "
    "--metric distinct_n --trainer linear:characters=0 --out found"
).split()


@pytest.mark.parametrize("words", [["pilot"], ["generate", "--pilot"]])
def test_the_command_line(desk: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """`karat pilot` and `karat generate --pilot` are one command: a table, a page, a JSON object."""
    assert 0 == main([*words, *COMMAND, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ("pilot", "good · simple") == (found["command"], found["decision"]["recommended"])
    assert found["arms"][1]["usd"] == pytest.approx(0.06)
    page = (desk / "found" / "report.html").read_text("utf-8")
    assert "good · simple" in page and "The arms" in page
    assert 0 == main([*words, *COMMAND])
    assert "good · simple (recommended)" in capsys.readouterr().out


def test_the_run_that_follows_finds_the_answers_of_the_pilot(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`karat generate` after `karat pilot` in the same folder takes the rows that were paid for."""
    main(["pilot", *COMMAND, "--json"])
    capsys.readouterr()
    rest = "--task task.toml --test test.jsonl --recipe simple -n 60 --out made.jsonl --json".split()
    assert 0 == main(["generate", *rest, "--provider", "replay:path=good.jsonl,name=good"])
    assert 60 == json.loads(capsys.readouterr().out)["usage"]["reused"]
