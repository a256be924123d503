"""How much orderings know of quality, and whom a detector of synthetic text wrongs.

    KARAT_DATA=path/to/data python studies/orderings.py [--json FILE] [--cache FOLDER] [PART ...]

Parts: `truth` (rank correlation of each cheap ordering with gold or planted errors), `influence` (values of
training records on four corpora with planted label noise), `detector` (human_likeness for each generator and
source of fastdetect_pairs), `learners` (the detector on human texts that are unlike those it learned from).
Data (one folder each): mqm23_ende, tatoeba_deu_eng, supergen_open, fewgen_sst2, nltk_sentence_polarity,
wvg_tendim, banking77, fastdetect_pairs, chatgpt_essays_126, us_speeches, topical_chat.
On one busy core (a tenth to a quarter of it was free): influence 5 minutes, truth 2, learners 8; detector is
the longest by far. MiniLM is tried only with --cache.

Found, and mostly negative:
- mqm23_ende: over all segments "the shorter first" is the best order (rho .45), because error weights add up
  with length; within a source the longer is the better translation (.35, since the worst system leaves words
  out), and no order is above that control for certain: consistency .32, chrF to a human translation .37.
  quality_estimation (-.06) and fluency (.11) cover 0 there, and over all they stand upside down.
- Labels: agreement:mode=cross is the best on all three generated sets (.66 of .68, .55 of .70, .57 of .68);
  the errors were drawn at random, which is what it is good at: systematic ones it would learn. fluency and
  human_likeness know nothing of labels, nor does the generator's own score (-.07).
- Errors planted in human records misjudge: they give agreement:mode=cross .12 where it has .55 on the
  generated records, and fluency .50 for words in disorder where it has -.02 for labels.
- The "right" label of a generated record is the one that was asked for, not one by people.
- detector: AUC of n-grams .83-.89 on SQuAD, .88-.99 on stories, .97-1.00 on news, .89-.99 on medical
  answers, with calibration errors of .01 to .06; LSA vectors are far behind (.56-.82) but for GPT-3.5 and
  GPT-4. Above .99 the order ranks artefacts, and says so.
- A detector grouped by pairs of fastdetect_pairs knows its human texts: a document stands there beside
  several generators, cut elsewhere. Grouped by document it finds 84 % of GPT texts at 5 % false positives,
  not 92 %.
- At that threshold it takes 66 % [57, 74] of essays by learners for synthetic (Liang et al. 2023: 61 %), but
  also 42 % of speeches, 38 % of review sentences and 48 % of conversations: whatever is unlike the human
  texts that it learned from. With such texts in the reference the rates fall to 0-3 %.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import karat
from karat import records, registry
from karat.auditing import statistics
from karat.auditing.detector import assign_folds, fit_platt, group_ids, out_of_fold, ridge, signs
from karat.auditing.features import featurise
from karat.curation.calibration import spearman
from karat.curation.embedding import embed
from karat.records import Records

Floats = NDArray[np.float64]
GPT = ("gpt-3.5-turbo", "gpt-4", "davinci")
FLIPPED = 0.2
SHARE = 0.05
"""false positives at home at the threshold that is carried elsewhere"""
CUT = 860
"""characters: the mean length of the texts that the detector learns from"""
LABELS = (
    "random",
    "agreement",
    "agreement:mode=cross",
    "influence",
    "influence:method=gradient",
    "influence:method=leave_one_out",
    "quality_estimation",
    "fluency",
    "human_likeness",
)
TRANSLATIONS = {
    "random": "random",
    "consistency": "consistency:group=segment",
    "consistency, all pairs": "consistency:group=segment,pairs=all",
    "quality_estimation": "quality_estimation",
    "fluency": "fluency",
    "human_likeness": "human_likeness:group=segment",
    "oracle: chrF to a human one": "oracle:field=human",
}


@dataclass(frozen=True)
class Row:
    """One figure of the study."""

    part: str
    data: str
    what: str
    measure: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    chance: float = float("nan")
    best: float = float("nan")
    n: int = 0
    note: str = ""


def rows_of(folder: Path, name: str, file: str = "") -> Iterator[dict[str, Any]]:
    """Yield the rows of one data set."""
    with gzip.open(folder / name / (file or f"{name}.jsonl.gz"), "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def some(rows: Sequence[dict[str, Any]], n: int, seed: int) -> list[dict[str, Any]]:
    """Return n rows at most, drawn by seed."""
    chosen = np.random.default_rng(seed).permutation(len(rows))[:n]
    return [rows[i] for i in np.sort(chosen).tolist()]


def labelled(rows: Sequence[dict[str, Any]]) -> Records:
    """Return texts with their labels, and scores where there are any."""
    return records.from_rows([{k: one[k] for k in ("text", "label", "score") if k in one} for one in rows])


# ------------------------------------------------------------------------------------ labelled corpora


def corpora(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]], list[dict[str, Any]], int]]:
    """Name, candidates, human rows to compare with, and a seed; copies of the reference are left out."""
    human = [
        one
        for one in rows_of(folder, "nltk_sentence_polarity", "sentence_polarity.jsonl.gz")
        if not one["in_sst2_dev"]
    ]
    made = [one for one in rows_of(folder, "supergen_open", "sst2.jsonl.gz") if one["origin"] == "llm"]
    for seed in range(3):
        yield "supergen_open", some(made, 1000, seed), some(human, 1000, seed), seed
    few = list(rows_of(folder, "fewgen_sst2"))
    for seed in (13, 42, 100):
        mine = [one for one in few if one["seed"] == seed]
        yield "fewgen_sst2", some(mine, 1000, seed), some(human, 1000, seed), seed
    tendim = list(rows_of(folder, "wvg_tendim"))
    gpt = [one for one in tendim if one["generator"] == "gpt-4" and one["sampling"] == "balanced"]
    people = [one for one in tendim if one["split"] == "human_train"]
    for seed in range(3):
        yield "wvg_tendim", some(gpt, 1500, seed), some(people, 2000, seed), seed
    bank = [one for one in rows_of(folder, "banking77") if one["split"] == "train"]
    for seed in range(3):
        order = np.random.default_rng([seed, 7]).permutation(len(bank))
        known = {bank[i]["text"] for i in order[3000:5000].tolist()}
        mine = [bank[i] for i in order[:3000].tolist() if bank[i]["text"] not in known]
        yield "banking77", mine, [bank[i] for i in order[3000:5000].tolist()], seed


def flipped(made: Records, seed: int) -> tuple[Records, NDArray[np.bool_]]:
    """Return records of which a fifth have the label of another record, and which have."""
    rng = np.random.default_rng([seed, 0xF11])
    labels = made.labels()
    assert labels is not None
    wrong = rng.random(len(labels)) < FLIPPED
    told = list(labels)
    for row in np.flatnonzero(wrong).tolist():
        while told[row] == labels[row]:
            told[row] = labels[int(rng.integers(len(labels)))]
    return made.with_column("gold", labels).with_column("label", told), wrong


def influence(folder: Path, cache: Path | None) -> Iterator[Row]:
    """P(a right label is valued above a wrong one), by method; three draws of each corpus."""
    specs = ["influence", "influence:k=20", "agreement", "agreement:mode=cross"]
    specs += [f"influence:method=gradient,steps={steps}" for steps in (5, 20, 60, 200)]
    specs += ["influence:method=leave_one_out"]
    found: dict[tuple[str, str], list[float]] = {}
    for name, mine, human, seed in corpora(folder):
        candidate, wrong = flipped(labelled(mine), seed)
        reference = labelled(human)
        for spec in specs:
            scores = registry.make("orderings", spec).order(candidate, reference, seed=seed).scores
            area = statistics.auc(scores[~wrong], scores[wrong]).auc
            found.setdefault((name, spec), []).append(area)
    for (name, spec), areas in found.items():
        yield Row(
            "influence", name, spec, "AUC, right above wrong labels", float(np.mean(areas)), min(areas),
            max(areas), 0.5, 1.0, len(areas), "ends are those of three draws",
        )  # fmt: skip


def truth(folder: Path, cache: Path | None) -> Iterator[Row]:
    """Rank correlation with the truth: MQM by experts, right labels, planted errors in human records."""
    yield from translations(folder)
    seen = set()
    for name, mine, human, seed in corpora(folder):
        if name in seen or name == "banking77":
            continue
        seen.add(name)
        candidate, wrong = flipped(labelled(mine), seed)
        reference = labelled(human)
        more = ["confidence:field=score"] if name == "supergen_open" else []
        for spec in [*LABELS, *more]:
            part = registry.make("orderings", spec)
            held = spearman(part.order(candidate, reference, seed=seed).scores, (~wrong).astype(float))
            yield Row(
                "truth", name, spec, "rho with right labels", held.rho, held.low, held.high, 0, held.best,
                held.n,
            )  # fmt: skip
        if name == "fewgen_sst2":
            yield from planted(candidate, reference)


def planted(candidate: Records, reference: Records) -> Iterator[Row]:
    """What `karat curate` says where there is no gold: errors planted in three of ten human records."""
    for spec in LABELS[:-1]:
        found = karat.curate(candidate, reference, order=spec, calibrate="planted")
        assert found.order is not None
        told = found.order.figures
        kinds = ", ".join(f"{k[8:-4]} {v:.3f}" for k, v in told.items() if k.startswith("planted_"))
        yield Row(
            "truth", "fewgen_sst2, human", spec, "rho with planted errors", told["oracle_rho"],
            told["oracle_low"], told["oracle_high"], 0, told["oracle_best"], int(told["oracle_n"]),
            f"AUC {kinds}; informative {found.order.informative}",
        )  # fmt: skip


def translations(folder: Path) -> Iterator[Row]:
    """Nine systems against error marks by experts, over all and within each source sentence."""
    found = [
        {
            "source": one["source"],
            "target": one["translation"],
            "segment": f"{one['doc']}:{one['seg']}",
            "gold": -float(np.mean([rater["score"] for rater in one["raters"].values()])),
            "human": one["system"] == "refA",
        }
        for one in rows_of(folder, "mqm23_ende")
    ]
    written = {one["segment"]: one["target"] for one in found if one["human"]}
    made = [one | {"human": written[one["segment"]]} for one in found if not one["human"]]
    candidate = records.from_rows(made, datatype="translation")
    people = records.from_rows([one for one in found if one["human"]], datatype="translation")
    pairs = some(list(rows_of(folder, "tatoeba_deu_eng")), 10_000, 0)
    tatoeba = records.from_rows(
        [{"source": one["en"], "target": one["de"]} for one in pairs], datatype="translation"
    )
    gold = np.array([one["gold"] for one in made])
    segments = np.array([one["segment"] for one in made])
    scored = {"control: the shorter first": -np.array([float(len(one["target"])) for one in made])}
    for name, spec in TRANSLATIONS.items():
        reference = people if name.startswith("human") else tatoeba
        scored[name] = registry.make("orderings", spec).order(candidate, reference).scores
    for name, scores in scored.items():
        known = np.isfinite(scores)
        yield from agreed(name, scores[known], gold[known], segments[known])


def agreed(name: str, scores: Floats, gold: Floats, sources: NDArray[Any]) -> Iterator[Row]:
    """Both correlations of an order; whole sources are drawn, since nine translations of one are alike."""
    for measure, of in (("rho, all", _rho), ("rho within a source", _within)):

        def drawn(rows: NDArray[np.int64], of: Any = of) -> float:
            return float(of(scores[rows], gold[rows], sources[rows]))

        low, high = statistics.percentile_interval(
            statistics.cluster_bootstrap(sources, drawn, trials=300)
        ) or (float("nan"), float("nan"))
        value = of(scores, gold, sources)
        if np.isfinite(value):  # one score for all of a source ranks nothing within it
            yield Row("truth", "mqm23_ende", name, measure, value, low, high, 0, 1.0, len(scores))


def _rho(scores: Floats, gold: Floats, groups: NDArray[Any]) -> float:
    return float(np.corrcoef(statistics.midranks(scores), statistics.midranks(gold))[0, 1])


def _within(scores: Floats, gold: Floats, groups: NDArray[Any]) -> float:
    """Correlation of ranks less the mean rank of the source, all sources together."""
    sides = [np.empty(len(scores)), np.empty(len(scores))]
    for name in np.unique(groups):
        rows = np.flatnonzero(groups == name)
        for side, values in zip(sides, (scores, gold)):
            ranks = statistics.midranks(values[rows])
            side[rows] = ranks - ranks.mean()
    scale = float(np.sqrt((sides[0] ** 2).sum() * (sides[1] ** 2).sum()))
    return float(sides[0] @ sides[1]) / scale if scale else float("nan")


# ------------------------------------------------------------------------------------------ detectors


def detector(folder: Path, cache: Path | None) -> Iterator[Row]:
    """human_likeness for each generator and source, and of all together; a document stays in one fold."""
    found = pairs_of(folder)
    cells: dict[tuple[str, str], list[str]] = {}
    for one in found:
        if one["origin"] == "llm":
            gpt = [("three GPT", "all")] if one["generator"] in GPT else []
            for cell in ((one["generator"], one["domain"]), ("all", "all"), *gpt):
                cells.setdefault(cell, []).append(one["pair_id"])
    methods = {"ngrams": "ngrams", "lsa": "encoder,encoder=lsa"}
    if cache is not None:
        methods["minilm"] = "encoder,encoder=minilm"
    for (generator, domain), pairs in sorted(cells.items()):
        chosen = set(pairs)
        sides = {
            origin: records.from_rows(
                [
                    {k: one[k] for k in ("text", "document", "pair_id")}
                    for one in found
                    if one["origin"] == origin and one["pair_id"] in chosen
                ],
                datatype="text",
            )
            for origin in ("human", "llm")
        }
        tried = {name: how for name, how in methods.items() if name != "minilm" or generator in GPT}
        if generator == "three GPT":
            tried["ngrams, by pairs (leaks)"] = "ngrams"
        elif generator == "all":
            tried = {"ngrams": "ngrams"}
        for name, method in tried.items():
            key = "pair_id" if "leaks" in name else "document"
            part = registry.make("orderings", f"human_likeness:group={key},method={method}")
            told = part.order(sides["llm"], sides["human"], cache=cache).figures
            yield Row(
                "detector", f"{generator}, {domain}", name, "AUC", told["auc"], told["auc_low"],
                told["auc_high"], 0.5, 1.0, len(sides["llm"]),
                f"calibration error {told['ece']:.3f}, {told['fpr']:.1%} of human texts taken for synthetic",
            )  # fmt: skip


def pairs_of(folder: Path) -> list[dict[str, Any]]:
    """Human texts and their continuations, each with its document.

    One document stands beside several generators, each time cut elsewhere, so that neither copies nor pairs
    show it: a detector that is grouped by pairs knows the human texts that it is tried on.
    """
    found = list(rows_of(folder, "fastdetect_pairs"))
    opening = {
        one["pair_id"]: "".join(c for c in one["text"].casefold() if c.isalnum())[:25]
        for one in found
        if one["origin"] == "human"
    }
    return [one | {"document": opening[one["pair_id"]]} for one in found]


def paragraphs(text: str, least: int = 400) -> list[str]:
    """Neighbouring paragraphs put together until they hold `least` characters."""
    found, held = [], ""
    for one in text.split("\n"):
        held = f"{held}\n{one.strip()}".strip()
        if len(held) >= least:
            found.append(held)
            held = ""
    return found


def elsewhere(folder: Path) -> dict[str, list[str]]:
    """Human texts of other kinds, and the essays that ChatGPT wrote on the learners' questions."""
    essays = list(rows_of(folder, "chatgpt_essays_126", "chatgpt_essays.jsonl.gz"))
    speeches = [part for one in rows_of(folder, "us_speeches") for part in paragraphs(one["text"])]
    reviews = [one["text"] for one in rows_of(folder, "nltk_sentence_polarity", "sentence_polarity.jsonl.gz")]
    talks = ["\n".join(turn["text"] for turn in one["turns"]) for one in rows_of(folder, "topical_chat")]
    rng = np.random.default_rng(0)
    learners = [one["text"] for one in essays if one["origin"] == "human"]
    found = {
        "essays by learners": learners,
        f"essays by learners, first {CUT} characters": [text[:CUT] for text in learners],
        "speeches": [speeches[i] for i in rng.permutation(len(speeches))[:500].tolist()],
        "review sentences": [reviews[i] for i in rng.permutation(len(reviews))[:500].tolist()],
        f"conversations, first {CUT} characters": [
            talks[i][:CUT] for i in rng.permutation(len(talks))[:500].tolist()
        ],
    }
    return found | {"essays by ChatGPT (hits)": [one["text"] for one in essays if one["origin"] != "human"]}


