"""A few thousand records on their way to a worker. Knows which view takes which record, and no summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing import tokens as token_tools
from karat.auditing.base import Fitted, Need
from karat.auditing.tokens import Tokens

UNLABELLED = "\x00none"  # stands for a missing label in arrays of labels
OUT = 255  # the group of a record that a view does not select


@dataclass(frozen=True)
class Shard:
    """A few thousand records on their way to a worker: columns, and which view takes which record."""

    texts: pa.Array
    ids: tuple[str, ...]
    labels: tuple[str | None, ...] | None
    keys: NDArray[np.uint64]  # the hash that orders the records
    content: NDArray[np.uint64]  # the hash of the text alone
    clusters: NDArray[np.uint64]  # records of one cluster share a source and are never split
    places: NDArray[np.int64]  # the position of each record in its corpus
    members: Mapping[str, NDArray[np.uint8]]  # view -> group of each record, or OUT
    sides: Mapping[str, int]  # view -> G: groups 0 .. G-1 are the corpus, G .. 2G-1 its spare records
    cuts: Mapping[str, Mapping[int, int]]  # view -> record -> number of tokens kept
    encoders: Mapping[str, Fitted] = field(default_factory=dict)
    columns: Mapping[str, pa.Array] = field(default_factory=dict)  # further fields of the records, as asked
    _vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)
    _tokens: dict[tuple[str, str], Tokens] = field(default_factory=dict, repr=False, compare=False)

    def groups(self, need: Need) -> NDArray[np.uint8]:
        """uint8 [n]: the replicate group of each record in the need's view."""
        return self.members[view_key(need)]

    def side(self, need: Need) -> int:
        """G, the number of replicate groups of one side in the need's view."""
        return self.sides[view_key(need)]

    def label_array(self) -> NDArray[Any]:
        """The label of each record as text; UNLABELLED where there is none."""
        if self.labels is None:
            return np.full(len(self.ids), UNLABELLED, dtype=object)
        return np.array([UNLABELLED if one is None else one for one in self.labels], dtype=object)

    def vectors(self, encoder: str) -> NDArray[np.float32]:
        """float32 [n, d]: the vectors of all texts, made once for all that need them."""
        if encoder not in self._vectors:
            texts = [text or "" for text in self.texts.to_pylist()]
            self._vectors[encoder] = self.encoders[encoder].encode(texts)
        return self._vectors[encoder]

    def tokens(self, need: Need) -> Tokens:
        """The hashed tokens of all texts, the last record of the view cut to size; made once."""
        tokeniser = str(need.get("tokens", "word"))
        whole = self._tokens.get((tokeniser, ""))
        if whole is None:
            whole = self._tokens[tokeniser, ""] = token_tools.tokenise(self.texts, tokeniser)
        view = view_key(need)
        if not self.cuts.get(view):
            return whole
        if (tokeniser, view) not in self._tokens:
            self._tokens[tokeniser, view] = token_tools.cut(whole, dict(self.cuts[view]))
        return self._tokens[tokeniser, view]


def view_key(need: Need) -> str:
    """The name of the selection that a need looks at; equal tokens depend on the tokeniser."""
    return f"tokens:{need.get('tokens', 'word')}" if need.view == "tokens" else need.view
