"""Any sentence-transformers model, by its name on the Hugging Face hub or its folder on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from karat.auditing.encoders._transformer import Transformer, load
from karat.errors import BadSetting


@dataclass(frozen=True)
class SentenceTransformers:
    """A sentence-transformers model: `sentence-transformers:NAME`, a hub name or a local folder.

    Source: Reimers and Gurevych 2019, Sentence-BERT.
    model: the hub name (sentence-transformers/all-MiniLM-L6-v2) or a folder
    batch: texts encoded at a time
    """

    model: str = ""
    batch: int = 32

    def fit(self, texts: Sequence[str], *, seed: int = 0) -> Transformer:
        """Return the model; it comes with its own weights, so the texts are not looked at."""
        if not self.model:
            raise BadSetting(
                "encoder 'sentence-transformers' needs a model: write sentence-transformers:NAME or :FOLDER"
            )
        short = Path(self.model).name if Path(self.model).is_dir() else self.model
        return load(self.model, name=f"sentence-transformers-{short}", batch=self.batch)
