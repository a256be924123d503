"""Times the audit on a made corpus and beside its peers. Knows karat only from outside.

    python benchmarks/audit.py --out audit.json                 growth, and peers side by side
    python benchmarks/audit.py --sizes 10000 --no-peers         one size

Each size runs in a process of its own, so that the peak of resident memory is its own too. The text is
sampled from a topic model with collocations: words are Zipf-distributed, half of them follow from the
word before, so that n-grams recur as they do in docstrings, and no record is a copy by construction.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WORDS, TOPICS, LABELS = 60_000, 40, 8
METRICS = (
    "records tokens length vocabulary distinct_n ngram_frequency_mean ngram_frequency_simpson "
    "ngram_frequency_dqi compression_ratio self_bleu duplicate_share label_balance"
)


def corpus(n: int, *, seed: int) -> list[dict[str, str]]:
    """Return n labelled records of about 60 tokens; the language is the same for every seed."""
    block = 20_000  # so that making the corpus needs less memory than auditing it
    return [
        row for at in range(0, n, block) for row in _block(min(block, n - at), seed=1000 * seed + at // block)
    ]


def _block(n: int, *, seed: int) -> list[dict[str, str]]:
    world = np.random.default_rng(20_260)
    onsets, vowels = (
        [*"bcdfghklmnprstvwz", "st", "tr", "pl", "ch", ""],
        ["a", "e", "i", "o", "u", "ea", "io"],
    )
    parts = [o + v for o in onsets for v in vowels]
    sizes = 1 + world.binomial(4, 0.35, WORDS)
    words = np.array(["".join(world.choice(parts, size)) for size in sizes], dtype=object)
    weights = 1 / (np.arange(WORDS) + 2.7) ** 1.05
    cumulative = np.cumsum(weights / weights.sum())
    # Function words are shared; each topic has its own order of the rest.
    orders = np.tile(np.arange(WORDS), (TOPICS, 1))
    for order in orders:
        order[150:] = world.permutation(order[150:])
    follows = world.choice(WORDS, (WORDS, 4), p=weights / weights.sum())

    rng = np.random.default_rng(seed)
    topic = rng.integers(0, TOPICS, n)
    lengths = np.clip(rng.lognormal(np.log(50), 0.45, n), 5, 300).astype(int)
    longest = int(lengths.max())
    tokens = np.zeros((n, longest), np.int32)
    previous = np.zeros(n, np.int64)
    for place in range(longest):
        fresh = orders[topic, np.searchsorted(cumulative, rng.random(n)).clip(max=WORDS - 1)]
        tied = follows[previous, np.minimum(rng.geometric(0.6, n) - 1, 3)]
        previous = np.where(rng.random(n) < 0.5, tied, fresh)
        tokens[:, place] = previous
    marks = rng.random((n, longest))
    rows = []
    for i in range(n):
        text = []
        for word, mark in zip(words[tokens[i, : lengths[i]]], marks[i]):
            text.append(word + ("." if mark < 0.06 else "," if mark < 0.13 else ""))
        rows.append({"text": (" ".join(text)).capitalize(), "label": f"topic {topic[i] % LABELS}"})
    return rows


def one_size(n: int, *, reference: bool, workers: int, metrics: str) -> dict[str, Any]:
    """Audit n records once; seconds of wall and processor time, and the peak of memory, in this process."""
    import karat  # noqa: F401  (imported before the clock starts, like a running program)
    from karat import records, registry
    from karat.auditing.stage import audit

    candidate = records.from_rows(corpus(n, seed=1))
    human = records.from_rows(corpus(n, seed=2)) if reference else None
    before = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter()
    audited = audit(
        candidate, human, metrics=metrics, executor=registry.make("executors", f"local:workers={workers}")
    )
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_SELF)
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cpu += others.ru_utime + others.ru_stime - children.ru_utime - children.ru_stime
    return {
        "records": n,
        "reference": reference,
        "workers": workers,
        "tokens": audited.score("tokens").value,
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "peak_mib": round(after.ru_maxrss / 1024),
        "peak_worker_mib": round(others.ru_maxrss / 1024),
        "corpus_mib": round(before.ru_maxrss / 1024),
        "self_bleu": audited.score("self_bleu").value,
        "distinct_n": audited.score("distinct_n").value,
    }


def peers(n: int) -> dict[str, Any]:
    """Self-BLEU and distinct-n of one corpus by karat, nltk and fast-bleu, one after the other."""
    from karat import records
    from karat.auditing.stage import audit

    rows = corpus(n, seed=3)
    split = [row["text"].split() for row in rows]
    found: dict[str, Any] = {"records": n}
    mine = records.from_rows(rows)
    audit(mine.slice(0, 50), metrics="self_bleu distinct_n")  # imports and caches are warm
    wall = time.perf_counter()
    score = audit(mine, metrics="self_bleu:tokens=whitespace").score("self_bleu")
    found["karat_with_interval"] = (time.perf_counter() - wall, score.value)
    wall = time.perf_counter()
    found["karat"] = (*_plain_self_bleu(mine),)
    wall = time.perf_counter()
    distinct = audit(mine, metrics="distinct_n:n=2,tokens=whitespace").score("distinct_n").value
    found["karat_distinct"] = (time.perf_counter() - wall, distinct)
    try:
        from fast_bleu import SelfBLEU

        wall = time.perf_counter()
        scores = SelfBLEU(split, {"4": (0.25,) * 4}).get_score()["4"]
        found["fast_bleu"] = (time.perf_counter() - wall, float(np.mean(scores)))
    except ImportError:
        pass
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from nltk.util import ngrams

    if n <= 1000:
        smooth = SmoothingFunction().method1
        wall = time.perf_counter()
        scores = [
            sentence_bleu(split[:i] + split[i + 1 :], text, smoothing_function=smooth)
            for i, text in enumerate(split)
        ]
        found["nltk"] = (time.perf_counter() - wall, float(np.mean(scores)))
    wall = time.perf_counter()
    grams = [gram for text in split for gram in ngrams(text, 2)]
    found["nltk_distinct"] = (time.perf_counter() - wall, len(set(grams)) / len(grams))
    return found


def _plain_self_bleu(mine: Any) -> tuple[float, float]:
    """Self-BLEU without the interval's twenty replicates, which no peer computes."""
    from karat.auditing.base import everything
    from karat.auditing.metrics.self_bleu import record_bleu
    from karat.auditing.postings import collect_postings, stack_postings
    from karat.auditing.tokens import tokenise

    wall = time.perf_counter()
    n = len(mine)
    groups = np.zeros(n, np.uint8)
    tokens = tokenise(mine.text_array(), "whitespace")
    part = collect_postings(tokens, np.arange(n), np.arange(n, dtype=np.uint64), groups, n=4, limit=0, side=1)
    postings = stack_postings([part], [0], 1).window(0, 1)
    value = float(record_bleu(postings, everything(1)[0][postings.groups]).mean())
    return time.perf_counter() - wall, value


