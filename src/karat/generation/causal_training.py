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
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from karat import errors
from karat.generation.causal import Causal, CausalConfig


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
class Rows:
    """Token rows as one ragged array: row i is flat[start[i]:start[i + 1]], scored from `scored[i]` on."""

    flat: np.ndarray
    start: np.ndarray
    scored: np.ndarray
    cut: int = 0

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each row."""
        return np.diff(self.start)

    def batch(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets [rows, time]; targets that do not count are -100."""
        lengths = self.lengths[rows]
        at = np.arange(int(lengths.max()))
        inside = at[None] < lengths[:, None]
        tokens = np.where(
            inside, self.flat[np.minimum(self.start[rows][:, None] + at, len(self.flat) - 1)], 0
        )
        targets = np.where(inside & (at[None] >= np.maximum(self.scored[rows], 1)[:, None]), tokens, -100)
        return torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(targets[:, 1:].copy())


def rows_of(
    sequences: Sequence[Sequence[int] | np.ndarray], context: int, prefix: int | Sequence[int] = 1
) -> Rows:
    """Put sequences into one ragged array, each cut to `context` tokens; those under two are left out."""
    starts = [prefix] * len(sequences) if isinstance(prefix, int) else list(prefix)
    kept = [
        (np.asarray(s, dtype=np.int64)[:context], p)
        for s, p in zip(sequences, starts, strict=True)
        if len(s) > 1
    ]
    if not kept:
        raise errors.NotEnoughData("no sequence of two tokens or more to train on; give longer texts")
    return Rows(
        np.concatenate([s for s, _ in kept]),
        np.concatenate(([0], np.cumsum([len(s) for s, _ in kept]))),
        np.array([p for _, p in kept], dtype=np.int64),
        sum(len(s) > context for s in sequences),
    )


def batches(rows: Rows, which: np.ndarray, tokens: int, generator: np.random.Generator) -> list[np.ndarray]:
    """One epoch: rows shuffled, sorted by length within chunks, about `tokens` a batch, shuffled again."""
    shuffled = generator.permutation(which)
    lengths = rows.lengths
    mean = max(float(lengths[which].mean()), 1.0)
    chunk = max(1, int(24 * tokens / mean))
    result: list[np.ndarray] = []
    for begin in range(0, len(shuffled), chunk):
        part = shuffled[begin : begin + chunk]
        part = part[np.argsort(lengths[part], kind="stable")]
        begin_row = 0
        while begin_row < len(part):
            # The last row of a batch is its longest: take rows while rows x longest fits.
            rest = lengths[part[begin_row:]]
            fits = int(np.searchsorted(rest * np.arange(1, len(rest) + 1), tokens, side="right"))
            result.append(part[begin_row : begin_row + max(fits, 1)])
            begin_row += max(fits, 1)
    return [result[i] for i in generator.permutation(len(result))]


def bf16_pays(width: int) -> bool:
    """True when this CPU multiplies bf16 in hardware and the matrices are large enough to win by it."""
    probes = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return width >= 48 and any(probe is not None and bool(probe()) for probe in probes)


class Muon:
    """Momentum, made orthogonal before each step by five Newton-Schulz rounds (Jordan et al. 2024)."""

    def __init__(self, matrices: Sequence[Tensor], *, momentum: float = 0.95, half: bool = False) -> None:
        self.momentum, self.half = momentum, half
        self.shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for matrix in matrices:
            self.shapes.setdefault(tuple(matrix.shape), []).append(matrix)
        self.state = {shape: torch.zeros(len(group), *shape) for shape, group in self.shapes.items()}

    @torch.no_grad()
    def step(self, lr: float, decay: float) -> None:
        """Move every matrix; gradients must be there."""
        for shape, group in self.shapes.items():
            gradient = torch.stack([g for g in (m.grad for m in group) if g is not None])
            assert len(gradient) == len(group)
            kept = self.state[shape].mul_(self.momentum).add_(gradient)
            moves = orthogonal(gradient.add(kept, alpha=self.momentum), self.half)
            scale = lr * math.sqrt(max(1.0, shape[0] / shape[1]))
            for matrix, move in zip(group, moves, strict=True):
                matrix.mul_(1 - lr * decay).sub_(move, alpha=scale)


