"""Errors of instruction records: published counts, sheets for people and back, corruption, judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from judge_corpora import Scripted, written

import karat
from karat import records
from karat.auditing.instructions import CORRUPTIONS, annotation_sheet, corrupted
from karat.auditing.result import Score
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records

# Published counts of 200 records a source: open fine, open error, closed fine, closed error.
PUBLISHED = {
    "Unnatural Instructions": (40, 33, 51, 76),
    "Self-Instruct": (11, 12, 99, 78),
    "Cleaned Alpaca": (114, 10, 65, 11),
    "GPT-4-LLM": (116, 7, 63, 14),
}
RATES = {"Unnatural Instructions": 0.545, "Self-Instruct": 0.45, "Cleaned Alpaca": 0.105, "GPT-4-LLM": 0.105}


def tasks(n: int, *, inputs: bool = True) -> Records:
    """n different instructions of six words and more, with inputs and outputs."""
    rows = [
        {
            "id": f"t{i}",
            "instruction": f"Rewrite text number {i} so that nobody minds it",
            "input": f"input {i} speaks of thing{i} and of place{i}" if inputs else "",
            "output": f"output {i} speaks of thing{i} and so on and on for a while",
        }
        for i in range(n)
    ]
    return records.from_rows(rows)


def scored(data: Records, metric: str, reference: Records | None = None, **more: object) -> Score:
    return karat.audit(data, reference, metrics=metric, budget="small", **more).scores[0]  # type: ignore[arg-type]


def published() -> Records:
    """800 records with the published counts of source, type of question and error."""
    rows = []
    for source, counts in PUBLISHED.items():
        for (kind, wrong), count in zip(
            (("Open QA", False), ("Open QA", True), ("Closed QA", False), ("Closed QA", True)), counts
        ):
            for i in range(count):
                rows.append(
                    {
                        "instruction": f"{source} {kind} {wrong} {i}",
                        "output": "o",
                        "dataset": source,
                        "QA_type": kind,
                        "error": "Incorrect Output" if wrong else None,
                        "second_error": "Inconsistent Input" if wrong and i % 2 else None,
                        "third_error": None,
                    }
                )
    return records.from_rows(rows)


def test_published_rates() -> None:
    """54.5, 45.0, 10.5 and 10.5% of 200, and the rates of open and closed questions of each source."""
    found = scored(published(), "instruction_errors")
    assert 800 == found.n
    assert found.value == pytest.approx(241 / 800)
    for source, expected in RATES.items():
        assert (200, expected) == (found.by[source].n, pytest.approx(found.by[source].value))
        open_fine, open_wrong, closed_fine, closed_wrong = PUBLISHED[source]
        part = found.by[f"{source} / open"]
        assert open_wrong / (open_fine + open_wrong) == pytest.approx(part.value)
        part = found.by[f"{source} / closed"]
        assert closed_wrong / (closed_fine + closed_wrong) == pytest.approx(part.value)
        assert part.interval is not None and part.interval[0] < part.value < part.interval[1]  # type: ignore[operator]
    assert found.by["error: incorrect output"].value == pytest.approx(241 / 800)
    twice = sum(i % 2 for counts in PUBLISHED.values() for n in (counts[1], counts[3]) for i in range(n))
    assert found.by["error: inconsistent input"].value == pytest.approx(twice / 800)


def test_sources_against_each_other() -> None:
    """Unnatural against Alpaca: 44 points apart, with p and an interval; two equal rates: nothing."""
    data = published()
    sources = np.array(data.column("dataset"))
    unnatural, alpaca, gpt4 = (
        data.where(sources == name) for name in ("Unnatural Instructions", "Cleaned Alpaca", "GPT-4-LLM")
    )
    found = scored(unnatural, "instruction_errors", alpaca)
    assert found.difference == pytest.approx(0.44)
    assert found.p is not None and found.p < 1e-6
    assert found.difference_interval is not None and found.difference_interval[0] > 0.3
    same = scored(gpt4, "instruction_errors", alpaca)
    assert same.p == pytest.approx(1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["Incorrect Output", "inconsistent_input"], {"incorrect output", "inconsistent input"}),
        (
            "Incorrect output; Incomprehensible instruction",
            {"incorrect output", "incomprehensible instruction"},
        ),
        ('["inconsistent output"]', {"inconsistent output"}),
        ("none", set()),
        ([], set()),
        ("too long", {"too long"}),
    ],
)
def test_ways_to_write_errors(given: object, expected: set[str]) -> None:
    """Lists, text with semicolons, JSON; "none" is no error; a type of one's own keeps its name."""
    rows = [{"prompt": f"p{i}", "completion": "c", "errors": given} for i in range(3)]
    found = scored(records.from_rows(rows), "instruction_errors")
    assert float(bool(expected)) == found.value
    named = {
        name.removeprefix("error: ") for name, part in found.by.items() if part.value and "error:" in name
    }
    assert expected == named


