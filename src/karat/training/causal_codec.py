"""Texts as rows of token numbers for a causal model, and back: words or byte-level BPE. Knows no model.

Rows are `start, label, text tokens, end`. A row that is longer than a model's context is read in windows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from karat import errors
from karat.generation.tensors import learn_pieces, load_pieces
from karat.records import Records

WORD = re.compile(r"\w+|[^\w\s]")
FEW_WORDS = 64
"""Up to this many different words in all records, each word is a token of its own."""

START, END, UNKNOWN = 0, 1, 2
_WHO = "trainer 'gpt' on text"


@dataclass(frozen=True, eq=False)
class Codec:
    """Texts to token numbers and back: 0 start, 1 end, 2 unknown, then labels, then words or BPE pieces."""

    labels: tuple[str, ...]
    label_counts: dict[str, int]
    words: tuple[str, ...] = ()
    pieces: str = ""  # the BPE tokeniser as JSON; empty where words are tokens

    def __post_init__(self) -> None:
        first = 3 + len(self.labels)
        object.__setattr__(self, "_numbers", {word: first + i for i, word in enumerate(self.words)})
        object.__setattr__(self, "_bpe", load_pieces(self.pieces, _WHO) if self.pieces else None)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "labels": self.labels,
            "label_counts": self.label_counts,
            "words": self.words,
            "pieces": self.pieces,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    @property
    def size(self) -> int:
        """How many tokens there are."""
        bpe: Any = self._bpe  # type: ignore[attr-defined]
        return 3 + len(self.labels) + (bpe.get_vocab_size() if bpe else len(self.words))

    @property
    def prefix(self) -> int:
        """How many first tokens of a row are given: start, and the label where there is one."""
        return 2 if self.labels else 1

    @property
    def banned(self) -> tuple[int, ...]:
        """Tokens that must not be written."""
        return (START, UNKNOWN, *range(3, 3 + len(self.labels)))

    @property
    def names(self) -> list[tuple[str, str | int]]:
        """What each token number stands for; equal names are the same token in codecs of the same pieces."""
        given: list[tuple[str, str | int]] = [("mark", number) for number in (START, END, UNKNOWN)]
        given += [("label", label) for label in self.labels]
        if self.pieces:
            return given + [("piece", number) for number in range(self.size - len(given))]
        return given + [("word", word) for word in self.words]

    def start(self, label: str) -> list[int]:
        """Return the first tokens of a row."""
        if not self.labels:
            return [START]
        return [START, 3 + self.labels.index(label) if label in self.labels else UNKNOWN]

    def encode(self, text: str, label: str) -> list[int]:
        """Return a text as a row of token numbers."""
        bpe: Any = self._bpe  # type: ignore[attr-defined]
        if bpe is not None:
            first = 3 + len(self.labels)
            inner = [first + number for number in bpe.encode(text).ids]
        else:
            numbers: dict[str, int] = self._numbers  # type: ignore[attr-defined]
            inner = [numbers.get(word, UNKNOWN) for word in WORD.findall(text)]
        return [*self.start(label), *inner, END]

    def spelling(self, text: str) -> float:
        """Return what the unknown words of a text cost beyond their token: their bytes, each alike [nats].

        Without it a word that was never seen would be as cheap as any other of its kind.
        """
        if self.pieces:
            return 0.0
        numbers: dict[str, int] = self._numbers  # type: ignore[attr-defined]
        unknown = [word for word in WORD.findall(text) if word not in numbers]
        return math.log(257) * sum(len(word.encode("utf-8", "surrogatepass")) + 1 for word in unknown)

    def rows(self, records: Records) -> list[list[int]]:
        """Return all records as rows."""
        labels = records.labels() if self.labels else None
        return [self.encode(text, labels[i] if labels else "") for i, text in enumerate(records.texts())]

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text that token numbers stand for."""
        first = 3 + len(self.labels)
        bpe: Any = self._bpe  # type: ignore[attr-defined]
        if bpe is not None:
            return str(bpe.decode([token - first for token in tokens if token >= first]))
        return join_words([self.words[token - first] for token in tokens if token >= first])


def join_words(words: Sequence[str]) -> str:
    """Join words as they are usually written: no space after an opening or before a closing mark."""
    text = ""
    for word in words:
        glued = not text or text[-1] in "([{" or word in ")]},.;:!?"
        text += word if glued else " " + word
    return text


def make_codec(records: Records, tokens: str, pieces: int) -> Codec:
    """Learn the tokens of records."""
    texts, counts = records.texts(), _label_counts(records)
    words: set[str] = set()
    quoted = False
    if tokens != "bpe":
        for text in texts:
            found = WORD.findall(text)
            words.update(found)
            # Inside quotes a space is part of what is said, and words lose it.
            quoted = quoted or ('"' in text and join_words(found) != text)
            if tokens == "auto" and (quoted or len(words) > FEW_WORDS):
                break
    labels = tuple(sorted(counts))
    if tokens == "word" or (tokens == "auto" and not quoted and len(words) <= FEW_WORDS):
        return Codec(labels, dict(counts), words=tuple(sorted(words)))
    return Codec(labels, dict(counts), pieces=learn_pieces(texts, pieces, _WHO, space=False))


def widened(codec: Codec, records: Records) -> Codec:
    """Return a codec that knows the labels and words of more records too; its BPE pieces stay as they are.

    Raises InputError where only one of both has labels.
    """
    counts = _label_counts(records)
    if bool(counts) != bool(codec.labels):
        ours, theirs = ("labels", "none") if counts else ("no labels", "some")
        raise errors.InputError(
            f"{records.path}: the records have {ours}, but the model to go on from learned with {theirs}; "
            "train a new one"
        )
    words = set(codec.words)
    if not codec.pieces:
        for text in records.texts():
            words.update(WORD.findall(text))
    return Codec(
        tuple(sorted({*codec.labels, *counts})),
        dict(Counter(codec.label_counts) + counts),
        words=tuple(sorted(words)),
        pieces=codec.pieces,
    )


def windows(row: Sequence[int], prefix: int, context: int) -> list[tuple[list[int], int]]:
    """Return a row in windows of at most `context` tokens, and from which place on each counts.

    Each token behind the prefix counts in one window. A further window begins with the prefix and repeats
    the tokens before its own, a quarter of a context, as what is known.
    """
    if len(row) <= context:
        return [(list(row), prefix)]
    known = (context - prefix) // 4
    room, at = context - prefix - known, context
    assert room > 0, f"a context of {context} tokens has no room behind a prefix of {prefix}"
    found = [(list(row[:context]), prefix)]
    while at < len(row):
        found.append(([*row[:prefix], *row[at - known : at + room]], prefix + known))
        at += room
    return found


def _label_counts(records: Records) -> Counter[str]:
    given = records.labels()
    counts = Counter(label for label in given or () if label is not None)
    if given is not None and counts and sum(counts.values()) < len(given):
        raise errors.InputError(f"{records.path}: some records have no label; fill them in or drop the field")
    return counts
