"""What a request, a response, a provider and a recipe are. Knows none of them by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from karat.errors import BadSetting
from karat.generation.tasks import Task
from karat.records import Records

Progress = Callable[..., None]
"""Called as `progress(stage, done, total)`, and with `note="12/s, 0.10 USD"` where there is more to tell."""


# Made once: `json.dumps` makes one for each call.
_KEY = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Request:
    """One call: messages for a chat model; label and attributes for a provider that knows control tokens.

    replicate: another number asks the same again. logprobs: how many alternatives to the first token are
    wanted (0: none). stop: texts at which the answer ends. schema: the JSON schema of the answer.
    """

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
    logprobs: int = 0
    stop: tuple[str, ...] = ()

    @property
    def prompt_sha256(self) -> str:
        """The hash of the messages, as kept in the lineage."""
        text = json.dumps([[m.role, m.content] for m in self.messages], ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

    @property
    def draw_seed(self) -> int:
        """The seed for a server, 31 bits: another replicate must not draw the same answer again."""
        return (self.seed + 0x9E3779B1 * self.replicate) & 0x7FFFFFFF

    def key(self, identity: str) -> str:
        """The name of this call's answer in the journal: all that may change the answer, and nothing else."""
        told: dict[str, Any] = {
            "model": identity,
            "messages": [[m.role, m.content] for m in self.messages],
            "label": self.label,
            "attributes": dict(self.attributes),
            "schema": dict(self.schema),
            "parameters": [self.temperature, self.top_p, self.max_tokens, self.seed, self.replicate],
        }
        if self.logprobs or self.stop:
            told["more"] = [self.logprobs, list(self.stop)]
        text = _KEY.encode(told)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True)
class Response:
    """One answer and what it cost; `logprob` is the mean over its tokens in nats, None where unknown.

    alternatives: the most likely first tokens with their log-probabilities, where asked for and offered.
    """

    request_id: str
    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    logprob: float | None = None
    finish_reason: str = "stop"
    cost_usd: float = 0.0
    model: str = ""
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Price:
    """The most that a request can cost."""

    tokens: int
    usd: float = 0.0


Cause = Literal["busy", "server", "connection", "timeout", "answer"]


class Retryable(Exception):
    """A provider could not answer now; `after` is the number of seconds it asks to wait.

    cause: busy (429: too many calls), server (5xx), connection, timeout, answer (it cannot be read).
    billed: the server may have done the work, so that the attempt counts against the caps.
    """

    def __init__(
        self, message: str, after: float | None = None, *, cause: Cause = "server", billed: bool = False
    ) -> None:
        super().__init__(message)
        self.after, self.cause, self.billed = after, cause, billed


class Refused(Exception):
    """A provider will never answer this one request (too long, filtered); others may go on."""


Answered = Response | Exception
"""What stands for one request in the answer to a batch."""


class Provider(Protocol):
    """Answers requests. Raises Retryable, Refused (one request) or errors.ProviderError (all of them).

    A provider may have more: `identity` (see below), `price` (Priced), `fit` (Learning), `secrets` (texts
    that must never be written anywhere), `keep(folder)` (told where its own state may stay between runs),
    `rates` (requests and tokens a minute that it allows, as far as it knows) and `close()`.
    """

    @property
    def model(self) -> str:
        """What answers: a name that changes when the answers would."""

    @property
    def batch_size(self) -> int:
        """The most requests in one call of `complete`."""

    @property
    def concurrency(self) -> int:
        """The most calls of `complete` at a time."""

    async def complete(self, requests: Sequence[Request]) -> Sequence[Answered]:
        """Answer requests, in their order.

        Of a batch, some may be answered and others not: in the place of an answer stands then the Retryable,
        Refused or errors.ProviderError that would have been raised for it alone.
        """


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
    return Price(most_tokens_in(request) + request.max_tokens)


def most_tokens_in(request: Request) -> int:
    """An upper bound of the tokens of the messages: one token for two bytes, and eight a message."""
    sent = sum(len(m.content.encode("utf-8", "replace")) for m in request.messages)
    return sent // 2 + 8 * len(request.messages)


# ---------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True)
class Draft:
    """What came of a row, or of a part of it: the fields of a record, or the reason why there is none.

    text: the last answer as it came. responses: all calls that were made for it, in order.
    label: what the recipe found to be the label; None leaves the planned one.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    text: str = ""
    responses: tuple[Response, ...] = ()
    label: str | None = None
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A row that a recipe plans: what is asked for, and the prompt.

    material: whatever else `write` needs, plain JSON values (ids of records shown, a persona, an item).
    yields: the most records that may come of it. parents: ids of the records it is made from.
    id: a name of its own (an item's); empty: numbered. schema: of its answer; empty: the task's.
    """

    messages: tuple[Message, ...]
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    material: Mapping[str, Any] = field(default_factory=dict)
    yields: int = 1
    parents: tuple[str, ...] = ()
    id: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 0
    temperature: float | None = None
    logprobs: int = 0


@dataclass(frozen=True)
class Sample:
    """A record that a recipe may show or build on: human, or made in an earlier round."""

    id: str
    text: str
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    human: bool = True
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plot:
    """What a recipe plans its rows from.

    n: how many records are wanted of this round. pool: the human records and what earlier rounds made.
    items: the records to be labelled, compared, translated or continued, where a recipe needs some.
    """

    task: Task
    n: int
    seed: int
    human: Records | None = None
    items: Records | None = None
    round: int = 0
    pool: Sequence[Sample] = ()
    sampling: Literal["covering", "independent"] = "covering"
    """of attribute values: no combination twice before all have come, or independent draws"""


Ask = Callable[..., Awaitable[Response]]


class Scene(Protocol):
    """What a recipe's `write` works with: one row, and a way to ask."""

    task: Task
    slot: Slot
    seed: int
    pool: Sequence[Sample]

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str = "",
        replicate: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
        logprobs: int | None = None,
    ) -> Response:
        """One call. The same messages again need another `replicate`. What is not given is the row's."""

    async def draft(
        self,
        messages: Sequence[Message] | None = None,
        *,
        step: str = "",
        schema: Mapping[str, Any] | None = None,
    ) -> Draft:
        """Ask (for the slot's messages) and read the answer; one that cannot be read is repaired."""


class Recipe(Protocol):
    """Turns a task into prompts, and answers into records.

    The least is `messages`: the prompt for a label and attribute values. A recipe may do more:

    `enrich(task, human, seed) -> (task, human)`: find attributes in human records before planning.
    `prepare(task, human, ask, seed) -> task`: make calls before planning; `ask` is None in a dry run.
    `compose(plot) -> Iterator[Slot]`: plan its rows itself (`plan.slots(plot, recipe)` gives the usual ones).
    `sift(made, pool) -> dict[str, str]`: after a round, the records that are dropped, by id, and why.
    `calls(slot) -> int`: the most calls that a row makes, for prices.
    `rounds(n) -> tuple[int, ...]`: plan in rounds, each knowing in `plot.pool` what the earlier ones made.
    `async write(scene) -> Sequence[Draft]`: make several calls for one row, or several records of one answer.
    `needs`: {"human"} or {"items"}, where it cannot work without. `types`: the data types that it can make.
    """

    uses_attributes: ClassVar[bool]

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt for one row."""


AskAll = Callable[[Sequence[Request]], dict[str, Response]]
"""Asks many requests at once and gives the answers by request id; those that failed are left out."""


def check_number(name: str, value: float, low: float, cure: str) -> None:
    """Raise BadSetting when a setting is under its least value."""
    if value < low:
        raise BadSetting(f"{name}={value} must be at least {low:g}; {cure}")
