"""A reward learned from pairs: Bradley-Terry on features of two responses, with ties. Knows no score.

Each response has a utility, the weighted sum of its features, and of two responses only the difference of
their utilities d counts, so that exchanging them exchanges the probabilities and nothing else:

    P(a) : P(b) : P(tie) = exp(d/2) : exp(-d/2) : v

which is Bradley and Terry (1952) where no tie occurs (v = 0, P(a) = 1 / (1 + exp(-d))) and Davidson (1970)
where some do; v is learned. Utilities as sums of features make it the conditional logit of McFadden (1974).
The log-likelihood is concave in the weights and ln v, and the penalty |w|^2 / 2C makes the weights unique.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat.auditing.encoders.base import fixed, make
from karat.errors import InputError
from karat.records import Records
from karat.training.base import Floats, Indices, Predictions, Progress, codes, gold_labels
from karat.training.pairs import CHOICES, Pairs, pairs

if TYPE_CHECKING:
    import scipy.sparse

_ANALYZERS = (("words", "word"), ("characters", "char_wb"))
_FORMAT = 1


@dataclass(frozen=True)
class Reward:
    """Bradley-Terry on features of two responses, with ties (Davidson): predicts a, b or tie.

    features: text (TF-IDF of words and characters) or encoder (sentence vectors, and their product with those
    of the prompt). encoder: a spec from the shelf of encoders.
    words, characters: the n-gram lengths, for example 1-2; 0 leaves them out. least: n-grams of fewer
    training responses are left out.
    lengths: whether length, words a sentence and overlap with the prompt count too; without them a reward
    cannot learn to prefer long answers as such.
    C: inverse strength of the L2 penalty.
    """

    features: Literal["text", "encoder"] = "text"
    encoder: str = "lsa"
    words: str = "1-2"
    characters: str = "3"
    least: int = 2
    lengths: bool = True
    C: float = 0.3

    types: ClassVar[tuple[str, ...]] = ("preference",)
    deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.C > 0:
            raise ValueError(f"C is {self.C}, but must be above 0; 0.3 is the default")
        if self.least < 1:
            raise ValueError(f"least is {self.least}, but must be 1 or more")
        if self.features == "text" and not (self.blocks or self.lengths):
            raise ValueError("words and characters are both 0 and lengths is false, so no feature is left")

    @property
    def blocks(self) -> tuple[tuple[str, tuple[int, int]], ...]:
        """Kind and lengths of the n-grams that are counted."""
        given = ((analyzer, _lengths(getattr(self, name))) for name, analyzer in _ANALYZERS)
        return tuple((analyzer, sizes) for analyzer, sizes in given if sizes is not None)

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
    ) -> RewardModel:
        """Train on preference records; neither seed nor validation records change the model."""
        pool = self.prepare(records)
        return pool.fit(np.arange(len(records)))

    def prepare(self, pool: Records) -> RewardPool:
        """Read the responses of a pool once, for many fits on parts of it. Raises InputError when invalid."""
        gold_labels(pool)
        return RewardPool.of(self, pairs(pool))

    @staticmethod
    def load(folder: Path) -> RewardModel:
        """Return the model that `save` wrote."""
        told = json.loads((folder / "reward.json").read_text("utf-8"))
        if told.get("format") != _FORMAT:
            raise InputError(
                f"{folder}: format {told.get('format')!r} of another version of karat; train anew"
            )
        with np.load(folder / "reward.npz", allow_pickle=False) as arrays:
            blocks = tuple(
                (tuple(names), arrays[f"idf{number}"]) for number, names in enumerate(told["vocabularies"])
            )
            settings = Reward(**told["settings"])
            encoder = None
            if settings.features == "encoder":
                encoder = fixed(settings.encoder)
                here = settings.encoder if encoder is None else encoder.id
                if here != told["encoder"]:
                    raise InputError(f"{folder}: trained on {told['encoder']}, but {here} is here")
            nu = None if told["ln_nu"] is None else float(told["ln_nu"])
            return RewardModel(settings, blocks, arrays["scale"], arrays["weights"], nu, encoder)


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A learned reward: `score` gives utilities of single responses, `predict` probabilities of choices."""

    settings: Reward
    blocks: tuple[tuple[tuple[str, ...], Floats], ...]
    """n-grams and their inverse document frequencies, a kind each"""
    scale: Floats
    """what the length features are divided by"""
    weights: Floats
    ln_nu: float | None
    """ln of Davidson's v; None where no tie was seen"""
    encoder: Any = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The choices that it knows."""
        return CHOICES[:2] if self.ln_nu is None else CHOICES

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Floats:
        """Return the utility of each response [n]; only differences of utilities mean anything.

        Of two responses to a prompt, one is preferred with odds exp(difference) where ties are left aside.
        """
        asked = [""] * len(texts) if prompts is None else list(prompts)
        parts: list[Any] = []
        for (analyzer, sizes), (names, idf) in zip(self.settings.blocks, self.blocks):
            if names:
                counts = _counter(analyzer, sizes, vocabulary=list(names)).transform(texts)
                parts.append(_tfidf(counts, idf))
        if self.encoder is not None:
            parts.append(_embedded(self.encoder, asked, texts))
        if self.settings.lengths:
            parts.append(_measures(asked, texts) / self.scale)
        return _times(parts, self.weights, len(texts))

    def predict(self, records: Records) -> Predictions:
        """Return the probabilities of a, b (and tie, where training had some) for each preference record."""
        found = pairs(records)
        d = self.score(found.a, found.prompts) - self.score(found.b, found.prompts)
        return _said(found, self.classes, d, self.ln_nu)

    def save(self, folder: Path) -> Path:
        """Write the model to a folder. Raises InputError where its encoder was learned from texts."""
        if self.encoder is not None and fixed(self.settings.encoder) is None:
            raise InputError(
                f"the encoder {self.settings.encoder!r} is learned from the training texts, so the reward "
                "cannot be kept without them; use encoder=minilm, or features=text"
            )
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {f"idf{number}": idf for number, (_, idf) in enumerate(self.blocks)}
        np.savez(folder / "reward.npz", scale=self.scale, weights=self.weights, **arrays)
        told = {
            "format": _FORMAT,
            "settings": asdict(self.settings),
            "ln_nu": self.ln_nu,
            "encoder": None if self.encoder is None else self.encoder.id,
            "vocabularies": [list(names) for names, _ in self.blocks],
        }
        (folder / "reward.json").write_text(json.dumps(told, ensure_ascii=False), "utf-8")
        return folder


@dataclass(frozen=True, eq=False)
class RewardPool:
    """The features of a pool's responses, read once; an item is a response to a prompt."""

    settings: Reward
    pairs: Pairs
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    a: Indices
    b: Indices
    """the items of each pair [n]"""
    names: tuple[NDArray[np.str_], ...]
    counts: tuple[scipy.sparse.csr_matrix, ...]
    measures: Floats
    fixed: Any = None
    """the encoder, where it has weights of its own, and `vectors` of all items by it"""
    vectors: Floats | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Reward, found: Pairs) -> RewardPool:
        """Read all responses."""
        places: dict[tuple[str, str], int] = {}
        a, b = (
            np.fromiter((places.setdefault(item, len(places)) for item in zip(found.prompts, side)), np.int64)
            for side in (found.a, found.b)
        )
        prompts, texts = (tuple(column) for column in zip(*places))
        names, counts = [], []
        for analyzer, sizes in settings.blocks if settings.features == "text" else ():
            counter = _counter(analyzer, sizes)
            try:
                matrix = counter.fit_transform(texts)
            except ValueError:  # no text has a single n-gram of this kind
                matrix = None
            names.append(np.array([]) if matrix is None else counter.get_feature_names_out())
            counts.append(_nothing(len(texts)) if matrix is None else matrix)
        encoder = fixed(settings.encoder) if settings.features == "encoder" else None
        vectors = None if encoder is None else _embedded(encoder, prompts, texts)
        measures = _measures(prompts, texts)
        return cls(
            settings, found, prompts, texts, a, b, tuple(names), tuple(counts), measures, encoder, vectors
        )

    def fit(self, train: Indices) -> RewardModel:
        """Train on the pairs at `train`."""
        return self._fitted(train)[0]

    def fit_predict(self, train: Indices, test: Indices, *, seed: int = 0) -> Predictions:
        """Train on the pairs at `train` and predict those at `test`."""
        model, parts = self._fitted(train)
        utility = _times(parts, model.weights, len(self.texts))
        d = utility[self.a[test]] - utility[self.b[test]]
        return _said(self.pairs.take(test), model.classes, d, model.ln_nu)

    def _fitted(self, train: Indices) -> tuple[RewardModel, list[Any]]:
        """The model, and the features [items, m] as it sees them."""
        import scipy.sparse

        settings, a, b = self.settings, self.a[train], self.b[train]
        used = np.unique(np.concatenate([a, b]))
        blocks: list[tuple[tuple[str, ...], Floats]] = []
        parts: list[Any] = []
        encoder = self.fixed
        for names, counts in zip(self.names, self.counts):
            seen = counts[used]
            documents = np.bincount(seen.indices, minlength=seen.shape[1])
            kept = np.flatnonzero(documents >= settings.least)
            idf = np.log((1 + len(used)) / (1 + documents[kept])) + 1  # scikit-learn's smooth idf
            blocks.append((tuple(names[kept].tolist()) if len(names) else (), idf))
            if len(kept):
                parts.append(_tfidf(counts[:, kept], idf))
        if settings.features == "encoder":
            if self.vectors is None:
                learned_from = [self.texts[i] for i in used.tolist()]
                encoder = make(settings.encoder).fit(learned_from)
                parts.append(_embedded(encoder, self.prompts, self.texts))
            else:
                parts.append(self.vectors)
        scale = np.ones(self.measures.shape[1])
        if settings.lengths:
            # Not centred: a feature that both responses share must stay without effect.
            spread = np.sqrt(((self.measures[a] - self.measures[b]) ** 2).mean(axis=0))
            scale = np.where(spread > 0, spread, 1.0)
            parts.append(self.measures / scale)
        whole = scipy.sparse.hstack(
            [scipy.sparse.csr_matrix(p) for p in parts or [_nothing(len(self.texts))]]
        )
        whole = whole.tocsr()
        said = codes([self.pairs.choices[i] for i in train.tolist()], CHOICES)
        weights, ln_nu = davidson(whole[a] - whole[b], said, settings.C)
        return RewardModel(settings, tuple(blocks), scale, weights, ln_nu, encoder), parts