# ------------------------------------------------------------------------------------------ sheet


def test_sheet_and_back(tmp_path: Path) -> None:
    """Some of each source, drawn by the seed; filled in and read back as CSV, blank rows are not counted."""
    rows = [{"instruction": f"Do {i}", "output": f"o{i}", "dataset": "ab"[i % 3 == 0]} for i in range(90)]
    data = records.from_rows(rows)
    sheet = annotation_sheet(data, n_per_source=20, seed=1)
    assert {"a": 20, "b": 20} == {name: sheet.column("source").count(name) for name in "ab"}
    assert sheet.ids == annotation_sheet(data, n_per_source=20, seed=1).ids
    assert sheet.ids != annotation_sheet(data, n_per_source=20, seed=2).ids
    for name in ("error", "second_error", "third_error", "qa_type"):
        assert {""} == set(sheet.column(name))
    for suffix in ("csv", "jsonl"):
        path = sheet.write(tmp_path / f"sheet.{suffix}")
        blank = records.read(path)
        if suffix == "csv":
            with pytest.raises(BadSetting, match="needs a judge"):
                scored(blank, "instruction_errors")
        else:
            assert scored(blank, "instruction_errors").value is None
        errors = ["Incorrect Output" if i < 10 else "" for i in range(40)]
        types = ["Open QA" if i < 30 else "" for i in range(40)]  # the last ten were not looked at
        filled = blank.with_column("error", errors).with_column("qa_type", types)
        found = scored(records.read(filled.write(tmp_path / f"filled.{suffix}")), "instruction_errors")
        assert 30 == found.n
        assert found.value == pytest.approx(10 / 30)
        assert {"a", "b", "a / open", "b / open"} <= found.by.keys()


def test_sheet_of_too_few_or_others() -> None:
    """All of a small source; an unknown field, another data type and no records are refused."""
    data = tasks(5)
    assert 5 == len(annotation_sheet(data))
    with pytest.raises(InputError, match="no field 'origin'"):
        annotation_sheet(data, source="origin")
    with pytest.raises(BadSetting, match="n_per_source is 0"):
        annotation_sheet(data, 0)
    with pytest.raises(BadSetting, match="holds text records"):
        annotation_sheet(records.from_rows([{"text": "t"}]))


# ------------------------------------------------------------------------------------- corruption


def test_corruption() -> None:
    """Just the wanted share of rows is spoilt, each with its reason; the others are the same."""
    data = tasks(100)
    correct, corrupt = corrupted(data, 0.28, seed=3)
    reasons = corrupt.column("corruption")
    assert 28 == sum(bool(one) for one in reasons)
    assert {7} == {sum(one.startswith(kind) for one in reasons) for kind in CORRUPTIONS}
    assert data.column("completion") == correct.column("completion")
    for i, (before, after) in enumerate(zip(correct, corrupt)):
        kind = reasons[i].partition(":")[0]
        changed = {name for name in ("instruction", "input", "completion") if before[name] != after[name]}
        expected = {
            "": set(),
            "swapped_output": {"completion"},
            "truncated_output": {"completion"},
            "dropped_input": {"input"},
            "shuffled_instruction": {"instruction"},
        }[kind]
        assert expected == changed
        assert after["completion"] == after["output"]
        assert after["prompt"].startswith(after["instruction"])
        assert after["input"] in after["prompt"]
        if kind == "swapped_output":
            assert after["completion"] in data.column("completion")
        if kind == "shuffled_instruction":
            assert sorted(before["instruction"].split()) == sorted(after["instruction"].split())
    assert corrupt.ids == data.ids