def learners(folder: Path, cache: Path | None) -> Iterator[Row]:
    """The share of human texts taken for synthetic, at 5 % among human texts at home that were left out."""
    found = pairs_of(folder)
    pairs = {one["pair_id"] for one in found if one["generator"] in GPT}
    home = [one for one in found if one["pair_id"] in pairs]
    human = [one for one in home if one["origin"] == "human"]
    made = [one for one in home if one["origin"] != "human"]
    others = elsewhere(folder)
    methods = ["ngrams", "lsa", *(["minilm"] if cache is not None else [])]
    for method in methods:
        scores, away = carried(method, human, made, others, cache)
        bound = float(np.quantile(scores[: len(human)], SHARE))
        sides = {"home, left out": scores[: len(human)], "home, GPT (hits)": scores[len(human) :], **away}
        for name, side in sides.items():
            hits = int((side < bound).sum())
            low, high = statistics.wilson(hits, len(side)) or (float("nan"), float("nan"))
            yield Row(
                "learners", name, method, "taken for synthetic", hits / len(side), low, high, SHARE,
                float("hits" in name), len(side),
            )  # fmt: skip
    yield from warned(human, made, others)


def carried(
    method: str,
    human: Sequence[dict[str, Any]],
    made: Sequence[dict[str, Any]],
    others: dict[str, list[str]],
    cache: Path | None,
) -> tuple[Floats, dict[str, Floats]]:
    """Scores at home, each by a detector that left it out, and elsewhere by the detector of all."""
    texts = [one["text"] for one in [*human, *made]]
    sides = np.arange(len(texts)) < len(human)
    fold = assign_folds(sides, group_ids(texts, [one["document"] for one in [*human, *made]]))
    if method == "ngrams":
        space, matrix = featurise(texts, words=(1, 2), chars=(2, 3, 4))
        vectors = {name: space.matrix(side) for name, side in others.items()}
    else:
        import scipy.sparse

        def encoded(side: list[str]) -> Any:
            return scipy.sparse.csr_matrix(embed(side, method, fit_on=texts, cache=cache))

        matrix, vectors = encoded(texts), {name: encoded(side) for name, side in others.items()}
    targets = signs(sides)[:, None]
    home = out_of_fold(matrix, targets, fold)[:, 0]
    assert fit_platt(home, sides)[0] > 0
    weights, mean = ridge(matrix, targets)
    return home, {
        name: np.asarray(rows @ weights, dtype=np.float64)[:, 0] + mean[0] for name, rows in vectors.items()
    }


