"""What the guards find in public data: annotators, judges, detectors and leaks whose truth is known.

    KARAT_DATA=path/to/data python studies/stress_tests.py [--budget small] [--json FILE] [NAME ...]

Each row is a figure with its interval, what chance gives, what is best, and what was published or stands in
the data's own answer key. Data (one folder each): hatecheck_annotations, finphrase_llm_labels,
pandalm_judgements, model_written_evals, fastdetect_pairs, contam_gsm8k.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import karat
from karat import records
from karat.auditing.result import Score

GPT = ("gpt-3.5-turbo", "gpt-4", "davinci")


@dataclass(frozen=True)
class Row:
    """One figure of the study."""

    study: str
    what: str
    value: float | None
    interval: tuple[float, float] | None
    chance: float | None
    best: float | None
    known: str


def rows_of(folder: Path, name: str, file: str = "") -> Iterator[dict[str, Any]]:
    """Yield the rows of one data set."""
    with gzip.open(folder / name / (file or f"{name}.jsonl.gz"), "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def row(study: str, what: str, score: Score, known: str) -> Row:
    """Return a score as a row."""
    return Row(study, what, score.value, score.interval, score.chance, score.best, known)


def hatecheck(folder: Path, budget: Any) -> Iterator[Row]:
    """Ten annotators against designed gold: their error rates, ranked."""
    source = folder / "hatecheck_annotations" / "hatecheck_annotations.jsonl.gz"
    found = karat.read(source, fields={"gold": "label_gold", "item_id": "case_id"})
    score = karat.audit(found, metrics="annotator_error", budget=budget).scores[0]
    yield row("hatecheck", "labels that differ from gold", score, "317 of 19,505 = .0163")
    wrong, given = defaultdict(int), defaultdict(int)
    for one in rows_of(folder, "hatecheck_annotations"):
        for name, label in one["labels"].items():
            given[name] += 1
            wrong[name] += label != one["label_gold"]
    for name, part in sorted(score.by.items(), key=lambda pair: -(pair[1].value or 0)):
        known = f"{wrong[name]} of {given[name]:,} = {wrong[name] / given[name]:.4f}"
        yield Row("hatecheck", name, part.value, part.interval, None, None, known)


def finphrase(folder: Path, budget: Any) -> Iterator[Row]:
    """LLM labels of financial sentences against expert labels, with kappa of each model."""
    model, expert = [], []
    for one in rows_of(folder, "finphrase_llm_labels"):
        item = {"item_id": str(one["id"]), "text": one["text"]}
        expert.append(
            {**item, "label": one["label_expert"], "annotator": "expert", "annotator_kind": "human"}
        )
        for name, said in one["llm"].items():
            for way in ("plain", "cot"):
                if said.get(way) is not None:
                    label = {"label": said[way], "annotator": f"{name} {way}", "annotator_kind": "model"}
                    model.append({**item, **label})
    sides = [records.from_rows(side, datatype="annotation") for side in (model, expert)]
    for measure in ("accuracy", "kappa"):
        score = karat.audit(*sides, metrics=f"annotator_agreement:measure={measure}", budget=budget).scores[0]
        yield row("finphrase", f"{measure}, all models", score, "")
        for name, part in score.by.items():
            yield Row("finphrase", f"{measure}, {name}", part.value, part.interval, score.chance, None, "")


def pandalm(folder: Path, budget: Any) -> Iterator[Row]:
    """Two LLM judges against three people on the same pairs."""
    human, model = [], []
    for one in rows_of(folder, "pandalm_judgements"):
        pair = {
            # each row is a pair of its own, whatever others hold
            "prompt": f"{one['id']}: {one['instruction']}\n{one['input'] or ''}",
            "response_a": one["response1"],
            "response_b": one["response2"],
        }
        human += [{**pair, "choice": str(c), "rater": f"h{i}"} for i, c in enumerate(one["human"])]
        model += [{**pair, "choice": str(c), "rater": name} for name, c in one["llm"].items()]
    sides = [records.from_rows(side, datatype="preference") for side in (model, human)]
    audited = karat.audit(*sides, metrics="pair_agreement length_bias", mode="paper", budget=budget)
    known = {"gpt-3.5-turbo": "GPT-3.5 against human majority .69"}
    agreement = audited.score("pair_agreement")
    yield row("pandalm", "agreement with the majority, both judges", agreement, "")
    for name, part in agreement.by.items():
        best = agreement.best
        yield Row("pandalm", name, part.value, part.interval, agreement.chance, best, known.get(name, ""))
    yield Row("pandalm", "two people with each other", agreement.best, None, None, None, "pairwise .92")
    score = audited.score("length_bias")
    yield row("pandalm", "length_bias", score, f"people: {score.reference or 0:.3f}")


def evals(folder: Path, budget: Any) -> Iterator[Row]:
    """Human against LLM-written test items: at home, and on topics that the detector was not trained on."""
    found = [dict(one, label=one["topic"]) for one in rows_of(folder, "model_written_evals")]
    for one in found:
        one.pop("id")
    sides = [
        records.from_rows([one for one in found if one["origin"] == origin]) for origin in ("llm", "human")
    ]
    names = "two_sample_auc detector_transfer:by=topic"
    audited = karat.audit(*sides, metrics=names, budget=budget)
    yield row("model_written_evals", "AUC, random folds", audited.score("two_sample_auc"), "accuracy .940")
    yield from transfer("model_written_evals", "topic", audited.score("detector_transfer"))


def fastdetect(folder: Path, budget: Any) -> Iterator[Row]:
    """Human documents against continuations by GPT models: split by document, and on other domains."""
    found = list(rows_of(folder, "fastdetect_pairs"))
    kept = [one for one in found if one["origin"] == "llm" and one["generator"] in GPT]
    pairs = {one["pair_id"] for one in kept}
    human = [one for one in found if one["origin"] == "human" and one["pair_id"] in pairs]
    sides = [records.from_rows([{**one, "label": one["domain"]} for one in side]) for side in (kept, human)]
    score = karat.audit(*sides, metrics="detector_transfer:by=domain,group=pair_id", budget=budget).scores[0]
    yield from transfer("fastdetect_pairs", "domain", score)


def transfer(study: str, field: str, score: Score) -> Iterator[Row]:
    """The figure at home and the figure elsewhere, always both."""
    home = score.details["in_domain"]
    ends = (score.details["in_domain_low"], score.details["in_domain_high"])
    yield Row(study, f"AUC within each {field}", home, ends, 0.5, None, "the figure usually printed")
    yield row(study, f"AUC on a {field} not trained on", score, "")
    for name, part in score.by.items():
        yield Row(study, f"  {name}", part.value, part.interval, 0.5, None, "")


def gsm8k(folder: Path, budget: Any) -> Iterator[Row]:
    """Rephrased test questions in training data: half of the test set is contaminated, half is clean."""
    found = list(rows_of(folder, "contam_gsm8k"))
    dirty = found[::2]
    training = records.from_rows([{"text": one["rephrased"]} for one in dirty], datatype="text")
    sides = {
        "found (recall)": records.from_rows([{"text": one["original"]} for one in dirty], datatype="text"),
        "false alarms": records.from_rows(
            [{"text": one["original"]} for one in found[1::2]], datatype="text"
        ),
    }
    for spec in (
        "kind=exact",
        "kind=ngram",
        "kind=ngram,n=8,threshold=0.1",
        "kind=near,threshold=0.2",
        "kind=near",
        "kind=near,threshold=0.3",
        "kind=near,threshold=0.5",
    ):
        for what, test in sides.items():
            score = karat.audit(training, test, metrics=f"contamination:{spec}", budget=budget).scores[0]
            yield row("contam_gsm8k", f"{spec}: {what}", score, "1" if "recall" in what else "0")


STUDIES: dict[str, Callable[[Path, Any], Iterator[Row]]] = {
    "hatecheck": hatecheck,
    "finphrase": finphrase,
    "pandalm": pandalm,
    "evals": evals,
    "fastdetect": fastdetect,
    "gsm8k": gsm8k,
}


def main() -> int:
    """Run the studies and print their table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*STUDIES, []], default=list(STUDIES))
    parser.add_argument("--budget", default="medium", choices=("small", "medium", "large"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(os.environ.get("KARAT_DATA", "../shared/data"))
    if not folder.is_dir():
        print(f"no {folder}; name the folder of the data with KARAT_DATA", file=sys.stderr)
        return 2
    kept = []
    for name in options.names:
        for one in STUDIES[name](folder, options.budget):
            kept.append(asdict(one))
            print(f"{one.study:20} {one.what:44} {shown(one)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1))
    return 0


def shown(one: Row) -> str:
    """Return the figures of a row as they are read."""
    ends = "" if one.interval is None else f"[{one.interval[0]:.4f}, {one.interval[1]:.4f}]"
    numbers = ["–" if number is None else f"{number:.4f}" for number in (one.value, one.chance, one.best)]
    return f"{numbers[0]:>8} {ends:18} chance {numbers[1]:>7} best {numbers[2]:>7}  {one.known}"


if __name__ == "__main__":
    sys.exit(main())
