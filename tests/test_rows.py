"""Reading whole columns gives what reading row by row gives, in rows and complaints; ids stay single."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karat import records, rows
from karat.errors import InputError
from karat.records import Records

TEXTS = st.one_of(st.text(max_size=4), st.sampled_from([None, 7, 1.5, True, {"a": 1}, ["b"]]))
PLAIN = st.text(max_size=4)
IDS = st.one_of(st.none(), st.sampled_from(["", "a", "a'", "b", 1, "rows.jsonl:2"]))
ODD_ROWS = st.fixed_dictionaries(
    {"text": TEXTS}, optional={"label": TEXTS, "id": IDS, "extra": TEXTS, "lineage": st.just({"seed": 3})}
)
PLAIN_ROWS = st.fixed_dictionaries({"text": PLAIN, "label": PLAIN, "id": IDS, "extra": TEXTS})


def read(path: Path) -> Records | str:
    """The records of a file, or what is wrong with it."""
    try:
        return records.read(path)
    except InputError as error:
        return str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.one_of(st.lists(ODD_ROWS, max_size=5), st.lists(PLAIN_ROWS, max_size=5)),
    broken=st.integers(0, 9),
)
def test_columns_are_read_as_rows_are(found: list[dict[str, Any]], broken: int, tmp_path: Path) -> None:
    """Any file gives the same table, or the same error at the same line, whichever way rows are checked."""
    lines = [json.dumps(row) for row in found]
    lines[broken : broken + 1] = ["{"] if broken < len(lines) else lines[broken:]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    quick = read(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_columns", lambda *_: None)
        slow = read(path)
    if isinstance(slow, str) or isinstance(quick, str):
        assert slow == quick
    else:
        assert (slow.datatype, slow.fingerprint) == (quick.datatype, quick.fingerprint)
        assert slow.table.equals(quick.table)


def test_the_first_wrong_line_is_named(tmp_path: Path) -> None:
    """A missing field on line 2 is told before broken JSON on line 4."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"body": "b"}\n{"text": "c"}\n{\n', "utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: no field 'text'"):
        records.read(path)


@pytest.mark.parametrize("most", [3, 100_000])
def test_ids_are_single_however_many_there_are(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated ids are marked, also those of batches of which only hashes are kept."""
    monkeypatch.setattr(rows, "_EXACT", most)
    ids = rows.Ids()
    assert ["a", "b", "c", "d"] == ids.claim_all(["a", "b", "c", "d"])
    assert ["e", "b'", "e'"] == ids.claim_all(["e", "b", "e"])
    assert "b''" == ids.claim("b")
    assert ["x", "a'", "b'''"] == ids.claim_all(["x", "a", "b"])
    assert (most == 3) is bool(ids.earlier)
    many = [f"row {i}" for i in range(50)]
    assert many == ids.claim_all(many)
    assert [f"{name}'" for name in many] == ids.claim_all(many)


def test_batches_of_different_types_are_what_one_batch_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field that is empty, whole, broken or mixed in some batches comes out as in a file of one batch."""
    path = tmp_path / "rows.jsonl"
    found = [{"text": f"t{i}", "late": i if i > 7 else None, "n": i / 2 if i > 5 else i} for i in range(10)]
    for i, value in enumerate([1, 2, 3, "four", True, None, {"a": 1}, [1], 2.5, "x"]):
        found[i]["mixed"] = value
        if i > 6:
            found[i]["new"] = [i]
    path.write_text("\n".join(json.dumps(row) for row in found), "utf-8")
    expected = records.read(path)
    batches = records.batches
    for size in (1, 3, 9):
        monkeypatch.setattr(records, "batches", lambda *a, n=size, **k: batches(*a, **k, size=n))
        again = records.read(path)
        assert expected.table.schema == again.table.schema
        assert expected.table.to_pylist() == again.table.to_pylist()


def test_a_table_larger_than_memory_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records beyond the limit come from a mapped file without a name; nothing else about them changes."""
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(2000):
            row = {"text": f"text {i} " * 9, "label": f"l{i % 3}", "n": None if i < 900 else i}
            file.write(json.dumps(row | ({"lineage": {"generator": "g"}} if i > 1500 else {})) + "\n")
    expected = records.read(path)
    monkeypatch.setattr(records, "MEMORY", 50_000)
    batches = records.batches
    monkeypatch.setattr(records, "batches", lambda *a, **k: batches(*a, **k, size=300))
    scratch = tmp_path / "scratch"
    found = records.read(path, scratch=scratch)
    assert [] == list(scratch.iterdir())
    assert expected.fingerprint == found.fingerprint
    assert expected.table.equals(found.table)
    assert expected.lineage("generator") == found.lineage("generator")
    assert expected.ids == found.ids
    assert found.table.column("text").num_chunks > 3
