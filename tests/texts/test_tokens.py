"""Tokens and their hashes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.errors import BadSetting
from karat.texts import tokens as tk


def _column(*texts: str | None) -> pa.Array:
    return pa.array(texts, pa.large_string())


def test_words_are_runs_of_letters_and_single_marks() -> None:
    """Letters and digits run together; a punctuation mark, an ideograph and a Thai character stand alone."""
    expected = [5, 2, 3, 0, 0, 4, 1]
    texts = ["don't stop.", "漢字", "ไทย", "", None, "naïve café 2024!", "नमस्ते"]
    assert expected == list(tk.count_tokens(_column(*texts)))
    assert expected == list(tk.tokenise(_column(*texts)).lengths)


def test_control_characters_make_no_token() -> None:
    """A NUL between words separates them and counts for nothing."""
    assert [2] == list(tk.count_tokens(_column("a\x00b\x07")))


@given(st.lists(st.text(), max_size=8))
@settings(max_examples=60, deadline=None)
def test_whitespace_is_what_str_split_does(texts: list[str]) -> None:
    """The published tokeniser gives the tokens of str.split for any text."""
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    expected = [token for text in texts for token in text.split()]
    found = tk.tokenise(_column(*texts), "whitespace")
    assert [len(text.split()) for text in texts] == list(found.lengths)
    assert list(tk.hash_strings(_column(*expected))) == list(found.hashes)


def test_hashes_are_the_same_everywhere() -> None:
    """A hash is fixed by the bytes alone: here and in another process, in any column."""
    expected = [int(h) for h in tk.hash_strings(_column("gold", "", "漢", "gold"))]
    code = (
        "import pyarrow as pa; from karat.texts.tokens import hash_strings;"
        "print([int(h) for h in hash_strings(pa.array(['gold', '', '漢', 'gold']))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(expected) == done.stdout.strip()
    assert [0x7E55B72424F648FE, 0xE220A8397B1DCDAF, 0x495871DCB084E926] == expected[:3]
    sliced = _column("x", "gold", "y").slice(1, 1)
    assert expected[0] == int(tk.hash_strings(sliced)[0])


def test_hashes_tell_texts_apart() -> None:
    """A hundred thousand short texts, many differing in one byte, have as many hashes."""
    texts = [f"{a}{b}" for a in ("x", "\x00", "", "é") for b in range(25_000)]
    assert len(set(texts)) == len(np.unique(tk.hash_strings(_column(*texts))))


def test_a_long_text_is_hashed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is longer than a block has the hash that it has in one piece."""
    texts = ["a" * 5000, "b", "c" * 3000 + "d", "", "e"]
    expected = list(tk.hash_strings(_column(*texts)))
    monkeypatch.setattr(tk, "_BLOCK", 100)
    assert expected == list(tk.hash_strings(_column(*texts)))


def test_ngrams_stay_inside_their_text() -> None:
    """No n-gram crosses from one text into the next, and equal n-grams have equal hashes."""
    tokens = tk.tokenise(_column("a b c", "b c", "d"))
    hashes, owner = tk.ngrams(tokens, 2)
    assert [0, 0, 1] == list(owner)
    assert hashes[1] == hashes[2]
    assert hashes[0] != hashes[1]
    assert 0 == len(tk.ngrams(tokens, 4)[0])


def test_order_matters_in_an_ngram() -> None:
    """ "a b" and "b a" are different 2-grams."""
    hashes, _ = tk.ngrams(tk.tokenise(_column("a b", "b a")), 2)
    assert hashes[0] != hashes[1]


def test_cut_keeps_the_first_tokens() -> None:
    """A text that is cut to two tokens keeps its first two."""
    tokens = tk.tokenise(_column("a b c d", "e f"))
    shorter = tk.cut(tokens, {0: 2})
    assert [2, 2] == list(shorter.lengths)
    assert list(tokens.hashes[[0, 1, 4, 5]]) == list(shorter.hashes)


def test_normalise_folds_case_spaces_and_marks() -> None:
    """Case, punctuation, runs of spaces and compatibility forms do not make another text."""
    folded = tk.normalise(_column("Hello,  World!", "hello world", "ﬁne", "fine", "5+3", "5*3")).to_pylist()
    assert folded[0] == folded[1]
    assert folded[2] == folded[3]
    assert folded[4] != folded[5], "operators are no punctuation"


def test_unknown_tokeniser_is_named() -> None:
    """The error names the tokeniser and the nearest one that exists."""
    with pytest.raises(BadSetting, match="'wrod'; did you mean 'word'"):
        tk.pattern("wrod")
