"""A pretrained transformer encoder, fine-tuned to label texts: minutes to hours. Knows no score."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat.errors import BadSetting, InputError, NotEnoughData
from karat.generation.tensors import threads
from karat.records import Records
from karat.training.annotators import Order, answered, items, majorities, shares, slots
from karat.training.base import Floats, Predictions, Progress, Tagged, gold_labels
from karat.training.encoder_models import (
    Network,
    Pooling,
    Task,
    drawn_from,
    load_network,
    open_network,
    save_network,
)
from karat.training.encoder_training import History, Recipe, train_network

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHO = "trainer 'encoder'"


@dataclass(frozen=True)
class Preset:
    """A recipe, the longest text in tokens (marks included), and rates for models of other widths."""

    recipe: Recipe
    length: int = 128
    tiny_lr: float = 0.0
    """of models of at most 312 dimensions (TinyBERT); 0: as the recipe"""
    large_lr: float = 0.0
    """of models of 1,024 dimensions and more"""


PRESETS: Mapping[str, Preset] = {
    # minutes on a laptop with a small model; the new layer learns faster than what is below it
    "small": Preset(
        Recipe(
            lr=1e-4,
            head_lr=1e-3,
            batch=16,
            epochs=4,
            weight_decay=0.01,
            warmup=0.1,
            least_steps=100,
            patience=2,
        )
    ),
    # Yu et al. 2023 (AttrPrompt) as its authors' later comparison lists it
    "paper": Preset(
        Recipe(lr=5e-5, head_lr=5e-5, batch=32, epochs=6, weight_decay=1e-4, warmup=0.06),
        tiny_lr=1e-4,
        large_lr=2e-5,
    ),
    # what its published code does: 8 epochs at 2e-5, at least 100 steps, texts cut to int((128 - 1) * 0.7)
    # = 88 word pieces (and two marks) although it says 128, and the last weights instead of the best ones
    "repository": Preset(
        Recipe(
            lr=2e-5,
            head_lr=2e-5,
            batch=32,
            epochs=8,
            weight_decay=1e-3,
            warmup=0.06,
            least_steps=100,
            keep="last",
        ),
        length=90,
    ),
    # the second-order test of Das et al. 2024, for annotators=slots
    "annotators": Preset(
        Recipe(lr=1e-5, head_lr=1e-5, batch=1, epochs=3, weight_decay=0.01, warmup=0.1, eps=1e-8, patience=2),
        length=512,
    ),
}


@dataclass(frozen=True)
class Encoder:
    """Fine-tunes a pretrained encoder: one label, several (tags), or the answers of several annotators.

    model: minilm (packaged weights), a folder with a Hugging Face encoder, or its hub name.
    preset: small (a laptop), paper and repository (AttrPrompt as printed and as coded), annotators (the
    artifact study, for annotators=slots).
    tags: the field with a list of labels; each is then learned by itself. Empty: the label.
    annotators: of annotation records soft learns the distribution of each item's labels, majority its
    most frequent label, slots a distribution for each annotator's place in an order (the artifact study).
    order: of slots: sorted, shuffle, frequency (in the item), data-frequency (in all records).
    lr, batch, epochs, length: 0 takes the preset's; length is the longest text in tokens.
    pooling: cls (the library's own head), mean (of token vectors), auto (mean for sentence encoders).
    threads: cores for one fit; 1 makes the result independent of the number of cores, 0 takes all.
    device: auto (a GPU where there is one), cpu, cuda.
    """

    model: str = "minilm"
    preset: Literal["small", "paper", "repository", "annotators"] = "small"
    tags: str = ""
    annotators: Literal["soft", "majority", "slots"] = "soft"
    order: Order = "sorted"
    lr: float = 0.0
    batch: int = 0
    epochs: int = 0
    length: int = 0
    pooling: Pooling = "auto"
    threads: int = 1
    device: str = "auto"

    continues: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("lr", "batch", "epochs", "length", "threads"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but must not be below 0; 0 takes the preset's"
                )
        if 0 < self.length < 3:
            raise ValueError(
                f"length is {self.length}, which leaves no token beside the two marks; 128 is usual"
            )

    def recipe(self, width: int = 768) -> Recipe:
        """Return how a model of so many dimensions is trained: the preset with what the settings change."""
        chosen = PRESETS[self.preset]
        found = chosen.recipe
        rate = (width <= 312 and chosen.tiny_lr) or (width >= 1024 and chosen.large_lr) or found.lr
        if self.lr:
            # the head keeps its lead
            return self._sized(
                dataclasses.replace(found, lr=self.lr, head_lr=self.lr * found.head_lr / found.lr)
            )
        return self._sized(dataclasses.replace(found, lr=rate, head_lr=rate * found.head_lr / found.lr))

    def _sized(self, recipe: Recipe) -> Recipe:
        return dataclasses.replace(
            recipe, batch=self.batch or recipe.batch, epochs=self.epochs or recipe.epochs
        )

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
        start: EncoderModel | None = None,
    ) -> EncoderModel:
        """Fine-tune on records; validation records choose the best round and stop early.

        start: a model of this trainer to go on from; classes that it does not know are added to its head.
        """
        known = () if start is None else start.task.classes
        shown = _read(self, records, seed)
        task = dataclasses.replace(shown.task, classes=tuple(sorted({*known, *shown.task.classes})))
        if start is not None:
            if start.task.kind != task.kind:
                raise InputError(
                    f"{records.path}: the model to go on from answers {start.task.kind}, and these records "
                    f"train {task.kind}; start from nothing, or change tags or annotators"
                )
            task = dataclasses.replace(task, slots=max(task.slots, start.task.slots))
        if len(task.classes) == 1 and task.kind != "tags":  # nothing to learn, and the answer is known
            return EncoderModel(self, task, None, None)
        with threads(self.threads, _WHO), drawn_from(seed):
            network = self._network(task, start)
            recipe = self.recipe(int(getattr(network.body.config, "hidden_size", 768)))
            history = train_network(
                network,
                task,
                network.tokens(shown.texts),
                shown.targets(task),
                recipe,
                seed=seed,
                validation=self._validation(network, task, validation, seed),
                progress=progress,
            )
        return EncoderModel(self, task, network, history)

    def _network(self, task: Task, start: EncoderModel | None) -> Network:
        if start is None or start.network is None:
            length = self.length or PRESETS[self.preset].length
            return open_network(self.model, task, pooling=self.pooling, length=length, device=self.device)
        network = start.network.copied()
        if start.task != task:
            network.widened(start.task, task)
        return network

    def _validation(
        self, network: Network, task: Task, validation: Records | None, seed: int
    ) -> tuple[list[list[int]], NDArray[Any]] | None:
        """Validation texts as tokens and what they should give; labels that training has not are left out."""
        if validation is None:
            return None
        shown = _read(self, validation, seed)
        kept = [tuple(label for label in labels if label in task.classes) for labels in shown.answers]
        rows = [row for row, labels in enumerate(kept) if labels or task.kind == "tags"]
        if not rows:
            return None
        some = Shown(
            dataclasses.replace(shown.task, classes=task.classes),
            [shown.texts[row] for row in rows],
            [kept[row] for row in rows],
            shown.order,
            shown.seed,
        )
        return network.tokens(some.texts), some.targets(task)

    @staticmethod
    def load(folder: Path) -> EncoderModel:
        """Return a model that `save` wrote. Raises InputError where the folder holds none."""
        with threads(1, _WHO):
            network, task, about = load_network(Path(folder), "auto")
        return EncoderModel(Encoder(**about["settings"]), task, network, None)


@dataclass(frozen=True, eq=False)
class EncoderModel:
    """A fine-tuned encoder; without a network where training showed one class only."""

    settings: Encoder
    task: Task
    network: Network | None
    history: History | None

    def predict(self, records: Records) -> Predictions | Tagged:
        """Return a probability for each class, or each tag, and each record.

        An annotation record gets the distribution that the model expects of its item's labels.
        """
        found = self.task.probabilities(self._logits(records.texts()))
        if self.task.kind == "tags":
            given: list[Any] = (
                records.column(self.settings.tags) if records.has(self.settings.tags) else [None]
            )
            tags = None if None in given else tuple(tuple(map(str, labels)) for labels in given)
            return Tagged(tuple(records.ids), self.task.classes, found, tags)
        labels = records.labels()
        gold = None if labels is None or None in labels else tuple(labels)
        return Predictions(tuple(records.ids), self.task.classes, found, gold)

    def answers(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the label that each annotator's slot gives to each text: what the artifact study counts."""
        best = self.task.by_slot(self._logits(texts)).argmax(axis=2)
        return [tuple(self.task.classes[i] for i in row) for row in best.tolist()]

    def _logits(self, texts: Sequence[str]) -> Floats:
        """Return the head's numbers [n, outputs]; equal texts are read once."""
        if self.network is None or not texts:
            return np.zeros((len(texts), self.task.outputs))
        different = list(dict.fromkeys(texts))
        at = {text: row for row, text in enumerate(different)}
        with threads(self.settings.threads, _WHO):
            found = self.network.read(self.network.tokens(different))
        return np.asarray(found[[at[text] for text in texts]])

    def save(self, folder: Path) -> Path:
        """Write the model to a folder, weights as the library itself would."""
        save_network(self.network, Path(folder), {"settings": asdict(self.settings)}, self.task)
        return Path(folder)


@dataclass(frozen=True)
class Shown:
    """What a training sees: texts, and all labels of each."""

    task: Task
    texts: list[str]
    answers: list[tuple[str, ...]]
    order: Order
    seed: int

    def targets(self, task: Task) -> NDArray[Any]:
        """Return float32 [texts, classes] (distributions, or 0 and 1 of tags), or int64 [texts, slots]."""
        if task.kind == "slots":
            found = slots(self.answers, task.classes, self.order, seed=self.seed)
            return found[:, : task.slots]
        if task.kind == "labels":
            return shares(self.answers, task.classes).astype(np.float32)
        at = {label: place for place, label in enumerate(task.classes)}
        table = np.zeros((len(self.answers), len(at)), np.float32)
        for row, labels in enumerate(self.answers):
            table[row, [at[label] for label in labels]] = 1.0
        return table


def _read(settings: Encoder, records: Records, seed: int) -> Shown:
    """Return what records teach under these settings. Raises InputError, BadSetting or NotEnoughData."""
    if settings.tags:
        return _read_tags(settings, records, seed)
    records = answered(records)
    if records.datatype != "annotation":
        labels = gold_labels(records)
        task = Task("labels", tuple(sorted(set(labels))))
        return Shown(task, records.texts(), [(label,) for label in labels], settings.order, seed)
    found = items(records)
    if settings.annotators == "slots":
        task = Task("slots", found.classes, max(map(len, found.answers)))
        return Shown(task, list(found.texts), list(found.answers), settings.order, seed)
    task, answers = Task("labels", found.classes), list(found.answers)
    if settings.annotators == "majority":
        answers = [(label,) for label in majorities(answers)]
    return Shown(task, list(found.texts), answers, settings.order, seed)


def _read_tags(settings: Encoder, records: Records, seed: int) -> Shown:
    answers: list[tuple[str, ...]] = []
    for identity, given in zip(records.ids, records.column(settings.tags)):
        if not isinstance(given, list):
            raise BadSetting(
                f"{records.path}: record {identity!r} has {given!r} in the field {settings.tags!r}; "
                "trainer 'encoder': tags names a field that holds a list of labels in each record"
            )
        answers.append(tuple(dict.fromkeys(map(str, given))))
    classes = tuple(sorted({label for labels in answers for label in labels}))
    if not classes:
        raise NotEnoughData(
            f"{records.path}: no record has a label in the field {settings.tags!r}; give some that have"
        )
    return Shown(Task("tags", classes), records.texts(), answers, settings.order, seed)
