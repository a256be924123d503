"""Records on their way to a worker, a few thousand at a time. Knows which view takes which, and no summary.

A corpus is a table of columns, in memory or in a file that every worker maps for itself. What travels is a
`Stretch`: where the columns are and which records are meant. A worker cuts it into shards of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing.base import Fitted, Need
from karat.formats import mapped, release
from karat.texts import tokens as token_tools
from karat.texts.tokens import Tokens

UNLABELLED = "\x00none"  # stands for a missing label in arrays of labels
OUT = 255  # the group of a record that a view does not select
FIELD = "field:"  # before the name of a further field, in the columns of a corpus
Ngrams = tuple[NDArray[np.uint64], NDArray[np.int64]]
MEMBER = "member:"  # before the name of a view, likewise


@dataclass(frozen=True)
class Stretch:
    """Consecutive records of a corpus: its columns (tables, or files that hold them) and where shards begin.

    edges: rows of the columns: the first record, where each further shard begins, and the end
    base: the record of the corpus that stands in row 0
    """

    columns: tuple[pa.Table | str, ...]
    edges: tuple[int, ...]
    base: int = 0

    def tables(self) -> Iterator[tuple[int, dict[str, pa.Array]]]:
        """For each shard the number of its first record and its columns; mapped pages are given back."""
        held = [mapped(one) if isinstance(one, str) else one for one in self.columns]
        for start, stop in zip(self.edges, self.edges[1:]):
            parts = [table.slice(start, stop - start) for table in held]
            yield (
                self.base + start,
                {name: whole(part.column(name)) for part in parts for name in part.column_names},
            )
            release()

    def __reduce__(self) -> tuple[Any, ...]:
        # Columns in memory travel as a copy of these records alone: Arrow would send the whole corpus along.
        first, last = self.edges[0], self.edges[-1]
        if all(isinstance(one, str) for one in self.columns):
            return Stretch, (self.columns, self.edges, self.base)
        tables = [mapped(one) if isinstance(one, str) else one for one in self.columns]
        sent = tuple(_sent(table.slice(first, last - first)) for table in tables)
        return _received, (sent, tuple(edge - first for edge in self.edges), self.base + first)


def _sent(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _received(sent: Sequence[bytes], edges: tuple[int, ...], base: int) -> Stretch:
    return Stretch(tuple(pa.ipc.open_stream(part).read_all() for part in sent), edges, base)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """One array of a short column; copied only where it spans chunks."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


@dataclass(frozen=True)
class Plan:
    """What a worker must know to collect summaries of any stretch of one corpus."""

    needs: tuple[Need, ...]
    sides: Mapping[str, int]
    """View -> G: groups 0 .. G-1 are the corpus, G .. 2G-1 its spare records."""
    cuts: Mapping[str, Mapping[int, int]]
    """View -> record -> number of tokens kept."""
    limits: Mapping[Need, tuple[int, int]] = field(default_factory=dict)
    """Need -> the largest key that its limit can keep, in the corpus and among its spare records."""
    encoders: Mapping[str, Fitted] = field(default_factory=dict)
    folder: str | None = None
    """Where summaries that grow with the corpus are filed; in memory when not given."""

    def shards(self, stretch: Stretch) -> Iterator[Shard]:
        """The shards of a stretch, without the records that no view selects."""
        for start, columns in stretch.tables():
            size = len(columns["text"])
            inside = np.zeros(size, np.bool_)
            for name, column in columns.items():
                if name.startswith(MEMBER):
                    inside |= _numbers(column) != OUT
            rows = np.flatnonzero(inside)
            if len(rows) < size:
                columns = {name: column.take(pa.array(rows)) for name, column in columns.items()}
            yield self._shard(start + rows, columns)

    def _shard(self, places: NDArray[np.int64], columns: Mapping[str, pa.Array]) -> Shard:
        cuts: dict[str, dict[int, int]] = {view: {} for view in self.cuts}
        for view, cut in self.cuts.items():
            for place, kept in cut.items():
                at = int(np.searchsorted(places, place))
                if at < len(places) and places[at] == place:
                    cuts[view][at] = kept
        return Shard(
            texts=columns["text"].cast(pa.large_string()),
            names=columns["id"],
            given=columns.get("label"),
            keys=_numbers(columns["key"]),
            content=_numbers(columns["content"]),
            clusters=_numbers(columns["cluster"]),
            places=places,
            members={n.removeprefix(MEMBER): _numbers(c) for n, c in columns.items() if n.startswith(MEMBER)},
            sides=self.sides,
            cuts=cuts,
            limits=self.limits,
            encoders=self.encoders,
            columns={n.removeprefix(FIELD): c for n, c in columns.items() if n.startswith(FIELD)},
        )


