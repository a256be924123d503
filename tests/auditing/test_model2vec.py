"""Static word vectors as an encoder: unit rows from a folder, and one line where something is missing."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from audit_corpora import corpus, write

import karat
from karat.auditing.encoders.base import make
from karat.errors import BadSetting, InputError, MissingExtra

WORDS = ("[UNK]", "[PAD]", *(f"w{i}" for i in range(200)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A static model of two hundred words, made here."""
    model2vec = pytest.importorskip("model2vec", reason="model2vec is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    rows = np.random.default_rng(0).normal(size=(len(WORDS), 16)).astype(np.float32)
    place = tmp_path_factory.mktemp("models") / "tiny"
    model2vec.StaticModel(rows, tokenizer).save_pretrained(str(place))
    return str(place)


def test_rows_have_length_one_or_zero(folder: str) -> None:
    """A known word gives a unit row; an empty text and one of unknown words give zeros."""
    rows = make(f"model2vec:{folder}").fit([]).encode(["w1 w2", "w3", "", "unheard"])
    assert np.float32 == rows.dtype
    assert [1, 1, 0, 0] == pytest.approx(np.linalg.norm(rows, axis=1).tolist(), abs=1e-6)
    assert (0, 16) == make(f"model2vec:{folder}").fit([]).encode([]).shape


def test_survives_its_way_to_a_worker(folder: str) -> None:
    """What comes out of a pickle encodes alike, under the same id."""
    fitted = make(f"model2vec:{folder}").fit([])
    again = pickle.loads(pickle.dumps(fitted))
    assert fitted.id == again.id
    assert fitted.id.startswith("model2vec-tiny-")
    assert np.array_equal(fitted.encode(["w1 w9"]), again.encode(["w1 w9"]))


def test_an_audit_with_it(folder: str) -> None:
    """The id of the model stands in the signature of every metric made with it."""
    found = karat.audit(
        corpus(write(80, seed=1, words=200)),
        corpus(write(80, seed=2, words=200)),
        metrics="vendi frechet",
        encoder=f"model2vec:{folder}",
        budget="small",
    )
    assert all("encoder:model2vec-tiny-" in score.signature for score in found.scores)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No name, no package, no such folder: one line each with the cure."""
    with pytest.raises(BadSetting, match="needs a model: write model2vec:NAME"):
        make("model2vec").fit([])
    if "model2vec" in sys.modules or _installed():
        with pytest.raises(InputError, match="there is no such folder"):
            make(f"model2vec:{tmp_path / 'nowhere'}").fit([])
        with pytest.raises(InputError, match="cannot be loaded"):
            make(f"model2vec:{tmp_path}").fit([])
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(MissingExtra, match="pip install model2vec"):
        make("model2vec:some/model").fit([])


def _installed() -> bool:
    from importlib.util import find_spec

    return find_spec("model2vec") is not None
