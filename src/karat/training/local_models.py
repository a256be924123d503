"""Causal language models on this machine: opening, likelihoods, writing, saving. Knows no trainer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from karat.errors import BadSetting, InputError, missing_extra
from karat.generation import weights
from karat.generation.base import Message, Price, Request, Response
from karat.generation.held import Held
from karat.training.base import Floats
from karat.training.quiet import alone
from karat.training.wording import Coded, Wording

Own = TypeVar("Own", bound="LocalModel")

_ABOUT = "karat_model.json"
_ADAPTER, _WEIGHTS = "adapter", "weights"
_VERSION = 1


def need(what: str) -> None:
    """Raise MissingExtra where a library for models on this machine is missing."""
    from importlib.util import find_spec

    for package in ("torch", "transformers", "peft", "accelerate"):
        if find_spec(package) is None:
            raise missing_extra(package, "torch" if package == "torch" else "hf", what)


# ------------------------------------------------------------------------------------------------ opening


@dataclass(frozen=True)
class Base:
    """Which weights a model starts from, and in which numbers they are held."""

    path: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantise: Literal["none", "nf4"] = "none"
    device: str = "auto"

    def check(self) -> None:
        """Raise BadSetting where this machine cannot quantise."""
        if self.quantise == "none":
            return
        import torch

        if not torch.cuda.is_available() or self.device == "cpu":
            raise BadSetting(
                f"quantise={self.quantise} needs a CUDA device, and torch {torch.__version__} has none here; "
                "use quantise=none"
            )
        from importlib.util import find_spec

        if find_spec("bitsandbytes") is None:
            raise BadSetting(
                "quantise=nf4 needs the package 'bitsandbytes'; install it with: pip install bitsandbytes"
            )

    def open(self, *, full: bool = False) -> tuple[Any, Any]:
        """Return the weights, on their device, and the tokenizer. full: all of the weights will be trained.

        Raises ProviderError in one line where there is no such model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.check()
        tokenizer = weights.loaded(AutoTokenizer, self.path)
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"the tokenizer of {self.path!r} names no end of a text; set eos_token in its "
                "tokenizer_config.json"
            )
        device = weights.device(self.device)
        how: dict[str, Any] = {weights.dtype_word(): self._numbers(device, full)}
        if self.quantise == "nf4":
            import torch
            from transformers import BitsAndBytesConfig

            how["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
            how["device_map"] = {"": device}
        net = weights.loaded(AutoModelForCausalLM, self.path, **how)
        return (net if self.quantise == "nf4" else net.to(device)).eval(), tokenizer

    def _numbers(self, device: str, full: bool) -> Any:
        """Weights that are trained themselves need 32 bits: a small step would be lost in 16."""
        import torch

        if self.dtype != "auto":
            return getattr(torch, self.dtype)
        plain = full and self.quantise == "none"
        return torch.bfloat16 if device.startswith("cuda") and not plain else torch.float32


# -------------------------------------------------------------------------------------------- likelihoods


def surprises(
    net: Any, coded: Sequence[Coded], *, batch: int = 8, progress: Callable[[int, int], None] | None = None
) -> Floats:
    """Return -ln P(completion | prompt) of each, in nats [n]; dropout is off.

    What is longer than the model's context is read in windows: each token is scored with at least half a
    context before it.
    """
    import torch

    context = context_of(net)
    pieces = [(row, piece) for row, one in enumerate(coded) for piece in _windows(one, context)]
    order = sorted(range(len(pieces)), key=lambda i: -sum(map(len, pieces[i][1])))
    found = np.zeros(len(coded))
    was, device = net.training, net.device
    net.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                chosen = [pieces[i] for i in order[start : start + batch]]
                longest = max(len(p) + len(c) for _, (p, c) in chosen)
                rows = [[*p, *c, *[0] * (longest - len(p) - len(c))] for _, (p, c) in chosen]
                mask = [[1] * (len(p) + len(c)) + [0] * (longest - len(p) - len(c)) for _, (p, c) in chosen]
                logits = net(
                    input_ids=torch.tensor(rows, device=device),
                    attention_mask=torch.tensor(mask, device=device),
                    use_cache=False,
                ).logits
                for at, (row, (prompt, said)) in enumerate(chosen):
                    about = logits[at, len(prompt) - 1 : len(prompt) + len(said) - 1].float()
                    scored = about.log_softmax(-1).gather(1, torch.tensor(said, device=device)[:, None])
                    found[row] -= float(scored.double().sum())
                if progress is not None:
                    progress(min(start + batch, len(order)), len(order))
    finally:
        net.train(was)
    return found


def context_of(net: Any) -> int:
    """The most tokens that the model can read, as its configuration says."""
    config = net.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", 0) or 1 << 30)


def _windows(coded: Coded, context: int) -> Iterator[Coded]:
    """Cut a pair that is longer than the context into pairs that are not, each token said in one of them."""
    prompt, said = coded
    if len(prompt) + len(said) <= context:
        yield coded
        return
    every, half = [*prompt, *said], max(context // 2, 1)
    at = len(prompt)
    while at < len(every):
        before = every[max(0, at - half) : at]
        after = every[at : at + context - len(before)]
        yield before, after
        at += len(after)


# ------------------------------------------------------------------------------------------------- models


@dataclass(frozen=True, eq=False)
class LocalModel:
    """A trained model: `complete` answers as a provider does, `surprises` weighs, `save` keeps it.

    net holds the weights; where there is an adapter, `base` says what it is put on.
    """

    net: Any
    wording: Wording
    base: Base
    adapter: bool
    settings: dict[str, Any]
    """those of its trainer that its answers depend on"""
    losses: tuple[tuple[int, float], ...] = ()
    """step and training loss in nats a token; empty after loading"""

    kind = "local"
    batch_size = 64
    concurrency = 1

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    @property
    def batch(self) -> int:
        """Rows in one forward pass."""
        return int(self.settings.get("batch", 8))

    @cached_property
    def model(self) -> str:
        """The model's name: it changes with any trained weight and with how prompts are spelt."""
        told = hashlib.sha256()
        for name, value in sorted(self._trained().items()):
            told.update(name.encode())
            told.update(value.detach().cpu().float().numpy().tobytes())
        told.update(json.dumps(self._about(), sort_keys=True).encode())
        return f"{self.kind}-{Path(self.base.path).name}-{told.hexdigest()[:12]}"

    @property
    def identity(self) -> str:
        """What stands for the model in journals."""
        return self.model

    @cached_property
    def _held(self) -> _Trained:
        return _Trained(self)

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests by temperature, top_p, seed, max_tokens and stop; one of texts reads no prompt."""
        done: list[Response] = []
        for start in range(0, len(requests), self.batch):
            done += await self._held.complete(requests[start : start + self.batch])
        return done

    def price(self, request: Request) -> Price:
        """The tokens of the prompt and of the longest answer."""
        return Price(len(self.wording.asked(request.messages)) + request.max_tokens)

    def write(self, prompts: Sequence[str], *, most: int) -> tuple[str, ...]:
        """Return the greedy answer to each prompt, `most` tokens at most; a long prompt is cut in front."""
        import threading

        asked = [
            Request(str(i), (Message("user", text),), temperature=0.0, max_tokens=most)
            for i, text in enumerate(prompts)
        ]
        # Rows of one length beside each other: the rest of a batch is padding.
        order = sorted(range(len(asked)), key=lambda i: len(prompts[i]))
        found = [""] * len(asked)
        kept, never, context = self._held, threading.Event(), context_of(self.net)
        with kept.lock:
            kept.longest = max(context - most, context // 2)
            try:
                for start in range(0, len(order), self.batch):
                    rows = order[start : start + self.batch]
                    for row, response in zip(rows, kept.answer([asked[i] for i in rows], never)):
                        found[row] = response.text
            finally:
                kept.longest = None
        return tuple(found)

    def surprises(self, coded: Sequence[Coded]) -> Floats:
        """Return -ln P(completion | prompt) of each, in nats [n]."""
        return surprises(self.net, coded, batch=self.batch)

    # ---------------------------------------------------------------------------------------- on disk

    def save(self, folder: str | Path) -> Path:
        """Write the adapter and the path of its base, or all weights where there is no adapter."""
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        with alone():
            self.net.save_pretrained(home / (_ADAPTER if self.adapter else _WEIGHTS))
            if not self.adapter:
                self.wording.tokenizer.save_pretrained(home / _WEIGHTS)
        told = json.dumps(self._about(), indent=1, sort_keys=True, ensure_ascii=False)
        (home / _ABOUT).write_text(told + "\n", "utf-8")
        return home

    def merged(self, folder: str | Path) -> Path:
        """Write weights and tokenizer as one folder that any program for Hugging Face models can read."""
        import copy

        home = Path(folder)
        if self.base.quantise != "none":
            raise BadSetting("a model on quantised weights cannot be merged; train with quantise=none")
        with alone():
            net = copy.deepcopy(self.net).merge_and_unload() if self.adapter else self.net
            net.save_pretrained(home)
            self.wording.tokenizer.save_pretrained(home)
        return home

    @classmethod
    def opened(cls: type[Own], folder: str | Path, *, trainable: bool = False) -> Own:
        """Return the model that `save` wrote. Raises InputError where the folder holds none."""
        home = Path(folder)
        need(f"a model of {cls.kind!r}")
        try:
            about = json.loads((home / _ABOUT).read_text("utf-8"))
            known = about["version"] == _VERSION and about["kind"] == cls.kind
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise InputError(f"{home} holds no model of {cls.kind!r}; give a folder that its save wrote")
        base, adapter = Base(**about["base"]), bool(about["adapter"])
        with alone():
            if adapter:
                net, tokenizer = base.open()
                net = _adapted(net, home / _ADAPTER, trainable)
            else:
                net, tokenizer = replace(base, path=str(home / _WEIGHTS)).open(full=trainable)
        wording = Wording(tokenizer, **about["wording"])
        return cls(net, wording, base, adapter, dict(about["settings"]))

    def _about(self) -> dict[str, Any]:
        spelt = {"chat": self.wording.chat, "datatype": self.wording.datatype, "task": self.wording.task}
        return {
            "version": _VERSION,
            "kind": self.kind,
            "base": asdict(self.base),
            "adapter": self.adapter,
            "wording": spelt,
            "settings": self.settings,
        }

    def _trained(self) -> dict[str, Any]:
        if not self.adapter:
            return dict(self.net.state_dict())
        from peft import get_peft_model_state_dict

        return dict(get_peft_model_state_dict(self.net))


class _Trained(Held):
    """Tokenizer and weights of a trained model in the place of those read from files."""

    def __init__(self, own: LocalModel) -> None:
        super().__init__(own.model, batch_size=own.batch)
        self.wording = own.wording
        self.longest: int | None = None
        """prompts are cut to so many tokens; None refuses what is longer than the context"""
        self._digest = own.model
        self._tokenizer = own.wording.tokenizer
        # The layers of an adapter stand in the base model itself, so that this one is the adapted one.
        self._model = own.net.get_base_model() if own.adapter else own.net

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt as it was spelt in the training."""
        found = self.wording.asked(messages)
        return found if self.longest is None else found[-self.longest :]


def _adapted(net: Any, folder: Path, trainable: bool) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(net, str(folder), is_trainable=trainable).eval()
    except Exception as error:  # the library raises several kinds, from OSError to RuntimeError
        raise InputError(
            f"the adapter in {folder} cannot be put on its base model ({weights.line(error)}); "
            "give the folder and the base that it was trained on"
        ) from None
