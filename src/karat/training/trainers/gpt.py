"""A causal transformer trained from scratch on records; it writes, labels and weighs them. Knows no loop.

Words are tokens where there are few of them (a grammar), else byte-level BPE pieces. A model of labelled
records labels a text by Bayes' rule: p(label | text) ~ p(label) p(text | label). Texts that are longer than
the context are learned and weighed in windows, each with a quarter of a context before it as what is known.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat import errors
from karat import records as karat_records
from karat.generation import devices
from karat.generation.tensors import threads
from karat.records import Records
from karat.training.annotators import answered
from karat.training.base import Predictions, Progress, Weighed, kind_of
from karat.training.causal_codec import END, UNKNOWN, Codec, make_codec, widened, windows
from karat.training.causal_presets import EPOCHS, PRESETS, Preset

if TYPE_CHECKING:
    from karat.generation.base import Request, Response
    from karat.generation.causal import Causal, CausalConfig
    from karat.generation.causal_training import History

_ABOUT, _WEIGHTS, _FORMAT = "gpt.json", "gpt.safetensors", 1
_WHO = "trainer 'gpt'"
_LOGITS = 1 << 25
"""Numbers that weighing holds at once: 128 MB."""


@dataclass(frozen=True)
class Gpt:
    """Causal transformer trained from scratch; its model writes new records and labels old ones.

    preset: mini (0.1 M parameters, seconds), small (0.8 M, minutes), paper (10.6 M, 5,000 steps as in
        Briesch et al.).
    tokens: word, bpe, or auto (words where there are at most 64 different ones).
    layers, heads, width, context, steps, batch_tokens: 0 takes the preset's.
    threads: cores for one fit; 1 makes the result independent of the number of cores, 0 takes all.
    device: auto (CUDA where there is any, else the CPU), cpu, cuda or cuda:N.
    compiled: let torch.compile fuse the layers; only for long runs on CUDA.
    """

    types: ClassVar[tuple[str, ...]] = ("classification", "text", "annotation", "dialogue")
    continues: ClassVar[bool] = True
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
    device: str = "auto"
    compiled: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width", "context", "steps", "batch_tokens", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} is below 0; 0 takes the preset's")
        devices.check(self.device)
        if 0 < self.context < 8:
            raise ValueError(f"context={self.context} leaves no room for a text; take 8 or more, or 0")

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
        start: GptModel | None = None,
        cache: Path | None = None,
    ) -> GptModel:
        """Train a model on the texts (and labels, where there are any) of records.

        start: go on from this model, which stays as it is. Its shape and its BPE pieces are kept; labels and
        words that it lacks are added, as unlikely at first as an unknown word.
        cache: a file where training of more than a minute is kept, so that a killed one goes on from there;
        remove it when the model is safe.
        """
        records = _usable(records)
        with threads(self.threads, _WHO):
            from karat.generation.causal_training import train_causal

            chosen = PRESETS[self.preset]
            batch_tokens = self.batch_tokens or chosen.batch_tokens
            codec = self._codec(records, chosen, start)
            rows = codec.rows(records)
            config, begun = self._shape(chosen, codec, max(map(len, rows)), start)
            apart = None if validation is None else codec.rows(_usable(validation))
            if apart is None and max(map(len, rows)) > config.context and len(rows) >= 20:
                # Windows of one text must not be both learned and held out.
                order = np.random.default_rng([seed, 2]).permutation(len(rows))
                held = set(order[: len(rows) // round(1 / chosen.validation_share)].tolist())
                apart = [rows[i] for i in sorted(held)]
                rows = [row for i, row in enumerate(rows) if i not in held]
            cut, scored = _windows(rows, codec.prefix, config.context)
            held_cut, held_scored = (
                (None, 1) if apart is None else _windows(apart, codec.prefix, config.context)
            )
            model, history = train_causal(
                cut,
                config,
                steps=self.steps or _steps(chosen, rows, codec, batch_tokens),
                seed=seed,
                batch_tokens=batch_tokens,
                validation=held_cut,
                loss_mask_prefix=scored,
                validation_mask_prefix=held_scored,
                model=begun,
                device=self.device,
                compiled=self.compiled,
                checkpoint=cache,
                progress=progress,
                **chosen.training(),
            )
        shares = np.asarray([codec.label_counts[label] for label in codec.labels], dtype=np.float64)
        saw = dict.fromkeys([*(start.saw if start is not None else ()), records.fingerprint])
        return GptModel(
            model,
            codec,
            history,
            tuple(shares / max(shares.sum(), 1.0)),
            tuple(saw),
            self.threads,
            self.device,
        )

    @staticmethod
    def load(folder: str | Path) -> GptModel:
        """Read a model that its `save` wrote; tensors and plain values only."""
        with threads(0, _WHO):
            from safetensors.torch import load_file

            from karat.generation.causal import Causal, CausalConfig
            from karat.generation.causal_training import History

            told = json.loads((Path(folder) / _ABOUT).read_text("utf-8"))
            if told.get("format") != _FORMAT:
                raise errors.InputError(
                    f"{folder}: format {told.get('format')!r} of another version of karat; train anew"
                )
            causal = Causal(CausalConfig(**told["config"]))
            causal.load_state_dict(load_file(Path(folder) / _WEIGHTS))
        named = told["codec"]
        codec = Codec(
            tuple(named["labels"]), dict(named["label_counts"]), tuple(named["words"]), named["pieces"]
        )
        history = told["history"]
        for name in ("losses", "validation"):
            history[name] = tuple((int(step), float(loss)) for step, loss in history[name])
        return GptModel(
            causal.eval(),
            codec,
            History(**history),
            tuple(told["label_shares"]),
            tuple(told["saw"]),
            int(told["threads"]),
        )

    def _codec(self, records: Records, chosen: Preset, start: GptModel | None) -> Codec:
        if start is None:
            return make_codec(records, self.tokens, chosen.pieces)
        kept = "bpe" if start.codec.pieces else "word"
        if self.tokens not in ("auto", kept):
            raise errors.BadSetting(
                f"tokens={self.tokens}, but the model to go on from has tokens={kept}; leave tokens out"
            )
        return widened(start.codec, records)

    def _shape(
        self, chosen: Preset, codec: Codec, longest: int, start: GptModel | None
    ) -> tuple[CausalConfig, Causal | None]:
        """The shape of the model, and the weights to go on from. Raises BadSetting where both differ."""
        from karat.generation.causal import CausalConfig

        if start is None:
            # Models drift to longer texts than they were trained on, so that there must be room
            # for twice the longest.
            context = self.context or min(chosen.context, max(32, 2 * longest))
            return CausalConfig(
                vocab_size=codec.size,
                layers=self.layers or chosen.layers,
                heads=self.heads or chosen.heads,
                width=self.width or chosen.width,
                context=context,
                dropout=chosen.dropout,
            ), None
        begun = _grown(start.causal, start.codec, codec)
        for name in ("layers", "heads", "width", "context"):
            wanted, there = getattr(self, name), getattr(begun.config, name)
            if wanted not in (0, there):
                raise errors.BadSetting(
                    f"{name}={wanted}, but the model to go on from has {name}={there}; leave it out"
                )
        return begun.config, begun


def _usable(records: Records) -> Records:
    """Raise where the trainer cannot read such records; leave annotators' empty answers out."""
    if records.datatype not in Gpt.types:
        raise errors.BadSetting(
            f"trainer 'gpt' takes {', '.join(Gpt.types)} records, but {records.path} holds "
            f"{records.datatype} records; choose another trainer (see: karat list trainers)"
        )
    if not len(records):
        raise errors.NotEnoughData(f"{records.path}: no records are left to train on; give more")
    return answered(records) if records.datatype == "annotation" else records


