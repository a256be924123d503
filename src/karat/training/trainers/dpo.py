"""Teaches a causal model of this machine preferences (DPO by TRL, LoRA of PEFT). Knows no score.

The model's own odds are the reward (Rafailov et al. 2023, equation 5), up to a term that both
responses share:

    r(y) = beta (ln P(y | prompt) - ln P_reference(y | prompt)),   P(a preferred) = 1 / (1 + exp(r(b) - r(a)))

With ties in the training, P(a) : P(b) : P(tie) = exp(d/2) : exp(-d/2) : v for d = r(a) - r(b) (Davidson
1970), where v gives the training records as many ties as they have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from karat.errors import NotEnoughData
from karat.records import Records
from karat.training import local_models as local
from karat.training.base import Floats, Predictions, Progress
from karat.training.local_training import Adapter, Columns, Course, held_out, ready, tune
from karat.training.pairs import CHOICES, Pairs, pairs
from karat.training.quiet import alone
from karat.training.wording import Wording, chat_of, fitted


@dataclass(frozen=True)
class Dpo:
    """Direct preference optimisation of a local Hugging Face model; predicts a, b or tie, and writes.

    model: a folder with weights and tokenizer, or a hub name; best one that was fine-tuned on such prompts
        (`merged` of a model of `sft` writes a folder). It is the reference as well.
    beta: how much a departure from the reference costs.
    loss: sigmoid (DPO), or ipo (Azar et al. 2023, whose reward is a mean over tokens).
    full: train all weights and no adapter; the reference is then a second model in memory.
    r, alpha, dropout: rank, scale and dropout of the adapter.
    targets: the layers with an adapter, as q_proj+v_proj; auto takes all linear ones but the output.
    lr, epochs, batch, accumulate: learning rate, passes, pairs a step, steps gathered into one.
    steps: so many steps instead of epochs.
    max_length: tokens; what is longer loses the start of its prompt, then the end of its response.
    quantise: nf4 holds the base in 4 bits (bitsandbytes, CUDA).
    patience: epochs without a gain on the validation records (else a tenth of the training records) after
        which training stops; the best epoch is kept. 0 never stops early.
    template: chat (the tokenizer's), plain (Alpaca's), or auto (chat where there is one).
    dtype: numbers of the weights; auto is float32 on a CPU, bfloat16 on a GPU under an adapter.
    """

    types: ClassVar[tuple[str, ...]] = ("preference",)

    model: str
    beta: float = 0.1
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    full: bool = False
    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: str = "auto"
    lr: float = 5e-5
    epochs: float = 1.0
    steps: int = 0
    batch: int = 8
    accumulate: int = 1
    max_length: int = 1024
    quantise: Literal["none", "nf4"] = "none"
    patience: int = 0
    template: Literal["auto", "chat", "plain"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        self._course().check()
        if not self.beta > 0:
            raise ValueError(f"beta={self.beta} must be above 0; 0.1 is the default")
        if self.r < 1:
            raise ValueError(f"r={self.r} must be 1 or more")
        if self.full and self.quantise == "nf4":
            raise ValueError("full=true trains all weights, which quantise=nf4 freezes; use one of them")

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
    ) -> DpoModel:
        """Train on pairs of which one was preferred; ties only tell how often there are some."""
        base = local.Base(self.model, self.dtype, self.quantise, self.device)
        ready("trainer 'dpo'", records, self.types, base)
        found = pairs(records)
        train, check = found, None if validation is None else pairs(validation)
        if self.patience and check is None and len(found) >= 20:
            ours, theirs = held_out(len(found), seed)
            train, check = found.take(ours), found.take(theirs)
        if not _decided(train).size:
            raise NotEnoughData(
                f"{records.path}: no record prefers a or b, so there is nothing to learn; give some that do"
            )
        with alone():
            net, tokenizer = base.open(full=self.full)
            reference = base.open(full=True)[0] if self.full else None
        chat = chat_of(tokenizer, self.template, self.model)
        wording = Wording(tokenizer, chat, "preference")
        trained, losses = tune(
            "dpo",
            net,
            tokenizer,
            _columns(wording, train, self.max_length),
            course=self._course(),
            adapter=None if self.full else Adapter(self.r, self.alpha, self.dropout, self.targets),
            base=base,
            seed=seed,
            validation=None if check is None else _columns(wording, check, self.max_length),
            reference=reference,
            progress=progress,
            more={"beta": self.beta, "loss_type": [self.loss]},
        )
        settings = {"batch": self.batch, "beta": self.beta, "loss": self.loss, "ln_nu": None}
        made = DpoModel(trained, wording, base, not self.full, settings, losses)
        if "tie" not in found.choices:
            return made
        said = found.take(np.flatnonzero(found.valid))
        settings = {**settings, "ln_nu": _ln_nu(made.differences(said), said.choices.count("tie"))}
        return DpoModel(trained, wording, base, not self.full, settings, losses)

    @staticmethod
    def load(folder: str | Path) -> DpoModel:
        """Return the model that `save` wrote."""
        return DpoModel.opened(folder)

    def _course(self) -> Course:
        return Course(
            lr=self.lr,
            schedule="linear",
            warmup=0.03,
            clip=1.0,
            epochs=self.epochs,
            steps=self.steps,
            batch=self.batch,
            accumulate=self.accumulate,
            max_length=self.max_length,
            patience=self.patience,
        )


@dataclass(frozen=True, eq=False)
class DpoModel(local.LocalModel):
    """A model that learned preferences: it says which of two responses it would prefer, and is a provider."""

    kind = "dpo"

    @property
    def classes(self) -> tuple[str, ...]:
        """The choices that it knows."""
        return CHOICES[:2] if self.settings["ln_nu"] is None else CHOICES

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> Floats:
        """Return the implicit reward of each response [n]; only differences at one prompt mean anything.

        With the loss ipo it is a mean over tokens, and scaled so that its logistic has the slope of 1/2 +
        beta h at 0 (Azar et al., equation 17: what h is fitted to).
        """
        coded = [
            (self.wording.prompt(prompt), self.wording.completion(text))
            for prompt, text in zip(prompts, responses)
        ]
        ours = self.surprises(coded)
        if self.adapter:
            with self.net.disable_adapter():
                theirs = self.surprises(coded)
        else:
            theirs = local.surprises(self._reference, coded, batch=self.batch)
        gained = self.settings["beta"] * (theirs - ours)
        if self.settings["loss"] == "sigmoid":
            return np.asarray(gained)
        return np.asarray(4 * gained / np.array([len(said) for _, said in coded]))

    def differences(self, found: Pairs) -> Floats:
        """Return the implicit reward of a minus that of b for each pair [n]."""
        both = self.rewards([*found.prompts, *found.prompts], [*found.a, *found.b])
        return np.asarray(both[: len(found)] - both[len(found) :])

    def predict(self, records: Records) -> Predictions:
        """Return the probabilities of a, b (and tie, where training had some) for each preference record."""
        found = pairs(records)
        odds = np.stack([self.differences(found) / 2, np.zeros(len(found))], axis=1)
        odds[:, 1] = -odds[:, 0]
        if self.settings["ln_nu"] is not None:
            odds = np.column_stack([odds, np.full(len(found), self.settings["ln_nu"])])
        grown = np.exp(odds - odds.max(axis=1, keepdims=True))
        gold = found.choices if bool(found.valid.all()) else None
        return Predictions(found.ids, self.classes, grown / grown.sum(axis=1, keepdims=True), gold)

    @cached_property
    def _reference(self) -> Any:
        """The weights before the training, where these have no adapter that could be left out."""
        with alone():
            return self.base.open(full=True)[0]


def _decided(found: Pairs) -> np.ndarray[Any, Any]:
    """Where a or b was preferred."""
    return np.flatnonzero([choice in CHOICES[:2] for choice in found.choices])


def _columns(wording: Wording, found: Pairs, length: int) -> Columns:
    """The tokens of prompt, chosen and rejected response of each decided pair."""
    rows: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    kept = found.take(_decided(found))
    for prompt, a, b, choice in zip(kept.prompts, kept.a, kept.b, kept.choices):
        sides = [wording.completion(text) for text in ((a, b) if choice == "a" else (b, a))]
        asked, _ = fitted((wording.prompt(prompt), max(sides, key=len)), length)
        rows["prompt_ids"].append(asked)
        for name, side in zip(("chosen_ids", "rejected_ids"), sides):
            rows[name].append(fitted((asked, side), length)[1])
    return rows


def _ln_nu(d: Floats, ties: int) -> float:
    """Return ln v with which pairs at differences d have so many ties in expectation, half a choice left."""
    wanted = min(ties, len(d) - 0.5)
    half = np.logaddexp(d / 2, -d / 2)
    low, high = -50.0 - float(np.abs(d).max()), 50.0 + float(np.abs(d).max())
    for _ in range(100):
        middle = (low + high) / 2
        expected = float(np.exp(middle - np.logaddexp(middle, half)).sum())
        low, high = (middle, high) if expected < wanted else (low, middle)
    assert math.isfinite(high)
    return (low + high) / 2