def _child(arguments: list[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Run every size with and without a reference, then the peers; print tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 30_000, 100_000, 300_000])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--metrics", default=METRICS)
    parser.add_argument("--peer-sizes", type=int, nargs="*", default=[200, 500, 1000, 4000])
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        order = json.loads(asked.one)
        print(json.dumps(peers(order["peers"]) if "peers" in order else one_size(**order)))
        return
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "audit": [], "peers": []}
    print(" records reference workers  wall s   cpu s peak MiB worker MiB corpus MiB")
    for n in asked.sizes:
        for reference in (False, True):
            for workers in asked.workers:
                order = {"n": n, "reference": reference, "workers": workers, "metrics": asked.metrics}
                row = _child(["--one", json.dumps(order)])
                result["audit"].append(row)
                _write(result, asked.out)
                print(
                    f"{n:8,} {reference!s:>9} {workers:7} {row['wall_s']:7.1f} {row['cpu_s']:7.1f} "
                    f"{row['peak_mib']:8,} {row['peak_worker_mib']:10,} {row['corpus_mib']:10,}",
                    flush=True,
                )
    if not asked.no_peers:
        print("\n records           self-BLEU by   seconds                value    ratio  difference")
        for n in asked.peer_sizes:
            row = _child(["--one", json.dumps({"peers": n})])
            result["peers"].append(row)
            for name, (seconds, value) in ((k, v) for k, v in row.items() if k != "records"):
                mine = row["karat_distinct"] if "distinct" in name else row["karat"]
                gap = abs(value - mine[1])
                print(
                    f"{n:8,} {name:>22} {seconds:9.4f} {value:20.16f} {seconds / mine[0]:8.1f} {gap:11.1e}",
                    flush=True,
                )
        _write(result, asked.out)
    _write(result, asked.out)


def _write(result: dict[str, Any], out: Path | None) -> None:
    if out:
        out.write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()
