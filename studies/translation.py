"""Regurgitative training from scratch: students learn translation from people, and from two weaker models.

    KARAT_DATA=path/to/data python studies/translation.py [--preset small] [--workers 2] [--json FILE]

Data: `tatoeba_deu_eng` (Tatoeba, CC-BY-2.0 FR), German to English, short sentences. Sentences are split by
groups that share a German or an English side. A weak and a strong translator of our own, trained on pairs
that no student sees, translate the sources of the training pool; students of one size learn from people's
targets, from theirs, and from what each mitigation makes of them (Zhang, Qiao, Yang & Wei 2024). All arms
have the same sources in the same order. The last table holds the paper's claims against the figures.

What is finished is kept in `--cache`; the same call again goes on from there, also after a kill.

Found with the small preset (five seeds, 4,000 pairs of at most five words, 2,000 test pairs; 19 minutes on
two cores, 36 CPU minutes; BLEU nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0):

- targets by people 11.6 [10.3, 13.1], by the weak translator 8.6 [7.5, 9.7], by the strong one 14.3 [13.0,
  15.6];
- the weak one's gap: ordering by its own confidence closes 48 % [23, 99], the oracle 66 % [41, 118];
- both make more errors than people (loops 2.6 % and 0.5 % against 0) and use fewer words (distinct n-grams
  .33 and .47 against .60).

Negative: with the strong translator the loss is reversed (-2.7 [-3.9, -1.4]), its targets are easier to
learn. Ordering by a detector (-15 % [-64, 15] of the gap) and by cosine (5 % [-29, 35]) closes nothing,
mixing both translators is worse than the strong one alone (-2.2 [-3.0, -1.5] by area), and no mitigation
closes the weak gap (best -2.7 [-4.3, -1.3] against all real). Half of the real pairs do not beat all weak
ones by BLEU; by chrF they do. Not testable here: fine-tuning of pretrained models, ideas rated by people.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import karat
from karat import registry
from karat.auditing import statistics
from karat.curation.base import normalised
from karat.generation.base import Message, Request
from karat.records import Records, from_rows
from karat.training import translation_errors, written
from karat.valuation.mechanisms import Figure
from karat.valuation.mitigated import ArmFound, Mitigated

GENERATORS = ("weak", "strong")
METRICS = ("bleu", "chrf")
EPOCHS = 20
SHOWN = ("length_outlier", "number_mismatch", "loop", "low_chrf", "mattr", "distinct_n")
"""what is printed of the mechanisms of an arm"""
DETECTOR = "human_likeness"
LIKELY = ("confidence", "quality_estimation", "fluency", "round_trip")
ORDERINGS = ("confidence", "quality_estimation", "fluency", "round_trip", "human_likeness", "random")
SHAPE = "seq2seq:layers={layers},width={width},feed={feed},pieces={pieces},batch_tokens={batch},lr={lr}"


@dataclass(frozen=True)
class Size:
    """How large a study is; all counts are pairs but `words`, the longest side in words, and steps."""

    words: int
    test: int
    calibration: int
    held: int
    """people's pairs for detectors and language models, which no arm trains on"""
    pool: int
    increments: tuple[int, ...]
    weak: tuple[int, int]
    """pairs and steps of the weak translator"""
    strong: tuple[int, int]
    steps: int
    """of a student, whatever it learns from; of few pairs it sees each EPOCHS times at most"""
    seeds: int
    shape: Mapping[str, Any]
    budget: str = "medium"

    def trainer(self, steps: int, beam: int, epochs: int = 0) -> str:
        """Return the trainer of all models of this study."""
        shape = SHAPE.format(**self.shape)
        warmup = max(10, min(100, steps // 5))
        return f"{shape},warmup={warmup},steps={steps},epochs={epochs},beam={beam},threads=1"


_MINI = {"layers": 1, "width": 32, "feed": 64, "pieces": 400, "batch": 512, "lr": 0.01}
_SMALL = {"layers": 1, "width": 128, "feed": 256, "pieces": 2500, "batch": 768, "lr": 0.005}
PRESETS = {
    "mini": Size(4, 200, 120, 100, 400, (100, 200, 400), (150, 40), (1200, 120), 30, 2, _MINI, "small"),
    "small": Size(5, 2000, 700, 1200, 4000, (1000, 2000, 4000), (4000, 600), (11_000, 2400), 800, 5, _SMALL),
}


def main() -> int:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="small", choices=list(PRESETS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, help="students of each arm; the preset's when not given")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--report", type=Path, help="folder for the HTML reports")
    options = parser.parse_args()
    folder = Path(os.environ.get("KARAT_DATA", "../shared/data"))
    source = folder / "tatoeba_deu_eng" / "tatoeba_deu_eng.jsonl.gz"
    if not source.exists():
        print(f"no {source}; name the folder of the data with KARAT_DATA", file=sys.stderr)
        return 2
    # One thread a worker: the students are small, and two of them are trained at a time.
    os.environ["OMP_NUM_THREADS"] = "1"
    cache = options.cache or Path(tempfile.gettempdir()) / f"karat-translation-{options.preset}"
    size = PRESETS[options.preset]
    size = replace(size, seeds=options.seeds or size.seeds)
    found = study(source, size, cache, options.workers, options.report)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), "utf-8")
    return 0


