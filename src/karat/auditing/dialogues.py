"""Dialogues as turns: who speaks, what is said, in which dialogue. Knows no metric.

The messages of all records lie one after the other, so that what holds for turns is found by array and what
holds for dialogues by summing over a range. A system prompt is no turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing.base import Masks, Need, Telling, Values, need
from karat.auditing.columns import Columns
from karat.auditing.ratios import ratio, told

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

DIALOGUES: Need = need(
    "columns", fields="messages task outcome termination_reason digression digression_type human_like"
)
"""What all metrics of dialogues read: one need, so that it is collected once."""
_PROMPTS = {"system", "developer"}
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Talk:
    """The turns of n dialogues: T in all. Turns of dialogue i are start[i] .. start[i + 1] - 1.

    dialogue int64 [T], place int64 [T] (from 0), role int64 [T] (number in `roles`), texts [T]
    groups int64 [n], keys uint64 [n]
    """

    start: Ints
    dialogue: Ints
    place: Ints
    role: Ints
    roles: tuple[str, ...]
    said: pa.Array
    groups: Ints
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What metrics worked out of the turns, by name and settings."""
        return {}

    @cached_property
    def texts(self) -> list[str]:
        """What is said in each turn."""
        return ["" if text is None else str(text) for text in self.said.to_pylist()]

    @cached_property
    def lengths(self) -> Ints:
        """int64 [n]: the number of turns of each dialogue."""
        return np.diff(self.start)

    @cached_property
    def words(self) -> Ints:
        """int64 [T]: the words of each turn."""
        return np.array([len(_WORD.findall(text)) for text in self.texts], np.int64)

    def sums(self, amounts: NDArray[Any]) -> Floats:
        """float64 [n]: an amount a turn [T], added up for each dialogue."""
        return np.bincount(self.dialogue, weights=amounts, minlength=len(self)).astype(np.float64)

    def first(self, flags: Flags) -> Ints:
        """int64 [n]: the place of the first flagged turn of each dialogue; -1 where there is none."""
        found = np.full(len(self), -1, np.int64)
        turns = np.flatnonzero(flags)[::-1]  # the first one is written last
        found[self.dialogue[turns]] = self.place[turns]
        return found

    def is_role(self, names: Sequence[str]) -> Flags:
        """bool [T]: turns whose role is one of these names."""
        wanted = {name.casefold() for name in names}
        known = np.array([name.casefold() in wanted for name in self.roles] + [False], np.bool_)
        return np.asarray(known[self.role])

    def turns_of(self, dialogue: int) -> range:
        """The numbers of the turns of one dialogue."""
        return range(int(self.start[dialogue]), int(self.start[dialogue + 1]))

    def shown(self, dialogue: int, task: Any = None) -> str:
        """One dialogue as it is read: a line `role: text` a turn, the task above it."""
        lines = [f"{self.roles[self.role[turn]]}: {self.texts[turn]}" for turn in self.turns_of(dialogue)]
        head = [f"Task: {task}", ""] if task else []
        return "\n".join(head + lines)


def opened(columns: Columns) -> Talk:
    """The turns of all records of a view; worked out once."""
    if "talk" not in columns.memo:
        columns.memo["talk"] = _opened(columns)
    talk: Talk = columns.memo["talk"]
    return talk


def _opened(columns: Columns) -> Talk:
    lists = columns.table.column("messages").combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.chunk(0) if lists.num_chunks else pa.array([], pa.list_(pa.null()))
    n = len(lists)
    if pa.types.is_null(lists.type) or not pa.types.is_struct(lists.type.value_type):
        blank = np.zeros(0, np.int64)  # no record has a message
        zeros = np.zeros(n + 1, np.int64)
        return Talk(zeros, blank, blank, blank, (), pa.array([], pa.string()), columns.groups, columns.keys)
    size = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = lists.flatten()
    coded = flat.field("role").fill_null("").dictionary_encode()
    roles = tuple(map(str, coded.dictionary.to_pylist()))
    role = np.asarray(coded.indices).astype(np.int64)
    dialogue = np.repeat(np.arange(n), size)
    place = np.arange(len(role)) - np.repeat(np.cumsum(size) - size, size)
    kept = ~_prompts(role, roles, dialogue, place, n)
    dialogue, role = dialogue[kept], role[kept]
    size = np.bincount(dialogue, minlength=n)
    start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    return Talk(
        start,
        dialogue,
        np.arange(len(role)) - start[dialogue],
        role,
        roles,
        flat.field("content").filter(pa.array(kept)),
        columns.groups,
        columns.keys,
    )


