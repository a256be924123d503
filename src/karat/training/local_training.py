"""Runs a trainer of the library TRL: its settings, progress, and the weights it leaves. Knows no score."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from karat.errors import BadSetting, NotEnoughData, missing_extra
from karat.records import Records
from karat.training.base import Progress
from karat.training.local_models import Base, need
from karat.training.quiet import alone

Columns = Mapping[str, Sequence[Sequence[int]]]
"""A table of tokens: name -> rows."""
Losses = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Adapter:
    """Low-rank adaptation (Hu et al. 2021): W + alpha / r * B A, with A and B trained alone."""

    r: int
    alpha: float
    dropout: float
    targets: str = "auto"

    def config(self) -> Any:
        """The same for the library PEFT."""
        from peft import LoraConfig

        named = "all-linear" if self.targets == "auto" else self.targets.split("+")
        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type] # a float is taken, too
            lora_dropout=self.dropout,
            target_modules=named,
            task_type="CAUSAL_LM",
        )


@dataclass(frozen=True)
class Course:
    """How long and how fast a model is trained."""

    lr: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup: float
    """share of all steps in which the rate rises from 0"""
    clip: float
    """longest gradient; 0 leaves it as it is"""
    epochs: float
    steps: int
    """0 goes by epochs"""
    batch: int
    accumulate: int
    max_length: int
    patience: int = 0
    """epochs without a gain after which training stops; 0 never stops early"""
    threshold: float = 0.0
    """nats a token that count as a gain"""

    def check(self) -> None:
        """Raise ValueError for impossible numbers."""
        least = {"lr": 0.0, "epochs": 0.0, "batch": 1, "accumulate": 1, "max_length": 8, "steps": 0}
        for name, low in {**least, "patience": 0, "threshold": 0, "clip": 0}.items():
            value = getattr(self, name)
            if not value >= low or (name in ("lr", "epochs") and value <= 0):
                raise ValueError(f"{name}={value} is too small; give {low:g} or more")


def ready(what: str, records: Records, types: Sequence[str], base: Base) -> None:
    """Raise where a library is missing, there is nothing to train on, or the machine cannot do it."""
    from importlib.util import find_spec

    if records.datatype not in types:
        raise BadSetting(
            f"{what} is trained on {', '.join(types)} records, but {records.path} holds {records.datatype}"
        )
    if not len(records):
        raise NotEnoughData(f"{records.path}: no training records are left; give more, or drop fewer")
    need(what)
    for package in ("trl", "datasets"):
        if find_spec(package) is None:
            raise missing_extra(package, "hf", what)
    base.check()


def held_out(n: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the rows to train on, and a tenth of all by which the training is stopped."""
    mixed = np.random.default_rng([seed, 0x5F7]).permutation(n)
    return np.sort(mixed[n // 10 :]), np.sort(mixed[: n // 10])


def tune(
    kind: Literal["sft", "dpo"],
    net: Any,
    tokenizer: Any,
    train: Columns,
    *,
    course: Course,
    adapter: Adapter | None,
    base: Base,
    seed: int,
    validation: Columns | None = None,
    reference: Any = None,
    progress: Progress | None = None,
    more: Mapping[str, Any] | None = None,
) -> tuple[Any, Losses]:
    """Train weights and return them, with the loss by step. `net` itself is changed.

    train, validation: input_ids and completion_mask for sft; prompt_ids, chosen_ids, rejected_ids for dpo.
    adapter: put on the weights and trained alone; None trains whatever of `net` asks for gradients.
    Raises BadSetting when memory runs out or the loss is no number any more.
    """
    import torch

    stopping = course.patience > 0 and validation is not None
    with alone(), tempfile.TemporaryDirectory(prefix="karat-") as folder:
        from datasets import Dataset
        from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, set_seed

        set_seed(seed % 2**32)  # not every release of TRL does so before an adapter is drawn
        config, made = _trainer(kind)
        told = {**_options(course, base, seed, folder, stopping), **(more or {})}
        args = config(**told)
        # Several GPUs would be fed by threads of one process, which TRL refuses; one is taken.
        if args.device.type == "cuda":
            args._n_gpu = 1
        inner = net.get_base_model() if hasattr(net, "get_base_model") else net
        before = inner.__dict__.get("forward")
        callbacks: list[Any] = [_told(progress)]
        if stopping:
            callbacks.append(EarlyStoppingCallback(course.patience, course.threshold))
        extra: dict[str, Any] = {"ref_model": reference} if reference is not None else {}
        trainer = made(
            model=net,
            args=args,
            train_dataset=Dataset.from_dict(dict(train)),
            eval_dataset=Dataset.from_dict(dict(validation)) if stopping and validation else None,
            processing_class=tokenizer,
            peft_config=None if adapter is None else adapter.config(),
            callbacks=callbacks,
            **extra,
        )
        for noisy in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(noisy)
        try:
            trainer.train()
        except torch.OutOfMemoryError:
            raise BadSetting(
                f"memory ran out at batch={course.batch} rows of up to {course.max_length:,} tokens; lower "
                "batch or max_length, or use quantise=nf4"
            ) from None
        losses = tuple(
            (int(entry["step"]), float(entry["loss"]))
            for entry in trainer.state.log_history
            if "loss" in entry
        )
        trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        # TRL leaves a forward pass of its own on the weights; who uses them next expects the model's.
        if before is None:
            inner.__dict__.pop("forward", None)
        else:
            inner.__dict__["forward"] = before
        if args.gradient_checkpointing:
            trained.gradient_checkpointing_disable()
        trained.config.use_cache = True
    if losses and not np.isfinite(losses[-1][1]):
        raise BadSetting(
            f"the training loss is {losses[-1][1]} at step {losses[-1][0]}; lower lr ({course.lr:g})"
        )
    return trained.eval(), losses


def _options(course: Course, base: Base, seed: int, folder: str, stopping: bool) -> dict[str, Any]:
    """The arguments that all trainers share."""
    import torch
    from transformers import __version__

    on_gpu = torch.cuda.is_available() and base.device != "cpu"
    numbers = base.dtype if base.dtype != "auto" else "bfloat16" if on_gpu else "float32"
    kind = "constant_with_warmup" if course.schedule == "constant" and course.warmup else course.schedule
    found: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": course.batch,
        "per_device_eval_batch_size": course.batch,
        "gradient_accumulation_steps": course.accumulate,
        "learning_rate": course.lr,
        "lr_scheduler_type": kind,
        # the share had an argument of its own before transformers 5
        "warmup_steps" if int(__version__.split(".")[0]) >= 5 else "warmup_ratio": course.warmup,
        "max_grad_norm": course.clip,
        "num_train_epochs": course.epochs,
        "max_steps": course.steps or -1,
        "max_length": course.max_length,
        "seed": seed % 2**32,
        "data_seed": seed % 2**32,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and numbers == "bfloat16",
        "fp16": on_gpu and numbers == "float16",
        "gradient_checkpointing": on_gpu,
        "dataloader_pin_memory": on_gpu,
        "logging_strategy": "steps",
        "logging_steps": 0.01,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if stopping:
        found |= {
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "save_only_model": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return found


def _trainer(kind: str) -> tuple[Any, Any]:
    """The settings and the trainer of TRL."""
    trl: Any = importlib.import_module("trl")  # it exports by name, which no type checker follows
    if kind == "sft":
        return trl.SFTConfig, trl.SFTTrainer

    class Tokens(trl.DPOTrainer):  # type: ignore[misc] # TRL is not typed throughout
        """Takes tokens as they are: cut from the text of prompt and response together, they would differ
        from those that the model is asked with."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    return trl.DPOConfig, Tokens


def _told(progress: Progress | None) -> Any:
    from transformers import TrainerCallback

    class Told(TrainerCallback):  # type: ignore[misc] # as above
        """Passes each step on."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if progress is not None:
                progress("train", int(state.global_step), int(state.max_steps))

    return Told()
