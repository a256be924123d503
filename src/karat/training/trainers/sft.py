"""Fine-tunes a causal model of this machine on what it shall say (TRL, LoRA of PEFT). Knows no score."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from karat.errors import BadSetting
from karat.records import Records
from karat.training import local_models as local
from karat.training.base import Progress, Weighed, Written
from karat.training.local_training import Adapter, Columns, Course, held_out, ready, tune
from karat.training.quiet import alone
from karat.training.wording import Coded, Wording, chat_of, fitted


@dataclass(frozen=True)
class Preset:
    """The settings that a preset fills; the meaning of each is that of the settings of `sft`."""

    r: int
    alpha: float
    dropout: float
    lr: float
    epochs: float
    batch: int
    accumulate: int
    max_length: int
    packing: bool
    quantise: Literal["none", "nf4"]
    new_tokens: int
    patience: int
    schedule: Literal["linear", "constant"]
    clip: float
    threshold: float = 0.01


PRESETS = {
    "small": Preset(
        r=16, alpha=32, dropout=0.05, lr=2e-4, epochs=3, batch=8, accumulate=1, max_length=1024,
        packing=False, quantise="none", new_tokens=256, patience=0, schedule="linear", clip=1.0,
    ),
    # Das et al. 2024, section 7.2, with LLaMA-2-7B: QLoRA, at most 20 epochs
    "paper": Preset(
        r=64, alpha=16, dropout=0.1, lr=2e-4, epochs=20, batch=4, accumulate=1, max_length=4096,
        packing=True, quantise="nf4", new_tokens=180, patience=3, schedule="constant", clip=0.3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Sft:
    """Supervised fine-tuning of a local Hugging Face model, by default through a low-rank adapter (LoRA).

    model: a folder with weights and tokenizer, or a hub name such as Qwen/Qwen3-0.6B.
    preset: small, or paper (QLoRA of "Under the Surface: Tracking the Artifactuality of LLM-Generated Data":
        r 64, at most 20 epochs with early stopping, 4,096 tokens; a GPU).
    full: train all weights and no adapter.
    r, alpha, dropout: rank, scale and dropout of the adapter; none takes the preset's, here as below.
    targets: the layers with an adapter, as q_proj+v_proj; auto takes all linear ones but the output.
    lr, epochs, batch, accumulate: learning rate, passes, rows a step, steps gathered into one.
    steps: so many steps instead of epochs.
    max_length: tokens; what is longer loses the start of its prompt, then the end of its completion.
    packing: put several records into one row.
    quantise: nf4 holds the base in 4 bits (bitsandbytes, CUDA).
    new_tokens: the longest answer in predictions.
    patience: epochs without a gain on the validation records (else a tenth of the training records) after
        which training stops; the best epoch is kept. 0 never stops early.
    template: chat (the tokenizer's), plain (Alpaca's), or auto (chat where there is one).
    task: what is asked of the source text of a translation.
    dtype: numbers of the weights; auto is float32 on a CPU, bfloat16 on a GPU under an adapter.

    The loss is that of completions alone; of texts and dialogues, of everything. Code that comes with a model
    is never run.
    """

    types: ClassVar[tuple[str, ...]] = ("instruction", "text", "dialogue", "translation")
    continues: ClassVar[bool] = True

    model: str
    preset: Literal["small", "paper"] = "small"
    full: bool = False
    r: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    targets: str = "auto"
    lr: float | None = None
    epochs: float | None = None
    steps: int = 0
    batch: int | None = None
    accumulate: int | None = None
    max_length: int | None = None
    packing: bool | None = None
    quantise: Literal["none", "nf4"] | None = None
    new_tokens: int | None = None
    patience: int | None = None
    template: Literal["auto", "chat", "plain"] = "auto"
    task: str = "Translate the text."
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        chosen = self._chosen()
        self._course(chosen).check()
        if self.full and self.quantise == "nf4":
            raise ValueError("full=true trains all weights, which quantise=nf4 freezes; use one of them")
        if chosen.r < 1 or chosen.new_tokens < 1:
            raise ValueError(f"r={chosen.r} and new_tokens={chosen.new_tokens} must be 1 or more")

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
        start: SftModel | None = None,
    ) -> SftModel:
        """Fine-tune the model, or go on from `start`, which stays as it is."""
        chosen = self._chosen()
        base = local.Base(self.model, self.dtype, "none" if self.full else chosen.quantise, self.device)
        ready("trainer 'sft'", records, self.types, base if start is None else start.base)
        if chosen.patience and validation is None and len(records) >= 20:
            ours, theirs = held_out(len(records), seed)
            records, validation = records.take(ours), records.take(theirs)
        settings = {"batch": chosen.batch, "new_tokens": chosen.new_tokens}
        if start is None:
            with alone():
                net, tokenizer = base.open(full=self.full)
            chat = chat_of(tokenizer, self.template, self.model)
            wording = Wording(tokenizer, chat, records.datatype, self.task)
            has_adapter = not self.full
        else:
            with tempfile.TemporaryDirectory(prefix="karat-") as folder, alone():
                opened = SftModel.opened(start.save(folder), trainable=True)
            net, base, has_adapter = opened.net, start.base, start.adapter
            wording = replace(opened.wording, datatype=records.datatype)
        fresh = has_adapter and start is None
        trained, losses = tune(
            "sft",
            net,
            wording.tokenizer,
            _columns(wording.coded(records), chosen.max_length),
            course=self._course(chosen),
            adapter=Adapter(chosen.r, chosen.alpha, chosen.dropout, self.targets) if fresh else None,
            base=base,
            seed=seed,
            validation=None if validation is None else _columns(wording.coded(validation), chosen.max_length),
            progress=progress,
            more={"packing": chosen.packing, "completion_only_loss": True},
        )
        return SftModel(trained, wording, base, has_adapter, settings, losses)

    @staticmethod
    def load(folder: str | Path) -> SftModel:
        """Return the model that `save` wrote."""
        return SftModel.opened(folder)

    def _chosen(self) -> Preset:
        """The preset, with what was set by hand."""
        preset = PRESETS[self.preset]
        own = {field.name: getattr(self, field.name, None) for field in fields(Preset)}
        return replace(preset, **{name: value for name, value in own.items() if value is not None})

    def _course(self, chosen: Preset) -> Course:
        return Course(
            lr=chosen.lr,
            schedule=chosen.schedule,
            warmup=0.03,
            clip=chosen.clip,
            epochs=chosen.epochs,
            steps=self.steps,
            batch=chosen.batch,
            accumulate=chosen.accumulate,
            max_length=chosen.max_length,
            patience=chosen.patience,
            threshold=chosen.threshold,
        )


@dataclass(frozen=True, eq=False)
class SftModel(local.LocalModel):
    """A fine-tuned model: it writes what was asked for, weighs texts and dialogues, and is a provider."""

    kind = "sft"

    def predict(self, records: Records) -> Written | Weighed:
        """Return the greedy answers to prompts, or how likely texts and dialogues are."""
        if records.datatype not in Sft.types:
            raise BadSetting(
                f"a model of 'sft' answers {', '.join(Sft.types)} records, but {records.path} holds "
                f"{records.datatype}"
            )
        if records.datatype != self.wording.datatype:
            return replace(self, wording=replace(self.wording, datatype=records.datatype)).predict(records)
        coded = self.wording.coded(records)
        surprise = self.surprises(coded)
        tokens = np.fromiter((len(said) for _, said in coded), np.int64, len(coded))
        asked, said = self.wording.sides(records)
        if asked is None:
            sizes = (len(text.encode("utf-8", "surrogatepass")) for text in said)
            return Weighed(tuple(records.ids), surprise, tokens, np.fromiter(sizes, np.int64, len(said)))
        written = self.write(asked, most=int(self.settings["new_tokens"]))
        sources = records.column("source") if records.datatype == "translation" else asked
        return Written(tuple(records.ids), written, tuple(said), tuple(map(str, sources)), surprise, tokens)


def _columns(coded: Sequence[Coded], length: int) -> Columns:
    """Prompt and completion as one row, and where the completion stands: only there is a loss."""
    cut = [fitted(one, length) for one in coded]
    return {
        "input_ids": [[*prompt, *said] for prompt, said in cut],
        "completion_mask": [[0] * len(prompt) + [1] * len(said) for prompt, said in cut],
    }
