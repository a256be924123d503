"""Conditional probability curvature: how typical a text is of a local causal language model. Knows no corpus.

Fast-DetectGPT (Bao et al. 2024): machine text lies near the peak of what a model would have written at each
place, human text below it. Unlike DetectGPT (Mitchell et al. 2023) no text is rewritten; each token is held
against what the model would have drawn there, in closed form or by samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.errors import InputError, missing_extra

Floats = NDArray[np.float64]


def load(model: str) -> tuple[Any, Any]:
    """Return tokenizer and causal model of a folder in the Hugging Face format; nothing is downloaded.

    Raises MissingExtra without transformers, InputError where the folder holds no such model.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise missing_extra("transformers", "hf", "a curvature detector") from None
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name one that holds a causal model: lm=FOLDER")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises a dozen kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: no causal model can be loaded ({first[:160]})") from None
    return tokenizer, loaded.eval()


def discrepancies(
    texts: Sequence[str], tokenizer: Any, model: Any, *, samples: int = 0, most: int = 512, seed: int = 0
) -> Floats:
    """Return (log p(text) - mean) / deviation of what the model would draw in its place [n]; high: machine.

    samples: 0 takes mean and deviation in closed form (equation 4), else so many draws a place. most: tokens
    read of a text. NaN for a text of fewer than two tokens: its first token has nothing before it.
    """
    import torch

    found = np.full(len(texts), np.nan)
    generator = torch.Generator().manual_seed(seed)
    room: Any = getattr(model.config, "max_position_embeddings", None) or most
    with torch.no_grad():
        for row, text in enumerate(texts):
            tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=min(most, int(room)))
            ids = tokens["input_ids"]
            if ids.shape[1] < 2:
                continue
            logs = torch.log_softmax(model(input_ids=ids).logits[0, :-1].double(), dim=-1)
            found[row] = _discrepancy(logs, ids[0, 1:], samples, generator)
    return found


def _discrepancy(logs: Any, tokens: Any, samples: int, generator: Any) -> float:
    """The standardised log-likelihood of tokens [t] under log-probabilities [t, vocabulary]."""
    import torch

    own = logs.gather(1, tokens[:, None])[:, 0].sum()
    chances = logs.exp()
    if samples:
        drawn = torch.multinomial(chances, samples, replacement=True, generator=generator)
        totals = logs.gather(1, drawn).sum(dim=0)
        mean, deviation = totals.mean(), totals.std()
    else:
        safe = torch.where(chances > 0, logs, torch.zeros_like(logs))
        means = (chances * safe).sum(dim=1)
        mean = means.sum()
        deviation = ((chances * safe**2).sum(dim=1) - means**2).clamp_min(0).sum().sqrt()
    return float((own - mean) / deviation) if float(deviation) > 0 else 0.0
