"""Labels as numbers: items, annotators and draws of one corpus or of two that share items. Knows no metric.

A `Sheet` holds the labels of one corpus, sorted by item; a `Book` holds the sheets of candidate and
reference with common numbers for items and labels. Labels outside the label space have the number -1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing.base import Need, need
from karat.auditing.columns import Columns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SHEET: Need = need("columns", fields="item_id label annotator sample_id gold text")
"""What all metrics of annotations read: one need, so that it is collected once."""
KINDS = 200
"""The most different labels of a label space; beyond it no table of labels is made."""
_BLANK = {"", "nan", "null"}
_WHOLE = re.compile(r"([+-]?\d+)\.0*")


@dataclass(frozen=True)
class Sheet:
    """Labels of one corpus, sorted by item: record j says label[j] of item[j]; arrays are int64 [n].

    label: number in the label space; -1 where the answer is no label of it
    slot: which draw of its annotator on its item a record is, from 0
    row: the place of a record in the file
    gold: number of the right label in the label space; -1 where the file names none
    """

    item: Ints
    label: Ints
    annotator: Ints
    slot: Ints
    row: Ints
    gold: Ints
    keys: NDArray[np.uint64]
    annotators: tuple[str, ...]
    said: NDArray[np.object_]
    """What was said, as text: object [n]."""

    def __len__(self) -> int:
        return len(self.item)

    def take(self, chosen: NDArray[np.bool_] | Ints) -> Sheet:
        """The records at these places."""
        return replace(
            self,
            item=self.item[chosen],
            label=self.label[chosen],
            annotator=self.annotator[chosen],
            slot=self.slot[chosen],
            row=self.row[chosen],
            gold=self.gold[chosen],
            keys=self.keys[chosen],
            said=self.said[chosen],
        )


@dataclass(frozen=True)
class Book:
    """Candidate and reference with common numbers.

    groups int64 [items]: the replicate group of each item
    points float64 [K]: where each label stands on its scale; None where labels have no order
    """

    mine: Sheet
    theirs: Sheet | None
    items: int
    space: tuple[str, ...]
    points: Floats | None
    groups: Ints
    lacks: str = ""
    """Why nothing can be computed; empty where all is well."""


@dataclass(frozen=True)
class Lists:
    """Lists of labels, one an item and owner (an annotator, or all of them): arrays [L], counts [L, K].

    said counts all answers, also those outside the label space; key is that of the list's first record.
    """

    item: Ints
    owner: Ints
    counts: Ints
    said: Ints
    key: NDArray[np.uint64]
    owners: tuple[str, ...]
    member: Ints
    """int64 [n]: the list of each record of the sheet."""

    def __len__(self) -> int:
        return len(self.item)

    def by_item(self, items: int) -> Ints:
        """int64 [items, K]: how often each item was given each label."""
        return summed(self.item, self.counts, items)


def read(
    candidate: Columns,
    reference: Columns | None = None,
    *,
    labels: Sequence[str] = (),
    once: bool = False,
) -> Book:
    """Number items, annotators and labels of one corpus or two.

    labels: the label space in its order; without it the labels of the reference (whole numbers between its
    least and its greatest count too), else those of the candidate
    once: items whose text stood in an item before are left out (the published cleaning)
    """
    sides = [candidate] if reference is None else [candidate, reference]
    codes, items = _joined(sides, "item_id")
    space, points = _space([one.table.column("label") for one in sides], [plain(one) for one in labels])
    lacks = ""
    if len(space) > KINDS:
        lacks = f"there are {len(space):,} different labels; name the label space: labels=a+b+c"
        space, points = space[:0], None
    sheets = []
    for side, item in zip(sides, codes):
        sheet = _sheet(side, item, space)
        sheets.append(_first_texts(sheet, side) if once else sheet)
    groups = np.zeros(items, np.int64)
    for side, item in zip(sides, codes):
        groups[item] = side.groups
    mine, theirs = sheets[0], sheets[1] if len(sheets) > 1 else None
    if not lacks and theirs is not None and not np.isin(theirs.item, mine.item).any():
        lacks = "no item is on both sides; both files must name items alike in item_id"
    return Book(mine, theirs, items, space, points, groups, lacks)


def lists(sheet: Sheet, kinds: int, *, crowd: bool = False) -> Lists:
    """The labels of each annotator on each item as one list; with `crowd` those of all annotators."""
    owners = ("all",) if crowd else sheet.annotators
    owner = np.zeros(len(sheet), np.int64) if crowd else sheet.annotator
    pair = sheet.item * max(len(owners), 1) + owner
    known, first, member = np.unique(pair, return_index=True, return_inverse=True)
    counts = tally(member, sheet.label, len(known), kinds)
    said = np.bincount(member, minlength=len(known))
    return Lists(sheet.item[first], owner[first], counts, said, sheet.keys[first], owners, member)


def repeats(sheet: Sheet) -> bool:
    """Whether annotators label items more than once as a rule, as a model does that is drawn from."""
    pair = sheet.item * max(len(sheet.annotators), 1) + sheet.annotator
    _, counts = np.unique(pair, return_counts=True)
    return bool((counts > 1).mean() >= 0.5) if len(counts) else False


def summed(index: Ints, rows: Ints, size: int) -> Ints:
    """int64 [size, K]: sums of the rows [n, K] that share an index."""
    columns = [np.bincount(index, column, size) for column in rows.T]
    return np.stack(columns, axis=1).astype(np.int64) if columns else np.zeros((size, 0), np.int64)


def tally(index: Ints, label: Ints, size: int, kinds: int) -> Ints:
    """int64 [size, K]: how often each label stands at each index; labels below 0 are left out."""
    valid = label >= 0
    found = np.bincount(index[valid] * kinds + label[valid], minlength=size * kinds)
    return found.reshape(size, kinds).astype(np.int64)


def plain(label: str) -> str:
    """A label without blanks around it; a whole number without a point."""
    text = label.strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def blank(label: str) -> bool:
    """Whether an answer says nothing."""
    return plain(label).lower() in _BLANK


def _sheet(side: Columns, item: Ints, space: tuple[str, ...]) -> Sheet:
    """The records of one corpus, sorted by item; a draw that stands twice counts once."""
    annotators, annotator = _coded(side.table.column("annotator"))
    names, said = _coded(side.table.column("label"))
    golds, gold = _coded(side.table.column("gold"))
    samples, sample = _coded(side.table.column("sample_id"))
    order = np.argsort(item, kind="stable")
    pair = item * max(len(annotators), 1) + annotator
    twice = np.zeros(len(item), np.bool_)
    if len(samples):
        rank = {name: i for i, name in enumerate(sorted(samples, key=_sortable))}
        slot = np.where(sample >= 0, np.array([rank[name] for name in samples], np.int64)[sample], 0)
        draw = pair * len(samples) + slot
        _, first = np.unique(draw, return_index=True)
        twice = sample >= 0
        twice[first] = False
    else:
        slot = occurrence(pair)
    at = np.array([*_number(names, space), -1], np.int64)
    right = np.array([*_number(golds, space), -1], np.int64)
    words = np.array([*names, ""], dtype=object)
    sheet = Sheet(
        item=item[order],
        label=at[said][order],
        annotator=annotator[order],
        slot=slot[order],
        row=order,
        gold=right[gold][order],
        keys=side.keys[order],
        annotators=annotators,
        said=words[said][order],
    )
    return sheet.take(~twice[order]) if twice.any() else sheet


def _first_texts(sheet: Sheet, side: Columns) -> Sheet:
    """The records of items whose text did not stand in an earlier item of the file."""
    _, text = _coded(side.table.column("text"))
    text = text[sheet.row]
    by_row = np.argsort(sheet.row, kind="stable")
    _, first = np.unique(text[by_row], return_index=True)  # the first record of each text in the file
    home = np.full(int(text.max(initial=-1)) + 2, -1, np.int64)
    home[text[by_row][first]] = sheet.item[by_row][first]
    return sheet.take(home[text] == sheet.item)


def _joined(sides: Sequence[Columns], name: str) -> tuple[list[Ints], int]:
    """Common numbers for the values of a field of all corpora, and how many there are."""
    column = pa.chunked_array(
        [chunk for one in sides for chunk in one.table.column(name).cast(pa.large_string()).chunks],
        pa.large_string(),
    )
    names, codes = _coded(column)
    ends = np.cumsum([len(one) for one in sides])[:-1]
    return [np.asarray(part, dtype=np.int64) for part in np.split(codes, ends)], len(names)


def _coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Ints]:
    """The different values of a field as text, and the number of each record's; -1 for none."""
    whole = column.cast(pa.large_string()).combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], pa.large_string())
    encoded = whole.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return tuple(encoded.dictionary.to_pylist()), codes