def orthogonal(x: Tensor, half: bool) -> Tensor:
    """Roughly the nearest orthogonal matrices of a stack [n, rows, columns]: singular values near one."""
    flipped = x.shape[1] > x.shape[2]
    y = x.transpose(1, 2) if flipped else x
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    y = y.bfloat16() if half else y
    for _ in range(5):
        square = y @ y.transpose(1, 2)
        y = 3.4445 * y + (-4.7750 * square + 2.0315 * (square @ square)) @ y
    y = y.float()
    restored: Tensor = y.transpose(1, 2) if flipped else y
    return restored


def rate_at(share: float, warmup: float) -> float:
    """Learning-rate factor at a share of the run: linear warm-up, then a cosine down to five per cent."""
    if share < warmup:
        return max(share / warmup, 0.02)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


@torch.inference_mode()
def loss_over(
    model: Causal, rows: Rows, which: np.ndarray, *, tokens: int = 8192, half: bool = False
) -> float:
    """Mean loss a scored token over these rows (nats)."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for batch in batches(rows, which, tokens, np.random.default_rng(0)):
        inputs, targets = rows.batch(batch)
        counted = int((targets != -100).sum())
        if counted:
            total += float(loss_of(model, inputs, targets, half)) * counted
            count += counted
    model.train(was_training)
    return total / max(count, 1)


def loss_of(model: Causal, inputs: Tensor, targets: Tensor, half: bool) -> Tensor:
    """Mean cross-entropy over the targets that count; logits are made for those places only."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        hidden, _ = model.hidden(inputs)
        counted = targets != -100
        logits = model.logits(hidden[counted])
    return F.cross_entropy(logits.float(), targets[counted])


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
    batch_tokens: int = 4096,
    validation: Sequence[Sequence[int] | np.ndarray] | None = None,
    validation_share: float = 0.05,
    evaluations: int = 8,
    loss_mask_prefix: int | Sequence[int] = 1,
    validation_mask_prefix: int | Sequence[int] | None = None,
    half: bool | None = None,
    model: Causal | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Causal, History]:
    """Train a causal model, and return it as it was at the best held-out loss, with the history.

    sequences: token rows, each with its start and stop token; longer than `config.context` are cut.
    epochs or steps: how long (default ten epochs). max_seconds: a ceiling; when the plan would pass it, the
    number of steps is lowered and the learning rate still falls to its end. A run that stays under it is
    the same to the bit for one seed, one number of threads and one machine; a shortened run is not.
    optimiser: "muon" (hidden matrices by orthogonalised momentum at `lr`, all else AdamW at `adam_lr`) or
    "adamw" (everything at `adam_lr`).
    validation: held-out rows; else `validation_share` of the sequences are set aside (0: none, and the last
    weights are returned). loss_mask_prefix: how many first tokens of each row are given, not learned;
    validation_mask_prefix: the same for the held-out rows (those of one number where it is left out).
    half: bf16 for the large products; None decides by the CPU.
    model: go on from these weights (a copy) instead of fresh ones.
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
    learner = Causal(config, seed=seed) if model is None else copy.deepcopy(model)
    half = bf16_pays(config.width) if half is None else half
    per_epoch = len(batches(rows, which, batch_tokens, np.random.default_rng(seed)))
    planned = (
        steps if steps is not None else max(1, math.ceil((10 if epochs is None else epochs) * per_epoch))
    )
    movers = _movers(learner, optimiser, lr, adam_lr, weight_decay, half)
    loop = _Loop(learner, movers, rows, which, held, batch_tokens, half, seed, warmup)
    return learner.eval(), loop.run(planned, max_seconds, max(1, evaluations), progress)


def _movers(
    model: Causal, optimiser: str, lr: float, adam_lr: float, decay: float, half: bool
) -> list[Callable[[float], None]]:
    """Functions that move the weights once, given the learning-rate factor."""
    named = dict(model.named_parameters())
    hidden = [
        p for name, p in named.items() if p.ndim == 2 and name.startswith("layers") and "shift" not in name
    ]
    tables = [model.embed.weight, *([] if model.head is None else [model.head])]
    chosen = {id(p) for p in [*hidden, *tables]}
    groups = [
        {"params": [*tables, *(hidden if optimiser == "adamw" else [])], "weight_decay": decay},
        {"params": [p for p in named.values() if id(p) not in chosen], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=adam_lr, betas=(0.9, 0.98), fused=True)

    def move_adam(factor: float) -> None:
        for group in adam.param_groups:
            group["lr"] = adam_lr * factor
        adam.step()

    if optimiser == "adamw":
        return [move_adam]
    muon = Muon(hidden, half=half)
    return [move_adam, lambda factor: muon.step(lr * factor, decay)]


class _Loop:
    """The state of one training run: weights, order of batches, and what was seen so far."""

    def __init__(
        self,
        model: Causal,
        movers: list[Callable[[float], None]],
        rows: Rows,
        which: np.ndarray,
        held: tuple[Rows, np.ndarray] | None,
        batch_tokens: int,
        half: bool,
        seed: int,
        warmup: float,
    ) -> None:
        self.model, self.movers, self.rows, self.which, self.held = model, movers, rows, which, held
        self.batch_tokens, self.half, self.seed, self.warmup = batch_tokens, half, seed, warmup

    def endless(self) -> Iterator[np.ndarray]:
        """Batches, epoch after epoch, each epoch with its own order."""
        epoch = 0
        while True:
            yield from batches(
                self.rows, self.which, self.batch_tokens, np.random.default_rng((self.seed, epoch))
            )
            epoch += 1

    def run(
        self,
        planned: int,
        ceiling: float | None,
        evaluations: int,
        progress: Callable[[str, int, int], None] | None,
    ) -> History:
        """Train for the planned steps, or fewer when the ceiling is near; leaves the best weights."""
        begun, total, step, seen, recent = time.perf_counter(), planned, 0, 0, 0.0
        losses: list[tuple[int, float]] = []
        checks: list[tuple[int, float]] = []
        best: dict[str, Tensor] | None = None
        torch.manual_seed(self.seed)  # dropout draws from the global generator
        self.model.train()
        source, rows_seen = self.endless(), 0
        while step < total:
            batch = next(source)
            inputs, targets = self.rows.batch(batch)
            loss = loss_of(self.model, inputs, targets, self.half)
            for parameter in self.model.parameters():
                parameter.grad = None
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
            factor = rate_at(step / total, self.warmup)
            for move in self.movers:
                move(factor)
            step, seen, rows_seen = (
                step + 1,
                seen + int(self.rows.lengths[batch].sum()),
                rows_seen + len(batch),
            )
            recent = float(loss.detach()) if step == 1 else 0.95 * recent + 0.05 * float(loss.detach())
            spent = time.perf_counter() - begun
            if ceiling is not None and (step >= 10 or spent > ceiling) and spent / step * total > ceiling:
                total = max(step, int(step * ceiling / spent))
            if step == total or step % max(1, total // evaluations) == 0:
                losses.append((step, recent))
                if self.held is not None and 4 * step >= total:
                    checks.append((step, loss_over(self.model, *self.held, half=self.half)))
                    if checks[-1][1] == min(value for _, value in checks):
                        best = {k: v.clone() for k, v in self.model.state_dict().items()}
            if progress:
                progress("train", step, total)
        if best is not None:
            self.model.load_state_dict(best)
        at, value = min(checks, key=lambda c: c[1]) if checks else losses[-1]
        return History(
            steps=step,
            epochs=rows_seen / max(len(self.which), 1),
            seconds=time.perf_counter() - begun,
            tokens=seen,
            losses=tuple(losses),
            validation=tuple(checks),
            best_step=at,
            best_loss=value,
            validated=bool(checks),
            cut_rows=self.rows.cut,
            shortened=total < planned,
        )
