"""nanoGPT as its own loop drives it: the model from a folder that the user names, batches, steps, samples.

Its `model.py` is imported from there and used as it is. What stands here follows its training script: random
windows of one stream of tokens, AdamW with a warm-up and a cosine down to a tenth, gradients clipped at one,
fp32 on the CPU and bf16 on CUDA.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


def module(folder: Path) -> Any:
    """nanoGPT's `model.py` of that folder, as a module."""
    file = folder / "model.py"
    if not file.is_file():
        raise SystemExit(f"no {file}; clone https://github.com/karpathy/nanoGPT and name its folder")
    spec = importlib.util.spec_from_file_location("nanogpt_model", file)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = found
    spec.loader.exec_module(found)
    return found


class Peer:
    """One nanoGPT, its optimiser and its data."""

    def __init__(
        self,
        nano: Any,
        stream: np.ndarray,
        shape: dict[str, int],
        *,
        batch: int,
        lr: float,
        horizon: int,
        seed: int = 0,
        half: bool = False,
        dropout: float = 0.0,
    ) -> None:
        torch.manual_seed(seed)
        self.stream, self.block, self.batch = stream.astype(np.uint16), shape["context"], batch
        self.lr, self.horizon, self.half, self.done = lr, horizon, half, 0
        config = nano.GPTConfig(
            block_size=shape["context"],
            vocab_size=shape["vocab_size"],
            n_layer=shape["layers"],
            n_head=shape["heads"],
            n_embd=shape["width"],
            dropout=dropout,
            bias=False,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = nano.GPT(config)
            self.optimiser = self.model.configure_optimizers(0.1, lr, (0.9, 0.99), "cpu")
        self.model.train()

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        return sum(p.numel() for p in self.model.parameters())

    def rate(self) -> float:
        """Its learning rate now: 100 steps up (a tenth of a short run), a cosine down to a tenth."""
        warm = min(100, self.horizon // 10)
        if self.done < warm:
            return self.lr * (self.done + 1) / (warm + 1)
        share = min(1.0, (self.done - warm) / max(1, self.horizon - warm))
        return self.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))

    def steps(self, count: int) -> int:
        """Train for some steps; returns the tokens seen."""
        for _ in range(count):
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate()
            begin = torch.randint(len(self.stream) - self.block, (self.batch,))
            x, y = (
                torch.stack(
                    [
                        torch.from_numpy(self.stream[i + by : i + by + self.block].astype(np.int64))
                        for i in begin
                    ]
                )
                for by in (0, 1)
            )
            with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                _, loss = self.model(x, y)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            self.done += 1
            loss.item()
        return count * self.batch * self.block

    @torch.no_grad()
    def loss(self, rows: Sequence[Sequence[int]]) -> float:
        """Nats a token of rows; each begins with the token that ends texts, which is given."""
        self.model.eval()
        total, count = 0.0, 0
        for begin in range(0, len(rows), 256):
            some = rows[begin : begin + 256]
            width = max(map(len, some))
            x = torch.zeros(len(some), width - 1, dtype=torch.long)
            y = torch.full((len(some), width - 1), -1)
            for number, row in enumerate(some):
                x[number, : len(row) - 1] = torch.tensor(row[:-1])
                y[number, : len(row) - 1] = torch.tensor(row[1:])
            scored = int((y >= 0).sum())
            total, count = total + float(self.model(x, y)[1]) * scored, count + scored
        self.model.train()
        return total / count

    def generate(self, rows: int, tokens: int, temperature: float, end: int, seed: int) -> list[list[int]]:
        """Its own `generate`, each row begun by the token that ends texts, which is not returned."""
        torch.manual_seed(seed)
        self.model.eval()
        made = self.model.generate(torch.full((rows, 1), end), tokens, temperature=temperature)
        self.model.train()
        return [row[1:] for row in made.tolist()]
