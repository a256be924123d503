"""A training run on disk, so that a killed one goes on where it was; knows files and tensors, no optimiser.

A file belongs to one run: it carries the digest of the data and settings, and another run does not read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_FORMAT = 1


def digest(arrays: Sequence[np.ndarray], settings: Sequence[Any], weights: str) -> str:
    """32 hex digits that change with the data, any setting, or the weights that the run began with."""
    told = hashlib.sha256(json.dumps([_FORMAT, settings, weights], sort_keys=True, default=str).encode())
    for array in arrays:
        told.update(f"{array.dtype}{array.shape}".encode())
        told.update(np.ascontiguousarray(array).tobytes())
    return told.hexdigest()[:32]


def write(path: Path, run: str, state: Mapping[str, Any]) -> None:
    """Write the state of a run, of tensors and plain values; a kill leaves the old file or the new."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            torch.save({"run": run, "state": dict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path, run: str, device: torch.device) -> dict[str, Any] | None:
    """The state that `write` put there, tensors on the device; None where there is none of this run.

    A damaged file is no reason to fail: the run begins anew.
    """
    import torch

    try:
        found = torch.load(path, map_location=device, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None
    if not isinstance(found, dict) or found.get("run") != run:
        return None
    return dict(found["state"])


def generators(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's random generators that dropout draws from."""
    import torch

    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Let torch's generators go on where they were."""
    import torch

    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
