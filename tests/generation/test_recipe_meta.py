"""Meta: the model writes the instruction once and is prompted with it; else the plain prompt is used."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from karat import registry
from karat.generation import plan
from karat.generation.base import Plot, Request, Response
from karat.generation.tasks import Label, Task

TASK = Task("message to a bank", (Label("card", "about a card"), Label("loan")), language="German")


def told(answers: dict[str, str]) -> object:
    """Answers every request whose prompt holds a key; others are left out, as failed calls are."""

    def ask(requests: Sequence[Request]) -> dict[str, Response]:
        assert len({request.id for request in requests}) == len(requests)
        found = {}
        for request in requests:
            for key, text in answers.items():
                if key in request.messages[0].content:
                    found[request.id] = Response(request.id, text)
        return found

    return ask


def prompts(spec: str, ask: object, n: int = 4) -> list[tuple[str | None, str, object]]:
    recipe = registry.make("recipes", spec)
    task = recipe.prepare(TASK, None, ask, 0)
    return [(s.label, s.messages[0].content, s.material) for s in recipe.compose(Plot(task, n, 0))]


def test_one_instruction_leads_every_row() -> None:
    """The instruction stands first, the class and the language after it; it was asked with all classes."""
    seen: list[Request] = []

    def ask(requests: Sequence[Request]) -> dict[str, Response]:
        seen.extend(requests)
        return {requests[0].id: Response(requests[0].id, "Write like a worried customer.")}

    rows = prompts("meta", ask)
    assert 1 == len(seen)
    assert all(
        part in seen[0].messages[0].content for part in ("message to a bank", "card", "loan", "German")
    )
    for label, prompt, material in rows:
        assert prompt.startswith("Write like a worried customer.\n")
        assert f'the class "{label}"' in prompt and "German" in prompt and {} == material


def test_each_label_has_its_own_instruction() -> None:
    """per=label asks once for each class and uses its answer for that class alone."""
    ask = told({'class "card"': "Speak of plastic.", 'class "loan"': "Speak of debts."})
    for label, prompt, _ in prompts("meta:per=label", ask):
        assert prompt.startswith("Speak of plastic." if label == "card" else "Speak of debts.")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I'm sorry, but I can't help with that request.", "refuse"),
        ("", "empty"),
        (None, "no answer"),
    ],
)
def test_without_an_instruction_the_plain_prompt_is_used_and_says_why(
    answer: str | None, reason: str
) -> None:
    """A refusal, an empty answer and a failed call give the prompts of `simple`; the row says why."""
    ask = told({} if answer is None else {"message": answer})
    simple = list(plan.slots(Plot(TASK, 4, 0), registry.make("recipes", "simple")))
    rows = prompts("meta", ask)
    assert [s.messages[0].content for s in simple] == [prompt for _, prompt, _ in rows]
    assert all(reason in str(material) and "plain prompt" in str(material) for _, _, material in rows)


def test_only_the_label_without_an_instruction_falls_back() -> None:
    """The other class keeps what was written for it."""
    rows = prompts("meta:per=label", told({'class "card"': "Speak of plastic.", 'class "loan"': ""}))
    for label, prompt, material in rows:
        assert (label == "card") == prompt.startswith("Speak of plastic.")
        assert (label == "loan") == ("fallback" in material)


def test_a_dry_run_calls_nothing() -> None:
    """A placeholder says what will stand there; the task is otherwise as it was."""
    recipe = registry.make("recipes", "meta")
    task = recipe.prepare(TASK, None, None, 0)
    assert (TASK.domain, TASK.labels, TASK.language) == (task.domain, task.labels, task.language)
    (slot, *_) = recipe.compose(Plot(task, 2, 0))
    assert "the model writes before the first row" in slot.messages[0].content