def study(source: Path, size: Size, cache: Path, workers: int, report: Path | None = None) -> dict[str, Any]:
    """Run all parts, print what each found, and return it."""
    clock = Clock()
    sides = split(source, size)
    executor = registry.make("executors", f"local:workers={workers}")
    tasks = [(name, sides) for name in ("strong", "weak", "back")]
    texts = dict(executor.map(partial(translator, size, cache), tasks))
    synthetic = {name: texts[name]["pool"] for name in GENERATORS}
    clock.tell("translators are trained and have translated the pool")
    kept: dict[str, Any] = {"split": {name: len(side) for name, side in sides.items()}}
    kept["generators"] = show_generators(texts, sides)
    kept["orderings"] = show_orderings(texts, sides, cache)
    kept["errors"] = show_errors(synthetic, sides["pool"])
    found: dict[tuple[str, str], Mitigated] = {}
    for metric in METRICS:
        for name in GENERATORS:
            one = compare(size, sides, synthetic, name, metric, executor, cache, clock)
            found[name, metric] = one
            show_mitigated(f"plain: {name}, {metric}", one)
            kept[f"{name}/{metric}"] = one.to_json()
            if report is not None:
                report.mkdir(parents=True, exist_ok=True)
                karat.report(one, out=report / f"translation_{name}_{metric}.html")
    kept["signatures"] = {metric: written.signature(metric, targets(sides["test"])) for metric in METRICS}
    kept["claims"] = {metric: show_claims(found, kept["errors"], metric) for metric in METRICS}
    seconds, cpu = clock.tell("done")
    kept["seconds"], kept["cpu_seconds"] = seconds, cpu
    print("\n".join(f"{name}: {told}" for name, told in kept["signatures"].items()))
    return kept


def compare(
    size: Size,
    sides: Mapping[str, Records],
    synthetic: Mapping[str, Records],
    name: str,
    metric: str,
    executor: Any,
    cache: Path,
    clock: Clock,
) -> Mitigated:
    """Train the students of the arms of one generator, or read them, and compare them by one score."""
    people = sides["pool"].concat(sides["held"])
    return karat.mitigate(
        synthetic["weak"].concat(synthetic["strong"]),
        people,
        sides["test"],
        trainer=size.trainer(size.steps, 1, EPOCHS),
        metric=metric,
        arms=arms(name),
        plain=f"generated:{name}",
        increments=size.increments,
        drop=0.5,
        holdout=len(sides["held"]) / len(people),
        seeds=size.seeds,
        budget=size.budget,  # type: ignore[arg-type]
        executor=executor,
        cache=cache / "cells",
        progress=clock.progress,
    )


