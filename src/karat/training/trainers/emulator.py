"""A learner that trains nothing: it counts the choices of a task's grammar. Knows no network and no loop.

It knows the task's language from the start, and learns how often each choice is made in each place.
Sampling at a temperature sharpens the shares of each place. So its texts are valid, and change in
milliseconds as those of a real learner do in minutes. Errors come in by `slip` alone, a heuristic: see
`Emulator`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from karat import records as karat_records
from karat import registry
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records
from karat.training.base import Floats, Indices, Progress, Weighed
from karat.training.causal_codec import join_words
from karat.training.rules import Rules, nucleus, sharpened, smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = 1e-4
"""The probability of a choice that no rule reaches, and of each token of a text that the grammar refuses."""


@dataclass(frozen=True)
class Emulator:
    """Counts the rules of a task's grammar instead of training: an iteration takes milliseconds.

    Slips are a heuristic for a learner that makes mistakes: a token is dropped, doubled or replaced by
    another of the training rows. At temperature T the chance s of a slip becomes that of two sharpened
    choices, s^(1/T) / (s^(1/T) + (1 - s)^(1/T)). A model learns its rules from valid rows, and from the share
    of the others how often their writer slipped, which is added to `slip`: errors add up at temperature 1 and
    are sharpened away below.

    task: spec of the task whose rules are counted; a simulation fills in its own.
    smoothing: share by which the choices of a place are made alike: a learner that learns imperfectly.
    slip: chance that a token goes wrong at temperature 1, beyond what the training rows teach.
    """

    types: ClassVar[tuple[str, ...]] = ("text",)
    writes: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    task: str = ""
    smoothing: float = 0.0
    slip: float = 0.0

    def __post_init__(self) -> None:
        for name in ("smoothing", "slip"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name}={value} is not a share below 1; give a number from 0 to 1")

    def bound(self, task: str) -> Emulator:
        """Return the trainer for a task; one that names its task already stays as it is."""
        return self if self.task else replace(self, task=task)

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
    ) -> EmulatorModel:
        """Count the rules of the valid texts among records. Raises BadSetting without a task."""
        task = _with_rules(self.task)
        if records.datatype not in self.types:
            raise BadSetting(
                f"trainer 'emulator' takes text records, but {records.path} holds {records.datatype} "
                "records; choose another trainer (see: karat list trainers)"
            )
        texts = records.texts()
        rules, invalid = _counted(task, texts)
        if not rules:
            raise NotEnoughData(
                f"{records.path}: none of {len(texts):,} texts is valid, so that no rules can be counted; "
                "give valid texts, or lower slip"
            )
        corpus, lengths = _corpus(task, texts)
        learned = _slips(invalid, lengths)
        told = f"{registry.signature(self)}|{records.fingerprint}"
        return EmulatorModel(
            task=task,
            rules=smoothed(rules, self.smoothing),
            slip=1.0 - (1.0 - self.slip) * (1.0 - learned),
            corpus=corpus,
            name=f"emulator-{hashlib.sha256(told.encode()).hexdigest()[:12]}",
            saw=(records.fingerprint,),
        )


def _with_rules(spec: str) -> Any:
    if not spec:
        raise BadSetting("trainer 'emulator' needs a task whose rules it counts; write emulator:task=logic")
    task = registry.make("tasks", spec)
    if not (hasattr(task, "rules") and hasattr(task, "write")):
        raise BadSetting(
            f"task {registry.name_of(task)!r} has no rules that could be counted; use trainer gpt"
        )
    return task


def _counted(task: Any, texts: Sequence[str]) -> tuple[Rules, float]:
    """Return the rules of the valid texts, and the share of the others."""
    if not task.verifies:
        return task.rules(texts), 0.0
    valid = [text for text, verdict in zip(texts, task.verify(texts), strict=True) if verdict.valid]
    return task.rules(valid), 1.0 - len(valid) / max(1, len(texts))


def _corpus(task: Any, texts: Sequence[str]) -> tuple[dict[str, int], dict[int, int]]:
    """Return how often each token stands in texts, and how many texts have each length in tokens."""
    found: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    for text, times in Counter(texts).items():
        tokens = task.tokens(text)
        lengths[len(tokens)] += times
        for token in tokens:
            found[token] += times
    return dict(found), dict(lengths)


def _slips(invalid: float, lengths: Mapping[int, int]) -> float:
    """Return the chance s of a slip where a share of rows has one or more: mean of (1 - s)^L = 1 - invalid.

    Slips that happen to leave a text valid are not seen.
    """
    if invalid <= 0.0:
        return 0.0
    sizes = np.fromiter(lengths.keys(), np.float64, len(lengths))
    shares = np.fromiter(lengths.values(), np.float64, len(lengths)) / sum(lengths.values())
    low, high = 0.0, 1.0
    for _ in range(50):  # the mean falls with s, so that halving finds it
        middle = (low + high) / 2
        low, high = (middle, high) if shares @ (1.0 - middle) ** sizes > 1.0 - invalid else (low, middle)
    return low


@dataclass(frozen=True, eq=False)
class EmulatorModel:
    """Shares of choices by place: `generate` writes records, `loss` and `predict` weigh them."""

    task: Any
    rules: Rules  # shares of a place sum to one
    slip: float  # chance that a token goes wrong, at temperature 1
    corpus: Mapping[str, int]  # what a slip may write, with how often it stands in the training rows
    name: str
    saw: tuple[str, ...]  # fingerprints of the training records

    history: ClassVar[None] = None
    """nothing is trained, so that there is no training loss"""

    @property
    def model(self) -> str:
        """The model's name: it changes with the training rows and the settings."""
        return self.name

    @cached_property
    def _logs(self) -> dict[Any, dict[str, float]]:
        return {
            place: {choice: math.log(max(share, FLOOR)) for choice, share in uses.items()}
            for place, uses in self.rules.items()
        }

    def generate(self, n: int, *, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0) -> Records:
        """Write n records from the sharpened rules. Their `logprob` is nats a token at temperature 1."""
        rules = sharpened(self.rules, temperature)
        if top_p < 1.0:
            rules = nucleus(rules, top_p)
        texts = self.task.write(rules, n, seed=seed)
        sums, counts = self._weighed(texts)
        if self.slip > 0.0:
            self._slipped(texts, sums, counts, temperature, seed)
        made = karat_records.from_rows(
            [{"id": f"{self.model}:{seed}:{number}", "text": text} for number, text in enumerate(texts)],
            datatype="text",
        )
        return made.with_lineage(
            source="synthetic",
            generator=self.model,
            seed=seed,
            logprob=(sums / (counts + 1)).tolist(),
            generator_saw=list(self.saw),
        )

    def loss(self, texts: Sequence[str]) -> float:
        """Nats a character that the rules need for these texts; slips are left out.

        A choice that no rule reaches costs -ln(1e-4), so does each token of a text that is not valid.
        """
        return -float(self._weighed(texts)[0].sum()) / max(1.0, sum(map(len, texts)))

    def predict(self, records: Records) -> Weighed:
        """Return how likely the rules find records; what no rule reaches has a floor, as in `loss`."""
        texts = records.texts()
        sums, counts = self._weighed(texts)
        sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
        return Weighed(tuple(records.ids), -sums, counts + 1, np.asarray(sizes, dtype=np.int64))

    def _weighed(self, texts: Sequence[str]) -> tuple[Floats, Indices]:
        """Return ln p [n] of texts under the rules, and their tokens [n] without the end."""
        found = {text: self._weigh(text) for text in dict.fromkeys(texts)}
        sums = np.fromiter((found[text][0] for text in texts), np.float64, len(texts))
        return sums, np.fromiter((found[text][1] for text in texts), np.int64, len(texts))

    def _weigh(self, text: str) -> tuple[float, int]:
        floor, logs, unknown = math.log(FLOOR), self._logs, dict[str, float]()
        size, total = len(self.task.tokens(text)), 0.0
        own = self.task.rules([text])
        if not own:
            return floor * (size + 1), size
        for place, uses in own.items():
            known = logs.get(place, unknown)
            for choice, times in uses.items():
                total += times * known.get(choice, floor)
        return total, size

    def _slipped(
        self, texts: list[str], sums: Floats, counts: Indices, temperature: float, seed: int
    ) -> None:
        """Spoil tokens of texts in place, each with the chance of a slip at this temperature."""
        power = 1.0 / temperature
        wrong, right = self.slip**power, (1.0 - self.slip) ** power
        chance = wrong / (wrong + right)
        generator = np.random.default_rng([seed & 0xFFFFFFFF, 7])
        slips: NDArray[np.int64] = generator.binomial(counts, chance)
        sums += (counts - slips) * math.log1p(-self.slip) if self.slip < 1.0 else 0.0
        sums += slips * math.log(max(self.slip, FLOOR))
        random = Random(f"slips:{seed}")
        names, cumulative = list(self.corpus), list(accumulate(self.corpus.values()))
        joined = getattr(self.task, "joined", join_words)
        for row in np.flatnonzero(slips).tolist():
            tokens = self.task.tokens(texts[row])
            # From the end, so that a dropped token does not move those that are still to go wrong.
            for at in sorted(random.sample(range(len(tokens)), int(slips[row])), reverse=True):
                kind = random.randrange(3)
                if kind == 0:
                    del tokens[at]
                elif kind == 1:
                    tokens.insert(at, tokens[at])
                else:
                    others = [random.choices(names, cum_weights=cumulative)[0] for _ in range(8)]
                    tokens[at] = next((token for token in others if token != tokens[at]), tokens[at])
            texts[row] = joined(tokens)
