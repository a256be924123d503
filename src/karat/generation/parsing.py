"""Answers to records: cleaning, refusals, JSON, schema. Knows no provider; may run again on kept answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from karat.errors import InputError
from karat.generation.base import Response
from karat.generation.soundness import unsound, with_labels
from karat.generation.tasks import Task
from karat.texts.frames import unframed
from karat.texts.loose_json import values
from karat.texts.refusals import BEGINNING, refusal

_FENCE = re.compile(r"^```[\w-]*\n(.*?)\n?```$", re.DOTALL)
_QUOTES = (('"', '"'), ("“", "”"), ("«", "»"), ("„", "“"), ("「", "」"))
_SHORT = 600  # characters of a text in which a model that names itself counts wherever it does so
_OWN_WORDS = ("completion", "chosen", "rejected", "messages")  # answers of an assistant: these may refuse


@dataclass(frozen=True)
class Parsed:
    """The fields of a record, or the reason why there is none; cleaned: what was taken off or mended."""

    fields: dict[str, Any]
    reason: str = ""
    cleaned: tuple[str, ...] = ()


def parse(response: Response, task: Task) -> Parsed:
    """Turn one answer into the fields of a record of the task's type; nothing is called."""
    if response.finish_reason in ("length", "max_tokens"):
        return Parsed({}, f"cut at {response.tokens_out} tokens; raise answer_tokens")
    if response.finish_reason == "content_filter":
        return Parsed({}, "stopped by the provider's content filter")
    if response.finish_reason == "refusal":
        return Parsed({}, "the model refused: its server says so")
    text = clean(response.text)
    if not text:
        return Parsed({}, "empty answer")
    fields = fields_of(task)
    if not task.schema and fields == ("text",):
        return _text(text)
    found = _objects(text)
    if found is None:
        return Parsed({}, refused(text) or "no JSON object in the answer")
    record, mended = found
    wrong = violation(record, task.schema or schema_of(fields))
    if wrong:
        return Parsed({}, f"does not fit the schema: {wrong}")
    wrong = unsound(record, task) or next(filter(None, map(refused, _asked_for(record))), "")
    if wrong:
        return Parsed({}, wrong)
    return Parsed(with_labels(record, task), cleaned=("mended JSON",) if mended else ())


def _text(text: str) -> Parsed:
    bare, cleaned = unframed(text)
    bare = clean(bare)
    why = refused(text) or (refused(bare) if cleaned else "")
    if why:
        return Parsed({}, why)
    return Parsed({"text": bare}, cleaned=cleaned) if bare else Parsed({}, "empty answer")


def _asked_for(record: Mapping[str, Any]) -> Iterator[str]:
    return (v for name, v in record.items() if isinstance(v, str) and name not in _OWN_WORDS)


def refused(text: str) -> str:
    """The reason that a text is a refusal; empty for any other. Far inside a long text nothing counts."""
    found = refusal(text if len(text) <= _SHORT else text[: BEGINNING + 200])
    return f"the model refused: {found}" if found else ""


# ------------------------------------------------------------------------------------------- forms


def fields_of(task: Task) -> tuple[str, ...]:
    """The fields that a model must write for a data type; label, item and annotator come from the plan."""
    return _fields(task.type)


@lru_cache(maxsize=32)
def _fields(datatype: str) -> tuple[str, ...]:
    from karat import registry

    kind = registry.make("datatypes", datatype)
    return tuple(name for name in kind.forms[0] if name not in (kind.label, "item_id", "annotator"))


