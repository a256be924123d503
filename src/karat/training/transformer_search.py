"""What a transformer writes for a source: by beam search, the most likely token, or drawn. Knows no text.

Keys and values of what was written are kept; those of the source are made once and shared by all beams of a
sentence. Sentences that are finished leave the batch at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from karat.generation.causal import draw, sharpen
from karat.training.transformer import END, PAD, START, Layer, Transformer, attend, padded


@dataclass(frozen=True)
class Found:
    """One answer: tokens without its end, the sum of their log-probabilities (nats, the end included).

    `score` is the sum divided by the length penalty. `finished` is false when the answer was cut.
    """

    tokens: tuple[int, ...]
    logprob: float
    score: float
    finished: bool


def penalty(length: float, alpha: float) -> float:
    """What sums of log-probabilities are divided by: ((5 + n) / 6)^alpha (Wu et al. 2016, equation 14)."""
    return float(((5.0 + length) / 6.0) ** alpha)


class Decoding:
    """Sentences being written, `beams` rows each: what the decoder remembers. Rows come out in order."""

    def __init__(self, model: Transformer, sources: Tensor, beams: int) -> None:
        self.model, self.beams, self.time = model, beams, 0
        seen, self.mask = model.encode(sources)
        self.layers: list[Layer] = list(model.decoder)  # type: ignore[arg-type]
        self.cross = [layer.cross.memory(seen) for layer in self.layers if layer.cross is not None]
        shape = (len(sources) * beams, model.config.heads, 0, model.config.width // model.config.heads)
        self.own = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.layers]

    def keep(self, rows: Tensor, sentences: Tensor | None) -> None:
        """Go on with these rows (in this order) and, unless it is None, with these sentences only."""
        self.own = [(k[rows], v[rows]) for k, v in self.own]
        if sentences is not None:
            self.cross = [(k[sentences], v[sentences]) for k, v in self.cross]
            self.mask = None if self.mask is None else self.mask[sentences]

    def step(self, tokens: Tensor) -> Tensor:
        """Put one token a row [rows] behind the others; the log-probabilities [rows, vocab] of the next."""
        model, beams = self.model, self.beams
        x = model.embedded(tokens[:, None], self.time)
        self.time += 1
        for number, layer in enumerate(self.layers):
            inner = layer.before(x, 0)
            k, v = layer.own.memory(inner)
            k, v = torch.cat((self.own[number][0], k), dim=2), torch.cat((self.own[number][1], v), dim=2)
            self.own[number] = (k, v)
            x = layer.after(x, layer.own(inner, (k, v), None), 0)
            assert layer.cross is not None
            # The beams of a sentence are so many queries to one memory.
            inner = layer.before(x, 1).view(-1, beams, x.shape[-1])
            found = attend(layer.cross.queries(inner), *self.cross[number], self.mask)
            x = layer.after(x, layer.cross.out(found.transpose(1, 2).flatten(2)).view(x.shape), 1)
            x = layer.after(x, layer.feed(layer.before(x, 2)), 2)
        logits = model.logits(model.ends[1](x))[:, 0].float()
        logits[:, [PAD, START]] = float("-inf")
        return torch.log_softmax(logits, dim=-1)


def rooms(sources: Sequence[Sequence[int]], most: int | Sequence[int]) -> list[int]:
    """The most tokens of each answer, its end not counted: as asked, or 0 for twice the source and ten."""
    asked = [most] * len(sources) if isinstance(most, int) else list(most)
    return [limit or 2 * len(source) + 10 for limit, source in zip(asked, sources, strict=True)]


@torch.inference_mode()
def translate(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    *,
    beam: int = 4,
    alpha: float = 0.6,
    max_new_tokens: int | Sequence[int] = 0,
    batch_tokens: int = 4096,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | Sequence[int] = 0,
) -> list[Found]:
    """Answer each source (token rows without end), in order.

    temperature 0: the best answer of a beam search (beam=1: the most likely token each time). Above 0 each
    token is drawn, with one seed for all or one a source. A sum is of the model's own log-probabilities.
    """
    was_training = model.training
    model.eval()
    found: list[Found | None] = [None] * len(sources)
    limits = rooms(sources, max_new_tokens)
    width = 1 if temperature else beam
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    begin = 0
    while begin < len(order):
        rows = [order[begin]]
        for i in order[begin + 1 :]:
            if (len(rows) + 1) * width * (len(sources[i]) + 1) > batch_tokens:
                break
            rows.append(i)
        begin += len(rows)
        tensor = padded([[*sources[i], END] for i in rows])
        most = [limits[i] for i in rows]
        if width == 1:
            seeds = [seed * 1_000_003 + i if isinstance(seed, int) else seed[i] for i in rows]
            made = _walk(model, tensor, most, alpha, temperature, top_p, seeds)
        else:
            made = _Beam(model, tensor, most, width, alpha).run()
        for i, one in zip(rows, made, strict=True):
            found[i] = one
    model.train(was_training)
    return [one for one in found if one is not None]


def _walk(
    model: Transformer,
    sources: Tensor,
    most: Sequence[int],
    alpha: float,
    temperature: float,
    top_p: float,
    seeds: Sequence[int],
) -> list[Found]:
    """One row a sentence: the most likely token each time, or drawn by each sentence's own numbers."""
    total, decoding = len(sources), Decoding(model, sources, 1)
    generators = [np.random.default_rng(abs(seed)) for seed in seeds] if temperature else []
    tokens: list[list[int]] = [[] for _ in range(total)]
    sums, finished = np.zeros(total), np.zeros(total, dtype=bool)
    index, last = np.arange(total), torch.full((total,), START)
    room = np.asarray(most)
    while len(index):
        logs = decoding.step(last)
        if temperature:
            uniform = torch.tensor([generators[i].random() for i in index])
            last = draw(sharpen(logs, temperature, 0, top_p), uniform)
        else:
            last = logs.argmax(-1)
        said, at = last.numpy(), logs.gather(1, last[:, None])[:, 0].double().numpy()
        finished[index] = said == END
        # The step beyond the last token is there for the end alone.
        counts = finished[index] | (decoding.time <= room[index])
        sums[index[counts]] += at[counts]
        for i, token in zip(index[counts].tolist(), said[counts].tolist()):
            if token != END:
                tokens[i].append(token)
        live = np.flatnonzero(~finished[index] & (decoding.time <= room[index]))
        if len(live) < len(index):
            index, rows = index[live], torch.from_numpy(live)
            last = last[rows]
            decoding.keep(rows, rows)
    return [
        Found(tuple(row), float(value), float(value) / penalty(len(row) + bool(end), alpha), bool(end))
        for row, value, end in zip(tokens, sums, finished)
    ]


