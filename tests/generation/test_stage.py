"""generate(): from a task to records with their whole lineage; rejections, prices, partial results."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import karat
from karat import errors, records, runs
from karat.blocks import Table
from karat.generation import journal as journals
from karat.generation import parsing
from karat.generation.base import Request, Response
from karat.generation.generated import Generated
from karat.generation.stage import generate
from karat.generation.tasks import Attribute, Label, Task
from karat.records import Records

TASK = Task(
    "note",
    (Label("a"), Label("b")),
    attributes=(Attribute("length", ("at most 3 words", "4 to 9 words")), Attribute("tone", ("dry", "warm"))),
)


@dataclass(frozen=True)
class Parrot:
    """Says what a script tells for a row's place, else a short text; notes what it was asked."""

    said: dict[int, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    model: str = "parrot-1"
    batch_size: int = 4
    concurrency: int = 2

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        answers = []
        for r in requests:
            self.asked.append(f"{r.id}/{r.replicate}")
            said = self.said.get(r.index, f"text number {r.index}")
            text = said[min(r.replicate, len(said) - 1)] if isinstance(said, list) else said
            answers.append(Response(r.id, text, 11, 5, -2.0 - r.index, "stop", 0.25, self.model))
        return answers


def test_records_carry_their_whole_lineage() -> None:
    """Source, generator, recipe, attributes, seed, prompt hash, tokens, cost, log-probability of each row."""
    made = generate(TASK, provider=Parrot(), recipe="attributed", n=8, seed=5)
    assert 8 == len(made.records) == len(set(made.records.ids))
    assert ["a", "b"] * 4 == made.records.labels()
    rows = list(made.records)
    for row, planned in zip(rows, made.plan):
        lineage = row["lineage"]
        assert ("synthetic", "parrot-1") == (lineage["source"], lineage["generator"])
        assert lineage["recipe"].startswith("attributed")
        assert planned.attributes == json.loads(lineage["attributes"])
        assert (planned.seed, 11, 5, 0.25) == tuple(
            lineage[k] for k in ("seed", "tokens_in", "tokens_out", "cost_usd")
        )
        assert planned.request(0).prompt_sha256 == lineage["prompt_sha256"]
        assert lineage["logprob"] is not None and [] == lineage["generator_saw"]
    assert (88, 40, 2.0) == (made.usage.tokens_in, made.usage.tokens_out, made.usage.cost_usd)


def test_rejected_rows_are_asked_again_and_kept_with_reason_and_text() -> None:
    """A refusal is drawn again; a row whose every answer is bad is rejected, never silently dropped."""
    said = {1: ["I'm sorry, but I can't help with that.", "now it works fine"], 2: ["", ""]}
    provider = Parrot(said)
    made = generate(TASK, provider=provider, n=4)
    assert 3 == len(made.records) and "now it works fine" in made.records.texts()
    assert [("s0-0002", "empty answer", "")] == [(r.id, r.reason, r.text) for r in made.rejected]
    assert 6 == len(provider.asked)
    assert "rejected: empty answer" in made.why("s0-0002")
    assert {"rows": 1, "reasons": {"empty answer": 1}} == made.to_json()["rejected"]


def test_cleaning_keeps_the_raw_answer() -> None:
    """Quotes and fences around a text go; the answer as it came is kept beside it."""
    made = generate(TASK, provider=Parrot({0: '"quoted text"', 1: "```\nfenced\n```"}), n=3)
    assert ["quoted text", "fenced", "text number 2"] == made.records.texts()
    assert ['"quoted text"', "```\nfenced\n```", None] == made.records.column("raw")


def test_the_same_call_again_pays_nothing(tmp_path: Path) -> None:
    """With a journal, a second call takes all answers from it and gives the same records."""
    first = generate(TASK, provider=Parrot(), n=6, journal=tmp_path)
    provider = Parrot()
    again = generate(TASK, provider=provider, n=6, journal=tmp_path)
    assert not provider.asked and 6 == again.usage.reused
    assert first.records.fingerprint == again.records.fingerprint
    more = generate(TASK, provider=provider, n=6, seed=1, journal=tmp_path)
    assert 6 == len(provider.asked) and 0 == more.usage.reused


def test_a_reached_cap_stops_with_everything_kept(tmp_path: Path) -> None:
    """Exit code 3, one line, the finished rows as a file and in the journal; a higher cap goes on."""
    with pytest.raises(errors.BudgetSpent, match=r"max_tokens=2000 is reached.*partial.jsonl") as caught:
        generate(TASK, provider=Parrot(), n=200, max_tokens=2000, journal=tmp_path)
    assert 3 == caught.value.exit_code and "\n" not in str(caught.value)
    partial = karat.read(tmp_path / "partial.jsonl")
    assert 0 < len(partial) <= 2000 / 16
    assert abs(partial.labels().count("a") - partial.labels().count("b")) <= 4
    provider = Parrot()
    made = generate(TASK, provider=provider, n=200, journal=tmp_path)
    assert (200, len(partial)) == (len(made.records), made.usage.reused)
    assert 200 - len(partial) == len(provider.asked)


def test_a_dry_run_plans_and_prices_but_calls_nothing(tmp_path: Path) -> None:
    """The plan is on disk, its price is an upper bound of what the run then takes, and no call was made."""
    provider = Parrot()
    dry = generate(TASK, provider=provider, recipe="attributed", n=10, dry_run=True, journal=tmp_path)
    assert not provider.asked and 0 == len(dry.records) and 10 == len(dry.plan)
    made = generate(TASK, provider=provider, recipe="attributed", n=10, plan=Path(dry.plan_path))
    assert dry.plan == made.plan
    spent = made.usage.tokens_in + made.usage.tokens_out
    assert spent <= dry.estimate.most_tokens and dry.estimate.likely_tokens < dry.estimate.most_tokens
    assert "10 rows planned" in str(dry)


def test_results_survive_storage_and_explain_themselves(tmp_path: Path) -> None:
    """A step gives back an equal result; JSON is plain; blocks and verbs work."""
    run = runs.Run(tmp_path)
    made = run.step(generate, TASK, provider=Parrot(), recipe="attributed", n=8)
    unasked = Parrot()
    again = run.step(generate, TASK, provider=unasked, recipe="attributed", n=8)
    assert isinstance(again, Generated) and not unasked.asked
    assert (made.plan, made.task, made.rejected, made.usage) == (
        again.plan,
        again.task,
        again.rejected,
        again.usage,
    )
    assert made.records.fingerprint == again.records.fingerprint
    told = json.loads(json.dumps(made.to_json()))
    assert (8, 8, "parrot-1") == (told["planned"], told["records"], told["model"])
    assert {"distinct": 8, "rows": 8} == told["combinations"]
    # Texts have three words: rows that asked for four or more are the worst.
    assert 0.5 == made.compliance
    assert all("NOT as asked" in made.why(identity) for identity in made.worst(4))
    sections = made.__report__()
    assert "generate" == sections[0].id and sections[0].blocks


def test_a_recording_replays_to_the_same_records(tmp_path: Path) -> None:
    """Exported answers serve `replay`: the same records, without the provider."""
    made = generate(TASK, provider=Parrot({2: ""}), recipe="attributed", n=9, journal=tmp_path)
    out = tmp_path / "answers.jsonl"
    journals.export(tmp_path / "calls.sqlite", out)
    replayed = generate(TASK, provider=f"replay:path={out}", recipe="attributed", n=9)
    assert made.records.texts() == replayed.records.texts()
    assert made.records.lineage("generator") == replayed.records.lineage("generator")
    assert ["s0-0002"] == [r.id for r in replayed.rejected]


def test_other_data_types_are_parsed_from_json_and_checked() -> None:
    """An instruction task asks for its fields as JSON; a wrong field is a reason, not a crash."""
    task = Task("question about cooking", type="instruction")
    good = 'Here it is:\n{"prompt": "How long?", "completion": "Ten minutes, {roughly}."}'
    made = generate(task, provider=Parrot({0: good, 1: '{"prompt": "x"}', 2: "no json"}), n=3)
    assert [("How long?", "Ten minutes, {roughly}.")] == [
        (r["prompt"], r["completion"]) for r in made.records
    ]
    assert ["does not fit the schema: answer has no 'completion'", "no JSON object in the answer"] == [
        r.reason for r in made.rejected
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I'm sorry, but I can't write that.", "the model refused"),
        ("As an AI language model, I have no opinions.", "the model refused"),
        ("I cannot provide this text.", "the model refused"),
        ("I'm sorry for your loss, and wish you strength.", ""),
        ("The bank said sorry, but I cannot help feeling cheated.", ""),
        ("Größe, 50 % & $3 – naïve\nzweite Zeile", ""),
    ],
)
def test_refusals_are_told_from_texts_that_say_sorry(text: str, reason: str) -> None:
    """Only an answer that begins as a refusal is one; no character inside a text is changed."""
    parsed = parsing.parse(Response("r", text), TASK)
    assert reason == parsed.reason.split(":")[0]
    if not reason:
        assert text == parsed.fields["text"]


