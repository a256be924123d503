"""Fine-tuning by a server that speaks OpenAI's fine-tuning API. Knows no score.

The rows go out once and one job is made and paid for, whatever becomes of this process: the same command
takes up the same job. The tuned model is asked by /v1/chat/completions, and each answer is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson

from karat import registry
from karat.errors import BadSetting, BudgetSpent, InputError
from karat.generation import calls
from karat.generation.access import Access, check_prices
from karat.generation.base import Price, Request, Response, check_number
from karat.generation.journal import Journal
from karat.generation.limits import Limits, Usage
from karat.generation.prices import is_own
from karat.records import Records
from karat.training.base import Predictions, Progress, Written, gold_labels
from karat.training.finetuning_api import FinetuningApi
from karat.training.finetuning_jobs import Job, Shelf, Work, trained
from karat.training.finetuning_rows import Form, most_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMAT = 1


@dataclass(frozen=True)
class ApiFinetune:
    """Fine-tune a model at a server with OpenAI's fine-tuning API; one job, resumed and never paid twice.

    model: the base model, as the server calls it. url: where the API is, up to and with /v1.
    key_env: the name of the environment variable with the key; a server of one's own needs none.
    epochs: passes over the rows; 0 leaves them to the server, and then no cost is known before.
    batch_size, rate: rows a step and the learning rate multiplier; 0 leaves them to the server.
    instruction: what the system message says; empty: a plain sentence that names the labels.
    price: USD per million trained tokens. price_in, price_out: of the tuned model's answers.
    max_usd: the most that training and all answers may cost; nothing is sent where it might be more.
    answer_tokens: the longest answer. logprobs: likeliest first tokens asked for, for probabilities; 0: none.
    state: the folder of jobs and answers. poll: seconds between looks. hours: the longest wait.
    form: how hyperparameters are sent; hyperparameters is the older way, which some servers want.
    headers: further headers, NAME:VALUE joined by +; a VALUE of env:VARIABLE is read from the environment.
    """

    model: str
    url: str = "https://api.openai.com/v1"
    key_env: str = "OPENAI_API_KEY"
    epochs: int = 3
    batch_size: int = 0
    rate: float = 0.0
    instruction: str = ""
    price: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    max_usd: float | None = None
    answer_tokens: int = 512
    logprobs: int = 5
    concurrency: int = 16
    state: str = ".karat/finetuning"
    poll: float = 10.0
    hours: float = 24.0
    connect_timeout: float = 15.0
    form: Literal["method", "hyperparameters"] = "method"
    suffix: str = "karat"
    headers: tuple[str, ...] = ()

    types: ClassVar[tuple[str, ...]] = (
        "classification",
        "annotation",
        "preference",
        "instruction",
        "translation",
    )

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch_size", 0), ("rate", 0), ("logprobs", 0)):
            check_number(name, getattr(self, name), least, "0 leaves it out")
        for name in ("concurrency", "answer_tokens"):
            check_number(name, getattr(self, name), 1, "one is the least")
        for name in ("poll", "hours", "connect_timeout"):
            check_number(name, getattr(self, name), 1e-6, "it is a time")
        check_prices(self.price_in, self.price_out)
        check_number("price", self.price or 0.0, 0.0, "it is in USD per million tokens")
        _ = self._access  # which says what is wrong with it

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
    ) -> ApiModel:
        """Train at the server, or take up the job of the same records, settings and seed.

        Raises BudgetSpent where it may cost more than max_usd, ProviderError with the server's words where
        the job fails.
        """
        form = Form.of(records, self.instruction)
        work = self._work(form, records, validation, seed)
        shelf = Shelf(Path(self.state))
        if not shelf.read(work.digest).handed_in:
            self._afford(work)

        def tell(status: str) -> None:
            if progress:
                progress(f"fine-tuning: {status}", 0, 1)

        async def go() -> tuple[Job, list[dict[str, Any]]]:
            api = self._api
            try:
                job = await trained(api, shelf, work, tell)
                return job, await api.checkpoints(job.job)
            finally:
                await api.close()

        job, kept = calls.run(go)
        if progress:
            progress("fine-tuning: succeeded", 1, 1)
        checkpoints = tuple(
            (str(one["fine_tuned_model_checkpoint"]), int(one.get("step_number") or 0))
            for one in kept
            if one.get("fine_tuned_model_checkpoint")
        )
        return ApiModel(
            self, job.model, form, job.job, job.trained_tokens, checkpoints, (records.fingerprint,)
        )

    def cancel(self, records: Records, *, seed: int = 0, validation: Records | None = None) -> str:
        """End the job of these records; returns its status. Raises InputError where none is noted."""
        work = self._work(Form.of(records, self.instruction), records, validation, seed)
        shelf = Shelf(Path(self.state))
        job = shelf.read(work.digest)
        if not job.job:
            raise InputError(f"{self.state}: no fine-tuning job of these records and settings is noted there")

        async def go() -> dict[str, Any]:
            api = self._api
            try:
                return await api.cancel(job.job)
            finally:
                await api.close()

        told = calls.run(go)
        shelf.write(replace(job, status=str(told.get("status") or "cancelled")))
        return str(told.get("status") or "cancelled")

    @staticmethod
    def load(folder: Path) -> ApiModel:
        """Return the model that `save` wrote; its weights stay at the server."""
        told = json.loads((folder / "api_finetune.json").read_text("utf-8"))
        if told.pop("format", None) != _FORMAT:
            raise InputError(f"{folder}: a tuned model of another version of karat; train anew")
        given = told["settings"]
        form = Form(told["form"]["datatype"], told["form"]["system"], tuple(told["form"]["classes"]))
        return ApiModel(
            ApiFinetune(**{**given, "headers": tuple(given["headers"])}),
            told["model"],
            form,
            told["job"],
            told["trained_tokens"],
            tuple((str(name), int(step)) for name, step in told["checkpoints"]),
            tuple(told["saw"]),
        )

    # ------------------------------------------------------------------------------------ handing in

    def _work(self, form: Form, records: Records, validation: Records | None, seed: int) -> Work:
        """Rows, body, and the digest of all that may change the model."""
        hyper: dict[str, Any] = {}
        for name, value in (
            ("n_epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("learning_rate_multiplier", self.rate),
        ):
            if value:
                hyper[name] = value
        body: dict[str, Any] = {"model": self.model, "seed": seed & 0x7FFFFFFF}
        if self.suffix:
            body["suffix"] = self.suffix
        if self.form == "method":
            body["method"] = {"type": "supervised", "supervised": {"hyperparameters": hyper}}
        elif hyper:
            body["hyperparameters"] = hyper
        rows = form.rows(records)
        held = b"" if validation is None else form.rows(validation)
        told = orjson.dumps([self.url.rstrip("/"), body], option=orjson.OPT_SORT_KEYS)
        parts = (told, rows, held)
        digest = hashlib.sha256(b"".join(len(p).to_bytes(8, "big") + p for p in parts)).hexdigest()
        return Work(digest, rows, held, body, self.hours)

    def _afford(self, work: Work) -> None:
        """Raise where training may cost more than the cap."""
        if self.max_usd is None:
            return
        price = self.training_price
        if price is None or (price and not self.epochs):
            lacks = "price=USD (per million trained tokens)" if price is None else "epochs"
            raise BadSetting(
                f"max_usd={self.max_usd:g} cannot be kept, as nobody knows what training {self.model} costs; "
                f"give {lacks} too"
            )
        tokens = most_tokens(work.rows) * self.epochs
        usd = tokens * price / 1e6
        if usd > self.max_usd:
            raise BudgetSpent(
                f"fine-tuning {self.model} may cost up to {usd:.2f} USD ({tokens:,} tokens in {self.epochs} "
                f"epochs at {price:g} USD a million), more than max_usd={self.max_usd:g}; nothing was sent: "
                "train on fewer records or epochs, or raise max_usd"
            )

    @property
    def training_price(self) -> float | None:
        """USD per million trained tokens; None where it is not known. A server of one's own costs nothing."""
        if self.price is not None:
            return self.price
        return 0.0 if is_own(self.url) else None

    @cached_property
    def _access(self) -> Access:
        return Access(self.url, self.key_env, self.headers)

    @property
    def _api(self) -> FinetuningApi:
        return FinetuningApi(self._access, self.model, self.poll, self.connect_timeout)

    def __getstate__(self) -> dict[str, Any]:
        """Keys do not travel to other processes."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass
class Asked:
    """What asking a tuned model has come to: answers that were no label, questions without answer, cost."""

    since: float = field(default_factory=time.time)
    usage: Usage = field(default_factory=Usage)
    invalid: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """record id -> why the server did not answer"""


@dataclass(frozen=True, eq=False)
class ApiModel:
    """A tuned model at a server; it is a provider too."""

    settings: ApiFinetune
    model: str
    """its name at the server"""
    form: Form
    job: str
    trained_tokens: int | None
    checkpoints: tuple[tuple[str, int], ...] = ()
    """models that were kept on the way, and after which step; the newest first"""
    saw: tuple[str, ...] = ()
    """fingerprints of the records that it was trained on"""
    asked: Asked = field(default_factory=Asked)

    batch_size: ClassVar[int] = 1

    @property
    def training_usd(self) -> float:
        """What training cost: the trained tokens that the server told, at their price; nan: not known."""
        price = self.settings.training_price
        if price == 0:
            return 0.0
        return math.nan if price is None or self.trained_tokens is None else self.trained_tokens * price / 1e6

    def predict(self, records: Records) -> Predictions | Written:
        """Ask the tuned model for the label (or text) of each record; what was asked before costs nothing.

        An answer that is no label is a class of its own; `asked` counts it. Raises BudgetSpent at max_usd.
        """
        if records.datatype != self.form.datatype:
            raise InputError(
                f"{records.path} holds {records.datatype} records, but {self.model} was tuned on "
                f"{self.form.datatype} records"
            )
        settings = self.settings
        found = self._answers(records)
        ids = tuple(records.ids)
        if not self.form.classes:
            texts = tuple("" if one is None else one.text for one in found)
            sources = tuple(self.form.given(records))
            return Written(ids, texts, tuple(self._references(records)), sources)
        classes, table, wrong = self.form.probabilities(found)
        self.asked.invalid += wrong
        try:
            gold: tuple[str, ...] | None = tuple(gold_labels(records, settings.model))
        except InputError:  # no gold, which a prediction does not need
            gold = None
        return Predictions(ids, classes, table, gold)

    def _references(self, records: Records) -> list[str]:
        name = "target" if records.datatype == "translation" else "completion"
        return [str(text) for text in records.column(name)]

    def _answers(self, records: Records) -> list[Response | None]:
        settings, cap = self.settings, self.settings.max_usd
        if cap is not None:
            cost = 0.0 if math.isnan(self.training_usd) else self.training_usd
            cap = max(0.0, cap - cost)
        requests = self.form.requests(records, most=settings.answer_tokens, logprobs=settings.logprobs)
        journal = Journal(Path(settings.state) / "answers.sqlite")
        try:
            called = calls.call(
                self._provider,
                requests,
                journal=journal,
                limits=Limits(
                    max_usd=cap,
                    concurrency=settings.concurrency,
                    spent=self.asked.usage,
                    since=self.asked.since,
                ),
            )
        finally:
            journal.close()
        self.asked.usage = self.asked.usage.plus(called.usage)
        self.asked.failures.update({records.ids[int(i)]: why for i, why in called.failures.items()})
        calls.spent(called)
        return [called.responses.get(request.id) for request in requests]

    def save(self, folder: Path) -> Path:
        """Write what names the model, and no key."""
        folder.mkdir(parents=True, exist_ok=True)
        told = {
            "format": _FORMAT,
            "model": self.model,
            "job": self.job,
            "trained_tokens": self.trained_tokens,
            "checkpoints": self.checkpoints,
            "saw": self.saw,
            "form": asdict(self.form),
            "settings": registry.settings(self.settings),
        }
        (folder / "api_finetune.json").write_text(json.dumps(told, ensure_ascii=False, indent=1), "utf-8")
        return folder

    # ------------------------------------------------------------------------------------ a provider

    @property
    def concurrency(self) -> int:
        """The most calls at a time."""
        return self.settings.concurrency

    @property
    def identity(self) -> str:
        """All that may change the answer, without secrets."""
        return str(self._provider.identity)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be written."""
        return tuple(self._provider.secrets)

    def price(self, request: Request) -> Price:
        """The most that a request can cost."""
        found: Price = self._provider.price(request)
        return found

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests."""
        return list(await self._provider.complete(requests))

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._provider.close()

    @cached_property
    def _provider(self) -> Any:
        settings = self.settings
        return registry.find("providers", "openai_compatible")(
            model=self.model,
            url=settings.url,
            key_env=settings.key_env,
            concurrency=settings.concurrency,
            connect_timeout=settings.connect_timeout,
            headers=settings.headers,
            price_in=settings.price_in,
            price_out=settings.price_out,
        )
