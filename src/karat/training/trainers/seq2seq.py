"""An encoder-decoder transformer trained from scratch on pairs; it translates and answers. Knows no loop.

Sources and targets share one byte-level BPE, learned on the training pairs, and one embedding. A model
trained on more pairs with `start` keeps the BPE, the state of the optimiser and its place in the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from karat import errors
from karat.generation.tensors import learn_pieces, load_pieces, threads
from karat.records import Records
from karat.training.base import Progress, Written

if TYPE_CHECKING:
    from karat.generation.base import Request, Response
    from karat.training.transformer import Transformer
    from karat.training.transformer_training import History, Pairs, State

FIELDS = {"translation": ("source", "target"), "instruction": ("prompt", "completion")}
SPECIALS = 3
"""padding, start and end: the numbers of BPE pieces begin behind them"""
ASKED = "Answer with the translation alone.\n\n"
"""In a request of the recipe `translate` the sentence stands behind this line; else it is the message."""
_WHO = "trainer 'seq2seq'"
_BYTES = 256
_NUMBERS = (
    "layers heads width feed pieces steps epochs batch_tokens lr warmup dropout smoothing alpha threads"
).split()


@dataclass(frozen=True)
class Preset:
    """Size and training of a model; the meaning of each number is that of the settings of `seq2seq`."""

    layers: int
    heads: int
    width: int
    feed: int
    pieces: int
    steps: int
    epochs: float
    batch_tokens: int
    lr: float
    warmup: int
    dropout: float = 0.1
    post_norm: bool = False


PRESETS = {
    # mini: 0.1 M parameters, seconds on one core; learns to put words in another order
    "mini": Preset(2, 4, 64, 128, 512, 400, 40, 512, lr=4e-3, warmup=80, dropout=0.0),
    # small: 1.4 M parameters, about four minutes on one core for 20,000 short pairs
    "small": Preset(2, 4, 128, 512, 4096, 2000, 30, 2048, lr=3e-3, warmup=300),
    # base: the CPU size of the from-scratch check, 6 M parameters, an hour on one core
    "base": Preset(3, 4, 256, 1024, 8192, 20_000, 20, 6144, lr=1e-3, warmup=1000),
    # paper: the base model of Vaswani et al. 2017 (25,000 source and as many target tokens a batch); GPU days
    "paper": Preset(
        6, 8, 512, 2048, 37_000, 100_000, 1000, 50_000, lr=512**-0.5 * 4000**-0.5, warmup=4000, post_norm=True
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Seq2seq:
    """Encoder-decoder transformer trained from scratch on translations or instructions; its model answers.

    preset: mini (seconds), small (minutes for 20,000 short pairs on one core), base (an hour), paper
        (Vaswani et al. 2017).
    layers, heads, width, feed, pieces, batch_tokens, lr, warmup: 0 takes the preset's. `pieces` is the size
        of the vocabulary, `batch_tokens` counts source, target and padding.
    steps, epochs: how long to train; 0 takes the preset's, and of the two the one that is over first.
        What you give alone holds alone. With `start` they are counted anew.
    dropout: -1 takes the preset's.
    smoothing: label smoothing.
    beam: beams of the search; 1 takes the most likely token each time.
    alpha: length normalisation, 0 (none) to 1 (nearly the mean a token).
    longest: pairs with more tokens on either side are left out of training; longer sources are cut.
    threads: cores for one fit; 1 makes the result independent of the number of cores, 0 takes all.
    """

    types: ClassVar[tuple[str, ...]] = ("translation", "instruction")
    continues: ClassVar[bool] = True
    shuffles: ClassVar[bool] = True

    preset: Literal["mini", "small", "base", "paper"] = "small"
    layers: int = 0
    heads: int = 0
    width: int = 0
    feed: int = 0
    pieces: int = 0
    steps: int = 0
    epochs: float = 0.0
    batch_tokens: int = 0
    lr: float = 0.0
    warmup: int = 0
    dropout: float = -1.0
    smoothing: float = 0.1
    beam: int = 4
    alpha: float = 0.6
    longest: int = 256
    threads: int = 1

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            if getattr(self, name) < 0 and not (name == "dropout" and self.dropout == -1):
                raise ValueError(f"{name}={getattr(self, name)} is below 0; 0 takes the preset's")
        if self.beam < 1 or self.longest < 1:
            raise ValueError(f"beam={self.beam} and longest={self.longest} must be at least 1")
        if self.dropout >= 1 or self.smoothing >= 1:
            raise ValueError(f"dropout={self.dropout} and smoothing={self.smoothing} must be below 1")

    def _chosen(self) -> Preset:
        given = {
            name: getattr(self, name)
            for name in asdict(PRESETS[self.preset])
            if name not in ("post_norm", "dropout") and getattr(self, name)
        }
        # Who gives one of the two wants that one, however long it takes.
        if self.steps or self.epochs:
            given |= {"steps": self.steps, "epochs": self.epochs}
        if self.dropout >= 0:
            given["dropout"] = self.dropout
        return replace(PRESETS[self.preset], **given)

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
        start: Seq2seqModel | None = None,
    ) -> Seq2seqModel:
        """Train on pairs, from nothing or from `start`; with validation, return the best of eight checks.

        With `start`, size and BPE are those of the model, and the optimiser goes on as it stood.
        """
        sources, targets = pairs_of(records)
        with threads(self.threads, _WHO):
            import torch

            from karat.training.transformer import Transformer, TransformerConfig
            from karat.training.transformer_training import Plan, steps_of, train

            chosen = self._chosen()
            if start is None:
                codec = learn_codec([*sources, *targets], chosen.pieces)
                config = TransformerConfig(
                    vocab_size=codec.size,
                    layers=chosen.layers,
                    heads=chosen.heads,
                    width=chosen.width,
                    feed=chosen.feed,
                    dropout=chosen.dropout,
                    post_norm=chosen.post_norm,
                )
                model, state = Transformer(config, seed=seed), None
            else:
                codec, state = start.codec, start.state
                model = Transformer(replace(start.transformer.config, dropout=chosen.dropout))
                model.load_state_dict(start.transformer.state_dict())
            rows, left_out = _rows(codec, sources, targets, self.longest)
            if not rows.sources:
                raise errors.NotEnoughData(
                    f"{records.path}: no pair has at most longest={self.longest} tokens a side; raise it"
                )
            steps = chosen.steps
            if chosen.epochs:
                passed = steps_of(rows, chosen.batch_tokens, chosen.epochs, seed)
                steps = min(steps, passed) if steps else passed
            plan = Plan(steps, chosen.batch_tokens, chosen.lr, chosen.warmup, self.smoothing, seed=seed)
            with torch.random.fork_rng(devices=[]):
                model, state, history = train(
                    model,
                    rows,
                    plan,
                    data=f"{records.fingerprint}:{seed}",
                    state=state,
                    validation=_held_out(codec, validation, self.longest),
                    progress=progress,
                )
        return Seq2seqModel(
            model.eval(), codec, state, history, records.fingerprint, self.beam, self.alpha, self.longest,
            self.threads, left_out,
        )  # fmt: skip

    @staticmethod
    def load(folder: str | Path) -> Seq2seqModel:
        """Read a model that its `save` wrote; tensors and plain values only."""
        with threads(0, _WHO):
            from safetensors.torch import load_file

            from karat.training.transformer import Transformer, TransformerConfig
            from karat.training.transformer_training import History, State

            folder = Path(folder)
            if not (folder / "seq2seq.json").is_file():
                raise errors.InputError(f"{folder}: no model of 'seq2seq' is here (seq2seq.json is missing)")
            told = json.loads((folder / "seq2seq.json").read_text("utf-8"))
            model = Transformer(TransformerConfig(**told["config"]))
            model.load_state_dict(load_file(folder / "model.safetensors"))
            kept = folder / "training.safetensors"
            state = State(**told["state"], tensors=load_file(kept)) if kept.is_file() else State()
        codec = Codec((folder / "tokenizer.json").read_text("utf-8"))
        history = told["history"]
        for name in ("losses", "validation"):
            history[name] = tuple((int(step), float(loss)) for step, loss in history[name])
        return Seq2seqModel(model.eval(), codec, state, History(**history), **told["settings"])


@dataclass(frozen=True, eq=False)
class Seq2seqModel:
    """A trained model: `predict` answers records, `complete` requests, `surprise` weighs given answers."""

    transformer: Transformer
    codec: Codec
    state: State = field(repr=False)
    history: History = field(repr=False)
    saw: str  # fingerprint of the training records
    beam: int = 4
    alpha: float = 0.6
    longest: int = 256
    threads: int = 1
    left_out: int = 0
    """training pairs that were too long"""

    batch_size = 512
    concurrency = 1

    @cached_property
    def model(self) -> str:
        """The model's name: it changes with any weight, and with how it searches."""
        config = self.transformer.config
        search = f"beam{self.beam}" + (f"-alpha{self.alpha}" if self.alpha != 0.6 else "")
        return f"seq2seq-{config.layers}x{config.width}-{self.transformer.fingerprint()}-{search}"

    def predict(self, records: Records) -> Written:
        """Write an answer to each source, beside the target that stands there and how surprising that is."""
        from karat.training.transformer import surprise

        sources, references = pairs_of(records)
        with threads(self.threads, _WHO):
            texts = [self.codec.text(one.tokens) for one in self._translate(sources)]
            given = [row[: self.longest] for row in self.codec.rows(sources)]
            nats, tokens = surprise(self.transformer, given, self.codec.rows(references))
        return Written(tuple(records.ids), tuple(texts), tuple(references), tuple(sources), nats, tokens)

    def translate(self, sources: Sequence[str]) -> list[str]:
        """Write an answer to each source."""
        with threads(self.threads, _WHO):
            return [self.codec.text(one.tokens) for one in self._translate(sources)]

    def _translate(self, sources: Sequence[str], **settings: Any) -> list[Any]:
        from karat.training.transformer_search import translate

        rows = [row[: self.longest] for row in self.codec.rows(sources)]
        return translate(self.transformer, rows, beam=self.beam, alpha=self.alpha, **settings)

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer the sentence of each request's last message: by beam search at temperature 0, else drawn.

        `logprob` is the mean a token, the end included, under the model itself.
        """
        from karat.generation.base import Response

        sentences = [sentence_of(request) for request in requests]
        answers: dict[int, Any] = {}
        groups: dict[tuple[float, float], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault((request.temperature, request.top_p), []).append(place)
        with threads(self.threads, _WHO):
            for (temperature, top_p), places in groups.items():
                asked = [requests[i] for i in places]
                found = self._translate(
                    [sentences[i] for i in places],
                    temperature=temperature,
                    top_p=top_p,
                    seed=[request.draw_seed for request in asked],
                    max_new_tokens=[request.max_tokens for request in asked],
                )
                answers.update(zip(places, found, strict=True))
        counts = [len(row) + 1 for row in self.codec.rows(sentences)]
        return [
            Response(
                request_id=request.id,
                text=self.codec.text(answers[i].tokens),
                tokens_in=counts[i],
                tokens_out=len(answers[i].tokens),
                logprob=answers[i].logprob / max(1, len(answers[i].tokens) + answers[i].finished),
                finish_reason="stop" if answers[i].finished else "length",
                cost_usd=0.0,
                model=self.model,
            )
            for i, request in enumerate(requests)
        ]

    def save(self, folder: str | Path) -> Path:
        """Write weights, BPE, and what training needs to go on; `Seq2seq.load` reads them."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in self.transformer.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        if self.state.tensors:
            save_file(self.state.tensors, folder / "training.safetensors")
        (folder / "tokenizer.json").write_text(self.codec.pieces, "utf-8")
        told = {
            "config": asdict(self.transformer.config),
            "settings": {
                name: getattr(self, name) for name in "saw beam alpha longest threads left_out".split()
            },
            "state": {name: getattr(self.state, name) for name in ("step", "epoch", "drawn", "data")},
            "history": asdict(self.history),
        }
        # Last: a folder without it is not a model.
        (folder / "seq2seq.json").write_text(json.dumps(told, indent=1), "utf-8")
        return folder


