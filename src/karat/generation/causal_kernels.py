"""Pieces of a transformer whose derivatives are written by hand; knows tensors, and no model.

On a CPU a small model spends most of its time in passes over memory, not in products; each of these needs
half as many as autograd would make of it. Their derivatives are tested against numerical ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class RmsNorm(torch.autograd.Function):
    """Division by the root mean square; by hand, as autograd needs twice as many passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The rows, each of length sqrt(width)."""
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=1e-6)
        scale = scale.reciprocal_().mul_(math.sqrt(x.shape[-1]))
        normed: Tensor = x * scale
        ctx.save_for_backward(normed, scale)
        return normed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """What comes in, without its part along the row, divided by the same."""
        normed, scale = ctx.saved_tensors
        along = (gradients[0] * normed).mean(dim=-1, keepdim=True).neg_()
        back: Tensor = torch.addcmul(gradients[0], normed, along).mul_(scale)
        return back


def norm(x: Tensor) -> Tensor:
    """Divide by the root mean square over the last axis (no learned scale: the next matrix has one)."""
    return RmsNorm.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class SquaredRelu(torch.autograd.Function):
    """max(x, 0)^2; by hand, as the derivative is just 2 max(x, 0): three passes over memory fewer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Square of the positive part."""
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Twice the positive part, times what comes in."""
        (positive,) = ctx.saved_tensors
        back: Tensor = (gradients[0] * positive).mul_(2)
        return back


class Turned(torch.autograd.Function):
    """Queries and keys made unit-like, turned by their positions, queries sharpened; by hand, in few passes.

    x: [batch, time, 2, heads, size]; cos, sin: [batch or 1, time or 1, 1, 1, size], the sine of the first
    half negative; gain: [heads], of the queries.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, gain: Tensor) -> Tensor:
        """Turn each pair of numbers, one from each half of a head, against each other."""
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=1e-6)
        scale = scale.reciprocal_().mul_(math.sqrt(x.shape[-1]))
        normed: Tensor = x * scale
        gains = torch.stack((gain, torch.ones_like(gain)))[:, :, None]
        ctx.save_for_backward(normed, scale, cos, sin, gains)
        # The tables are written out for all heads, so that rows of memory meet rows of memory.
        turned: Tensor = (normed * (cos * gains)).addcmul_(swapped(normed), sin * gains)
        return turned

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, Tensor]:
        """Turn back; then as for the norm, and what is along the row is the gain's."""
        normed, scale, cos, sin, gains = ctx.saved_tensors
        (g,) = gradients
        wide = torch.ones_like(gains)
        back = (g * (cos * wide)).add_(swapped(g * (sin * wide)))
        along = (back * normed).mean(dim=-1, keepdim=True)
        of_gain = along[:, :, 0].sum(dim=(0, 1))[:, 0] * normed.shape[-1]
        return torch.addcmul(back, normed, along, value=-1).mul_(scale * gains), None, None, of_gain


def swapped(x: Tensor) -> Tensor:
    """The two halves of the last axis in the other order."""
    return x.roll(x.shape[-1] // 2, -1)


class Mixed(torch.autograd.Function):
    """Each token with a share of the one before it: x [batch, time, width], share [width]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor) -> Tensor:
        """The first token of a row has zeros before it."""
        ctx.save_for_backward(x, share)
        mixed = x * (1 - share)
        mixed[:, 1:].addcmul_(x[:, :-1], share)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The same, one place earlier."""
        x, share = ctx.saved_tensors
        (g,) = gradients
        back = g * (1 - share)
        back[:, :-1].addcmul_(g[:, 1:], share)
        of_share = (g[:, 1:] * x[:, :-1]).sum(dim=(0, 1)) - (g * x).sum(dim=(0, 1))
        return back, of_share
