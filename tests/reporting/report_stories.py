"""Blocks of an invented but likely study, and of hostile records. Knows no stage."""

# ruff: noqa: E501 - texts as they would come
from __future__ import annotations

import math
import random
from dataclasses import dataclass

from karat.blocks import (
    Chart,
    Column,
    Commands,
    Example,
    Examples,
    Headline,
    Line,
    Note,
    Section,
    Table,
)

ALERT = "<script>alert(1)</script>"
BREAKOUT = "</script><!--\"'><img src=x onerror=alert(2)>\u2028{{ 7*7 }}"
HIDDEN = "null \x00 bell \x07 turned \u202egnp.exe\u202c joined \u2066x\u2069 byte-order \ufeff lone \ud800 end \ufffe"
SCRIPTS = "हिन्दी में लिखा — 日本語の文章 — مرحبا بالعالم — Ελληνικά — 👩‍👩‍👧 — ภาษาไทย"
HUGE = "A very long record. " * 52_000  # 1 MB

AUDIT_COLUMNS = (
    Column("name", "metric"),
    Column("value", "candidate", "number", "The synthetic records."),
    Column("reference", "human", "number", "The same metric on the human records, at equal size."),
    Column("difference", "difference", "number", "Candidate minus human."),
    Column("chance", "chance", "number", "What the metric gives if both sides were drawn from one source."),
    Column("best", "best", "number", "What a perfect candidate would reach."),
    Column("interval", "interval", "interval", "95% interval of the candidate's value."),
    Column("p", "p", "number", "Probability of a difference this large by chance, after Holm's correction."),
)

# name, value, human, chance, best, half width, p, flagged, help
METRICS = (
    ("records", 2000, 2000, None, None, 0, None, "", "How many records there are."),
    ("tokens", 61234, 78012, None, None, 812, None, "", "How many words and signs there are."),
    ("length_mean", 30.617, 39.006, 39.01, 39.01, 0.42, 0.0005, "shorter", "Mean tokens of a record."),
    ("vocabulary", 5120, 7345, 7340, 7345, 61, 0.0005, "poorer", "Distinct tokens, at equal tokens."),
    ("distinct_n", 0.4123, 0.5381, 0.5379, 0.5381, 0.0072, 0.0005, "differs", "Share of distinct bigrams."),
    (
        "ngram_frequency",
        3.412,
        2.198,
        2.2,
        2.2,
        0.083,
        0.0005,
        "differs",
        "Mean count of a bigram, all counted.",
    ),
    ("compression_ratio", 2.912, 2.655, 2.66, 2.66, 0.031, 0.0005, "differs", "Raw bytes over compressed."),
    (
        "self_bleu",
        0.3814,
        0.2717,
        0.272,
        0.272,
        0.0098,
        0.0005,
        "differs",
        "BLEU of each record against the rest.",
    ),
    ("aps", 0.1742, 0.1328, 0.133, 0.133, 0.0061, 0.0005, "differs", "Mean cosine similarity of pairs."),
    ("duplicate_share", 0.0215, 0.0, 0.0, 0.0, 0.0063, 0.0005, "", "Share of records that repeat another."),
    ("label_balance", 0.987, 0.991, None, 1.0, 0.004, 0.21, "", "Entropy of the labels over its maximum."),
    ("novelty", 0.942, None, None, 1.0, 0.011, None, "", "Share of records not copied from the human data."),
    (
        "two_sample_auc",
        0.8312,
        None,
        0.5,
        0.5,
        0.0174,
        0.0005,
        "told apart",
        "AUC of a classifier that tells both apart.",
    ),
)


@dataclass(frozen=True)
class Shown:
    """A result that shows the sections it was given."""

    sections: tuple[Section, ...]

    def __report__(self) -> tuple[Section, ...]:
        return self.sections


