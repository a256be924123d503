"""Had the generator seen the human data? As far as the records tell. Knows no worth.

The lineage of a synthetic record names the sets that its generator was trained on or shown (`generator_saw`,
fingerprints) and the records that it was made from (`parents`, ids). A fingerprint is that of one set: a part
of it, or a set that holds it, has another one. So ids and copied texts are looked at too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from karat.curation.base import normalised
from karat.records import Records
from karat.training.base import inputs
from karat.training.written import words

Verdict = Literal["yes", "part", "no", "unknown"]

TELLING_WORDS = 8
"""A text of so many words is rarely written twice by chance; without spaces each character is a word."""
BY_CHANCE = 0.01
"""Share of the human texts up to which copies may be chance: people too write one question twice."""


@dataclass(frozen=True)
class Seen:
    """What is known: `share` of the human records were certainly seen; None where all were."""

    verdict: Verdict
    share: float
    why: str


def seen(synthetic: Records, human: Sequence[Records]) -> Seen:
    """Return whether the generator had seen the human data; `human` holds the set, and the set as given.

    yes: a record names the fingerprint of the set, or of the set that it was cut from.
    part: no record does, but some human records are named as parents or stand word by word among the
    synthetic ones (texts of at least eight words).
    no: every record says what was seen, and it is none of this. unknown: some record says nothing.
    """
    said = synthetic.lineage("generator_saw")
    known = {side.fingerprint for side in human}
    for side in human:
        for entry in side.lineage("parents"):
            known.update(entry or ())  # the fingerprint of the set that this one was cut from, if recorded
    if any(known.intersection(entry or ()) for entry in said):
        return Seen("yes", 1.0, "the lineage names this human set as one that the generator saw")
    own = human[-1]
    made_from = {parent for entry in synthetic.lineage("parents") for parent in entry or ()}
    copies = {text for text in map(normalised, inputs(synthetic)) if len(words(text)) >= TELLING_WORDS}
    by_id = [identity in made_from for identity in own.ids]
    by_text = [normalised(text) in copies for text in inputs(own)]
    if sum(by_text) < BY_CHANCE * len(own):
        by_text = [False] * len(own)
    share = sum(one or other for one, other in zip(by_id, by_text)) / max(len(own), 1)
    if share:
        ways = [f"{sum(by_id):,} are parents of synthetic ones"] if any(by_id) else []
        ways += [f"{sum(by_text):,} stand there word by word"] if any(by_text) else []
        return Seen("yes" if share >= 0.5 else "part", share, f"of the human records {' and '.join(ways)}")
    if any(entry is None for entry in said):
        return Seen("unknown", 0.0, "some synthetic records do not say what their generator saw")
    others = sorted({name for entry in said for name in entry})
    if not others:
        return Seen("no", 0.0, "the lineage says that the generator saw no human data")
    names = ", ".join(others[:3])
    return Seen("no", 0.0, f"the generator saw {names}, which is not this set; it must not hold parts of it")


def saw_human(synthetic: Records, human: Sequence[Records]) -> str:
    """Return yes, part, no or unknown."""
    return seen(synthetic, human).verdict
