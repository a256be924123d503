"""Vectors of texts for filters, orderings and mixtures, by any encoder of the shelf. Knows no encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from karat.auditing.encoders.base import Vectors, cached, make

Floats = Vectors
"""float32 [n, d] of unit rows; a text without anything to encode is a row of zeros"""


def embed(
    texts: Sequence[str],
    encoder: str = "lsa",
    *,
    cache: Path | None = None,
    fit_on: Sequence[str] | None = None,
    seed: int = 0,
) -> Floats:
    """Return the vectors [n, d] of texts, unit rows, so that an inner product is a cosine.

    encoder: a spec of the encoders shelf: lsa, lsa:dims=64, minilm, sentence-transformers:NAME.
    cache: folder in which vectors are kept; equal texts under an equal encoder are encoded once.
    fit_on: what an encoder without weights of its own is fitted on; the texts themselves when None.
    Vectors of two calls can be compared only if encoder, `fit_on` and seed are equal.
    """
    fitted = make(encoder).fit(texts if fit_on is None else fit_on, seed=seed)
    return cached(fitted, cache).encode(list(texts))
