"""Labels by single annotators, several to an item; wide rows are taken apart. Knows no file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

_WHOLE = re.compile(r"[+-]?\d+\.0*")
_PIECE = re.compile(r"'[^']*'|\"[^\"]*\"|[^\s,\[\]]+")
_LISTS = ("human_annots", "model_annots")


@dataclass(frozen=True)
class Annotation:
    """One annotator's label of one item.

    Rows may also be wide: `labels` as an object annotator -> label (or a list of draws), or as a list:
    draws of the one `annotator` that the row names, else one annotator a position. `human_annots` and
    `model_annots`, lists of one row, give human and model records; there -1 and nan are no usable answer.
    Without `item_id` the `id` of a wide row names the item, else the text does.
    """

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("item_id", "text", "label", "annotator"),)
    optional: ClassVar[tuple[str, ...]] = ("annotator_kind", "sample_id", "gold")
    label: ClassVar[str | None] = "label"
    wide: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("text", "label", "annotator"),
        ("text", "human_annots", "model_annots"),
        ("text", "labels"),
    )
    unit: ClassVar[str | None] = "item_id"

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a row with such fields is one: `labels` of other tasks are names of classes."""
        if row.get("labels") is None or row.get("human_annots") is not None:
            return True
        labels = _opened(row["labels"])
        named = any(row.get(name) is not None for name in ("item_id", "annotator", "annotator_kind"))
        if row.get("label") is not None:
            # several classes of one text, of which the first is its label
            own = isinstance(labels, list) and row["label"] in labels
            return named or not own
        return isinstance(labels, dict) or (isinstance(labels, list) and named)

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records that one row of a file holds: itself, or one a label of a wide row.

        In a wide row null says that nobody was asked; a label that is empty or nan is an unusable answer.
        """
        if any(row.get(name) is not None for name in _LISTS):
            return _released(row)
        labels = _opened(row.get("labels"))
        if row.get("label") is not None or not isinstance(labels, dict | list):
            return [row]
        rest = {key: value for key, value in row.items() if key not in ("labels", "label")}
        given = row.get("annotator")
        if isinstance(labels, dict):
            named = [(str(name), label) for name, label in labels.items()]
        elif given is not None:
            named = [(str(given), labels)]
        else:
            named = [(f"annotator {i}", label) for i, label in enumerate(labels, 1)]
        return list(_records(rest, named))

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with an item; a record that has everything but a label has the empty one."""
        if row.get("item_id") is None and row.get("text") is not None:
            row = {**row, "item_id": _named_by(str(row["text"]))}
        if row.get("label") is None and "label" in row and row.get("annotator") is not None:
            row = {**row, "label": ""}
        if row.get("gold") is not None and not isinstance(row["gold"], str):
            row = {**row, "gold": _plain(row["gold"])}
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the item's text."""
        return str(row["text"])


def _records(row: dict[str, Any], named: list[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    """One record a label: `named` holds annotator and label, or annotator and the list of its draws."""
    item = row.get("item_id")
    item = row.get("id") if item is None else item
    item = _named_by(str(row.get("text"))) if item is None else _plain(item)
    identity = item if row.get("id") is None else _plain(row["id"])
    for annotator, label in named:
        draws = _opened(label) if not isinstance(label, list) else label
        if not isinstance(draws, list):
            if label is not None:
                name = f"{identity}/{annotator}"
                yield {**row, "id": name, "item_id": item, "label": label, "annotator": annotator}
            continue
        for number, draw in enumerate(draws, 1):
            if draw is not None:
                yield {
                    **row,
                    "id": f"{identity}/{annotator}/{number}",
                    "item_id": item,
                    "label": draw,
                    "annotator": annotator,
                    "sample_id": str(number),
                }


def _released(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Human and model records of a row that holds a list of labels of each."""
    rest = {key: value for key, value in row.items() if key not in (*_LISTS, "labels", "label")}
    model = "model" if row.get("model_name") is None else str(row["model_name"])
    item = next((row[name] for name in ("item_id", "id") if row.get(name) is not None), None)
    item = _named_by(str(row.get("text"))) if item is None else _plain(item)
    named = item if row.get("id") is None else _plain(row["id"])
    human, drawn = (_usable(row.get(name)) for name in _LISTS)
    # an item has a row for each model: people's labels are told apart by the model beside which they stand,
    # and carry the number of a draw, so that the same label in another row counts once
    people = [(f"human {i}", [label]) for i, label in enumerate(human, 1)]
    beside = {**rest, "id": f"{named}/{model}", "item_id": item}
    found = [{**one, "annotator_kind": "human"} for one in _records(beside, people)]
    mine = {**rest, "id": named, "item_id": item}
    found += [{**one, "annotator_kind": "model"} for one in _records(mine, [(model, drawn)])]
    return found


def _usable(labels: Any) -> list[Any]:
    opened = _opened(labels)
    if not isinstance(opened, list):
        return [] if opened is None else [opened]
    return ["" if _plain(label) in ("-1", "-1.0", "nan", "None") else label for label in opened]


def _opened(given: Any) -> Any:
    """A list or an object that a file holds as text: JSON, or a list as Python or numpy print it."""
    if not isinstance(given, str) or given.strip()[:1] not in ("[", "{"):
        return given
    text = given.strip()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if not (text.startswith("[") and text.endswith("]")):
            return given
    return [_plain(piece.strip("'\"")) for piece in _PIECE.findall(text[1:-1])]


def _plain(value: Any) -> str:
    """A label as text; a whole number is written without a point."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.split(".")[0] if _WHOLE.fullmatch(text) else text


def _named_by(text: str) -> str:
    """The name of an item of which only the text is known."""
    return "text-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
