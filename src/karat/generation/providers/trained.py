"""A model that karat has trained and saved answers requests. Knows no trainer by name and no recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from karat.errors import InputError
from karat.generation.base import Answered, Price, Request, identity, most
from karat.generation.saved_models import load_model, read_saved


@dataclass(frozen=True)
class Trained:
    """A model that was trained and saved before: the folder names its trainer, which loads it.

    path: the folder of the model.
    """

    path: str

    @property
    def model(self) -> str:
        """The name that the model has for itself; it changes with its weights."""
        return str(self._loaded.model)

    @property
    def identity(self) -> str:
        """All that may change the answers; where the folder lies is no part of it."""
        return identity(self._loaded)

    @property
    def batch_size(self) -> int:
        """The most requests in one call."""
        return int(getattr(self._loaded, "batch_size", 1))

    @property
    def concurrency(self) -> int:
        """The most calls at a time."""
        return int(getattr(self._loaded, "concurrency", 1))

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be written, where the model is a server's."""
        return tuple(getattr(self._loaded, "secrets", ()))

    @cached_property
    def saw(self) -> tuple[str, ...]:
        """Fingerprints of the records that it was trained on, for the lineage."""
        return read_saved(self.path).saw

    def price(self, request: Request) -> Price:
        """The most that a request can cost."""
        return most(self._loaded, request)

    async def complete(self, requests: Sequence[Request]) -> Sequence[Answered]:
        """Answer requests."""
        found: Sequence[Answered] = await self._loaded.complete(requests)
        return found

    async def close(self) -> None:
        """Close what the model has opened."""
        close = getattr(self._loaded, "close", None)
        if close is not None:
            await close()

    @cached_property
    def _loaded(self) -> Any:
        found = load_model(self.path)
        if not callable(getattr(found, "complete", None)):
            raise InputError(
                f"{self.path}: a model of the trainer {read_saved(self.path).trainer!r} labels records and "
                "writes none; name a model that generates, for example of the trainer sft"
            )
        return found

    def __getstate__(self) -> dict[str, Any]:
        """A worker loads the model from its folder."""
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
