"""Training of an encoder-decoder transformer on token rows; knows optimisers, and nothing of text.

Adam(0.9, 0.98) with linear warm-up and a rate that then falls with the root of the step (Vaswani et al. 2017,
section 5.3). Their average of the last checkpoints is here a running average over the last part of all steps
so far (Shamir and Zhang 2013), so that a run can be evaluated and gone on with at any step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from karat.generation.causal_training import bf16_pays
from karat.training.transformer import END, START, Transformer, padded, smoothed_loss

TAIL = 9
"""The returned weights are an average that weighs step t of n by about (t / n)^TAIL."""


@dataclass(frozen=True)
class Plan:
    """How a transformer is trained: `steps` more steps of about `batch_tokens` tokens, padding included."""

    steps: int
    batch_tokens: int
    lr: float
    warmup: int
    smoothing: float = 0.1
    clip: float = 1.0
    seed: int = 0
    evaluations: int = 8


@dataclass(frozen=True)
class State:
    """Where a run stands: raw weights, both moments of Adam, and its place in the data."""

    step: int = 0
    epoch: int = 0
    drawn: int = 0
    """batches that were taken from this epoch"""
    data: str = ""
    """which data the place is one in"""
    tensors: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What a training run did; losses in nats a token, those of validation without label smoothing."""

    steps: int
    epochs: float
    seconds: float
    tokens: int
    losses: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...] = ()
    best_step: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Source and target tokens (padding not counted) a second."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Pairs:
    """Token rows of sources and targets, without start and end."""

    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each source and target with its end [n, 2]."""
        return np.array(
            [[len(s) + 1, len(t) + 1] for s, t in zip(self.sources, self.targets)], dtype=np.int64
        ).reshape(-1, 2)

    def tensors(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sources, inputs of the decoder, the tokens that it should say, and where these count."""
        sources = padded([[*self.sources[i], END] for i in rows])
        inputs = padded([[START, *self.targets[i]] for i in rows])
        wanted = padded([[*self.targets[i], END] for i in rows])
        ends = torch.tensor([len(self.targets[i]) for i in rows])
        return sources, inputs, wanted, torch.arange(wanted.shape[1])[None] <= ends[:, None]


