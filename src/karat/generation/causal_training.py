"""Training of a causal transformer on token rows, one record a row; knows optimisers, and nothing of text.

Rows of like length share a batch, so that little is padding; a small model then learns from aligned rows
faster than from packed ones. Hidden matrices are moved by orthogonalised momentum (Muon: Jordan et al. 2024),
all else by AdamW.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from karat import errors
from karat.generation import causal_checkpoint, devices
from karat.generation.causal import Causal, CausalConfig
from karat.generation.devices import bf16_pays as bf16_pays
from karat.generation.token_rows import Rows, batches, rows_of


@dataclass(frozen=True)
class History:
    """What a training run did; losses are in nats a token, held-out when `validated` is true."""

    steps: int
    epochs: float
    seconds: float
    tokens: int
    losses: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    best_step: int
    best_loss: float
    validated: bool
    cut_rows: int
    shortened: bool

    @property
    def tokens_per_second(self) -> float:
        """Training tokens (padding not counted) a second."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Batch:
    """Rows on a device: inputs [rows, time], the places that count (flat) and what stands there."""

    inputs: Tensor
    places: Tensor
    answers: Tensor

    @staticmethod
    def of(rows: Rows, which: np.ndarray, device: torch.device) -> Batch:
        """Some rows, sent to the device; which places count is found on the host, so that nothing waits."""
        inputs, targets = rows.batch(which)
        places = np.flatnonzero(targets != -100)
        answers = targets.reshape(-1)[places]
        return Batch(*(devices.put(array, device) for array in (inputs, places, answers)))


class Muon:
    """Momentum, made orthogonal before each step by five Newton-Schulz rounds (Jordan et al. 2024)."""

    def __init__(self, matrices: Sequence[Tensor], *, momentum: float = 0.95) -> None:
        self.momentum = momentum
        self.shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for matrix in matrices:
            self.shapes.setdefault(tuple(matrix.shape), []).append(matrix)
        self.state = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.shapes.items()
        }

    @torch.no_grad()
    def step(self, lr: float, decay: float) -> None:
        """Move every matrix; gradients must be there."""
        stacks = []
        for shape, group in self.shapes.items():
            gradient = torch.stack([g for g in (m.grad for m in group) if g is not None])
            assert len(gradient) == len(group)
            kept = self.state[shape].mul_(self.momentum).add_(gradient)
            stacks.append(gradient.add_(kept, alpha=self.momentum))
        for (shape, group), moves in zip(self.shapes.items(), orthogonal(stacks), strict=True):
            scale = lr * math.sqrt(max(1.0, shape[0] / shape[1]))
            torch._foreach_mul_(group, 1 - lr * decay)
            torch._foreach_add_(group, list(moves.unbind()), alpha=-scale)


def orthogonal(stacks: Sequence[Tensor]) -> list[Tensor]:
    """Roughly the nearest orthogonal matrices of stacks [n, rows, columns]: singular values near one.

    Each round multiplies by a polynomial in y y^T, and all these commute: so the rounds run on the square
    y y^T alone, of the shorter side, and those of all stacks with one shorter side run together. The
    polynomials are multiplied up and meet the matrices once.
    """
    lying = [x.transpose(1, 2) if x.shape[1] > x.shape[2] else x for x in stacks]
    lying = [y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7) for y in lying]
    found: list[Tensor] = list(lying)
    for side in {y.shape[1] for y in lying}:
        which = [i for i, y in enumerate(lying) if y.shape[1] == side]
        square = torch.cat([lying[i] @ lying[i].transpose(1, 2) for i in which])
        whole = None
        for number in range(5):
            step = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
            step.diagonal(dim1=1, dim2=2).add_(3.4445)
            whole = step if whole is None else step @ whole
            if number < 4:
                square = step @ (step @ square)
        assert whole is not None
        for i, part in zip(which, torch.split(whole, [len(lying[i]) for i in which]), strict=True):
            found[i] = part @ lying[i]
    return [y.transpose(1, 2) if x.shape[1] > x.shape[2] else y for x, y in zip(stacks, found, strict=True)]


def rate_at(share: float, warmup: float, floor: float = 0.05) -> float:
    """Learning-rate factor at a share of the run: linear warm-up, then a cosine down to `floor`."""
    if share < warmup:
        return max(share / warmup, 0.02)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


