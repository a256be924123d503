"""A small language model trained in this process on human records: no network, no key. Knows no recipe.

It reads no prompt. A request's label and attributes become control tokens in front of the text; in training,
attributes are dropped at random, so that one model answers plain and attributed requests alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from karat.errors import NotEnoughData, ProviderError, missing_extra
from karat.generation.base import Price, Progress, Request, Response, check_number
from karat.generation.tensors import threads
from karat.records import Records
from karat.version import __version__

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from karat.generation.causal import Causal

_PRESETS: dict[str, dict[str, float]] = {
    "small": {"layers": 3, "heads": 4, "width": 128, "context": 160, "vocab": 2000, "epochs": 6},
    "medium": {"layers": 5, "heads": 6, "width": 240, "context": 256, "vocab": 4000, "epochs": 6},
}

# The model sees so many versions of a record: with all attributes, with none, and with random ones.
_VERSIONS = 4


@dataclass(frozen=True)
class Embedded:
    """A small transformer trained on the human records: labels and attributes steer it, no key is needed.

    preset: small (one to two minutes of one core for 4,000 short texts) or medium.
    layers, heads, width, context, vocab: the model's shape; 0 leaves it to the preset.
    epochs: passes over the human records; 0 leaves it to the preset. With more than five or six, a few
    thousand records are learned by heart, and the held-out loss rises again.
    max_seconds: training ends there, its plan shortened to fit; 0: never.
    dropout: share of activations dropped in training. top_k, top_p: as for any language model.
    batch_size: requests sampled at a time.
    threads: of torch; with one, the same seed gives the same model on any number of cores, and a busy machine
    slows it least. 0: as the caller has set it.
    """

    preset: Literal["small", "medium"] = "small"
    layers: int = 0
    heads: int = 0
    width: int = 0
    context: int = 0
    vocab: int = 0
    epochs: float = 0
    max_seconds: float = 90
    dropout: float = 0.35
    top_k: int = 0
    batch_size: int = 256
    threads: int = 1

    model: ClassVar[str] = "embedded"
    concurrency: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in (
            "layers",
            "heads",
            "width",
            "context",
            "vocab",
            "epochs",
            "max_seconds",
            "top_k",
            "threads",
        ):
            check_number(name, getattr(self, name), 0, "0 leaves it to the preset")
        check_number("batch_size", self.batch_size, 1, "one request at a time is the least")

    def setting(self, name: str) -> float:
        """A setting, or the preset's where it is 0."""
        return float(getattr(self, name) or _PRESETS[self.preset][name])

    def price(self, request: Request) -> Price:
        """A few control tokens and the longest answer; no money."""
        return Price(min(8 + request.max_tokens, int(self.setting("context"))))

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """An untrained model answers nothing."""
        raise ProviderError("provider 'embedded' has learned nothing yet; give human records (--human FILE)")

    def fit(
        self, human: Records, *, seed: int = 0, cache: Path | None = None, progress: Progress | None = None
    ) -> Fitted:
        """Train on human records, or load what was trained on the same ones before.

        The attributes are those in the records' lineage. cache: a folder to keep trained models in.
        Raises NotEnoughData under twenty records, MissingExtra without torch.
        """
        for package in ("torch", "tokenizers"):
            _need(package)
        if len(human) < 20:
            raise NotEnoughData(
                f"{human.path}: {len(human)} human records are too few to train provider 'embedded'; "
                "give 20 or more"
            )
        home = None if cache is None else cache / f"embedded-{self._key(human, seed)}"
        if home is not None and (home / "facts.json").exists():
            return _load(self, home)
        with threads(self.threads, "provider 'embedded'"):
            fitted = _fit(self, human, seed, progress)
        if home is not None:
            fitted.save(home)
        return fitted

    def _key(self, human: Records, seed: int) -> str:
        told = [
            __version__,
            human.fingerprint,
            human.lineage("attributes"),
            human.labels(),
            asdict(self),
            seed,
        ]
        text = json.dumps(told, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True)
