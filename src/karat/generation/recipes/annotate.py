"""Labels for existing items: several samples each, plainly and as personas. Knows no provider.

After the annotations studied in Das et al. 2024 (arXiv 2401.14698), section 5; there one prompt showed the
labels always in the same order, and asked in the name of one persona.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from karat.errors import InputError
from karat.generation import labelling
from karat.generation.base import Draft, Message, Plot, Response, Scene, Slot, check_number
from karat.generation.labelling import NONE, Options
from karat.generation.people import Person, people, some
from karat.generation.plan import row_seed
from karat.generation.tasks import Task
from karat.records import Records

_WORD, _REASONS = 32, 512  # tokens of an answer of a label, and of one with reasons
_SEPARATOR = "|"


@dataclass(frozen=True)
class Annotate:
    """Label items: each by so many samples, plainly and as each persona, in changing orders of the labels.

    samples: answers to an item by each annotator. mode: label (the label alone), reasons (reasons first) or
    logprobs (one call gives the distribution over labels, from the alternatives to its first token; where
    these do not tell, the samples are drawn, and the field fallback says why).
    order: shuffled (over the samples each label stands in each place equally often) or fixed.
    codes: names or letters (A, B ...) as what is answered; letters have first tokens of their own.
    scale: points instead of labels, for example 1-5. multi: several labels an item, joined by |.
    invalid: keep (an answer without a label is a record with an empty one, so that an audit can count it) or
    redraw (ask again, then reject). personas: a file of personas, one a line or in a field persona; else
    those of the task's attribute persona. persons: so many of them an item, drawn (0: all). plain: whether
    the model is asked in its own name too. least: in mode logprobs, the share of the first token's
    probability that must fall on labels. answer_tokens: the most tokens of an answer (0: 32, or 512 with
    reasons).
    """

    samples: int = 1
    mode: Literal["label", "reasons", "logprobs"] = "label"
    order: Literal["shuffled", "fixed"] = "shuffled"
    codes: Literal["names", "letters"] = "names"
    scale: str = ""
    multi: bool = False
    invalid: Literal["keep", "redraw"] = "keep"
    personas: str = ""
    persons: int = 0
    plain: bool = True
    least: float = 0.5
    answer_tokens: int = 0

    uses_attributes: ClassVar[bool] = False
    types: ClassVar[tuple[str, ...]] = ("annotation",)
    needs: ClassVar[frozenset[str]] = frozenset({"items"})
    source: ClassVar[str] = "Das et al. 2024, arXiv 2401.14698, section 5; orders and samples are ours"
    cost: ClassVar[str] = "one call a sample, annotator and item, with the item in each prompt"

    def __post_init__(self) -> None:
        check_number("samples", self.samples, 1, "each item needs an answer")
        check_number("persons", self.persons, 0, "0 takes all personas")
        check_number("answer_tokens", self.answer_tokens, 0, "0 leaves it to the form of the answer")
        if self.multi and (self.mode == "logprobs" or self.scale):
            raise ValueError("multi=true has no first token or scale; use mode=label or mode=reasons")
        if self.scale and (self.codes == "letters" or len(_points(self.scale)) < 2):
            raise ValueError(f"scale is {self.scale!r}; write its ends, as in 1-5, and codes=names")

    def enrich(self, task: Task, human: Records | None, seed: int) -> tuple[Task, Records | None]:
        """Return both as they are."""
        return task, human

    def rows(self, task: Task, items: Records) -> int:
        """How many answers are asked for: items x samples x annotators."""
        everyone = people(self.personas, task)
        who = len(self._annotators(everyone, 0))
        return sum(1 for _ in _items(items)) * who * (1 if self.mode == "logprobs" else self.samples)

    def calls(self, slot: Slot) -> int:
        """The most calls that a row makes."""
        return self.samples if self.mode == "logprobs" else 1

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """A slot for each sample of each annotator on each item; first all first samples."""
        if plot.items is None:
            raise InputError("recipe 'annotate' has no items; give records to be labelled")
        names, everyone = self._names(plot.task), people(self.personas, plot.task)
        listed = list(_items(plot.items))
        for turn in range(1 if self.mode == "logprobs" else self.samples):
            for item in listed:
                drawn = row_seed(plot.seed, f"personas {item['item_id']}")
                for person in self._annotators(everyone, drawn):
                    yield self._slot(plot, item, person, turn, names)

    def _slot(
        self, plot: Plot, item: Mapping[str, Any], person: Person | None, turn: int, names: tuple[str, ...]
    ) -> Slot:
        shown = names
        who = "plain" if person is None else person.name
        if self.order == "shuffled":
            seed = row_seed(plot.seed, f"order {item['item_id']}/{who}")
            shown = labelling.ordered(names, turn, seed, scale=Options(names).numeric)
        material = {**item, "sample": turn + 1, "shown": list(shown)}
        if person is not None:
            material |= {"person": person.name, "persona": person.text}
        tokens = self.answer_tokens or (_REASONS if self.mode == "reasons" else _most_tokens(names))
        logprobs = self.mode == "logprobs"
        return Slot(
            messages=self._ask(plot.task, str(item["text"]), self._options(plot.task, shown), person),
            attributes={} if person is None else {"persona": person.name},
            material=material,
            yields=self.samples if logprobs else 1,
            parents=tuple(item["parents"]),
            id=f"{item['item_id']}@{who}" + ("" if logprobs else f"/{turn + 1}"),
            max_tokens=tokens,
            logprobs=20 if logprobs else 0,
        )

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """The label that was answered; in mode logprobs the likeliest one, with the distribution."""
        slot = scene.slot
        options = self._options(scene.task, tuple(slot.material["shown"]))
        first = await scene.ask(slot.messages)
        if self.mode != "logprobs":
            return [self._drafted(slot, options, first, int(slot.material["sample"]))]
        found = labelling.spread(first.alternatives, options, least=self.least)
        if not found.reason:
            shares = {name: found.shares[name] for name in self._names(scene.task)}
            told = json.dumps(labelling.rounded(shares), ensure_ascii=False)
            fields = {"distribution": told, "distribution_mass": round(found.mass, 6), "fallback": None}
            likeliest = max(shares, key=lambda name: shares[name])
            return [self._record(slot, first, 1, likeliest, **fields)]
        answers = [first]
        for sample in range(1, self.samples):
            answers.append(await scene.ask(slot.messages, replicate=sample, logprobs=0))
        blank = {"distribution": None, "distribution_mass": None, "fallback": found.reason}
        return [self._drafted(slot, options, one, i, **blank) for i, one in enumerate(answers, 1)]

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt for an item of the task, with TEXT in its place."""
        return self._ask(task, "TEXT", self._options(task, self._names(task)), None)

    # ------------------------------------------------------------------------------------- answers

    def _drafted(self, slot: Slot, options: Options, response: Response, sample: int, **more: Any) -> Draft:
        reasons = self.mode == "reasons"
        cut = response.finish_reason in ("length", "max_tokens")
        if self.multi:
            several = labelling.read_several(response.text, options)
            label = "" if several is None else _SEPARATOR.join(sorted(several)) or NONE
        else:
            label = labelling.read(response.text, options, last=reasons, cut=cut)
        if not label and self.invalid == "redraw":
            return Draft(reason="no label in the answer", text=response.text, responses=(response,))
        if reasons:
            more["reasons"] = response.text.strip()
        return self._record(slot, response, sample, label, **more)

    def _record(self, slot: Slot, response: Response, sample: int, label: str, **more: Any) -> Draft:
        item, person = slot.material, slot.material.get("person")
        model = response.model or "model"
        fields = {
            "item_id": item["item_id"],
            "text": item["text"],
            "label": label,
            "annotator": model if person is None else f"{model} as {person}",
            "annotator_kind": "model",
            "sample_id": str(sample),
            **({"gold": item["gold"]} if item.get("gold") is not None else {}),
            "persona": item.get("persona"),
            "labels_shown": _SEPARATOR.join(item["shown"]),
            **more,
        }
        return Draft(fields=fields, text=response.text, responses=(response,), label=label)

    # ------------------------------------------------------------------------------------- prompts

    def _ask(self, task: Task, text: str, options: Options, person: Person | None) -> tuple[Message, ...]:
        if person is None:
            system = "You label texts. Judge only what is shown, and follow the form of the answer."
        else:
            system = (
                f"You are this person:\n{person.text}\n\nYou label texts. Answer as this person would, from "
                "their own experience and not as a neutral judge, and follow the form of the answer."
            )
        told = (task.instructions, task.question)
        asked = "\n".join(filter(None, told)) or (
            f"Where does this {task.domain} stand on the scale?"
            if options.numeric
            else f"Which labels fit this {task.domain}?"
            if self.multi
            else f"Which label fits this {task.domain} best?"
        )
        head = "Points of the scale:" if options.numeric else "Labels:"
        lines = [asked, "", head, *options.lines(), "", "Text:", text, "", self._form(options)]
        return Message("system", system), Message("user", "\n".join(lines))

    def _form(self, options: Options) -> str:
        what = "number" if options.numeric else "letter" if options.coded else "label"
        if self.multi:
            what = f"all fitting {what}s, separated by commas ({NONE} if no label fits)"
        else:
            what = f"one {what}"
        if self.mode == "reasons":
            word = what.upper() if not self.multi else what
            return (
                "First give your reasons in at most 60 words. "
                f"Then end with a line of this form:\nAnswer: {word.removeprefix('ONE ')}"
            )
        return f"Answer with {what} from the list and nothing else."

    def _names(self, task: Task) -> tuple[str, ...]:
        """The answers in the order of the task, or the points of the scale. Raises InputError without any."""
        names = _points(self.scale) if self.scale else task.answers
        if len(names) < 2:
            raise InputError(
                f"the task names {len(names)} labels; name the labels to choose from ([labels] or choices in "
                "the task file), or a scale (annotate:scale=1-5)"
            )
        return names

    def _options(self, task: Task, shown: tuple[str, ...]) -> Options:
        told = {name: task.definition(name) for name in shown}
        if self.scale or (task.choices and Options(shown).numeric):
            low, high = min(shown, key=int), max(shown, key=int)
            told = {low: told[low] or "the least", high: told[high] or "the most"} | {
                name: words for name, words in told.items() if words
            }
        # Letters go down the list as it is shown: they carry no hint of which label they stand for.
        return Options(shown, labelling.letters(shown) if self.codes == "letters" else (), told)

    def _annotators(self, everyone: Sequence[Person], seed: int) -> tuple[Person | None, ...]:
        chosen = some(everyone, self.persons, seed)
        if not chosen and not self.plain:
            raise InputError(
                "plain=false leaves no annotator; give personas (--personas FILE, or an attribute persona)"
            )
        return (*((None,) if self.plain else ()), *chosen)


def _points(scale: str) -> tuple[str, ...]:
    """The whole numbers of a scale written LOW-HIGH; none where it is not one."""
    low, _, high = scale.strip().rpartition("-")
    try:
        return tuple(map(str, range(int(low), int(high) + 1)))
    except ValueError:
        return ()


def _most_tokens(names: Sequence[str]) -> int:
    """Room for the longest label: a token may be a byte or two."""
    return max(_WORD, max(len(name.encode("utf-8", "replace")) for name in names))


def _items(items: Records) -> Iterator[dict[str, Any]]:
    """Each item once: its id, text, right label where the records name one, and the records it is from."""
    kind, seen = items.kind, dict[str, str]()
    annotated = items.datatype == "annotation"
    for row in items:
        identity = str(row["item_id"] if annotated else row["id"])
        if identity in seen:
            continue
        text = kind.text(row)
        seen[identity] = text
        gold = row.get("gold") if annotated or row.get("label") is None else row["label"]
        yield {
            "item_id": identity,
            "text": text,
            "gold": None if gold is None else str(gold),
            "parents": [] if annotated else [str(row["id"])],
        }
