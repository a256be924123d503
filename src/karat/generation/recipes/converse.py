"""Dialogues of two agents that play a user and an assistant, turn by turn. Knows no provider.

After role-playing with inception prompts (Li et al. 2023, CAMEL, arXiv 2303.17760): each agent is told who it
is, who the other is, and never to change sides; each sees the dialogue from its own side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from karat.generation import plan, talking
from karat.generation.base import Draft, Message, Plot, Response, Scene, Slot, check_number
from karat.generation.gathering import NoAnswer
from karat.generation.steps import read_plain
from karat.generation.talking import INSTRUCTION, SOLUTION, Rules
from karat.generation.tasks import Task
from karat.records import Records

_CAST = ("user_role", "assistant_role", "persona")
_TURNS = 8  # where neither setting nor task says how many
_BEGIN = "Begin the conversation with your first message."


@dataclass(frozen=True)
class Converse:
    """Let two agents talk: one plays the user, one the assistant, until a rule ends the dialogue.

    turns: the most turns (0: as many as the task says, else 8). least: a dialogue with fewer is rejected.
    user, assistant: who the two are, unless the attributes user_role and assistant_role say so. The roles of
    the task describe both, and an attribute persona the user.
    form: chat, or instruct (each turn of the user begins with "Instruction:", each of the assistant with
    "Solution:", as in CAMEL). specify: whether a call first makes a concrete matter of class and attributes.
    done: what the user says when all is done; in a chat it is taken out of the turn.
    farewells: closing turns in a row that end the dialogue, with a good-bye among them (0: never).
    alike: likeness with an earlier turn from which a turn is a repetition (above 1: never). flips: stop (a
    turn in the other's role ends the dialogue and is left out) or keep. cut: what becomes of a turn that was
    cut at the most tokens: trim (to its last whole sentence), stop (the dialogue ends before it) or keep.
    """

    turns: int = 0
    least: int = 2
    user: str = "user"
    assistant: str = "assistant"
    form: Literal["chat", "instruct"] = "chat"
    specify: bool = False
    done: str = "<CAMEL_TASK_DONE>"
    farewells: int = 2
    alike: float = 0.95
    flips: Literal["stop", "keep"] = "stop"
    cut: Literal["trim", "stop", "keep"] = "trim"

    uses_attributes: ClassVar[bool] = True
    types: ClassVar[tuple[str, ...]] = ("dialogue",)
    source: ClassVar[str] = "Li et al. 2023, CAMEL, arXiv 2303.17760"
    cost: ClassVar[str] = "a call a turn, each with all that was said before it in the prompt"

    def __post_init__(self) -> None:
        if self.turns:
            check_number("turns", self.turns, 2, "a dialogue has a question and an answer")
        check_number("least", self.least, 1, "a dialogue has a turn")
        check_number("farewells", self.farewells, 0, "0 lets farewells go on")
        if self.least > (self.turns or self.least):
            raise ValueError(f"least is {self.least}, but turns is {self.turns}; raise turns")

    def enrich(self, task: Task, human: Records | None, seed: int) -> tuple[Task, Records | None]:
        """Return both as they are."""
        return task, human

    def calls(self, slot: Slot) -> int:
        """What a row may cost, in calls like the first: each turn is paid for again in all later prompts."""
        turns = int(slot.material.get("turns") or self.turns or _TURNS)
        return turns * (turns + 1) // 2 + self.specify

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """The usual slots, each with what the two talk about."""
        for slot in plan.slots(plot, self):
            matter = _matter(plot.task, slot.label, slot.attributes)
            turns = {"turns": self._most(plot.task)} if plot.task.turns else {}
            yield replace(slot, material={**slot.material, "matter": matter, **turns})

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """What the user's agent is told before its first turn; with `specify`, the call for the matter."""
        matter = _matter(task, label, attributes)
        if self.specify:
            return self._specifying(task, matter, attributes)
        return self._view(0, task, matter, attributes, ())

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """One dialogue. What was said before a call that got no answer is kept."""
        task, slot = scene.task, scene.slot
        calls: list[Response] = []
        matter = str(slot.material.get("matter") or _matter(task, slot.label, slot.attributes))
        if self.specify:
            asked = self._specifying(task, matter, slot.attributes)
            response = await scene.ask(asked, schema={})
            calls.append(response)
            matter, reason = read_plain(response, task)
            if reason:
                return [Draft(reason=f"the matter: {reason}", text=response.text, responses=tuple(calls))]
        said: list[str] = []
        rules, ends = self._rules(slot.attributes), ""
        while not ends and len(said) < self._most(task):
            view = self._view(len(said) % 2, task, matter, slot.attributes, said)
            try:
                # the first call of a row bears its name, as in rows of one call
                step = f"turn{len(said) + 1}" if calls else ""
                response = await scene.ask(view, step=step, schema={})
            except NoAnswer:
                if len(said) < self.least:
                    raise
                ends = "no_answer"
                break
            calls.append(response)
            turn = talking.heard(response.text, response.finish_reason, said, rules)
            if turn.text:
                said.append(turn.text)
            ends = turn.ends
        return [self._drafted(slot, matter, said, ends or "turns", calls)]

    def _drafted(
        self, slot: Slot, matter: str, said: Sequence[str], ends: str, calls: Sequence[Response]
    ) -> Draft:
        text = calls[-1].text if calls else ""
        if len(said) < self.least:
            turns = f"{len(said)} turn{'' if len(said) == 1 else 's'}"
            reason = f"the dialogue ended after {turns}: {ends.replace('_', ' ')}"
            return Draft(reason=reason, text=text, responses=tuple(calls))
        names = self._names(slot.attributes)
        fields: dict[str, Any] = {
            "messages": [
                {"role": talking.ROLES[place % 2], "content": turn} for place, turn in enumerate(said)
            ],
            "task": matter,
            "outcome": talking.outcome(ends),
            "termination_reason": ends,
            "user_role": names[0],
            "assistant_role": names[1],
            **({} if slot.label is None else {"label": slot.label}),
        }
        return Draft(fields=fields, text=text, responses=tuple(calls))

    # ------------------------------------------------------------------------------------- prompts

    def _most(self, task: Task) -> int:
        """The most turns: the setting goes before the task."""
        return max(self.turns or task.turns or _TURNS, self.least)

    def _names(self, attributes: Mapping[str, str]) -> tuple[str, str]:
        return attributes.get("user_role") or self.user, attributes.get("assistant_role") or self.assistant

    def _rules(self, attributes: Mapping[str, str]) -> Rules:
        return Rules(
            done=self.done,
            form=self.form,
            names=self._names(attributes),
            farewells=self.farewells,
            alike=self.alike,
            flips=self.flips == "stop",
            cut=self.cut,
        )

    def _view(
        self, place: int, task: Task, matter: str, attributes: Mapping[str, str], said: Sequence[str]
    ) -> tuple[Message, ...]:
        """The dialogue as one of the two sees it: its own turns are the assistant's."""
        own, other = ("assistant", "user") if place == 0 else ("user", "assistant")
        turns = [Message((own, other)[i % 2], turn) for i, turn in enumerate(said)]
        head = [Message("system", self._part(place, task, matter, attributes))]
        if place == 0:  # chat models want the other side to begin
            head.append(Message("user", _BEGIN))
        return (*head, *turns)

    def _part(self, place: int, task: Task, matter: str, attributes: Mapping[str, str]) -> str:
        """What an agent is told of itself, of the other and of the rules of the play."""
        user, assistant = self._names(attributes)
        lines = [f"This is a {task.domain} between two sides: {user} and {assistant}."]
        if place == 0:
            lines.append(f"You are the {user}. You never speak or act for the {assistant}.")
            lines += _who(task.roles.get("user", ""), attributes.get("persona", ""))
            lines.append(f"What you want: {matter}.".replace("..", "."))
            lines.append(
                "You bring it up step by step, one message at a time, and react to what you are told: ask "
                "back, object, add what was left out. You do not solve it yourself and you offer no help."
            )
            if self.form == "instruct":
                lines.append(
                    f"Each message is one instruction that the {assistant} can carry out, and begins with "
                    f'"{INSTRUCTION}". Never write "{SOLUTION}".'
                )
            if self.done:
                lines.append(
                    f"When you have all you wanted, say so in one message that ends with {self.done} "
                    "and write nothing after it."
                )
        else:
            lines.append(f"You are the {assistant}. You never speak or act for the {user}.")
            lines += _who(task.roles.get("assistant", ""))
            lines.append(
                f"You answer the {user}'s last message, with what it needs and no more. You do not give the "
                f"{user} tasks, and you do not repeat the question."
            )
            if self.form == "instruct":
                lines.append(
                    f'Each message begins with "{SOLUTION}" and carries out the last instruction in full. '
                    f'Never write "{INSTRUCTION}".'
                )
        if task.instructions:
            lines.append(task.instructions)
        if task.language:
            lines.append(f"Write in {task.language}.")
        lines.append("Write only your own next message, without your name before it.")
        return "\n".join(lines)

    def _specifying(self, task: Task, matter: str, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        user, assistant = self._names(attributes)
        described = "; ".join(filter(None, (task.roles.get("user"), attributes.get("persona"))))
        who = f", described as: {described}" if described else ""
        language = f" Write in {task.language}." if task.language else ""
        text = (
            f"A {user}{who} turns to a {assistant} in a {task.domain}. It is about this: {matter}.\n"
            f"Say in at most 40 words what exactly the {user} wants, with the particulars that make it a "
            f"single case.{language} Write that alone, and begin with a verb."
        )
        return (Message("user", text),)


def _who(*described: str) -> list[str]:
    """The line about a speaker; none where nothing is told."""
    told = "; ".join(filter(None, described)).rstrip(".")
    return [f"Who you are: {told}."] if told else []


def _matter(task: Task, label: str | None, attributes: Mapping[str, str]) -> str:
    """What a dialogue is about: the class and its definition, and all attributes but those of the cast."""
    told = []
    if label:
        definition = task.definition(label).rstrip(".")
        told.append(f"{label} ({definition})" if definition else label)
    told += [f"{name.replace('_', ' ')}: {value}" for name, value in attributes.items() if name not in _CAST]
    return "; ".join(told) or f"what people bring up in a {task.domain}"
