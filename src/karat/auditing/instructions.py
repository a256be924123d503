"""Instruction records: how they are read, sampled for people to annotate, and corrupted on purpose.

Sampling for annotation, and reading the filled sheet back:

    from karat import records
    from karat.auditing.instructions import annotation_sheet

    rows = [{"instruction": f"Name {n} birds that swim", "output": f"bird {n}"} for n in range(9)]
    data = records.from_rows(rows)
    sheet = annotation_sheet(data, n_per_source=3, seed=0)
    sheet.write("sheet.csv")          # people fill in error, second_error, third_error and qa_type
    # karat audit sheet.csv --metrics instruction_errors

Correct and corrupt sets for an ablation, equal but for a known share of rows:

    from karat.auditing.instructions import corrupted

    correct, corrupt = corrupted(data, 0.3, seed=0)
    reasons = corrupt.column("corruption")      # "" for the rows that were left as they are
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Need, need
from karat.auditing.columns import Columns
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records

SOURCES = ("dataset", "source", "lineage.generator")
"""Fields that say where a record comes from; the first that holds anything counts."""
_ERROR_FIELDS = ("error", "second_error", "third_error")
_FIELDS = "prompt completion instruction input context constraints errors qa_type QA_type text " + " ".join(
    (*_ERROR_FIELDS, *SOURCES)
)
INSTRUCTIONS: Need = need("columns", fields=_FIELDS)
"""What all metrics of instructions read: one need, so that it is collected once."""

NO_ERROR = "none"
_ERRORS = {
    "incomprehensible instruction": "incomprehensible",
    "inconsistent input": "inconsistent input",
    "inconsistent output": "inconsistent output",
    "incorrect output": "incorrect",
}
_FINE = {"", "none", "no", "no error", "ok", "okay", "correct", "valid", "n/a", "nan", "null", "false", "0"}


@dataclass(frozen=True)
class Rows:
    """n instruction records: what is asked, the input it speaks of, what is answered.

    groups int64 [n], keys uint64 [n]; `prompts` hold instruction and input together
    """

    prompts: list[str]
    instructions: list[str]
    inputs: list[str]
    completions: list[str]
    groups: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.prompts)

    def shown(self, i: int) -> str:
        """One record as a judge is shown it."""
        parts = [f"Instruction: {self.instructions[i]}"]
        if self.inputs[i]:
            parts.append(f"Input: {self.inputs[i]}")
        return "\n\n".join([*parts, f"Output: {self.completions[i]}"])


def opened(columns: Columns) -> Rows:
    """The records of a view; worked out once."""
    if "rows" not in columns.memo:
        prompts, completions = (_texts(columns, name) for name in ("prompt", "completion"))
        given = _texts(columns, "input") if columns.has("input") else _texts(columns, "context")
        asked = _texts(columns, "instruction")
        rows = Rows(
            prompts,
            [one or prompt for one, prompt in zip(asked, prompts)],
            [one.strip() for one in given],
            completions,
            columns.groups,
            columns.keys,
        )
        columns.memo["rows"] = rows
    found: Rows = columns.memo["rows"]
    return found


def _texts(columns: Columns, name: str) -> list[str]:
    return ["" if value is None else str(value) for value in columns[name]]


# -------------------------------------------------------------------------- errors and their types


def errors_of(columns: Columns) -> list[tuple[str, ...] | None]:
    """The errors that people found in each record; () for none, None for a record nobody looked at.

    Read from `errors` (a list, or text with ; or | between) or from error, second_error, third_error. In a
    sheet with a qa_type, or without any error, a row that says nothing was not looked at.
    """
    if columns.has("errors"):
        return [None if value is None else _read_errors(value) for value in columns["errors"]]
    if not any(columns.has(name) for name in _ERROR_FIELDS):
        return [None] * len(columns)
    types = qa_types(columns)
    blank = not any(str(one or "").strip() for name in _ERROR_FIELDS for one in columns[name])
    looked = blank or any(one is not None for one in types)  # a sheet nobody has filled in names no error
    found: list[tuple[str, ...] | None] = []
    for parts in zip(*(columns[name] for name in _ERROR_FIELDS), types):
        *said, kind = parts
        filled = any(one is not None and str(one).strip() for one in said)
        names = tuple(dict.fromkeys(name for one in said if one is not None for name in _read_errors(one)))
        found.append(names if filled or kind is not None or not looked else None)
    return found


def _read_errors(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip().startswith("["):
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError):
                value = read(value)
                break
    parts = value if isinstance(value, list | tuple) else re.split(r"[;|\n]", str(value))
    return tuple(dict.fromkeys(name for one in parts if one is not None and (name := _error(str(one)))))


def _error(text: str) -> str:
    """The name of an error type; empty for "no error"; a type of the user's own keeps its name."""
    folded = " ".join(text.casefold().replace("_", " ").split())
    if folded in _FINE:
        return ""
    return next((name for name, mark in _ERRORS.items() if mark in folded), folded)


