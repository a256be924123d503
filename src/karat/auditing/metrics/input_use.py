"""Whether completions use the input that their instruction gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing.base import Facts, Masks, Metric, Need, Summary, Telling, Values, View, everything
from karat.auditing.columns import Columns
from karat.auditing.instructions import INSTRUCTIONS, opened
from karat.auditing.ratios import ratio, told
from karat.texts.overlap import Floats, longest_run, recalled, words

_RUNS = 1000  # records whose longest common run is looked at, the first by hash
_THINGS = (
    r"(?:sentences?|texts?|paragraphs?|passages?|articles?|words?|numbers?|lists?|emails?|reviews?|questions?"
    r"|code|functions?|statements?|poems?|stor(?:y|ies)|data|tables?|documents?|tweets?|dialogues?"
    r"|conversations?|equations?|phrases?|inputs?|topics?|titles?|descriptions?|examples?|items?)"
)
_REFERS = re.compile(
    rf"\b(?:following|given|provided|below) (?:\w+ ){{0,2}}{_THINGS}\b"
    rf"|\b{_THINGS} (?:given |provided )?below\b|\bthis {_THINGS}\b"
    rf"|^given (?:an?|the|two|some) (?:\w+ ){{0,2}}{_THINGS}\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class InputUse(Metric):
    """The share of the content words of the input that the completion takes up, where there is an input.

    Beside it: completions that take up nothing, the longest run of words that both share, and instructions
    that speak of an input ("the following text") that is not there. Chance: the completion of another record.
    """

    family: ClassVar[str] = "instruction"
    datatypes: ClassVar[tuple[str, ...]] = ("instruction",)
    misleads: ClassVar[str] = (
        "Whoever classifies or computes need not repeat the input, and whoever copies it repeats all of it: "
        "compare sources of like tasks. Synonyms are not seen."
    )
    cost: ClassVar[str] = "O(tokens)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Completions that copy their input teach copying: filter by the longest run.",
        "lower": "Drop records whose completion ignores the input, and instructions that lack theirs.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "inputs taken up more"
    source: ClassVar[str] = (
        "Lin 2004, ROUGE-1 recall (of content words); Das et al. 2024, section 7.1 (inputs)"
    )

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if not candidate.fields & {"input", "context"}:
            return "needs a field input (or context)"
        return ""

    def needs(self) -> tuple[Need, ...]:
        return (INSTRUCTIONS,)

    def values(self, summary: Summary, masks: Masks) -> Values:
        columns: Columns = summary[INSTRUCTIONS]
        used = _used(columns)
        known = np.isfinite(used)
        return ratio(masks, columns.groups, np.where(known, used, 0.0), known.astype(np.float64))

    def chance(self, summary: Summary) -> float | None:
        """What completions share with the input of another record: each gets that of the one before it."""
        rows = opened(summary[INSTRUCTIONS])
        order = [int(i) for i in np.argsort(rows.keys, kind="stable") if rows.inputs[i]]
        if len(order) < 2:
            return None
        shared = [recalled(rows.inputs[i], rows.completions[j]) for i, j in zip(order, order[1:] + order[:1])]
        known = [one for one in shared if np.isfinite(one)]
        return float(np.mean(known)) if known else None

    def used(self, summary: Summary) -> int:
        return int(np.isfinite(_used(summary[INSTRUCTIONS])).sum())

    def details(self, summary: Summary) -> dict[str, float]:
        columns: Columns = summary[INSTRUCTIONS]
        rows, used = opened(columns), _used(columns)
        known = np.flatnonzero(np.isfinite(used))
        first = known[np.argsort(columns.keys[known], kind="stable")[:_RUNS]]
        runs = [longest_run(words(rows.inputs[i]), words(rows.completions[i])) for i in first]
        missing = [lacks_input(asked, given) for asked, given in zip(rows.instructions, rows.inputs)]
        return {
            "with_input": float(np.mean([bool(one) for one in rows.inputs])) if len(rows) else float("nan"),
            "nothing_used": float((used[known] == 0).mean()) if len(known) else float("nan"),
            "longest_run": float(np.mean(runs)) if runs else float("nan"),
            "input_missing": float(np.mean(missing)) if missing else float("nan"),
        }

    def note(self, summary: Summary) -> str:
        found = self.details(summary)
        return (
            f"{found['with_input']:.0%} of the records have an input; {found['nothing_used']:.0%} of their "
            f"completions take up nothing of it; {found['input_missing']:.1%} of the instructions speak of "
            "one that is not there"
        )

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        columns: Columns = summary[INSTRUCTIONS]
        rows, used = opened(columns), _used(columns)
        gone = np.array([lacks_input(a, g) for a, g in zip(rows.instructions, rows.inputs)], np.bool_)
        mean = float(self.values(summary, everything(summary.groups))[0])
        unused = np.where(np.isfinite(used) & (used == 0), mean, 0.0)

        def reason(i: int) -> str:
            if gone[i]:
                return "speaks of an input that is not there"
            return f"takes up none of the {len(set(words(rows.inputs[i])))} words of its input"

        return told(columns.keys, np.where(gone, 1.0, np.nan_to_num(unused)), reason, limit)


def lacks_input(instruction: str, given: str) -> bool:
    """Whether an instruction speaks of an input that stands neither in its field nor in itself."""
    if given or not (match := _REFERS.search(instruction)):
        return False
    rest = instruction[match.end() :]
    # what follows a colon, a new line or a quotation mark is the input
    return not re.search(r"[:\n]\s*\S|[\"“'‘`]\S", rest) and not re.search(r"[\"“`]\S", instruction)


def _used(columns: Columns) -> Floats:
    """float64 [n]: the share of the input's content words that each completion has; nan without an input."""
    if "input_use" not in columns.memo:
        rows = opened(columns)
        shares = [recalled(given, said) for given, said in zip(rows.inputs, rows.completions)]
        columns.memo["input_use"] = np.array(shares, np.float64)
    found: Floats = columns.memo["input_use"]
    return found
