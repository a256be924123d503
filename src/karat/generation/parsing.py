"""Answers to records: cleaning, refusals, JSON, schema. Knows no provider; may run again on kept answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from karat.generation.base import Response
from karat.generation.tasks import Task

# Only at the start of an answer: a text may well say "sorry" later on.
_REFUSAL = re.compile(
    r"(?i)^\W*("
    r"(i'?m|i am) (very |so |truly )?(sorry|afraid)\b.{0,40}\b(can'?t|can ?not|unable|won'?t|not able)"
    r"|i (can'?t|can ?not|won'?t|am unable to|am not able to)\s+"
    r"(help|assist|comply|create|generate|write|provide|fulfil|do that|produce)"
    r"|as an ai\b|as a (large )?language model\b|sorry, but i\b)"
)
_FENCE = re.compile(r"^```[\w-]*\n(.*?)\n?```$", re.DOTALL)
_QUOTES = (('"', '"'), ("“", "”"), ("«", "»"), ("„", "“"), ("「", "」"))


@dataclass(frozen=True)
class Parsed:
    """The fields of a record, or the reason why there is none."""

    fields: dict[str, Any]
    reason: str = ""


def parse(response: Response, task: Task) -> Parsed:
    """Turn one answer into the fields of a record of the task's type; nothing is called."""
    text = clean(response.text)
    if not text:
        return Parsed({}, "empty answer")
    if response.finish_reason in ("length", "max_tokens"):
        return Parsed({}, f"cut at {response.tokens_out} tokens; raise answer_tokens")
    if response.finish_reason == "content_filter":
        return Parsed({}, "stopped by the provider's content filter")
    if _REFUSAL.search(text[:160]):
        return Parsed({}, "the model refused")
    fields = fields_of(task)
    if not task.schema and fields == ("text",):
        return Parsed({"text": text})
    found = read_json(text)
    if not isinstance(found, dict):
        return Parsed({}, "no JSON object in the answer")
    wrong = violation(found, task.schema or schema_of(fields))
    if wrong:
        return Parsed({}, f"does not fit the schema: {wrong}")
    return Parsed(found)


def fields_of(task: Task) -> tuple[str, ...]:
    """The fields that a model must write for a data type; the label comes from the plan."""
    from karat import registry

    kind = registry.make("datatypes", task.type)
    return tuple(name for name in kind.forms[0] if name != kind.label)


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


def read_json(text: str) -> Any:
    """The first JSON object or list in a text; None when there is none."""
    decoder = json.JSONDecoder(strict=False)
    for match in re.finditer(r"[{\[]", text):
        try:
            return decoder.raw_decode(text, match.start())[0]
        except ValueError:
            continue
    return None


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def violation(value: Any, schema: Mapping[str, Any], path: str = "answer") -> str:
    """What is wrong with a value under a JSON schema (the common keywords); empty when nothing is."""
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds or []
    if kinds and not any(_is_of(value, kind) for kind in kinds):
        return f"{path} must be of type {' or '.join(kinds)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} must be one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str):
        return _text_violation(value, schema, path)
    if _is_of(value, "number"):
        outside = value < schema.get("minimum", value) or value > schema.get("maximum", value)
        return f"{path} is {value}, which is out of bounds" if outside else ""
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{path} has {len(value)} items"
        found = (violation(v, schema.get("items", {}), f"{path}[{i}]") for i, v in enumerate(value))
        return next((text for text in found if text), "")
    if isinstance(value, dict):
        missing = [name for name in schema.get("required", ()) if name not in value]
        if missing:
            return f"{path} has no {missing[0]!r}"
        known = schema.get("properties", {})
        extra = [name for name in value if name not in known]
        if extra and schema.get("additionalProperties") is False:
            return f"{path} has the unknown field {extra[0]!r}"
        found = (
            violation(value[name], rule, f"{path}.{name}") for name, rule in known.items() if name in value
        )
        return next((text for text in found if text), "")
    return ""


def _is_of(value: Any, kind: str) -> bool:
    # In Python a boolean is a number; in JSON it is not.
    return isinstance(value, _TYPES.get(kind, (object,))) and (
        kind == "boolean" or not isinstance(value, bool) or kind not in _TYPES
    )


def _text_violation(value: str, schema: Mapping[str, Any], path: str) -> str:
    if len(value) < schema.get("minLength", 0):
        return f"{path} is shorter than {schema['minLength']} characters"
    if len(value) > schema.get("maxLength", len(value)):
        return f"{path} is longer than {schema['maxLength']} characters"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{path} does not match {schema['pattern']}"
    return ""
