"""Records: what is read, what is refused with which words, and what never changes."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from karat import records
from karat.errors import BadSetting, InputError

ROWS = [
    {"text": "gold is heavy", "label": "metal", "year": 1900},
    {"text": "金は重い\u2028 \U0001f947", "label": "metal", "year": 1901},
    {"text": 'a "quoted", text\nwith a line break', "label": "other", "year": 1902},
]


def write_lines(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet"])
def test_every_format_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    """Texts, labels, lineage and the fingerprint survive a round trip through each format."""
    first = records.from_rows(ROWS).with_lineage(source="human", parents=["a"])
    again = records.read(first.write(tmp_path / f"rows{suffix}"))
    assert first.texts() == again.texts()
    assert first.labels() == again.labels()
    assert first.fingerprint == again.fingerprint
    assert ["human"] * 3 == again.lineage("source")
    assert [["a"]] * 3 == again.lineage("parents")
    assert first.ids == again.ids


def test_written_files_are_the_same_bytes_twice(tmp_path: Path) -> None:
    """The same records give the same bytes, also packed: files can be compared by checksum."""
    kept = records.from_rows(ROWS)
    one = kept.write(tmp_path / "one.jsonl.gz").read_bytes()
    two = kept.write(tmp_path / "two.jsonl.gz").read_bytes()
    assert gzip.decompress(one) == gzip.decompress(two)


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that breaks half way leaves neither the file nor a temporary one."""
    monkeypatch.setattr("karat.formats.orjson.dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        records.from_rows(ROWS).write(tmp_path / "rows.jsonl")
    assert [] == list(tmp_path.iterdir())


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads JSON lines from standard input."""
    data = "\n".join(json.dumps(row) for row in ROWS).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    found = records.read("-")
    assert 3 == len(found)
    assert "-:1" == found.ids[0]


def test_hub_reader_loads_a_local_data_set(tmp_path: Path) -> None:
    """`hf:` goes through the real loader of the datasets library, here on a folder made on the spot."""
    pytest.importorskip("datasets", reason="the extra 'hf' is not installed")
    write_lines(tmp_path / "train.jsonl", list(ROWS))
    assert [row["text"] for row in ROWS] == records.read(f"hf:{tmp_path}:train").texts()


def test_ids_name_the_line_and_given_ids_stay(tmp_path: Path) -> None:
    """A record without an id is named by its file and line; a repeated id is made unique."""
    path = write_lines(
        tmp_path / "r.jsonl", [{"text": "a"}, {"text": "b", "id": "x"}, {"text": "c", "id": "x"}]
    )
    assert ["r.jsonl:1", "x", "x'"] == records.read(path).ids


def test_where_picks_rows_before_anything_is_checked(tmp_path: Path) -> None:
    """`--where` leaves rows out before their fields are checked, and all conditions must hold."""
    path = write_lines(
        tmp_path / "r.jsonl",
        [{"kind": "a", "text": "x", "n": 1}, {"kind": "b"}, {"kind": "a", "text": "y", "n": 2}],
    )
    assert ["x", "y"] == records.read(path, where=["kind=a"]).texts()
    assert ["y"] == records.read(path, where=["kind=a", "n!=1"]).texts()
    assert "r.jsonl:3" == records.read(path, where=["n=2"]).ids[0]


def test_fields_are_renamed_and_joined(tmp_path: Path) -> None:
    """A field is renamed, or several are joined with a space."""
    path = write_lines(tmp_path / "r.jsonl", [{"title": "T", "body": "B", "topic": 7}])
    found = records.read(path, fields={"text": "title+body", "label": "topic"})
    assert (["T B"], ["7"], "classification") == (found.texts(), found.labels(), found.datatype)


BROKEN = [
    (b'{"text": "a"}\n{"text": \n', r"bad\.jsonl:2: broken JSON at column 9"),
    (b'{"text": "a"}\n[1]\n', r"bad\.jsonl:2: the line holds list"),
    (b'{"text": "caf\xe9"}\n', r"bad\.jsonl:1: not UTF-8 \(byte 13 .*0xe9\).*iconv"),
    (b'{"body": "a"}\n', r"bad\.jsonl:1: no field 'text' \(found: body\); name it with --text-field body"),
    (b'{"my text": "a"}\n', r"no field 'text' \(found: my text\); name it with --text-field 'my text'$"),
    (
        b'{"prompt": "p", "response_a": "x", "response_b": "y", "rater": "r", "verdict": "a"}\n',
        r"no field 'choice' \(found: .*\); name it with --choice-field verdict",
    ),
    (b'{"text": {"a": 1}}\n', r"bad\.jsonl:1: field 'text' is an object, but must be text"),
    (b'{"text": "a", "label": "x"}\n{"text": "b"}\n', r"bad\.jsonl:2: no field 'label'"),
    (b"", r"bad\.jsonl: no records; the file is empty"),
    (b"\n \n", r"bad\.jsonl: no records; the file is empty"),
    (b'{"messages": "hi"}\n', r"bad\.jsonl:1: field 'messages' must be a list"),
    (b'{"text": "a", "lineage": {"seed": "many"}}\n', r"bad\.jsonl:1: field 'lineage' cannot be read"),
]


@pytest.mark.parametrize(("data", "message"), BROKEN, ids=[m[:40] for _, m in BROKEN])
def test_what_cannot_be_read_is_named_by_file_line_and_cure(
    tmp_path: Path, data: bytes, message: str
) -> None:
    """Every broken file gives one line that names the place."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        records.read(path)
    assert "\n" not in str(caught.value)


def test_other_broken_files(tmp_path: Path) -> None:
    """Missing files, folders, unknown formats, damaged gzip, CSV and Parquet are each named."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(InputError, match=r"no such file; did you mean '.*rows\.jsonl'"):
        records.read(tmp_path / "row.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        records.read(tmp_path)
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(InputError, match=r"unknown format.*\.parquet"):
        records.read(tmp_path / "a.xyz")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-9])
    with pytest.raises(InputError, match="gzip data is damaged"):
        records.read(tmp_path / "cut.jsonl.gz")
    (tmp_path / "a.csv").write_text("text,label\na,b,c\n")
    with pytest.raises(InputError, match=r"a\.csv:2: 3 cells under 2 columns"):
        records.read(tmp_path / "a.csv")
    for sign in (";", "\t"):
        (tmp_path / "b.csv").write_text(f"text{sign}label\nwell, yes{sign}b\n")
        with pytest.raises(InputError, match=re.escape(f"split by {sign!r}: save it with commas")):
            records.read(tmp_path / "b.csv")
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="not a Parquet file"):
        records.read(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no record where label=zz"):
        records.read(records.from_rows(ROWS).write(tmp_path / "ok.jsonl"), where=["label=zz"])
    with pytest.raises(BadSetting, match="FIELD=VALUE"):
        records.read(tmp_path / "rows.jsonl", where=["label"])


def test_verbs_never_change_the_records_they_start_from() -> None:
    """Each verb gives new records; the old ones keep their fingerprint and their columns."""
    kept = records.from_rows(ROWS)
    before, columns = kept.fingerprint, kept.table.column_names
    kept.with_column("text", ["x", "y", "z"])
    kept.with_lineage(source="synthetic")
    kept.take([2, 0])
    assert (before, columns) == (kept.fingerprint, kept.table.column_names)
    assert ["other", "metal"] == kept.take([2, 0]).labels()
    assert ["other"] == kept.where([False, False, True]).labels()
    assert 2 == len(kept.sample(2, seed=1))
    assert kept.sample(2, seed=1).ids == kept.sample(2, seed=1).ids


def test_fingerprint_sees_content_and_nothing_else() -> None:
    """The fingerprint changes with text, label and order, not with ids or extra fields."""
    base = records.from_rows(ROWS).fingerprint
    assert (
        base
        == records.from_rows([{**row, "id": f"n{i}", "more": 1} for i, row in enumerate(ROWS)]).fingerprint
    )
    assert base != records.from_rows(ROWS[::-1]).fingerprint
    assert base != records.from_rows([{**ROWS[0], "label": "m"}, *ROWS[1:]]).fingerprint
    # a border between two fields must not be movable: "ab"+"c" is not "a"+"bc"
    one = records.from_rows([{"text": "ab"}, {"text": "c"}]).fingerprint
    assert one != records.from_rows([{"text": "a"}, {"text": "bc"}]).fingerprint


def test_concat_refuses_other_types_and_keeps_extra_fields() -> None:
    """Records of one type are joined, fields that one side lacks are null; two types are refused."""
    left, right = records.from_rows(ROWS), records.from_rows([{"text": "t", "label": "l", "extra": True}])
    assert [None, None, None, True] == left.concat(right).column("extra")
    with pytest.raises(InputError, match="holds text records"):
        left.concat(records.from_rows([{"text": "t"}]))
    odd = records.from_rows([{"text": "u", "label": "l", "extra": [1], "score": 0.5}])
    both = right.concat(odd)
    assert not both.has("extra"), "a field that holds two kinds of things goes"
    assert [None, 0.5] == both.column("score"), "and no other"


def test_data_types_are_told_from_their_fields() -> None:
    """Each data type is recognised, and Alpaca's fields become prompt and completion."""
    rows: dict[str, dict[str, object]] = {
        "text": {"text": "t"},
        "classification": {"text": "t", "label": "l"},
        "annotation": {"item_id": 1, "text": "t", "label": "l", "annotator": "a"},
        "preference": {"prompt": "p", "chosen": "c", "rejected": "r"},
        "instruction": {"instruction": "do", "input": "this", "output": "done"},
        "dialogue": {"messages": [{"role": "user", "content": "hi"}]},
        "translation": {"source": "s", "target": "t"},
    }
    for name, row in rows.items():
        assert name == records.from_rows([row]).datatype
    alpaca = records.from_rows([rows["instruction"]])
    assert ["do\n\nthis"] == alpaca.column("prompt")
    assert ["do\n\nthis\ndone"] == alpaca.texts()
    rated = {"prompt": "p", "response_a": "x", "response_b": "y", "choice": "tie", "rater": "r"}
    assert ["tie"] == records.from_rows([rated]).labels()


@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=1, max_size=8))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    """Any Unicode text, control characters included, is read back as it was written."""
    folder = tmp_path_factory.mktemp("any")
    kept = records.from_rows([{"text": text, "label": label} for text, label in pairs])
    for suffix in (".jsonl", ".parquet"):
        again = records.read(kept.write(folder / f"r{suffix}"))
        assert (kept.texts(), kept.labels()) == (again.texts(), again.labels())


def test_one_megabyte_record_and_batches(tmp_path: Path) -> None:
    """A record of one megabyte is a record; batches give the same rows as reading at once."""
    path = write_lines(
        tmp_path / "r.jsonl", [{"text": "x" * 1_000_000}, *({"text": str(i)} for i in range(25))]
    )
    parts = list(records.batches(path, size=10))
    assert [10, 10, 6] == [len(part) for part in parts]
    assert records.read(path).texts() == [text for part in parts for text in part.texts()]


def test_mixed_extra_fields_are_kept_as_json() -> None:
    """A field that holds a number here and a list there is kept as JSON text instead of failing."""
    found = records.from_rows([{"text": "a", "meta": 1}, {"text": "b", "meta": ["x"]}])
    assert ["1", '["x"]'] == found.column("meta")
