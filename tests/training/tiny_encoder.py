"""A randomly initialised BERT of two layers, made on the spot. Knows no test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def tiny_encoder(folder: Path, words: Sequence[str], *, seed: int = 3) -> Path:
    """Write an encoder whose tokenizer knows these words to a folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=40,
            initializer_range=0.1,  # vectors of words as far apart as pretraining puts them
        )
        BertModel(config).save_pretrained(folder)
    numbered = {word: i for i, word in enumerate(vocabulary)}
    BertTokenizerFast(vocab=numbered, model_max_length=40).save_pretrained(folder)
    return folder
