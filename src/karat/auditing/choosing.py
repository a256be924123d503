"""Which metrics an audit runs, and why others are left out. Knows of metrics what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from karat import registry
from karat.auditing.base import Facts, Metric
from karat.errors import BadSetting
from karat.records import Records


def choose(
    metrics: Sequence[str | Metric] | str,
    candidate: Records,
    reference: Records | None,
    *,
    mode: str,
    judged: bool,
) -> tuple[tuple[Metric, ...], dict[str, str]]:
    """The metrics to compute, and why others are not. One that was asked for by name must be possible.

    Besides metrics a family can be named, such as lexical: all of it that applies. Raises BadSetting.
    """
    asked = metrics.split() if isinstance(metrics, str) else list(metrics)
    every: tuple[Metric, ...] = () if asked and not _families(asked) else _all()
    named: list[str | Metric] = []
    grouped: list[Metric] = []
    for one in asked:
        family = [m for m in every if isinstance(one, str) and m.family == one]
        grouped += family
        named += [] if family else [one]
    made: tuple[Metric, ...] = registry.make_all("metrics", named)
    mine, theirs = facts(candidate), None if reference is None else facts(reference)
    shared = _shares_texts(candidate, reference)
    chosen: list[Metric] = []
    skipped: dict[str, str] = {}
    for metric in (*made, *grouped, *(() if asked else every)):
        must = metric in made
        reason = _reason(metric, mine, theirs, judged, candidate)
        if not reason and not asked and not metric.default:
            reason = "runs when it is asked for by name"
        if not reason and not asked and shared and "text" in metric.datatypes:
            reason = "the records judge texts that several of them share, and differ in the judgement"
        name = registry.name_of(metric)
        if reason and must:
            raise BadSetting(f"metric {name!r} {reason}; leave it out or bring what it needs")
        if reason:
            skipped[name] = reason
        elif metric not in chosen:
            chosen.append(_as_published(metric) if mode == "paper" else metric)
    if not chosen:
        raise BadSetting(f"no metric applies to {candidate.datatype} records like these: {skipped}")
    return tuple(chosen), skipped


def facts(records: Records) -> Facts:
    """What metrics are told before anything is read."""
    fields = {
        name
        for name in records.table.column_names
        if records.table.column(name).null_count < len(records) and name != "lineage"
    }
    return Facts(
        records.datatype,
        frozenset(fields),
        generators=_known(records, "generator"),
        linked=_known(records, "parents") and any(records.lineage("parents")),
    )


def fields_of(records: Records, name: str) -> list[str] | None:
    """The values of a field as text, for `by`: a field, `lineage.generator`, an attribute of the lineage."""
    if records.has(name):
        return [str(value) for value in records.column(name)]
    head, _, rest = name.partition(".")
    if (
        head == "lineage"
        and rest
        and rest in {field.name for field in records.table.schema.field("lineage").type}
    ):
        return [str(value) for value in records.lineage(rest)]
    attributes = pc.unique(records.table.column("lineage").combine_chunks().field("attributes"))
    if attributes.null_count == len(attributes):
        return None
    import orjson

    known = {one: orjson.loads(one) for one in attributes.to_pylist() if one}
    if not any(name in found for found in known.values()):
        return None
    return [str(known.get(one or "", {}).get(name)) for one in records.lineage("attributes")]


def split_by_kind(candidate: Records) -> tuple[Records, Records] | None:
    """Model and human rows of one file of labels or choices; None where it holds one kind only."""
    name = {"annotation": "annotator_kind", "preference": "rater_kind"}.get(candidate.datatype)
    if name is None or not candidate.has(name):
        return None
    kinds = candidate.table.column(name).cast(pa.string())
    human = pc.fill_null(pc.equal(kinds, "human"), False).combine_chunks().to_numpy(zero_copy_only=False)
    model = pc.fill_null(pc.equal(kinds, "model"), False).combine_chunks().to_numpy(zero_copy_only=False)
    if not (human.any() and model.any()):
        return None
    return candidate.where(model), candidate.where(human)


def _shares_texts(candidate: Records, reference: Records | None) -> bool:
    """Whether records judge the same texts, on one side or on both: then texts are not what differs."""
    if candidate.kind.unit is None:
        return False
    mine = candidate.texts()
    different = set(mine)
    if len(different) < 0.7 * len(mine):
        return True
    if reference is None or reference.datatype != candidate.datatype:
        return False
    return len(different & set(reference.texts())) >= 0.5 * len(different)


def _families(asked: Sequence[str | Metric]) -> bool:
    """Whether anything that was asked for may be a family: no metric has its name."""
    known = set(registry.names("metrics"))
    return any(isinstance(one, str) and ":" not in one and one not in known for one in asked)


def _all() -> tuple[Metric, ...]:
    return tuple(registry.make("metrics", name) for name in registry.names("metrics"))


def _reason(metric: Metric, candidate: Facts, reference: Facts | None, judged: bool, records: Records) -> str:
    """Why a metric cannot be computed; empty where it can."""
    if candidate.datatype not in metric.datatypes:
        return f"reads {' or '.join(metric.datatypes)} records, not {candidate.datatype}"
    if metric.needs_labels and not _has_labels(records):
        return "needs a label on each record"
    if metric.needs_reference and reference is None:
        return "needs a reference"
    if metric.judged and not judged and not candidate.fields.intersection(metric.judged_fields):
        instead = f" or a field {' or '.join(metric.judged_fields)}" if metric.judged_fields else ""
        return f"needs a judge (--judge PROVIDER){instead}"
    return metric.lacks(candidate, reference)


def _has_labels(records: Records) -> bool:
    name = records.kind.label
    return name is not None and records.has(name) and records.table.column(name).null_count < len(records)


def _known(records: Records, name: str) -> bool:
    """Whether the lineage of any record has a value in this field."""
    column = pc.struct_field(records.table.column("lineage"), name)
    return bool(column.null_count < len(column))


def _as_published(metric: Metric) -> Metric:
    """The metric with its published settings; a setting that the user changed stays as it is."""
    default = type(metric)()
    kept = {k: v for k, v in metric.paper.items() if getattr(metric, k) == getattr(default, k)}
    return replace(metric, **kept)
