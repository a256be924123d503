"""Judges: whoever answers questions about records, behind a journal, and what people answered instead.

Knows providers only as parts that answer requests. How far a judge can be believed is in judged_rates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from karat import registry
from karat.auditing.base import Jury, Question, Verdict
from karat.errors import BadSetting, BudgetSpent, InputError
from karat.formats import read_rows
from karat.generation.base import Learning, Message, Provider, Request, identity
from karat.generation.calls import call
from karat.generation.journal import Journal
from karat.texts.answers import plain, read_answer

Progress = Callable[[str, int, int], None]

VERSION = "1"
"""Of the prompts below; it stands in the signature of every judged metric."""
_WORD, _REASONS = 32, 512  # tokens of an answer of one word, and of one with reasons
_TRUE = {"yes": {"1", "1.0", "true", "y"}, "no": {"0", "0.0", "false", "n"}}


def jury(
    judge: Any,
    *,
    truth: Path | None = None,
    journal: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Jury:
    """Return a judge: a provider (spec or object), behind a journal that asks nothing twice.

    truth: a file with `id` and `answer` (and `question`), given by people, that validates the judge
    journal: the folder of the journal; in memory when not given
    seed: of the audit, which chooses the records; answers are given at temperature 0 and do not depend on it
    Raises BadSetting for a provider that would first have to learn.
    """
    known = {} if truth is None else read_truth(truth)
    if isinstance(judge, Bench):
        return judge
    provider = registry.make("providers", judge)
    if isinstance(provider, Learning):
        name = judge if isinstance(judge, str) else registry.name_of(provider)
        raise BadSetting(
            f"judge {name!r} learns to write from your records and cannot answer questions; name a provider "
            "that follows instructions, or recorded answers: replay:path=FILE"
        )
    store = Journal(None if journal is None else journal / "judge.sqlite")
    return Bench(provider, store, known, progress)


@dataclass(frozen=True, eq=False)
class Bench:
    """A provider that answers questions; every answer is in the journal before it counts."""

    provider: Provider
    journal: Journal = field(default_factory=lambda: Journal(None))
    truth: Mapping[str, str] = field(default_factory=dict)
    progress: Progress | None = None

    @property
    def id(self) -> str:
        """The model and server that answer, as they stand in the keys of the journal."""
        return identity(self.provider)

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """One verdict a question, in order; a question that got no answer has an empty text.

        A request is named KIND:RECORD, so that a file of recorded answers can hold several kinds.
        """
        requests = [
            Request(
                id=f"{one.kind}:{one.record}" if one.kind else one.record,
                messages=messages(one),
                temperature=0.0,
                max_tokens=_REASONS if one.rationale else _WORD,
                index=place,
            )
            for place, one in enumerate(questions)
        ]
        once = {request.id: request for request in requests}
        assert all(once[one.id].messages == one.messages for one in requests), (
            "one question a record and kind"
        )
        told = self.progress
        shown = None if told is None else lambda _, done, total, **_more: told("judge", done, total)
        called = call(self.provider, list(once.values()), journal=self.journal, progress=shown)
        if called.stopped:
            raise BudgetSpent(called.stopped)
        verdicts = []
        for one, request in zip(questions, requests, strict=True):
            response = called.responses.get(request.id)
            text = response.text if response is not None else ""
            verdicts.append(Verdict(one.record, read_answer(text, one.answers, last=one.rationale), text))
        return verdicts


# ---------------------------------------------------------------------------------------- prompts


def messages(question: Question) -> tuple[Message, ...]:
    """The prompt of one question: what is asked and shown, the allowed answers, and how to answer."""
    system = (
        "You judge records of training data. Judge only what is shown, and follow the form of the answer."
    )
    several = len(question.answers) > 3
    listed = [f"({i}) {one}" if several else one for i, one in enumerate(question.answers, 1)]
    allowed = ("\n" if several else " ") + ("\n" if several else ", ").join(listed)
    if question.rationale:
        end = "First give your reasons in at most 100 words. Then end with a line of this form:\nAnswer: WORD"
    else:
        end = "Answer with one of them and nothing else."
    text = f"{question.text}\n\nAllowed answers:{allowed}\n{end}"
    return Message("system", system), Message("user", text)


# ---------------------------------------------------------------------------------------- answers


# ----------------------------------------------------------------------------- answers of people


def read_truth(path: Path) -> Mapping[str, str]:
    """Record id -> a person's answer, from a file with the fields `id` and `answer`.

    A field `question` (digression, human_like ...) keeps answers to several questions apart: such an answer
    has the key QUESTION:ID. Raises InputError naming the row.
    """
    found: dict[str, str] = {}
    for line, row in read_rows(str(path)):
        for name in ("id", "answer"):
            if row.get(name) is None:
                raise InputError(
                    f"{path}:{line}: no field {name!r} (found: {', '.join(row)}); a file of people's answers "
                    "has `id` and `answer` on each row, and `question` where several were asked"
                )
        if str(row["answer"]).strip() == "":
            continue  # a sheet that is not filled in to the end
        asked = str(row.get("question") or "").strip()
        key = f"{asked}:{row['id']}" if asked else str(row["id"])
        answer = str(row["answer"]).strip()
        if found.get(key, answer) != answer:
            raise InputError(
                f"{path}:{line}: the record {row['id']!r} has two answers, {found[key]!r} and {answer!r}; "
                "keep one"
            )
        found[key] = answer
    if not found:
        raise InputError(f"{path}: no answers; fill in the field `answer`")
    return found


def known_answer(truth: Mapping[str, str], kind: str, record: str, answers: Sequence[str]) -> str | None:
    """What a person answered to this question about this record; None where nobody did."""
    return read_given(truth.get(f"{kind}:{record}", truth.get(record)), answers)


def read_given(value: Any, answers: Sequence[str]) -> str | None:
    """The allowed answer that a value stands for; true, 1 and y are yes where yes is allowed."""
    folded = "" if value is None else plain(str(value).strip())
    for answer in answers:
        if folded == plain(answer) or folded in _TRUE.get(answer, ()):
            return answer
    return None