def qa_types(columns: Columns) -> list[str | None]:
    """open, closed or None for each record, from the field qa_type ("Open QA", "closed" ...)."""
    name = "qa_type" if columns.has("qa_type") else "QA_type"
    found: list[str | None] = []
    for value in columns[name]:
        folded = "" if value is None else str(value).casefold()
        found.append(next((kind for kind in ("open", "closed") if folded.strip().startswith(kind)), None))
    return found


def sources_of(columns: Columns) -> list[str]:
    """Where each record comes from, as far as the records say."""
    name = next((one for one in SOURCES if columns.has(one)), None)
    return [""] * len(columns) if name is None else ["" if v is None else str(v) for v in columns[name]]


# ------------------------------------------------------------------------- sampling for annotation


def annotation_sheet(data: Records, n_per_source: int = 200, seed: int = 0, *, source: str = "") -> Records:
    """Records for people to annotate: n of each source, at random, with empty columns to fill in.

    source: the field that names sources; dataset, source or the generator in the lineage when not given
    Columns added: error, second_error, third_error, qa_type. Write it as CSV or JSONL; `instruction_errors`
    reads the filled file back. Source: Das et al. 2024, section 7.1 (200 of each source).
    """
    if data.datatype != "instruction":
        raise BadSetting(f"{data.path} holds {data.datatype} records; a sheet is made of instruction records")
    if n_per_source < 1:
        raise BadSetting(f"n_per_source is {n_per_source}, but must be 1 or more")
    names = _source_names(data, source)
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for name in sorted(set(names)):
        rows = np.flatnonzero(np.array([one == name for one in names]))
        chosen += sorted(int(row) for row in rng.permutation(rows)[:n_per_source])
    sheet = data.take(chosen).with_column("source", [names[row] for row in chosen])
    for column in (*_ERROR_FIELDS, "qa_type"):
        sheet = sheet.with_column(column, [""] * len(sheet))
    return sheet


def _source_names(data: Records, source: str) -> list[str]:
    for name in (source,) if source else SOURCES:
        if name.startswith("lineage."):
            values = data.lineage(name.partition(".")[2])
        elif data.has(name):
            values = data.column(name)
        elif source:
            data.column(name)  # raises, naming the fields there are
            raise AssertionError(name)
        else:
            continue
        if any(value is not None for value in values):
            return ["" if value is None else str(value) for value in values]
    return ["all"] * len(data)


# ------------------------------------------------------------------------------------- corruption

CORRUPTIONS = {
    "swapped_output": "inconsistent output",
    "dropped_input": "inconsistent input",
    "truncated_output": "incorrect output",
    "shuffled_instruction": "incomprehensible instruction",
}
"""What `corrupted` can do to a row, and the error that it makes."""


