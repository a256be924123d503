"""What an encoder is, how one is named, and how its vectors are kept on disk. Knows no encoder.

An encoder part is fitted once, on a bounded sample, and gives a `Fitted`: something small enough to be sent
to worker processes, with an id that stands in the signature of every number made with it. Values of
different encoders are never comparable.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.auditing.base import Fitted

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """A part on the shelf of encoders."""

    def fit(self, texts: Sequence[str], *, seed: int = 0) -> Fitted:
        """Return the encoder ready to encode; those with weights of their own ignore the texts."""
        ...


def make(spec: Any) -> Encoder:
    """Return the encoder that a spec names: `lsa`, `lsa:dims=64`, `minilm`, `sentence-transformers:NAME`."""
    return cast("Encoder", registry.make("encoders", spec))


@lru_cache(maxsize=2)
def fixed(spec: str) -> Fitted | None:
    """Return the encoder that a spec names, ready to encode, kept for the next call; None where it learns.

    The id of a fitted encoder tells, since it names all that its vectors depend on.
    """
    part = make(spec)
    one, other = part.fit(["a karat is a share of gold"]), part.fit(["all else in an alloy is not gold"])
    return one if one.id == other.id else None


def unit_rows(rows: NDArray[Any]) -> Vectors:
    """Return rows of length one; rows of zeros (nothing to encode) and of no numbers become zeros."""
    exact = np.nan_to_num(np.asarray(rows, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.sqrt(np.einsum("nd,nd->n", exact, exact))[:, None]
    scaled = np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 1e-12)
    return np.asarray(scaled, dtype=np.float32)


def hash_sample(texts: Sequence[str], limit: int) -> list[str]:
    """Return at most `limit` different texts, the first by hash: the same whatever the order of the file."""
    ranked = sorted(
        (hashlib.blake2b(_bytes(text), digest_size=8).digest(), text) for text in set(texts) if text
    )
    return [text for _, text in ranked[:limit]]


@dataclass(frozen=True)
class Cached:
    """A fitted encoder that keeps every vector in a folder, named by the encoder's id and the text's hash."""

    inner: Fitted
    folder: str
    _known: dict[bytes, tuple[Vectors, int]] = field(default_factory=dict, repr=False, compare=False)
    _files: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def id(self) -> str:
        """The id of the encoder; where a vector comes from does not change it."""
        return self.inner.id

    def __getstate__(self) -> dict[str, Any]:
        # A worker reads the folder for itself: what is in memory here may be far larger than its shard.
        return {"inner": self.inner, "folder": self.folder, "_known": {}, "_files": set()}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors [n, d]; only texts never seen before cost anything."""
        keys = [hashlib.blake2b(_bytes(text), digest_size=16).digest() for text in texts]
        self._read()
        new = {key: text for key, text in zip(keys, texts) if key not in self._known}
        if new:
            self._write(list(new), self.inner.encode(list(new.values())))
        if not keys:
            return self.inner.encode([])
        return np.stack([self._known[key][0][self._known[key][1]] for key in keys])

    @property
    def _home(self) -> Path:
        name = hashlib.blake2b(self.id.encode(), digest_size=8).hexdigest()
        return Path(self.folder) / name

    def _read(self) -> None:
        """Read the files that this or another process has added since the last time."""
        for path in sorted(self._home.glob("*.npz")) if self._home.is_dir() else ():
            if path.name in self._files:
                continue
            with np.load(path) as kept:
                self._learn(kept["keys"], kept["vectors"])
            self._files.add(path.name)

    def _write(self, keys: list[bytes], vectors: Vectors) -> None:
        """Add one file; it appears under its name only when it is whole."""
        self._home.mkdir(parents=True, exist_ok=True)
        packed = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 16)
        handle, draft = tempfile.mkstemp(dir=self._home, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, keys=packed, vectors=vectors)
            name = hashlib.blake2b(packed.tobytes(), digest_size=8).hexdigest() + ".npz"
            os.replace(draft, self._home / name)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        self._files.add(name)
        self._learn(packed, vectors)

    def _learn(self, keys: NDArray[np.uint8], vectors: Vectors) -> None:
        for row, key in enumerate(keys):
            self._known[key.tobytes()] = (vectors, row)


def cached(fitted: Fitted, folder: str | Path | None) -> Fitted:
    """Return the encoder with a cache in `folder`; without a folder, the encoder itself."""
    return fitted if folder is None else Cached(fitted, str(folder))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