def schema_of(fields: tuple[str, ...]) -> dict[str, Any]:
    """The JSON schema of an object with these fields as texts; messages are turns."""
    turn = {
        "type": "object",
        "properties": {"role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
        "required": ["role", "content"],
    }
    messages = {"type": "array", "items": turn, "minItems": 2}
    kinds = {f: messages if f == "messages" else {"type": "string", "minLength": 1} for f in fields}
    return {"type": "object", "properties": kinds, "required": list(fields)}


def repair_message(reason: str, schema: Mapping[str, Any]) -> str:
    """What a model is told when its answer could not be used: why, and the form once more."""
    told = f"Your answer could not be used: {reason.split('; raise ')[0].rstrip('.')}."
    if not schema:
        return f"{told} Write the text again, and nothing but the text."
    names = ", ".join(schema.get("properties", {}))
    form = f"with the fields {names}" if names else "of the form asked for"
    told += f" Answer again with one JSON object {form}, and nothing before or after it."
    full = json.dumps(schema, ensure_ascii=False)
    return f"{told} Its JSON schema: {full}" if len(full) <= _SCHEMA_SHOWN else told


_SCHEMA_SHOWN = 2000  # characters


# ---------------------------------------------------------------------------------------- cleaning


def clean(text: str) -> str:
    """Remove what stands around a text and is not part of it: a code fence, one pair of quotes, blanks.

    Characters inside are never changed, whatever the script.
    """
    text = text.replace("\x00", "").strip()
    fenced = _FENCE.match(text)
    if fenced and "```" not in fenced[1]:
        text = fenced[1].strip()
    for left, right in _QUOTES:
        inner = text[1:-1]
        if len(text) > 1 and text[0] == left and text[-1] == right and not (left in inner or right in inner):
            return inner.strip()
    return text


# -------------------------------------------------------------------------------------------- JSON


def read_json(text: str, kind: type | tuple[type, ...] = (dict, list)) -> Any:
    """The first JSON object or list (kind) in a text, mended where need be; None when there is none.

    Takes time in proportion to the length of the text, whatever stands in it.
    """
    return next((value for value, _ in values(text) if isinstance(value, kind)), None)


def _objects(text: str) -> tuple[dict[str, Any], bool] | None:
    """The first object in a text, also where it is the only one of a list; and whether it was mended."""
    for value, mended in values(text):
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict):
            return value, mended
    return None


