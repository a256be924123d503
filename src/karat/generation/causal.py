"""A small causal transformer and its cached, batched sampler; knows token numbers and nothing of text.

It computes where its weights are, on the CPU or on CUDA; answers come back to the host.
Design choices, all for models of 0.05 to 10 million parameters that train on a CPU in a minute: RMS norm
before each block, queries and keys normalised, rotary positions, a learned mix of each token with the one
before it ("token shift": it gives bigrams to the first layer for free), squared-ReLU feed-forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from karat import errors
from karat.generation import devices
from karat.generation.causal_kernels import Mixed, SquaredRelu, Turned, norm
from karat.generation.tensors import fingerprint


@dataclass(frozen=True)
class CausalConfig:
    """Shape of a causal transformer; `context` is the longest sequence (prompt and answer, in tokens)."""

    vocab_size: int
    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 128
    expand: int = 4
    token_shift: bool = True
    tied: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise errors.BadSetting(
                f"width={self.width} must be an even multiple of heads={self.heads}; "
                f"try width={self.heads * 2 * max(1, round(self.width / self.heads / 2))}"
            )


@dataclass(frozen=True)
class Sampled:
    """One answer: tokens (without prompt and stop token), mean log-probability (nats a token), and its end.

    The log-probability is the model's own, at temperature 1 and before top-k or top-p, with the stop token.
    `finished` is false when the answer was cut.
    """

    tokens: tuple[int, ...]
    logprob: float
    finished: bool


class Layer(nn.Module):
    """Attention, then feed-forward, each with a residual."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, config.expand * width, bias=False)
        self.down = nn.Linear(config.expand * width, width, bias=False)
        # Normalised queries and keys have bounded products, so the sharpness must be learned.
        self.gain = nn.Parameter(torch.full((config.heads,), 1.5))
        self.shift = nn.Parameter(torch.zeros(2, width)) if config.token_shift else None
        self.dropout = config.dropout
        for matrix, scale in ((self.qkv, 1.0), (self.up, 1.0), (self.out, 0.0), (self.down, 0.0)):
            nn.init.normal_(
                matrix.weight, std=scale / math.sqrt(matrix.in_features)
            ) if scale else nn.init.zeros_(matrix.weight)

    def mixed(self, x: Tensor, which: int, before: Tensor | None = None) -> Tensor:
        """Mix each token with the one before it, per channel; `before` where x is one token of each row."""
        if self.shift is None:
            return x
        share = torch.tanh(self.shift[which])
        if before is None:
            return Mixed.apply(x, share)  # type: ignore[no-any-return, no-untyped-call]
        return x * (1 - share) + before * share

    def project(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values of shape [batch, heads, time, head size]; queries carry the gain."""
        size = x.shape[-1] // self.heads
        both, v = self.qkv(x).float().split((2 * x.shape[-1], x.shape[-1]), dim=-1)
        gain = self.gain / math.sqrt(size)
        both = Turned.apply(both.unflatten(-1, (2, self.heads, size)), *turn, gain)  # type: ignore[no-untyped-call]
        q, k = both.transpose(1, 3).unbind(2)
        return q, k, v.unflatten(-1, (self.heads, size)).transpose(1, 2)

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward part, without its residual."""
        return self.down(SquaredRelu.apply(self.up(x)))  # type: ignore[no-any-return, no-untyped-call]

    def drop(self, x: Tensor) -> Tensor:
        """Dropout, when the model trains with it."""
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Whole rows at once; also returns what the sampler must remember: keys, values, block inputs."""
        first = norm(x)
        q, k, v = self.project(self.mixed(first, 0), turn)
        mixed = attend_rows(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.drop(self.out(mixed))
        second = norm(x)
        x = x + self.drop(self.feed(self.mixed(second, 1)))
        return x, (k, v, first, second)


def attend_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of whole rows, each token to those before it; one fused kernel.

    On the CPU in fp32, which is faster there than bf16 for rows of any length; on CUDA as the other products.
    """
    if devices.fused_half(q.device):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    with devices.autocast(q.device, False):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of one token a row to all keys; `mask` is added to the scores. Written out: the fused kernel
    is made for many tokens."""
    scores = q @ k.transpose(-1, -2)
    return torch.softmax(scores if mask is None else scores + mask, dim=-1) @ v


class Causal(nn.Module):
    """A decoder-only transformer; call it with tokens [batch, time] to get logits [batch, time, vocab]."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: CausalConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(config.vocab_size, config.width)
            nn.init.normal_(self.embed.weight, std=0.02 if config.tied else 1 / math.sqrt(config.width))
            self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
            # Zeros: the first guess is that all tokens are alike.
            self.head = None if config.tied else nn.Parameter(torch.zeros(config.vocab_size, config.width))
            self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        half = config.width // config.heads // 2
        angle = torch.arange(config.context)[:, None] * (10_000.0 ** (-torch.arange(half) / half))[None]
        # [time, 1, 1, head size], as `Turned` wants them
        cos, sin = torch.cat((angle.cos(), angle.cos()), 1), torch.cat((-angle.sin(), angle.sin()), 1)
        self.register_buffer("cos", cos[:, None, None], persistent=False)
        self.register_buffer("sin", sin[:, None, None], persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.bias.device

    @property
    def parameters_count(self) -> int:
        """Number of trained numbers."""
        return sum(p.numel() for p in self.parameters())

    def logits(self, x: Tensor) -> Tensor:
        """Scores over the vocabulary from the last hidden states."""
        return F.linear(norm(x), self.embed.weight if self.head is None else self.head, self.bias)

    def hidden(self, tokens: Tensor) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Last hidden states [batch, time, width] and each layer's memory."""
        time = tokens.shape[1]
        if time > self.config.context:
            raise errors.InputError(
                f"a sequence of {time} tokens is longer than context={self.config.context}; "
                "raise context or cut it"
            )
        turn = (self.cos[:time], self.sin[:time])
        x, memory = norm(self.embed(tokens)), []
        for layer in self.layers:
            x, kept = layer(x, turn)
            memory.append(kept)
        return x, memory

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, time, vocab] for tokens [batch, time]."""
        return self.logits(self.hidden(tokens)[0])

    def fingerprint(self) -> str:
        """16 hex digits that change with any weight or with the shape."""
        return fingerprint(self, self.config)


def save(model: Causal, path: str | Path) -> Path:
    """Write shape and weights to one file, which any device can read."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".part")
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    torch.save({"config": asdict(model.config), "weights": weights}, partial)
    partial.replace(path)
    return path


def load(path: str | Path) -> Causal:
    """Read a model written by `save`; only tensors and plain values are read, never code."""
    stored = torch.load(Path(path), map_location="cpu", weights_only=True)
    model = Causal(CausalConfig(**stored["config"]))
    model.load_state_dict(stored["weights"])
    return model.eval()


class _Batch:
    """Rows being sampled: their memory (keys and values), lengths, and where they belong. Rows come and go.

    Live rows are the first `len(self.index)` slots; when one ends, the last live row moves into its slot, so
    that leaving costs one row's copy, not the batch's.
    """

    def __init__(self, model: Causal, slots: int) -> None:
        config, device = model.config, model.device
        self.model, self.slots, self.device = model, slots, device
        self.index = np.zeros(0, dtype=np.int64)
        self.length = np.zeros(slots, dtype=np.int64)  # on the host, so that no step asks the device
        # Zeros, not empty: what lies beyond a row's end meets a weight of zero, and must be finite.
        size = (slots, config.heads, min(32, config.context), config.width // config.heads)
        self.keys = [torch.zeros(size, device=device) for _ in range(config.layers)]
        self.values = [torch.zeros(size, device=device) for _ in range(config.layers)]
        self.inputs = [torch.zeros(2, slots, config.width, device=device) for _ in range(config.layers)]

    def make_room(self, time: int) -> None:
        """Let keys and values hold `time` tokens; grows by doubling."""
        have = self.keys[0].shape[2]
        if time > have:
            more = min(max(time, 2 * have), self.model.config.context) - have
            self.keys = [F.pad(x, (0, 0, 0, more)) for x in self.keys]
            self.values = [F.pad(x, (0, 0, 0, more)) for x in self.values]

    def admit(self, index: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        """Take new rows in, and return the logits [rows, vocab] for their first new token."""
        length = np.array([len(p) for p in prompts])
        time = int(length.max())
        # Padded on the right: a causal model never looks there, and later keys overwrite the padding.
        x, memory = self.model.hidden(devices.put(padded(prompts, time), self.device))
        rows, last = (devices.put(a, self.device) for a in (np.arange(len(prompts)), length - 1))
        begin, end = len(self.index), len(self.index) + len(prompts)
        self.make_room(time)
        for layer, (k, v, first, second) in enumerate(memory):
            self.keys[layer][begin:end, :, :time], self.values[layer][begin:end, :, :time] = k, v
            self.inputs[layer][0, begin:end], self.inputs[layer][1, begin:end] = (
                first[rows, last],
                second[rows, last],
            )
        self.length[begin:end] = length
        self.index = np.concatenate((self.index, np.asarray(index, dtype=np.int64)))
        return self.model.logits(x[rows, last])

    def leave(self, gone: np.ndarray) -> np.ndarray:
        """Drop the rows where `gone` is true; returns the old place of each row left, in its new order."""
        order, live = np.arange(len(gone)), int((~gone).sum())
        holes, movers = np.flatnonzero(gone[:live]), live + np.flatnonzero(~gone[live:])
        order[holes] = movers
        if len(holes):
            to, source = devices.put(holes, self.device), devices.put(movers, self.device)
            longest = int(self.length[: len(gone)].max())
            for layer in range(len(self.keys)):
                for kept in (self.keys[layer], self.values[layer]):
                    kept[to, :, :longest] = kept[source, :, :longest]
                self.inputs[layer][:, to] = self.inputs[layer][:, source]
            self.length[holes] = self.length[movers]
        self.index = self.index[order[:live]]
        return order[:live]

    def step(self, tokens: Tensor) -> Tensor:
        """Put one token a row behind the others, and return the logits [rows, vocab] for the next."""
        model, live = self.model, len(self.index)
        lengths = self.length[:live]
        longest, even = int(lengths.max()) + 1, bool((lengths == lengths[0]).all())
        self.make_room(longest)
        # A copy: on the CPU the tensor would share memory with lengths that change below.
        at, rows = devices.put(lengths.copy(), self.device), torch.arange(live, device=self.device)
        turn = (model.cos[at][:, None], model.sin[at][:, None])
        # Rows of unequal length share the tensor; each must not see past its own end.
        mask = None
        if not even:
            beyond = torch.arange(longest, device=self.device)[None] > at[:, None]
            mask = torch.zeros(beyond.shape, device=self.device)
            mask = mask.masked_fill_(beyond, float("-inf"))[:, None, None]
        x = norm(model.embed(tokens))
        for number, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            keys, values, before = self.keys[number], self.values[number], self.inputs[number]
            first = norm(x)
            q, k, v = layer.project(layer.mixed(first, 0, before[0, :live])[:, None], turn)
            if even:
                keys[:live, :, longest - 1], values[:live, :, longest - 1] = k[:, :, 0], v[:, :, 0]
            else:
                keys[rows, :, at], values[rows, :, at] = k[:, :, 0], v[:, :, 0]
            mixed = attend(q, keys[:live, :, :longest], values[:live, :, :longest], mask)
            x = x + layer.out(mixed.transpose(1, 2).flatten(1))
            second = norm(x)
            x = x + layer.feed(layer.mixed(second, 1, before[1, :live]))
            before[0, :live], before[1, :live] = first, second
        self.length[:live] += 1
        return model.logits(x)


def padded(rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """Rows of tokens [rows, width], zeros behind each."""
    table = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def sharpen(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Chances after temperature, then top-k, then top-p (nucleus); temperature 0 is the most likely token."""
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        floor = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < floor, float("-inf"))
    chances = torch.softmax(logits, dim=-1)
    if top_p < 1:
        ordered, order = chances.sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p  # the token that crosses top_p still belongs
        chances = torch.zeros_like(chances).scatter(1, order, ordered.masked_fill(outside, 0.0))
    return chances


def draw(chances: Tensor, uniform: Tensor) -> Tensor:
    """One token a row by the inverse distribution function; `chances` need not sum to one."""
    steps = chances.double().cumsum(-1)
    target = uniform[:, None].double() * steps[:, -1:]
    # The first step above the target always has a chance above zero; rounding may reach the very end.
    return torch.searchsorted(steps, target, right=True)[:, 0].clamp(max=chances.shape[-1] - 1)


@torch.inference_mode()
def sample(
    model: Causal,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int] = 128,
    stop_token: int | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    banned: Sequence[int] = (),
    seed: int | Sequence[int] = 0,
    batch_size: int = 256,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Sampled]:
    """Continue each prompt, in order of the prompts; they may differ in length.

    `seed` is one number for the whole call, or one for each row: then a row's answer does not depend on its
    neighbours (up to rounding). Finished rows leave the batch at once and waiting prompts take their places.
    `banned` tokens are never drawn. Answers are cut where prompt and answer fill the model's context.
    """
    was_training = model.training
    model.eval()
    total, context = len(prompts), model.config.context
    asked = [max_new_tokens] * total if isinstance(max_new_tokens, int) else list(max_new_tokens)
    for row, prompt in enumerate(prompts):
        if not 0 < len(prompt) < context:
            raise errors.InputError(
                f"prompt {row} has {len(prompt)} tokens; between 1 and {context - 1} fit the model"
            )
    room = np.array([min(a, context - len(p)) for a, p in zip(asked, prompts, strict=True)], dtype=np.int64)
    longest = int(room.max(initial=0))
    uniforms = _uniforms(seed, total, longest)
    tokens = np.zeros((total, longest), dtype=np.int64)
    made, logprobs, finished = np.zeros(total, dtype=np.int64), np.zeros(total), np.zeros(total, dtype=bool)
    device = model.device
    forbid = devices.put(np.asarray(banned, dtype=np.int64), device)
    waiting = [int(i) for i in np.flatnonzero(room > 0)][::-1]
    batch = _Batch(model, min(batch_size, max(len(waiting), 1)))
    logits, done = torch.zeros(0, model.config.vocab_size, device=device), total - len(waiting)
    while waiting or len(batch.index):
        if waiting and 4 * len(batch.index) <= 3 * batch.slots:
            new = [waiting.pop() for _ in range(min(len(waiting), batch.slots - len(batch.index)))]
            logits = torch.cat((logits, batch.admit(new, [prompts[i] for i in new])))
        index = batch.index
        allowed = logits.index_fill(1, forbid, float("-inf")) if len(forbid) else logits
        uniform = devices.put(uniforms[index, made[index]], device)
        chosen = draw(sharpen(allowed, temperature, top_k, top_p), uniform)
        chances = torch.log_softmax(logits, -1).gather(1, chosen[:, None])[:, 0]
        # The one place in a step where the host waits for the device.
        told = torch.stack((chosen.double(), chances.double())).cpu().numpy()
        logprobs[index] += told[1]
        tokens[index, made[index]] = told[0]
        finished[index] = told[0] == stop_token
        made[index] += 1
        gone = finished[index] | (made[index] == room[index])
        if gone.any():
            done += int(gone.sum())
            if progress:
                progress("sample", done, total)
            chosen = chosen[devices.put(batch.leave(gone), device)]
        logits = batch.step(chosen) if len(chosen) else logits[:0]
    model.train(was_training)
    means = logprobs / np.maximum(made, 1)
    ends = made - finished  # the stop token is counted, not returned
    return [
        Sampled(tuple(row[:end].tolist()), float(mean), bool(stop))
        for row, end, mean, stop in zip(tokens, ends, means, finished, strict=True)
    ]


def _uniforms(seed: int | Sequence[int], rows: int, width: int) -> np.ndarray:
    """Random numbers [rows, width] in [0, 1); a row with its own seed has its own stream."""
    if isinstance(seed, int):
        return np.random.default_rng(seed).random((rows, width))
    return np.stack([np.random.default_rng(s).random(width) for s in seed]) if rows else np.zeros((0, width))


@torch.inference_mode()
def score(
    model: Causal,
    sequences: Sequence[Sequence[int]],
    *,
    prefix: int | Sequence[int] = 1,
    batch_size: int = 256,
) -> list[float]:
    """Mean log-probability (nats a token) of each sequence's tokens from position `prefix` on, in order."""
    was_training = model.training
    model.eval()
    starts = [prefix] * len(sequences) if isinstance(prefix, int) else list(prefix)
    result = np.zeros(len(sequences))
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        width = max(len(sequences[i]) for i in rows)
        scored = np.zeros((len(rows), width), dtype=bool)
        for row, i in enumerate(rows):
            scored[row, max(1, starts[i]) : len(sequences[i])] = True
        tokens = devices.put(padded([sequences[i] for i in rows], width), model.device)
        counted = devices.put(scored, model.device)
        chances = torch.log_softmax(model(tokens[:, :-1]).float(), -1).gather(2, tokens[:, 1:, None])[..., 0]
        sums, counts = (chances * counted[:, 1:]).sum(1), counted[:, 1:].sum(1).clamp(min=1)
        result[rows] = (sums / counts).cpu().numpy()
    model.train(was_training)
    return [float(v) for v in result]
