"""Chooses which example records fit on the page and prepares their text. Knows no stage and no HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from karat import blocks
from karat.reporting.charts import FIXED
from karat.reporting.text import cut, marked, one_line, visible

MOST_ROWS = 240  # of one block
MOST_REASONS = 30  # in a list to choose from; where each reason names a record, the search serves better
LONGEST_TEXT = 2_500  # characters of one record
PAGE_BYTES = 1_300_000  # of all example texts of a page


@dataclass(frozen=True)
class Card:
    """One record as the page shows it."""

    group: int
    group_name: str
    tone: int | None  # the colour of the trade's own words: human, synthetic, mixed
    label: str
    id: str
    reason: str
    tags: tuple[str, ...]
    html: Markup
    left_out: int  # characters


@dataclass(frozen=True)
class Group:
    """One side of a comparison: how many of its records are shown, of how many."""

    name: str
    place: int
    shown: int
    total: int


@dataclass(frozen=True)
class ExamplesView:
    """Example records as the page's template needs them."""

    title: str
    note: str
    groups: tuple[Group, ...]
    labels: tuple[str, ...]
    reasons: tuple[str, ...]
    cards: tuple[Card, ...]
    total: int


def view(block: blocks.Examples, allowance: int) -> ExamplesView:
    """Prepare example records, taking turns between the groups, with at most `allowance` bytes of text."""
    found = dict.fromkeys(row.group for row in block.rows)
    names = sorted(
        found, key=lambda name: FIXED.get(name, len(FIXED))
    )  # human on the left, wherever it comes
    sides = {name: [row for row in block.rows if row.group == name] for name in names}
    cards: list[Card] = []
    spent = 0
    for row in _in_turns(list(sides.values()), MOST_ROWS):
        card = _card(row, names.index(row.group))
        spent += len(card.html.encode("utf-8")) + 200
        if spent > allowance and cards:
            break
        cards.append(card)
    groups = tuple(
        Group(
            one_line(name, 40) or "records",
            place,
            sum(card.group == place for card in cards),
            len(sides[name]),
        )
        for place, name in enumerate(names)
    )
    reasons = tuple(sorted({card.reason for card in cards if card.reason}))
    return ExamplesView(
        block.title,
        block.note,
        groups,
        tuple(sorted({card.label for card in cards if card.label})),
        reasons if len(reasons) <= MOST_REASONS else (),
        tuple(cards),
        len(block.rows),
    )


def _in_turns(sides: Sequence[Sequence[blocks.Example]], limit: int) -> list[blocks.Example]:
    longest = max((len(side) for side in sides), default=0)
    mixed = (side[place] for place in range(longest) for side in sides if place < len(side))
    return [row for row, _ in zip(mixed, range(limit))]


def _card(row: blocks.Example, place: int) -> Card:
    kept, left_out = cut(row.text, LONGEST_TEXT)
    return Card(
        place,
        one_line(row.group, 40) or "records",
        FIXED.get(row.group),
        one_line(row.label, 60),
        one_line(row.id, 60),
        visible(cut(row.reason, 300)[0]),
        tuple(one_line(tag, 40) for tag in row.tags[:8]),
        marked(kept),
        left_out,
    )
