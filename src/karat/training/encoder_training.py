"""Fine-tuning of an encoder and its head: losses, batches by length, schedule, best round. Knows no text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.training.annotators import NOBODY
from karat.training.base import Progress
from karat.training.encoder_models import Network, Rows, Task

ALPHA = 0.8
"""weight of the cross-entropy in the loss of annotators' slots (Das et al. 2024)"""

_SORTED_TOGETHER = 50
"""batches of texts that are drawn together and then sorted by length"""


@dataclass(frozen=True)
class Recipe:
    """How an encoder is trained.

    lr, head_lr: highest learning rates of the encoder and of its last layer. warmup: share of the steps in
    which they rise; then they fall to 0 in a line. weight_decay spares biases and norms. least_steps: as
    many at least, however few the records. patience: rounds without a better validation loss before it
    stops (0: never). keep: the weights of the best round, where there are validation records, or the last.
    """

    lr: float
    head_lr: float
    batch: int
    epochs: int
    weight_decay: float
    warmup: float
    least_steps: int = 0
    eps: float = 1e-6
    clip: float = 1.0
    patience: int = 0
    keep: str = "best"


@dataclass(frozen=True)
class History:
    """The mean training loss of each round (an epoch, where there are no more steps than those), and the
    validation loss after it where there was one to see; `best` is the round whose weights were kept."""

    losses: tuple[float, ...]
    validation: tuple[float, ...]
    best: int
    steps: int


def loss_of(task: Task, logits: Any, targets: Any) -> Any:
    """Return the mean loss of a batch: logits [n, outputs], targets [n, classes], or [n, slots] of classes.

    Of labels the cross-entropy against a distribution, of tags the mean binary one, of annotators' slots
    the sum over slots of a CE + (1 - a) (y - argmax)^2 / 2, a = 0.8; its second term moves no weight.
    """
    import torch
    from torch.nn import functional

    if task.kind == "labels":
        return -(targets * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()
    if task.kind == "tags":
        return functional.binary_cross_entropy_with_logits(logits, targets)
    apart = logits.view(len(logits), task.slots, len(task.classes))
    total = logits.sum() * 0.0
    for slot in range(task.slots):
        filled = targets[:, slot] != NOBODY
        if not bool(filled.any()):
            continue  # the mean over no answer is no number
        wanted, given = targets[filled, slot], apart[filled, slot]
        away = (wanted - given.argmax(dim=-1)).to(given.dtype)
        total = total + ALPHA * functional.cross_entropy(given, wanted)
        total = total + (1 - ALPHA) * 0.5 * away.square().mean()
    return total


def train_network(
    network: Network,
    task: Task,
    rows: Rows,
    targets: NDArray[Any],
    recipe: Recipe,
    *,
    seed: int,
    validation: tuple[Rows, NDArray[Any]] | None = None,
    progress: Progress | None = None,
) -> History:
    """Train a network in place; the same seed on the same machine and threads gives the same weights."""
    import torch

    each = -(-len(rows) // recipe.batch)
    steps = max(recipe.least_steps, recipe.epochs * each, 1)
    rounds = np.unique(np.linspace(0, steps, min(recipe.epochs, steps) + 1).round().astype(int)[1:])
    optimiser = _optimiser(network, task, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _height(step, steps, recipe.warmup))
    wanted = torch.from_numpy(targets)
    device = next(network.body.parameters()).device
    batches = _batches([len(row) for row in rows], recipe.batch, seed)
    losses: list[float] = []
    seen: list[float] = []
    best: dict[str, Any] | None = None
    done, kept, parameters = 0, len(rounds) - 1, [p for m in network.modules() for p in m.parameters()]
    for number, end in enumerate(rounds.tolist()):
        network.train(True)
        summed = 0.0
        for step in range(done, end):
            chosen = next(batches)
            loss = loss_of(task, network.logits([rows[i] for i in chosen]), wanted[chosen].to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimiser.step()
            schedule.step()
            summed += float(loss.detach())
            if progress:
                progress("train", step + 1, steps)
        losses.append(summed / max(1, end - done))
        done = end
        if validation is None:
            continue
        seen.append(_loss(network, task, *validation))
        if seen[-1] <= min(seen):
            kept, best = number, _weights(network) if recipe.keep == "best" else None
        elif recipe.patience and number - int(np.argmin(seen)) >= recipe.patience:
            break
    if best is not None:
        for place, module in enumerate(network.modules()):
            module.load_state_dict(best[str(place)])
    network.train(False)
    last = len(losses) - 1
    return History(tuple(losses), tuple(seen), kept if best is not None else last, done)


def _optimiser(network: Network, task: Task, recipe: Recipe) -> Any:
    import torch

    owner, name = network.last_layer(task.outputs)
    last = {id(p) for p in getattr(owner, name).parameters()}
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for module in network.modules():
        for parameter in module.parameters():
            # a bias and the scale of a norm have one dimension
            groups.setdefault((id(parameter) in last, parameter.dim() > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": found,
                "lr": recipe.head_lr if head else recipe.lr,
                "weight_decay": recipe.weight_decay if decays else 0.0,
            }
            for (head, decays), found in groups.items()
        ],
        eps=recipe.eps,
    )


def _height(step: int, steps: int, warmup: float) -> float:
    """The learning rate of a step as a share of the highest: up in a line, then down to 0 in a line."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (steps - step) / max(1, steps - rising))


def _batches(lengths: list[int], size: int, seed: int) -> Iterator[list[int]]:
    """Yield positions without end, each once a pass, in batches of texts of about one length.

    Padding costs as much as text: sorting some batches' worth of drawn texts leaves little of it, and the
    order stays random.
    """
    rng = np.random.default_rng([seed, 11])
    counts = np.asarray(lengths)
    while True:
        order = rng.permutation(len(counts))
        made: list[list[int]] = []
        for start in range(0, len(order), size * _SORTED_TOGETHER):
            drawn = order[start : start + size * _SORTED_TOGETHER]
            drawn = drawn[np.argsort(counts[drawn], kind="stable")]
            made += [drawn[at : at + size].tolist() for at in range(0, len(drawn), size)]
        for place in rng.permutation(len(made)).tolist():
            yield made[place]


def _loss(network: Network, task: Task, rows: Rows, targets: NDArray[Any]) -> float:
    """The mean loss of records that are not learned from."""
    import torch

    logits = torch.from_numpy(network.read(rows))
    wanted = torch.from_numpy(targets)
    return float(loss_of(task, logits, wanted.double() if wanted.is_floating_point() else wanted))


def _weights(network: Network) -> dict[str, Any]:
    return {
        str(place): {key: value.detach().clone() for key, value in module.state_dict().items()}
        for place, module in enumerate(network.modules())
    }
