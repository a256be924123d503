"""A/A check: random halves of human data must look alike. Counts what an audit flags over many splits.

    python studies/aa_check.py --splits 40 --out aa.json

Reads nltk_sentence_polarity and banking77 from the folder that KARAT_DATA names. Both halves are human, so
every flag is false: a test at 5% may be "significant" in one split of twenty, and after Holm's correction
one audit in twenty may hold any flag at all. Knows karat only from outside.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from karat import records
from karat.auditing.stage import audit

SETS = {
    "nltk_sentence_polarity": "nltk_sentence_polarity/sentence_polarity.jsonl.gz",
    "banking77": "banking77",
}


def halves(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of two random halves of n records."""
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 : 2 * (n // 2)])


def check(name: str, human: records.Records, *, splits: int, metrics: str, budget: Any) -> dict[str, Any]:
    """Audit one random half against the other `splits` times; counts a metric."""
    tests: dict[str, int] = {}
    low: dict[str, int] = {}
    flagged: dict[str, int] = {}
    any_flag = covered = areas = 0
    started = time.perf_counter()
    for split in range(splits):
        one, other = halves(len(human), seed=split)
        audited = audit(human.take(one), human.take(other), metrics=metrics, seed=split, budget=budget)
        any_flag += any(score.flagged for score in audited.scores)
        for score in audited.scores:
            if score.p is not None:
                tests[score.name] = tests.get(score.name, 0) + 1
                low[score.name] = low.get(score.name, 0) + (score.p < 0.05)
                flagged[score.name] = flagged.get(score.name, 0) + score.flagged
            if score.name == "two_sample_auc" and score.interval is not None:
                areas += 1
                covered += score.interval[0] <= 0.5 <= score.interval[1]
    return {
        "set": name,
        "records": len(human),
        "splits": splits,
        "tests": tests,
        "p_below_0.05": low,
        "flagged_after_holm": flagged,
        "audits_with_any_flag": any_flag,
        "auc_intervals": areas,
        "auc_intervals_covering_half": covered,
        "seconds": round(time.perf_counter() - started, 1),
    }


def at_most(splits: int, *, rate: float = 0.05, doubt: float = 0.01) -> int:
    """Return the most hits in `splits` tries that a true rate of 5% gives but for one time in a hundred."""
    total, hits = 0.0, 0
    while True:
        total += math.comb(splits, hits) * rate**hits * (1 - rate) ** (splits - hits)
        if total >= 1 - doubt:
            return hits
        hits += 1


def show(found: dict[str, Any]) -> None:
    """Print one table."""
    splits = found["splits"]
    print(f"\n{found['set']}: {found['records']:,} records, {splits} random halves, {found['seconds']} s")
    print(f"{'metric':26} {'tests':>5} {'p < 0.05':>8} {'flagged (Holm)':>14}")
    for name, count in sorted(found["tests"].items()):
        print(f"{name:26} {count:5} {found['p_below_0.05'][name]:8} {found['flagged_after_holm'][name]:14}")
    print(f"audits with any flag: {found['audits_with_any_flag']} of {splits}")
    if found["auc_intervals"]:
        print(f"AUC intervals over 0.5: {found['auc_intervals_covering_half']} of {found['auc_intervals']}")
    print(f"a true rate of 5% gives at most {at_most(splits)} of {splits} (but for 1 time in 100)")


def main() -> None:
    """Run the check on every set that is there; print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("KARAT_DATA", "../shared/data")))
    parser.add_argument("--splits", type=int, default=40)
    parser.add_argument("--metrics", default="", help="as for karat audit; all when not given")
    parser.add_argument("--budget", default="small")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    results = []
    for name in asked.sets:
        path = asked.data / SETS[name]
        files = sorted(path.glob("*.jsonl.gz")) if path.is_dir() else [path]
        parts = [records.read(file) for file in files]
        human = parts[0].concat(*parts[1:])
        result = check(name, human, splits=asked.splits, metrics=asked.metrics, budget=asked.budget)
        show(result)
        results.append(result)
    if asked.out:
        asked.out.write_text(json.dumps(results, indent=1), "utf-8")


if __name__ == "__main__":
    main()
