"""What a task, a request, a response, a provider and a recipe are. Knows none of them by name."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from karat import registry
from karat.errors import BadSetting, InputError, did_you_mean
from karat.records import Records

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Label:
    """One class: its name and, for the prompt, what belongs to it."""

    name: str
    definition: str = ""


@dataclass(frozen=True)
class Attribute:
    """One dimension along which texts differ.

    values: for every class alike; by_label: for a class of its own (then `values` is empty).
    weights: value -> share wanted (by_label: label -> value -> share); empty: all values alike.
    """

    name: str
    values: tuple[str, ...] = ()
    by_label: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    weights_by_label: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, label: str | None) -> tuple[str, ...]:
        """The values for a class."""
        return self.by_label.get(label or "", ()) if self.by_label else self.values

    def shares(self, label: str | None) -> Mapping[str, float]:
        """The wanted share of each value for a class; all alike where nothing is said."""
        given = self.weights_by_label.get(label or "", {}) if self.by_label else self.weights
        values = self.of(label)
        total = sum(given.get(value, 0.0) for value in values)
        return {v: given.get(v, 0.0) / total if total > 0 else 1 / len(values) for v in values}


_KNOWN = ("name", "domain", "type", "language", "labels", "attributes", "schema", "instructions")


@dataclass(frozen=True)
class Task:
    """What to write: the domain, the classes with their definitions, the language, attributes, a schema."""

    domain: str
    labels: tuple[Label, ...] = ()
    type: str = "classification"
    name: str = ""
    language: str = ""
    instructions: str = ""
    attributes: tuple[Attribute, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)
    """a JSON schema of the answer; empty: the answer is the text itself, or the fields of the data type"""
    shares: Mapping[str, float] = field(default_factory=dict)
    """wanted share of each label; empty: all alike"""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(label.name for label in self.labels)

    def definition(self, label: str | None) -> str:
        """What belongs to a class; empty where nothing is said."""
        return next((found.definition for found in self.labels if found.name == label), "")

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Task:
        """Read a task file. Raises InputError naming the file and the key."""
        import sys

        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            found = tomllib.loads(Path(path).read_text("utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; write a task file with domain and labels") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not TOML ({error}); mend that line") from None
        return _task_of(found, str(path))

    @classmethod
    def from_records(cls, human: Records, *, domain: str = "") -> Task:
        """Take type and labels from human records; the domain is the name of their file unless given."""
        counts = Counter(label for label in human.labels() or () if label is not None)
        if human.datatype == "classification" and not counts:
            raise InputError(f"{human.path}: no labels to make a task of; name them with --label-field")
        names = sorted(counts)
        stem = Path(human.path).name.split(".")[0].strip("<>").replace("_", " ").replace("-", " ")
        return cls(
            domain=domain or (f"{stem} text" if stem and stem != "memory" else "text"),
            labels=tuple(Label(name) for name in names),
            type=human.datatype,
            name=stem,
        )

    def to_toml(self) -> str:
        """The task as a file that `from_toml` reads and people edit."""
        lines = [f"{key} = {_quoted(getattr(self, key))}" for key in ("name", "domain", "type", "language")]
        if self.instructions:
            lines.append(f"instructions = {_quoted(self.instructions)}")
        lines += ["", "[labels]", *(f"{_quoted(x.name)} = {_quoted(x.definition)}" for x in self.labels)]
        for attribute in self.attributes:
            lines += ["", f"[attributes.{_quoted(attribute.name)}]"]
            if attribute.by_label:
                lines += ["class_dependent = true", f"[attributes.{_quoted(attribute.name)}.values]"]
                lines += [f"{_quoted(label)} = {_listed(v)}" for label, v in attribute.by_label.items()]
            else:
                lines.append(f"values = {_listed(attribute.values)}")
        if self.schema:
            lines += ["", f"schema = '''{json.dumps(self.schema, ensure_ascii=False)}'''"]
            lines.insert(0, lines.pop())  # a key of the document stands above its tables
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _listed(values: Sequence[str]) -> str:
    return "[" + ", ".join(_quoted(value) for value in values) + "]"


def _task_of(found: Mapping[str, Any], where: str) -> Task:
    for key in found:
        if key not in _KNOWN:
            raise InputError(
                f"{where}: unknown key {key!r}{did_you_mean(key, _KNOWN)} (known: {', '.join(_KNOWN)})"
            )
    if not isinstance(found.get("domain"), str) or not found["domain"].strip():
        raise InputError(f'{where}: no key domain; say what is written, e.g. domain = "news article"')
    datatype = str(found.get("type", "classification"))
    if datatype not in registry.names("datatypes"):
        hint = did_you_mean(datatype, registry.names("datatypes"))
        raise InputError(
            f"{where}: type is {datatype!r}{hint} (known: {', '.join(registry.names('datatypes'))})"
        )
    labels = found.get("labels", {})
    pairs = labels.items() if isinstance(labels, Mapping) else ((name, "") for name in labels)
    names = tuple(Label(str(name), str(definition)) for name, definition in pairs)
    if datatype == "classification" and not names:
        raise InputError(f'{where}: no labels; write labels = ["a", "b"] or a table [labels]')
    repeated = [name for name, count in Counter(label.name for label in names).items() if count > 1]
    if repeated:
        raise InputError(f"{where}: the label {repeated[0]!r} stands twice; remove one")
    schema = found.get("schema", {})
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: schema is not JSON ({error}); mend it") from None
    attributes = tuple(
        _attribute_of(name, value, {label.name for label in names}, where)
        for name, value in found.get("attributes", {}).items()
    )
    return Task(
        domain=str(found["domain"]),
        labels=names,
        type=datatype,
        name=str(found.get("name", "")),
        language=str(found.get("language", "")),
        instructions=str(found.get("instructions", "")),
        attributes=attributes,
        schema=schema,
    )


def _attribute_of(name: str, given: Any, labels: set[str], where: str) -> Attribute:
    given = {"values": given} if isinstance(given, list) else given
    if not isinstance(given, Mapping) or not given.get("values"):
        raise InputError(f'{where}: attribute {name!r} has no values; write values = ["...", "..."]')
    values = given["values"]
    if bool(given.get("class_dependent", isinstance(values, Mapping))) != isinstance(values, Mapping):
        raise InputError(
            f"{where}: attribute {name!r} must list its values for each label in "
            f"[attributes.{name}.values] when class_dependent = true, and in one list otherwise"
        )
    if isinstance(values, Mapping):
        for label in values:
            if label not in labels:
                raise InputError(
                    f"{where}: attribute {name!r} names no label {label!r}{did_you_mean(label, labels)}"
                )
        return Attribute(name, by_label={label: tuple(map(str, v)) for label, v in values.items()})
    return Attribute(name, tuple(dict.fromkeys(map(str, values))))


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Request:
    """One call: messages for a chat model; label and attributes for a provider that knows control tokens."""

    id: str
    messages: tuple[Message, ...]
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int = 0
    replicate: int = 0
    index: int = 0
    """the row of the plan; not part of the key"""
    schema: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt_sha256(self) -> str:
        """The hash of the messages, as kept in the lineage."""
        text = json.dumps([[m.role, m.content] for m in self.messages], ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

    def key(self, identity: str) -> str:
        """The name of this call's answer in the journal: all that may change the answer, and nothing else."""
        told = {
            "model": identity,
            "messages": [[m.role, m.content] for m in self.messages],
            "label": self.label,
            "attributes": dict(self.attributes),
            "schema": dict(self.schema),
            "parameters": [self.temperature, self.top_p, self.max_tokens, self.seed, self.replicate],
        }
        text = json.dumps(told, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True)
