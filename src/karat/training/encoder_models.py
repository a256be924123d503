"""A Hugging Face encoder with a head for labels: opening, tokens, scores, saving. Knows no training.

`cls` is the library's own model for sequence classification, head and all. `mean` averages the token
vectors, as sentence encoders were trained to be read, and has one layer on top.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from karat.auditing.encoders._transformer import packaged
from karat.errors import InputError
from karat.generation import weights
from karat.training.base import Floats

Pooling = Literal["auto", "cls", "mean"]
Rows = list[list[int]]

_ABOUT, _HEAD = "karat_encoder.json", "head.safetensors"
_VERSION = 1
_WHO = "trainer 'encoder'"
_READ = 64
"""texts read at a time where nothing is learned"""
_NO_LIMIT = 1_000_000
"""Tokenizers without a longest text say a number far beyond this."""


@dataclass(frozen=True)
class Task:
    """What the head answers: one of the classes, any of the tags, or one class in each annotator's slot."""

    kind: Literal["labels", "tags", "slots"]
    classes: tuple[str, ...]
    slots: int = 1

    @property
    def outputs(self) -> int:
        """How many numbers the head gives for a text."""
        return self.slots * len(self.classes)

    def probabilities(self, logits: Floats) -> Floats:
        """Return [n, classes] for the head's [n, outputs]; of slots the mean of their distributions."""
        if self.kind == "tags":
            return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))
        return np.asarray(self.by_slot(logits).mean(axis=1))

    def by_slot(self, logits: Floats) -> Floats:
        """Return the distribution in each slot [n, slots, classes]."""
        apart = logits.reshape(len(logits), self.slots, len(self.classes))
        odds = np.exp(apart - apart.max(axis=2, keepdims=True))
        return np.asarray(odds / odds.sum(axis=2, keepdims=True))