@pytest.mark.parametrize(
    ("value", "schema", "wrong"),
    [
        ({"a": 1}, {"type": "object", "required": ["a"]}, ""),
        ({}, {"type": "object", "required": ["a"]}, "has no 'a'"),
        ({"a": True}, {"properties": {"a": {"type": "integer"}}}, "must be of type integer"),
        ({"a": 9}, {"properties": {"a": {"maximum": 5}}}, "out of bounds"),
        ({"a": "x"}, {"properties": {"a": {"enum": ["y"]}}}, "must be one of y"),
        ({"a": ["x", 1]}, {"properties": {"a": {"items": {"type": "string"}}}}, "answer.a[1]"),
        ({"b": 1}, {"properties": {}, "additionalProperties": False}, "unknown field 'b'"),
        ("ab", {"type": ["string", "null"], "pattern": "^b"}, "does not match"),
    ],
)
def test_schemas_are_checked(value: Any, schema: dict[str, Any], wrong: str) -> None:
    """The common keywords of JSON schema; the message names the place."""
    found = parsing.violation(value, schema)
    assert wrong in found if wrong else found == ""


def test_the_embedded_provider_serves_both_recipes_with_one_model(tmp_path: Path, remarks: Records) -> None:
    """Human records in, synthetic records out, in any script; generator_saw tells what it learned from."""
    pytest.importorskip("torch", reason="needs karat[torch]")
    spec = "embedded:layers=1,heads=2,width=32,context=96,vocab=300,epochs=12,max_seconds=0"
    results = [
        generate(None, remarks, provider=spec, recipe=recipe, n=24, journal=tmp_path)
        for recipe in ("simple", "attributed")
    ]
    assert results[0].model == results[1].model and 1 == len(list(tmp_path.glob("models/*")))
    for made in results:
        assert len(made.records) > 12
        assert [remarks.fingerprint] == made.records.lineage("generator_saw")[0]
        assert {"animal", "weather"} == set(made.records.labels() or ())
    assert results[1].compliance is not None and results[1].facts["parameters"] > 1000


