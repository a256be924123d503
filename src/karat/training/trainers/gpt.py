"""A causal transformer trained from scratch on records; it writes new ones and can label. Knows no loop.

Rows are `start, label, text tokens, end`. Words are tokens where there are few of them (a grammar), else
byte-level
BPE pieces. A model of labelled records labels a text by Bayes' rule: p(label | text) ~ p(label) p(text |
label).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat import errors
from karat import records as karat_records
from karat.records import Records
from karat.training.base import Predictions, Progress

if TYPE_CHECKING:
    from karat.generation.base import Request, Response
    from karat.generation.causal import Causal
    from karat.generation.causal_training import History

WORD = re.compile(r"\w+|[^\w\s]")
FEW_WORDS = 64
"""Up to this many different words in all records, each word is a token of its own."""

EPOCHS = 8
"""Real text is read at most this often by the presets; a small corpus would be known by heart after that."""

START, END, UNKNOWN = 0, 1, 2


@dataclass(frozen=True)
class Preset:
    """Size and training of a model; the meaning of each number is that of the settings of `gpt`."""

    layers: int
    heads: int
    width: int
    context: int
    steps: int
    batch_tokens: int
    optimiser: str = "muon"
    lr: float = 0.03
    adam_lr: float = 0.03
    dropout: float = 0.0
    weight_decay: float = 0.05
    pieces: int = 2048


PRESETS = {
    # mini: 0.1 M parameters, about eight seconds on one core; learns a grammar from 2,000 rows
    "mini": Preset(layers=2, heads=4, width=64, context=128, steps=360, batch_tokens=1536),
    # small: 0.8 M parameters, minutes on one core
    "small": Preset(
        layers=4, heads=4, width=128, context=256, steps=1500, batch_tokens=4096,
        lr=0.02, adam_lr=0.008, pieces=4096,
    ),
    # paper: the shape, length and batch of Briesch et al. 2023 (10.6 M parameters, 64 x 256 tokens);
    # GPU hours
    "paper": Preset(
        layers=6, heads=6, width=384, context=256, steps=5000, batch_tokens=16384,
        optimiser="adamw", adam_lr=1e-3, dropout=0.2, weight_decay=0.1, pieces=4096,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Gpt:
    """Causal transformer trained from scratch; its model writes new records and labels old ones.

    preset: mini (0.1 M parameters, seconds), small (0.8 M, minutes), paper (10.6 M, 5,000 steps as in
        Briesch et al.).
    tokens: word, bpe, or auto (words where there are at most 64 different ones).
    layers, heads, width, context, steps, batch_tokens: 0 takes the preset's.
    threads: cores for one fit; 1 makes the result independent of the number of cores, 0 takes all.
    """

    writes: ClassVar[bool] = True
    """its models have `generate`, which the simulation asks for"""

    preset: Literal["mini", "small", "paper"] = "mini"
    tokens: Literal["auto", "word", "bpe"] = "auto"
    layers: int = 0
    heads: int = 0
    width: int = 0
    context: int = 0
    steps: int = 0
    batch_tokens: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width", "context", "steps", "batch_tokens", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is below 0; 0 takes the preset's")

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
    ) -> GptModel:
        """Train a new model on the texts (and labels, where there are any) of records."""
        with _torch_threads(self.threads):
            from karat.generation.causal import CausalConfig
            from karat.generation.causal_training import train_causal

            chosen = PRESETS[self.preset]
            codec = make_codec(records, self.tokens, chosen.pieces)
            rows = codec.rows(records)
            longest = max(map(len, rows))
            # Models drift to longer texts than they were trained on, so that there must be room
            # for twice the longest.
            context = self.context or min(chosen.context, max(32, 2 * longest))
            config = CausalConfig(
                vocab_size=codec.size,
                layers=self.layers or chosen.layers,
                heads=self.heads or chosen.heads,
                width=self.width or chosen.width,
                context=context,
                dropout=chosen.dropout,
            )
            model, history = train_causal(
                rows,
                config,
                steps=self.steps or _steps(chosen, rows, codec, self.batch_tokens or chosen.batch_tokens),
                seed=seed,
                optimiser=chosen.optimiser,
                lr=chosen.lr,
                adam_lr=chosen.adam_lr,
                weight_decay=chosen.weight_decay,
                batch_tokens=self.batch_tokens or chosen.batch_tokens,
                validation=None if validation is None else codec.rows(validation),
                loss_mask_prefix=codec.prefix,
                progress=progress,
            )
        shares = np.asarray([codec.label_counts[label] for label in codec.labels], dtype=np.float64)
        return GptModel(
            model, codec, history, tuple(shares / max(shares.sum(), 1.0)), records.fingerprint, self.threads
        )


def _steps(chosen: Preset, rows: Sequence[Sequence[int]], codec: Codec, batch_tokens: int) -> int:
    """Return the preset's steps, or fewer where a small corpus of real text would be learned by heart."""
    if not codec.pieces:
        return chosen.steps
    return min(chosen.steps, max(10, EPOCHS * sum(map(len, rows)) // batch_tokens))


@contextmanager
def _torch_threads(wanted: int) -> Iterator[None]:
    try:
        import torch
    except ImportError:
        raise errors.missing_extra("torch", "torch", "trainer 'gpt'") from None
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class GptModel:
    """A trained model: `generate` writes records, `complete` answers, `predict` labels, `loss` weighs."""

    causal: Causal
    codec: Codec
    history: History
    label_shares: tuple[float, ...]
    saw: str  # fingerprint of the training records
    threads: int = 1

    batch_size = 512
    concurrency = 1

    @property
    def model(self) -> str:
        """The model's name: it changes with any weight."""
        return f"gpt-{self.causal.config.layers}x{self.causal.config.width}-{self.causal.fingerprint()}"

    def generate(
        self,
        n: int,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        labels: Sequence[str] | None = None,
    ) -> Records:
        """Write n records; their labels are as frequent as in the training data unless you give them."""
        if self.codec.labels and labels is None:
            shares = np.asarray(self.label_shares)
            drawn = np.random.default_rng([seed, 1]).choice(len(shares), size=n, p=shares / shares.sum())
            labels = [self.codec.labels[i] for i in drawn]
        texts, logprobs, _ = self._write(labels or [""] * n, temperature, top_p, seed, 0)
        rows = []
        for number, text in enumerate(texts):
            row: dict[str, Any] = {"id": f"{self.model}:{seed}:{number}", "text": text}
            if self.codec.labels:
                assert labels is not None
                row["label"] = labels[number]
            rows.append(row)
        made = karat_records.from_rows(rows, datatype="classification" if self.codec.labels else "text")
        return made.with_lineage(
            source="synthetic", generator=self.model, seed=seed, logprob=logprobs, generator_saw=[self.saw]
        )

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests by their label, temperature, top_p, seed and length; prompts are not read."""
        from karat.generation.base import Response

        answers: dict[int, Response] = {}
        groups: dict[tuple[float, float, int | None], list[int]] = {}
        for position, request in enumerate(requests):
            groups.setdefault((request.temperature, request.top_p, request.max_tokens), []).append(position)
        for (temperature, top_p, limit), positions in groups.items():
            seeds = [(requests[p].seed or 0) * 1_000_003 + requests[p].replicate for p in positions]
            labels = [requests[p].label or "" for p in positions]
            texts, logprobs, counts = self._write(labels, temperature, top_p, seeds, limit or 0)
            for p, text, logprob, (count, finished) in zip(positions, texts, logprobs, counts):
                answers[p] = Response(
                    request_id=requests[p].id,
                    text=text,
                    tokens_in=0,
                    tokens_out=count,
                    logprob=logprob,
                    finish_reason="stop" if finished else "length",
                    cost_usd=0.0,
                    model=self.model,
                )
        return [answers[position] for position in range(len(requests))]

    def _write(
        self, labels: Sequence[str], temperature: float, top_p: float, seed: int | Sequence[int], limit: int
    ) -> tuple[list[str], list[float], list[tuple[int, bool]]]:
        from karat.generation.causal import sample

        context = self.causal.config.context
        with _torch_threads(self.threads):
            found = sample(
                self.causal,
                [self.codec.start(label) for label in labels],
                max_new_tokens=min(limit or context, context - self.codec.prefix),
                stop_token=END,
                temperature=temperature,
                top_p=top_p,
                banned=self.codec.banned,
                seed=seed,
                batch_size=self.batch_size,
            )
        texts = [self.codec.text(row.tokens) for row in found]
        return texts, [row.logprob for row in found], [(len(row.tokens), row.finished) for row in found]

    def loss(self, texts: Sequence[str]) -> float:
        """Nats a character that the model needs for these texts; comparable between tokenisers."""
        logs = self._log_chances(texts)
        top = logs.max(axis=1)
        nats = -(top + np.log(np.exp(logs - top[:, None]).sum(axis=1))).sum()
        # What does not fit the context is not scored, so its characters do not count either.
        room = self.causal.config.context
        lengths = [len(self.codec.encode(text, "")) for text in texts]
        characters = sum(len(text) * min(1.0, room / length) for text, length in zip(texts, lengths))
        return float(nats) / max(1.0, characters)

    def predict(self, records: Records) -> Predictions:
        """Return a probability for each label: the label's share times how likely it makes the text."""
        if not self.codec.labels:
            raise errors.InputError("this model learned from records without labels, so it can label none")
        logs = self._log_chances(records.texts())
        chances = np.exp(logs - logs.max(axis=1, keepdims=True))
        gold = records.labels()
        return Predictions(
            ids=tuple(records.ids),
            classes=self.codec.labels,
            probabilities=chances / chances.sum(axis=1, keepdims=True),
            gold=None if gold is None else tuple(gold),
        )

    def _log_chances(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log of p(label) p(text | label) [n, labels]; one column without labels."""
        from karat.generation.causal import score

        labels = self.codec.labels or ("",)
        shares = self.label_shares if self.codec.labels else (1.0,)
        logs = np.empty((len(texts), len(labels)))
        with _torch_threads(self.threads):
            for column, (label, share) in enumerate(zip(labels, shares)):
                rows = [self.codec.encode(text, label)[: self.causal.config.context] for text in texts]
                means = score(self.causal, rows, prefix=self.codec.prefix)
                lengths = [len(row) - self.codec.prefix for row in rows]
                logs[:, column] = np.asarray(means) * lengths + math.log(max(share, 1e-12))
        return logs


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
        object.__setattr__(self, "_bpe", _load_bpe(self.pieces) if self.pieces else None)

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
    texts = records.texts()
    given = records.labels()
    counts = Counter(label for label in given or () if label is not None)
    if given is not None and counts and sum(counts.values()) < len(given):
        raise errors.InputError(f"{records.path}: some records have no label; fill them in or drop the field")
    labels = tuple(sorted(counts))
    words: set[str] = set()
    if tokens != "bpe":
        for text in texts:
            words.update(WORD.findall(text))
            if tokens == "auto" and len(words) > FEW_WORDS:
                break
    if tokens == "word" or (tokens == "auto" and len(words) <= FEW_WORDS):
        return Codec(labels, dict(counts), words=tuple(sorted(words)))
    return Codec(labels, dict(counts), pieces=_train_bpe(texts, pieces))


def _train_bpe(texts: Sequence[str], size: int) -> str:
    tokenizers = _tokenizers()
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    bpe.train_from_iterator(texts, trainer, length=len(texts))
    return str(bpe.to_str())


def _load_bpe(pieces: str) -> Any:
    return _tokenizers().Tokenizer.from_str(pieces)


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise errors.missing_extra("tokenizers", "torch", "trainer 'gpt' on text") from None
    return tokenizers