def warned(
    human: Sequence[dict[str, Any]], made: Sequence[dict[str, Any]], others: dict[str, list[str]]
) -> Iterator[Row]:
    """What a user sees who gives all those human texts as the reference and names their kinds."""
    people = [
        {k: one[k] for k in ("text", "document")} | {"kind": f"fastdetect, {one['domain']}"} for one in human
    ]
    for name, texts in others.items():
        if "hits" not in name and not name.endswith("learners"):
            people += [{"text": t, "document": t[:60], "kind": name.split(",")[0]} for t in texts]
    found = karat.curate(
        records.from_rows([{k: one[k] for k in ("text", "document")} for one in made], datatype="text"),
        records.from_rows(people, datatype="text"),
        order="human_likeness:by=kind,group=document",
        calibrate="none",
    )
    assert found.order is not None
    told = found.order.figures
    for kind in sorted({one["kind"] for one in people}):
        yield Row(
            "learners", kind, "human_likeness:by=kind", "taken for synthetic", told[f"fpr[{kind}]"],
            told[f"fpr_low[{kind}]"], told[f"fpr_high[{kind}]"], told["fpr"], 0.0,
            sum(one["kind"] == kind for one in people), f"Holm's p {told[f'fpr_p[{kind}]']:.2g}",
        )  # fmt: skip
    print("\n".join(line for line in str(found).splitlines() if line.startswith("warning")) or "no warning")


