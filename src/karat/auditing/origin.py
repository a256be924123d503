"""Where the figures of an audit come from: files, versions, an earlier audit; and whose names they hold."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from karat.auditing.result import Score
from karat.errors import InputError
from karat.records import Records
from karat.version import __version__

_LIBRARIES = ("numpy", "polars", "pyarrow", "scipy", "scikit-learn")
_NAMES = ("annotator", "rater")
_LICENCES = ("license", "licence")


def provenance(candidate: Records, reference: Records | None) -> dict[str, str]:
    """Versions of what computed, the hash of each file, and the licences that its records name."""
    found = {"karat": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for side, records in (("candidate", candidate), ("reference", reference)):
        if records is None:
            continue
        path = Path(records.path)
        if path.is_file():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            found[f"{side}.sha256"] = digest.hexdigest()
        licences: Counter[str] = Counter()
        for name in _LICENCES:
            if records.has(name):
                licences.update(str(value) for value in records.column(name) if value is not None)
        found[f"{side}.licence"] = ", ".join(sorted(licences)) or "not stated"
    return found


def without_names(candidate: Records, reference: Records | None) -> tuple[Records, Records | None]:
    """Both corpora with annotators and raters numbered, one number a name on both sides."""
    sides = [candidate] if reference is None else [candidate, reference]
    for field in _NAMES:
        names = sorted(
            {str(v) for side in sides if side.has(field) for v in side.column(field) if v is not None}
        )
        number = {name: f"{field} {i}" for i, name in enumerate(names, 1)}
        sides = [_numbered(side, field, number) if side.has(field) else side for side in sides]
    return sides[0], sides[1] if len(sides) > 1 else None


def _numbered(records: Records, field: str, number: dict[str, str]) -> Records:
    """The records with numbers for names, also in ids (item/name) of rows that hold several records."""
    names = [None if value is None else str(value) for value in records.column(field)]
    ids = [
        "/".join(number[part] if part == name else part for part in one.split("/")) if name else one
        for one, name in zip(records.ids, names)
    ]
    given = [None if name is None else number[name] for name in names]
    return records.with_column(field, given).with_column("id", ids)


def with_baseline(scores: Sequence[Score], path: Path) -> tuple[Score, ...]:
    """The scores with the value that each had in an earlier audit, found by name and settings.

    Raises InputError where the file is no result of an audit.
    """
    try:
        found = json.loads(Path(path).read_text("utf-8"))
        earlier = {
            (one["name"], json.dumps(one["settings"], sort_keys=True)): one["value"]
            for one in found["scores"]
        }
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; --baseline names result.json of an earlier audit") from None
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no result of an audit ({error!r}); name its result.json") from None
    return tuple(
        replace(score, baseline=earlier.get((score.name, json.dumps(score.settings, sort_keys=True))))
        for score in scores
    )