def _numbers(column: pa.Array) -> NDArray[Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


@dataclass(frozen=True)
class Shard:
    """A few thousand records in a worker: columns, and which view takes which record."""

    texts: pa.Array
    names: pa.Array
    given: pa.Array | None
    keys: NDArray[np.uint64]  # the hash that orders the records
    content: NDArray[np.uint64]  # the hash of the text alone
    clusters: NDArray[np.uint64]  # records of one cluster share a source and are never split
    places: NDArray[np.int64]  # the position of each record in its corpus
    members: Mapping[str, NDArray[np.uint8]]  # view -> group of each record, or OUT
    sides: Mapping[str, int]  # view -> G: groups 0 .. G-1 are the corpus, G .. 2G-1 its spare records
    cuts: Mapping[str, Mapping[int, int]]  # view -> record -> number of tokens kept
    limits: Mapping[Need, tuple[int, int]] = field(default_factory=dict)  # the largest keys within a limit
    encoders: Mapping[str, Fitted] = field(default_factory=dict)
    columns: Mapping[str, pa.Array] = field(default_factory=dict)  # further fields of the records, as asked
    _vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)
    _tokens: dict[tuple[str, str], Tokens] = field(default_factory=dict, repr=False, compare=False)
    _grams: dict[tuple[str, str, int], Ngrams] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The id of each record; kinds that read few of them take from `names`."""
        return tuple(self.names.to_pylist())

    @cached_property
    def labels(self) -> tuple[str | None, ...] | None:
        """The label of each record, None where no record of the corpus has one; `given` is the same."""
        return None if self.given is None else tuple(self.given.to_pylist())

    def groups(self, need: Need) -> NDArray[np.uint8]:
        """uint8 [n]: the replicate group of each record in the need's view."""
        return self.members[view_key(need)]

    def side(self, need: Need) -> int:
        """G, the number of replicate groups of one side in the need's view."""
        return self.sides[view_key(need)]

    def chosen(self, need: Need) -> NDArray[np.int64]:
        """The records of the need's view, as far as the need's limit can keep them."""
        group = self.groups(need)
        if need not in self.limits:
            return np.flatnonzero(group != OUT)
        largest = np.array(self.limits[need], np.uint64)
        spare = (group >= self.side(need)).astype(np.int64)
        return np.flatnonzero((group != OUT) & (self.keys <= largest[spare]))

    def label_array(self) -> NDArray[Any]:
        """The label of each record as text; UNLABELLED where there is none."""
        if self.given is None:
            return np.full(len(self), UNLABELLED, dtype=object)
        return np.asarray(self.given.fill_null(UNLABELLED).to_numpy(zero_copy_only=False))

    def label_codes(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The different labels (UNLABELLED where there is none) and the number of each record's."""
        if self.given is None:
            return (UNLABELLED,), np.zeros(len(self), np.int64)
        coded = self.given.fill_null(UNLABELLED).dictionary_encode()
        return tuple(coded.dictionary.to_pylist()), np.asarray(coded.indices).astype(np.int64)

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

    def ngrams(self, need: Need, n: int) -> Ngrams:
        """All n-grams of the need's view and the text that each is in; the last ones made are kept."""
        view = view_key(need)
        key = (str(need.get("tokens", "word")), view if self.cuts.get(view) else "", n)
        if key not in self._grams:
            self._grams.clear()
            self._grams[key] = token_tools.ngrams(self.tokens(need), n)
        return self._grams[key]


def view_key(need: Need) -> str:
    """The name of the selection that a need looks at; equal tokens depend on the tokeniser."""
    return f"tokens:{need.get('tokens', 'word')}" if need.view == "tokens" else need.view
