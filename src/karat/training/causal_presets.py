"""Sizes and training of the transformers that `gpt` trains; plain numbers, no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

EPOCHS = 8
"""Real text is read at most this often by the presets; a small corpus would be known by heart after that."""
_SHAPE = ("layers", "heads", "width", "context", "steps", "batch_tokens", "dropout", "pieces")


@dataclass(frozen=True)
class Preset:
    """Size and training of a model; the meaning of each number is that of `train_causal`.

    pieces: size of the BPE vocabulary, where words are too many.
    """

    layers: int
    heads: int
    width: int
    context: int
    steps: int
    batch_tokens: int
    dropout: float = 0.0
    pieces: int = 2048
    optimiser: str = "muon"
    lr: float = 0.03
    adam_lr: float = 0.03
    beta2: float = 0.98
    weight_decay: float = 0.05
    warmup: float = 0.03
    floor: float = 0.05
    validation_share: float = 0.05
    evaluations: int = 8
    evaluate_from: float = 0.25

    def training(self) -> dict[str, Any]:
        """How the weights move: what `train_causal` takes beside shape, length and batch."""
        return {name: value for name, value in asdict(self).items() if name not in _SHAPE}


PRESETS = {
    # mini: 0.1 M parameters, about eight seconds on one core; learns a grammar from 2,000 rows
    "mini": Preset(layers=2, heads=4, width=64, context=128, steps=360, batch_tokens=1536),
    # small: 0.8 M parameters, minutes on one core
    "small": Preset(
        layers=4, heads=4, width=128, context=256, steps=1500, batch_tokens=4096,
        lr=0.02, adam_lr=0.008, pieces=4096,
    ),
    # paper: the shape and training of Briesch et al. 2023, which are those of nanoGPT's character model
    # (10.6 M parameters, 64 x 256 tokens, rate 1e-3 down to a tenth after 100 steps of warm-up, the best
    # of 20 looks at a tenth of the rows); GPU hours
    "paper": Preset(
        layers=6, heads=6, width=384, context=256, steps=5000, batch_tokens=16384, dropout=0.2, pieces=4096,
        optimiser="adamw", adam_lr=1e-3, beta2=0.99, weight_decay=0.1, warmup=0.02, floor=0.1,
        validation_share=0.1, evaluations=20, evaluate_from=0.0,
    ),
}  # fmt: skip