class Response:
    """One answer and what it cost; `logprob` is the mean over its tokens in nats, None where unknown."""

    request_id: str
    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    logprob: float | None = None
    finish_reason: str = "stop"
    cost_usd: float = 0.0
    model: str = ""


@dataclass(frozen=True)
class Price:
    """The most that a request can cost."""

    tokens: int
    usd: float = 0.0


class Retryable(Exception):
    """A provider could not answer now; `after` is the number of seconds it asks to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Refused(Exception):
    """A provider will never answer this one request (too long, filtered); others may go on."""


class Provider(Protocol):
    """Answers requests. Raises Retryable, Refused (one request) or errors.ProviderError (all of them)."""

    @property
    def model(self) -> str:
        """What answers: a name that changes when the answers would."""

    @property
    def batch_size(self) -> int:
        """The most requests in one call of `complete`."""

    @property
    def concurrency(self) -> int:
        """The most calls of `complete` at a time."""

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests, in their order."""


@runtime_checkable
class Learning(Protocol):
    """A provider that must first learn from human records."""

    def fit(
        self, human: Records, *, seed: int = 0, cache: Path | None = None, progress: Progress | None = None
    ) -> Provider:
        """Learn, or load what was learned from the same records before; returns the provider that answers."""


@runtime_checkable
class Priced(Protocol):
    """A provider that can say before a call what it may cost at most."""

    def price(self, request: Request) -> Price:
        """The upper bound of tokens (in and out) and money for one request."""


def identity(provider: Provider) -> str:
    """What stands for the provider in journal keys: its `identity` (model and server), else the model."""
    return str(getattr(provider, "identity", None) or provider.model)


def most(provider: Provider, request: Request) -> Price:
    """The most that a request can cost; one token for two bytes where the provider cannot say."""
    if isinstance(provider, Priced):
        return provider.price(request)
    sent = sum(len(m.content.encode("utf-8", "replace")) for m in request.messages)
    return Price(sent // 2 + 8 * len(request.messages) + request.max_tokens)


class Recipe(Protocol):
    """Turns rows of a plan into prompts."""

    uses_attributes: ClassVar[bool]

    def enrich(self, task: Task, human: Records | None, seed: int) -> tuple[Task, Records | None]:
        """Find attributes in human records: their values go to the task, each record's own to its lineage."""

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt for one row."""


def check_number(name: str, value: float, low: float, cure: str) -> None:
    """Raise BadSetting when a setting is under its least value."""
    if value < low:
        raise BadSetting(f"{name}={value} must be at least {low:g}; {cure}")
