"""COMETKiwi: reference-free quality estimation of translations by a trained model. Knows no record.

The package unbabel-comet (2.2.7, the newest) asks for numpy below 2 and transformers below 5, and so cannot
be installed beside karat. Score in an environment of its own (`comet-score -s SRC -t MT --model MODEL`), put
the scores into a field and order by that: `confidence:field=comet`. A COMET checkpoint is a pickle, which
that package loads: take it only from who you trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.errors import InputError, MissingExtra

MODEL = "Unbabel/wmt22-cometkiwi-da"


def load(model: str = MODEL) -> Any:
    """Return a COMET model: a checkpoint file, a folder that holds one, or a hub name.

    Raises MissingExtra without the package, InputError where the model cannot be loaded.
    """
    try:
        import comet  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise MissingExtra(
            "COMETKiwi needs the package 'unbabel-comet', whose releases up to 2.2.7 need numpy below 2 and "
            "cannot stand beside karat; score in an environment of its own (comet-score) and order by the "
            "field that holds the scores: confidence:field=comet"
        ) from None
    path = Path(model).expanduser()
    if path.is_dir():
        path = next(iter(sorted(path.rglob("*.ckpt"))), path / "checkpoints" / "model.ckpt")
    try:
        return comet.load_from_checkpoint(str(path) if path.is_file() else comet.download_model(model))
    except Exception as error:  # the hub, the licence that must be accepted first, a damaged file
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the COMET model {model!r} cannot be loaded ({first[:160]}); name its folder"
        ) from None


def scores(
    model: Any, sources: Sequence[str], translations: Sequence[str], *, batch: int = 16
) -> NDArray[np.float64]:
    """Return a score [n] for each pair; COMETKiwi's lie mostly between 0 and 1."""
    rows = [{"src": source, "mt": translation} for source, translation in zip(sources, translations)]
    found = model.predict(rows, batch_size=batch, gpus=0, progress_bar=False)
    return np.asarray(found.scores, dtype=np.float64)
