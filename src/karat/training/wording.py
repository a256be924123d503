"""How records and messages become tokens for a causal language model. Knows no weights and no trainer.

A record becomes a prompt and a completion. The prompt is spelt the same in training, in likelihoods and in
answers, and the end of a completion is a token of its own: what a model was trained to say is what it is
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from karat.errors import BadSetting, InputError
from karat.generation.base import Message, Refused
from karat.records import Records

Coded = tuple[list[int], list[int]]
"""The tokens of a prompt and those of its completion, the end included."""

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{prompt}\n\n### Response:\n"
)
"""The prompt of Taori et al. (2023), for models without a chat template"""


@dataclass(frozen=True, eq=False)
class Wording:
    """How records and messages become tokens.

    chat: by the tokenizer's chat template, else by plain ones. datatype: of the records of the training.
    task: what is asked of a source text that has no prompt of its own (translation).
    """

    tokenizer: Any
    chat: bool
    datatype: str
    task: str = "Translate the text."

    @property
    def end(self) -> int:
        """The token after a completion."""
        return int(self.tokenizer.eos_token_id)

    def coded(self, records: Records) -> list[Coded]:
        """Prompt and completion of each record; texts and dialogues are a completion of nothing."""
        if records.datatype == "dialogue":
            return [(self._start(), self._dialogue(turns)) for turns in records.column("messages")]
        asked, said = self.sides(records)
        if asked is None:
            return [(self._start(), self.completion(text)) for text in said]
        return [(self.prompt(prompt), self.completion(text)) for prompt, text in zip(asked, said)]

    def sides(self, records: Records) -> tuple[list[str] | None, list[str]]:
        """What is asked (None for texts) and what is to be said, as texts."""
        if records.datatype == "instruction":
            return _strings(records, "prompt"), _strings(records, "completion")
        if records.datatype == "translation":
            asked = [f"{self.task}\n\n{source}" for source in _strings(records, "source")]
            return asked, _strings(records, "target")
        return None, list(records.texts())

    def prompt(self, text: str) -> list[int]:
        """What is asked in one turn of a user; where nothing is asked, the start of a text."""
        return self.asked((Message("user", text),)) if text else self._start()

    def completion(self, text: str) -> list[int]:
        """What is to be said, and its end."""
        return [*self._tokens(text), self.end]

    def asked(self, messages: Sequence[Message]) -> list[int]:
        """Messages as a prompt, spelt as in the training; of a model of texts, the start of one."""
        if self.datatype == "text":
            return self._start()
        if self.chat:
            turns = [{"role": m.role, "content": m.content} for m in messages]
            return self._tokens(self._templated(turns, answer=True))
        if self.datatype == "dialogue":
            said = [token for m in messages for token in self._turn(m.role, m.content)]
            return [*self._start(), *said, *self._tokens("### assistant:\n")]
        text = ALPACA.format(prompt="\n\n".join(m.content for m in messages))
        found = list(self.tokenizer(text)["input_ids"])
        return found[:-1] if found[-1] == self.end else found

    def _dialogue(self, messages: Sequence[Any]) -> list[int]:
        turns = [{"role": str(m["role"]), "content": str(m["content"] or "")} for m in messages]
        if not self.chat:
            return [token for turn in turns for token in self._turn(turn["role"], turn["content"])]
        try:
            found = self._tokens(self._templated(turns, answer=False))
        except Refused as error:
            raise InputError(str(error)) from None
        if found[: len(self._start())] == self._start() and self.tokenizer.bos_token_id is not None:
            found = found[len(self._start()) :]
        return found if found and found[-1] == self.end else [*found, self.end]

    def _turn(self, role: str, content: str) -> list[int]:
        return [*self._tokens(f"### {role}:\n"), *self.completion(content)]

    def _start(self) -> list[int]:
        """The token before a text, as its first word needs something to follow."""
        first = self.tokenizer.bos_token_id
        return [self.end if first is None else int(first)]

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _templated(self, turns: list[dict[str, str]], *, answer: bool) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=answer, enable_thinking=False
                )
            )
        except TemplateError as error:
            roles = ", ".join(dict.fromkeys(turn["role"] for turn in turns))
            raise Refused(
                f"the chat template takes no turns of {roles} in this order ({error}); use template=plain"
            ) from None


def fitted(coded: Coded, length: int) -> Coded:
    """Return a pair cut to so many tokens: the start of the prompt goes first, half of the length stays."""
    prompt, completion = coded
    if len(prompt) + len(completion) <= length:
        return coded
    prompt = prompt[-max(length - len(completion), length // 2, 1) :]
    return prompt, completion[: max(length - len(prompt), 1)]


def _strings(records: Records, name: str) -> list[str]:
    return ["" if value is None else str(value) for value in records.column(name)]


def chat_of(tokenizer: Any, template: str, path: str) -> bool:
    """Whether to spell by the chat template. Raises BadSetting where there is none and it was asked for."""
    if template == "chat" and not tokenizer.chat_template:
        raise BadSetting(f"template=chat, but the tokenizer of {path!r} has no chat template; use plain")
    return template == "chat" or (template == "auto" and bool(tokenizer.chat_template))