def violation(value: Any, schema: Mapping[str, Any], path: str = "answer") -> str:
    """What is wrong with a value under a JSON schema (any draft); empty when nothing is.

    The first fault from the outside in. References are looked up in the schema alone, never on the network.
    """
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
    from referencing.exceptions import Unresolvable

    validator = _validator(json.dumps(schema, sort_keys=True))
    try:
        error = best_match(validator.iter_errors(value))
    except Unresolvable as missing:
        raise InputError(f"schema: no definition {missing.ref!r}; add it to $defs") from None
    if error is None:
        return ""
    where = path + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
    return f"{where} {_told(error)}"


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise InputError when a JSON schema is none itself."""
    _validator(json.dumps(schema, sort_keys=True))


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]
    from referencing import Registry

    found = json.loads(schema)
    kind = validator_for(found, default=Draft202012Validator)
    try:
        kind.check_schema(found)
    except SchemaError as error:
        at = ".".join(map(str, error.absolute_path))
        raise InputError(f"schema{'.' if at else ''}{at}: {error.message}; mend the task's schema") from None
    return kind(found, registry=Registry())


def _told(error: Any) -> str:
    """What is wrong, in the words that a model and a user are told."""
    rule, value, found = error.validator, error.validator_value, error.instance
    if rule == "required":
        return f"has no {next(name for name in value if name not in found)!r}"
    if rule == "type":
        return f"must be of type {' or '.join([value] if isinstance(value, str) else value)}"
    if rule == "enum":
        return f"must be one of {', '.join(map(str, value))}"
    if rule in ("minLength", "maxLength"):
        return f"is {'shorter' if rule == 'minLength' else 'longer'} than {value} characters"
    if rule in ("minItems", "maxItems"):
        return f"has {len(found)} items"
    if rule in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        return f"is {found}, which is out of bounds"
    if rule == "pattern":
        return f"does not match {value}"
    if rule == "additionalProperties" and isinstance(found, dict):
        extra = [name for name in found if name not in error.schema.get("properties", {})]
        return f"has the unknown field {extra[0]!r}"
    message = str(error.message)
    return message if len(message) <= 200 else message[:199] + "…"


# -------------------------------------------------------------------------------------- candidates

_TEXT_KEYS = ("text", "response", "content", "answer", "candidate", "sentence", "completion", "value")
_SURE_KEYS = ("probability", "prob", "p", "likelihood", "confidence", "weight")
_NUMBERED = re.compile(r"^[ \t]*\**(\d{1,3})[.):]\**[ \t]+", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]+", re.MULTILINE)
_SURE = re.compile(
    r"[ \t\n]*[-–—|,;]?[ \t]*[(\[]?[ \t]*\**(?:probability|prob\.?|p)\**[ \t]*[:=≈][ \t]*\**[ \t]*"
    r"(\d{1,3}(?:\.\d{1,9})?|\.\d{1,9})[ \t]*(%?)\**[ \t]*[)\]]?[ \t]*\Z",
    re.IGNORECASE,
)


def parse_candidates(text: str, k: int) -> list[tuple[str, float | None]]:
    """At most k candidates of one answer, each with its probability where one is told; none where none is.

    Read are tags (<text>, <probability>), JSON (a list, an object that holds one, one object a line) and
    numbered or bulleted lists.
    """
    found = _tagged(text) or _jsons(text) or _listed(text)
    if not found and k == 1:
        found = [(unframed(text)[0], None)]
    kept: dict[str, float | None] = {}
    for one, sure in found:
        bare = clean(one)
        if bare:
            kept.setdefault(bare, sure)
    return list(kept.items())[:k]


def _tagged(text: str) -> list[tuple[str, float | None]]:
    """The contents of <text> tags, or of <response> tags that hold none."""
    lower = text.lower()
    name = next((n for n in ("text", "response", "candidate") if f"<{n}>" in lower), "")
    found: list[tuple[str, float | None]] = []
    at = lower.find(f"<{name}>") if name else -1
    while at >= 0:
        begin = at + len(name) + 2
        at = lower.find(f"<{name}>", begin)
        end = lower.find(f"</{name}>", begin, at if at >= 0 else len(text))
        if end < 0:  # a tag that is never closed ends where another begins; the last one is cut off
            end = lower.find("<", begin, at) if at >= 0 else -1
            if end < 0:
                continue
        rest = lower[begin : at if at >= 0 else len(lower)]
        told = rest.rfind("<probability>")
        number = re.match(r"\s*([\d.]{1,12})\s*(%?)", rest[told + 13 :]) if told >= 0 else None
        body = text[begin:end]
        cut = body.lower().find("<probability>")
        found.append((body if cut < 0 else body[:cut], _share(number[1] + number[2]) if number else None))
    return found


def _jsons(text: str) -> list[tuple[str, float | None]]:
    found: list[tuple[str, float | None]] = []
    for value, _ in values(text):
        lists = [v for v in value.values() if isinstance(v, list)] if isinstance(value, dict) else [value]
        if lists and isinstance(value, dict) and not _candidate(value):
            found += [one for v in lists[0] if (one := _candidate(v))]
        elif isinstance(value, dict):
            found += [one] if (one := _candidate(value)) else []
        elif any(isinstance(v, dict | str | list) for v in value):
            found += [one for v in value if (one := _candidate(v))]
    return found


def _candidate(value: Any) -> tuple[str, float | None] | None:
    """One item of a list: a text, a text with its probability, or an object with both."""
    if isinstance(value, str):
        return value, None
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        return value[0], _share(value[1])
    if not isinstance(value, dict):
        return None
    texts = [value[key] for key in _TEXT_KEYS if isinstance(value.get(key), str)]
    if not texts:
        texts = [v for key, v in value.items() if isinstance(v, str) and key not in _SURE_KEYS]
        if len(texts) != 1:
            return None
    return texts[0], next((_share(value[key]) for key in _SURE_KEYS if key in value), None)


def _share(value: Any) -> float | None:
    """A probability from a number or text, per cent too; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        share = float(str(value).strip().rstrip("%"))
    except ValueError:
        return None
    share = share / 100 if str(value).strip().endswith("%") or 1 < share <= 100 else share
    return share if 0 <= share <= 1 else None


def _listed(text: str) -> list[tuple[str, float | None]]:
    """The items of a numbered list (numbers that go up by one), else those of a bulleted one."""
    begins: list[tuple[int, int]] = []
    for match in _NUMBERED.finditer(text):
        if int(match[1]) == len(begins) + 1:
            begins.append((match.start(), match.end()))
    if not begins:
        begins = [match.span() for match in _BULLET.finditer(text)]
        if len(begins) < 2:
            return []
    ends = [start for start, _ in begins[1:]] + [len(text)]
    items = [text[begin:end].strip() for (_, begin), end in zip(begins, ends)]
    if len(items) > 1:
        items[-1] = unframed(f"Here is a text:\n{items[-1]}")[0]  # what is said after the list
    return [_weighed(item) for item in items]


def _weighed(item: str) -> tuple[str, float | None]:
    sure = _SURE.search(item[-80:])
    if not sure:
        return item, None
    return item[: max(0, len(item) - 80) + sure.start()].rstrip(), _share(sure[1] + sure[2])
