"""Latent semantic analysis: an encoder learned from the audited texts, with nothing to download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.encoders.base import Vectors, hash_sample, unit_rows
from karat.auditing.features import FeatureSpace, featurise

if TYPE_CHECKING:
    import scipy.sparse

_BATCH = 5_000
_DENSE = 400
_FILE = "lsa.npz"


@dataclass(frozen=True)
class Lsa:
    """TF-IDF of words in few dimensions: a truncated SVD, and a random projection of what it leaves.

    An audit fits it on equally many texts of both sides, so that neither is better represented. Scaling what
    the SVD keeps to length one, as is usual, would count the part of a text that it drops as if it were like
    the rest: on 20-word reviews that turned the order of human and synthetic similarity round. The projection
    keeps that part's share of the length, so cosines are those of TF-IDF and copies have cosine 1.
    Sources: Deerwester et al. 1990 (latent semantic analysis); Achlioptas 2003 (projection by random signs).
    dims: dimensions of the SVD; fewer where the corpus has fewer independent texts
    rest: dimensions of the projection
    texts: the most texts it is fitted on, taken by hash
    words: the longest word n-gram, 1 or 2
    features: the most words and word pairs it knows, those of the most texts
    """

    dims: int = 128
    rest: int = 256
    texts: int = 5_000
    words: int = 1
    features: int = 30_000

    def __post_init__(self) -> None:
        for name, least in (("dims", 1), ("rest", 0), ("texts", 1), ("words", 1), ("features", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {least} or more")

    def fit(self, texts: Sequence[str], *, seed: int = 0) -> LsaModel:
        """Return the encoder fitted on (a hash sample of) the texts; deterministic for a seed."""
        sample = hash_sample(texts, self.texts)
        # In a handful of texts nearly every word is seen once; leaving those out would leave nothing.
        least = 2 if len(sample) >= 50 else 1
        sizes = tuple(range(1, self.words + 1))
        space, matrix = featurise(sample, words=sizes, min_documents=least, most=self.features)
        made_from = (self.dims, self.rest, self.words, self.features, seed)
        name = f"lsa-{self.dims}-{_digest(sample, made_from)}"
        if 0 in matrix.shape:
            return LsaModel(name, space, np.zeros((len(space.keys), 1), np.float32))
        strengths, axes = _axes(matrix, self.dims, seed)
        kept = axes[: max(1, int((strengths > 1e-6 * strengths[:1]).sum()))]
        signs = np.random.default_rng(seed).choice(
            np.array([-1, 1], np.float32), (matrix.shape[1], self.rest)
        )
        signs /= np.sqrt(max(1, self.rest))
        # what the axes already hold is taken out of the projection, once here instead of for every text
        left = signs - kept.T @ (kept @ signs)
        return LsaModel(name, space, np.concatenate([kept.T, left], axis=1).astype(np.float32))

    @staticmethod
    def load(folder: str | Path) -> LsaModel:
        """Return the fitted encoder that its `save` wrote."""
        with np.load(Path(folder) / _FILE, allow_pickle=False) as kept:
            words, chars = (tuple(kept[name].tolist()) for name in ("words", "chars"))
            space = FeatureSpace(kept["keys"], kept["idf"], kept["word"], words, chars)
            return LsaModel(str(kept["id"]), space, kept["directions"])


@dataclass(frozen=True)
class LsaModel:
    """A fitted LSA: its id (made from all it was fitted on), its features and the directions [m, d]."""

    id: str
    space: FeatureSpace
    directions: NDArray[np.float32]

    def save(self, folder: str | Path) -> Path:
        """Write all that it learned to a folder; no text is in it."""
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        space = {name: np.asarray(getattr(self.space, name)) for name in ("keys", "idf", "word")}
        sizes = {name: np.asarray(getattr(self.space, name), np.int64) for name in ("words", "chars")}
        parts: dict[str, Any] = {"id": np.asarray(self.id), "directions": self.directions, **space, **sizes}
        np.savez(home / _FILE, **parts)
        return home

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [n, d] of unit rows; zeros for a text without a single known word."""
        parts = [np.zeros((0, self.directions.shape[1]), np.float32)]
        for start in range(0, len(texts), _BATCH):
            parts.append(unit_rows(self.space.matrix(texts[start : start + _BATCH]) @ self.directions))
        return np.concatenate(parts)


def _axes(
    matrix: scipy.sparse.csr_matrix, dims: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the strongest singular values [d] and right singular vectors [d, m]."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # Thousands of small products: on a busy machine threads wait for each other, and cost 12 times as much.
    with threadpool_limits(1):
        return _few(matrix, dims) if min(matrix.shape) <= max(dims, _DENSE) else _many(matrix, dims, seed)


def _few(matrix: scipy.sparse.csr_matrix, dims: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Few texts or few words: the inner products of one kind fit, and ARPACK wants dims < min(n, m)."""
    tall = matrix.shape[0] > matrix.shape[1]
    inner = (matrix.T @ matrix if tall else matrix @ matrix.T).toarray().astype(np.float64)
    squares, vectors = np.linalg.eigh(inner)
    squares, vectors = squares[::-1][:dims], vectors[:, ::-1][:, :dims]
    kept = squares > 1e-10 * max(1e-30, squares.max(initial=0.0))
    strengths, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    axes = vectors.T if tall else (matrix.T @ vectors / strengths).T
    return strengths.astype(np.float32), np.asarray(axes, dtype=np.float32)


def _many(
    matrix: scipy.sparse.csr_matrix, dims: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Many texts: ARPACK, exact to single precision whatever the seed of its first vector."""
    from scipy.sparse.linalg import svds

    start = np.random.default_rng(seed).standard_normal(min(matrix.shape)).astype(np.float32)
    _, strengths, axes = svds(matrix, k=dims, v0=start, solver="arpack")
    return np.asarray(strengths[::-1], dtype=np.float32), np.asarray(axes[::-1], dtype=np.float32)


def _digest(sample: Sequence[str], settings: tuple[int, ...]) -> str:
    state = hashlib.blake2b(repr(settings).encode(), digest_size=4)
    for text in sample:
        state.update(text.encode("utf-8", "surrogatepass") + b"\x00")
    return state.hexdigest()
