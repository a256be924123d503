"""What all tests share: where the real data lies. Knows no part of karat."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets, named by the environment variable KARAT_DATA; skips without it."""
    folder = Path(os.environ.get("KARAT_DATA") or ROOT / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name its folder with the environment variable KARAT_DATA")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT
