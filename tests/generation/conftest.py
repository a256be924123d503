"""What the tests of generation share: invented human records and tiny models. Torch runs on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from karat import records
from karat.records import Records


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Threads only wait for each other where the models are tiny."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def remarks() -> Records:
    """240 records of two classes with two subjects each, of all lengths; one in five has brackets."""
    subjects = {
        "animal": ("the old dog barks at another dog", "a grey cat sleeps beside the warm cat"),
        "weather": ("heavy rain falls on the wet rain roof", "cold snow covers the white snow fields"),
    }
    rows = []
    for i in range(240):
        label = ("animal", "weather")[i % 2]
        text = subjects[label][i // 2 % 2] + " again and again" * (i % 7)
        rows.append({"text": text + (" (or so it seems)" if i % 5 == 0 else ""), "label": label})
    return records.from_rows(rows, datatype="classification")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of 100,000 parameters as a transformers folder; made in about five seconds."""
    pytest.importorskip("transformers")
    from tiny_models import make_folder

    return make_folder(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_gguf(tiny_folder: Path) -> Path:
    """The same model as a file for llama.cpp."""
    pytest.importorskip("gguf", reason="the package gguf is not installed: pip install 'karat[servers]'")
    from tiny_models import make_gguf

    return make_gguf(tiny_folder, tiny_folder.parent / "tiny.gguf")
