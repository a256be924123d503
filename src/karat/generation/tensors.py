"""Torch and its tokenizers in this process: threads, the digest of weights. Knows no model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from karat.errors import missing_extra


@contextmanager
def threads(wanted: int, what: str) -> Iterator[None]:
    """Let torch use so many threads (0: as many as it does), and afterwards as many as before.

    Raises MissingExtra for `what`, such as "trainer 'gpt'", where torch is missing.
    """
    try:
        import torch
    except ImportError:
        raise missing_extra("torch", "torch", what) from None
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fingerprint(network: Any, config: Any) -> str:
    """Return 16 hex digits that change with any weight of a module or with its shape, a dataclass."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def learn_pieces(texts: Sequence[str], size: int, what: str, *, space: bool) -> str:
    """Return a byte-level BPE of `size` tokens as JSON, learned from texts; each pair occurs twice at least.

    space: whether one stands in front of each text, so that its first word is the same piece as elsewhere.
    Raises MissingExtra for `what`.
    """
    tokenizers = _tokenizers(what)
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=space)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    bpe.train_from_iterator(texts, trainer, length=len(texts))
    return str(bpe.to_str())


def load_pieces(pieces: str, what: str) -> Any:
    """Return the tokeniser that `learn_pieces` wrote. Raises MissingExtra for `what`."""
    return _tokenizers(what).Tokenizer.from_str(pieces)


def _tokenizers(what: str) -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise missing_extra("tokenizers", "torch", what) from None
    return tokenizers