class Control:
    """The numbers of all control tokens; they follow the text tokens."""

    start: int
    stop: int
    unknown_label: int
    labels: Mapping[str, int]
    absent: Mapping[str, int]
    """attribute -> the token that says: not given"""
    values: Mapping[str, Mapping[str, int]]

    @classmethod
    def after(cls, first: int, labels: Sequence[str], values: Mapping[str, Sequence[str]]) -> Control:
        """Number the control tokens from `first` on."""
        numbers = iter(range(first, first + 10**9))
        return cls(
            start=next(numbers),
            stop=next(numbers),
            unknown_label=next(numbers),
            labels={label: next(numbers) for label in labels},
            absent={name: next(numbers) for name in values},
            values={name: {value: next(numbers) for value in found} for name, found in values.items()},
        )

    @property
    def end(self) -> int:
        """One more than the last token."""
        several = [n for found in self.values.values() for n in found.values()]
        return 1 + max([self.unknown_label, *self.labels.values(), *self.absent.values(), *several])

    def prefix(self, label: str | None, attributes: Mapping[str, str]) -> list[int]:
        """The tokens before a text: label, one for each attribute, start."""
        tokens = [self.labels.get(label or "", self.unknown_label)]
        for name, absent in self.absent.items():
            tokens.append(self.values[name].get(attributes.get(name, ""), absent))
        return [*tokens, self.start]


class _State:
    """The trained parts, which are no settings: model and tokenizer."""

    def __init__(self, model: Causal, tokenizer: Tokenizer, control: Control) -> None:
        self.model, self.tokenizer, self.control = model, tokenizer, control


