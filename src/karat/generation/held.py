"""A language model of the library transformers, held in this process: it answers. Knows no recipe.

Each row of a batch draws with its own seed, one random number a token.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from karat.errors import ProviderError
from karat.generation import weights
from karat.generation.base import Message, Refused, Request, Response

_WHO = "provider 'transformers'"


class Held:
    """Files, tokenizer and weights of one model, each loaded when it is first needed.

    path: a folder or a hub name. The settings are those of the provider `transformers`.
    """

    def __init__(
        self,
        path: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
        top_k: int = 0,
        thinking: bool = False,
    ) -> None:
        self.path, self.device, self.dtype = path, device, dtype
        self.batch_size, self.top_k, self.thinking = batch_size, top_k, thinking
        self.lock = threading.RLock()
        self._digest = ""
        self._tokenizer: Any = None
        self._model: Any = None

    @property
    def digest(self) -> str:
        """16 digits that change with the model's files."""
        with self.lock:
            if not self._digest:
                weights.need(_WHO)
                self._digest = weights.digest(weights.folder_of(self.path))
            return self._digest

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, padding on the left."""
        with self.lock:
            if self._tokenizer is None:
                weights.need(_WHO)
                from transformers import AutoTokenizer

                made = weights.loaded(AutoTokenizer, self.path)
                made.padding_side = "left"
                self._tokenizer = made
            return self._tokenizer

    @property
    def model(self) -> Any:
        """The weights, on their device."""
        with self.lock:
            if self._model is None:
                weights.need(_WHO)
                from transformers import AutoModelForCausalLM

                device = weights.device(self.device)
                how = {weights.dtype_word(): weights.dtype(self.dtype)}
                made = weights.loaded(AutoModelForCausalLM, self.path, **how)
                self._model = made.eval().to(device)
            return self._model

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt as tokens: by the model's chat template, or joined by empty lines where it has none."""
        tokenizer = self.tokenizer
        if not tokenizer.chat_template:
            text = "\n\n".join(m.content for m in messages) + "\n\n"
            return list(tokenizer(text)["input_ids"])
        from jinja2 import TemplateError

        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            text = self._templated(turns)
        except TemplateError as error:
            # Gemma and others know no system turn: it goes in front of the user's first words.
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise Refused(f"the chat template of {self.path} takes no such turns: {error}") from None
            first = turns[0]["content"] + "\n\n" + turns[1]["content"]
            text = self._templated([{"role": turns[1]["role"], "content": first}, *turns[2:]])
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _templated(self, turns: list[dict[str, str]]) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, enable_thinking=self.thinking
            )
        )

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Draw an answer for each request, in a thread; a cancelled call ends at its next token.

        Raises Refused for a prompt longer than the model's context, ProviderError when memory runs out.
        """
        given_up = threading.Event()
        try:
            return await asyncio.to_thread(self.answer, requests, given_up)
        except asyncio.CancelledError:
            given_up.set()
            raise

    def answer(self, requests: Sequence[Request], given_up: threading.Event) -> list[Response]:
        """All answers of one padded batch."""
        import torch

        with self.lock, torch.inference_mode():
            prompts = [self.tokens(request.messages) for request in requests]
            rows = [self._row(request, prompt) for request, prompt in zip(requests, prompts)]
            try:
                self._generate(rows, prompts, given_up)
            except torch.OutOfMemoryError:
                raise ProviderError(
                    f"{self.path}: memory ran out at {len(rows)} rows of up to "
                    f"{max(map(len, prompts)):,} tokens; lower batch_size ({self.batch_size}) "
                    "or take dtype:bfloat16"
                ) from None
            return [row.response(self, len(prompt)) for row, prompt in zip(rows, prompts)]

    def _row(self, request: Request, prompt: list[int]) -> _Row:
        config = self.model.config.get_text_config()
        context = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
        room = context - len(prompt)
        if room < 1 or not prompt:
            raise Refused(f"the prompt has {len(prompt):,} tokens; {self.path} takes 1 to {context - 1:,}")
        return _Row(request, min(request.max_tokens, room), np.random.default_rng(request.draw_seed))

    def _generate(self, rows: list[_Row], prompts: list[list[int]], given_up: threading.Event) -> None:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        model, tokenizer = self.model, self.tokenizer
        ends = _ends(model, tokenizer)
        pad = next((n for n in (tokenizer.pad_token_id, *ends) if n is not None), 0)
        longest = max(map(len, prompts))
        padded = [[pad] * (longest - len(p)) + p for p in prompts]
        mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
        # Only what the request says: a model's own repetition penalty or top_k would be a hidden setting.
        config = GenerationConfig(
            max_new_tokens=max(row.most for row in rows),
            do_sample=False,
            num_beams=1,
            pad_token_id=pad,
            eos_token_id=sorted(ends) or None,
        )
        draw = _Draw(rows, ends, tokenizer, self.top_k, given_up)
        before, model.generation_config = model.generation_config, config
        try:
            model.generate(
                input_ids=torch.tensor(padded, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([draw.choose]),
                stopping_criteria=StoppingCriteriaList([draw.over]),
            )
        finally:
            model.generation_config = before


@dataclass
class _Row:
    """One answer in the making."""

    request: Request
    most: int
    """tokens"""
    draw: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    """the sum over all tokens, nats, at temperature 1"""
    first: list[tuple[int, float]] = field(default_factory=list)
    finish: str = ""

    def response(self, held: Held, tokens_in: int) -> Response:
        """The answer, without its end token; cut before a stop text."""
        tokenizer = held.tokenizer
        text = tokenizer.decode(self.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cut = min((at for stop in self.request.stop if (at := text.find(stop)) >= 0), default=len(text))
        return Response(
            request_id=self.request.id,
            text=text[:cut],
            tokens_in=tokens_in,
            tokens_out=len(self.tokens),
            logprob=self.logprob / len(self.tokens) if self.tokens else None,
            finish_reason=self.finish or "length",
            model=held.path,
            alternatives=tuple((tokenizer.decode([token]), value) for token, value in self.first),
        )


class _Draw:
    """Draws the next token of each row from the row's own random numbers; says which rows are at their end.

    It hands `generate` scores with one token left, so that its greedy choice is the draw.
    """

    def __init__(
        self, rows: list[_Row], ends: set[int], tokenizer: Any, top_k: int, given_up: threading.Event
    ) -> None:
        self.rows, self.ends, self.tokenizer, self.top_k, self.given_up = (
            rows,
            ends,
            tokenizer,
            top_k,
            given_up,
        )

    def choose(self, input_ids: Any, scores: Any) -> Any:
        """scores: logits [rows, vocabulary]; returns them with all but the drawn tokens at -inf."""
        import torch

        logprobs = torch.log_softmax(scores.float(), dim=-1)
        chosen = [0] * len(self.rows)
        for i, row in enumerate(self.rows):
            if row.finish:
                continue
            token = chosen[i] = self._token(logprobs[i], row)
            if not row.tokens and row.request.logprobs:
                values, ids = logprobs[i].topk(min(row.request.logprobs, logprobs.shape[-1]))
                row.first = list(zip(ids.tolist(), values.tolist()))
            row.tokens.append(token)
            row.logprob += float(logprobs[i, token])
            row.finish = self._finish(row)
        left = torch.full_like(scores, -torch.inf)
        left[torch.arange(len(chosen)), torch.tensor(chosen, device=scores.device)] = 0
        return left

    def _token(self, logprobs: Any, row: _Row) -> int:
        """One draw by inverting the cumulative distribution, with one random number a token."""
        import torch

        request = row.request
        if request.temperature <= 0:
            return int(logprobs.argmax())
        order = None
        if self.top_k or request.top_p < 1:
            logprobs, order = logprobs.sort(descending=True, stable=True)
            logprobs = logprobs[: self.top_k or None]
        summed = torch.softmax(logprobs.double() / request.temperature, dim=-1).cumsum(-1)
        if request.top_p < 1:  # the fewest tokens that make up the share (Holtzman et al. 2020, section 3.1)
            summed = summed[: int(torch.searchsorted(summed, request.top_p)) + 1]
        at = int(torch.searchsorted(summed, summed[-1] * row.draw.random(), right=True))
        at = min(at, len(summed) - 1)
        return at if order is None else int(order[at])

    def _finish(self, row: _Row) -> str:
        if row.tokens[-1] in self.ends:
            return "stop"
        if row.request.stop:
            # A token holds a byte at least, so that a stop text lies within so many tokens.
            reach = max(len(stop.encode()) for stop in row.request.stop) + 8
            tail = self.tokenizer.decode(row.tokens[-reach:], skip_special_tokens=True)
            if any(stop in tail for stop in row.request.stop):
                return "stop"
        return "length" if len(row.tokens) >= row.most else ""

    def over(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Which rows are at their end, bool [rows]; all when nobody waits any more."""
        import torch

        done = [bool(row.finish) or self.given_up.is_set() for row in self.rows]
        return torch.tensor(done, device=input_ids.device)


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """All tokens that end an answer: those of the model (a chat model has several) and the tokenizer's."""
    named = model.generation_config.eos_token_id if model.generation_config else None
    several = named if isinstance(named, list | tuple) else [named]
    return {int(n) for n in (*several, tokenizer.eos_token_id) if n is not None}