@dataclass(eq=False)
class Network:
    """Weights, tokenizer and the longest text in tokens; `head` is None where the body has its own."""

    body: Any
    head: Any
    tokenizer: Any
    length: int

    def modules(self) -> list[Any]:
        """The parts that have weights."""
        return [self.body] if self.head is None else [self.body, self.head]

    def train(self, learning: bool) -> None:
        """Turn dropout on or off."""
        for module in self.modules():
            module.train(learning)

    def copied(self) -> Network:
        """The same weights, to be trained further without a change to these."""
        return Network(copy.deepcopy(self.body), copy.deepcopy(self.head), self.tokenizer, self.length)

    def tokens(self, texts: Sequence[str]) -> Rows:
        """Return the token numbers of texts, cut at the longest length; an empty text has its marks only."""
        if not texts:
            return []
        made = self.tokenizer(list(texts), truncation=True, max_length=self.length, padding=False)
        # a tokenizer without marks gives an empty text no token at all, and a model cannot read nothing
        return [row or [self.padding] for row in made["input_ids"]]

    @property
    def padding(self) -> int:
        """The token that fills short rows up; it is masked."""
        return int(self.tokenizer.pad_token_id or 0)

    def logits(self, rows: Rows) -> Any:
        """Return the head's numbers for one batch of token rows, as a tensor [n, outputs]."""
        import torch

        widest = max(map(len, rows))
        ids = torch.full((len(rows), widest), self.padding, dtype=torch.long)
        mask = torch.zeros((len(rows), widest), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        device = next(self.body.parameters()).device
        ids, mask = ids.to(device), mask.to(device)
        found = self.body(input_ids=ids, attention_mask=mask)
        if self.head is None:
            return found.logits
        shown = mask[..., None].to(found.last_hidden_state.dtype)
        return self.head((found.last_hidden_state * shown).sum(1) / shown.sum(1))

    def read(self, rows: Rows) -> NDArray[np.float64]:
        """Return the head's numbers for all rows [n, outputs]; nothing is learned."""
        import torch

        self.train(False)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        pieces = []
        with torch.inference_mode():
            for start in range(0, len(order), _READ):
                batch = [rows[place] for place in order[start : start + _READ]]
                pieces.append(self.logits(batch).double().cpu().numpy())
        found = np.empty((len(rows), pieces[0].shape[1]))
        found[order] = np.concatenate(pieces)
        return found

    def last_layer(self, outputs: int) -> tuple[Any, str]:
        """Return the module and the name in it under which the layer stands that gives the outputs."""
        from torch import nn

        if self.head is not None:
            return self.head, "1"
        owners = dict(self.body.named_modules())
        for name, module in reversed(list(owners.items())):
            if isinstance(module, nn.Linear) and module.out_features == outputs:
                owner, _, own = name.rpartition(".")
                return owners[owner], own
        raise InputError(f"{type(self.body).__name__} has no layer of {outputs} outputs; use pooling=mean")

    def widened(self, old: Task, new: Task) -> None:
        """Give the last layer a row for each output of a task; those that it knows keep what they learned."""
        import torch
        from torch import nn

        owner, name = self.last_layer(old.outputs)
        before = getattr(owner, name)
        after = nn.Linear(before.in_features, new.outputs).to(before.weight.device)
        nn.init.normal_(after.weight, std=0.02)
        nn.init.zeros_(after.bias)
        with torch.no_grad():
            for slot in range(min(old.slots, new.slots)):
                for place, label in enumerate(old.classes):
                    to = slot * len(new.classes) + new.classes.index(label)
                    at = slot * len(old.classes) + place
                    after.weight[to], after.bias[to] = before.weight[at], before.bias[at]
        setattr(owner, name, after)
        if self.head is None:
            _name_outputs(self.body, new)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Let torch draw new layers and dropout from a seed, and leave its own random numbers as they were."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def open_network(model: str, task: Task, *, pooling: Pooling, length: int, device: str) -> Network:
    """Return a pretrained encoder with a new head; `minilm` names the packaged weights.

    Raises MissingExtra, or ProviderError in one line where there is no such model.
    """
    weights.need(_WHO)
    folder = packaged("the model 'minilm'") if model == "minilm" else weights.folder_of(model)
    mean = pooling == "mean" or (pooling == "auto" and (folder / "modules.json").is_file())
    network = _open(folder, task if not mean else None, length)
    if mean:
        network.head = _mean_head(network.body, task)
    for module in network.modules():
        module.to(weights.device(device))
    return network


def save_network(network: Network | None, folder: Path, about: dict[str, Any], task: Task) -> None:
    """Write weights and tokenizer as the library does (safetensors), the head and what it answers beside."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"version": _VERSION, **about, "task": asdict(task), "trained": network is not None}
    if network is not None:
        told |= {"length": network.length, "pooling": "cls" if network.head is None else "mean"}
        with weights.quiet():
            network.body.save_pretrained(folder)
            network.tokenizer.save_pretrained(folder)
        if network.head is not None:
            from safetensors.torch import save_file

            save_file({key: value.cpu() for key, value in network.head.state_dict().items()}, folder / _HEAD)
    (folder / _ABOUT).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", "utf-8")


def load_network(folder: Path, device: str) -> tuple[Network | None, Task, dict[str, Any]]:
    """Return what `save_network` wrote: the network, its task and the rest. Raises InputError."""
    try:
        told = json.loads((folder / _ABOUT).read_text("utf-8"))
        given = told.pop("task")
        task = Task(given["kind"], tuple(given["classes"]), int(given["slots"]))
        version, trained = told.pop("version"), told.pop("trained")
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} holds no model of the trainer 'encoder'; name the folder it was saved to"
        ) from None
    if version != _VERSION:
        raise InputError(
            f"{folder} was written in version {version} of the format, not {_VERSION}; train it again"
        )
    if not trained:
        return None, task, told
    weights.need(_WHO)
    mean = told.pop("pooling") == "mean"
    network = _open(folder, None if mean else task, int(told.pop("length")))
    if mean:
        from safetensors.torch import load_file

        network.head = _mean_head(network.body, task)
        network.head.load_state_dict(load_file(folder / _HEAD))
    for module in network.modules():
        module.to(weights.device(device))
    network.train(False)
    return network, task, told


def _open(folder: Path, task: Task | None, length: int) -> Network:
    """The body, with the library's own head where there is a task."""
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    how: dict[str, Any] = {weights.dtype_word(): torch.float32, "use_safetensors": True}
    loud = logging.get_verbosity()
    logging.set_verbosity_error()  # that a head is new is no news
    try:
        tokenizer = weights.loaded(AutoTokenizer, str(folder))
        if task is None:
            body = weights.loaded(AutoModel, str(folder), **how)
        else:
            how |= {"num_labels": task.outputs, "ignore_mismatched_sizes": True}
            body = weights.loaded(AutoModelForSequenceClassification, str(folder), **how)
            _name_outputs(body, task)
    finally:
        logging.set_verbosity(loud)
    if tokenizer.pad_token_id is not None:
        body.config.pad_token_id = tokenizer.pad_token_id
    return Network(body, None, tokenizer, min(length, _longest(tokenizer, body.config)))


def _mean_head(body: Any, task: Task) -> Any:
    from torch import nn

    layer = nn.Linear(int(body.config.hidden_size), task.outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Dropout(0.1), layer)


def _name_outputs(body: Any, task: Task) -> None:
    """Write the names of the classes into the configuration, where other programs look for them."""
    names = [
        label if task.slots == 1 else f"{label} (slot {slot + 1})"
        for slot in range(task.slots)
        for label in task.classes
    ]
    body.num_labels = task.outputs
    body.config.num_labels = task.outputs
    body.config.id2label = dict(enumerate(names))
    body.config.label2id = {name: place for place, name in enumerate(names)}
    body.config.problem_type = (
        "multi_label_classification" if task.kind == "tags" else "single_label_classification"
    )


def _longest(tokenizer: Any, config: Any) -> int:
    """The most tokens that a model has places for; RoBERTa's places begin behind its padding."""
    told = int(tokenizer.model_max_length)
    places = int(getattr(config, "max_position_embeddings", 0) or _NO_LIMIT)
    if "roberta" in str(config.model_type):
        places -= 2
    return min(told if told > 0 else _NO_LIMIT, places)