def batches(
    lengths: NDArray[np.int64], tokens: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """One epoch: rows shuffled, sorted by length within chunks, about `tokens` a batch, shuffled again.

    A batch holds rows while their number times the sum of the longest source and target fits.
    """
    shuffled = generator.permutation(len(lengths))
    mean = max(float(lengths.sum(1).mean()), 1.0) if len(lengths) else 1.0
    chunk = max(1, int(128 * tokens / mean))
    found: list[NDArray[np.int64]] = []
    for begin in range(0, len(shuffled), chunk):
        part = shuffled[begin : begin + chunk]
        part = part[np.lexsort((lengths[part, 0], lengths[part, 1]))]
        while len(part):
            longest = np.maximum.accumulate(lengths[part], axis=0).sum(1)
            fits = int(np.searchsorted(longest * np.arange(1, len(part) + 1), tokens, side="right"))
            found.append(part[: max(fits, 1)])
            part = part[max(fits, 1) :]
    return [found[i] for i in generator.permutation(len(found))]


def rate_at(step: int, warmup: int) -> float:
    """Learning-rate factor at a step from 1: linear warm-up to 1, then falling with the root of the step."""
    return min(step / warmup, math.sqrt(warmup / step)) if warmup else 1 / math.sqrt(step)


def loss_of(model: Transformer, pairs: Pairs, rows: Sequence[int], smoothing: float, half: bool) -> Tensor:
    """The summed loss over the target tokens of these rows (nats); logits are made only where they count."""
    sources, inputs, wanted, counted = pairs.tensors(rows)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        hidden = model.hidden(sources, inputs)[counted]
    return smoothed_loss(hidden, model.embed.weight, wanted[counted], smoothing, half=half)


@torch.inference_mode()
def loss_over(model: Transformer, pairs: Pairs, *, tokens: int = 8192, half: bool = False) -> float:
    """Mean loss a target token over all pairs, without smoothing (nats)."""
    was_training = model.training
    model.eval()
    order = batches(pairs.lengths, tokens, np.random.default_rng(0))
    total = sum(float(loss_of(model, pairs, rows.tolist(), 0.0, half)) for rows in order)
    model.train(was_training)
    return total / max(1, int(pairs.lengths[:, 1].sum()))


def steps_of(pairs: Pairs, batch_tokens: int, epochs: float, seed: int = 0) -> int:
    """The steps that so many passes over the pairs take."""
    return max(1, math.ceil(epochs * len(batches(pairs.lengths, batch_tokens, np.random.default_rng(seed)))))


def train(
    model: Transformer,
    pairs: Pairs,
    plan: Plan,
    *,
    data: str = "",
    state: State | None = None,
    validation: Pairs | None = None,
    half: bool | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Transformer, State, History]:
    """Train a model in place, and return it with averaged weights, where it stands, and the history.

    state: go on from there; `model` then holds the averaged weights that came with it. With the same `data`
    (a name for pairs and seed) the order goes on where it stopped, so that two runs of n steps are one of
    2n. validation: return what had the lowest loss on it, of `plan.evaluations` checks.
    half: bf16 for the large products; None decides by the processor.
    """
    half = bf16_pays(model.config.width) if half is None else half
    return _Run(model, pairs, plan, data, state or State(), half).go(validation, progress)


class _Run:
    """The state of one training run: the averaged weights are in `model`, the raw ones in `raw`."""

    def __init__(
        self, model: Transformer, pairs: Pairs, plan: Plan, data: str, state: State, half: bool
    ) -> None:
        self.model, self.pairs, self.plan, self.data, self.half = model, pairs, plan, data, half
        self.raw = Transformer(model.config)
        self.raw.load_state_dict(model.state_dict())
        self.named = dict(self.raw.named_parameters())
        self.averaged: list[Tensor] = list(model.parameters())
        self.moved: list[Tensor] = list(self.named.values())
        self.adam = torch.optim.Adam(
            list(self.named.values()), lr=plan.lr, betas=(0.9, 0.98), eps=1e-9, fused=True
        )
        self.step = state.step
        # New data begin with an epoch of their own; the number goes on, so that no order comes twice.
        same = state.data == data
        self.epoch = state.epoch if same or not state.data else state.epoch + 1
        self.drawn = state.drawn if same else 0
        self._restore(state)

    def _restore(self, state: State) -> None:
        for name, parameter in self.named.items():
            if f"raw.{name}" not in state.tensors:
                continue
            with torch.no_grad():
                parameter.copy_(state.tensors[f"raw.{name}"])
            self.adam.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": state.tensors[f"first.{name}"].clone(),
                "exp_avg_sq": state.tensors[f"second.{name}"].clone(),
            }

    def state(self) -> State:
        """Where the run stands now."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.named.items():
            moments = self.adam.state[parameter]
            tensors[f"raw.{name}"] = parameter.detach().clone()
            tensors[f"first.{name}"] = moments["exp_avg"].clone()
            tensors[f"second.{name}"] = moments["exp_avg_sq"].clone()
        return State(self.step, self.epoch, self.drawn, self.data, tensors)

    def endless(self) -> Iterator[NDArray[np.int64]]:
        """Batches, epoch after epoch, each epoch with its own order."""
        lengths = self.pairs.lengths
        while True:
            order = batches(
                lengths, self.plan.batch_tokens, np.random.default_rng((self.plan.seed, self.epoch))
            )
            for batch in order[self.drawn :]:
                self.drawn += 1
                yield batch
            self.epoch, self.drawn = self.epoch + 1, 0

    def move(self, rows: NDArray[np.int64]) -> float:
        """One step; returns its loss a token."""
        self.step += 1
        # Dropout draws from the global generator: seeded a step, a run can be gone on with exactly.
        torch.manual_seed(self.plan.seed * 1_000_003 + self.step)
        count = sum(len(self.pairs.targets[i]) + 1 for i in rows.tolist())
        loss = loss_of(self.raw, self.pairs, rows.tolist(), self.plan.smoothing, self.half) / count
        for parameter in self.named.values():
            parameter.grad = None
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.named.values(), self.plan.clip, foreach=True)
        for group in self.adam.param_groups:
            group["lr"] = self.plan.lr * rate_at(self.step, self.plan.warmup)
        self.adam.step()
        with torch.no_grad():
            share = min(1.0, (TAIL + 1) / (self.step + TAIL))
            torch._foreach_lerp_(self.averaged, self.moved, share)
        return float(loss.detach())

    def go(
        self, validation: Pairs | None, progress: Callable[[str, int, int], None] | None
    ) -> tuple[Transformer, State, History]:
        """Train for the planned steps."""
        begun, seen, recent, rows_seen = time.perf_counter(), 0, 0.0, 0
        losses: list[tuple[int, float]] = []
        checks: list[tuple[int, float]] = []
        best: tuple[dict[str, Tensor], State] | None = None
        self.raw.train()
        self.model.eval()
        lengths, source, total = self.pairs.lengths.sum(1), self.endless(), self.plan.steps
        for done in range(1, total + 1):
            rows = next(source)
            loss = self.move(rows)
            seen, rows_seen = seen + int(lengths[rows].sum()), rows_seen + len(rows)
            recent = loss if done == 1 else 0.95 * recent + 0.05 * loss
            if done == total or done % max(1, total // self.plan.evaluations) == 0:
                losses.append((self.step, recent))
                if validation is not None:
                    checks.append((self.step, loss_over(self.model, validation, half=self.half)))
                    if checks[-1][1] == min(value for _, value in checks):
                        kept = {name: value.clone() for name, value in self.model.state_dict().items()}
                        best = (kept, self.state())
            if progress:
                progress("train", done, total)
        state = self.state()
        if best is not None:
            self.model.load_state_dict(best[0])
            state = best[1]
        history = History(
            steps=total,
            epochs=rows_seen / max(1, len(lengths)),
            seconds=time.perf_counter() - begun,
            tokens=seen,
            losses=tuple(losses),
            validation=tuple(checks),
            best_step=state.step,
        )
        return self.model, state, history
