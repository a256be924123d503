"""Input as it comes: broken, tiny, huge, strange. One clear line and exit code 2, or a correct answer."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from karat.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder; gives the exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return command


WORDS = (
    "river stone market garden winter letter engine window paper morning silver number doctor bridge "
    "island teacher kitchen summer forest harbour signal copper orange village station"
).split()


def sentences(n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return n rows of random sentences with two labels."""
    draw = random.Random(seed)
    return [
        {"text": " ".join(draw.choices(WORDS, k=draw.randint(6, 14))) + ".", "label": ("dry", "wet")[i % 2]}
        for i in range(n)
    ]


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return name


def files(folder: Path) -> list[str]:
    """Return all files but what a run keeps of finished steps."""
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and ".karat" not in p.parts
    )


def refused(result: tuple[int, str, str], *said: str) -> None:
    """Check that a command said what is wrong, in one line, and printed nothing else."""
    code, out, err = result
    assert (2, "", 1) == (code, out, err.count("\n")), f"{code} {out!r} {err!r}"
    assert err.startswith("karat: ")
    assert "Traceback" not in err
    for words in said:
        assert words in err


BROKEN: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty.jsonl": (b"", ("empty.jsonl", "empty")),
    "blank.jsonl": (b"\n\n  \n", ("blank.jsonl",)),
    "broken.jsonl": (b'{"text": "a", "label": "x"}\n{"text": "b", \n', ("broken.jsonl:2", "broken JSON")),
    "list.jsonl": (b'{"text": "a"}\n[1, 2]\n', ("list.jsonl:2", "one JSON object")),
    "latin1.jsonl": (
        '{"text": "caf\xe9", "label": "x"}\n'.encode("latin-1"),
        ("latin1.jsonl:1", "UTF-8", "iconv"),
    ),
    "utf16.jsonl": ('{"text": "a", "label": "x"}\n'.encode("utf-16"), ("utf16.jsonl:1",)),
    "binary.jsonl": (bytes(range(256)) * 4, ("binary.jsonl:1",)),
    "other.jsonl": (
        b'{"body": "a", "label": "x"}\n',
        ("other.jsonl:1", "'text'", "body", "--text-field body"),
    ),
    "late.jsonl": (b'{"text": "a"}\n' * 3 + b'{"label": "x"}\n', ("late.jsonl:4", "'text'")),
    "object.jsonl": (b'{"text": {"a": 1}, "label": "x"}\n', ("object.jsonl:1", "text")),
    "null.jsonl": (b'{"text": null, "label": "x"}\n', ("null.jsonl:1", "text")),
    "truncated.jsonl.gz": (gzip.compress(b'{"text": "abc"}\n' * 999)[:60], ("truncated.jsonl.gz", "gzip")),
    "ragged.csv": (b"text,label\na,x\nb,y,z\n", ("ragged.csv:3", "columns")),
    "no.parquet": (b"text,label\n", ("no.parquet", "Parquet")),
    "what.docx": (b"text", ("what.docx", ".jsonl")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_line(name: str, run: Run, tmp_path: Path) -> None:
    """A file that cannot be read is named with the line and the cure, and nothing is left behind."""
    data, said = BROKEN[name]
    Path(name).write_bytes(data)
    refused(run("audit", name, "--out", "there"), *said)
    refused(run("curate", name, "--filters", "exact_duplicates", "--out", "kept.jsonl"), *said)
    assert [name] == files(tmp_path)
    assert not Path("there").exists()


def test_a_missing_file_or_a_folder(run: Run) -> None:
    """A file that is not there is named, with the nearest name that is; a folder is not a file."""
    write("human.jsonl", sentences(5))
    refused(run("audit", "humam.jsonl"), "humam.jsonl: no such file", "human.jsonl")
    refused(run("audit", "human.jsonl", "--reference", "gone.jsonl"), "gone.jsonl: no such file")
    Path("folder").mkdir()
    refused(run("audit", "folder"), "folder: is a folder")


def test_unknown_parts_and_settings(run: Run) -> None:
    """An unknown metric, filter, encoder or setting is answered with the nearest name."""
    name = write("rows.jsonl", sentences(30))
    refused(
        run("audit", name, "--metrics", "distint_n"),
        "no metric named 'distint_n'",
        "did you mean 'distinct_n'",
    )
    refused(run("audit", name, "--metrics", "distinct_n:m=2"), "has no setting 'm'", "it has: n")
    refused(run("audit", name, "--metrics", "distinct_n:n=two"), "'two'", "whole number")
    refused(run("audit", name, "--metrics", "distinct_n:n=0"), "distinct_n")
    refused(run("audit", name, "--by", "colour"), "'colour'")
    refused(run("audit", name, "--fail-if", "distinct_n => 1"), "cannot read '=> 1'")
    refused(
        run("curate", name, "--filters", "lenght", "--out", "k.jsonl"), "no filter named 'lenght'", "'length'"
    )
    assert not Path("k.jsonl").exists()


def test_one_record(run: Run) -> None:
    """One record is too few for a distribution: each score is null with a note, or the command says so."""
    name = write("one.jsonl", sentences(1))
    code, out, err = run("audit", name, "--json")
    if code == 0:
        scores = json.loads(out)["scores"]
        assert 1 == next(score for score in scores if score["name"] == "records")["value"]
        assert all(score["interval"] is None or None not in score["interval"] for score in scores)
    else:
        refused((code, out, err), "one.jsonl")
    code, out, err = run("train", name, "--test", write("t.jsonl", sentences(9, seed=1)), "--json")
    if code == 0:
        assert "degenerate_source" in {warning["code"] for warning in json.loads(out)["warnings"]}
    else:
        refused((code, out, err), "one.jsonl")


def test_a_label_seen_once(run: Run) -> None:
    """A label with a single record stops neither the audit nor the training, and its score stands there."""
    rows = [*sentences(60), {"text": "A lonely record of its own kind here.", "label": "odd"}]
    name, test = write("rows.jsonl", rows), write("test.jsonl", sentences(40, seed=1))
    code, out, _ = run("audit", name, "--reference", test, "--json")
    assert 0 == code
    assert len(json.loads(out)["scores"]) > 5
    code, out, _ = run("train", name, "--test", test, "--json")
    assert 0 == code
    code, out, _ = run("train", test, "--test", name, "--json")
    assert 0 == code
    assert "unseen_labels" in {warning["code"] for warning in json.loads(out)["warnings"]}


def test_candidate_equal_to_reference(run: Run) -> None:
    """A corpus beside itself differs from itself by nothing, and no score calls it different."""
    name = write("rows.jsonl", sentences(300))
    code, out, _ = run("audit", name, "--reference", name, "--json")
    assert 0 == code
    found = json.loads(out)
    assert found["candidate"]["fingerprint"] == found["reference"]["fingerprint"]
    for score in found["scores"]:
        if score["family"] == "contamination":  # that one corpus stands in the other is what it must say
            continue
        if score["difference"] is not None and score["name"] != "two_sample_auc":
            assert 0 == pytest.approx(score["difference"], abs=1e-9), score
        assert score["p"] is None or score["p"] > 0.05, score


def test_a_record_of_one_megabyte(run: Run) -> None:
    """A record of a megabyte is a record; it is read, counted and kept whole."""
    huge = " ".join(random.Random(0).choices(WORDS, k=160_000))
    assert len(huge) > 1_000_000
    name = write("huge.jsonl", [*sentences(40), {"text": huge, "label": "dry"}])
    code, out, _ = run("audit", name, "--metrics", "records", "tokens", "length", "distinct_n", "--json")
    assert 0 == code
    assert 41 == next(s for s in json.loads(out)["scores"] if s["name"] == "records")["value"]
    assert 0 == run("curate", name, "--filters", "exact_duplicates", "--out", "kept.csv")[0]
    assert 0 == run("curate", "kept.csv", "--filters", "exact_duplicates", "--out", "again.jsonl")[0]
    texts = {json.loads(line)["text"] for line in Path("again.jsonl").read_text("utf-8").splitlines()}
    assert huge in texts


STRANGE = {
    "control": "bell \x07 escape \x1b[31m null \x00 carriage \r return, record {i}",
    "thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ ครั้งที่ {i}",
    "chinese": "人类写的文字和机器写的文字有什么不同{i}。",
    "arabic": "النص الذي يكتبه الإنسان يختلف عن غيره رقم {i}",
    "emoji": "🙂🏳️‍🌈👩‍👩‍👧‍👦 {i} ✂️",
    "spaces": "   \u00a0\u2003 {i} \u200b ",
    "surrogate": "half a pair \ud83d {i}",
    "html": "<script>alert({i})</script> & <b>",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_text_is_counted_like_any_other(kind: str, run: Run) -> None:
    """Control characters and all scripts are read, audited, curated and reported without a stumble."""
    rows = [{"text": STRANGE[kind].replace("{i}", str(i)), "label": ("a", "b")[i % 2]} for i in range(60)]
    name = write("strange.jsonl", rows)
    code, out, err = run("audit", name, "--json", "--out", "there")
    assert 0 == code, err
    assert 60 == next(s for s in json.loads(out)["scores"] if s["name"] == "records")["value"]
    page = Path("there/report.html").read_text("utf-8")
    assert "<script>alert(" not in page
    assert not {"\x07", "\x1b", "\x00"} & set(page)
    code, out, err = run("curate", name, "--filters", "exact_duplicates", "--out", "kept.jsonl", "--json")
    assert 0 == code, err
    kept = [json.loads(line) for line in Path("kept.jsonl").read_text("utf-8").splitlines()]
    assert 60 == len(kept)
    if kind != "surrogate":  # half a character cannot be written in UTF-8
        assert [row["text"] for row in rows] == [row["text"] for row in kept]


def test_empty_texts(run: Run) -> None:
    """Records without a word are counted as records, and no score is infinite."""
    name = write("rows.jsonl", [{"text": "", "label": "a"}] * 30 + sentences(30))
    code, out, err = run("audit", name, "--json")
    assert 0 == code, err
    for score in json.loads(out)["scores"]:
        assert score["value"] is None or math.isfinite(score["value"])


def test_records_that_are_all_equal(run: Run) -> None:
    """The same record a hundred times is read as what it is."""
    name = write("same.jsonl", [{"text": "I love this film.", "label": "a"}] * 100)
    code, out, err = run("audit", name, "--reference", write("human.jsonl", sentences(100)), "--json")
    assert 0 == code, err
    share = next(s for s in json.loads(out)["scores"] if s["name"] == "duplicate_share")
    assert 0.99 == pytest.approx(share["value"])


def test_a_file_that_cannot_be_written(run: Run) -> None:
    """A place that cannot be written to is named before or after the work, never with a traceback."""
    name = write("rows.jsonl", sentences(30))
    write("file", [])
    refused(
        run("curate", name, "--filters", "exact_duplicates", "--out", "file/kept.jsonl", "--quiet"), "file"
    )
    refused(run("audit", name, "--out", "rows.jsonl"), "rows.jsonl", "folder")