def test_corruption_is_what_the_metric_finds() -> None:
    """instruction_errors of the corrupt set is the rate, its types those that were planted."""
    correct, corrupt = corrupted(tasks(200), 0.3, seed=0, kinds=["dropped_input", "swapped_output"])
    found = scored(corrupt, "instruction_errors", correct)
    assert found.value == pytest.approx(0.3)
    assert 0.0 == found.reference
    assert found.by["error: inconsistent input"].value == pytest.approx(0.15)
    assert found.by["error: inconsistent output"].value == pytest.approx(0.15)


def test_impossible_corruption() -> None:
    """Rates, kinds and rows that cannot be are named."""
    with pytest.raises(BadSetting, match="rate is 2"):
        corrupted(tasks(3), 2)
    with pytest.raises(BadSetting, match="burnt"):
        corrupted(tasks(3), 0.5, kinds=["burnt"])
    with pytest.raises(NotEnoughData, match="only 0 of 5 rows"):
        corrupted(tasks(10, inputs=False), 0.5, kinds=["dropped_input"])


def test_the_snippets_of_the_docstring_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the module shows is what it does."""
    from karat.auditing import instructions

    monkeypatch.chdir(tmp_path)
    text = instructions.__doc__ or ""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    names: dict[str, object] = {}
    exec("\n".join(lines), names)
    assert (tmp_path / "sheet.csv").exists()
    assert 3 == sum(bool(one) for one in names["reasons"])  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------ judge


def test_errors_by_a_judge() -> None:
    """A judge that sees what was planted finds the rate; types and open questions are in the parts."""
    _, corrupt = corrupted(tasks(120), 0.25, seed=5, kinds=["truncated_output", "shuffled_instruction"])
    plain = corrupt.table.drop_columns(["errors", "corruption"])
    data = records.from_table(plain, "instruction")

    def answer(text: str) -> str:
        if "open or closed" in text:
            return "closed"
        if "on for a while" not in text:
            return "(5)"
        return "none" if "so that nobody minds it" in text else "Incomprehensible instruction."

    audited = karat.audit(data, metrics="instruction_errors", judge=Scripted(answer))
    found = audited.scores[0]
    assert found.value == pytest.approx(0.25)
    assert found.by["error: incorrect output"].value == pytest.approx(0.125)
    assert 120 == found.by["all / closed"].n
    assert "uncorrected" in found.note
    assert "judge_unvalidated" in {one.code for one in audited.warnings}


def test_a_judge_is_held_against_people(tmp_path: Path) -> None:
    """People's answers name types; the corrected interval holds the planted rate, the raw one does not."""
    covered, raw = 0, 0
    for seed in range(20):
        _, corrupt = corrupted(tasks(200), 0.2, seed=seed, kinds=["swapped_output"])
        errors = dict(zip(corrupt.ids, corrupt.column("errors")))
        rng = np.random.default_rng(seed)
        said = {}
        for name, error in errors.items():  # the judge misses a third and cries wolf in a seventh
            if error == "none":
                said[name] = "incorrect output" if rng.random() < 0.14 else "none"
            else:
                said[name] = error if rng.random() < 0.66 else "none"
        rows = [{"id": f"instruction_errors:{name}", "text": text} for name, text in said.items()]
        rows += [{"id": f"qa_type:{name}", "text": "open"} for name in said]
        path = written(tmp_path / f"judge{seed}.jsonl", rows)
        people = [{"id": name, "answer": errors[name]} for name in rng.permutation(list(errors))[:80]]
        sheet = written(tmp_path / f"people{seed}.jsonl", people)
        data = records.from_table(corrupt.table.drop_columns(["errors", "corruption"]), "instruction")
        more = {"judge": f"replay:path={path}"}
        found = scored(data, "instruction_errors", **more, judged=sheet)
        assert found.interval is not None
        covered += found.interval[0] <= 0.2 <= found.interval[1]
        raw += abs(found.details["counted"] - 0.2) < 0.02
    assert covered >= 17
    assert raw < 10