PARTS = {"truth": truth, "influence": influence, "detector": detector, "learners": learners}


HEAD = f"{'data':<42} {'what':<38} {'value':>7} {'low':>7} {'high':>7} {'chance':>7} {'best':>7} {'n':>6}"


def show(row: Row) -> None:
    """Print a figure as a line of the table."""
    numbers = " ".join(f"{v:>7.3f}" for v in (row.value, row.low, row.high, row.chance, row.best))
    print(f"{row.data:<42} {row.what:<38} {numbers} {row.n:>6}  {row.measure}. {row.note}", flush=True)


def main() -> int:
    """Run the parts and print their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cache", type=Path, help="folder for vectors; with it MiniLM is tried, too")
    options = parser.parse_args()
    folder = Path(os.environ.get("KARAT_DATA", "../shared/data"))
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part named {sorted(unknown)}; there are {', '.join(PARTS)}")
    if not (folder / "fastdetect_pairs").is_dir():
        print(f"no {folder}; name the folder of the data with KARAT_DATA", file=sys.stderr)
        return 2
    kept: list[Row] = []
    for name in options.parts or PARTS:
        started = time.perf_counter()
        print(f"\n{name}\n{HEAD}")
        for row in PARTS[name](folder, options.cache):
            show(row)
            kept.append(row)
            if options.json:
                options.json.write_text(json.dumps([asdict(one) for one in kept], indent=1), "utf-8")
        print(f"{name}: {time.perf_counter() - started:.0f} seconds", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