@dataclass(frozen=True)
class Fitted:
    """A trained embedded model; it answers requests. Its name is the hash of its weights and tokenizer."""

    model: str
    settings: Embedded
    saw: tuple[str, ...]
    """fingerprints of the human records it was trained on"""
    facts: dict[str, float]
    """parameters, losses (nats a token), steps, epochs, seconds and tokens a second of the training"""

    part_name: ClassVar[str] = "embedded"
    concurrency: ClassVar[int] = 1

    @property
    def batch_size(self) -> int:
        """Requests sampled at a time."""
        return self.settings.batch_size

    @property
    def state(self) -> _State:
        """Model, tokenizer and control tokens; not a field, as a step is named by what was learned."""
        return self.__dict__["_state"]  # type: ignore[no-any-return]

    def price(self, request: Request) -> Price:
        """Prefix and the longest answer; no money."""
        context = self.state.model.config.context
        prefix = len(self.state.control.absent) + 2
        return Price(prefix + min(request.max_tokens, context - prefix))

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Sample an answer for each request; its seed alone decides, not its neighbours."""
        with threads(self.settings.threads, "provider 'embedded'"):
            return self._sampled(requests)

    def _sampled(self, requests: Sequence[Request]) -> list[Response]:
        from karat.generation.causal import sample

        state = self.state
        model, control = state.model, state.control
        result: list[Response | None] = [None] * len(requests)
        banned = [n for n in range(control.start, control.end) if n != control.stop]
        kinds = sorted({(r.temperature, r.top_p) for r in requests})
        for temperature, top_p in kinds:
            rows = [i for i, r in enumerate(requests) if (r.temperature, r.top_p) == (temperature, top_p)]
            prompts = [control.prefix(requests[i].label, requests[i].attributes) for i in rows]
            answers = sample(
                model,
                prompts,
                max_new_tokens=[max(1, requests[i].max_tokens) for i in rows],
                stop_token=control.stop,
                temperature=temperature,
                top_k=self.settings.top_k,
                top_p=top_p,
                banned=banned,
                seed=[_seed(requests[i]) for i in rows],
                batch_size=self.settings.batch_size,
            )
            texts = state.tokenizer.decode_batch([list(a.tokens) for a in answers], skip_special_tokens=False)
            for i, prompt, answer, text in zip(rows, prompts, answers, texts):
                result[i] = Response(
                    request_id=requests[i].id,
                    text=text,
                    tokens_in=len(prompt),
                    tokens_out=len(answer.tokens) + answer.finished,
                    logprob=answer.logprob,
                    finish_reason="stop" if answer.finished else "length",
                    model=self.model,
                )
        return [response for response in result if response is not None]

    def save(self, home: Path) -> Path:
        """Write weights, tokenizer and facts to a folder, the facts last."""
        from karat.generation import causal

        home.mkdir(parents=True, exist_ok=True)
        causal.save(self.state.model, home / "model.pt")
        self.state.tokenizer.save(str(home / "tokenizer.json"))
        told = {
            "model": self.model,
            "saw": self.saw,
            "facts": self.facts,
            "control": asdict(self.state.control),
        }
        partial = home / "facts.json.part"
        partial.write_text(json.dumps(told, ensure_ascii=False, indent=1), "utf-8")
        partial.replace(home / "facts.json")
        return home


def _need(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise missing_extra(package, "torch", "provider 'embedded'")


def _seed(request: Request) -> int:
    return (
        request.seed
        if not request.replicate
        else int(np.random.SeedSequence([request.seed, request.replicate]).generate_state(1)[0])
    )


def _load(settings: Embedded, home: Path) -> Fitted:
    from tokenizers import Tokenizer

    from karat.generation import causal

    told = json.loads((home / "facts.json").read_text("utf-8"))
    model = causal.load(home / "model.pt")
    tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))
    return _made(settings, model, tokenizer, Control(**told["control"]), tuple(told["saw"]), told["facts"])


def _made(
    settings: Embedded,
    model: Causal,
    tokenizer: Tokenizer,
    control: Control,
    saw: tuple[str, ...],
    facts: Mapping[str, Any],
) -> Fitted:
    digest = hashlib.sha256((model.fingerprint() + tokenizer.to_str() + repr(control)).encode("utf-8"))
    fitted = Fitted("embedded-" + digest.hexdigest()[:16], settings, saw, dict(facts))
    fitted.__dict__["_state"] = _State(model, tokenizer, control)
    return fitted


def _fit(settings: Embedded, human: Records, seed: int, progress: Progress | None) -> Fitted:
    """Train tokenizer and model."""
    from karat.generation.causal import CausalConfig
    from karat.generation.causal_training import train_causal

    texts = human.texts()
    labels = [str(label) if label is not None else "" for label in human.labels() or texts[:0]] or [""] * len(
        texts
    )
    attributes = [json.loads(text) if text else {} for text in human.lineage("attributes")]
    tokenizer = _tokenizer(texts, int(settings.setting("vocab")))
    values: dict[str, dict[str, None]] = {}
    for own in attributes:
        for name, value in own.items():
            values.setdefault(name, {})[str(value)] = None
    control = Control.after(
        tokenizer.get_vocab_size(),
        sorted(set(labels)),
        {name: sorted(found) for name, found in sorted(values.items())},
    )
    config = CausalConfig(
        vocab_size=control.end,
        layers=int(settings.setting("layers")),
        heads=int(settings.setting("heads")),
        width=int(settings.setting("width")),
        context=int(settings.setting("context")),
        dropout=settings.dropout,
    )
    coded = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    # Held-out rows are whole records: no version of one may be trained on.
    order = np.random.default_rng(seed).permutation(len(texts))
    apart = order[: len(texts) // 20]
    learned = order[len(texts) // 20 :]
    versions = _VERSIONS if values else 1
    train = list(_rows(learned, coded, labels, attributes, control, versions, seed))
    held = list(_rows(apart, coded, labels, attributes, control, 1, seed)) if len(apart) >= 5 else None
    model, history = train_causal(
        train,
        config,
        epochs=settings.setting("epochs") / versions,
        max_seconds=settings.max_seconds or None,
        lr=0.03,
        adam_lr=0.008,
        weight_decay=0.2,
        seed=seed,
        # Small batches: on a few thousand records, the number of steps is what is short.
        batch_tokens=int(np.clip(sum(map(len, train)) / versions / 60, 192, 1024)),
        validation=held,
        validation_share=0.0,
        loss_mask_prefix=len(control.absent) + 2,
        progress=progress,
    )
    facts = {
        "parameters": model.parameters_count,
        "vocabulary": control.end,
        "human_records": len(texts),
        "human_tokens": sum(map(len, coded)),
        "best_loss": round(history.best_loss, 4),
        "train_loss": round(history.losses[-1][1], 4),
        "steps": history.steps,
        "epochs": round(history.epochs * versions, 2),
        "seconds": round(history.seconds, 2),
        "tokens_per_second": round(history.tokens_per_second),
        "cut_rows": history.cut_rows // versions,
        "shortened": float(history.shortened),
    }
    return _made(settings, model, tokenizer, control, (human.fingerprint,), facts)


def _rows(
    which: np.ndarray[Any, Any],
    coded: Sequence[Sequence[int]],
    labels: Sequence[str],
    attributes: Sequence[Mapping[str, str]],
    control: Control,
    versions: int,
    seed: int,
) -> Iterator[list[int]]:
    """Token rows: prefix, text, stop. Version 0 has all attributes, 1 none, others a random half."""
    generator = np.random.default_rng((seed, 1))
    for version in range(versions):
        for i in which.tolist():
            own = attributes[i]
            if version == 1:
                own = {}
            elif version > 1:
                own = {name: value for name, value in own.items() if generator.random() < 0.5}
            yield [*control.prefix(labels[i], own), *coded[i], control.stop]


def _tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Byte-pair encoding learned from the texts; it works on bytes, so any script can be written."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