def arms(generator: str) -> tuple[str, ...]:
    """Return the arms of the study of one generator; the strong one is that which mixtures must beat."""
    at = f"@{generator}"
    shared = (f"filtered:confidence{at}", "real@0.1", "real@0.25", "real@0.5")
    if generator == "weak":
        orders = ("confidence", "quality_estimation", "human_likeness", "oracle")
        return ("real", *(f"ordered:{name}{at}" for name in orders), *shared)
    mixes = ("generated:weak", "mix:uniform", "mix:best_of:by=confidence")
    return ("real", *(f"ordered:{name}{at}" for name in ("confidence", "oracle")), *mixes, *shared)


# ------------------------------------------------------------------------------------------ the data


def split(source: Path, size: Size) -> dict[str, Records]:
    """Return the sides; no two of them share a German or an English sentence.

    Each source stands once. `strong` holds the pairs of `weak` and more.
    """
    groups = grouped(source, size.words)
    order = np.random.default_rng(2024).permutation(len(groups)).tolist()
    wanted = {"test": size.test, "calibration": size.calibration, "held": size.held, "pool": size.pool}
    wanted |= {"weak": size.weak[0], "strong": size.strong[0] - size.weak[0]}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    names = iter(wanted)
    name: str | None = next(names)
    for at in order:
        while name is not None and len(found[name]) >= wanted[name]:
            name = next(names, None)
        if name is None:
            break
        found[name] += groups[at][: wanted[name] - len(found[name])]
    found["strong"] = found["weak"] + found["strong"]
    return {
        name: from_rows(rows, datatype="translation", path=name).with_lineage(source="human")
        for name, rows in found.items()
    }


def grouped(source: Path, words: int) -> list[list[dict[str, Any]]]:
    """Return the pairs of at most so many words a side, those together that share a sentence."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if max(len(row["de"].split()), len(row["en"].split())) <= words]
    root = list(range(len(rows)))

    def find(at: int) -> int:
        while root[at] != at:
            root[at] = root[root[at]]
            at = root[at]
        return at

    first: dict[tuple[str, str], int] = {}
    for at, row in enumerate(rows):
        for side in ("de", "en"):
            other = first.setdefault((side, normalised(row[side])), at)
            root[find(at)] = find(other)
    groups: dict[int, dict[str, dict[str, Any]]] = {}
    for at, row in enumerate(rows):
        one = {"id": str(row["id"]), "source": row["de"], "target": row["en"]}
        groups.setdefault(find(at), {}).setdefault(normalised(row["de"]), one)
    return [list(group.values()) for group in groups.values()]


def targets(records: Records) -> list[str]:
    """Return the translations."""
    return [str(text) for text in records.column("target")]


def sources(records: Records) -> list[str]:
    """Return the sentences that were translated."""
    return [str(text) for text in records.column("source")]


# ----------------------------------------------------------------------------------- the translators


def translator(
    size: Size, cache: Path, task: tuple[str, Mapping[str, Records]]
) -> tuple[str, dict[str, Records]]:
    """Train a translator, or read it, and return what it wrote; `back` translates English to German."""
    name, sides = task
    seen = sides["weak" if name == "weak" else "strong"]
    steps = size.strong[1] if name == "strong" else size.weak[1]
    trainer = registry.make("trainers", size.trainer(steps, 4 if name != "back" else 1))
    folder = cache / name
    if not (folder / "seq2seq.json").is_file():
        beside = cache / f"{name}.part"
        shutil.rmtree(beside, ignore_errors=True)
        learnt = seen if name != "back" else turned(seen)
        model = trainer.fit(learnt, seed=0, progress=Clock(name, every=30).progress)
        model.save(beside)
        beside.rename(folder)
    if name == "back":
        return name, {}
    model = trainer.load(folder)
    found = {}
    for side in ("pool", "held", "calibration", "test"):
        path = cache / f"{name}-{side}.jsonl"
        if not path.is_file():
            beside = cache / f"{name}-{side}.part.jsonl"
            translated(name, model, sides[side], seen).write(beside)
            beside.rename(path)
        found[side] = karat.read(path, datatype="translation")
    found["pool"] = found["pool"].concat(found["held"])
    return name, found


def turned(records: Records) -> Records:
    """Return pairs with source and target exchanged."""
    rows = [{"source": row["target"], "target": row["source"]} for row in records]
    return from_rows(rows, datatype="translation")


def translated(name: str, model: Any, records: Records, seen: Records) -> Records:
    """Return records with the targets of a model, people's as `reference`, and where they come from."""
    requests = [
        Request(id=identity, messages=(Message("user", text),), temperature=0.0, max_tokens=48)
        for identity, text in zip(records.ids, sources(records))
    ]
    answers = asyncio.run(model.complete(requests))
    rows = [
        {
            "id": f"{name}-{identity}",
            "source": text,
            # A record needs a target; an empty answer is a wrong one and stays one.
            "target": answer.text.strip() or "-",
            "reference": reference,
        }
        for identity, text, reference, answer in zip(records.ids, sources(records), targets(records), answers)
    ]
    found = from_rows(rows, datatype="translation")
    return found.with_lineage(
        source="synthetic",
        generator=name,
        logprob=[answer.logprob for answer in answers],
        generator_saw=[seen.fingerprint],
    )