@torch.inference_mode()
def loss_over(
    model: Causal, rows: Rows, which: np.ndarray, *, tokens: int = 8192, half: bool = False
) -> float:
    """Mean loss a scored token over these rows (nats)."""
    was_training = model.training
    model.eval()
    found: list[tuple[Tensor, int]] = []
    for some in batches(rows, which, tokens, np.random.default_rng(0)):
        batch = Batch.of(rows, some, model.device)
        if len(batch.answers):
            found.append((loss_of(model, batch, half), len(batch.answers)))
    model.train(was_training)
    # Read at the end, all at once: the device computes on while the host prepares.
    losses = torch.stack([loss for loss, _ in found]).cpu().tolist() if found else []
    total, count = 0.0, 0
    for loss, (_, counted) in zip(losses, found, strict=True):
        total, count = total + loss * counted, count + counted
    return total / max(count, 1)


def loss_of(model: Causal, batch: Batch, half: bool, hidden: Callable[[Tensor], Any] | None = None) -> Tensor:
    """Mean cross-entropy over the targets that count; logits are made for those places only."""
    with devices.autocast(batch.inputs.device, half):
        states, _ = (hidden or model.hidden)(batch.inputs)
        logits = model.logits(states.flatten(0, 1)[batch.places])
    return F.cross_entropy(logits.float(), batch.answers)


def train_causal(
    sequences: Sequence[Sequence[int] | np.ndarray],
    config: CausalConfig,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    optimiser: str = "muon",
    lr: float = 0.02,
    adam_lr: float = 0.004,
    weight_decay: float = 0.05,
    warmup: float = 0.03,
    floor: float = 0.05,
    beta2: float = 0.98,
    batch_tokens: int = 4096,
    validation: Sequence[Sequence[int] | np.ndarray] | None = None,
    validation_share: float = 0.05,
    evaluations: int = 8,
    evaluate_from: float = 0.25,
    loss_mask_prefix: int | Sequence[int] = 1,
    validation_mask_prefix: int | Sequence[int] | None = None,
    half: bool | None = None,
    model: Causal | None = None,
    device: str = "cpu",
    compiled: bool = False,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Causal, History]:
    """Train a causal model, and return it as it was at the best held-out loss, with the history.

    sequences: token rows, each with its start and stop token; longer than `config.context` are cut.
    epochs or steps: how long (default ten epochs). max_seconds: a ceiling; when the plan would pass it, the
    number of steps is lowered and the learning rate still falls to its end. A run that stays under it is
    the same to the bit for one seed, one number of threads and one machine; a shortened run is not.
    optimiser: "muon" (hidden matrices by orthogonalised momentum at `lr`, all else AdamW at `adam_lr`) or
    "adamw" (everything at `adam_lr`). warmup: share of the run with a rising rate; floor: the last rate as a
    share of the highest; beta2: AdamW's memory of squares.
    validation: held-out rows; else `validation_share` of the sequences are set aside (0: none, and the last
    weights are returned). loss_mask_prefix: how many first tokens of each row are given, not learned;
    validation_mask_prefix: the same for the held-out rows (those of one number where it is left out).
    evaluations: how often the held-out loss is measured, from the share `evaluate_from` of the run on.
    half: bf16 for the large products; None decides by the processor.
    model: go on from these weights (a copy) instead of fresh ones.
    device: cpu, cuda, cuda:N or auto (CUDA where there is any); the model that comes back is there.
    compiled: let torch.compile fuse the layers; takes a minute first, so only for long runs on CUDA.
    checkpoint: a file where a run that takes long is kept every `checkpoint_seconds`; where the same run left
    one, it goes on from there, on the CPU with the same result to the bit. The file stays: remove it when
    the model is safe.
    """
    if optimiser not in ("muon", "adamw"):
        raise errors.BadSetting(f"optimiser={optimiser!r} is not known; choose muon or adamw")
    rows, held = rows_of(sequences, config.context, loss_mask_prefix), None
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(rows.scored))
    if validation is not None:
        first = validation_mask_prefix
        if first is None:
            first = loss_mask_prefix if isinstance(loss_mask_prefix, int) else 1
        held_rows = rows_of(validation, config.context, first)
        held, which = (held_rows, np.arange(len(held_rows.scored))), order
    else:
        apart = int(len(order) * validation_share) if len(order) >= 20 else 0
        held, which = ((rows, order[:apart]) if apart else None), order[apart:]
    where = devices.place(device)
    learner = (Causal(config, seed=seed) if model is None else copy.deepcopy(model)).to(where)
    half = bf16_pays(config.width, where) if half is None else half
    per_epoch = len(batches(rows, which, batch_tokens, np.random.default_rng(seed)))
    planned = (
        steps if steps is not None else max(1, math.ceil((10 if epochs is None else epochs) * per_epoch))
    )
    movers = _Movers(learner, optimiser, lr, adam_lr, weight_decay, beta2, half)
    plan = _Plan(planned, max_seconds, max(1, evaluations), evaluate_from, batch_tokens, seed, warmup, floor)
    loop = _Loop(learner, movers, rows, which, held, plan, half)
    if checkpoint is not None:
        chosen = [asdict(config), asdict(plan), optimiser, lr, adam_lr, weight_decay, beta2, half]
        data = [rows.flat, rows.start, rows.scored, which]
        data += [] if held is None else [held[0].flat, held[0].start, held[0].scored, held[1]]
        began = "" if model is None else model.fingerprint()
        loop.keep(Path(checkpoint), causal_checkpoint.digest(data, chosen, began), checkpoint_seconds)
    if compiled:
        loop.hidden = torch.compile(learner.hidden, dynamic=True)
    with devices.quick(where):
        history = loop.run(progress)
    return learner.eval(), history


