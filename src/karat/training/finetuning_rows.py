"""Records as conversations for fine-tuning, and answers read back as labels. Knows no server and no file.

A row is a system message (what is asked), a user message (what is given) and the assistant's answer. A tuned
model is asked with the first two, letter by letter as in training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from karat.errors import InputError
from karat.generation.base import Message, Request, Response
from karat.records import Records
from karat.texts.answers import plain
from karat.training.base import Floats, gold_labels, inputs, kind_of
from karat.training.pairs import CHOICES, pairs

NO_ANSWER = "(no valid answer)"
"""The class of answers that are no label; it stands in predictions where there is any."""
_NAMED = 50  # labels that the system message names; more are learned from the rows alone


@dataclass(frozen=True)
class Form:
    """How records of a kind are asked: `system` may be empty; `classes` are empty where texts are written."""

    datatype: str
    system: str
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Records, instruction: str = "") -> Form:
        """The form of training records. Raises InputError where there is nothing to ask."""
        kind = kind_of(records)
        if kind == "texts":
            usual = "Translate the text." if records.datatype == "translation" else ""
            return cls(records.datatype, instruction or usual)
        if kind != "labels":
            raise InputError(
                f"{records.path}: {records.datatype} records without labels give a server nothing to answer; "
                "name their label with --label-field, or give instruction or translation records"
            )
        found = gold_labels(records)
        classes = tuple(sorted(set(found)))
        if records.datatype == "preference":
            classes = tuple(choice for choice in CHOICES if choice in {"a", "b", *found})
        what = (
            "Say which response to the prompt is better."
            if records.datatype == "preference"
            else "Label the text."
        )
        named = f" Answer with one of these and nothing else: {', '.join(classes)}."
        return cls(
            records.datatype,
            (instruction or what)
            + (named if len(classes) <= _NAMED else " Answer with the label and nothing else."),
            classes,
        )

    def given(self, records: Records) -> list[str]:
        """What the user says for each record."""
        if records.datatype == "preference":
            found = pairs(records)
            return [
                f"Prompt:\n{prompt}\n\nResponse a:\n{a}\n\nResponse b:\n{b}"
                for prompt, a, b in zip(found.prompts, found.a, found.b)
            ]
        return inputs(records)

    def answers(self, records: Records) -> list[str]:
        """What the assistant answers. Raises InputError for an empty one."""
        name = {"translation": "target", "instruction": "completion"}.get(records.datatype)
        found = gold_labels(records) if name is None else [str(text) for text in records.column(name)]
        for identity, text in zip(records.ids, found):
            if not text.strip():
                raise InputError(
                    f"{records.path}: record {identity!r} has an empty {name or 'label'}, which no server "
                    "trains on; leave it out"
                )
        return found

    def messages(self, given: str) -> tuple[Message, ...]:
        """The conversation up to the answer."""
        system = (Message("system", self.system),) if self.system else ()
        return (*system, Message("user", given))

    def rows(self, records: Records) -> bytes:
        """Training rows as JSON lines. Raises InputError where the records are of another data type."""
        if records.datatype != self.datatype:
            raise InputError(
                f"{records.path} holds {records.datatype} records, but {self.datatype} records are trained on"
            )
        lines = []
        for given, answer in zip(self.given(records), self.answers(records)):
            told = [{"role": m.role, "content": _mended(m.content)} for m in self.messages(given)]
            lines.append(
                orjson.dumps({"messages": [*told, {"role": "assistant", "content": _mended(answer)}]})
            )
        return b"\n".join([*lines, b""])

    def requests(self, records: Records, *, most: int, logprobs: int) -> list[Request]:
        """One question a record, at temperature 0."""
        wanted = logprobs if self.classes else 0
        return [
            Request(str(i), self.messages(given), temperature=0.0, max_tokens=most, logprobs=wanted, index=i)
            for i, given in enumerate(self.given(records))
        ]

    # ------------------------------------------------------------------------------------ reading

    def label(self, answer: str) -> str | None:
        """The label that an answer is, case, spaces and an end stop aside; None where it is anything else."""
        if answer.strip() in self.classes:
            return answer.strip()
        said = plain(answer.strip().strip("\"'`*. \n"))
        found = [label for label in self.classes if plain(label) == said]
        return found[0] if len(found) == 1 else None

    def probabilities(self, answers: Sequence[Response | None]) -> tuple[tuple[str, ...], Floats, int]:
        """Return classes, probabilities [n, classes] and the number of answers that are no label.

        Where the server tells the likeliest first tokens, a label has the chance of those that it begins
        with, and what is left over is shared; else the answer has it all.
        """
        said = [None if one is None else self.label(one.text) for one in answers]
        wrong = said.count(None)
        classes = (*self.classes, NO_ANSWER) if wrong else self.classes
        table = np.zeros((len(said), len(classes)))
        for row, (label, answer) in enumerate(zip(said, answers)):
            if label is None or answer is None:
                table[row, -1] = 1.0
                continue
            column = self.classes.index(label)
            shares = self._shares(answer, label)
            if shares is None or int(shares.argmax()) != column:
                table[row, column] = 1.0
            else:
                table[row, : len(self.classes)] = shares
        return classes, table, wrong

    def _shares(self, answer: Response, label: str) -> Floats | None:
        """The chance of each label by the first token of its name; None where nothing is told of it."""
        shares, seen = np.zeros(len(self.classes)), False
        for token, logprob in answer.alternatives:
            start = token.strip()
            begun = [i for i, name in enumerate(self.classes) if start and name.startswith(start)]
            if not begun:
                continue
            own = self.classes.index(label)
            for i in [own] if own in begun else begun:  # the answer itself tells which one was meant
                shares[i] += math.exp(min(0.0, logprob)) / (1 if own in begun else len(begun))
            seen = True
        if not seen:
            return None
        rest = max(0.0, 1.0 - float(shares.sum()))
        shares = shares + rest / len(shares)
        return np.asarray(shares / shares.sum())


def most_tokens(rows: bytes) -> int:
    """An upper bound of the tokens of training rows: one for two bytes of text, and eight a message."""
    total = 0
    for line in rows.splitlines():
        messages: Sequence[Mapping[str, str]] = orjson.loads(line)["messages"]
        total += sum(len(m["content"].encode()) // 2 + 8 for m in messages)
    return total


def _mended(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