@dataclass
class _Kept:
    """The answers of one sentence that are finished; the best is kept, and how many there were."""

    count: int = 0
    best: Found | None = None
    cut: Found | None = None

    def add(self, one: Found) -> None:
        if one.finished:
            self.count += 1
            if self.best is None or one.score > self.best.score:
                self.best = one
        elif self.cut is None or one.score > self.cut.score:
            self.cut = one


class _Beam:
    """Beam search over a batch of sentences.

    A sentence is done when none that is still open can become better than the best finished answer, as
    log-probabilities only fall and the penalty of the longest length is known; or when as many answers as
    beams are finished and none that is open would be better if it ended now for free.
    """

    def __init__(
        self, model: Transformer, sources: Tensor, most: Sequence[int], beams: int, alpha: float
    ) -> None:
        self.beams, self.alpha, self.most = beams, alpha, np.asarray(most)
        self.decoding = Decoding(model, sources, beams)
        self.kept = [_Kept() for _ in most]
        self.index = np.arange(len(most))
        # All beams begin alike, so only the first of each may be gone on with.
        self.sums = torch.full((len(most), beams), float("-inf"), dtype=torch.float64)
        self.sums[:, 0] = 0.0
        self.tokens = torch.zeros(len(most), beams, 0, dtype=torch.long)
        self.ceiling = np.array([penalty(n + 1, alpha) for n in self.most])

    def run(self) -> list[Found]:
        """Write until all sentences are done."""
        last = torch.full((len(self.index) * self.beams,), START)
        while len(self.index):
            last = self._step(self.decoding.step(last))
        return [kept.best or kept.cut or Found((), 0.0, float("-inf"), False) for kept in self.kept]

    def _step(self, logs: Tensor) -> Tensor:
        """Choose how each sentence goes on; returns the token of each row that is left."""
        size, beams, length = len(self.index), self.beams, self.tokens.shape[2]
        # An end leaves the beam, so that of twice as many enough go on.
        logs, said = logs.topk(min(2 * beams, logs.shape[-1]), dim=1)
        each = logs.shape[-1]
        total = (self.sums[..., None] + logs.view(size, beams, each).double()).flatten(1)
        values, places = total.topk(min(2 * beams, beams * each), dim=1)
        origin, token = places // each, said.view(size, -1).gather(1, places)
        ended = token == END
        self._finish(values[:, :beams], origin[:, :beams], ended[:, :beams], length)
        values = values.masked_fill(ended, float("-inf"))
        self.sums, choice = values.topk(beams, dim=1)
        origin, token = origin.gather(1, choice), token.gather(1, choice)
        before = self.tokens.gather(1, origin[..., None].expand(-1, -1, length))
        self.tokens = torch.cat((before, token[..., None]), dim=2)
        open_ = self._open(length + 1)
        rows = (torch.arange(size)[:, None] * beams + origin)[open_]
        sentences = torch.from_numpy(np.flatnonzero(open_.numpy()))
        self.decoding.keep(rows.flatten(), sentences if len(sentences) < size else None)
        self.index = self.index[open_.numpy()]
        self.sums, self.tokens = self.sums[open_], self.tokens[open_]
        return token[open_].flatten()

    def _finish(self, values: Tensor, origin: Tensor, ended: Tensor, length: int) -> None:
        weight = penalty(length + 1, self.alpha)
        for row, beam in torch.nonzero(ended & torch.isfinite(values)).tolist():
            sum_ = float(values[row, beam])
            tokens = tuple(self.tokens[row, origin[row, beam]].tolist())
            self.kept[self.index[row]].add(Found(tokens, sum_, sum_ / weight, True))

    def _open(self, length: int) -> Tensor:
        """Which sentences go on [sentences]; what is cut is remembered in case nothing ends."""
        best = self.sums[:, 0].numpy()
        going = np.ones(len(self.index), dtype=bool)
        for row, sentence in enumerate(self.index.tolist()):
            kept = self.kept[sentence]
            if length == self.most[sentence]:  # one more step, for the end alone
                tokens, sum_ = tuple(self.tokens[row, 0].tolist()), float(best[row])
                kept.add(Found(tokens, sum_, sum_ / penalty(length, self.alpha), False))
            if length > self.most[sentence] or not np.isfinite(best[row]):
                going[row] = False
            elif kept.best is not None:
                free = kept.count >= self.beams
                weight = penalty(length + 1, self.alpha) if free else self.ceiling[sentence]
                going[row] = best[row] / weight > kept.best.score
        return torch.from_numpy(going)