class _Movers:
    """The optimisers of a run: they move the weights once, given the learning-rate factor."""

    def __init__(
        self,
        model: Causal,
        optimiser: str,
        lr: float,
        adam_lr: float,
        decay: float,
        beta2: float,
        half: bool,
    ) -> None:
        self.lr, self.adam_lr, self.decay = lr, adam_lr, decay
        named = dict(model.named_parameters())
        hidden = [
            p
            for name, p in named.items()
            if p.ndim == 2 and name.startswith("layers") and "shift" not in name
        ]
        tables = [model.embed.weight, *([] if model.head is None else [model.head])]
        chosen = {id(p) for p in [*hidden, *tables]}
        groups = [
            {"params": [*tables, *(hidden if optimiser == "adamw" else [])], "weight_decay": decay},
            {"params": [p for p in named.values() if id(p) not in chosen], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=adam_lr, betas=(0.9, beta2), fused=True)
        self.muon = None if optimiser == "adamw" else Muon(hidden)

    def move(self, factor: float) -> None:
        """One step of each; gradients must be there."""
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * factor
        self.adam.step()
        if self.muon is not None:
            self.muon.step(self.lr * factor, self.decay)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "adam": self.adam.state_dict(),
            "muon": [] if self.muon is None else list(self.muon.state.values()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.adam.load_state_dict(state["adam"])
        if self.muon is not None:
            self.muon.state = dict(zip(self.muon.state, state["muon"], strict=True))


@dataclass(frozen=True)
class _Plan:
    """How long a run goes and what it does when; with the data and the weights it decides the result."""

    steps: int
    ceiling: float | None
    evaluations: int
    evaluate_from: float
    batch_tokens: int
    seed: int
    warmup: float
    floor: float


@dataclass
class _Done:
    """What a run has behind it: counters, losses (nats a token), and the best weights so far."""

    total: int
    step: int = 0
    tokens: int = 0
    rows: int = 0
    recent: float = math.nan
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    checks: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None


class _Loop:
    """One training run: weights, order of batches, and what was seen so far."""

    def __init__(
        self,
        model: Causal,
        movers: _Movers,
        rows: Rows,
        which: np.ndarray,
        held: tuple[Rows, np.ndarray] | None,
        plan: _Plan,
        half: bool,
    ) -> None:
        self.model, self.movers, self.rows, self.which, self.held = model, movers, rows, which, held
        self.plan, self.half, self.done = plan, half, _Done(plan.steps)
        self.hidden: Callable[[Tensor], Any] | None = None
        self.file: Path | None = None
        self.name, self.pause, self.unread = "", 0.0, list[Tensor]()

    def endless(self, skip: int) -> Iterator[np.ndarray]:
        """Batches, epoch after epoch, each epoch with its own order; the first `skip` are left out."""
        epoch = 0
        while True:
            generator = np.random.default_rng((self.plan.seed, epoch))
            found = batches(self.rows, self.which, self.plan.batch_tokens, generator)
            yield from found[skip:]
            skip, epoch = max(0, skip - len(found)), epoch + 1

    def keep(self, file: Path, name: str, pause: float) -> None:
        """Keep this run in a file every `pause` seconds; go on from it where it holds the same run."""
        self.file, self.name, self.pause = file, name, pause
        found = causal_checkpoint.read(file, name, self.model.device)
        if found is None:
            return
        self.model.load_state_dict(found["weights"])
        self.movers.restore(found["movers"])
        self.done = _Done(**found["done"])
        self.generators = found["generators"]

    def write(self) -> None:
        """Write all that the rest of the run depends on."""
        assert self.file is not None
        self.read_losses()
        state = {
            "weights": self.model.state_dict(),
            "movers": self.movers.state(),
            "done": dict(vars(self.done)),
            "generators": causal_checkpoint.generators(self.model.device),
        }
        causal_checkpoint.write(self.file, self.name, state)

    def read_losses(self) -> None:
        """Bring the losses since the last time from the device, and put them into the running mean."""
        for value in torch.stack(self.unread).cpu().tolist() if self.unread else []:
            fresh, old = math.isnan(self.done.recent), self.done.recent
            self.done.recent = value if fresh else 0.95 * old + 0.05 * value
        self.unread.clear()

    def step(self, which: np.ndarray) -> None:
        """Learn from one batch."""
        done, batch = self.done, Batch.of(self.rows, which, self.model.device)
        loss = loss_of(self.model, batch, self.half, self.hidden)
        for parameter in self.model.parameters():
            parameter.grad = None
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.movers.move(rate_at(done.step / done.total, self.plan.warmup, self.plan.floor))
        self.unread.append(loss.detach())
        done.step += 1
        done.tokens += int(self.rows.lengths[which].sum())
        done.rows += len(which)

    def check(self) -> None:
        """Note the running loss and, late enough, the held-out loss; keep the weights where it is best."""
        done = self.done
        self.read_losses()
        done.losses.append((done.step, done.recent))
        if self.held is not None and done.step >= self.plan.evaluate_from * done.total:
            done.checks.append((done.step, loss_over(self.model, *self.held, half=self.half)))
            if done.checks[-1][1] == min(value for _, value in done.checks):
                done.best = {k: v.clone() for k, v in self.model.state_dict().items()}

    def run(self, progress: Callable[[str, int, int], None] | None) -> History:
        """Train for the planned steps, or fewer when the ceiling is near; leaves the best weights."""
        done, plan, ceiling = self.done, self.plan, self.plan.ceiling
        torch.manual_seed(plan.seed)  # dropout draws from the global generators
        if done.step:
            causal_checkpoint.restore_generators(self.generators, self.model.device)
        begun, kept, written = time.perf_counter() - done.seconds, time.perf_counter(), done.step > 0
        self.model.train()
        source = self.endless(done.step)
        while done.step < done.total:
            self.step(next(source))
            done.seconds = spent = time.perf_counter() - begun
            late = ceiling is not None and (done.step >= 10 or spent > ceiling)
            if late and ceiling is not None and spent / done.step * done.total > ceiling:
                done.total = max(done.step, int(done.step * ceiling / spent))
            if done.step == done.total or done.step % max(1, done.total // plan.evaluations) == 0:
                self.check()
            # Short runs write nothing; a long one writes its end too, for its model is not safe yet.
            due = time.perf_counter() - kept >= self.pause or (written and done.step == done.total)
            if self.file is not None and due:
                self.write()
                kept, written = time.perf_counter(), True
            if progress:
                progress("train", done.step, done.total)
        if done.best is not None:
            self.model.load_state_dict(done.best)
        at, value = min(done.checks, key=lambda c: c[1]) if done.checks else done.losses[-1]
        return History(
            steps=done.step,
            epochs=done.rows / max(len(self.which), 1),
            seconds=time.perf_counter() - begun,
            tokens=done.tokens,
            losses=tuple(done.losses),
            validation=tuple(done.checks),
            best_step=at,
            best_loss=value,
            validated=bool(done.checks),
            cut_rows=self.rows.cut,
            shortened=done.total < plan.steps,
        )
