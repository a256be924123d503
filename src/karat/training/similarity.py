"""The cosine of texts and references in the space of a sentence encoder. Knows no model and no score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from karat.auditing.encoders import base as encoders
from karat.training.base import Floats

ENCODER = "minilm"
"""all-MiniLM-L6-v2, which the published comparisons of instruction data use"""


def cosines(
    texts: Sequence[str],
    references: Sequence[str],
    *,
    encoder: Any = ENCODER,
    cache: str | Path | None = None,
    seed: int = 0,
) -> Floats:
    """Return the cosine of each text and its reference: float64 [n], from -1 to 1; an empty side gives 0.

    encoder: a part of the shelf of encoders. Cosines of two encoders cannot be compared; one that learns its
        space from texts (lsa) learns it from these. cache: a folder for the vectors.
    Raises MissingExtra where the encoder's library or weights are not installed.
    """
    assert len(texts) == len(references), f"{len(texts)} texts for {len(references)} references"
    unique = list(dict.fromkeys([*texts, *references]))
    if not unique:
        return np.zeros(0)
    fitted = encoders.cached(encoders.make(encoder).fit(unique, seed=seed), cache)
    vectors = encoders.unit_rows(fitted.encode(unique)).astype(np.float64)
    at = {text: row for row, text in enumerate(unique)}
    ours, theirs = ([at[text] for text in side] for side in (texts, references))
    return np.asarray(np.clip(np.einsum("nd,nd->n", vectors[ours], vectors[theirs]), -1.0, 1.0))
