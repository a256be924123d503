"""The whole story on human text found on this machine, or on the user's own. Knows every stage; adds none.

One half of the human text trains a small language model, the generator. The other half is what the
generator never saw: human records to compare with and to train on, and the test. Two ways of asking
the generator are audited, the better one is curated, valued and reported; a short loop shows what
happens when models go on to learn from their own output.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from karat import datasets
from karat.blocks import Block, Column, Commands, Headline, Note, Section, Table
from karat.errors import NotEnoughData
from karat.executors.local import Local
from karat.records import Records, read
from karat.runs import Run, versions
from karat.version import __version__

if TYPE_CHECKING:
    from karat.auditing.result import Audited
    from karat.curation.stage import Curated
    from karat.generation.generated import Generated
    from karat.simulation.result import Simulated
    from karat.training.stage import Trained
    from karat.valuation.stage import Valued

Progress = Callable[[str, int, int], None]
# Cooler than the loop's default of 0.8, so that the loss of diversity shows within so few iterations.
LOOP_TEMPERATURE = 0.7
MOST_CHARACTERS = 1_000_000
LEAST = 300  # human records; fewer leave no room for a generator, a student and a test

# records a recipe; passes of the generator over the human text; the loop's records, iterations, seeds
_SIZES = {
    "small": {"n": 500, "epochs": 2, "loop": 1500, "iterations": 4, "seeds": 1},
    "medium": {"n": 1500, "epochs": 5, "loop": 1500, "iterations": 6, "seeds": 1},
    "large": {"n": 6000, "epochs": 8, "loop": 5000, "iterations": 15, "seeds": 3},
}


@dataclass(frozen=True)
class Story:
    """Everything that the demo found, in the order of the story."""

    source: str
    human: dict[str, int]
    generated: dict[str, Generated]
    audits: dict[str, Audited]
    curated: Curated
    trained: dict[str, Trained]
    value: Valued
    loop: Simulated
    seconds: dict[str, float]
    command: str
    report: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what stands in result.json: each stage's own JSON, by recipe where there are several."""
        return {
            "source": self.source,
            "human": self.human,
            "generate": {name: found.to_json() for name, found in self.generated.items()},
            "audit": {name: _named("audit", found) for name, found in self.audits.items()},
            "curate": _named("curate", self.curated),
            "train": {name: _named("train", found) for name, found in self.trained.items()},
            "value": _named("value", self.value),
            "simulate": _named("simulate", self.loop),
            "seconds": self.seconds,
            "versions": versions(),
            "report": self.report,
        }

    def __str__(self) -> str:
        total = sum(self.seconds.values())
        lines = [self.value.advice, "", f"report: {self.report}", f"{total:.0f} seconds in all"]
        return "\n".join(lines)

    def __report__(self) -> tuple[Section, ...]:
        """Return the sections of all stages, each with a title that says which part of the story it is."""
        sections = [self._what()]
        for name, found in self.generated.items():
            sections += _titled(found, f"Generated with the recipe {name}", f"generate-{name}", None)
        for name, audited in self.audits.items():
            title = f"Audit of {name} against human text"
            sections += _titled(audited, title, f"audit-{name}", f"recipe {name}")
        sections += _titled(self.curated, "Curation", "curate", "recipe attributed")
        for name, trained in self.trained.items():
            title = f"A model trained on {name} records"
            sections += _titled(trained, title, f"train-{name}", f"{name} records")
        sections += _titled(self.value, "What it is worth", "value")
        sections += _titled(self.loop, "When models learn from their own output", "simulate")
        return (*sections, self._again())

    def _what(self) -> Section:
        rows = tuple({"part": part, "records": count} for part, count in self.human.items())
        columns = (Column("part", "part"), Column("records", "records", "number"))
        text = (
            f"The human text is {self.source}. One part of it trained a small language model, which then "
            "wrote the synthetic records; the rest it never saw. All figures below come from this run: a "
            "small model trained for about a minute, so they say what such data is worth, not what a large "
            "model would write."
        )
        return Section("The data", (Note(text), Table(columns, rows)), "data")

    def _again(self) -> Section:
        rows = tuple({"what": name, "seconds": round(spent, 1)} for name, spent in self.seconds.items())
        versioned = tuple({"what": name, "version": number} for name, number in versions().items())
        blocks: tuple[Block, ...] = (
            Commands((self.command,), "The same command, versions and human text give the same figures."),
            Table((Column("what", "step"), Column("seconds", "seconds", "number")), rows, title="Time"),
            Table((Column("what", "library"), Column("version", "version")), versioned, title="Versions"),
        )
        return Section("How to get the same again", blocks, "again")