def _prompts(role: Ints, roles: tuple[str, ...], dialogue: Ints, place: Ints, n: int) -> Flags:
    """bool [T]: a first message by `system` that says no more later; else `system` is who talks to a user."""
    system = np.array([name.casefold() in _PROMPTS for name in roles] + [False], np.bool_)[role]
    often = np.bincount(dialogue[system], minlength=n)
    return np.asarray(system & (place == 0) & (often[dialogue] == 1))


# --------------------------------------------------------------------------------- role markers


@dataclass(frozen=True)
class Markers:
    """What each of two roles must say: the marker of user and assistant, and the word that ends a task."""

    user: str
    assistant: str
    done: str
    users: tuple[str, ...]
    assistants: tuple[str, ...]

    def check(self) -> None:
        """Raise ValueError where a marker or a role is empty."""
        for name, value in (("user_marker", self.user), ("assistant_marker", self.assistant)):
            if not value:
                raise ValueError(f"{name} is empty, but must be what turns of that role contain")
        if not (self.users and self.assistants):
            raise ValueError("users and assistants must each name a role")

    @property
    def absent(self) -> str:
        """What to tell where no turn holds a marker."""
        return (
            f"no turn of {'/'.join(self.users)} or {'/'.join(self.assistants)} holds {self.user!r} or "
            f"{self.assistant!r}; name what your roles write: user_marker=...,assistant_marker=..."
        )


@dataclass(frozen=True)
class Marked:
    """bool [T] each: turns with the other role's marker, turns without their own, turns of either role."""

    flipped: Flags
    interrupted: Flags
    counted: Flags
    present: bool
    """Whether any turn holds a marker at all; without one nothing can be said."""


def marked(talk: Talk, markers: Markers) -> Marked:
    """Flag role flips and interruptions by markers; worked out once.

    A turn with the other role's marker is flipped; else one with neither its own marker nor the mark that the
    task is done is an interruption. Source: Das et al. 2024, section 8.1, on CAMEL's conversations.
    """
    if markers not in talk.memo:
        user, assistant = talk.is_role(markers.users), talk.is_role(markers.assistants)
        asks = np.array([markers.user in text for text in talk.texts], np.bool_)
        solves = np.array([markers.assistant in text for text in talk.texts], np.bool_)
        done = np.array([bool(markers.done) and markers.done in text for text in talk.texts], np.bool_)
        flipped = (user & solves) | (assistant & asks)
        own = (user & asks) | (assistant & solves)
        counted = user | assistant
        present = bool(((asks | solves) & counted).any())
        talk.memo[markers] = Marked(flipped, counted & ~flipped & ~own & ~done, counted, present)
    found: Marked = talk.memo[markers]
    return found


def flag_values(talk: Talk, masks: Masks, flags: Flags, counted: Flags, per: str) -> Values:
    """float64 [K]: the share of dialogues with a flagged turn, or of counted turns that are flagged."""
    hits = talk.sums(flags)
    if per == "turn":
        return ratio(masks, talk.groups, hits, talk.sums(counted))
    return ratio(masks, talk.groups, (hits > 0).astype(np.float64), np.ones(len(talk)))


def flag_details(talk: Talk, flags: Flags, counted: Flags) -> dict[str, float]:
    """Figures about flagged turns: dialogues with any, turns, and where the first one stands."""
    first = talk.first(flags)
    first = first[first >= 0]
    return {
        "dialogues": float(len(first)),
        "turns": float(flags.sum()),
        "turn_share": float(flags.sum() / max(1, counted.sum())),
        "median_first_turn": float(np.median(first) + 1) if len(first) else float("nan"),
    }


def flag_telling(talk: Talk, flags: Flags, what: str, limit: int) -> tuple[Telling, ...]:
    """The dialogues with most flagged turns; the reason says who did `what` at which turns."""

    def reason(i: int) -> str:
        turns = [turn for turn in talk.turns_of(i) if flags[turn]]
        places = ", ".join(str(int(talk.place[turn]) + 1) for turn in turns[:8])
        return f"{talk.roles[talk.role[turns[0]]]} {what} at turn {places}"

    return told(talk.keys, talk.sums(flags), reason, limit)
