"""What a model is asked about a task: its attributes, their values, neighbour classes, ambiguous values.

Prompts and how their answers are read; the calls are made by whoever is given as `ask`. After AttrPrompt
(Yu et al. 2023, arXiv 2306.15895), without its bound on how many values may be filtered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from karat.generation.asking import question
from karat.generation.base import AskAll
from karat.generation.parsing import clean, read_json
from karat.generation.tasks import Task

_BULLET = re.compile(r"^\s*(?:[-*•·–]|\(?\d{1,3}[.):]|[a-zA-Z][.)])\s+")
_LONGEST = 120  # characters of a value; what is longer is no value, but a remark
_SAME = 92  # rapidfuzz ratio from which two values are the same thing
_ROUNDS = 4  # how often a list is topped up


@dataclass(frozen=True)
class Dimension:
    """An attribute that a model proposed: what it is, and in how many of the draws it came."""

    name: str
    description: str
    class_dependent: bool
    complete: bool
    votes: int


@dataclass(frozen=True)
class Filtered:
    """One value that was taken out: of which attribute and class, and why."""

    attribute: str
    label: str
    value: str
    reason: str


def listed(text: str) -> list[str]:
    """The entries of a list that a model wrote: JSON, bullets, numbers, or one a line."""
    found = read_json(text)
    if isinstance(found, dict):
        found = next((value for value in found.values() if isinstance(value, list)), None)
    if isinstance(found, list) and found:
        entries = [
            one
            if isinstance(one, str)
            else str(next(iter(one.values()), ""))
            if isinstance(one, dict)
            else str(one)
            for one in found
        ]
    else:
        lines = [line for line in text.splitlines() if line.strip()]
        bulleted = [line for line in lines if _BULLET.match(line)]
        entries = bulleted or lines
        if len(lines) == 1 and not bulleted:
            entries = re.split(r"[,;،、，；]", lines[0])
    plain = (clean(_BULLET.sub("", entry)).strip("*_` \t.;,") for entry in entries)
    return [entry for entry in plain if entry and len(entry) <= _LONGEST and not entry.endswith(":")]


def distinct(values: Sequence[str], known: Sequence[str] = ()) -> list[str]:
    """The values without those that say the same as an earlier or a known one, but for case and spelling."""
    kept: list[str] = []
    folded = [_folded(value) for value in known]
    for value in values:
        own = _folded(value)
        # "30 to 40 words" and "30 to 45 words" are spelt alike and are not the same.
        if all(own[1] != other[1] or fuzz.ratio(own[0], other[0]) < _SAME for other in folded):
            kept.append(value)
            folded.append(own)
    return kept


def _folded(value: str) -> tuple[str, list[str]]:
    return value.casefold(), re.findall(r"\d+", value)


def discover(task: Task, ask: AskAll, *, count: int, draws: int, seed: int) -> list[Dimension]:
    """Attribute dimensions of a task, those first that came in most draws (F2 of the method)."""
    of = f"\nIts classes are: {', '.join(task.label_names)}." if task.labels else ""
    text = (
        f"We collect texts of this kind: {task.domain}.{of}\nWhich dimensions make such texts differ from "
        f"each other, beside their class? Name the {count} that matter most for diverse and realistic data, "
        "such as length, style or subtopic. Answer with a JSON list of objects with the fields name (one or "
        "two words), description (one sentence), class_dependent (true where the possible values hang on the "
        "class) and complete (true where a short list can hold all possible values), and nothing else."
    )
    requests = [question(f"dimensions/{i}", text, seed=seed, replicate=i) for i in range(draws)]
    answers = ask(requests)
    found: dict[str, list[Dimension]] = {}
    for request in requests:
        answer = answers.get(request.id)
        own: set[str] = set()
        for one in () if answer is None else _proposed(answer.text):
            dimension = _dimension(one)
            if dimension is None:
                continue
            name = next((n for n in found if fuzz.ratio(n, dimension.name) >= _SAME), dimension.name)
            if name not in own:
                own.add(name)
                found.setdefault(name, []).append(dimension)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return [_agreed(name, votes) for name, votes in ordered[:count]]


def _proposed(text: str) -> Sequence[object]:
    """The dimensions of an answer: a JSON list, one inside of an object, or a list `name: description`."""
    read = read_json(text)
    if isinstance(read, dict):
        read = next((value for value in read.values() if isinstance(value, list)), None)
    if isinstance(read, list):
        return read
    entries = [_BULLET.sub("", line) for line in text.splitlines() if _BULLET.match(line)]
    halves = [re.split(r"\s*[:：–—]\s*", entry, maxsplit=1) for entry in entries]
    names = [clean(half[0]).strip("*_` \t.;,:：") for half in halves]
    told = [half[1].strip("*_ ") if len(half) > 1 else "" for half in halves]
    return [{"name": name, "description": description} for name, description in zip(names, told)]


def _dimension(one: object) -> Dimension | None:
    if isinstance(one, str):
        one = {"name": one}
    if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
        return None
    name = re.sub(r"\W+", "_", one["name"].strip().casefold()).strip("_")
    if not name or len(name) > 40 or name in ("label", "class"):
        return None
    told = " ".join(str(one.get("description") or "").split())
    return Dimension(name, told, _true(one.get("class_dependent")), _true(one.get("complete")), 1)


def _true(value: object) -> bool:
    return value is True or str(value).strip().casefold() in ("true", "yes", "1")


def _agreed(name: str, votes: Sequence[Dimension]) -> Dimension:
    half = len(votes) / 2
    return Dimension(
        name,
        next((one.description for one in votes if one.description), ""),
        sum(one.class_dependent for one in votes) > half,
        sum(one.complete for one in votes) > half,
        len(votes),
    )


def ask_neighbours(task: Task, ask: AskAll, *, count: int, seed: int) -> dict[str, list[str]]:
    """For each class those that a model takes for the nearest; names that are no class are left out (F3)."""
    names = task.label_names
    told = "\n".join(f"- {x.name}" + (f": {x.definition}" if x.definition else "") for x in task.labels)
    requests = [
        question(
            f"neighbours/{name}",
            f"Texts of the kind {task.domain} are sorted into these classes:\n{told}\n\nWhich {count} of "
            f'these classes are most easily confused with "{name}"? Answer with their names only, one a '
            f'line, copied exactly, without "{name}" itself.',
            seed=seed,
            temperature=0.0,
        )
        for name in names
    ]
    answers = ask(requests)
    found: dict[str, list[str]] = {}
    for name, request in zip(names, requests, strict=True):
        answer = answers.get(request.id)
        known = {other.casefold(): other for other in names if other != name}
        said = (
            [] if answer is None else [known.get(one.casefold().strip("\"'")) for one in listed(answer.text)]
        )
        found[name] = list(dict.fromkeys(one for one in said if one))[:count]
    return found


def ask_values(
    task: Task,
    ask: AskAll,
    wanted: Sequence[tuple[str, str, str | None, Sequence[str]]],
    *,
    count: int,
    seed: int,
) -> dict[tuple[str, str | None], list[str]]:
    """Value lists of (attribute, description, class or None, values there are), topped up to `count` (F4)."""
    found = {(name, label): list(have) for name, _, label, have in wanted}
    described = {(name, label): told for name, told, label, _ in wanted}
    for turn in range(_ROUNDS):
        short = [key for key, values in found.items() if len(values) < count]
        requests = {
            key: question(
                "/".join(["values", key[0], *([key[1]] if key[1] else []), str(turn)]),
                _values_prompt(task, key[0], described[key], key[1], count - len(found[key]), found[key]),
                seed=seed,
                replicate=turn,
            )
            for key in short
        }
        answers = ask(list(requests.values()))
        grown = False
        for key, request in requests.items():
            answer = answers.get(request.id)
            new = [] if answer is None else distinct(listed(answer.text), found[key])
            grown = grown or bool(new)
            found[key] = (found[key] + new)[:count]
        if not grown:
            break
    return found


def _values_prompt(
    task: Task, name: str, told: str, label: str | None, count: int, have: Sequence[str]
) -> str:
    plain = name.replace("_", " ")
    lines = [f"We collect texts of this kind: {task.domain}."]
    if label:
        definition = task.definition(label)
        lines.append(f'Their class is "{label}"' + (f": {definition.rstrip('.')}." if definition else "."))
    lines.append(
        f"List {count} different values of the attribute {plain!r}"
        + (f" ({told.rstrip('.')})." if told else ".")
    )
    near = task.neighbours.get(label or "", ())
    if near:
        lines.append(f"None of them may suit these other classes: {', '.join(near)}.")
    if have:
        lines.append(f"These are known already, do not repeat them: {'; '.join(have)}.")
    if task.language:
        lines.append(f"Write in {task.language}.")
    lines.append("Each is a short phrase. Answer with the list only, one a line.")
    return "\n".join(lines)


def ask_ambiguous(
    task: Task, ask: AskAll, values: Mapping[tuple[str, str], Sequence[str]], *, seed: int
) -> list[Filtered]:
    """Values of (attribute, class) that suit a neighbour class too, each with the reason (F5).

    One question a value; an answer that cannot be read takes nothing out. There is no bound on how many go.
    """
    jobs = [
        (attribute, label, value)
        for (attribute, label), found in values.items()
        for value in found
        if task.neighbours.get(label)
    ]
    requests = [
        question(
            f"ambiguous/{attribute}/{label}/{i}",
            _ambiguous_prompt(task, attribute, label, value),
            seed=seed,
            temperature=0.0,
            max_tokens=128,
        )
        for i, (attribute, label, value) in enumerate(jobs)
    ]
    answers = ask(requests)
    found: list[Filtered] = []
    for (attribute, label, value), request in zip(jobs, requests, strict=True):
        answer = answers.get(request.id)
        near = [] if answer is None else read_neighbours(answer.text, task.neighbours[label])
        if near:
            found.append(Filtered(attribute, label, value, f"suits {', '.join(near)} as well"))
    return found


def _ambiguous_prompt(task: Task, attribute: str, label: str, value: str) -> str:
    numbered = "\n".join(f"{i}. {name}" for i, name in enumerate(task.neighbours[label], 1))
    return (
        f'In texts of the kind {task.domain}, "{value}" is meant as a {attribute.replace("_", " ")} of the '
        f'class "{label}". Is it just as typical of one of these other classes?\n{numbered}\n'
        "Answer with the numbers of those classes, or with: none."
    )


def read_neighbours(text: str, near: Sequence[str]) -> list[str]:
    """The classes that an answer names, by number or by name; none where it says none or cannot be read."""
    folded = text.casefold()
    if re.match(r"\W*(none|no\b|0\b|neither)", folded):
        return []
    numbers = {int(one) for one in re.findall(r"\b\d{1,3}\b", folded)}
    by_number = [name for i, name in enumerate(near, 1) if i in numbers]
    return by_number or [name for name in near if re.search(rf"\b{re.escape(name.casefold())}\b", folded)]


def agreement(one: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> float | None:
    """Share of neighbours that both lists name, over the classes that both have lists for."""
    both = [label for label in one if one[label] and other.get(label)]
    if not both:
        return None
    shared = sum(len(set(one[x]) & set(other[x])) / min(len(one[x]), len(other[x])) for x in both)
    return shared / len(both)


def merged_neighbours(lists: Sequence[Mapping[str, Sequence[str]]], count: int) -> dict[str, tuple[str, ...]]:
    """The neighbours of each class that most lists name, and first; `count` at most."""
    found: dict[str, tuple[str, ...]] = {}
    for label in dict.fromkeys(label for one in lists for label in one):
        rank: Counter[str] = Counter()
        for one in lists:
            for place, name in enumerate(one.get(label, ())):
                rank[name] += 1000 - place
        found[label] = tuple(name for name, _ in rank.most_common(count))
    return {label: names for label, names in found.items() if names}