def demo(
    *,
    out: str = "karat-demo",
    data: str | None = None,
    text_field: str | None = None,
    label_field: str | None = None,
    seed: int = 0,
    budget: Literal["small", "medium", "large"] = "medium",
    fresh: bool = False,
    journal: Path | None = None,
    executor: Any = None,
    progress: Progress | None = None,
) -> Story:
    """Tell the whole story on text found on this machine: generate, audit, curate, train, value, simulate.

    out: folder for report.html, result.json and the records.
    data: a file of your own labelled text instead of the docstrings found here.
    text_field: name in that file of the field text; A+B joins two.
    label_field: name in that file of the field label.
    seed: of every random choice.
    budget: small, medium or large: how much is generated and how long is trained.
    fresh: run every step again, whatever is kept.
    """
    from karat.reporting.stage import report

    size, fields = _SIZES[budget], _fields(text_field, label_field)
    executor = executor or Local(workers=min(2, os.cpu_count() or 1))
    teller = _Teller(Run(journal or Path(".karat") / "demo", fresh=fresh), Path(out), progress, {}, executor)
    source, split = teller.timed("read", _human, data, fields, seed)
    generated = _generate(teller, split.train, size, seed)
    audits = _audit(teller, generated, split.holdout, seed)
    curated = teller.step(
        "curate",
        "karat.curation.stage",
        generated["attributed"].records,
        split.holdout,
        filters=("exact_duplicates", "length:low=0.01,high=0.99", "refusals"),
        order="human_likeness",
        seed=seed,
    )
    trained = {
        name: teller.step("train", "karat.training.stage", rows, split.test, seed=seed, drop_leaks=True)
        for name, rows in (("human", split.holdout), ("synthetic", curated.kept))
    }
    valued = teller.step(
        "value", "karat.valuation.stage", curated.kept, split.holdout, split.test, seed=seed, budget="small"
    )
    loop = teller.step(
        "simulate",
        "karat.simulation.stage",
        cycles=("full", "expanding"),
        temperature=LOOP_TEMPERATURE,
        iterations=size["iterations"],
        seeds=tuple(range(size["seeds"])),
        seed=seed,
        n=size["loop"],
    )
    told = Story(
        source=source,
        human=_counts(split),
        generated=generated,
        audits=audits,
        curated=curated,
        trained=trained,
        value=valued,
        loop=loop,
        seconds=teller.seconds,
        command=_command(out, data, fields, seed, budget),
        report=str(Path(out) / "report.html"),
    )
    _leave(told, split, Path(out))
    title = "What synthetic data is worth"
    teller.timed("report", report, told, out=told.report, title=title, subtitle=f"the karat demo on {source}")
    _write_json(told, Path(out))
    return told


@dataclass(frozen=True)
class _Teller:
    """Runs the steps of the story and keeps the time."""

    run: Run
    out: Path
    progress: Progress | None
    seconds: dict[str, float]
    executor: Any

    def timed(self, name: str, function: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
        started = time.perf_counter()
        found = function(*inputs, **settings)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 2)
        return found

    def step(self, name: str, module: str, *inputs: Any, **settings: Any) -> Any:
        import importlib
        import inspect

        stage = getattr(importlib.import_module(module), name)
        taken = inspect.signature(stage).parameters
        offered = {"progress": self.progress, "executor": self.executor}
        placed = {key: value for key, value in offered.items() if key in taken and value is not None}
        if "journal" in taken:
            placed["journal"] = self.run.work(name)
        return self.timed(name, self.run.step, stage, *inputs, **settings, **placed)


def _fields(text: str | None, label: str | None) -> dict[str, str]:
    return {name: given for name, given in (("text", text), ("label", label)) if given}