def test_shares_of_human_records_are_the_target() -> None:
    """With targets=human labels and found attributes come as often as in the human records."""
    rows = [{"text": f"note {i} on it", "label": "a" if i % 4 else "b"} for i in range(40)]
    found = records.from_rows(rows, datatype="classification")
    own = ['{"tone": "calm"}' if i % 5 else '{"tone": "loud"}' for i in range(40)]
    human = found.with_lineage(attributes=own)
    task = Task(
        "note", TASK.labels, attributes=(Attribute("tone", ("calm", "loud")), Attribute("place", ("x", "y")))
    )
    made = generate(task, human, provider=Parrot(), recipe="attributed", n=40, targets="human", dry_run=True)
    labels = [row.label for row in made.plan]
    assert (30, 10) == (labels.count("a"), labels.count("b"))
    tones = [row.attributes["tone"] for row in made.plan]
    assert 30 <= tones.count("calm") <= 34
    places = [row.attributes["place"] for row in made.plan]
    assert 18 <= places.count("x") <= 22
    with pytest.raises(errors.InputError, match="--human"):
        generate(task, provider=Parrot(), targets="human", dry_run=True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"temperature": -1.0}, "temperature=-1.0 must be 0 or more"),
        ({"temperature": float("nan")}, "temperature=nan must be"),
        ({"top_p": 0.0}, "top_p=0.0 must lie above 0"),
        ({"top_p": 2.0}, "top_p=2.0 must lie above 0"),
        ({"answer_tokens": 0}, "answer_tokens=0 leaves no room"),
        ({"sample": 3}, "sample=3 prices a dry run; add dry_run"),
        ({"votes": "2/3"}, "votes='2/3' needs someone who votes"),
        ({"novelty": 3.0}, "novelty=3.0 must lie above 0"),
    ],
)
def test_settings_that_no_call_can_follow_are_told_before_any(settings: dict[str, Any], told: str) -> None:
    """A setting out of its range, or one that would be passed over in silence, stops before any call."""
    provider = Parrot()
    with pytest.raises(errors.BadSetting, match=re.escape(told)):
        generate(TASK, provider=provider, n=4, **settings)
    assert [] == provider.asked