# ----------------------------------------------------------------------------------------- tables


def show_generators(
    texts: Mapping[str, Mapping[str, Records]], sides: Mapping[str, Records]
) -> dict[str, Any]:
    """Print and return BLEU and chrF of both translators on the test sentences and on the pool."""
    print("\nthe translators                        test BLEU   chrF   pool BLEU   chrF")
    found: dict[str, Any] = {}
    for name in GENERATORS:
        rows: dict[str, float] = {}
        for side in ("test", "pool"):
            one = texts[name][side]
            references = [str(text) for text in one.column("reference")]
            for metric, totals in written.compared(targets(one), references).items():
                if metric in METRICS:
                    rows[f"{side} {metric}"] = float(written.finish(metric, totals.sum(axis=0)[None])[0])
        found[name] = {"pairs": len(sides[name]), **rows}
        figures = "".join(f"{value:10.2f}" for value in rows.values())
        print(f"  {name:<8} trained on {len(sides[name]):>6,} pairs   {figures}")
    return found


def show_orderings(
    texts: Mapping[str, Mapping[str, Records]], sides: Mapping[str, Records], cache: Path
) -> dict[str, Any]:
    """Print and return each ordering's rank correlation with the oracle on the calibration split."""
    print(
        f"\nrank correlation with the oracle (chrF), {len(sides['calibration']):,} sentences of calibration"
    )
    found: dict[str, Any] = {}
    for generator in GENERATORS:
        for name in ORDERINGS:
            spec = f"round_trip:model={cache / 'back'}" if name == "round_trip" else name
            one = karat.curate(texts[generator]["calibration"], sides["held"], order=spec).order
            assert one is not None
            figures = {key: float(value) for key, value in one.figures.items()}
            found[f"{generator}/{name}"] = {**figures, "informative": one.informative, "note": one.note}
            rho = [figures.get(f"oracle_{key}", float("nan")) for key in ("rho", "low", "high")]
            print(f"  {generator:<7}{name:<20}{rho[0]:+.3f} [{rho[1]:+.3f}, {rho[2]:+.3f}]  {one.note[:90]}")
    return found


