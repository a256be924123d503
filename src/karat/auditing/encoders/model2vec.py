"""Static word vectors distilled from a sentence encoder, by name or folder: thousands of texts a second."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from karat.auditing.encoders.base import Vectors, unit_rows
from karat.errors import BadSetting, InputError, MissingExtra


@dataclass(frozen=True)
class Model2vec:
    """A Model2Vec static model: `model2vec:NAME`, a hub name or a local folder.

    Some hundred times faster than a transformer, and another space: its scores cannot be compared with those
    of the transformer that it was made from.
    Source: Tulkens and van Dongen 2024, Model2Vec.
    model: the hub name (minishlab/potion-base-8M) or a folder
    """

    model: str = ""

    def fit(self, texts: Sequence[str], *, seed: int = 0) -> StaticVectors:
        """Return the model; it comes with its own weights, so the texts are not looked at."""
        if not self.model:
            raise BadSetting("encoder 'model2vec' needs a model: write model2vec:NAME or model2vec:FOLDER")
        opened = _open(self.model)
        probe = unit_rows(np.asarray(opened.encode(["A karat is a share of gold."]), dtype=np.float64))
        # the name alone would not notice that the weights behind it have changed
        digest = hashlib.blake2b(np.round(probe, 2).tobytes(), digest_size=3).hexdigest()
        short = Path(self.model).name if Path(self.model).is_dir() else self.model
        return StaticVectors(self.model, f"model2vec-{short}-{digest}", [opened])


@dataclass(frozen=True)
class StaticVectors:
    """A loaded model, sent to worker processes as its name and loaded again there."""

    model: str
    id: str
    _loaded: list[Any] = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "id": self.id, "_loaded": []}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [n, d] of unit rows; a text without a single known word gives zeros."""
        if not self._loaded:
            self._loaded.append(_open(self.model))
        # a batch of one would be a vector and not a matrix; worker processes are karat's business
        rows = self._loaded[0].encode(list(texts) or [""], show_progress_bar=False, use_multiprocessing=False)
        return unit_rows(np.atleast_2d(np.asarray(rows, dtype=np.float32))[: len(texts)])


def _open(model: str) -> Any:
    try:
        from model2vec import StaticModel  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise MissingExtra(
            f"the encoder 'model2vec:{model}' needs the package 'model2vec'; install it with: "
            "pip install model2vec"
        ) from None
    folder = Path(model).expanduser()
    if not folder.is_dir() and model.startswith(("/", ".", "~")):
        raise InputError(f"the model2vec model {model!r} cannot be loaded: there is no such folder")
    try:
        return StaticModel.from_pretrained(str(folder) if folder.is_dir() else model)
    except Exception as error:  # the hub client and the reader of weights raise a dozen kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the model2vec model {model!r} cannot be loaded ({first[:160]}); give a folder that holds it, "
            "or its hub name on a machine with network, or use the encoder 'lsa'"
        ) from None
