"""Preferences: existing pairs judged in both orders, or pairs that are written and then judged.

Knows no provider. Both orders after Wang et al. 2023 (arXiv 2305.17926) and Koo et al. 2023 (CoBBLEr).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from karat.errors import InputError
from karat.generation import labelling, plan
from karat.generation.base import Draft, Message, Plot, Response, Scene, Slot, check_number
from karat.generation.labelling import Options
from karat.generation.people import Person, people
from karat.generation.prompts import class_line
from karat.generation.steps import read_plain
from karat.generation.tasks import Task
from karat.records import Records

_WORD, _REASONS = 16, 512
_CARRIED = ("model_a", "model_b", "place_a", "place_b", "reference")
_GOOD = "Answer as well as you can: correct, complete and to the point."
_POOR = (
    "Answer as a hurried and careless person would: fluent at first sight, but superficial, leaving out or "
    "mixing up what matters most. Do not say so."
)


@dataclass(frozen=True)
class Compare:
    """Judge pairs of responses, each in both orders; without pairs, write two answers and judge those.

    samples: judgements of a pair by each rater. order: both (a record for each order), or drawn (one order
    a sample, turns about). ties: whether neither may be better. mode: choice (the letter alone), reasons
    (reasons first) or logprobs (the distribution over choices, where the server tells the alternatives to the
    first token; where it does not, the letter, and the field fallback says why).
    criterion: what makes a response better; else the instructions and the question of the task.
    invalid: keep (an unreadable answer is the choice invalid) or redraw (ask again, then reject).
    personas: a file of personas, one a line or in a field persona; else the task's attribute persona.
    plain: whether the model judges in its own name too. least: in mode logprobs, the share of the first
    token's probability that must fall on choices.
    contrast: how two written answers differ: temperature (cool and warm), instruction (one is asked to be
    careless) or draws. cool, warm: those temperatures. judged: whether the judge must confirm both orders;
    without, the first (the cool, the good one) is chosen.
    """

    samples: int = 1
    order: Literal["both", "drawn"] = "both"
    ties: bool = True
    mode: Literal["choice", "reasons", "logprobs"] = "choice"
    criterion: str = ""
    invalid: Literal["keep", "redraw"] = "keep"
    personas: str = ""
    plain: bool = True
    least: float = 0.5
    contrast: Literal["temperature", "instruction", "draws"] = "temperature"
    cool: float = 0.3
    warm: float = 1.2
    judged: bool = True

    uses_attributes: ClassVar[bool] = True
    types: ClassVar[tuple[str, ...]] = ("preference",)
    source: ClassVar[str] = (
        "both orders after Wang et al. 2023, arXiv 2305.17926, and Koo et al. 2023, CoBBLEr"
    )
    cost: ClassVar[str] = "two calls a pair that is judged; five a pair that is written and judged"

    def __post_init__(self) -> None:
        check_number("samples", self.samples, 1, "each pair needs a judgement")
        if not self.judged and self.contrast == "draws":
            raise ValueError("judged=false with contrast=draws would choose by chance; let the judge choose")

    def enrich(self, task: Task, human: Records | None, seed: int) -> tuple[Task, Records | None]:
        """Return both as they are."""
        return task, human

    def rows(self, task: Task, items: Records) -> int:
        """How many rows are planned for items: pairs x samples x raters, or a pair to be written for each."""
        if not _are_pairs(items):
            return len(items)
        return sum(1 for _ in _pairs(items)) * self.samples * len(self._raters(task))

    def calls(self, slot: Slot) -> int:
        """The most calls that a row makes: its orders, or a prompt, two answers and two judgements."""
        if "response_a" in slot.material:
            return len(slot.material["orders"])
        return 2 + ("prompt" not in slot.material) + 2 * self.judged

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """A slot for each sample of each rater on each pair; or one for each pair to be written."""
        if plot.items is not None and _are_pairs(plot.items):
            raters, listed = self._raters(plot.task), list(_pairs(plot.items))
            for sample in range(1, self.samples + 1):
                for number, pair in enumerate(listed):
                    for rater in raters:
                        yield self._slot(plot, pair, number, rater, sample)
        elif plot.items is not None:
            for row in plot.items:
                prompt = str(row.get("prompt") or plot.items.kind.text(row))
                asked = (Message("user", prompt),)
                yield Slot(asked, material={"prompt": prompt}, parents=(str(row["id"]),))
        else:
            for slot in plan.slots(plot, self):
                # The label of a preference is its choice; a class is what the prompt is about.
                of_class = {} if slot.label is None else {"class": slot.label}
                yield replace(slot, label=None, attributes={**of_class, **slot.attributes})

    def _slot(
        self, plot: Plot, pair: Mapping[str, Any], number: int, rater: Person | None, sample: int
    ) -> Slot:
        who = "plain" if rater is None else rater.name
        orders = ["a", "b"]
        if self.order == "drawn":
            turn = plan.row_seed(plot.seed, f"order {pair['pair']}/{who}") + sample
            orders = [orders[turn % 2]]
        material = {**pair, "sample": sample, "orders": orders}
        if rater is not None:
            material |= {"person": rater.name, "persona": rater.text}
        return Slot(
            messages=self._ask(plot.task, material, orders[0]),
            attributes={} if rater is None else {"persona": rater.name},
            material=material,
            yields=len(orders),
            parents=tuple(pair["parents"]),
            id=f"{pair['pair']}@{who}/{sample}",
            max_tokens=_REASONS if self.mode == "reasons" else _WORD,
            logprobs=20 if self.mode == "logprobs" else 0,
        )

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The request for a prompt of the task, to which two answers are then written."""
        lines = [
            f"Write one request that a user may make of an assistant, for: {task.domain}.",
            class_line(task, label),
            *(f"{name.replace('_', ' ')}: {value}." for name, value in attributes.items()),
            f"Write in {task.language}." if task.language else "",
            "Give the request alone, in the user's words.",
        ]
        return (Message("user", " ".join(line for line in lines if line)),)

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """The judgements of a pair in each order; or a chosen and a rejected answer."""
        if "response_a" not in scene.slot.material:
            return [await self._written(scene)]
        verdicts = [await self._judged(scene, first) for first in scene.slot.material["orders"]]
        return self._drafts(scene.slot, verdicts)

    # ------------------------------------------------------------------------------------ judging

    async def _judged(self, scene: Scene, first: str, pair: Mapping[str, Any] | None = None) -> Verdict:
        """What a judge says of a pair when response `first` is shown first."""
        shown = scene.slot.material if pair is None else pair
        asked = self._ask(scene.task, shown, first)
        step = "" if first == scene.slot.material.get("orders", [""])[0] else f"{first}first"
        tokens = _REASONS if self.mode == "reasons" else _WORD
        logprobs = 20 if self.mode == "logprobs" else 0
        temperature = None if pair is None else 0.0
        response = await scene.ask(
            asked, step=step, max_tokens=tokens, logprobs=logprobs, schema={}, temperature=temperature
        )
        options = self._options(scene.task)
        place = {"A": first, "B": "b" if first == "a" else "a", "tie": "tie"}
        fallback = None
        if self.mode == "logprobs":
            found = labelling.spread(response.alternatives, options, least=self.least)
            if not found.reason:
                shares = {place[name]: share for name, share in found.shares.items()}
                return Verdict(first, place[found.likeliest], response, shares)
            fallback = found.reason
        cut = response.finish_reason in ("length", "max_tokens")
        said = labelling.read(response.text, options, last=self.mode == "reasons", cut=cut)
        return Verdict(first, place.get(said, "invalid"), response, None, fallback)

    def _options(self, task: Task) -> Options:
        ties = self.ties and (not task.choices or "tie" in task.choices)
        names = ("A", "B", "tie") if ties else ("A", "B")
        told = {
            "A": "response A is better",
            "B": "response B is better",
            "tie": "neither is better than the other",
        }
        return Options(names, tuple(name.upper() for name in names), told)

    def _ask(self, task: Task, pair: Mapping[str, Any], first: str) -> tuple[Message, ...]:
        second = "b" if first == "a" else "a"
        system = (
            "You compare two responses. Neither their order nor their length makes one better. "
            "Judge only what is shown, and follow the form of the answer."
        )
        if pair.get("persona"):
            system = f"You are this person:\n{pair['persona']}\nJudge as this person would.\n\n{system}"
        told = "\n".join(filter(None, (task.instructions, task.question)))
        criterion = self.criterion or told or "Which response is better?"
        options = self._options(task)
        words = [f"{code}: {options.definitions[name]}" for name, code in zip(options.names, options.said)]
        lines = [criterion, ""]
        if pair.get("prompt"):
            lines += ["Prompt:", str(pair["prompt"]), ""]
        if pair.get("reference"):
            lines += ["A reference answer:", str(pair["reference"]), ""]
        lines += ["Response A:", str(pair[f"response_{first}"]), ""]
        lines += ["Response B:", str(pair[f"response_{second}"]), "", "Allowed answers:", *words, ""]
        if self.mode == "reasons":
            lines.append(
                "First give your reasons in at most 100 words. "
                "Then end with a line of this form:\nAnswer: WORD"
            )
        else:
            lines.append(f"Answer with {' or '.join(options.said)} and nothing else.")
        return Message("system", system), Message("user", "\n".join(lines))

    def _drafts(self, slot: Slot, verdicts: Sequence[Verdict]) -> list[Draft]:
        pair, person = slot.material, slot.material.get("person")
        choices = [one.choice for one in verdicts]
        if "invalid" in choices and self.invalid == "redraw":
            calls = tuple(one.response for one in verdicts)
            return [Draft(reason="no choice in the answer", text=calls[-1].text, responses=calls)]
        # An order without a readable verdict does not confirm the other one.
        agreed = len(set(choices)) == 1 and "invalid" not in choices if len(choices) > 1 else None
        carried = {name: pair[name] for name in _CARRIED if pair.get(name) is not None}
        drafts = []
        for one in verdicts:
            model = one.response.model or "model"
            fields = {
                "prompt": pair["prompt"],
                "response_a": pair["response_a"],
                "response_b": pair["response_b"],
                "choice": one.choice,
                "rater": model if person is None else f"{model} as {person}",
                "rater_kind": "model",
                "shown_first": one.first,
                "sample_id": str(pair["sample"]),
                "consistent": agreed,
                "persona": pair.get("persona"),
                **carried,
            }
            if self.mode == "reasons":
                fields["reasons"] = one.response.text.strip()
            if self.mode == "logprobs":
                shares = None if one.shares is None else labelling.rounded(one.shares)
                fields["distribution"] = None if shares is None else json.dumps(dict(sorted(shares.items())))
                fields["fallback"] = one.fallback
            text, responses = one.response.text, (one.response,)
            drafts.append(Draft(fields=fields, text=text, responses=responses, label=one.choice))
        return drafts

    # ------------------------------------------------------------------------------------ writing

    async def _written(self, scene: Scene) -> Draft:
        """A prompt (unless one is given), two answers to it, and the judge's word on them in both orders."""
        calls: list[Response] = []
        prompt = str(scene.slot.material.get("prompt", ""))
        if not prompt:
            response = await scene.ask(scene.slot.messages, schema={})
            calls.append(response)
            prompt, reason = read_plain(response, scene.task)
            if reason:
                return Draft(reason=f"the prompt: {reason}", text=response.text, responses=tuple(calls))
        answers = []
        for number, (system, temperature) in enumerate(self._ways()):
            asked = (*((Message("system", system),) if system else ()), Message("user", prompt))
            step = f"answer{number + 1}" if calls else ""  # the first call of a row bears its name
            response = await scene.ask(asked, step=step, replicate=number, temperature=temperature, schema={})
            calls.append(response)
            text, reason = read_plain(response, scene.task)
            if reason:
                return Draft(
                    reason=f"answer {number + 1}: {reason}", text=response.text, responses=tuple(calls)
                )
            answers.append(text)
        draft = Draft(text=calls[-1].text, responses=tuple(calls))
        if answers[0] == answers[1]:
            return replace(draft, reason="both answers are the same")
        better = "a"
        if self.judged:
            pair = {"prompt": prompt, "response_a": answers[0], "response_b": answers[1]}
            verdicts = [await self._judged(scene, first, pair) for first in "ab"]
            draft = replace(draft, responses=(*calls, *(one.response for one in verdicts)))
            better = verdicts[0].choice
            if better not in ("a", "b") or better != verdicts[1].choice:
                said = " and ".join(one.choice for one in verdicts)
                return replace(draft, reason=f"the judge prefers neither answer: {said} in the two orders")
        chosen, rejected = answers if better == "a" else answers[::-1]
        fields = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "contrast": self.contrast}
        return replace(draft, fields={**fields, "expected": better == "a"})

    def _ways(self) -> tuple[tuple[str, float | None], ...]:
        """System prompt and temperature of the two answers."""
        if self.contrast == "temperature":
            return ("", self.cool), ("", self.warm)
        return ((_GOOD, None), (_POOR, None)) if self.contrast == "instruction" else (("", None), ("", None))

    def _raters(self, task: Task) -> tuple[Person | None, ...]:
        found = (*((None,) if self.plain else ()), *people(self.personas, task))
        if not found:
            raise InputError(
                "plain=false leaves no rater; give personas (--personas FILE, or an attribute persona)"
            )
        return found


@dataclass(frozen=True)
class Verdict:
    """What was said of a pair when response `first` was shown first; shares over a, b and tie where known."""

    first: str
    choice: str
    response: Response
    shares: Mapping[str, float] | None = None
    fallback: str | None = None


def _are_pairs(items: Records) -> bool:
    return items.datatype == "preference"


def _pairs(items: Records) -> Iterator[dict[str, Any]]:
    """Each pair once, whoever judged it: prompt, two responses, and what else is known of them."""
    seen = set()
    for row in items:
        a, b = (row.get(name) for name in ("response_a", "response_b"))
        if a is None or b is None:
            a, b = row["chosen"], row["rejected"]
        key = (str(row.get("prompt") or ""), *sorted((str(a), str(b))))
        if key in seen:
            continue
        seen.add(key)
        carried = {name: row[name] for name in _CARRIED if row.get(name) is not None}
        yield {
            "pair": str(row["id"]),
            "prompt": key[0],
            "response_a": str(a),
            "response_b": str(b),
            "parents": [str(row["id"])],
            **carried,
        }