def test_the_report_counts_reasons_and_the_labels_of_rows_with_several() -> None:
    """A reader sees in a table why rows were rejected; a row of two labels counts for both of them."""
    task = replace(TASK, multi_label=True, most_labels=2, cardinality={2: 1.0})
    refusal = "I'm sorry, but I can't help with that."
    made = generate(task, provider=Parrot({1: refusal, 2: ""}), n=4, redraw=0, repairs=0)
    assert {"a": 4, "b": 4} == made.to_json()["labels"]
    tables = [b for s in made.__report__() for b in s.blocks if isinstance(b, Table)]
    shown = next(table for table in tables if table.title == "Why rows were rejected")
    assert {"the model refused": 1, "empty answer": 1} == {row["reason"]: row["rows"] for row in shown.rows}


def test_a_kept_result_is_read_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is made where its reader is: the plan is found from another folder too."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"text": f"text number {i}"}) + "\n" for i in range(4)), "utf-8")
    run = runs.Run(Path("run"))
    made = run.step(generate, TASK, provider=f"replay:path={answers}", n=4, journal=Path("run/work"))
    assert made.plan_path == str(Path("run/work") / Path(made.plan.path).name)
    monkeypatch.chdir(tmp_path)
    found = runs.read_result(next((tmp_path / "here/run/steps").iterdir()))
    assert list(made.plan) == list(found.plan)
    assert found.__report__()


def test_texts_are_written_for_each_answer_of_an_annotation_task() -> None:
    """Points of a scale are classes where texts are written; item and annotator are ours, not the model's."""
    task = Task("note", type="annotation", question="How urgent is it?", choices=("1", "2", "3"))
    provider = Parrot()
    made = generate(task, provider=provider, n=6)
    assert ["1", "2", "3"] == sorted(set(made.records.labels() or ()))
    rows = list(made.records)
    assert [(r["id"], "parrot-1", "model") for r in rows] == [
        (r["item_id"], r["annotator"], r["annotator_kind"]) for r in rows
    ]
    prompt = made.plan[0].prompt[-1].content
    assert 'Asked "How urgent is it?", a careful reader would answer "1".' in prompt and "JSON" not in prompt
    with pytest.raises(errors.InputError, match="give it choices, scale or labels"):
        generate(replace(task, choices=()), provider=provider, n=6)
