"""Task files: a task as TOML and back, every mistake with its key and its cure. Draws nothing."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from karat import registry
from karat.errors import BadSetting, InputError, did_you_mean
from karat.generation.constraints import LABEL, Constraint, Joint, Values
from karat.generation.tasks import Attribute, Label, Task

# The keys in the order of the file, and for those of some data types alone which these are.
_TEXTS: tuple[str, ...] = (
    "name",
    "domain",
    "type",
    "language",
    "source_language",
    "target_language",
    "instructions",
    "question",
)
_KNOWN: tuple[str, ...] = (
    *_TEXTS,
    "choices",
    "scale",
    "multi_label",
    "most_labels",
    "turns",
    "schema",
    "labels",
)
_KNOWN += ("shares", "cardinality", "roles", "neighbours", "attributes", "constraints", "joint")
_OF_TYPES = {
    "source_language": ("translation",),
    "target_language": ("translation",),
    "roles": ("dialogue",),
    "turns": ("dialogue",),
    "multi_label": ("classification",),
    "most_labels": ("classification",),
    "cardinality": ("classification",),
    "question": ("annotation", "preference"),
    "choices": ("annotation", "preference"),
    "scale": ("annotation", "preference"),
}
_OF_ATTRIBUTE = ("values", "class_dependent", "complete", "weights", "removed")
_NAKED = re.compile(r"[A-Za-z0-9_-]+")


def read(path: str | os.PathLike[str]) -> Task:
    """Read a task file. Raises InputError naming the file and the key."""
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = Path(path).read_text("utf-8-sig")  # some editors put a mark before the first letter
        found = tomllib.loads(text)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; write a task file with domain and labels") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not TOML ({error}); {_cure(text, str(error))}") from None
    return task_of(found, str(path))


# ------------------------------------------------------------------------------------------- reading


def _cure(text: str, error: str) -> str:
    """What to do about a line that is not TOML: names in other letters than A to Z need quotes."""
    place, lines = re.search(r"at line (\d+)", error), text.splitlines()
    line = lines[int(place[1]) - 1] if place and int(place[1]) <= len(lines) else ""
    name = re.match(r"""\s*\[*\s*([^\s"'=\[\]#][^"'=\[\]#]*?)\s*[=\]]""", line)
    for part in name[1].split(".") if name else ():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", part):
            return f'put {part} between quotes: "{part}"'
    return "mend that line"


def task_of(found: Mapping[str, Any], where: str) -> Task:
    """The task that the tables of a file describe; `where` stands before each error."""
    _known(found, _KNOWN, where)
    if not isinstance(found.get("domain"), str) or not found["domain"].strip():
        raise InputError(f'{where}: no key domain; say what is written, e.g. domain = "news article"')
    types = registry.names("datatypes")
    datatype = str(found.get("type", "classification"))
    if datatype not in types:
        raise InputError(
            f"{where}: type is {datatype!r}{did_you_mean(datatype, types)} (known: {', '.join(types)})"
        )
    for key, owners in _OF_TYPES.items():
        if key in found and datatype not in owners:
            raise InputError(
                f"{where}: {key} belongs to type {' or '.join(owners)}, and type is {datatype!r}; remove it"
            )
    labels = _labels(found.get("labels", {}), where)
    names = tuple(label.name for label in labels)
    if datatype == "classification" and not names:
        raise InputError(f'{where}: no labels; write labels = ["a", "b"] or a table [labels]')
    attributes = tuple(
        _attribute(name, given, names, where)
        for name, given in _table(found.get("attributes", {}), f"{where}: attributes").items()
    )
    several = bool(found.get("multi_label", False))
    if not several and ("cardinality" in found or "most_labels" in found):
        raise InputError(f"{where}: cardinality and most_labels need multi_label = true; add it")
    task = Task(
        labels=labels,
        type=datatype,
        **{key: str(found.get(key, "")) for key in _TEXTS if key != "type"},
        attributes=attributes,
        schema=_schema(found.get("schema", {}), where),
        shares=_shares(found.get("shares", {}), names, f"{where}: shares", "label"),
        multi_label=several,
        most_labels=_whole(found.get("most_labels", 0), f"{where}: most_labels"),
        cardinality=_cardinality(found, len(names), where),
        neighbours=_neighbours(found.get("neighbours", {}), names, where),
        constraints=_constraints(found.get("constraints", []), names, attributes, where),
        joint=_joints(found.get("joint", []), names, attributes, where),
        choices=_choices(found, where),
        roles={name: str(told) for name, told in _table(found.get("roles", {}), f"{where}: roles").items()},
        turns=_whole(found.get("turns", 0), f"{where}: turns"),
    )
    _check_room(task, where)
    return task


def _check_room(task: Task, where: str) -> None:
    """Raise InputError where the constraints leave a class nothing to draw."""
    from karat.generation.draws import options

    for label in (task.label_names or (None,)) if task.constraints else ():
        try:
            options(task, label)
        except BadSetting as error:
            raise InputError(f"{where}: {error}") from None


def _known(found: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in found:
        if key not in known:
            raise InputError(
                f"{where}: unknown key {key!r}{did_you_mean(key, known)} (known: {', '.join(known)})"
            )


def _table(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise InputError(f'{where} is {found!r}; write a table, a line name = "..." for each')
    return found


def _list(found: Any, where: str) -> tuple[str, ...]:
    """A list of texts, or one text; each comes once."""
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(x, str | int | float) for x in listed):
        raise InputError(f'{where} is {found!r}; write a list of texts, ["...", "..."]')
    return tuple(dict.fromkeys(map(str, listed)))


def _whole(found: Any, where: str) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise InputError(f"{where} is {found!r}; write a whole number of 0 (no bound) or more")
    return found


def _member(name: str, known: Sequence[str], where: str, what: str) -> str:
    if name not in known:
        raise InputError(f"{where} names no {what} {name!r}{did_you_mean(name, known)}")
    return name


def _labels(found: Any, where: str) -> tuple[Label, ...]:
    if not isinstance(found, Mapping | list):
        raise InputError(f'{where}: labels is {found!r}; write labels = ["a", "b"] or a table [labels]')
    pairs = found.items() if isinstance(found, Mapping) else ((name, "") for name in found)
    labels = tuple(Label(str(name), str(definition)) for name, definition in pairs)
    repeated = [name for name, count in Counter(label.name for label in labels).items() if count > 1]
    if repeated:
        raise InputError(f"{where}: the label {repeated[0]!r} stands twice; remove one")
    return labels


def _schema(found: Any, where: str) -> Mapping[str, Any]:
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: schema is not JSON ({error}); mend it") from None
    schema = _table(found, f"{where}: schema")
    if not schema:
        return schema
    from karat.generation.parsing import check_schema

    try:
        check_schema(schema)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return schema


def _shares(found: Any, known: Sequence[str], where: str, what: str) -> dict[str, float]:
    shares = {}
    for name, share in _table(found, where).items():
        _member(name, known, where, what)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < math.inf:
            raise InputError(f"{where}: {name!r} is {share!r}; write a number of 0 or more")
        shares[name] = float(share)
    if shares and not sum(shares.values()) > 0:
        raise InputError(f"{where}: all are 0; give one a share above 0")
    return shares


def _cardinality(found: Mapping[str, Any], labels: int, where: str) -> dict[int, float]:
    given = found.get("cardinality", {})
    most = found.get("most_labels", 0) or labels
    numbers = [str(size) for size in range(most + 1)]
    shares = _shares(given, numbers, f"{where}: cardinality", "number of labels (or more than most_labels)")
    return {int(size): share for size, share in shares.items()}


def _choices(found: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if "scale" not in found:
        return _list(found.get("choices", []), f"{where}: choices")
    scale = found["scale"]
    ends = isinstance(scale, list) and len(scale) == 2 and all(type(end) is int for end in scale)
    if "choices" in found or not ends or scale[0] >= scale[1] or scale[1] - scale[0] > 100:
        raise InputError(
            f"{where}: scale is {scale!r}; write its ends, scale = [1, 5], and no choices beside it"
        )
    return tuple(map(str, range(scale[0], scale[1] + 1)))


def _neighbours(found: Any, labels: Sequence[str], where: str) -> dict[str, tuple[str, ...]]:
    result = {}
    for label, near in _table(found, f"{where}: neighbours").items():
        place = f"{where}: neighbours of {label!r}"
        _member(label, labels, f"{where}: neighbours", "label")
        result[label] = _list(near, place)
        for name in result[label]:
            _member(name, labels, place, "label")
    return result


def _attribute(name: str, given: Any, labels: Sequence[str], where: str) -> Attribute:
    place = f"{where}: attribute {name!r}"
    given = {"values": given} if isinstance(given, list) else given
    if not isinstance(given, Mapping) or not given.get("values"):
        raise InputError(f'{place} has no values; write values = ["...", "..."]')
    _known(given, _OF_ATTRIBUTE, place)
    if name == LABEL:
        raise InputError(f"{place} bears the name by which constraints speak of the class; rename it")
    values = given["values"]
    if bool(given.get("class_dependent", isinstance(values, Mapping))) != isinstance(values, Mapping):
        raise InputError(
            f"{place} must list its values for each label in [attributes.{_key(name)}.values] when "
            "class_dependent = true, and in one list otherwise"
        )
    by_label: dict[str, tuple[str, ...]] = {}
    if isinstance(values, Mapping):
        for label, listed in values.items():
            by_label[_member(label, labels, place, "label")] = _list(listed, f"{place}: values of {label!r}")
    plain = () if by_label else _list(values, f"{place}: values")
    every = tuple(dict.fromkeys(value for listed in by_label.values() for value in listed)) or plain
    weights, removed = (_table(given.get(key, {}), f"{place}: {key}") for key in ("weights", "removed"))
    nested = _nested(weights)
    for label in (*weights,) if nested else ():
        _member(label, labels, f"{place}: weights", "label")
    return Attribute(
        name,
        plain,
        by_label,
        weights={} if nested else _shares(weights, every, f"{place}: weights", "value"),
        weights_by_label={
            label: _shares(
                shares,
                by_label.get(label, ()) if by_label else plain,
                f"{place}: weights of {label!r}",
                "value",
            )
            for label, shares in (weights.items() if nested else ())
        },
        complete=bool(given.get("complete", False)),
        removed={} if _nested(removed) else {value: str(why) for value, why in removed.items()},
        removed_by_label={
            _member(label, labels, f"{place}: removed", "label"): {v: str(why) for v, why in gone.items()}
            for label, gone in (removed.items() if _nested(removed) else ())
        },
    )


def _nested(found: Mapping[str, Any]) -> bool:
    """True when a table holds one for each label."""
    return bool(found) and all(isinstance(inner, Mapping) for inner in found.values())


def _values(
    found: Any, labels: Sequence[str], attributes: Mapping[str, Attribute], where: str
) -> dict[str, tuple[str, ...]]:
    """What a constraint says of each attribute, and of the label: values that there are."""
    result = {}
    for name, given in _table(found, where).items():
        _member(name, (LABEL, *attributes), where, "attribute")
        result[name] = _list(given, f"{where}: {name}")
        known = labels if name == LABEL else _every(attributes[name])
        for value in result[name]:
            _member(value, known, f"{where}: {name}", "value")
        if not result[name]:
            raise InputError(f"{where}: {name} names no value; list at least one")
    return result


def _every(attribute: Attribute) -> tuple[str, ...]:
    return attribute.values or tuple(value for listed in attribute.by_label.values() for value in listed)


def _constraints(
    found: Any, labels: Sequence[str], attributes: Sequence[Attribute], where: str
) -> tuple[Constraint, ...]:
    by_name = {attribute.name: attribute for attribute in attributes}
    result = []
    for number, given in enumerate(_tables(found, f"{where}: constraints"), 1):
        place = f"{where}: constraint {number}"
        _known(given, ("forbid", "if", "then"), place)
        if set(given) not in ({"forbid"}, {"if", "then"}):
            raise InputError(f"{place} must hold forbid = {{...}}, or both if = {{...}} and then = {{...}}")
        forbid, when, then = (
            _values(given.get(key, {}), labels, by_name, f"{place}: {key}")
            for key in ("forbid", "if", "then")
        )
        if both := set(when) & set(then):
            raise InputError(f"{place}: {min(both)} stands under if and under then; keep one")
        if not (set(forbid) | set(when) | set(then)) - {LABEL}:
            raise InputError(f"{place} speaks of no attribute beside the label; name one, or remove it")
        result.append(Constraint(forbid, when, then))
    return tuple(result)


def _tables(found: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise InputError(f"{where} is {found!r}; write a table [[...]] for each")
    return found


def _joints(
    found: Any, labels: Sequence[str], attributes: Sequence[Attribute], where: str
) -> tuple[Joint, ...]:
    by_name = {attribute.name: attribute for attribute in attributes}
    result = []
    for number, given in enumerate(_tables(found, f"{where}: joint"), 1):
        place = f"{where}: joint {number}"
        _known(given, ("attributes", "label", "shares"), place)
        pair = _list(given.get("attributes", []), f"{place}: attributes")
        if len(pair) != 2:
            raise InputError(f"{place} must name two attributes = [...]; it names {len(pair)}")
        for name in pair:
            _member(name, tuple(by_name), f"{place}: attributes", "attribute")
        label = str(given.get("label", ""))
        if "label" in given:
            _member(label, labels, place, "label")
        rows = given.get("shares", [])
        if (
            not isinstance(rows, list)
            or not rows
            or not all(isinstance(r, list) and len(r) == 3 for r in rows)
        ):
            raise InputError(f'{place} has no shares; write shares = [["value", "value", 0.5], ...]')
        shares = []
        for left, right, share in rows:
            for value, name in ((left, pair[0]), (right, pair[1])):
                _member(str(value), _every(by_name[name]), f"{place}: {name}", "value")
            _shares({"share": share}, ("share",), f"{place}: {left!r} with {right!r}", "share")
            shares.append((str(left), str(right), float(share)))
        result.append(Joint((pair[0], pair[1]), tuple(shares), label))
    return tuple(result)


# ------------------------------------------------------------------------------------------- writing


def text_of(task: Task) -> str:
    """The task as TOML; what is not said is left out, so that a file shows what was decided."""
    lines = [
        f"{key} = {_quoted(getattr(task, key))}"
        for key in _TEXTS
        if getattr(task, key) or key in ("name", "domain", "type", "language")
    ]
    if task.choices:
        lines.append(f"choices = {_listed(task.choices)}")
    if task.multi_label:
        lines.append("multi_label = true")
    lines += [f"{key} = {getattr(task, key)}" for key in ("most_labels", "turns") if getattr(task, key)]
    if task.schema:
        lines.append(f"schema = {_quoted(json.dumps(task.schema, ensure_ascii=False), literal=True)}")
    lines += ["", "[labels]", *(f"{_key(label.name)} = {_quoted(label.definition)}" for label in task.labels)]
    _write(lines, "shares", task.shares, _number)
    _write(lines, "cardinality", {str(size): share for size, share in task.cardinality.items()}, _number)
    _write(lines, "roles", task.roles, _quoted)
    _write(lines, "neighbours", task.neighbours, _listed)
    for attribute in task.attributes:
        _write_attribute(lines, attribute)
    for constraint in task.constraints:
        lines += ["", "[[constraints]]"]
        parts = (("forbid", constraint.forbid), ("if", constraint.given), ("then", constraint.then))
        written = parts[:1] if constraint.forbid else parts[1:]
        lines += [f"{key} = {_inline(values)}" for key, values in written]
    for joint in task.joint:
        lines += ["", "[[joint]]", f"attributes = {_listed(joint.attributes)}"]
        if joint.label:
            lines.append(f"label = {_quoted(joint.label)}")
        rows = (f"    [{_quoted(a)}, {_quoted(b)}, {_number(share)}]," for a, b, share in joint.shares)
        lines += ["shares = [", *rows, "]"]
    return "\n".join(lines) + "\n"


def _write_attribute(lines: list[str], attribute: Attribute) -> None:
    name = f"attributes.{_key(attribute.name)}"
    lines += ["", f"[{name}]"]
    if attribute.complete:
        lines.append("complete = true")
    if attribute.by_label:
        lines += ["class_dependent = true"]
        _write(lines, f"{name}.values", attribute.by_label, _listed)
    else:
        lines.append(f"values = {_listed(attribute.values)}")
    _write(lines, f"{name}.weights", attribute.weights, _number)
    for label, weights in attribute.weights_by_label.items():
        _write(lines, f"{name}.weights.{_key(label)}", weights, _number)
    _write(lines, f"{name}.removed", attribute.removed, _quoted)
    for label, removed in attribute.removed_by_label.items():
        _write(lines, f"{name}.removed.{_key(label)}", removed, _quoted)


def _write(lines: list[str], name: str, table: Mapping[str, Any], form: Callable[[Any], str]) -> None:
    if table:
        lines += ["", f"[{name}]", *(f"{_key(key)} = {form(value)}" for key, value in table.items())]


def _key(name: str) -> str:
    return name if _NAKED.fullmatch(name) else _quoted(name)


def _quoted(text: str, literal: bool = False) -> str:
    """A TOML string: as JSON writes it, but for DEL, which TOML wants escaped, and halves of surrogates."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if literal and "'''" not in text and "\x7f" not in text:
        return f"'''{text}'''"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _number(share: float) -> str:
    return repr(float(share))


def _listed(values: Sequence[str]) -> str:
    short = "[" + ", ".join(map(_quoted, values)) + "]"
    if len(short) <= 100:
        return short
    return "[\n" + "".join(f"    {_quoted(value)},\n" for value in values) + "]"


def _inline(values: Values) -> str:
    # An inline table stands on one line, whatever its length.
    pairs = (f"{_key(name)} = [{', '.join(map(_quoted, listed))}]" for name, listed in values.items())
    return "{ " + ", ".join(pairs) + " }"