def _windows(rows: Sequence[Sequence[int]], prefix: int, context: int) -> tuple[list[list[int]], list[int]]:
    """All rows in windows that fit, and from which place on each counts."""
    found = [window for row in rows for window in windows(row, prefix, context)]
    return [row for row, _ in found], [scored for _, scored in found]


def _grown(model: Causal, old: Codec, new: Codec) -> Causal:
    """The model with a place for each token of `new`; what is not in `old` begins as an unknown word."""
    import torch

    from karat.generation.causal import Causal

    if old.names == new.names:
        return model
    place = {name: i for i, name in enumerate(old.names)}
    at = torch.tensor([place.get(name, -1) for name in new.names])
    known = at >= 0
    grown = Causal(replace(model.config, vocab_size=new.size))
    weights, fresh = dict(model.state_dict()), grown.state_dict()
    for name in ("embed.weight", "head", "bias"):
        table, before = fresh[name].clone(), weights[name]
        if name != "embed.weight":  # a vector of its own, or the model could never tell it from another
            table[:] = before[UNKNOWN]
        table[known] = before[at[known]]
        weights[name] = table
    grown.load_state_dict(weights)
    return grown


def _steps(chosen: Preset, rows: Sequence[Sequence[int]], codec: Codec, batch_tokens: int) -> int:
    """Return the preset's steps, or fewer where a small corpus of real text would be learned by heart."""
    if not codec.pieces:
        return chosen.steps
    return min(chosen.steps, max(10, EPOCHS * sum(map(len, rows)) // batch_tokens))


@dataclass(frozen=True, eq=False)
class GptModel:
    """A trained model: `generate` writes records, `complete` answers, `predict` labels or weighs."""

    causal: Causal
    codec: Codec
    history: History
    label_shares: tuple[float, ...]
    saw: tuple[str, ...]  # fingerprints of the training records
    threads: int = 1
    device: str = "auto"

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
        rows, name = [], self.model  # the name is a digest of all weights: made once, not once a row
        for number, text in enumerate(texts):
            row: dict[str, Any] = {"id": f"{name}:{seed}:{number}", "text": text}
            if self.codec.labels:
                assert labels is not None
                row["label"] = labels[number]
            rows.append(row)
        made = karat_records.from_rows(rows, datatype="classification" if self.codec.labels else "text")
        return made.with_lineage(
            source="synthetic",
            generator=name,
            seed=seed,
            logprob=logprobs,
            generator_saw=list(self.saw),
        )

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests by their label, temperature, top_p, seed and length; prompts are not read."""
        from karat.generation.base import Response

        answers: dict[int, Response] = {}
        name = self.model
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
                    model=name,
                )
        return [answers[position] for position in range(len(requests))]

    def _write(
        self, labels: Sequence[str], temperature: float, top_p: float, seed: int | Sequence[int], limit: int
    ) -> tuple[list[str], list[float], list[tuple[int, bool]]]:
        from karat.generation.causal import sample

        context = self.causal.config.context
        with self._placed() as causal:
            found = sample(
                causal,
                [self.codec.start(label) for label in labels],
                max_new_tokens=min(limit or context, context - self.codec.prefix),
                stop_token=END,
                temperature=temperature,
                top_p=top_p,
                banned=self.codec.banned,
                seed=seed,
                # A step costs CUDA the same for few rows as for many.
                batch_size=self.batch_size * (8 if causal.device.type == "cuda" else 1),
            )
        texts = [self.codec.text(row.tokens) for row in found]
        return texts, [row.logprob for row in found], [(len(row.tokens), row.finished) for row in found]

    def loss(self, texts: Sequence[str]) -> float:
        """Nats a character that the model needs for these texts; comparable between tokenisers."""
        return float(self._surprises(texts).sum()) / max(1.0, sum(map(len, texts)))

    def predict(self, records: Records) -> Predictions | Weighed:
        """Return a probability for each label of labelled records, or how likely records without labels are.

        A label's probability is its share times how likely it makes the text. A text without a label is as
        likely as all labels make it together; where words are tokens, spaces cost nothing.
        """
        if records.datatype not in Gpt.types:
            raise errors.BadSetting(
                f"a model of 'gpt' answers {', '.join(Gpt.types)} records, but {records.path} holds "
                f"{records.datatype}"
            )
        texts = records.texts()
        if kind_of(records) == "likelihoods":
            tokens = [len(self.codec.encode(text, "")) - self.codec.prefix for text in texts]
            sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
            return Weighed(
                tuple(records.ids),
                self._surprises(texts),
                np.asarray(tokens, dtype=np.int64),
                np.asarray(sizes, dtype=np.int64),
            )
        if not self.codec.labels:
            raise errors.InputError("this model learned from records without labels, so it can label none")
        logs = self._log_chances(texts)
        chances = np.exp(logs - logs.max(axis=1, keepdims=True))
        gold = records.labels()
        return Predictions(
            ids=tuple(records.ids),
            classes=self.codec.labels,
            probabilities=chances / chances.sum(axis=1, keepdims=True),
            gold=None if gold is None or None in gold else tuple(gold),
        )

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder: tensors and plain values."""
        from safetensors.torch import save_file

        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.causal.state_dict().items()}
        save_file(weights, home / _WEIGHTS)
        told = {
            "format": _FORMAT,
            "config": asdict(self.causal.config),
            "codec": self.codec.__getstate__(),
            "history": asdict(self.history),
            "label_shares": list(self.label_shares),
            "saw": list(self.saw),
            "threads": self.threads,
        }
        (home / _ABOUT).write_text(json.dumps(told, ensure_ascii=False), "utf-8")
        return home

    @contextmanager
    def _placed(self) -> Iterator[Causal]:
        """Bring the weights to the model's device; threads and precision are set meanwhile."""
        with threads(self.threads, _WHO):
            where = devices.place(self.device)
            with devices.quick(where):
                yield self.causal.to(where)

    def __getstate__(self) -> dict[str, Any]:
        """Weights travel on the host: the process that reads them may have another device, or none."""
        state = dict(self.__dict__)
        if self.causal.device.type != "cpu":
            state["causal"] = copy.deepcopy(self.causal).cpu()
        return state

    def _surprises(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """-ln p(text) [n] in nats, the end included; over all labels, and with the bytes of unknown words."""
        logs = self._log_chances(texts)
        top = logs.max(axis=1, initial=-np.inf)
        spelled = np.asarray([self.codec.spelling(text) for text in texts], dtype=np.float64)
        return np.asarray(spelled - (top + np.log(np.exp(logs - top[:, None]).sum(axis=1))))

    def _log_chances(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log of p(label) p(text | label) [n, labels]; one column without labels."""
        from karat.generation.causal import score

        labels = self.codec.labels or ("",)
        shares = self.label_shares if self.codec.labels else (1.0,)
        logs = np.zeros((len(texts), len(labels)))
        config, prefix = self.causal.config, self.codec.prefix
        batch = min(256, max(1, _LOGITS // (config.context * config.vocab_size)))
        with self._placed() as causal:
            for column, (label, share) in enumerate(zip(labels, shares)):
                rows = [windows(self.codec.encode(text, label), prefix, config.context) for text in texts]
                cut = [window for row in rows for window, _ in row]
                scored = [first for row in rows for _, first in row]
                means = score(causal, cut, prefix=scored, batch_size=batch)
                sums = np.asarray(means) * (np.asarray([len(row) for row in cut]) - np.asarray(scored))
                owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
                np.add.at(logs[:, column], owner, sums)
                logs[:, column] += math.log(max(share, 1e-12))
        return logs
