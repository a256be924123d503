"""Two responses to a prompt and which of them was preferred; rankings are taken apart. Knows no file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from os.path import commonprefix
from typing import Any, ClassVar

from karat.errors import InputError

CHOICES = ("a", "b", "tie", "invalid")
"""What a rater can say of a pair."""
_SYNONYMS: dict[str, str] = {
    **dict.fromkeys(["a", "1", "first", "left", "response_a", "model_a", "assistant_a", "output_a"], "a"),
    **dict.fromkeys(["b", "2", "second", "right", "response_b", "model_b", "assistant_b", "output_b"], "b"),
    **dict.fromkeys(["tie", "0", "equal", "same", "draw", "both", "neither", "no preference"], "tie"),
    **dict.fromkeys(["tie (bothbad)", "tie (both bad)", "tie (inconsistent)"], "tie"),
    **dict.fromkeys(
        ["invalid", "none", "null", "nan", "error", "garbage", "unparsable", "refused", ""], "invalid"
    ),
}
_KINDS = {
    **dict.fromkeys(["human", "person", "people", "annotator", "crowd", "expert"], "human"),
    **dict.fromkeys(["model", "llm", "ai", "judge", "machine", "synthetic"], "model"),
}
_SIDES = ("shown_first", "pushed")
_RANKED = ("rankings", "points")
_RATED = {"choices": None, "human_choices": "human", "model_choices": "model"}
# Where an assistant's turn begins in the transcripts that the field exchanges.
_TURN = re.compile(
    r"\n\nAssistant:|<\|assistant\|>\n?|<\|im_start\|>assistant\n|### Response:\n?|\[/INST\]|"
    r"<\|start_header_id\|>assistant<\|end_header_id\|>\n\n|<start_of_turn>model\n"
)


@dataclass(frozen=True)
class Preference:
    """A prompt with a chosen and a rejected response, or with two responses and a rater's choice.

    Choices are a, b, tie or invalid; 1, 2 and 0, A and B, model_a, first, left and the names of the models
    are read as well. Without a prompt, what `chosen` and `rejected` begin with is the prompt. Rows may also
    be wide: `choices` of several raters (an object rater -> choice, or a list), or `human_choices` and
    `model_choices`; or a ranking of several `responses` (a list, or an object model -> text) by `rankings`
    (1 is best) or `points`.
    """

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("prompt", "chosen", "rejected"),
        ("prompt", "response_a", "response_b", "choice", "rater"),
    )
    optional: ClassVar[tuple[str, ...]] = (
        "shown_first",
        "model_a",
        "model_b",
        "place_a",
        "place_b",
        "rater_kind",
        "rater_model",
        "reference",
        "condition",
        "pushed",
        "consistent",
    )
    label: ClassVar[str | None] = "choice"
    wide: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("chosen", "rejected"),
        ("response_a", "response_b", "choice"),
        *(("response_a", "response_b", name) for name in _RATED),
        *(("responses", name) for name in _RANKED),
    )
    unit: ClassVar[str | None] = "prompt"

    def explode(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records of one row of a file: itself, one a rater, or one a pair of a ranking."""
        if row.get("responses") is not None and any(row.get(name) is not None for name in _RANKED):
            return _numbered(row, list(_of_ranking(row)))
        if any(row.get(name) is not None for name in _RATED) and row.get("choice") is None:
            return list(_of_raters(row))
        return [row]

    def normalise(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with its prompt found, messages as text and choices as a, b, tie or invalid."""
        row = {name: _without_messages(name, value) for name, value in row.items()}
        if row.get("chosen") is not None and row.get("rejected") is not None:
            if row.get("prompt") is None:
                row["prompt"], row["chosen"], row["rejected"] = _split(row["chosen"], row["rejected"])
            return {**row, **{name: _said(row[name]) for name in ("prompt", "chosen", "rejected")}}
        for name in ("prompt", "response_a", "response_b", "reference"):
            if isinstance(row.get(name), list):
                row[name] = _said(row[name])
        if row.get("response_a") is None or row.get("response_b") is None:
            return row
        if "choice" in row:
            row["choice"], agreed = _choice(row["choice"], row)
            row = row if agreed else {**row, "consistent": False}
            row.setdefault("rater", None)
            row["rater"] = row["rater"] if row["rater"] is not None else row.get("rater_model") or "rater"
            row["prompt"] = "" if row.get("prompt") is None else row["prompt"]
        for name in _SIDES:
            if row.get(name) is not None:
                row[name] = _side(name, row[name], row)
        if row.get("rater_kind") is not None:
            row["rater_kind"] = _kind(row["rater_kind"])
        return row

    def text(self, row: Mapping[str, Any]) -> str:
        """Return both responses, one after the other."""
        pair = ("chosen", "rejected") if row.get("chosen") is not None else ("response_a", "response_b")
        return "\n".join(str(row[name]) for name in pair)


def pairs_from_rankings(
    responses: Mapping[str, Any] | Sequence[Any],
    ranks: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    points: Mapping[str, Any] | Sequence[Any] | None = None,
) -> list[dict[str, Any]]:
    """Return all pairs of ranked responses: response_a, response_b, choice, and the places in the list.

    responses: texts, or an object name -> text; the order given is kept as the places, from 0
    ranks: the rank of each response, 1 is best; equal ranks are a tie, None is left out
    points: instead of ranks, points of each response, the most are best
    With names, model_a and model_b say whose responses they are. Raises InputError.
    """
    names = list(responses) if isinstance(responses, Mapping) else None
    texts = list(responses.values()) if isinstance(responses, Mapping) else list(responses)
    given = ranks if ranks is not None else points
    if given is None or (ranks is not None and points is not None):
        raise InputError("a ranking needs either ranks or points of the responses")
    scores = _aligned(given, names, len(texts))
    if ranks is not None:
        scores = [None if rank is None else -rank for rank in scores]
    found = []
    for i, j in combinations(range(len(texts)), 2):
        one, other = scores[i], scores[j]
        if one is None or other is None:
            continue
        choice = "a" if one > other else "b" if one < other else "tie"
        pair = {"response_a": texts[i], "response_b": texts[j], "choice": choice, "place_a": i, "place_b": j}
        found.append(pair if names is None else {**pair, "model_a": names[i], "model_b": names[j]})
    return found


# ------------------------------------------------------------------------------------------ wide rows


def _numbered(row: Mapping[str, Any], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pairs of one ranking, each with a number behind the id of the row."""
    if row.get("id") is None:
        return found
    return [{**one, "id": f"{row['id']}/{i}"} for i, one in enumerate(found, 1)]


def _of_raters(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One record for each rater of a pair; null says that nobody was asked."""
    rest = {name: value for name, value in row.items() if name not in _RATED and name != "choice"}
    for name, kind in _RATED.items():
        given = _opened(row.get(name))
        if given is None:
            continue
        if not isinstance(given, dict | list):
            raise InputError(f"field {name!r} is {given!r}, but must be an object rater -> choice or a list")
        word = "person" if kind == "human" else "rater"
        named = given if isinstance(given, dict) else {f"{word} {i}": one for i, one in enumerate(given, 1)}
        for rater, choice in named.items():
            if choice is not None:
                named_by = {} if row.get("id") is None else {"id": f"{row['id']}/{rater}"}
                of_kind = {} if kind is None else {"rater_kind": kind}
                yield {**rest, **named_by, **of_kind, "choice": choice, "rater": str(rater)}


def _of_ranking(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All pairs of one or several rankings; fields with one value a model are split like the responses."""
    responses = _opened(row["responses"])
    if not isinstance(responses, dict | list) or len(responses) < 2:
        raise InputError("field 'responses' must be a list of two or more texts, or an object model -> text")
    models = _opened(row.get("models"))
    if isinstance(responses, list) and isinstance(models, list) and len(set(models)) == len(responses):
        responses = dict(zip(map(str, models), responses))
    names = set(responses) if isinstance(responses, dict) else set()
    kind = next(name for name in _RANKED if row.get(name) is not None)
    split = {
        name: value
        for name, value in ((name, _opened(value)) for name, value in row.items())
        if names and isinstance(value, dict) and name not in ("responses", kind) and names <= set(value)
    }
    gone = {"responses", "models", *_RANKED, *split}
    rest = {name: value for name, value in row.items() if name not in gone}
    for rater, ranking in _rankings(_opened(row[kind]), names, row):
        for pair in pairs_from_rankings(responses, **{"ranks" if kind == "rankings" else "points": ranking}):
            each = {
                f"{name}_{side}": value[pair[f"model_{side}"]]
                for name, value in split.items()
                for side in "ab"
            }
            yield {**rest, **pair, **each, "rater": rater}


def _rankings(given: Any, names: set[str], row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The raters of a row and the ranking of each."""
    own = str(row.get("rater") if row.get("rater") is not None else row.get("rater_model") or "rater")
    if isinstance(given, dict) and not (names and set(given) <= names):
        yield from ((str(rater), ranking) for rater, ranking in given.items() if ranking is not None)
    elif isinstance(given, list) and any(isinstance(one, list | dict) for one in given):
        yield from ((f"rater {i}", ranking) for i, ranking in enumerate(given, 1) if ranking is not None)
    else:
        yield own, given


def _aligned(given: Any, names: list[str] | None, size: int) -> list[float | None]:
    """One number a response, None where it has none."""
    if isinstance(given, Mapping):
        if names is None:
            raise InputError("a ranking by name needs 'responses' as an object model -> text")
        given = [given.get(name) for name in names]
    if names is not None and len(given) and all(isinstance(one, str) and one in names for one in given):
        given = [given.index(name) + 1 if name in given else None for name in names]  # names, the best first
    if len(given) != size:
        raise InputError(f"{len(given)} ranks for {size} responses; give one a response")
    try:
        return [None if one is None else float(one) for one in given]
    except (TypeError, ValueError):
        wrong = next(one for one in given if one is not None and not isinstance(one, int | float))
        raise InputError(
            f"the rank {wrong!r} is no number; give one number a response, 1 for the best"
        ) from None


# ------------------------------------------------------------------------------------- prompt and text


def _split(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """What both sides begin with is the prompt (TRL's implicit prompt); the rest are the responses."""
    if isinstance(chosen, list) and isinstance(rejected, list):
        same = 0
        while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
            same += 1
        return chosen[:same], chosen[same:], rejected[same:]
    if not (isinstance(chosen, str) and isinstance(rejected, str)):
        raise InputError("fields 'chosen' and 'rejected' must both be text, or both lists of messages")
    shared = commonprefix([chosen, rejected])  # noqa: RUF071 - of characters, and no paths
    turns = [found.end() for found in _TURN.finditer(shared)]
    # without turns words stay whole: a prompt ends where a word ends
    cut = turns[-1] if turns else max((found.end() for found in re.finditer(r"\s", shared)), default=0)
    return shared[:cut], chosen[cut:], rejected[cut:]


def _without_messages(name: str, value: Any) -> Any:
    """A list of messages that a table holds as JSON text, as a list again."""
    held = ("prompt", "chosen", "rejected", "response_a", "response_b")
    if name in held and isinstance(value, str) and value.startswith('[{"') and '"role"' in value[:200]:
        return _opened(value)
    return value


def _said(value: Any) -> Any:
    """Messages as text: the content of a single one, else each with its role before it."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(one, Mapping) and {"role", "content"} <= set(one) for one in value):
        raise InputError("messages must be objects with 'role' and 'content'")
    if len(value) == 1:
        return str(value[0]["content"] or "")
    return "\n\n".join(f"{one['role']}: {one['content'] or ''}" for one in value)


def _opened(value: Any) -> Any:
    """The list or object that a text holds as JSON; other values as they are."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


# --------------------------------------------------------------------------------------------- choices


def _choice(value: Any, row: Mapping[str, Any]) -> tuple[str, bool]:
    """a, b, tie or invalid, and False for a tie that stands for two verdicts that contradict each other."""
    known = _known(value, row)
    if known is None:
        raise InputError(
            f"field 'choice' is {value!r}; write a, b, tie or invalid (1, 2 and 0 are read as a, b and tie)"
        )
    return known, "inconsistent" not in str(value)


def _side(name: str, value: Any, row: Mapping[str, Any]) -> str:
    known = _known(value, row)
    if known not in ("a", "b"):
        raise InputError(f"field {name!r} is {value!r}; write a or b")
    return known


def _known(value: Any, row: Mapping[str, Any]) -> str | None:
    if value is None:
        return "invalid"
    if isinstance(value, bool | list | dict):
        return None
    if isinstance(value, float):
        value = "nan" if value != value else int(value) if value == int(value) else value
    for side in "ab":
        if value == row.get(f"model_{side}") and row.get("model_a") != row.get("model_b"):
            return side
    text = str(value).strip().strip("[]").casefold()
    return _SYNONYMS.get(text[:-2] if re.fullmatch(r"[012]\.0", text) else text)


def _kind(value: Any) -> str:
    known = _KINDS.get(str(value).strip().casefold())
    if known is None:
        raise InputError(f"field 'rater_kind' is {value!r}; write human or model")
    return known
