"""Weights that the library transformers reads: found or fetched, told apart, opened. Knows no prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from karat.errors import ProviderError, missing_extra

# What decides an answer: settings, tokenizer with its chat template, weights. Not READMEs, nor other formats.
_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "*.bin")
_SMALL = 4_000_000
"""bytes; a file up to here is hashed by its content"""


def need(what: str) -> None:
    """Raise MissingExtra for `what`, such as "trainer 'encoder'", where torch or transformers is missing."""
    for package, extra in (("torch", "torch"), ("transformers", "hf")):
        if find_spec(package) is None:
            raise missing_extra(package, extra, what)


def loaded(kind: Any, path: str, **how: Any) -> Any:
    """`kind.from_pretrained` on files that are here. Raises ProviderError in one line."""
    folder = folder_of(path)
    try:
        with quiet():
            return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **how)
    except Exception as error:  # the library raises a dozen kinds, from OSError to KeyError
        raise ProviderError(
            f"the model {path!r} cannot be loaded ({line(error)}); give a folder with config.json, "
            "weights and tokenizer, as save_pretrained writes it"
        ) from None


def folder_of(path: str) -> Path:
    """The folder of a model: as given, or where the hub's files lie on this machine; fetched if need be."""
    given = Path(path).expanduser()
    if given.is_dir():
        return given
    cure = "give a folder that holds it, or fetch it where there is a network: hf download NAME"
    if (
        path.startswith(("/", ".", "~"))
        or path.count("/") > 1
        or given.suffix in (".jsonl", ".json", ".gguf")
    ):
        raise ProviderError(f"the model {path!r} is no folder; {cure}")
    from huggingface_hub import constants, snapshot_download

    patterns = list(_FILES)
    try:
        with quiet():
            try:
                return Path(snapshot_download(path, allow_patterns=patterns, local_files_only=True))
            except OSError:
                if constants.HF_HUB_OFFLINE:
                    raise
            hub_answers()
            return Path(snapshot_download(path, allow_patterns=patterns))
    except Exception as error:
        raise ProviderError(
            f"the model {path!r} is not on this machine and cannot be fetched ({line(error)}); {cure}"
        ) from None


def hub_answers(timeout: float = 5.0) -> None:
    """Raise OSError where the hub cannot be reached: its library would retry for a minute and more."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or getproxies():
        return  # offline fails at once by itself; behind a proxy a direct connection proves nothing
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=timeout).close()
    except OSError as error:
        raise OSError(f"{address.hostname} cannot be reached: {error}") from None


def digest(folder: Path) -> str:
    """Hash of a model's files: content of the small ones; name, size and time of weights.

    In the hub's cache a file is a link to one that is named by its content, which then stands for it.
    """
    told = hashlib.sha256()
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        real, facts = path.resolve(), path.stat()
        told.update(f"{path.name}\0{facts.st_size}\0".encode("utf-8", "surrogateescape"))
        if facts.st_size <= _SMALL:
            told.update(path.read_bytes())
        elif path.is_symlink() and real.parent.name == "blobs":
            told.update(real.name.encode())
        else:
            told.update(str(facts.st_mtime_ns).encode())
    return told.hexdigest()[:16]


def device(name: str) -> str:
    """The device that a setting names; auto is a GPU where there is one. Raises ProviderError."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ProviderError(
            f"device:{name} is not there (torch {torch.__version__} sees no GPU); use device:cpu"
        )
    return name


def dtype(name: str) -> Any:
    """The number format that a setting names: auto as it is, else torch's own."""
    import torch

    return name if name == "auto" else getattr(torch, name)


def dtype_word() -> str:
    """The keyword of `from_pretrained` for the number format: `torch_dtype` was renamed in 4.56."""
    from transformers import __version__

    release = tuple(int(part) for part in __version__.split(".")[:2])
    return "dtype" if release >= (4, 56) else "torch_dtype"


@contextmanager
def quiet() -> Iterator[None]:
    """A library draws nothing on the user's terminal."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def line(error: Exception) -> str:
    """The first line of what a library says, 160 characters at most."""
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.strip()[:160]