def show_errors(synthetic: Mapping[str, Records], people: Records) -> dict[str, Any]:
    """Print and return the error rates of both translators beside those of people on the same sources."""
    usual = (sources(people), targets(people))
    flags = {"people": translation_errors.checked(*usual, language="English", usual=usual)}
    for name, records in synthetic.items():
        mine = set(sources(people))
        some = records.where([text in mine for text in sources(records)])
        references = [str(text) for text in some.column("reference")]
        flags[name] = translation_errors.checked(
            sources(some), targets(some), language="English", references=references, usual=usual
        )
    print("\nerrors, share of targets [95 %]   people                   weak                     strong")
    found: dict[str, Any] = {}
    for kind in flags["strong"]:
        cells = []
        for name, checks in flags.items():
            if kind not in checks:
                cells.append(f"{'-':<25}")
                continue
            hits, n = int(checks[kind].sum()), len(checks[kind])
            low, high = statistics.wilson(hits, n) or (0.0, 1.0)
            found[f"{name}/{kind}"] = {"share": hits / n, "interval": [low, high], "n": n, "hits": hits}
            cells.append(f"{f'{hits / n:.4f} [{low:.4f}, {high:.4f}]':<25}")
        print(f"  {kind:<30}  {''.join(cells)}")
    return found


def short(name: str) -> str:
    """Return the name of an arm without the folder of a model."""
    head, _, rest = name.partition(":model=")
    return head + (f"@{rest.rpartition('@')[2]}" if rest else "")


def show_mitigated(title: str, found: Mitigated) -> None:
    """Print the curves of all arms and how each stands against the plain one."""
    low = f"{found.chance:.2f}" if found.chance is not None else "unknown"
    print(f"\n{title}: {found.trainer}; {found.seeds} seeds; copying the source scores {low}")
    print(f"  {found.signature}")
    for one in found.arms:
        curve = "  ".join(f"{n:,}: {score:.2f} [{a:.2f}, {b:.2f}]" for n, score, a, b in one.curve)
        print(f"  {short(one.name):<34}{curve}")
    print(
        f"\n  {'arm':<34}{'area against plain':<25}{'p':>7}  {'gap closed':<22}{'worth in real pairs':<30}rho"
    )
    for one in found.arms:
        print(f"  {short(one.name):<34}{_area(one)}{_closed(one):<22}{_worth(one):<30}{_rho(one)}")
    for one in found.arms:
        if one.versus_real is not None and one.area is not None:
            low_, high = one.versus_real.interval
            told = f"{one.versus_real.difference:+.2f} [{low_:+.2f}, {high:+.2f}]"
            print(
                f"    all of {short(one.name):<32} against all real: {told}, p = {_p(one.versus_real.p_holm)}"
            )
    for row in found.fractions:
        told = f"{row.difference:+.2f} [{row.interval[0]:+.2f}, {row.interval[1]:+.2f}]"
        print(
            f"    {row.arm:<10} against {short(row.against):<32}{told}, p = {_p(row.p_holm)}: {row.verdict}"
        )
    if found.metric == METRICS[0]:
        print(f"\n  {'errors and words of an arm':<34}{''.join(f'{name:<24}' for name in SHOWN)}  * p < 0.05")
        for one in found.arms:
            figures = {f.name: f for f in one.mechanisms}
            cells = [_figure(figures[name]) if name in figures else "-" for name in SHOWN]
            if figures:
                print(f"  {short(one.name):<34}{''.join(f'{cell:<24}' for cell in cells)}")
    for warning in found.warnings:
        print(f"    {warning.code}: {short(warning.message)[:160]}")
    print(f"  {found.advice}", flush=True)


def _figure(one: Figure) -> str:
    """Return a figure beside that of people, with a star where they are told apart."""
    real = "" if one.real is None else f" ({one.real:.3f})"
    star = "*" if one.p is not None and one.p < 0.05 else ""
    return "-" if one.value is None else f"{one.value:.3f}{star}{real}"


def _area(one: ArmFound) -> str:
    if one.area is None:
        return f"{'':<32}  "
    low, high = one.area.interval
    return f"{f'{one.area.difference:+.2f} [{low:+.2f}, {high:+.2f}]':<25}{_p(one.area.p_holm):>7}  "


