"""Human text that is on every machine: the docstrings of installed Python packages. Knows no stage.

Packages are read as text with `ast` and never imported. The texts stay under the licences of their packages.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path

import numpy as np

from karat import records
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records

STANDARD = "stdlib"

# Folders whose docstrings are fixtures, copies of other packages, or written by programs.
_SKIPPED = frozenset(
    {
        *(
            "test",
            "tests",
            "testing",
            "_testing",
            "benchmarks",
            "examples",
            "turtledemo",
            "idlelib",
            "lib2to3",
        ),
        *("vendor", "_vendor", "vendored", "externals", "extern", "third_party", "ensurepip", "node_modules"),
        *(
            "_generated",
            "generated",
            "encodings",
            "pydoc_data",
            "site-packages",
            "dist-packages",
            "__pycache__",
        ),
    }
)
_GENERATED = re.compile(r"(?i)(auto-?generated|generated (by|from|file|code)|do not (edit|modify))")
# From such a line on, a docstring is a table of parameters, code or a directive, no longer prose.
_ENDS = re.compile(
    r"""(?ix) ^( (args|arguments|parameters|params|returns?|yields?|raises|examples?|notes?|see\ also
    |references|attributes|keyword\ arg\w*|usage|methods|warnings?|todo|deprecated|versionadded|inputs?
    |outputs?|shape|other\ parameters)\s*:{0,2}\s*$
    | (args|arguments|parameters|returns|raises|keyword\ args|example|usage)\s*: | :\w+ [^:`]*: | @\w+
    | \.\.\s | >>> | \$\s )"""
)
_LIST = re.compile(r"^(\s+\S|[-*+•]\s|\d+[.)]\s|\|)")
_RULE = re.compile(r"^([-=~^\"'#*_+])\1{2,}\s*$")
_SIGNATURE = re.compile(r"^[\w.\[\], ]+\([^.]*\)\s*(->.*|:)?$|^\S+$")
_ROLE = re.compile(r":[a-zA-Z:]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?|\[([^\]]+)\]\(\S+?\)")
_TICKS = re.compile(r"(?<!`)(`{1,3})([^`\n]+)\1(?!`)_{0,2}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_WORD = re.compile(r"\w+")
_CODE = re.compile(r"\b\w*[_.()\[\]\d]\w*\b|\b[a-z]+[A-Z]\w*\b|\b[A-Z]\w*[A-Z]\w*\b")

MIN_WORDS, MAX_WORDS = 5, 90


@dataclass(frozen=True)
class Split:
    """Human records in three parts that share no group: to train a generator, to test, and to hold out."""

    train: Records
    test: Records
    holdout: Records


@dataclass(frozen=True)
class _Package:
    """One label and where its source files lie."""

    label: str
    root: Path
    files: tuple[Path, ...]
    size: int


def docstrings(
    limit: int | None = None,
    *,
    seed: int = 0,
    min_classes: int = 6,
    max_classes: int = 12,
    per_class: int = 600,
) -> Records:
    """Return docstrings that people wrote, labelled by package: several thousand on a usual installation.

    Read are the standard library (one class) and the packages beside this interpreter. Kept are the opening
    paragraphs of prose, 5 to 90 words; tables of parameters, code, directives, signatures, generated files,
    duplicates and boilerplate are left out. Ids read `package.module:qualified.name`; the field `module`
    is there to split by. For one environment the result is always the same.

    limit: at most so many records, evenly over the classes (drawn with `seed`).
    min_classes, max_classes: how many packages at least and at most, the largest first.
    per_class: at most so many records of each.
    Raises NotEnoughData when the installation has too few packages with enough prose.
    """
    found: dict[str, list[dict[str, str]]] = {}
    sources: dict[str, int] = {}
    seen: set[str] = set()
    for package in _packages(_installation(), 2 * max_classes + 8):
        rows = _prose_of(package, per_class, seen)
        if len(rows) >= 40:
            found[package.label], sources[package.label] = rows, package.size
    # The standard library is there everywhere; among the rest, equal counts are ordered by amount of source.
    sizes = sorted(
        ((len(rows), label) for label, rows in found.items()),
        key=lambda s: (s[1] != STANDARD, -s[0], -sources[s[1]], s[1]),
    )
    # As many classes as have half a full class; where those are too few, smaller ones are taken too.
    enough = sum(size >= per_class // 2 for size, _ in sizes)
    chosen = sorted(label for _, label in sizes[: min(max(enough, min_classes), max_classes)])
    if len(chosen) < min_classes:
        raise NotEnoughData(
            f"only {len(chosen)} installed packages have enough docstrings, and min_classes={min_classes}; "
            "install karat[torch] or ask for fewer classes"
        )
    if limit is not None:
        found = _evenly({label: found[label] for label in chosen}, limit, seed)
    rows = [row for label in chosen for row in sorted(found[label], key=lambda row: row["id"])]
    if not rows:
        raise NotEnoughData(f"limit={limit} leaves no record; ask for at least one")
    return records.from_rows(rows, datatype="classification", path="docstrings").with_lineage(source="human")


def split(
    human: Records, *, by: str = "module", shares: Sequence[float] = (0.5, 0.25, 0.25), seed: int = 0
) -> Split:
    """Split into train, test and holdout so that no group (a value of the field `by`) is in two parts.

    shares: the parts' sizes, kept within each label as well as the groups allow.
    """
    if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0:
        raise BadSetting(f"shares={tuple(shares)} must be three sizes, such as (0.5, 0.25, 0.25)")
    groups = human.column(by) if human.has(by) else human.ids
    labels = human.labels() or [""] * len(human)
    wanted = np.array(shares, dtype=float) / sum(shares)
    generator = np.random.default_rng(seed)
    part: dict[str, int] = {}
    for label in sorted(set(labels)):
        counts = Counter(g for g, own in zip(groups, labels) if own == label and g not in part)
        names = sorted(counts)
        have = np.zeros(3)
        # The largest groups first, each to the part that is furthest behind: small ones then even it out.
        for name in sorted((names[i] for i in generator.permutation(len(names))), key=lambda g: -counts[g]):
            behind = wanted * max(have.sum() + counts[name], 1) - have
            part[name] = int(np.argmax(np.where(wanted > 0, behind, -np.inf)))
            have[part[name]] += counts[name]
    of = np.array([part[g] for g in groups])
    return Split(*(human.where(of == number) for number in range(3)))


def prose(docstring: str) -> str:
    """Return the opening prose of a docstring, or an empty string where there is none."""
    taken: list[str] = []
    words = 0
    for paragraph in re.split(r"\n\s*\n", cleandoc(docstring)):
        lines = paragraph.split("\n")
        ended = next((i for i, line in enumerate(lines) if _ENDS.match(line)), len(lines))
        head = lines[:ended]
        if ended < len(lines) and ended == 0:
            break
        # A heading and its rule; a list; a block of code (indented); a signature.
        if any(_LIST.match(line) or _RULE.match(line) for line in head):
            break
        text = plain(" ".join(line.strip() for line in head))
        if taken and (words >= 25 or text[:1].islower() or taken[-1][-1] not in ".!?"):
            break  # a title, or half a sentence, is not followed up
        if _SIGNATURE.match(text) and not taken:
            continue
        if not text or _SIGNATURE.match(text) or not _mostly_letters(text):
            break
        introduces = text.endswith(":")  # a list or code follows, which is not taken
        taken.extend(_SENTENCE.split(text)[:-1] if introduces else [text])
        words = sum(len(_WORD.findall(t)) for t in taken)
        if ended < len(lines) or introduces:
            break
    return _shortened(" ".join(taken))


def plain(text: str) -> str:
    """Return text without reStructuredText or Markdown marks around words."""
    text = _ROLE.sub(lambda m: m[1].lstrip("~!"), text)
    text = _LINK.sub(lambda m: m[1] or m[2], text)
    text = _TICKS.sub(lambda m: m[2], text)
    text = re.sub(r"\s*\[\w+\]_", "", text)  # a reference to a footnote
    text = re.sub(r"(?<!\w)(\*\*?)(\w[^*]*)\1(?!\w)", r"\2", text)
    return re.sub(r"\s+", " ", text).strip()


def _shortened(text: str) -> str:
    """Whole sentences, up to MAX_WORDS words; empty when under MIN_WORDS or the first is too long."""
    kept: list[str] = []
    words = 0
    for sentence in _SENTENCE.split(text):
        words += len(_WORD.findall(sentence))
        if words > MAX_WORDS:
            break
        kept.append(sentence)
    result = " ".join(kept)
    enough = len(_WORD.findall(result)) >= MIN_WORDS
    whole = enough and result[0].isalpha() and result[-1] not in ",;:("
    return result if whole and _mostly_letters(result) else ""


# What is left of code and markup after `plain`, also where a sentence speaks of it.
_MARKS = (">>>", "__", "://", ".. ", ":param", "-----", "``")


def _mostly_letters(text: str) -> bool:
    letters = sum(c.isalpha() or c == " " for c in text)
    return letters >= 0.88 * len(text) and not any(mark in text for mark in _MARKS)


def _installation() -> tuple[Path, tuple[Path, ...]]:
    """The folder of the standard library and those of installed packages."""
    paths = sysconfig.get_paths()
    return Path(paths["stdlib"]), tuple(Path(p) for p in sorted({paths["purelib"], paths["platlib"]}))


def _packages(installation: tuple[Path, tuple[Path, ...]], count: int) -> Iterator[_Package]:
    """The standard library, then the `count` packages with most source, by name."""
    standard, sites = installation
    yield _package(STANDARD, standard)
    found = []
    for site in sites:
        for folder in sorted(site.iterdir()) if site.is_dir() else ():
            name = folder.name
            if folder.is_dir() and name.isidentifier() and name not in _SKIPPED and name != "karat":
                found.append(_package(name.lstrip("_"), folder))
    largest = sorted((p for p in found if p.files), key=lambda p: (-p.size, p.label))[:count]
    yield from sorted(largest, key=lambda p: p.label)


def _package(label: str, root: Path) -> _Package:
    """A package's own source files, in an order that mixes its modules but is always the same."""
    files: list[tuple[str, Path]] = []
    size, pending = 0, [root]
    while pending:
        try:
            entries = sorted(pending.pop().iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.name in _SKIPPED or entry.name.startswith((".", "test_", "config-")):
                continue
            if entry.suffix == ".py" and not entry.stem.endswith("_test"):
                try:
                    length = entry.stat().st_size
                except OSError:
                    continue
                if length < 500_000:
                    files.append((hashlib.sha256(str(entry.relative_to(root)).encode()).hexdigest(), entry))
                    size += length
            elif not entry.suffix and entry.is_dir() and not entry.is_symlink():
                pending.append(entry)
    return _Package(label, root, tuple(path for _, path in sorted(files)), size)


def _prose_of(package: _Package, count: int, seen: set[str]) -> list[dict[str, str]]:
    """Up to `count` records of one package; `seen` holds the normalised texts of all packages."""
    rows: list[dict[str, str]] = []
    openings: dict[tuple[str, ...], list[str]] = {}
    outer = "" if package.label == STANDARD else package.label
    ids: set[str] = set()
    for path in package.files:
        if len(rows) >= count:
            break
        pieces = [outer, *path.relative_to(package.root).with_suffix("").parts]
        module = ".".join(piece for piece in pieces if piece and piece != "__init__") or package.label
        taken = 0
        for name, docstring in _docstrings_in(path):
            text = prose(docstring)
            # One module may not be the voice of its package.
            if text and taken < 25 and f"{module}:{name}" not in ids and _is_new(text, seen, openings):
                ids.add(f"{module}:{name}")
                rows.append(
                    {"id": f"{module}:{name}", "text": text, "label": package.label, "module": module}
                )
                taken += 1
    return rows[:count]


def _docstrings_in(path: Path) -> list[tuple[str, str]]:
    """Qualified names and docstrings of a source file; none when it is generated or cannot be parsed."""
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    if not ('"""' in source or "'''" in source) or _GENERATED.search(source[:1500]):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []
    found: list[tuple[str, str]] = []
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, node = pending.pop(0)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                found.append((prefix or "module", docstring))
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for child in node.body:
                    if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                        pending.append((f"{prefix}.{child.name}".lstrip("."), child))
    return found


def _is_new(text: str, seen: set[str], openings: dict[tuple[str, ...], list[str]]) -> bool:
    """False for a text that was seen before, or differs from one only in names and a few letters."""
    from rapidfuzz import fuzz

    words = _WORD.findall(_CODE.sub("X", text).lower())
    key = " ".join(words)
    if key in seen:
        return False
    similar = openings.setdefault(tuple(words[:3]), [])
    if len(similar) >= 12 or any(fuzz.ratio(key, other, score_cutoff=80) for other in similar):
        return False
    seen.add(key)
    similar.append(key)
    return True


def _evenly(found: dict[str, list[dict[str, str]]], limit: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """At most `limit` rows, as evenly over the labels as their sizes allow."""
    generator = np.random.default_rng(seed)
    shuffled = {label: [rows[i] for i in generator.permutation(len(rows))] for label, rows in found.items()}
    kept: dict[str, list[dict[str, str]]] = {label: [] for label in found}
    left = limit
    for label in sorted(found, key=lambda name: len(found[name])):
        waiting = sum(1 for other in found if not kept[other])
        kept[label] = shuffled[label][: -(-left // waiting) if left > 0 else 0]
        left -= len(kept[label])
    return kept
