"""Weights of a language model, run in this process by the library transformers. Knows no recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from karat.errors import KaratError
from karat.generation.base import Price, Request, Response, check_number, most_tokens_in
from karat.generation.held import Held


@dataclass(frozen=True)
class Transformers:
    """Runs a language model in this process, from a folder or by its name on the Hugging Face hub.

    path: a folder with weights and tokenizer, or a hub name such as Qwen/Qwen3-0.6B.
    device: auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
    dtype: auto (as the weights were saved), float32, bfloat16 or float16.
    batch_size: requests answered at a time; memory grows with it.
    top_k: draw from so many of the most likely tokens; 0: from all.
    thinking: let a model that can think aloud do so (Qwen3 and others); its thoughts are part of the answer.

    Each row draws with its own seed, so that an answer does not depend on the rows beside it. This holds up
    to rounding: padding changes the last digits of a logit, which in float32 hardly ever changes a token, in
    16 bits now and then. With batch_size:1 it holds exactly. Another device rounds differently, too.
    Code that comes with a model is never run.
    """

    path: str
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int = 8
    top_k: int = 0
    thinking: bool = False

    concurrency: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("batch_size", self.batch_size, 1, "one request at a time is the least")
        check_number("top_k", self.top_k, 0, "0 draws from all tokens")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    @property
    def model(self) -> str:
        """The folder or hub name as given."""
        return self.path

    @property
    def identity(self) -> str:
        """Path, digest of the files, number format and what else changes an answer; fetches a hub model."""
        told = f"dtype={self.dtype},top_k={self.top_k},thinking={self.thinking}"
        return f"transformers:{self.path}@{self._kept.digest}:{told}"

    @property
    def _kept(self) -> Held:
        """What is loaded on first use; not a field, as it is no setting."""
        settings = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        kept: Held = self.__dict__.setdefault("_own", Held(**settings))
        return kept

    def price(self, request: Request) -> Price:
        """The tokens of the prompt, counted where the model is on this machine, and the longest answer."""
        try:
            tokens = len(self._kept.tokens(request.messages))
        except KaratError:  # a dry run needs no model
            tokens = most_tokens_in(request)
        return Price(tokens + request.max_tokens)

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Draw an answer for each request, in a thread; a cancelled call ends at its next token.

        Raises Refused for a prompt longer than the model's context, ProviderError when memory runs out.
        """
        return await self._kept.complete(requests)