def corrupted(
    data: Records, rate: float, seed: int = 0, kinds: Sequence[str] = tuple(CORRUPTIONS)
) -> tuple[Records, Records]:
    """A correct and a corrupt set: the same rows, of which a share `rate` is spoilt in the second.

    kinds: swapped_output (that of another row), dropped_input, truncated_output (its first third),
    shuffled_instruction (its words in another order); each gets its part of the rows it can be done to.
    Added fields: `corruption` says why a row is spoilt ("" where it is not), `errors` the error that it
    makes, so that instruction_errors of the corrupt set finds the rate. Raises BadSetting or NotEnoughData.
    """
    if data.datatype != "instruction":
        raise BadSetting(f"{data.path} holds {data.datatype} records; only instruction records are corrupted")
    if not 0 <= rate <= 1:
        raise BadSetting(f"rate is {rate}, but must be between 0 and 1")
    unknown = [kind for kind in kinds if kind not in CORRUPTIONS]
    if unknown or not kinds:
        raise BadSetting(f"kinds has {unknown or 'nothing'}; choose from: {', '.join(CORRUPTIONS)}")
    whole = [dict(row) for row in data]
    rows = list(whole)
    rng = np.random.default_rng(seed)
    order = [int(i) for i in rng.permutation(len(rows))]
    wanted = round(rate * len(rows))
    reasons, errors = [""] * len(rows), [NO_ERROR] * len(rows)
    spoilt = 0
    turn = 0
    for i in order:
        if spoilt == wanted:
            break
        for step in range(len(kinds)):  # the next kind in turn that can be done to this row
            kind = kinds[(turn + step) % len(kinds)]
            changed = _SPOIL[kind](whole, i, rng)
            if changed is not None:
                reasons[i], errors[i] = _reason(kind), CORRUPTIONS[kind]
                rows[i] = changed
                spoilt, turn = spoilt + 1, turn + step + 1
                break
    if spoilt < wanted:
        raise NotEnoughData(
            f"{data.path}: only {spoilt} of {wanted} rows can be spoilt by {', '.join(kinds)}; "
            "lower the rate or allow more kinds"
        )
    correct = data.with_column("corruption", [""] * len(data)).with_column("errors", [NO_ERROR] * len(data))
    corrupt = data
    for name in ("prompt", "completion", "instruction", "input", "output", "response"):
        if data.has(name):
            corrupt = corrupt.with_column(name, [row.get(name) for row in rows])
    return correct, corrupt.with_column("corruption", reasons).with_column("errors", errors)


def _reason(kind: str) -> str:
    return {
        "swapped_output": "swapped_output: the output is that of another row",
        "dropped_input": "dropped_input: the input was taken away",
        "truncated_output": "truncated_output: the output breaks off after a third of its words",
        "shuffled_instruction": "shuffled_instruction: the words of the instruction stand in another order",
    }[kind]


Row = dict[str, Any]
Spoil = Callable[[list[Row], int, np.random.Generator], "Row | None"]


def _answered(row: Row, text: str) -> Row:
    """The row with another completion, under each of its names."""
    names = ("completion", "output", "response")
    return {**row, **{name: text for name in names if row.get(name) is not None}}


def _asked(row: Row, instruction: str, given: str) -> Row:
    """The row with another instruction and input, in the prompt too."""
    found = {**row, "prompt": f"{instruction}\n\n{given}" if given else instruction}
    if row.get("instruction") is not None:
        found["instruction"] = instruction
    if row.get("input") is not None:
        found["input"] = given
    return found


def _swap(rows: list[Row], i: int, rng: np.random.Generator) -> Row | None:
    for _ in range(20):
        other = str(rows[int(rng.integers(len(rows)))]["completion"])
        if other.strip() and other != rows[i]["completion"]:
            return _answered(rows[i], other)
    return None


def _drop(rows: list[Row], i: int, rng: np.random.Generator) -> Row | None:
    row = rows[i]
    if not str(row.get("input") or "").strip() or row.get("instruction") is None:
        return None
    return _asked(row, str(row["instruction"]), "")


def _truncate(rows: list[Row], i: int, rng: np.random.Generator) -> Row | None:
    words = str(rows[i]["completion"]).split()
    return _answered(rows[i], " ".join(words[: len(words) // 3])) if len(words) >= 6 else None


def _shuffle(rows: list[Row], i: int, rng: np.random.Generator) -> Row | None:
    row = rows[i]
    alone = row.get("instruction") is None
    words = str(row["prompt"] if alone else row["instruction"]).split()
    if len(set(words)) < 4:
        return None
    mixed = words
    while mixed == words:
        mixed = [words[int(j)] for j in rng.permutation(len(words))]
    return _asked(row, " ".join(mixed), "" if alone else str(row.get("input") or ""))


_SPOIL: dict[str, Spoil] = {
    "swapped_output": _swap,
    "dropped_input": _drop,
    "truncated_output": _truncate,
    "shuffled_instruction": _shuffle,
}
