"""Weights of a language model, run in this process by the library transformers. Knows no recipe."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from karat.errors import KaratError, ProviderError, missing_extra
from karat.generation.base import (
    Message,
    Price,
    Refused,
    Request,
    Response,
    check_number,
    most_tokens_in,
)

# What decides an answer: settings, tokenizer with its chat template, weights. Not READMEs, nor other formats.
_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "*.bin")
_SMALL = 4_000_000
"""bytes; a file up to here is hashed by its content"""


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
    def _kept(self) -> _Kept:
        """What is loaded on first use; not a field, as it is no setting."""
        kept: _Kept = self.__dict__.setdefault("_own", _Kept(self))
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
        given_up = threading.Event()
        try:
            return await asyncio.to_thread(self._kept.answer, requests, given_up)
        except asyncio.CancelledError:
            given_up.set()
            raise


class _Kept:
    """Files, tokenizer and weights of one provider, each loaded when it is first needed."""

    def __init__(self, settings: Transformers) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        self._digest = ""
        self._tokenizer: Any = None
        self._model: Any = None

    @property
    def digest(self) -> str:
        """16 digits that change with the model's files."""
        with self.lock:
            if not self._digest:
                _need()
                self._digest = _digest(_folder(self.settings.path))
            return self._digest

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, padding on the left."""
        with self.lock:
            if self._tokenizer is None:
                _need()
                from transformers import AutoTokenizer

                made = _loaded(AutoTokenizer, self.settings.path)
                made.padding_side = "left"
                self._tokenizer = made
            return self._tokenizer

    @property
    def model(self) -> Any:
        """The weights, on their device."""
        with self.lock:
            if self._model is None:
                _need()
                from transformers import AutoModelForCausalLM

                own = self.settings
                device = _device(own.device)
                made = _loaded(AutoModelForCausalLM, own.path, **{_dtype_word(): _dtype(own.dtype)})
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
                raise Refused(
                    f"the chat template of {self.settings.path} takes no such turns: {error}"
                ) from None
            first = turns[0]["content"] + "\n\n" + turns[1]["content"]
            text = self._templated([{"role": turns[1]["role"], "content": first}, *turns[2:]])
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _templated(self, turns: list[dict[str, str]]) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, enable_thinking=self.settings.thinking
            )
        )

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
                    f"{self.settings.path}: memory ran out at {len(rows)} rows of up to "
                    f"{max(map(len, prompts)):,} tokens; lower batch_size ({self.settings.batch_size}) "
                    "or take dtype:bfloat16"
                ) from None
            return [row.response(self, len(prompt)) for row, prompt in zip(rows, prompts)]

    def _row(self, request: Request, prompt: list[int]) -> _Row:
        config = self.model.config.get_text_config()
        context = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
        room = context - len(prompt)
        if room < 1 or not prompt:
            raise Refused(
                f"the prompt has {len(prompt):,} tokens; {self.settings.path} takes 1 to {context - 1:,}"
            )
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
        draw = _Draw(rows, ends, tokenizer, self.settings.top_k, given_up)
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

    def response(self, kept: _Kept, tokens_in: int) -> Response:
        """The answer, without its end token; cut before a stop text."""
        tokenizer = kept.tokenizer
        text = tokenizer.decode(self.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cut = min((at for stop in self.request.stop if (at := text.find(stop)) >= 0), default=len(text))
        return Response(
            request_id=self.request.id,
            text=text[:cut],
            tokens_in=tokens_in,
            tokens_out=len(self.tokens),
            logprob=self.logprob / len(self.tokens) if self.tokens else None,
            finish_reason=self.finish or "length",
            model=kept.settings.path,
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


# ---------------------------------------------------------------------------------------- loading


def _need() -> None:
    from importlib.util import find_spec

    for package, extra in (("torch", "torch"), ("transformers", "hf")):
        if find_spec(package) is None:
            raise missing_extra(package, extra, "provider 'transformers'")


def _loaded(kind: Any, path: str, **how: Any) -> Any:
    """`kind.from_pretrained` on files that are here. Raises ProviderError in one line."""
    folder = _folder(path)
    try:
        with _quiet():
            return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **how)
    except Exception as error:  # the library raises a dozen kinds, from OSError to KeyError
        raise ProviderError(
            f"the model {path!r} cannot be loaded ({_line(error)}); give a folder with config.json, "
            "weights and tokenizer, as save_pretrained writes it"
        ) from None


def _folder(path: str) -> Path:
    """The folder of a model: as given, or where the hub's files lie on this machine; fetched if need be."""
    given = Path(path).expanduser()
    if given.is_dir():
        return given
    cure = "give a folder that holds it, or fetch it where there is a network: hf download NAME"
    if (
        path.startswith(("/", ".", "~"))
        or path.count("/") > 1
        or given.suffix in (".jsonl", ".json", ".gguf")
    ):
        raise ProviderError(f"the model {path!r} is no folder; {cure}")
    from huggingface_hub import constants, snapshot_download

    patterns = list(_FILES)
    try:
        with _quiet():
            try:
                return Path(snapshot_download(path, allow_patterns=patterns, local_files_only=True))
            except OSError:
                if constants.HF_HUB_OFFLINE:
                    raise
            _hub_answers(constants.ENDPOINT)
            return Path(snapshot_download(path, allow_patterns=patterns))
    except Exception as error:
        raise ProviderError(
            f"the model {path!r} is not on this machine and cannot be fetched ({_line(error)}); {cure}"
        ) from None


def _hub_answers(endpoint: str, timeout: float = 5.0) -> None:
    """Raise OSError where the hub cannot be reached: its library would retry for a minute and more."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    if getproxies():
        return  # behind a proxy a direct connection proves nothing
    address = urlsplit(endpoint)
    socket.create_connection((address.hostname or "", address.port or 443), timeout=timeout).close()


def _digest(folder: Path) -> str:
    """Hash of a model's files: content of the small ones; name, size and time of weights.

    In the hub's cache a file is a link to one that is named by its content, which then stands for it.
    """
    told = hashlib.sha256()
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        real, facts = path.resolve(), path.stat()
        told.update(f"{path.name}\0{facts.st_size}\0".encode("utf-8", "surrogateescape"))
        if facts.st_size <= _SMALL:
            told.update(path.read_bytes())
        elif path.is_symlink() and real.parent.name == "blobs":
            told.update(real.name.encode())
        else:
            told.update(str(facts.st_mtime_ns).encode())
    return told.hexdigest()[:16]


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ProviderError(
            f"device:{name} is not there (torch {torch.__version__} sees no GPU); use device:cpu"
        )
    return name


def _dtype(name: str) -> Any:
    import torch

    return name if name == "auto" else getattr(torch, name)


def _dtype_word() -> str:
    """`torch_dtype` was renamed in 4.56."""
    from transformers import __version__

    release = tuple(int(part) for part in __version__.split(".")[:2])
    return "dtype" if release >= (4, 56) else "torch_dtype"


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """All tokens that end an answer: those of the model (a chat model has several) and the tokenizer's."""
    named = model.generation_config.eos_token_id if model.generation_config else None
    several = named if isinstance(named, list | tuple) else [named]
    return {int(n) for n in (*several, tokenizer.eos_token_id) if n is not None}


@contextmanager
def _quiet() -> Any:
    """A library draws nothing on the user's terminal."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.strip()[:160]
