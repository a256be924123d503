"""The questions that judges are asked, and what they are shown. Knows no provider and no metric.

An `Ask` puts a question about many records at once, so that the calls of one pass fly together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from karat.auditing.base import Jury, Question
from karat.auditing.judged_rates import Ask, Opinion
from karat.texts.answers import extractions

SHOWN = 12_000
"""Characters of a record that a judge is shown; of longer ones the middle is left out."""

YES_NO = ("yes", "no")
QUESTIONS = {
    "human_like": (
        "Below is a dialogue. Does it read like a natural conversation between people, in tone, in "
        "turn-taking and in what is said, rather than like text of machines?"
    ),
    "collaborative": (
        "Below is a dialogue about a task. Do the participants build on each other's turns, so that the task "
        "is worked on together?"
    ),
}
_DIGRESSION = (
    "Below is a dialogue in which the participants work on a task or talk about a subject. A digression is a "
    "passage that does not serve it: it leaves the subject, repeats what was settled, misleads, or is "
    "procedure and politeness that goes on after its purpose is met. Does the dialogue hold a digression?"
)
_REVISION = (
    "You were asked whether the dialogue below holds a digression, a passage that does not serve the task or "
    "the subject, and you answered: {answer}. Quote the passage that shows it, or say why there is none, and "
    "give your reasons. You may change your answer."
)
KINDS_OF_DIGRESSION = {
    "procedural": "introductions, roles and rules of the talk",
    "repetitive": "says again what was said or settled",
    "transitional": "leads from one part of the talk to the next",
    "irrelevant": "off the subject",
    "misleading": "leads the work in a wrong direction",
    "closing": "thanks, summaries and good-byes",
    "constructive": "off the plan, but of use to the task",
}
ERRORS = {
    "none": "instruction, input and output are in order",
    "incomprehensible instruction": "one cannot tell what is asked for",
    "inconsistent input": "the input is missing, or is not what the instruction speaks of",
    "inconsistent output": "the output does not do what is asked, or is not in the form asked for",
    "incorrect output": "the output does what is asked, but is wrong or untrue",
}
QA_TYPES = {
    "open": "many different outputs would be good answers",
    "closed": "there is one right answer, or few",
}


def asked(kind: str, text: str, answers: Sequence[str]) -> Ask:
    """Ask one question with a one-word answer about each record."""

    def ask(judge: Jury, records: Sequence[tuple[str, str]]) -> list[Opinion]:
        questions = [
            Question(name, f"{text}\n\n{cut(shown)}", tuple(answers), kind) for name, shown in records
        ]
        return [
            Opinion(verdict.answer, parsers_differ=_differ(verdict.text, answers))
            for verdict in judge.ask(questions)
        ]

    return ask


def digression(judge: Jury, records: Sequence[tuple[str, str]]) -> list[Opinion]:
    """Ask twice whether dialogues digress: yes or no, then with quotes and reasons, when it may change.

    Source: Das et al. 2024, section 8.1 (two passes of one judge). A record without a valid first answer is
    not asked again.
    """
    first = asked("digression", _DIGRESSION, YES_NO)(judge, records)
    again = [place for place, one in enumerate(first) if one.answer is not None]
    questions = [
        Question(
            records[place][0],
            f"{_REVISION.format(answer=first[place].answer)}\n\n{cut(records[place][1])}",
            YES_NO,
            "digression_revised",
            rationale=True,
        )
        for place in again
    ]
    opinions = list(first)
    for place, verdict in zip(again, judge.ask(questions), strict=True):
        opinions[place] = replace(
            first[place], answer=verdict.answer, reason=verdict.text, first=first[place].answer
        )
    return opinions


def digression_type(judge: Jury, records: Sequence[tuple[str, str]]) -> list[Opinion]:
    """Ask which of the seven kinds the main digression of each dialogue is of."""
    text = "The dialogue below holds a digression. Of which kind is the main one?\n" + listed(
        KINDS_OF_DIGRESSION
    )
    return asked("digression_type", text, tuple(KINDS_OF_DIGRESSION))(judge, records)


def instruction_error(judge: Jury, records: Sequence[tuple[str, str]]) -> list[Opinion]:
    """Ask which error, if any, spoils each instruction record most."""
    text = "Below is a record that a model is to learn from. Which error spoils it most?\n" + listed(ERRORS)
    return asked("instruction_errors", text, tuple(ERRORS))(judge, records)


def qa_type(judge: Jury, records: Sequence[tuple[str, str]]) -> list[Opinion]:
    """Ask whether each instruction is open or closed."""
    text = "Below is an instruction with its output. Is it open or closed?\n" + listed(QA_TYPES)
    return asked("qa_type", text, tuple(QA_TYPES))(judge, records)


def listed(kinds: dict[str, str]) -> str:
    """Kinds with what they mean, one a line."""
    return "\n".join(f"- {name}: {meaning}" for name, meaning in kinds.items())


def cut(text: str) -> str:
    """A text as a judge is shown it: where it is too long, its middle is left out, and that is said."""
    if len(text) <= SHOWN:
        return text
    half = SHOWN // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"


def _differ(text: str, answers: Sequence[str]) -> bool:
    first, last = extractions(text, answers)
    return first != last