def _human(data: str | None, fields: dict[str, str], seed: int) -> tuple[str, datasets.Split]:
    """Return what the human text is, in words, and its three parts."""
    if data is None:
        human = datasets.docstrings(seed=seed)
        labels = len(set(human.labels() or []))
        source = f"{len(human):,} docstrings of {labels} packages installed on this machine"
    else:
        # a file without labels is refused here, with the field that is missing and the cure
        human = read(data, datatype="classification", fields=fields)
        human = _bounded(_distinct(human), seed).with_lineage(source="human")
        source = f"{len(human):,} records of {Path(data).name}"
    if len(human) < LEAST:
        raise NotEnoughData(f"{human.path}: {len(human):,} records, but the demo needs at least {LEAST}")
    # half for the generator; the other half to compare with, to train on, and to test on
    return source, datasets.split(human, shares=(0.5, 0.2, 0.3), seed=seed)


def _bounded(human: Records, seed: int) -> Records:
    """A random part of the records that the generator learns in about a minute.

    Bounded by size and not by time, so that the same command gives the same figures on any machine.
    """
    order = np.random.default_rng(seed).permutation(len(human))
    size = np.cumsum([len(text) for text in human.take(order).texts()])
    fits = max(LEAST, int(np.searchsorted(size, MOST_CHARACTERS)))
    return human.take(np.sort(order[:fits]))


def _counts(split: datasets.Split) -> dict[str, int]:
    return {"generator": len(split.train), "compare and train": len(split.holdout), "test": len(split.test)}


def _distinct(human: Records) -> Records:
    """Drop repeated texts: a copy in the test would make every model look good."""
    seen: set[str] = set()
    mask = []
    for text in human.texts():
        key = " ".join(text.casefold().split())
        mask.append(key not in seen and bool(key))
        seen.add(key)
    return human.where(mask)


def _generate(teller: _Teller, human: Records, size: dict[str, int], seed: int) -> dict[str, Generated]:
    from karat.generation.tasks import Task

    task = Task.from_records(human)
    return {
        recipe: teller.step(
            "generate",
            "karat.generation.stage",
            task,
            human,
            provider=f"embedded:epochs={size['epochs']},max_seconds=0",
            recipe=recipe,
            n=size["n"],
            seed=seed,
        )
        for recipe in ("simple", "attributed")
    }


def _audit(teller: _Teller, generated: dict[str, Generated], human: Records, seed: int) -> dict[str, Audited]:
    return {
        name: teller.step("audit", "karat.auditing.stage", found.records, human, seed=seed, budget="small")
        for name, found in generated.items()
    }


def _leave(told: Story, split: datasets.Split, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", split.train), ("holdout", split.holdout), ("test", split.test)):
        rows.write(out / f"human-{name}.jsonl")
    for name, found in told.generated.items():
        found.records.write(out / f"synthetic-{name}.jsonl")
    told.curated.kept.write(out / "curated.jsonl")
    told.curated.dropped.write(out / "dropped.jsonl")


def _write_json(told: Story, out: Path) -> None:
    import orjson

    temporary = out / ".result.json"
    found = {"karat": __version__, "command": "demo", **told.to_json()}
    temporary.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    os.replace(temporary, out / "result.json")


def _named(command: str, found: Any) -> dict[str, Any]:
    return {"karat": __version__, "command": command, **found.to_json()}


def _titled(found: Any, title: str, anchor: str, what: str | None = "") -> list[Section]:
    """The sections of a result under the title that the story gives them; the first one takes it.

    what: stands behind the headline, which at the top of the page has no title; None makes it a note.
    """
    sections = []
    for number, section in enumerate(found.__report__()):
        blocks = tuple(_placed(block, what) for block in section.blocks)
        named = title if number == 0 else section.title
        place = anchor if number == 0 else f"{anchor}-{section.id or number}"
        sections.append(Section(named, blocks, place))
    return sections


def _placed(block: Block, what: str | None) -> Block:
    if not isinstance(block, Headline) or what == "":
        return block
    if what is None:
        return Note(f"{block.value} {block.label}: {block.detail}")
    return dataclasses.replace(block, label=f"{block.label} ({what})")


def _command(out: str, data: str | None, fields: dict[str, str], seed: int, budget: str) -> str:
    chosen = f" --data {data}" if data else ""
    chosen += "".join(f" --{name}-field {given}" for name, given in fields.items())
    return f"karat demo --out {out}{chosen} --seed {seed} --budget {budget}"


__all__ = ["Story", "demo"]