def _closed(one: ArmFound) -> str:
    share = one.closure
    if share.value is None or share.interval is None or one.kind == "real":
        return "-"
    ends = ", ".join("?" if end is None else f"{end:.0%}" for end in share.interval)
    return f"{share.value:.0%} [{ends}]"


def _worth(one: ArmFound) -> str:
    if one.worth is None:
        return "-"
    low, high = (None if end is None else round(end) for end in one.worth.interval)
    value = one.worth.worth_human_records
    told = f"{value:,}" if value is not None else f"{one.worth.censored} {one.worth.bound:,}"
    return f"{told} [{low or 'less'}, {high or 'more'}]"


def _rho(one: ArmFound) -> str:
    rho = one.figures.get("oracle_rho")
    return "" if rho is None else f"{rho:+.2f}"


def _p(p: float | None) -> str:
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


# ------------------------------------------------------------------------------------------ claims

Held = tuple[bool | None, str]
"""whether a claim holds for one generator (None: it cannot be told), and the figures behind it"""


def show_claims(
    found: Mapping[tuple[str, str], Mitigated], errors: Mapping[str, Any], metric: str
) -> list[dict[str, str]]:
    """Print and return each claim of the paper with its verdict by one score and the figures behind it."""
    by = {name: found[name, metric] for name in GENERATORS}
    away: dict[str, Held] = {"here": (None, "no pretrained LLM is fine-tuned; from scratch see claim 3")}
    ideas: dict[str, Held] = {"here": (None, "needs ideas and what people think of them")}
    tests: dict[str, dict[str, Held]] = {
        "1 LLM data handicaps the fine-tuning of LLMs": away,
        "2 a fraction of real data beats all generated data": _each(by, _fraction),
        "3 the same loss in transformers from scratch": _each(by, _gap),
        "mechanism 1: more errors": {name: _more_errors(name, errors) for name in GENERATORS},
        "mechanism 2: fewer different words": _each(by, _less_varied),
        "mitigation 1: ordering by quality helps": _each(by, partial(_helps, "ordered", LIKELY)),
        "mitigation 2: mixing generators helps": _each(by, partial(_helps, "mix", ("",))),
        "mitigation 3: ordering by a detector helps": _each(by, partial(_helps, "ordered", (DETECTOR,))),
        "no mitigation fully closes the gap": _each(by, _open),
        "preference training on ideas helps": ideas,
    }
    rows = []
    print(f"\nthe claims of the paper, by {metric}")
    for claim, held in tests.items():
        told = "; ".join(f"{name}: {figures}" for name, (_, figures) in held.items() if figures)
        rows.append({"claim": claim, "verdict": _verdict(held), "figures": told})
        print(f"  {claim:<52}{rows[-1]['verdict']:<28}{told}")
    return rows


def _each(by: Mapping[str, Mitigated], test: Callable[[str, Mitigated], Held]) -> dict[str, Held]:
    return {name: test(name, one) for name, one in by.items()}


def _verdict(held: Mapping[str, Held]) -> str:
    known = {name: yes for name, (yes, _) in held.items() if yes is not None}
    true = [name for name, yes in known.items() if yes]
    if not known:
        return "not testable here"
    if len(true) == len(known):
        return "confirmed" if len(known) == len(held) else f"confirmed ({', '.join(true)})"
    return f"confirmed for {', '.join(true)} only" if true else "not confirmed"


def _gap(name: str, found: Mitigated) -> Held:
    gap = found.arm("real").versus_plain
    assert gap is not None
    return gap.verdict == "better", f"all real less all generated {_told(gap)}"


def _told(gap: Any) -> str:
    if gap is None:
        return "-"
    low, high = gap.interval
    return f"{gap.difference:+.2f} [{low:+.2f}, {high:+.2f}], p {_p(gap.p_holm)}, {gap.verdict}"