@dataclass(frozen=True)
class Codec:
    """Texts to token numbers and back by byte-level BPE; `pieces` is the tokeniser as JSON."""

    pieces: str

    @cached_property
    def _bpe(self) -> Any:
        return load_pieces(self.pieces, _WHO)

    def __getstate__(self) -> dict[str, Any]:
        return {"pieces": self.pieces}

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return SPECIALS + int(self._bpe.get_vocab_size())

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text as token numbers, without start and end."""
        return [[SPECIALS + i for i in one.ids] for one in self._bpe.encode_batch(list(texts))]

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text that token numbers stand for."""
        return str(self._bpe.decode([t - SPECIALS for t in tokens if t >= SPECIALS])).removeprefix(" ")


def learn_codec(texts: Sequence[str], size: int) -> Codec:
    """Learn at most `size` tokens from texts, those of one byte among them."""
    return Codec(learn_pieces(texts, max(size - SPECIALS, _BYTES), _WHO, space=True))


def pairs_of(records: Records) -> tuple[list[str], list[str]]:
    """Return sources and targets. Raises InputError for another data type or where one is missing."""
    if records.datatype not in FIELDS:
        raise errors.InputError(
            f"{records.path}: trainer 'seq2seq' learns from translation or instruction records, "
            f"not from {records.datatype}; name the fields with --source-field and --target-field"
        )
    if not len(records):
        raise errors.NotEnoughData(f"{records.path}: no records are left; give more, or drop fewer")
    found = []
    for name in FIELDS[records.datatype]:
        texts = records.column(name)
        for identity, text in zip(records.ids, texts):
            if not isinstance(text, str):
                raise errors.InputError(
                    f"{records.path}: record {identity!r} has no {name}; fill it in or leave the record out"
                )
        found.append(texts)
    return found[0], found[1]


def sentence_of(request: Request) -> str:
    """Return what a request wants translated."""
    if not request.messages:
        raise errors.ProviderError("a seq2seq model was asked without a message; it has nothing to translate")
    told = request.messages[-1].content
    _, asked, text = told.partition(ASKED)
    return text if asked else told


def _rows(codec: Codec, sources: Sequence[str], targets: Sequence[str], longest: int) -> tuple[Pairs, int]:
    from karat.training.transformer_training import Pairs

    both = zip(codec.rows(sources), codec.rows(targets))
    kept = [(s, t) for s, t in both if len(s) <= longest and len(t) <= longest]
    return Pairs([s for s, _ in kept], [t for _, t in kept]), len(sources) - len(kept)


def _held_out(codec: Codec, validation: Records | None, longest: int) -> Pairs | None:
    if validation is None:
        return None
    rows, _ = _rows(codec, *pairs_of(validation), longest)
    return rows if rows.sources else None
