"""What karat and its peers compute of the same texts: one entry a comparison. Knows no clock.

Each side is a function of the data that gives one number. A peer that is not installed raises ImportError.
The formulas of the package `diversity` stand here because version 0.3.1 cannot be imported; they are those of
Shaib et al. 2024, "Standardizing the measurement of text diversity", sections 3 and 4.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import _corpus
import numpy as np

Data = Any
Value = Callable[[Data], float]


@dataclass(frozen=True)
class Peer:
    """One metric, as karat asks for it, and what a peer computes instead."""

    name: str
    metrics: str
    peer: Value
    data: Callable[[int], Data]
    sizes: tuple[int, ...]
    tolerance: float = 1e-6
    note: str = ""
    relative: bool = True
    mine: Value | None = None
    """What karat is timed with instead of a whole audit."""


def plain(n: int) -> list[str]:
    """Texts of about 60 words."""
    return _corpus.texts(n, seed=3)


def long(n: int) -> list[str]:
    """Texts of about 200 words."""
    return _corpus.texts(n, seed=4, mean=200)


def copied(n: int) -> list[str]:
    """Texts of about 60 words, a fifth of them with one word changed from an earlier one."""
    return _corpus.with_copies(n, seed=5)


def labelled(n: int) -> list[dict[str, str]]:
    """Labels of n items by five annotators, a fifth of them missing, three in four agreeing."""
    draw = np.random.default_rng(n)
    truth = draw.integers(0, 3, n)
    given = np.where(draw.random((5, n)) < 0.75, truth, draw.integers(0, 3, (5, n)))
    there = draw.random((5, n)) < 0.8
    return [
        {"item_id": f"i{i}", "text": f"item {i}", "label": "abc"[given[a, i]], "annotator": f"a{a}"}
        for a in range(5)
        for i in np.flatnonzero(there[a])
    ]


# ------------------------------------------------------------------------------------------ BLEU and n-grams


def nltk_self_bleu(texts: list[str]) -> float:
    """The mean sentence BLEU of each text against all others, smoothing method 1."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    split = [text.split() for text in texts]
    smooth = SmoothingFunction().method1
    return float(
        np.mean(
            [
                sentence_bleu(split[:i] + split[i + 1 :], one, smoothing_function=smooth)
                for i, one in enumerate(split)
            ]
        )
    )


def fast_bleu(texts: list[str]) -> float:
    """The same in C++."""
    from fast_bleu import SelfBLEU

    scores = SelfBLEU([text.split() for text in texts], {"4": (0.25,) * 4}).get_score()["4"]
    return float(np.mean(scores))


def nltk_distinct(texts: list[str]) -> float:
    """Different bigrams by all bigrams."""
    from nltk.util import ngrams

    grams = [gram for text in texts for gram in ngrams(text.split(), 2)]
    return len(set(grams)) / len(grams)


def diversity_ngrams(texts: list[str]) -> float:
    """N-gram diversity: the sum over n = 1 .. 4 of different n-grams by all n-grams (within texts)."""
    total = 0.0
    for n in range(1, 5):
        grams = [tuple(row[i : i + n]) for row in map(str.split, texts) for i in range(len(row) - n + 1)]
        total += len(set(grams)) / len(grams)
    return total


def diversity_gzip(texts: list[str]) -> float:
    """Compression ratio: bytes by bytes of gzip at level 9."""
    joined = "\n".join(texts).encode()
    return len(joined) / len(gzip.compress(joined, compresslevel=9))


def diversity_self_repetition(texts: list[str]) -> float:
    """Self-repetition: the mean of log(1 + how often the 4-grams of a text stand in other texts)."""
    sets = [{tuple(row[i : i + 4]) for i in range(len(row) - 3)} for row in map(str.split, texts)]
    found = []
    for i, own in enumerate(sets):
        others = sum(len(own & other) for j, other in enumerate(sets) if j != i)
        found.append(np.log(others + 1))
    return float(np.mean(found))


# ----------------------------------------------------------------------------------------- lexical diversity


def lexicalrichness(texts: list[str], value: str, least: int, **settings: Any) -> float:
    """The mean of a measure over the texts that are long enough."""
    from lexicalrichness import LexicalRichness

    found = []
    for text in texts:
        one = LexicalRichness(text, preprocessor=None, tokenizer=str.split)
        if one.words >= least:
            found.append(getattr(one, value)(**settings))
    return float(np.mean(found))


def lexicalrichness_ttr(texts: list[str]) -> float:
    """Different words by all words of the whole corpus."""
    from lexicalrichness import LexicalRichness

    return float(LexicalRichness(" ".join(texts), preprocessor=None, tokenizer=str.split).ttr)


# ------------------------------------------------------------------------------------------------- embeddings


@cache
def vectors(texts: tuple[str, ...]) -> Any:
    """The rows that karat's encoder gives; both sides measure on the same ones."""
    from karat.auditing.encoders.base import make

    return np.asarray(make("lsa").fit(texts).encode(texts), dtype=np.float64)