def davidson(differences: Any, said: Indices, C: float) -> tuple[Floats, float | None]:
    """Return weights [m] and ln v (None without ties) that maximise the penalised likelihood.

    differences: features of a minus those of b [n, m], an array or sparse. said: 0 a, 1 b, 2 tie.
    The weights minimise |w|^2 / 2 - C ln L, and v is not penalised: Davidson (1970), equation 2.1.
    """
    from scipy.optimize import minimize

    n, width = differences.shape
    ties = int((said == 2).sum())
    if ties == n:  # v would be infinite, so half a choice is added on either side
        return np.zeros(width), math.log(2 * (n + 0.5) / 0.5)
    sign = np.array([0.5, -0.5, 0.0])[said]
    turned = differences.T.tocsr() if hasattr(differences, "tocsr") else differences.T

    def loss(point: Floats) -> tuple[float, Floats]:
        w, ln_nu = point[:width], point[width] if ties else -np.inf
        half = differences @ w / 2
        norm = np.logaddexp(np.logaddexp(half, -half), ln_nu)
        of_d = (np.exp(half - norm) - np.exp(-half - norm)) / 2 - sign
        value = w @ w / 2 + C * (norm.sum() - 2 * (sign @ half) - (ties * ln_nu if ties else 0.0))
        slope = w + C * (turned @ of_d)
        if ties:
            slope = np.append(slope, C * (np.exp(ln_nu - norm).sum() - ties))
        return float(value), slope

    start = np.zeros(width + bool(ties))
    if ties:
        start[-1] = math.log(2 * ties / (n - ties))  # exact where no feature tells anything
    options: Any = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-7 * max(1.0, C)}
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return best[:width], float(best[width]) if ties else None