def _space(columns: Sequence[pa.ChunkedArray], given: Sequence[str]) -> tuple[tuple[str, ...], Floats | None]:
    """The label space and where each label stands on its scale, if it has one."""
    if given:
        space = tuple(dict.fromkeys(given))
        numbers = _numbers(space)
        return space, np.arange(len(space), dtype=np.float64) if numbers is None else numbers
    said = [{plain(one) for one in _coded(column)[0] if not blank(one)} for column in columns]
    known = said[-1]  # the reference where there is one
    numbers = _numbers(sorted(known))
    if numbers is None or not len(numbers):
        return tuple(sorted(known)), None
    low, high = numbers.min(), numbers.max()
    if (numbers == np.round(numbers)).all():
        between = (one for one in said[0] if (n := _numbers([one])) is not None and n[0] == np.round(n[0]))
        known = known | {one for one in between if low <= float(one) <= high}
    space = tuple(sorted(known, key=float))
    return space, np.array([float(one) for one in space])


def _numbers(labels: Sequence[str]) -> Floats | None:
    try:
        found = np.array([float(one) for one in labels])
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def _number(names: Sequence[str], space: tuple[str, ...]) -> list[int]:
    place = {name: i for i, name in enumerate(space)}
    return [place.get(plain(name), -1) for name in names]


def _sortable(name: str) -> tuple[int, float, str]:
    number = _numbers([name])
    return (1, 0.0, name) if number is None else (0, float(number[0]), name)


def occurrence(pair: Ints) -> Ints:
    """int64 [n]: how many equal entries stand before each one."""
    order = np.argsort(pair, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(pair[order]) != 0]) if len(pair) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(pair)])
    found = np.empty(len(pair), np.int64)
    found[order] = np.arange(len(pair)) - np.repeat(starts, lengths)
    return found
