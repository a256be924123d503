"""An encoder-decoder transformer (Vaswani et al. 2017); knows token numbers and nothing of text or search.

As in the paper: one embedding for both languages and the output, sinusoidal positions, ReLU, label
smoothing. The norm stands before each block by default, which learns in fewer steps and needs less warm-up
(Xiong et al. 2020); `post_norm` puts it where the paper has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from karat import errors
from karat.generation.tensors import fingerprint

PAD, START, END = 0, 1, 2
ROWS = 128
"""So many rows of logits are made at a time in training."""
FUSED = 96
"""Rows longer than this use the fused attention kernel; below, on a CPU, it is slower than writing it out."""


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of an encoder-decoder transformer: `layers` encoder and as many decoder layers."""

    vocab_size: int
    layers: int = 2
    heads: int = 4
    width: int = 128
    feed: int = 512
    dropout: float = 0.1
    post_norm: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise errors.BadSetting(
                f"width={self.width} must be an even multiple of heads={self.heads}; "
                f"try width={self.heads * 2 * max(1, round(self.width / self.heads / 2))}"
            )


def positions(length: int, width: int) -> Tensor:
    """Sinusoidal positions [length, width] (Vaswani et al. 2017, section 3.5)."""
    half = width // 2
    angle = torch.arange(length)[:, None] * (10_000.0 ** (-torch.arange(half) / half))[None]
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention in fp32 [..., time, head size]; `mask` is added to the scores."""
    scale = 1 / math.sqrt(q.shape[-1])
    if q.shape[-2] > FUSED:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):
        scores = (q * scale) @ k.transpose(-1, -2)
        return torch.softmax(scores if mask is None else scores + mask, dim=-1) @ v


class Attention(nn.Module):
    """Multi-head attention; keys and values are made apart from the queries, so that they can be kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        for matrix in (self.query, self.key_value, self.out):
            nn.init.normal_(matrix.weight, std=1 / math.sqrt(width))
            nn.init.zeros_(matrix.bias)

    def queries(self, x: Tensor) -> Tensor:
        """Queries [batch, heads, time, head size]."""
        made: Tensor = self.query(x).float().unflatten(-1, (self.heads, -1))
        return made.transpose(1, 2)

    def memory(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each [batch, heads, time, head size]."""
        k, v = self.key_value(x).float().unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """What x [batch, time, width] finds in the memory."""
        found = attend(self.queries(x), *memory, mask)
        return self.out(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Feed(nn.Module):
    """The feed-forward block."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        for matrix in (self.up, self.down):
            nn.init.normal_(matrix.weight, std=1 / math.sqrt(matrix.in_features))
            nn.init.zeros_(matrix.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Two products with a ReLU between."""
        return self.down(F.relu(self.up(x)))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """A layer of the encoder, or of the decoder where `crossed`."""

    def __init__(self, config: TransformerConfig, *, crossed: bool) -> None:
        super().__init__()
        self.own = Attention(config.width, config.heads)
        self.cross = Attention(config.width, config.heads) if crossed else None
        self.feed = Feed(config.width, config.feed)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(3 if crossed else 2))
        self.dropout, self.post = config.dropout, config.post_norm

    def before(self, x: Tensor, which: int) -> Tensor:
        """What goes into block `which`."""
        return x if self.post else self.norms[which](x)

    def after(self, x: Tensor, block: Tensor, which: int) -> Tensor:
        """What comes out of it, with the residual."""
        block = F.dropout(block, self.dropout, self.training) if self.dropout else block
        return self.norms[which](x + block) if self.post else x + block

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        seen: Tensor | None = None,
        seen_mask: Tensor | None = None,
    ) -> Tensor:
        """Whole rows at once; `seen` is what the encoder made of the source."""
        inner = self.before(x, 0)
        x = self.after(x, self.own(inner, self.own.memory(inner), mask), 0)
        if self.cross is not None and seen is not None:
            x = self.after(x, self.cross(self.before(x, 1), self.cross.memory(seen), seen_mask), 1)
        last = len(self.norms) - 1
        return self.after(x, self.feed(self.before(x, last)), last)


class Transformer(nn.Module):
    """An encoder-decoder transformer; call it with sources and targets [batch, time], padded with PAD."""

    def __init__(self, config: TransformerConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(config.vocab_size, config.width)
            nn.init.normal_(self.embed.weight, std=1 / math.sqrt(config.width))
            self.encoder = nn.ModuleList(Layer(config, crossed=False) for _ in range(config.layers))
            self.decoder = nn.ModuleList(Layer(config, crossed=True) for _ in range(config.layers))
            # With the norms after the blocks, the last one is there already.
            self.ends = nn.ModuleList(
                nn.Identity() if config.post_norm else nn.LayerNorm(config.width) for _ in range(2)
            )
        self.places = positions(64, config.width)

    @property
    def parameters_count(self) -> int:
        """Number of trained numbers."""
        return sum(p.numel() for p in self.parameters())

    def embedded(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Embeddings and positions [batch, time, width]; the first token stands at position `first`."""
        end = first + tokens.shape[1]
        if end > len(self.places):
            self.places = positions(2 * end, self.config.width)
        x = self.embed(tokens) * math.sqrt(self.config.width) + self.places[first:end]
        dropout = self.config.dropout
        return F.dropout(x, dropout, self.training) if dropout else x

    def encode(self, sources: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the encoder makes of sources [batch, time, width], and the mask of their padding, if any."""
        blank = sources == PAD
        mask = None
        if bool(blank.any()):
            mask = torch.zeros(blank.shape).masked_fill_(blank, float("-inf"))[:, None, None]
        x = self.embedded(sources)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.ends[0](x), mask

    def hidden(self, sources: Tensor, inputs: Tensor) -> Tensor:
        """Last hidden states [batch, time, width] of the decoder, which begins with START."""
        seen, seen_mask = self.encode(sources)
        time = inputs.shape[1]
        ahead = torch.full((time, time), float("-inf")).triu(1)
        x = self.embedded(inputs)
        for layer in self.decoder:
            x = layer(x, ahead, seen, seen_mask)
        return self.ends[1](x)  # type: ignore[no-any-return]

    def logits(self, x: Tensor) -> Tensor:
        """Scores over the vocabulary, by the same table that embeds."""
        return F.linear(x, self.embed.weight)

    def forward(self, sources: Tensor, inputs: Tensor) -> Tensor:
        """Logits [batch, time, vocab]."""
        return self.logits(self.hidden(sources, inputs))

    def fingerprint(self) -> str:
        """16 hex digits that change with any weight or with the shape."""
        return fingerprint(self, self.config)


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of token numbers as one tensor [rows, longest], PAD behind the short ones."""
    width = max(1, max(map(len, rows), default=1))
    found = np.full((len(rows), width), PAD, dtype=np.int64)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return torch.from_numpy(found)


class _SmoothedLoss(torch.autograd.Function):
    """The derivative is softmax minus the smoothed target, and is made beside the loss, a few rows at a time.

    The table of all logits would be the largest tensor of a step; so it never leaves the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, smoothing: float, half: bool
    ) -> Tensor:
        kind = torch.bfloat16 if half else torch.float32
        hidden_, table_ = hidden.to(kind), table.to(kind)
        slope_hidden, slope_table = torch.empty_like(hidden_), torch.zeros_like(table)
        total = torch.zeros((), dtype=torch.float64)
        for begin in range(0, len(targets), ROWS):
            rows, at = hidden_[begin : begin + ROWS], targets[begin : begin + ROWS, None]
            logits = (rows @ table_.T).float()
            logits -= logits.amax(dim=1, keepdim=True)
            aimed = (1 - smoothing) * logits.gather(1, at)[:, 0] + smoothing * logits.mean(dim=1)
            sums = logits.exp_().sum(dim=1, keepdim=True)
            total += (sums[:, 0].log() - aimed).sum().double()
            logits.div_(sums).sub_(smoothing / logits.shape[1])
            logits.scatter_add_(1, at, torch.full(at.shape, smoothing - 1.0))
            slope = logits.to(kind)
            torch.mm(slope, table_, out=slope_hidden[begin : begin + ROWS])
            slope_table += slope.T @ rows
        ctx.save_for_backward(slope_hidden.to(hidden.dtype), slope_table)
        return total.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        slope_hidden, slope_table = ctx.saved_tensors
        return slope_hidden * gradients[0], slope_table * gradients[0], None, None, None


def smoothed_loss(
    hidden: Tensor, table: Tensor, targets: Tensor, smoothing: float, *, half: bool = False
) -> Tensor:
    """Sum over rows of the cross-entropy against (1 - s) onehot + s / vocab, in nats.

    Logits are hidden [rows, width] times table [vocab, width]; `half` multiplies in bf16. Label smoothing:
    Szegedy et al. 2016, equation 6.
    """
    found: Tensor = _SmoothedLoss.apply(  # type: ignore[no-untyped-call]
        hidden, table, targets, smoothing, half
    )
    return found


@torch.inference_mode()
def surprise(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    batch_tokens: int = 8192,
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """-ln P(target | source) in nats [n], the end included, and the number of its tokens [n]."""
    was_training = model.training
    model.eval()
    found = np.zeros(len(sources))
    order = sorted(range(len(sources)), key=lambda i: (len(targets[i]), len(sources[i])))
    begin = 0
    while begin < len(order):
        rows: list[int] = []
        longest = 0
        for i in order[begin:]:
            longest = max(longest, len(targets[i]) + len(sources[i]) + 2)
            if rows and longest * (len(rows) + 1) > batch_tokens:
                break
            rows.append(i)
        begin += len(rows)
        wanted = padded([[*targets[i], END] for i in rows])
        inputs = padded([[START, *targets[i]] for i in rows])
        logits = model(padded([[*sources[i], END] for i in rows]), inputs).float()
        logs = torch.log_softmax(logits, -1).gather(2, wanted[..., None])[..., 0]
        counted = (
            torch.arange(wanted.shape[1])[None] <= torch.tensor([len(targets[i]) for i in rows])[:, None]
        )
        found[rows] = -(logs.double() * counted).sum(1).numpy()
    model.train(was_training)
    return found, np.array([len(target) + 1 for target in targets], dtype=np.int64)