def _said(found: Pairs, classes: tuple[str, ...], d: Floats, ln_nu: float | None) -> Predictions:
    """The probabilities of choices at differences of utility d [n]; at -d the first two are exchanged."""
    top = np.maximum(np.abs(d) / 2, -np.inf if ln_nu is None else ln_nu)
    one, other = np.exp(d / 2 - top), np.exp(-d / 2 - top)
    columns = [one, other] if ln_nu is None else [one, other, np.exp(ln_nu - top)]
    whole = one + other  # in this order, so that both orders of a pair are rounded alike
    whole = whole if ln_nu is None else whole + columns[2]
    gold = found.choices if bool(found.valid.all()) else None
    return Predictions(found.ids, classes, np.stack(columns, axis=1) / whole[:, None], gold)


# ------------------------------------------------------------------------------------------ features


def _lengths(text: str) -> tuple[int, int] | None:
    """The shortest and longest n-gram of `1-2`, or None for 0. Raises ValueError."""
    low, _, high = text.strip().partition("-")
    if not low.isdigit() or (high and not high.isdigit()) or (high and int(high) < int(low)):
        raise ValueError(f"n-gram lengths are {text!r}; write 1-2, 3, or 0 for none")
    return None if int(low) == 0 else (int(low), int(high or low))