def _fraction(name: str, found: Mitigated) -> Held:
    plain = f"generated:{name}"
    beats = [r for r in found.fractions if r.against == plain and r.verdict == "better"]
    if not beats:
        return False, "no fraction tried beats it"
    least = min(beats, key=lambda row: found.arm(row.arm).records)
    return True, f"{least.arm} ({found.arm(least.arm).records:,} pairs) {_told(least)}"


def _more_errors(name: str, errors: Mapping[str, Any]) -> Held:
    """Return the kinds of errors that a generator makes more often than people (Fisher, Holm)."""
    from scipy.stats import fisher_exact

    kinds = [key.partition("/")[2] for key in errors if key.startswith("people/")]
    both = [(errors[f"{name}/{kind}"], errors[f"people/{kind}"]) for kind in kinds]
    tables = [np.array([[one["hits"], one["n"] - one["hits"]] for one in pair]) for pair in both]
    found = [
        f"{kind} {mine['share']:.2%} against {theirs['share']:.2%}"
        for kind, (mine, theirs), p in zip(
            kinds, both, statistics.holm([float(fisher_exact(table)[1]) for table in tables])
        )
        if p is not None and p < 0.05 and mine["share"] > theirs["share"]
    ]
    return bool(found), ", ".join(found) or "none is more frequent"


def _less_varied(name: str, found: Mitigated) -> Held:
    figures = [f for f in found.arm(f"generated:{name}").mechanisms if f.name in ("mattr", "distinct_n")]
    known = [(f.name, f.value, f.real, f.p) for f in figures]
    told = ", ".join(f"{key} {a:.3f} against {b:.3f} (p {_p(p)})" for key, a, b, p in known if a and b)
    less = [a < b and p is not None and p < 0.05 for _, a, b, p in known if a and b]
    return (all(less) if less else None), told


def _helps(kind: str, parts: Sequence[str], name: str, found: Mitigated) -> Held:
    arms = [a for a in found.arms if a.kind == kind and any(part in a.name for part in parts)]
    if not arms:
        return None, ""
    helps = [one.area is not None and one.area.verdict == "better" for one in arms]
    return any(helps), ", ".join(f"{short(one.name)} {_told(one.area)}" for one in arms)


def _open(name: str, found: Mitigated) -> Held:
    """Return whether even the best mitigation, with all its records, stays behind all real data."""
    gap = found.arm("real").versus_plain
    if gap is None or gap.verdict != "better":
        return None, "no gap to close"
    tried = [one for one in found.arms if one.role == "mitigation" and one.versus_real is not None]
    best = max(tried, key=lambda one: one.versus_real.difference if one.versus_real else 0.0)
    known = [one for one in tried if one.closure.value is not None]
    most = max(known, key=lambda one: one.closure.value or 0.0, default=None)
    share = f"; of the area {short(most.name)} closes {_closed(most)}" if most else ""
    behind = best.versus_real is not None and best.versus_real.verdict == "worse"
    return behind, f"{short(best.name)} less all real {_told(best.versus_real)}{share}"


class Clock:
    """Tells seconds and CPU seconds of this run, and how far it is."""

    def __init__(self, name: str = "", every: float = 15.0) -> None:
        self.began, self.name, self.every, self.last = time.perf_counter(), name, every, 0.0

    def progress(self, name: str, done: int, total: int) -> None:
        """Print how far it is, now and then."""
        now = time.perf_counter()
        if now - self.last >= self.every or done == total:
            self.last = now
            print(
                f"    {self.name or name}: {done:,} of {total:,} after {now - self.began:,.0f} s", flush=True
            )

    def tell(self, what: str) -> tuple[float, float]:
        """Print and return the seconds since the start and the CPU seconds of this run and its workers."""
        seconds = time.perf_counter() - self.began
        uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(use.ru_utime + use.ru_stime for use in uses)
        print(f"\n{what}: {seconds:,.0f} s, {cpu:,.0f} CPU s", flush=True)
        return seconds, cpu


if __name__ == "__main__":
    sys.exit(main())