def audit() -> Shown:
    rows = []
    for name, value, human, chance, best, half, p, flag, text in METRICS:
        rows.append(
            {
                "name": name,
                "value": value,
                "reference": human,
                "difference": None if human is None else value - human,
                "chance": chance,
                "best": best,
                "interval": [value - half, value + half] if half else None,
                "p": p,
                "_flag": flag,
                "_help": text,
                "_signature": f"{name}|tokens:word|groups:20|version:0.1.0|ref:6c1c5162",
                "_note": "Counting records has no baseline." if name == "records" else "",
            }
        )
    rng = random.Random(3)
    lengths = tuple(
        {"tokens": math.exp(rng.gauss(mean, width)), "side": side}
        for side, mean, width in (("human", 3.5, 0.6), ("synthetic", 3.35, 0.38))
        for _ in range(1500)
    )
    labels = ("asyncio", "collections", "email", "importlib", "numpy", "sklearn", "unittest", "xml")
    balance = tuple(
        {"label": label, "share": rng.uniform(0.09, 0.16), "side": side}
        for label in labels
        for side in ("human", "synthetic")
    )
    likeness = tuple(
        {"label": name, "auc": a, "low": a - 0.04, "high": a + 0.04} for name, a in zip(labels, _aucs(rng))
    )
    section = Section(
        "How it differs from human data",
        (
            Headline(
                "9 of 13",
                "metrics differ from human data by more than chance",
                "Least: duplicates. Most: a classifier tells both apart with AUC 0.83 [0.81, 0.85].",
                "warning",
            ),
            Note(
                "Both sides were cut to 2,000 records of equal labels. Every interval is at 95%, p values carry Holm's correction."
            ),
            Table(
                AUDIT_COLUMNS,
                tuple(rows),
                "Scores",
                "Distinct-n, vocabulary and n-gram frequency are taken at equal tokens.",
            ),
            Chart(
                "histogram",
                lengths,
                "tokens",
                "",
                "side",
                title="Lengths of records",
                x_title="tokens in a record",
                y_title="share of records",
                log_x=True,
            ),
            Chart("bar", balance, "label", "share", "side", title="Labels", y_title="share of records"),
            Chart(
                "point",
                likeness,
                "label",
                "auc",
                low="low",
                high="high",
                title="How well each label is told apart",
                y_title="AUC, human against synthetic",
                lines=(Line(0.5, "chance"),),
            ),
        ),
        "audit",
    )
    return Shown((section,))


def _aucs(rng: random.Random) -> list[float]:
    return [0.6 + 0.3 * rng.random() for _ in range(8)]


def value() -> Shown:
    curves = []
    for side, top, drop in (("human", 0.91, 0.55), ("synthetic", 0.8, 0.5), ("mixed", 0.915, 0.52)):
        for size in (100, 200, 400, 800, 1600, 3200):
            score = top - drop * (size / 60) ** -0.55
            half = 0.35 * size**-0.45
            curves.append(
                {"n": size, "score": score, "low": score - half, "high": score + half, "data": side}
            )
    marginal = tuple(
        {
            "n": n,
            "gain": 0.09 * math.exp(-n / 900) - 0.004,
            "low": 0.07 * math.exp(-n / 900) - 0.012,
            "high": 0.11 * math.exp(-n / 900) + 0.004,
        }
        for n in (0, 200, 400, 800, 1600)
    )
    section = Section(
        "What it is worth",
        (
            Headline(
                "812",
                "human records are what these 5,000 synthetic records are worth",
                "95% interval [640, 1,015]: one human record does the work of about six synthetic ones. Measured with the trainer linear on 1,200 human test records.",
                "info",
                rank=1,
            ),
            Chart(
                "line",
                tuple(curves),
                "n",
                "score",
                "data",
                "low",
                "high",
                "Learning curves",
                "training records",
                "accuracy on human test records",
                log_x=True,
                lines=(Line(0.125, "chance"), Line(0.93, "all human data")),
                note="Bands: 95% interval over five seeds of nested subsets.",
            ),
            Chart(
                "line",
                marginal,
                "n",
                "gain",
                low="low",
                high="high",
                title="What adding the synthetic records gains",
                x_title="human records at hand",
                y_title="gain in accuracy",
                lines=(Line(0.0, "no gain"),),
            ),
            Note("The generator was trained on human records that are not in the test data.", "good"),
            Note("Above about 1,600 human records the synthetic ones no longer help.", "warning"),
        ),
        "value",
    )
    return Shown((section,))


def loop() -> Shown:
    rows = []
    for cycle, rate, floor in (("full", 0.78, 90), ("expanding", 0.95, 500), ("no loop (control)", 1.0, 0)):
        for iteration in range(11):
            distinct = floor + (1092 - floor) * rate**iteration
            rows.append(
                {
                    "iteration": iteration,
                    "distinct": distinct,
                    "low": distinct * 0.94,
                    "high": distinct * 1.06,
                    "correct": 0.94 - 0.002 * iteration * (rate < 1),
                    "cycle": cycle,
                }
            )
    table = Table(
        (
            Column("cycle", "cycle"),
            Column("iteration", "iteration", "number"),
            Column("distinct", "distinct", "number"),
            Column("correct", "correct", "percent"),
        ),
        tuple(rows),
        "Iterations",
    )
    section = Section(
        "What a loop would do",
        (
            Headline(
                "2.8",
                "iterations until diversity halves in the full cycle",
                "95% interval [2.5, 3.2]; the expanding cycle keeps half beyond the tenth.",
            ),
            Chart(
                "line",
                tuple(rows),
                "iteration",
                "distinct",
                "cycle",
                "low",
                "high",
                "Distinct outputs",
                "iteration",
                "distinct outputs of 1,200",
            ),
            Chart(
                "line",
                tuple(rows),
                "iteration",
                "correct",
                "cycle",
                title="Correct outputs",
                x_title="iteration",
                y_title="share of correct outputs",
            ),
            table,
        ),
        "simulate",
    )
    return Shown((section,))


