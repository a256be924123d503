"""Orders records by what a language model answers when it is asked whether they are right. Knows no gold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import ASKED, Ask, Ordered, few, need_ask, written
from karat.curation.base import asked as given_texts
from karat.generation.asking import question
from karat.records import Records
from karat.texts.answers import read_answer

ANSWERS = ("correct", "incorrect", "not sure")
_WORTH = {"correct": 1.0, "incorrect": 0.0, "not sure": 0.5}
_QUESTIONS = (
    "Is the proposed answer correct? Think step by step in at most 60 words, then end with a line of this "
    "form:\nAnswer: correct, incorrect, or not sure",
    "Are you really sure that the proposed answer is correct? Answer with one of these and nothing else: "
    "correct, incorrect, not sure",
)


@dataclass(frozen=True)
class Reflection:
    """The best first by the judgement of a language model: correct 1, not sure 0.5, incorrect 0.

    The intrinsic part of BSDetector (Chen and Mueller 2023): two questions, whose answers are averaged.
    Models praise what they wrote themselves, so a provider other than the generator is worth its price.
    questions: 1 or 2 of them. limit: the most records asked about, drawn by seed (0: all).
    """

    questions: int = 2
    limit: int = 0

    def __post_init__(self) -> None:
        if self.questions not in (1, 2):
            raise ValueError(f"questions is {self.questions}, but there are 1 or 2")

    def order(
        self,
        records: Records,
        reference: Records | None = None,
        *,
        seed: int = 0,
        ask: Ask | None = None,
    ) -> Ordered:
        """Score each record from 0 to 1; one without a readable answer has no score."""
        ask = need_ask(ask, "ordering 'reflection'")
        rows = few(len(records), self.limit, seed=seed)
        shown = _shown(records)
        ids = records.ids
        answers = ask(
            [
                question(
                    f"reflection:{ids[row]}:{number}",
                    f"{shown[row]}\n\n{_QUESTIONS[number]}",
                    seed=seed,
                    temperature=0.0,
                    max_tokens=256 if number == 0 else 32,
                )
                for row in rows.tolist()
                for number in range(self.questions)
            ]
        )
        scores = np.full(len(records), np.nan)
        invalid = 0
        for row in rows.tolist():
            worth = []
            for number in range(self.questions):
                answer = answers.get(f"reflection:{ids[row]}:{number}")
                said = None if answer is None else read_answer(answer.text, ANSWERS, last=number == 0)
                invalid += said is None
                worth += [] if said is None else [_WORTH[said]]
            if worth:
                scores[row] = np.mean(worth)
        asked_for = len(rows) * self.questions
        note = f"{asked_for:,} questions, {invalid:,} answers could not be read"
        return Ordered(scores, note, figures={"asked": float(asked_for), "invalid": float(invalid)})


def _shown(records: Records) -> list[str]:
    """What a judge is shown of each record: the question, and the answer that a generator proposed."""
    labels = records.labels()
    if records.datatype in ASKED:
        given, said = given_texts(records, "ordering 'reflection'"), written(records)
        task = "Translate this text: " if records.datatype == "translation" else ""
        return [f"Question: {task}{one}\n\nProposed answer: {other}" for one, other in zip(given, said)]
    if labels is not None:
        classes = ", ".join(sorted({one for one in labels if one is not None}))
        return [
            f"Question: Which of the labels {classes} fits this text?\n{text}\n\nProposed answer: {label}"
            for text, label in zip(records.texts(), labels)
        ]
    return [
        f"Question: Write a natural text without errors of language or fact.\n\nProposed answer: {text}"
        for text in records.texts()
    ]
