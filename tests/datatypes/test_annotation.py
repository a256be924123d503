"""Annotation records: long rows, wide rows, and the layout with lists of human and model labels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from karat import records
from karat.errors import InputError


def rows(*given: dict[str, Any], datatype: str | None = None) -> list[dict[str, Any]]:
    """The records that rows of a file become, without what they do not hold."""
    found = records.from_rows(given, datatype=datatype)
    assert "annotation" == found.datatype
    return [{k: v for k, v in row.items() if k != "lineage" and v is not None} for row in found]


def test_a_long_row_is_a_record() -> None:
    """A row with item, text, label and annotator stays as it is; a number becomes text."""
    row = {"item_id": 7, "text": "t", "label": 2, "annotator": "a", "id": "x", "sample_id": 1}
    assert [{**row, "item_id": "7", "label": "2"}] == rows(row)


def test_the_text_names_the_item_where_nothing_else_does() -> None:
    """Rows of one text are of one item; the id of a long row is that of the record."""
    found = rows(
        {"id": 1, "text": "t", "label": "x", "annotator": "a"},
        {"id": 2, "text": "t", "label": "y", "annotator": "b"},
        {"id": 3, "text": "u", "label": "y", "annotator": "b"},
    )
    assert found[0]["item_id"] == found[1]["item_id"] != found[2]["item_id"]
    assert ["1", "2", "3"] == [one["id"] for one in found]


def test_labels_by_annotator() -> None:
    """An object annotator -> label gives a record each; null says that nobody was asked."""
    found = rows({"id": 5, "text": "t", "gold": 1, "labels": {"a": 1, "b": None, "c": "", "d": [2, 3]}})
    assert [
        {"id": "5/a", "item_id": "5", "label": "1", "annotator": "a"},
        {"id": "5/c", "item_id": "5", "label": "", "annotator": "c"},
        {"id": "5/d/1", "item_id": "5", "label": "2", "annotator": "d", "sample_id": "1"},
        {"id": "5/d/2", "item_id": "5", "label": "3", "annotator": "d", "sample_id": "2"},
    ] == [{k: v for k, v in one.items() if k not in ("text", "gold")} for one in found]
    assert {"1"} == {one["gold"] for one in found}


def test_labels_in_a_list() -> None:
    """A list holds draws of the annotator that the row names, else one annotator a position."""
    drawn = rows({"item_id": "i", "text": "t", "annotator": "m", "labels": ["x", "y"]})
    assert [("m", "1", "x"), ("m", "2", "y")] == [
        (one["annotator"], one["sample_id"], one["label"]) for one in drawn
    ]
    people = rows({"item_id": "i", "text": "t", "labels": ["x", "y"]})
    assert [("annotator 1", "x"), ("annotator 2", "y")] == [
        (one["annotator"], one["label"]) for one in people
    ]


def test_a_list_of_class_names_is_no_list_of_annotators() -> None:
    """Rows of other tasks have `labels` too; without a word on annotators they stay what they were."""
    assert "text" == records.from_rows([{"text": "t", "labels": ["joy", "anger"]}]).datatype
    assert "text" == records.from_rows([{"id": 3, "text": "t", "labels": [27]}]).datatype
    assert "text" == records.from_rows([{"text": "t", "labels": 4}]).datatype
    found = rows({"text": "t", "labels": ["joy", "anger"]}, datatype="annotation")
    assert ["annotator 1", "annotator 2"] == [one["annotator"] for one in found]


@pytest.mark.parametrize("drawn", [[2.0, float("nan"), -1, 1], "[ 2. nan -1.  1.]", "[2.0, nan, '-1', 1]"])
def test_the_released_layout(drawn: Any) -> None:
    """Lists of human and model labels of one row, also as text, give records of both kinds."""
    found = rows({"model_name": "m", "text": "t", "human_annots": "['0' '2']", "model_annots": drawn})
    human = [one for one in found if one["annotator_kind"] == "human"]
    model = [one for one in found if one["annotator_kind"] == "model"]
    assert [("human 1", "0"), ("human 2", "2")] == [(one["annotator"], one["label"]) for one in human]
    assert ["m"] * 4 == [one["annotator"] for one in model]
    assert ["2", "", "", "1"] == [one["label"].removesuffix(".0").removesuffix(".") for one in model]
    assert 1 == len({one["item_id"] for one in found})
    assert 6 == len({one["id"] for one in found})


def test_a_record_without_a_label_has_the_empty_one() -> None:
    """An annotator who gave no usable answer is counted, not refused."""
    asked = {"item_id": "i", "text": "t", "annotator": "m"}
    assert ["x", ""] == [one["label"] for one in rows({**asked, "label": "x"}, {**asked, "label": None})]


def test_a_row_that_lacks_a_text_is_refused() -> None:
    """What is missing is named, also in a wide row."""
    with pytest.raises(InputError, match="no field 'text'"):
        records.from_rows([{"id": 1, "labels": {"a": "x"}}], datatype="annotation")


def test_csv(tmp_path: Path) -> None:
    """Objects and lists stand in a CSV file as text."""
    path = tmp_path / "wide.csv"
    path.write_text('id,text,labels\n1,t,"{""a"": ""x"", ""b"": ""y""}"\n', "utf-8")
    assert ["x", "y"] == records.read(path).column("label")


def test_real_wide_file(data_dir: Path) -> None:
    """Every label of a real file with one object an item becomes a record."""
    path = data_dir / "hatecheck_annotations" / "hatecheck_annotations.jsonl.gz"
    found = records.read(path, fields={"gold": "label_gold", "item_id": "case_id"})
    with gzip.open(path, "rt", encoding="utf-8") as file:
        labels = [json.loads(line)["labels"] for line in file]
    assert sum(map(len, labels)) == len(found) == 19505
    assert {name for one in labels for name in one} == set(found.column("annotator"))
    assert "annotation" == found.datatype
    assert "1/a1" == found.ids[0]