def _counter(analyzer: str, sizes: tuple[int, int], vocabulary: list[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    # One-letter words count too: in many languages they are words.
    pattern = r"\w+" if analyzer == "word" else None
    return CountVectorizer(
        ngram_range=sizes, analyzer=analyzer, token_pattern=pattern, dtype=np.float64, vocabulary=vocabulary
    )


def _nothing(rows: int) -> scipy.sparse.csr_matrix:
    import scipy.sparse

    return scipy.sparse.csr_matrix((rows, 1))


def _tfidf(counts: scipy.sparse.csr_matrix, idf: Floats) -> scipy.sparse.csr_matrix:
    """Sublinear TF-IDF, each row of length one; columns in order, so that sums are rounded alike."""
    from sklearn.preprocessing import normalize

    found = counts.tocsr().sorted_indices()
    found.data = (1 + np.log(found.data)) * idf[found.indices]
    whole: scipy.sparse.csr_matrix = normalize(found)
    return whole


def _measures(prompts: Sequence[str], texts: Sequence[str]) -> Floats:
    """Length and overlap [n, 5]: ln characters, ln words, ln lines, and the shared words by either side's."""
    rows = np.zeros((len(texts), 5))
    known: dict[str, set[str]] = {}
    for row, (prompt, text) in enumerate(zip(prompts, texts)):
        words = text.casefold().split()
        asked = known.get(prompt)
        if asked is None:
            asked = known[prompt] = set(prompt.casefold().split())
        own = set(words)
        shared = len(own & asked)
        lines = len(text.splitlines())
        rows[row] = (
            math.log1p(len(text)),
            math.log1p(len(words)),
            math.log1p(lines),
            shared / max(1, len(own)),
            shared / max(1, len(asked)),
        )
    return rows


def _embedded(encoder: Any, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
    """Vectors of the responses, and their products with those of their prompts [n, 2 d]."""
    different = list(dict.fromkeys(prompts))
    asked = dict(zip(different, np.asarray(encoder.encode(different), dtype=np.float64)))
    vectors = np.asarray(encoder.encode(list(texts)), dtype=np.float64)
    with_prompt = vectors * np.stack([asked[prompt] for prompt in prompts]) if len(texts) else vectors
    return np.concatenate([vectors, with_prompt], axis=1)


def _times(parts: Sequence[Any], weights: Floats, rows: int) -> Floats:
    """Utilities [rows] of features that lie in parts side by side."""
    utility, at = np.zeros(rows), 0
    for part in parts:
        utility += np.asarray(part @ weights[at : at + part.shape[1]])
        at += part.shape[1]
    return utility