def samples(many: int = 400) -> Shown:
    human = (
        "Return the next item from the iterator, or the default when it is exhausted.",
        "Context manager that closes the underlying socket on exit; errors while closing are logged and swallowed, because the caller cannot do anything about them.",
        "Split the header into a list of (value, parameters) pairs. RFC 2231 continuations are joined, and percent-encoded octets are decoded with the charset that the first segment names.\n\nRaises ValueError if a segment is missing.",
    )
    synthetic = (
        "Return the value of the object.",
        "Return the value of the given item and the given value of the list of the item.",
        "Create a new instance of the class and return the instance. The class is the instance of the class that is used to create the instance.",
    )
    rows = []
    for place in range(many):
        label = ("asyncio", "email", "numpy", "unittest")[place % 4]
        rows.append(
            Example("human", f"{human[place % 3]}", label, f"human.jsonl:{place + 1}", tags=("test half",))
        )
        rows.append(
            Example(
                "synthetic",
                f"{synthetic[place % 3]}",
                label,
                f"synthetic.jsonl:{place + 1}",
                tags=("temperature 0.8",),
            )
        )
    dropped = tuple(
        Example(
            "dropped" if place % 3 else "kept",
            synthetic[place % 3],
            "email",
            f"synthetic.jsonl:{place + 1}",
            ""
            if place % 3 == 0
            else "exact duplicate of synthetic.jsonl:12"
            if place % 3 == 1
            else "shorter than 5 tokens",
        )
        for place in range(60)
    )
    reasons = Table(
        (
            Column("filter", "filter"),
            Column("dropped", "dropped", "number"),
            Column("share", "share", "percent"),
        ),
        (
            {"filter": "exact_duplicates", "dropped": 43, "share": 0.0086},
            {"filter": "length:low=5", "dropped": 112, "share": 0.0224},
            {"filter": "refusals", "dropped": 0, "share": 0.0},
        ),
        "Verdicts",
        "Every dropped record is in dropped.jsonl with its reason.",
    )
    return Shown(
        (
            Section(
                "Records side by side",
                (Examples(tuple(rows), note="Drawn at random with seed 0."),),
                "samples",
            ),
            Section("What was dropped, and why", (reasons, Examples(dropped)), "curate"),
        )
    )


def reproduce() -> Section:
    versions = Table(
        (Column("what", "what"), Column("which", "which", "id")),
        (
            {"what": "karat", "which": "0.1.0"},
            {"what": "seed", "which": "0"},
            {"what": "human data", "which": "6c1c51629f02ab11"},
        ),
    )
    return Section(
        "How to reproduce",
        (
            Commands(
                (
                    "# in an empty folder",
                    "pip install karat",
                    "karat demo --out demo --seed 0",
                    "karat audit demo/synthetic.jsonl --reference demo/human_a.jsonl --json > audit.json",
                ),
                "The same commands on the same machine give the same figures.",
            ),
            versions,
        ),
        "reproduce",
    )


def hostile() -> Shown:
    """Every kind of text that could break a page, in every place where text from records can stand."""
    texts = (ALERT, BREAKOUT, HIDDEN, SCRIPTS, HUGE, "", " ", "\"' onmouseover='alert(3)", "&lt;b&gt; &amp;")
    rows = tuple(Example(text[:40] or "empty", text, text, text, text, (text,)) for text in texts)
    table = Table(
        (
            Column("a", ALERT),
            Column("b", BREAKOUT, "number", ALERT),
            Column("c", HIDDEN, "id"),
            Column("interval", "i", "interval"),
        ),
        tuple(
            {
                "a": text,
                "b": float("nan"),
                "c": text,
                "interval": [None, float("inf")],
                "_help": text,
                "_signature": text,
                "_note": text,
                "_flag": text,
            }
            for text in texts
        ),
        BREAKOUT,
        ALERT,
    )
    bars = tuple({"x": text, "y": place, "s": text} for place, text in enumerate(texts))
    sections = (
        Section(
            BREAKOUT,
            (
                Headline(ALERT, BREAKOUT, HIDDEN, "warning"),
                Note(ALERT),
                table,
                Examples(rows, ALERT, BREAKOUT),
                Chart(
                    "bar",
                    bars,
                    "x",
                    "y",
                    "s",
                    title=ALERT,
                    x_title=BREAKOUT,
                    y_title=HIDDEN,
                    lines=(Line(3.0, ALERT),),
                    note=BREAKOUT,
                ),
                Chart("line", ({"x": 1, "y": float("nan")}, {"x": None, "y": 2}), "x", "y", title="nothing"),
                Commands((ALERT, HIDDEN), BREAKOUT),
            ),
            '"><b>',
        ),
        Section(BREAKOUT, (), '"><b>'),
    )
    return Shown(sections)


def whole(many: int = 400) -> tuple[Shown | Section, ...]:
    """The whole story, in the order of a report."""
    return (audit(), samples(many), value(), loop(), reproduce())