def sklearn_aps(texts: list[str]) -> float:
    """The mean cosine of all pairs, from the matrix of all pairs."""
    from sklearn.metrics.pairwise import cosine_similarity

    cosines = cosine_similarity(vectors(tuple(texts)))
    n = len(texts)
    return float((cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def vendi(texts: list[str]) -> float:
    """The Vendi score from the matrix of all pairs, the default path of the package."""
    from vendi_score import vendi

    rows = vectors(tuple(texts))
    return float(vendi.score_K(rows @ rows.T))


@dataclass(frozen=True)
class OneGroup:
    """Vectors as a metric sees them: their sums and products, all in one group."""

    rows: Any
    groups: int = 1

    @property
    def records(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def __getitem__(self, wanted: Any) -> Any:
        from karat.auditing.vectors import Embeddings, Moments

        rows = self.rows
        counts, sums = np.array([[len(rows)]]), rows.sum(axis=0)[None, None]
        if wanted.kind == "moments":
            return Moments("lsa", counts[0], sums[0], (rows.T @ rows)[None])
        return Embeddings("lsa", ("",), counts, sums, np.array([[np.einsum("nd,nd->", rows, rows)]]))


def from_vectors(name: str) -> Value:
    """The value of a metric of karat from the same vectors that the peer gets."""
    from karat import registry
    from karat.auditing.base import point

    return lambda texts: point(registry.make("metrics", name), OneGroup(vectors(tuple(texts))))


# ------------------------------------------------------------------------- annotators, near-duplicates


def krippendorff(rows: list[dict[str, str]]) -> float:
    """Krippendorff's alpha, nominal."""
    import krippendorff

    items = {name: i for i, name in enumerate(dict.fromkeys(row["item_id"] for row in rows))}
    table = np.full((5, len(items)), np.nan)
    for row in rows:
        table[int(row["annotator"][1:]), items[row["item_id"]]] = "abc".index(row["label"])
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))


def _shingles(text: str) -> list[str]:
    words = text.split()
    return list({" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))})


def datasketch(texts: list[str]) -> float:
    """The share of texts with an earlier near-duplicate by MinHash LSH, 128 permutations, not verified."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.8, num_perm=128)
    hits = 0
    for i, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([one.encode() for one in _shingles(text)])
        hits += bool(index.query(sketch))
        index.insert(str(i), sketch)
    return hits / len(texts)


def rensa(texts: list[str]) -> float:
    """The same by rensa, candidates verified by their sketches."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=0.8, num_perm=128, num_bands=16)
    sketches: list[Any] = []
    hits = 0
    for i, text in enumerate(texts):
        sketch = RMinHash(num_perm=128, seed=42)
        sketch.update(_shingles(text))
        hits += any(sketches[j].jaccard(sketch) >= 0.8 for j in index.query(sketch))
        index.insert(i, sketch)
        sketches.append(sketch)
    return hits / len(texts)


_SPACE = "tokens=whitespace"
_GIVEN = "both from the same vectors"
_ESTIMATE = "the peer estimates, karat counts"
PEERS = (
    Peer("nltk self-BLEU", f"self_bleu:{_SPACE}", nltk_self_bleu, plain, (100, 200, 400)),
    Peer("fast-bleu self-BLEU", f"self_bleu:{_SPACE}", fast_bleu, plain, (500, 1000, 2000)),
    Peer("nltk distinct-2", f"distinct_n:n=2,{_SPACE}", nltk_distinct, plain, (2000, 8000, 32000)),
    Peer(
        "diversity n-gram diversity",
        " ".join(f"distinct_n:n={n},{_SPACE}" for n in range(1, 5)),
        diversity_ngrams,
        plain,
        (2000, 8000, 32000),
        note="within texts; the package joins them",
    ),
    Peer(
        "diversity gzip ratio",
        "compression_ratio:codec=gzip,level=9,order=file,limit=0",
        diversity_gzip,
        plain,
        (2000, 8000, 32000),
    ),
    Peer(
        "diversity self-repetition",
        f"self_repetition:{_SPACE},limit=0",
        diversity_self_repetition,
        plain,
        (400, 800, 1600),
    ),
    Peer(
        "lexicalrichness mtld",
        f"mtld:unit=record,least=100,{_SPACE}",
        lambda texts: lexicalrichness(texts, "mtld", 100),
        long,
        (100, 300, 900),
        note="karat reads 200,000 words at most",
    ),
    Peer(
        "lexicalrichness mattr",
        f"mattr:unit=record,window=100,{_SPACE}",
        lambda texts: lexicalrichness(texts, "mattr", 100, window_size=100),
        long,
        (100, 300, 900),
        note="karat reads 200,000 words at most",
    ),
    Peer(
        "lexicalrichness hdd",
        f"hdd:unit=record,{_SPACE}",
        lambda texts: lexicalrichness(texts, "hdd", 42),
        long,
        (100, 200, 400),
    ),
    Peer(
        "lexicalrichness ttr", f"type_token_ratio:{_SPACE}", lexicalrichness_ttr, plain, (2000, 8000, 32000)
    ),
    Peer(
        "scikit-learn APS",
        "aps",
        sklearn_aps,
        plain,
        (1000, 2000, 4000),
        note=_GIVEN,
        mine=from_vectors("aps"),
    ),
    Peer("vendi-score", "vendi", vendi, plain, (1000, 2000, 4000), note=_GIVEN, mine=from_vectors("vendi")),
    Peer("krippendorff alpha", "krippendorff_alpha", krippendorff, labelled, (1000, 4000, 16000)),
    Peer(
        "datasketch near-duplicates",
        f"near_duplicate_share:fold=false,{_SPACE}",
        datasketch,
        copied,
        (1000, 4000, 16000),
        tolerance=0.03,
        note=_ESTIMATE,
        relative=False,
    ),
    Peer(
        "rensa near-duplicates",
        f"near_duplicate_share:fold=false,{_SPACE}",
        rensa,
        copied,
        (1000, 4000, 16000),
        tolerance=0.03,
        note=_ESTIMATE,
        relative=False,
    ),
)
