"""A text classifier in the Hugging Face format, by hub name or folder: emotion, toxicity, irony."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat.auditing.base import Facts
from karat.auditing.encoders.base import cached
from karat.auditing.scorers.base import Given, Scores, known_values
from karat.errors import BadSetting, InputError, NotEnoughData, missing_extra
from karat.generation.weights import hub_answers, line, quiet


@dataclass(frozen=True)
class TextClassification:
    """The probabilities of a classifier from the Hugging Face hub or a folder, on the CPU.

    With `on`, a file of records whose class people gave (field `attribute`), it is counted how often the
    classifier errs, and shares are corrected for it.
    model: the hub name or a folder
    attribute: the classes to keep, joined by + (joy+anger), or what the classes are classes of
    on: a file of records whose class is known, by a field or lineage attribute named `attribute`
    heads: single (one class holds), multi (each class on its own), auto (as the model's config says)
    batch: texts scored at a time
    length: the most tokens read of a text; longer ones are cut
    """

    model: str = ""
    attribute: str = ""
    on: str = ""
    heads: Literal["auto", "single", "multi"] = "auto"
    batch: int = 32
    length: int = 512

    reads_text: ClassVar[bool] = True

    def fields(self) -> tuple[str, ...]:
        """Nothing but the text."""
        return ()

    def lacks(self, facts: Facts) -> str:
        """Why these records cannot be scored."""
        return "" if self.model else "needs a classifier: model=NAME or a folder"

    def score(self, corpora: Sequence[Given], *, seed: int = 0, cache: Path | None = None) -> Scores:
        """Score all records; texts scored before come from the cache."""
        if not self.model:
            raise BadSetting("scorer 'text_classification' needs a model: write model=NAME or a folder")
        opened = load(self.model, heads=self.heads, batch=self.batch, length=self.length)
        fitted = cached(opened, cache)
        kept = _kept(opened.names, self.attribute)
        rows = tuple(self._rows(fitted, one.texts)[:, kept] for one in corpora)
        names = tuple(opened.names[i] for i in kept)
        exclusive = not opened.multi and len(kept) == len(opened.names)
        confusion = None
        if self.on and exclusive:
            confusion = _confusion(fitted, opened.names, self.on, self.attribute)
        return Scores(opened.id, names, rows, exclusive, confusion)

    @staticmethod
    def _rows(fitted: Any, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.asarray(fitted.encode(list(texts)), dtype=np.float64)


@dataclass(frozen=True)
class Classifier:
    """A loaded classifier. It looks like an encoder (`id`, `encode`), so its scores are kept like vectors."""

    model: str
    id: str
    names: tuple[str, ...]
    multi: bool
    batch: int
    length: int
    _loaded: list[Any] = field(default_factory=list, repr=False, compare=False)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [n, classes]: probabilities, in the order of `names`; an empty text has none (nan)."""
        pipe = self._loaded[0]
        rows = np.full((len(texts), len(self.names)), np.nan, dtype=np.float32)
        said = [i for i, text in enumerate(texts) if text.strip()]
        # of like lengths together: a batch is padded to its longest text
        said.sort(key=lambda i: -len(texts[i]))
        place = {name: i for i, name in enumerate(self.names)}
        found = pipe(
            [texts[i] for i in said],
            batch_size=self.batch,
            truncation=True,
            max_length=self.length,
            top_k=None,
            function_to_apply="sigmoid" if self.multi else "softmax",
        )
        for i, classes in zip(said, found, strict=True):
            for one in classes:
                rows[i, place[one["label"]]] = one["score"]
        return rows


def load(model: str, *, heads: str = "auto", batch: int = 32, length: int = 512) -> Classifier:
    """Open a classifier. Raises MissingExtra without the library, InputError where it cannot be loaded."""
    pipe = _open(model)
    config = pipe.model.config
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    multi = config.num_labels == 1 or getattr(config, "problem_type", None) == "multi_label_classification"
    multi = multi if heads == "auto" else heads == "multi"
    limit = getattr(pipe.tokenizer, "model_max_length", length)
    positions = getattr(config, "max_position_embeddings", limit) or limit
    made = Classifier(model, "", names, multi, batch, int(min(length, limit, positions)), [pipe])
    # the name alone would not notice that the weights behind it have changed
    probe = made.encode(["A karat is a share of gold."])
    digest = hashlib.blake2b(np.round(probe.astype(np.float64), 2).tobytes(), digest_size=3).hexdigest()
    short = Path(model).name if Path(model).is_dir() else model
    kind = "multi" if multi else "single"
    id = f"text_classification-{short}-{kind}-{made.length}-{digest}"
    return Classifier(model, id, names, multi, batch, made.length, [pipe])


def _open(model: str) -> Any:
    try:
        import torch  # noqa: F401
        from transformers import pipeline
        from transformers.utils import logging
    except ImportError:
        raise missing_extra("transformers", "hf", f"the scorer 'text_classification:{model}'") from None
    folder = Path(model).expanduser()
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet():
            if folder.is_dir():
                return pipeline("text-classification", model=str(folder), device="cpu")
            if model.startswith(("/", ".", "~")):
                raise FileNotFoundError("there is no such folder")
            try:
                return pipeline(
                    "text-classification", model=model, device="cpu", model_kwargs={"local_files_only": True}
                )
            except Exception:
                hub_answers()
                return pipeline("text-classification", model=model, device="cpu")
    except Exception as error:  # the library raises a dozen kinds, from OSError to KeyError
        raise InputError(
            f"the text classifier {model!r} cannot be loaded ({line(error)}); give a folder that holds it, "
            "or its hub name on a machine with network, or use the scorer 'trained'"
        ) from None
    finally:
        logging.set_verbosity(level)


def _kept(names: Sequence[str], attribute: str) -> list[int]:
    """The columns of the classes that were asked for; all where `attribute` is not made of classes."""
    wanted = [name for name in attribute.split("+") if name]
    lowered = [name.lower() for name in names]
    found = [lowered.index(name.lower()) for name in wanted if name.lower() in lowered]
    if found and len(found) < len(wanted):
        unknown = next(name for name in wanted if name.lower() not in lowered)
        raise BadSetting(f"the classifier has no class {unknown!r} (it has: {', '.join(names)})")
    return found or list(range(len(names)))


def _confusion(fitted: Any, names: Sequence[str], path: str, attribute: str) -> NDArray[np.int64]:
    """int64 [C, C]: true class (row) by class found (column), over the records of a file."""
    from karat import records

    known = records.read(path)
    columns = {"lineage.attributes": np.array(known.lineage("attributes"), dtype=object)}
    if known.has(attribute):
        columns[attribute] = np.array(known.column(attribute), dtype=object)
    truth = known_values(columns, attribute)
    place = {name.lower(): i for i, name in enumerate(names)}
    rows = [i for i, value in enumerate(truth) if value is not None and str(value).lower() in place]
    if not rows:
        raise NotEnoughData(
            f"{path}: no record has a known {attribute!r} that is a class of the classifier "
            f"({', '.join(names)}); name the field with attribute=FIELD"
        )
    texts = known.texts()
    found = np.asarray(fitted.encode([texts[i] for i in rows]))
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    said = np.isfinite(found).all(axis=1)
    true = np.array([place[str(truth[i]).lower()] for i in rows])
    np.add.at(table, (true[said], found[said].argmax(axis=1)), 1)
    return table
